"""Jobs that another job starts: submitted, waited for, and cancelled with it.

sweeps.py and pipelines.py hold one `Children` for each job under way.
"""

from __future__ import annotations

import asyncio
from typing import Any

from trainyard_sandbox.azure.engine.live import LiveJob
from trainyard_sandbox.azure.job_store import AzureJob
from trainyard_sandbox.azure.state import AzureState

LOOK_SECONDS = 0.2
"""How often a parent that waits for its cancelled children looks whether all of it is to be forgotten."""


class Children:
    """The children of one job that are under way."""

    def __init__(self, azure: AzureState, live: LiveJob) -> None:
        self._azure = azure
        self._live = live
        self._running: dict[asyncio.Task[None], AzureJob] = {}

    def __len__(self) -> int:
        return len(self._running)

    def submit(self, name: str, properties: dict[str, Any]) -> AzureJob:
        """Start a child for the parent's creator, in the parent's experiment.

        Args:
            properties: of a job that was checked; the experiment is filled in.
        """
        parent = self._live.job
        given = properties | {"experimentName": parent.experiment}
        child: AzureJob = self._azure.jobs.create(name, given, parent.creator, parent.creator_object_id, parent=parent)
        self._azure.engine.submit(child)
        self._running[asyncio.ensure_future(self._azure.engine.wait(child))] = child
        return child

    async def ended(self) -> list[AzureJob] | None:
        """Wait for some to end and give them; None when the parent is to stop, and then all have stopped."""
        if await self._live.first(*self._running):
            await self.stop()
            return None
        done = [task for task in self._running if task.done()]
        return [self._running.pop(task) for task in done]

    async def stop(self) -> None:
        """Cancel all and wait for them; of a parent that is being deleted the children go without our doing.

        A forgotten child never says that it has ended, and the parent may be forgotten while it waits here.
        """
        if not self._live.forgotten:
            for child in self._running.values():
                self._azure.engine.cancel(child)
        waiting = set(self._running)
        while waiting and not self._live.forgotten:
            _, waiting = await asyncio.wait(waiting, timeout=LOOK_SECONDS)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._running.clear()
