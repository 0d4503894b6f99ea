"""A run_job_task: starts a run of a saved job and follows it to its end.

run.py calls `follow`. The child is a run like any other: seen in lists, cancelled by itself or with its parent.

Read in: databricks-sdk `service/jobs.py` RunJobTask, RunJobOutput; Databricks documentation, "Run Job task for jobs"
(job parameters are pushed down).
"""

from __future__ import annotations

import asyncio

from trainyard_sandbox.engine import parameters
from trainyard_sandbox.engine.dag import SUCCESSFUL
from trainyard_sandbox.engine.live import LiveTask
from trainyard_sandbox.engine.runs import Outcome, Run, TaskRun
from trainyard_sandbox.engine.triggering import trigger
from trainyard_sandbox.errors import ApiError
from trainyard_sandbox.state import SandboxState


async def follow(state: SandboxState, live: LiveTask) -> Outcome:
    """Start the child, wait for it, and say how the task ends; a stop of the task cancels the child."""
    started = start(state, live.run, live.task)
    if isinstance(started, Outcome):
        return started
    ended = asyncio.Event()
    started.when_ended.append(ended.set)
    state.runs.move(live.run, "RUNNING", "In run", live.task)
    state.runs.move(live.run, "RUNNING", "In run")
    if started.active:
        waiting = asyncio.ensure_future(ended.wait())
        stopped = await live.first(waiting)
        waiting.cancel()
        if stopped and started.active:
            state.engine.cancel(started, live.run.creator)
            if not live.forgotten:
                await ended.wait()
        if stopped:
            return live.stopped
    return outcome_of(started)


def start(state: SandboxState, run: Run, task: TaskRun) -> Run | Outcome:
    """Start the child as the parent's run-as identity; an outcome when it may not or cannot be."""
    spec = task.spec["run_job_task"]
    given = parameters.replaced(spec.get("job_parameters", {}), run, task)
    try:
        principal = state.directory.acting(run.run_as)
        child = trigger(state, principal, spec["job_id"], given, started_by="RUN_JOB_TASK")
    except ApiError as error:
        code = "UNAUTHORIZED_ERROR" if error.status == 403 else "RESOURCE_NOT_FOUND"
        return Outcome("INTERNAL_ERROR", "FAILED", error.message, code, "CLIENT_ERROR")
    task.child_run_id = child.run_id
    return child


def outcome_of(child: Run) -> Outcome:
    """How a task ends whose child ended so, or was deleted."""
    ended = child.progress.outcome
    if ended is None:
        message = f"Run {child.run_id} does not exist."
        return Outcome("INTERNAL_ERROR", "FAILED", message, "RESOURCE_NOT_FOUND", "CLIENT_ERROR")
    if ended.result_state in SUCCESSFUL:
        return Outcome()
    if ended.result_state == "CANCELED":
        return Outcome(result_state="CANCELED", message=f"The triggered run {child.run_id} was cancelled.")
    message = f"The triggered run {child.run_id} failed: {ended.message}"
    return Outcome(ended.life_cycle_state, "FAILED", message, *ended.termination)
