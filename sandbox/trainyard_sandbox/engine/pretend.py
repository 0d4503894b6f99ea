"""The pretend engine: runs that only go through scripted states, thousands at once.

dispatch.py starts and stops runs here. There is no thread, task or process per run: each run has one entry in the event
loop's own timer heap. Metrics and model versions, where a script has them, are written through the platform's own API.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from trainyard_sandbox.engine.runs import Outcome, Run
from trainyard_sandbox.engine.scripts import Script
from trainyard_sandbox.engine.tracking import write_tracking
from trainyard_sandbox.state import SandboxState


@dataclass
class _Pretended:
    run: Run
    script: Script
    step: int = -1
    timer: asyncio.TimerHandle | None = None
    stopping: bool = False


class PretendEngine:
    """Moves runs along their scripts."""

    def __init__(self, state: SandboxState) -> None:
        self._state = state
        self._live: dict[int, _Pretended] = {}
        self._tracking: set[asyncio.Task[None]] = set()

    def start(self, run: Run, script: Script) -> None:
        """Begin a run's script."""
        pretended = _Pretended(run, script)
        self._live[run.run_id] = pretended
        self._advance(pretended)

    def stop_run(self, run: Run, outcome: Outcome) -> bool:
        """Stop a run as a cancel or a timeout does; False when it is not running here."""
        pretended = self._live.get(run.run_id)
        if pretended is None:
            return False
        if not pretended.stopping:
            pretended.stopping = True
            self._disarm(pretended)
            for task in run.tasks:
                self._state.runs.move(run, "TERMINATING", outcome.message, task)
            self._state.runs.terminate(run, outcome)
            self._arm(pretended, pretended.script.cancel_seconds, lambda: self._end(pretended, outcome))
        return True

    def forget(self, run: Run) -> None:
        """Drop a run at once, without an end: it was deleted."""
        pretended = self._live.pop(run.run_id, None)
        if pretended is not None:
            pretended.stopping = True
            self._disarm(pretended)

    async def stop(self) -> None:
        """Drop all runs."""
        for pretended in list(self._live.values()):
            self.forget(pretended.run)
        for task in self._tracking:
            task.cancel()
        await asyncio.gather(*self._tracking, return_exceptions=True)

    def _advance(self, pretended: _Pretended) -> None:
        pretended.step += 1
        if pretended.step < len(pretended.script.states):
            name, seconds = pretended.script.states[pretended.step]
            self._move(pretended, name, "")
            self._arm(pretended, seconds, lambda: self._advance(pretended))
        elif pretended.script.metrics or pretended.script.registered_model_name:
            task = asyncio.get_running_loop().create_task(self._track_and_end(pretended))
            self._tracking.add(task)
            task.add_done_callback(self._tracking.discard)
        else:
            self._end(pretended, pretended.script.outcome)

    async def _track_and_end(self, pretended: _Pretended) -> None:
        problem = await write_tracking(self._state, pretended.run, pretended.script)
        if pretended.stopping:
            return
        failed = Outcome(result_state="FAILED", message=f"Pretended tracking failed: {problem}")
        self._end(pretended, failed if problem else pretended.script.outcome)

    def _move(self, pretended: _Pretended, name: str, message: str) -> None:
        for task in pretended.run.tasks:
            self._state.runs.move(pretended.run, name, message, task)
        self._state.runs.move(pretended.run, name, message)

    def _end(self, pretended: _Pretended, outcome: Outcome) -> None:
        script = pretended.script
        for task in pretended.run.tasks:
            task.logs = lambda: (script.logs, False)
            task.error, task.error_trace = script.error, script.error_trace
            self._state.runs.finish(pretended.run, outcome, task)
        self._state.runs.finish(pretended.run, outcome)
        self._live.pop(pretended.run.run_id, None)

    def _arm(self, pretended: _Pretended, seconds: float, then: Callable[[], None]) -> None:
        pretended.timer = asyncio.get_running_loop().call_later(seconds, then)

    def _disarm(self, pretended: _Pretended) -> None:
        if pretended.timer is not None:
            pretended.timer.cancel()
