"""The run engine: what is submitted really runs, task by task, each attempt in a subprocess (task_process.py).

dispatch.py starts and stops runs here. Tasks run when what they depend on has ended (dag.py), as many at once as there
are slots; a failed one is tried again when its settings say so (retries.py). A run's processes never outlive the
sandbox (leash.py).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from trainyard_sandbox.engine import dag, retries
from trainyard_sandbox.engine.child_run import follow
from trainyard_sandbox.engine.live import LiveTask
from trainyard_sandbox.engine.runs import Outcome, Run, TaskRun
from trainyard_sandbox.engine.task_process import TaskProcesses
from trainyard_sandbox.state import SandboxState

MAX_PARALLEL_TASKS = 8
"""Further tasks stay PENDING, as on a workspace that waits for machines."""


@dataclass
class _LiveRun:
    run: Run
    ended: dict[str, asyncio.Event]
    job: asyncio.Task[None] | None = None
    stop_with: Outcome | None = None
    forgotten: bool = False
    attempts: dict[str, LiveTask] = field(default_factory=dict)
    """By task key, those that have not ended."""


class RunEngine:
    """Runs tasks as subprocesses."""

    def __init__(self, state: SandboxState) -> None:
        self._state = state
        self._live: dict[int, _LiveRun] = {}
        self._slots = asyncio.Semaphore(MAX_PARALLEL_TASKS)
        self._processes = TaskProcesses(state)

    async def stop(self) -> None:
        """Kill every run and wait until its processes are gone."""
        live = list(self._live.values())
        for entry in live:
            self.forget(entry.run)
        await asyncio.gather(*(entry.job for entry in live if entry.job), return_exceptions=True)

    def start_run(self, run: Run) -> None:
        """Begin a run."""
        live = _LiveRun(run, {task.task_key: asyncio.Event() for task in run.tasks})
        self._live[run.run_id] = live
        live.attempts = {task.task_key: LiveTask(run, task) for task in run.tasks}
        live.job = asyncio.get_running_loop().create_task(self._execute(live))

    def stop_run(self, run: Run, outcome: Outcome) -> None:
        """Stop a run; it ends with `outcome` once its processes are gone."""
        live = self._live.get(run.run_id)
        if live is not None and live.stop_with is None:
            live.stop_with = outcome
            for attempt in live.attempts.values():
                attempt.stop(outcome)
            self._state.runs.terminate(run, outcome)

    def stop_task(self, run: Run, task: TaskRun, outcome: Outcome) -> bool:
        """Stop one attempt; False when it is not under way here."""
        live = self._live.get(run.run_id)
        attempt = live.attempts.get(task.task_key) if live else None
        if attempt is None or attempt.task is not task:
            return False
        attempt.stop(outcome)
        return True

    def forget(self, run: Run) -> None:
        """Kill a run without an end: it was deleted."""
        live = self._live.get(run.run_id)
        if live is not None:
            live.forgotten = True
            for attempt in live.attempts.values():
                attempt.forget()

    async def _execute(self, live: _LiveRun) -> None:
        try:
            await asyncio.gather(*(self._task(live, attempt) for attempt in list(live.attempts.values())))
            outcome = live.stop_with or dag.overall(live.run)
            if live.run.progress.life_cycle_state != "TERMINATING":
                self._state.runs.move(live.run, "TERMINATING")
            self._state.runs.finish(live.run, outcome)
        finally:
            del self._live[live.run.run_id]

    async def _task(self, live: _LiveRun, attempt: LiveTask) -> None:
        """A task from its dependencies to its last attempt."""
        key = attempt.task.task_key
        for needed in attempt.task.depends_on:
            await live.ended[needed].wait()
        while (following := await self._attempt(live, attempt)) is not None:
            attempt = following
        del live.attempts[key]
        live.ended[key].set()

    async def _attempt(self, live: _LiveRun, attempt: LiveTask) -> LiveTask | None:
        """One attempt to its end; the next one when the platform tries again by itself."""
        task = attempt.task
        timer = self._timer(attempt)
        try:
            outcome = attempt.stop_with or dag.not_run(live.run, task) or await self._in_a_slot(attempt)
        except Exception as error:  # noqa: BLE001 - a bug of the sandbox must end the run visibly, not hang it
            message = f"The sandbox failed to run this task: {type(error).__name__}: {error}"
            outcome = Outcome("INTERNAL_ERROR", "FAILED", message)
        finally:
            if timer is not None:
                timer.cancel()
        self._state.runs.finish(live.run, outcome, task)
        if live.stop_with is not None or live.forgotten or not retries.again(task, outcome):
            return None
        return await self._next(live, task)

    async def _next(self, live: _LiveRun, failed: TaskRun) -> LiveTask:
        """The next attempt, once the interval since the start of the failed one has passed."""
        task = self._state.runs.add_attempt(live.run, failed)
        attempt = live.attempts[task.task_key] = LiveTask(live.run, task)
        due = failed.progress.start_time + failed.spec.get("min_retry_interval_millis", 0)
        if due > self._state.runs.now_ms():
            self._state.runs.move(live.run, "WAITING_FOR_RETRY", task=task)
            await attempt.sleep((due - self._state.runs.now_ms()) / 1000)
        return attempt

    def _timer(self, attempt: LiveTask) -> asyncio.TimerHandle | None:
        seconds = attempt.task.spec.get("timeout_seconds", 0)
        if not seconds:
            return None
        outcome = Outcome(result_state="TIMEDOUT", message=f"Run timed out after {seconds} seconds.")
        return asyncio.get_running_loop().call_later(seconds, attempt.stop, outcome)

    async def _in_a_slot(self, attempt: LiveTask) -> Outcome:
        self._state.runs.move(attempt.run, "PENDING", task=attempt.task)
        if attempt.task.kind == "run_job_task":
            # It needs no machine; in a slot it would keep its own child from one.
            return await follow(self._state, attempt)
        slot = asyncio.ensure_future(self._slots.acquire())
        stopped = await attempt.first(slot)
        try:
            return attempt.stopped if stopped else await self._processes.run(attempt)
        finally:
            if slot.done():
                self._slots.release()
            else:
                slot.cancel()
