"""Which tasks of a run run, and how the run ends by them. Pure.

run.py and pretend.py ask it.

Read in: Databricks documentation, "Configure task dependencies" (what each Run if condition needs, and whether a task
whose condition is not met is Upstream failed or Excluded; excluded tasks count as successful; a task all of whose
dependencies are excluded is excluded; cancellation reaches downstream tasks, except those that handle failures; the
result of a run by its leaf tasks); databricks-sdk `service/jobs.py` RunIf, RunResultState.
"""

from __future__ import annotations

from collections.abc import Sequence

from trainyard_sandbox.engine.runs import Outcome, Run, TaskRun

SUCCESSFUL = frozenset({"SUCCESS", "SUCCESS_WITH_FAILURES"})
NOT_RUN_ON_PURPOSE = frozenset({"EXCLUDED", "DISABLED"})
FAILED = frozenset({"FAILED", "TIMEDOUT", "UPSTREAM_FAILED"})
CANCELED = frozenset({"CANCELED", "UPSTREAM_CANCELED"})
HANDLES_FAILURE = frozenset({"AT_LEAST_ONE_FAILED", "ALL_FAILED"})


def not_run(run: Run, task: TaskRun) -> Outcome | None:
    """The outcome of a task that does not run although all it depends on has ended; None when it runs."""
    if task.spec.get("disabled"):
        return Outcome("SKIPPED", "DISABLED", "Task is disabled.")
    results = [_result(run.task(key)) for key in task.depends_on]
    condition = task.spec.get("run_if", "ALL_SUCCESS")
    if results and all(result == "EXCLUDED" for result in results):
        return Outcome("SKIPPED", "EXCLUDED", "All tasks that this task depends on were excluded.")
    if not results or _met(condition, results):
        return None
    if condition in HANDLES_FAILURE:
        return Outcome("SKIPPED", "EXCLUDED", f"The condition {condition} was not met.")
    if any(result in FAILED for result in results):
        return Outcome("TERMINATED", "UPSTREAM_FAILED", "An upstream task failed.")
    return Outcome("TERMINATED", "UPSTREAM_CANCELED", "An upstream task was canceled.")


def _met(condition: str, results: Sequence[str | None]) -> bool:
    good = [result for result in results if result in SUCCESSFUL]
    failed = [result for result in results if result in FAILED]
    stopped = [result for result in results if result in FAILED | CANCELED]
    return {
        "ALL_SUCCESS": not stopped,
        "AT_LEAST_ONE_SUCCESS": bool(good),
        "NONE_FAILED": not failed and bool(good),
        "ALL_DONE": True,
        "AT_LEAST_ONE_FAILED": bool(stopped),
        "ALL_FAILED": len(stopped) == len(results),
    }[condition]


def overall(run: Run) -> Outcome:
    """How a run ends that nothing stopped: by its leaf tasks, those that no task depends on."""
    latest = run.latest_tasks()
    needed = {key for task in latest for key in task.depends_on}
    leaves = {_result(task) for task in latest if task.task_key not in needed}
    roots = [task for task in latest if _result(task) in FAILED - {"UPSTREAM_FAILED"}]
    if leaves & FAILED and roots:
        return _failed(latest, roots)
    if leaves & CANCELED:
        return Outcome(result_state="CANCELED", message="A task of the run was canceled.")
    if roots:
        return Outcome(result_state="SUCCESS_WITH_FAILURES", message="Some tasks failed; all leaf tasks succeeded.")
    return Outcome()


def _failed(latest: Sequence[TaskRun], roots: Sequence[TaskRun]) -> Outcome:
    first, outcome = roots[0], roots[0].progress.outcome
    if outcome is None:
        raise ValueError("a failed task has an outcome")
    message = f"Task {first.task_key} failed with message: {outcome.message.rstrip('.')}."
    if any(_result(task) == "UPSTREAM_FAILED" for task in latest):
        # (recalled)
        message += " This caused all downstream tasks to get skipped."
    timed_out = all(_result(task) == "TIMEDOUT" for task in roots)
    result = "TIMEDOUT" if timed_out else "FAILED"
    return Outcome(outcome.life_cycle_state, result, message, *outcome.termination)


def _result(task: TaskRun) -> str | None:
    return task.progress.outcome.result_state if task.progress.outcome else None
