"""What Databricks says about a run, in the core's words. Pure.

Reads the JSON as it came rather than the SDK's typed objects, which turn a word they do not know into None: a state of
tomorrow would look like no state at all (invariant 9). Words and meanings: databricks-sdk service/jobs.py
(RunLifeCycleState, RunLifecycleStateV2State, RunResultState, TerminationCodeCode, TerminationTypeType).
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from trainyard.core.remote import End, RemoteRun, RemoteTask, Stage
from trainyard.platforms.redaction import clean

LIFE_CYCLE = {
    "BLOCKED": Stage.QUEUED,
    "QUEUED": Stage.QUEUED,
    "WAITING": Stage.QUEUED,
    "WAITING_FOR_RETRY": Stage.QUEUED,
    "PENDING": Stage.BUILDING,
    "RUNNING": Stage.RUNNING,
    # The code is done but the result is not final yet.
    "TERMINATING": Stage.RUNNING,
    "TERMINATED": Stage.ENDED,
    "SKIPPED": Stage.ENDED,
    "INTERNAL_ERROR": Stage.ENDED,
}

TERMINATION_CODE = {
    "SUCCESS": End.SUCCEEDED,
    # Every leaf of the graph succeeded: what failed before was provided for by a run_if (RunResultState; Databricks
    # documentation, "Configure task dependencies", how the state of a run is determined).
    "SUCCESS_WITH_FAILURES": End.SUCCEEDED,
    "RUN_EXECUTION_ERROR": End.CODE,
    "LIBRARY_INSTALLATION_ERROR": End.PACKAGES,
    "USER_CANCELED": End.CANCELLED,
    "CANCELED": End.CANCELLED,
    "UNAUTHORIZED_ERROR": End.PERMISSION,
    "BUDGET_POLICY_LIMIT_EXCEEDED": End.QUOTA,
    "CLUSTER_REQUEST_LIMIT_EXCEEDED": End.QUOTA,
    "MAX_CONCURRENT_RUNS_EXCEEDED": End.QUOTA,
    "MAX_JOB_QUEUE_SIZE_EXCEEDED": End.QUOTA,
    "WORKSPACE_RUN_LIMIT_EXCEEDED": End.QUOTA,
    "DISABLED": End.CONFIGURATION,
    "FEATURE_DISABLED": End.CONFIGURATION,
    "INVALID_CLUSTER_REQUEST": End.CONFIGURATION,
    "INVALID_RUN_CONFIGURATION": End.CONFIGURATION,
    "RESOURCE_NOT_FOUND": End.CONFIGURATION,
    "BREAKING_CHANGE": End.INFRASTRUCTURE,
    "CLOUD_FAILURE": End.INFRASTRUCTURE,
    "CLUSTER_ERROR": End.INFRASTRUCTURE,
    # Named in the docstring, though not in the enum.
    "CLUSTER_TERMINATED_BY_USER": End.INFRASTRUCTURE,
    "DRIVER_ERROR": End.INFRASTRUCTURE,
    "INTERNAL_ERROR": End.INFRASTRUCTURE,
    "MAX_SPARK_CONTEXTS_EXCEEDED": End.INFRASTRUCTURE,
    "REPOSITORY_CHECKOUT_FAILED": End.INFRASTRUCTURE,
    "SKIPPED": End.INFRASTRUCTURE,
    "STORAGE_ACCESS_ERROR": End.INFRASTRUCTURE,
}

# New codes are added in any release of the platform; the type of a code says at least whose fault it is. SUCCESS is
# left out on purpose: a code that we do not know is never a success by its type alone.
TERMINATION_TYPE = {
    "CLIENT_ERROR": End.CODE,
    "CLOUD_FAILURE": End.INFRASTRUCTURE,
    "INTERNAL_ERROR": End.INFRASTRUCTURE,
}

RESULT = {
    "SUCCESS": End.SUCCEEDED,
    "SUCCESS_WITH_FAILURES": End.SUCCEEDED,
    "FAILED": End.CODE,
    "UPSTREAM_FAILED": End.CODE,
    "TIMEDOUT": End.TIMED_OUT,
    "CANCELED": End.CANCELLED,
    "UPSTREAM_CANCELED": End.CANCELLED,
    "MAXIMUM_CONCURRENT_RUNS_REACHED": End.QUOTA,
    "DISABLED": End.CONFIGURATION,
    "EXCLUDED": End.CONFIGURATION,
}

# Results of a task that was never started, because of how others ended or because somebody had disabled it
# (RunResultState).
NEVER_STARTED = frozenset({"EXCLUDED", "UPSTREAM_FAILED", "UPSTREAM_CANCELED", "DISABLED"})


def remote_run(run: Mapping[str, Any]) -> RemoteRun:
    """One look at a run, from the JSON of runs/get or a row of runs/list."""
    state = _object(run, "state")
    status = _object(run, "status")
    details = _object(status, "termination_details")
    stage = _stage(state, status)
    end = None
    over = stage is Stage.ENDED
    if over:
        end = _end(state, details)
        if end is None:
            stage = Stage.UNKNOWN
    return RemoteRun(
        remote_id=str(run.get("run_id", "")),
        stage=stage,
        state=_spoken(state, status, details)[:64],
        end=end,
        message=_of_tasks(run, end) or _message(state, details),
        url=run.get("run_page_url") or None,
        ran_as=run.get("run_as_user_name") or run.get("creator_user_name") or None,
        started_at=_moment(run.get("start_time")),
        ended_at=_moment(run.get("end_time")),
        mlflow_run_id=_mlflow_run_id(run),
        over=over and end is None,
    )


def remote_tasks(run: Mapping[str, Any]) -> tuple[RemoteTask, ...]:
    """Every task of a run, from the JSON of runs/get, each as it was last tried."""
    rows: dict[str, Mapping[str, Any]] = {}
    for row in run.get("tasks") or ():
        key = str(row.get("task_key", ""))
        if key not in rows or row.get("attempt_number", 0) >= rows[key].get("attempt_number", 0):
            rows[key] = row
    return tuple(remote_task(row) for row in rows.values())


def remote_task(row: Mapping[str, Any]) -> RemoteTask:
    """One task of a run."""
    seen = remote_run({key: value for key, value in row.items() if key != "tasks"})
    skipped = seen.stage is Stage.ENDED and _never_started(row)
    return RemoteTask(
        name=str(row.get("task_key", "")),
        remote_id=seen.remote_id,
        stage=seen.stage,
        state=seen.state,
        end=None if skipped else seen.end,
        skipped=skipped,
        message=seen.message,
        started_at=None if skipped else seen.started_at,
        ended_at=seen.ended_at,
    )


def _never_started(row: Mapping[str, Any]) -> bool:
    state, details = _object(row, "state"), _object(_object(row, "status"), "termination_details")
    result = state.get("result_state")
    return result in NEVER_STARTED or (
        result in (None, "") and "SKIPPED" in (state.get("life_cycle_state"), details.get("code"))
    )


def _of_tasks(run: Mapping[str, Any], end: End | None) -> str:
    """Of a run of several tasks that has failed, which of them did; empty for any other."""
    tasks = remote_tasks(run)
    if end in (None, End.SUCCEEDED) or len(tasks) < 2:
        return ""
    failed = [task for task in tasks if task.end not in (None, End.SUCCEEDED)]
    spoken = [f"task {task.name} failed" + (f": {task.message}" if task.message else "") for task in failed]
    return "; ".join(spoken)[:1024]


def _mlflow_run_id(run: Mapping[str, Any]) -> str | None:
    """The MLflow run that the code was told to log to, where the answer shows the run's variables (runs/get does)."""
    found = [_object(_object(entry, "spec"), "variables") for entry in run.get("environment_variables") or ()]
    found += [_object(_object(task, "new_cluster"), "spark_env_vars") for task in run.get("tasks") or ()]
    return next((str(variables["MLFLOW_RUN_ID"]) for variables in found if "MLFLOW_RUN_ID" in variables), None)


def _stage(state: Mapping[str, Any], status: Mapping[str, Any]) -> Stage:
    # The newer word first; but if either of the two is unknown, the run is in a state that we do not know.
    words = [word for word in (status.get("state"), state.get("life_cycle_state")) if word]
    stages = [LIFE_CYCLE.get(word, Stage.UNKNOWN) for word in words]
    return Stage.UNKNOWN if not stages or Stage.UNKNOWN in stages else stages[0]


def _end(state: Mapping[str, Any], details: Mapping[str, Any]) -> End | None:
    """Who has to act on how it ended; None if nothing known says so."""
    result = RESULT.get(str(state.get("result_state", "")))
    code = details.get("code")
    # The code of a run that hit its time limit is CANCELED; only the result tells it from a person's doing.
    if result is End.TIMED_OUT:
        return result
    if code:
        end = TERMINATION_CODE.get(str(code)) or TERMINATION_TYPE.get(str(details.get("type", "")))
        if end is not End.SUCCEEDED:
            return end if end is not None or result is End.SUCCEEDED else result
        if state.get("result_state") in (None, "", "SUCCESS", "SUCCESS_WITH_FAILURES"):
            return end
        return result
    if state.get("life_cycle_state") in ("INTERNAL_ERROR", "SKIPPED"):
        return End.INFRASTRUCTURE if result in (None, End.CODE, End.SUCCEEDED) else result
    return result


def _spoken(state: Mapping[str, Any], status: Mapping[str, Any], details: Mapping[str, Any]) -> str:
    words = [
        status.get("state") or state.get("life_cycle_state"),
        details.get("code") or state.get("result_state"),
    ]
    # An unknown older word must show, or the reader would wonder what is unknown about RUNNING.
    if state.get("life_cycle_state") not in (None, *LIFE_CYCLE):
        words.append(state["life_cycle_state"])
    return "/".join(str(word) for word in words if word)


def _message(state: Mapping[str, Any], details: Mapping[str, Any]) -> str:
    text = details.get("message") or state.get("state_message") or ""
    return clean(" ".join(str(text).split()))[:1024]


def _object(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, Mapping) else {}


def _moment(milliseconds: Any) -> datetime | None:
    """Epoch milliseconds; the platform writes 0 for "not yet"."""
    if not isinstance(milliseconds, int) or milliseconds <= 0:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
