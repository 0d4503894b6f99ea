"""Chooses the engine of each run, keeps jobs to their concurrent runs, and stops runs: by cancel, timeout, deletion.

databricks/jobs.py and triggering.py call `submit`; the control API adds scripts and forgets runs. A run whose name or
tag matches a script is pretended also when the sandbox's engine is `run`, so that one test can mix both.

Concurrent runs of a job: databricks-sdk `service/jobs.py` JobsAPI.create, `max_concurrent_runs` ("new runs are skipped
unless there are fewer"), QueueSettings.enabled ("If true, enable queueing for the job").
"""

from __future__ import annotations

import asyncio
from collections import defaultdict

from trainyard_sandbox.engine.pretend import PretendEngine
from trainyard_sandbox.engine.run import RunEngine
from trainyard_sandbox.engine.runs import Outcome, Run, TaskRun
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
        self.kind = kind
        self._pretend = PretendEngine(state)
        self._run = RunEngine(state)
        self._timeouts: dict[int, asyncio.TimerHandle] = {}
        self._started: dict[int, set[int]] = defaultdict(set)
        """Runs under way by saved job."""
        self._queued: dict[int, list[Run]] = defaultdict(list)
        self.scripts: list[Script] = []
        self.default_script = Script()

    async def stop(self) -> None:
        """Stop every run at once and wait until its processes are gone."""
        self._queued.clear()
        for timer in self._timeouts.values():
            timer.cancel()
        await self._pretend.stop()
        await self._run.stop()

    def submit(self, run: Run) -> None:
        """Begin a run that was just created, or queue or skip it when its job has runs enough."""
        if run.settings is None:
            self._begin(run)
        elif len(self._started[run.job_id]) < run.settings.get("max_concurrent_runs", 1):
            self._begin_of_job(run)
        elif run.request.get("queue", {}).get("enabled"):
            run.progress.queue_code = "MAX_CONCURRENT_RUNS_REACHED"
            self._state.runs.move(run, "QUEUED")
            self._queued[run.job_id].append(run)
        else:
            self._skip(run)

    def cancel(self, run: Run, by: str) -> None:
        """Cancel an active run; a run that has ended stays as it is (the platform answers 200 to both)."""
        if run.active and not run.cancel_requested:
            run.cancel_requested = True
            self._stop_run(run, Outcome(result_state="CANCELED", message=f"Run was cancelled by user {by}."))

    def cancel_task(self, run: Run, task: TaskRun, by: str) -> None:
        """Cancel one task of a run; a pretended run has no life of its own for each task and is cancelled whole."""
        if task.progress.terminal:
            return
        outcome = Outcome(result_state="CANCELED", message=f"Run was cancelled by user {by}.")
        if not self._run.stop_task(run, task, outcome):
            self.cancel(run, by)

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
        self._leave(run)

    def _begin_of_job(self, run: Run) -> None:
        self._started[run.job_id].add(run.run_id)
        run.when_ended.append(lambda: self._leave(run))
        self._begin(run)

    def _begin(self, run: Run) -> None:
        if run.timeout_seconds:
            loop = asyncio.get_running_loop()
            self._timeouts[run.run_id] = loop.call_later(run.timeout_seconds, self._time_out, run)
        script = self._script_for(run)
        if script is None:
            self._run.start_run(run)
        else:
            self._pretend.start(run, script)

    def _leave(self, run: Run) -> None:
        """A run has left its job's places: the next in the queue begins."""
        waiting = self._queued.get(run.job_id, [])
        if run in waiting:
            waiting.remove(run)
        if run.run_id in self._started.get(run.job_id, ()):
            self._started[run.job_id].remove(run.run_id)
            if waiting:
                following = waiting.pop(0)
                self._state.runs.move(following, "PENDING")
                self._begin_of_job(following)

    def _skip(self, run: Run) -> None:
        outcome = Outcome(
            "SKIPPED", "MAXIMUM_CONCURRENT_RUNS_REACHED", "The run was skipped: its job has as many runs as it may."
        )
        for task in run.tasks:
            self._state.runs.finish(run, outcome, task)
        self._state.runs.finish(run, outcome)

    def _script_for(self, run: Run) -> Script | None:
        for script in self.scripts:
            if script.matches(run):
                if script.times is not None:
                    script.times -= 1
                return script
        return self.default_script if self.kind == "pretend" else None

    def _time_out(self, run: Run) -> None:
        self._timeouts.pop(run.run_id, None)
        if run.active and not run.cancel_requested:
            message = f"Run timed out after {run.timeout_seconds} seconds."
            self._stop_run(run, Outcome(result_state="TIMEDOUT", message=message))

    def _stop_run(self, run: Run, outcome: Outcome) -> None:
        self._disarm(run)
        waiting = self._queued.get(run.job_id, [])
        if run in waiting:
            waiting.remove(run)
            for task in run.tasks:
                self._state.runs.finish(run, outcome, task)
            self._state.runs.finish(run, outcome)
        elif not self._pretend.stop_run(run, outcome):
            self._run.stop_run(run, outcome)

    def _disarm(self, run: Run) -> None:
        timer = self._timeouts.pop(run.run_id, None)
        if timer is not None:
            timer.cancel()
