"""One attempt of a task while it is under way, and the request to stop it.

run.py makes it, task_process.py and child_run.py watch `stopping`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from trainyard_sandbox.engine.runs import Outcome, Run, TaskRun


@dataclass
class LiveTask:
    """An attempt under way. `forgotten` means: stop without an end, since the run was deleted or the sandbox ends."""

    run: Run
    task: TaskRun
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    stop_with: Outcome | None = None
    forgotten: bool = False

    def stop(self, outcome: Outcome) -> None:
        """Ask it to stop and end so; the first request counts."""
        if self.stop_with is None:
            self.stop_with = outcome
        self.stopping.set()

    def forget(self) -> None:
        """Ask it to be gone."""
        self.forgotten = True
        self.stopping.set()

    @property
    def stopped(self) -> Outcome:
        """The outcome of an attempt that was asked to stop."""
        return self.stop_with or Outcome(result_state="CANCELED")

    async def first(self, work: asyncio.Future[Any]) -> bool:
        """Wait for the work or a stop; whether it is to be stopped."""
        stop = asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
        return self.stopping.is_set()

    async def sleep(self, seconds: float) -> bool:
        """Wait so long or until a stop; whether it is to be stopped."""
        if seconds > 0:
            pause = asyncio.ensure_future(asyncio.sleep(seconds))
            await self.first(pause)
            pause.cancel()
        return self.stopping.is_set()
