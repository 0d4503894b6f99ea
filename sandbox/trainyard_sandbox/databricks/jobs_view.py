"""Runs as Jobs 2.2 shows them, and who may see, cancel and delete them.

jobs.py renders with it. It changes nothing.

Fields: databricks-sdk `service/jobs.py` (BaseRun, Run, RunTask, RunOutput). Permissions: Databricks documentation, "Job
ACLs" (view: any level; cancel: Can Manage Run; delete: Can Manage or owner).
"""

from __future__ import annotations

from typing import Any

from trainyard_sandbox.engine import saved_jobs
from trainyard_sandbox.engine.output import MAX_LOG_BYTES
from trainyard_sandbox.engine.runs import Progress, Run, TaskRun
from trainyard_sandbox.principals import Principal
from trainyard_sandbox.state import SandboxState

_LEVELS = {
    "View": {"CAN_VIEW", "CAN_MANAGE_RUN", "CAN_MANAGE", "IS_OWNER"},
    "Manage Run": {"CAN_MANAGE_RUN", "CAN_MANAGE", "IS_OWNER"},
    "Manage": {"CAN_MANAGE", "IS_OWNER"},
}


def may(principal: Principal, run: Run, action: str) -> bool:
    """Whether the principal may `View`, `Manage Run` or `Manage` the run."""
    if principal.is_admin or run.creator == principal.application_id:
        return True
    named = "user_name" if principal.kind == "user" else "service_principal_name"
    for entry in run.request.get("access_control_list", []):
        mine = entry.get(named) == principal.name
        if (mine or entry.get("group_name") in principal.groups) and entry["permission_level"] in _LEVELS[action]:
            return True
    # The permissions of a run are those of its job; a one-time run has a job of its own.
    return saved_jobs.may(principal, run.job_id, action)


def require(principal: Principal, run: Run, action: str) -> None:
    """403 unless the principal may do this."""
    if not may(principal, run, action):
        raise saved_jobs.no_right(principal, run.job_id, action)


def render_run(state: SandboxState, run: Run, with_tasks: bool = True) -> dict[str, Any]:
    """A run as `runs/get` and, without tasks, `runs/list` show it."""
    shown = {
        "job_id": run.job_id,
        "run_id": run.run_id,
        "number_in_job": run.run_id,
        "original_attempt_run_id": run.run_id,
        "creator_user_name": run.creator,
        "run_name": run.name,
        "run_type": run.run_type,
        "trigger": run.trigger,
        "format": "MULTI_TASK",
        "attempt_number": 0,
        "run_page_url": _page(state, run, run.run_id),
        **_times(state, run.progress),
        **_states(run, run.progress),
    }
    if run.job_parameters:
        shown["job_parameters"] = [
            {"name": name, "default": run.parameter_defaults[name], "value": value}
            for name, value in run.job_parameters.items()
        ]
    if with_tasks:
        # "Snapshot of JobSettings.environment_variables as it was at run launch" (SDK docstring of Run).
        if "environment_variables" in run.request:
            shown["environment_variables"] = run.request["environment_variables"]
        shown["tasks"] = [render_task(state, run, task) for task in run.tasks]
    return shown


def render_task(state: SandboxState, run: Run, task: TaskRun) -> dict[str, Any]:
    """One attempt of a task of a run."""
    shown = {
        **task.spec,
        "run_id": task.run_id,
        "run_if": task.spec.get("run_if", "ALL_SUCCESS"),
        "attempt_number": task.attempt_number,
        "run_page_url": _page(state, run, task.run_id),
        **_times(state, task.progress),
        **_states(run, task.progress),
    }
    if task.cluster_id is not None:
        shown["cluster_instance"] = {"cluster_id": task.cluster_id}
    return shown


def render_task_run(state: SandboxState, run: Run, task: TaskRun) -> dict[str, Any]:
    """A task run as a run of its own, as `runs/get` shows it when asked for a task's run id."""
    shown = render_run(state, run, with_tasks=False)
    shown |= {"run_id": task.run_id, "number_in_job": task.run_id, "original_attempt_run_id": task.run_id}
    shown |= {"job_run_id": run.run_id, "run_name": task.task_key, "run_page_url": _page(state, run, task.run_id)}
    shown |= _times(state, task.progress) | _states(run, task.progress) | {"attempt_number": task.attempt_number}
    return shown | {"tasks": [render_task(state, run, task)]}


def render_output(state: SandboxState, run: Run, task: TaskRun) -> dict[str, Any]:
    """What `runs/get-output` answers for a task run; the logs come when it has ended."""
    shown: dict[str, Any] = {"metadata": render_task_run(state, run, task)}
    if task.child_run_id is not None:
        shown["run_job_output"] = {"run_id": task.child_run_id}
    if not task.progress.terminal:
        return shown
    if task.error is not None:
        shown["error"] = task.error
    elif task.progress.outcome is not None and task.progress.outcome.result_state != "SUCCESS":
        shown["error"] = task.progress.message
    if task.error_trace is not None:
        shown["error_trace"] = task.error_trace
    if task.kind == "notebook_task":
        shown["notebook_output"] = _notebook_output(task)
    if task.logs is not None:
        shown["logs"], shown["logs_truncated"] = task.logs()
    return shown


def _notebook_output(task: TaskRun) -> dict[str, Any]:
    """`result` is absent unless the notebook called `dbutils.notebook.exit`, and cut after 5 MB (NotebookOutput)."""
    if task.notebook_result is None:
        return {}
    cut = task.notebook_result.encode()[:MAX_LOG_BYTES].decode("utf-8", "ignore")
    return {"result": cut, "truncated": cut != task.notebook_result}


def _page(state: SandboxState, run: Run, run_id: int) -> str:
    return f"{state.base_url}/?o={state.workspace_id}#job/{run.job_id}/run/{run_id}"


def _states(run: Run, progress: Progress) -> dict[str, Any]:
    shown, status = progress.state(), progress.status()
    if run.shown_state is not None:
        # A test wants to know what a client makes of a state it has never heard of.
        shown["life_cycle_state"] = status["state"] = run.shown_state
        shown.pop("result_state", None)
        status.pop("termination_details", None)
    return {"state": shown, "status": status}


def _times(state: SandboxState, progress: Progress) -> dict[str, int]:
    """Durations in milliseconds: setup, execution and cleanup are 0 while unknown, as the API says."""
    now = state.runs.now_ms()
    ended = progress.ended_since or now
    running = progress.running_since
    end = progress.end_time or now
    return {
        "start_time": progress.start_time,
        "setup_duration": running - progress.start_time if running else 0,
        "execution_duration": ended - running if running and progress.ended_since else 0,
        "cleanup_duration": progress.end_time - progress.ended_since if progress.end_time else 0,
        "end_time": progress.end_time,
        "run_duration": end - progress.start_time,
    }
