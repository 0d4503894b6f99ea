"""Chooses the engine of each run, and stops runs: by cancel, by timeout, by deletion.

databricks/jobs.py calls `submit` and `cancel`; the control API adds scripts and forgets runs. A run whose name or tag
matches a script is pretended also when the sandbox's engine is `run`, so that one test can mix both.
"""

from __future__ import annotations

import asyncio

from trainyard_sandbox.engine.pretend import PretendEngine
from trainyard_sandbox.engine.run import RunEngine
from trainyard_sandbox.engine.runs import Outcome, Run
from trainyard_sandbox.engine.scripts import Script
from trainyard_sandbox.state import SandboxState

ENGINES = ("run", "pretend")


class Engine:
    """Both engines of one sandbox.

    Args:
        kind: `run` or `pretend`, what happens to a run that no script matches.
    """

    def __init__(self, state: SandboxState, kind: str) -> None:
        if kind not in ENGINES:
            raise ValueError(f"unknown engine {kind!r}")
        self._state = state
        self._kind = kind
        self._pretend = PretendEngine(state)
        self._run = RunEngine(state)
        self._timeouts: dict[int, asyncio.TimerHandle] = {}
        self.scripts: list[Script] = []
        self.default_script = Script()

    async def start(self) -> None:
        """Get ready; called once, inside the event loop."""
        await self._run.start()

    async def stop(self) -> None:
        """Stop every run at once and wait until its processes are gone."""
        for timer in self._timeouts.values():
            timer.cancel()
        await self._pretend.stop()
        await self._run.stop()

    def submit(self, run: Run) -> None:
        """Begin a run that was just created."""
        if run.timeout_seconds:
            loop = asyncio.get_running_loop()
            self._timeouts[run.run_id] = loop.call_later(run.timeout_seconds, self._time_out, run)
        script = self._script_for(run)
        if script is None:
            self._run.start_run(run)
        else:
            self._pretend.start(run, script)

    def cancel(self, run: Run, by: str) -> None:
        """Cancel an active run; a run that has ended stays as it is (the platform answers 200 to both)."""
        if run.active and not run.cancel_requested:
            run.cancel_requested = True
            self._stop_run(run, Outcome(result_state="CANCELED", message=f"Run was cancelled by user {by}."))

    def end(self, run: Run, outcome: Outcome) -> None:
        """End an active run as the platform itself would, with any outcome."""
        self._stop_run(run, outcome)

    def reset_scripts(self) -> None:
        """No script but the built-in default."""
        self.scripts.clear()
        self.default_script = Script()

    def forget(self, run: Run) -> None:
        """Stop a run without an end, because it is being deleted."""
        self._disarm(run)
        self._pretend.forget(run)
        self._run.forget(run)

    def _script_for(self, run: Run) -> Script | None:
        for script in self.scripts:
            if script.matches(run):
                if script.times is not None:
                    script.times -= 1
                return script
        return self.default_script if self._kind == "pretend" else None

    def _time_out(self, run: Run) -> None:
        self._timeouts.pop(run.run_id, None)
        if run.active and not run.cancel_requested:
            message = f"Run timed out after {run.timeout_seconds} seconds."
            self._stop_run(run, Outcome(result_state="TIMEDOUT", message=message))

    def _stop_run(self, run: Run, outcome: Outcome) -> None:
        self._disarm(run)
        if not self._pretend.stop_run(run, outcome):
            self._run.stop_run(run, outcome)

    def _disarm(self, run: Run) -> None:
        timer = self._timeouts.pop(run.run_id, None)
        if timer is not None:
            timer.cancel()
