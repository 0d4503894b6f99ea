"""Runs and their states: everything that affects a run's state lives here, and this file does no I/O.

databricks/jobs.py creates runs and renders them; the engines and the control API move them from state to state through
`RunStore`. Nothing here knows requests, processes or scripts.

States, results and termination codes: databricks-sdk `service/jobs.py`, docstrings of RunLifeCycleState,
RunResultState, RunLifecycleStateV2State, TerminationCodeCode, TerminationTypeType.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

LIFE_CYCLE_STATES = (
    "BLOCKED",
    "PENDING",
    "QUEUED",
    "RUNNING",
    "TERMINATING",
    "TERMINATED",
    "SKIPPED",
    "INTERNAL_ERROR",
    "WAITING_FOR_RETRY",
)
TERMINAL_STATES = frozenset({"TERMINATED", "SKIPPED", "INTERNAL_ERROR"})
NOT_YET_PAID = frozenset({"BLOCKED", "PENDING", "QUEUED", "SKIPPED"})
"""A run costs money once it has left these: its compute was started."""

_STATUS_STATE = {"SKIPPED": "TERMINATED", "INTERNAL_ERROR": "TERMINATED", "WAITING_FOR_RETRY": "WAITING"}
"""Where RunStatus.state (Jobs 2.2) says less than RunState.life_cycle_state."""

TERMINATION_BY_RESULT = {
    "SUCCESS": ("SUCCESS", "SUCCESS"),
    "FAILED": ("RUN_EXECUTION_ERROR", "CLIENT_ERROR"),
    "TIMEDOUT": ("CANCELED", "CLIENT_ERROR"),
    "CANCELED": ("USER_CANCELED", "CLIENT_ERROR"),
    "MAXIMUM_CONCURRENT_RUNS_REACHED": ("MAX_CONCURRENT_RUNS_EXCEEDED", "CLIENT_ERROR"),
    "EXCLUDED": ("SKIPPED", "CLIENT_ERROR"),
    "SUCCESS_WITH_FAILURES": ("SUCCESS_WITH_FAILURES", "SUCCESS"),
    "UPSTREAM_FAILED": ("SKIPPED", "CLIENT_ERROR"),
    "UPSTREAM_CANCELED": ("SKIPPED", "CLIENT_ERROR"),
    "DISABLED": ("DISABLED", "CLIENT_ERROR"),
}
RESULT_STATES = tuple(TERMINATION_BY_RESULT)
TERMINATION_CODES = (
    "BREAKING_CHANGE",
    "BUDGET_POLICY_LIMIT_EXCEEDED",
    "CANCELED",
    "CLOUD_FAILURE",
    "CLUSTER_ERROR",
    "CLUSTER_REQUEST_LIMIT_EXCEEDED",
    "DISABLED",
    "DRIVER_ERROR",
    "FEATURE_DISABLED",
    "INTERNAL_ERROR",
    "INVALID_CLUSTER_REQUEST",
    "INVALID_RUN_CONFIGURATION",
    "LIBRARY_INSTALLATION_ERROR",
    "MAX_CONCURRENT_RUNS_EXCEEDED",
    "MAX_JOB_QUEUE_SIZE_EXCEEDED",
    "MAX_SPARK_CONTEXTS_EXCEEDED",
    "REPOSITORY_CHECKOUT_FAILED",
    "RESOURCE_NOT_FOUND",
    "RUN_EXECUTION_ERROR",
    "SKIPPED",
    "STORAGE_ACCESS_ERROR",
    "SUCCESS",
    "SUCCESS_WITH_FAILURES",
    "UNAUTHORIZED_ERROR",
    "USER_CANCELED",
    "WORKSPACE_RUN_LIMIT_EXCEEDED",
)
TASK_TYPES = ("spark_python_task", "notebook_task", "python_wheel_task", "run_job_task")
"""The task types that this sandbox runs."""

TERMINATION_TYPES = ("SUCCESS", "INTERNAL_ERROR", "CLIENT_ERROR", "CLOUD_FAILURE")


@dataclass(frozen=True)
class Outcome:
    """How a run ends. Code and type follow from the result unless given."""

    life_cycle_state: str = "TERMINATED"
    result_state: str | None = "SUCCESS"
    message: str = ""
    code: str | None = None
    type: str | None = None

    @property
    def termination(self) -> tuple[str, str]:
        """Termination code and type."""
        if self.life_cycle_state == "INTERNAL_ERROR":
            code, kind = "INTERNAL_ERROR", "INTERNAL_ERROR"
        else:
            code, kind = TERMINATION_BY_RESULT[self.result_state or "SUCCESS"]
        return self.code or code, self.type or kind


@dataclass
class Progress:
    """The state of one run or task run. Times are Unix milliseconds, 0 while unknown, as the API shows them."""

    life_cycle_state: str = "PENDING"
    outcome: Outcome | None = None
    message: str = ""
    start_time: int = 0
    running_since: int = 0
    ended_since: int = 0
    end_time: int = 0
    queue_code: str = "ACTIVE_RUNS_LIMIT_REACHED"
    """Why it is QUEUED (SDK: QueueDetailsCodeCode)."""

    @property
    def terminal(self) -> bool:
        """Whether it has ended for good."""
        return self.life_cycle_state in TERMINAL_STATES

    def state(self) -> dict[str, Any]:
        """RunState of Jobs 2.0 to 2.2."""
        shown: dict[str, Any] = {
            "life_cycle_state": self.life_cycle_state,
            "state_message": self.message,
            "user_cancelled_or_timedout": False,
        }
        if self.life_cycle_state == "QUEUED":
            shown["queue_reason"] = "Queued due to reaching maximum concurrent runs."
        if self.outcome is not None and self.terminal:
            if self.outcome.result_state is not None:
                shown["result_state"] = self.outcome.result_state
            shown["user_cancelled_or_timedout"] = self.outcome.result_state in ("CANCELED", "TIMEDOUT")
        return shown

    def status(self) -> dict[str, Any]:
        """RunStatus of Jobs 2.2."""
        shown: dict[str, Any] = {"state": _STATUS_STATE.get(self.life_cycle_state, self.life_cycle_state)}
        if self.life_cycle_state == "QUEUED":
            shown["queue_details"] = {
                "code": self.queue_code,
                "message": "Queued due to reaching maximum concurrent runs.",
            }
        if self.outcome is not None and self.life_cycle_state in (*TERMINAL_STATES, "TERMINATING"):
            code, kind = self.outcome.termination
            shown["termination_details"] = {"code": code, "type": kind, "message": self.outcome.message}
        return shown


@dataclass
class TaskRun:
    """One task of a run, with its own run id; `spec` is the SubmitTask as submitted."""

    run_id: int
    task_key: str
    spec: dict[str, Any]
    progress: Progress = field(default_factory=Progress)
    attempt_number: int = 0
    logs: Callable[[], tuple[str, bool]] | None = None
    error: str | None = None
    error_trace: str | None = None
    notebook_result: str | None = None
    """What the notebook gave to `dbutils.notebook.exit`."""
    child_run_id: int | None = None
    """The run that a run_job_task started."""
    cluster_id: str | None = None

    @property
    def kind(self) -> str:
        """Its task type, for example `notebook_task`."""
        return next(name for name in TASK_TYPES if name in self.spec)

    @property
    def depends_on(self) -> list[str]:
        """Keys of the tasks this one waits for."""
        return [entry["task_key"] for entry in self.spec.get("depends_on", [])]


@dataclass
class Run:
    """A run, submitted or of a saved job.

    Args:
        request: the body as submitted; of a saved job its settings, with each task's cluster in the task.
        shown_state: an override that tests set.
        job_parameters: of a saved job's run, their values by name; `parameter_defaults` what the job says.
        settings: of the saved job that it is a run of, when it started; None for a one-time run.
        trigger: what started it (SDK: TriggerType).
        when_ended: called when it has ended or was deleted; may be called twice.
    """

    run_id: int
    job_id: int
    name: str
    creator: str
    run_as: str
    request: dict[str, Any]
    tasks: list[TaskRun]
    sequence: int
    progress: Progress = field(default_factory=Progress)
    paid: bool = False
    cancel_requested: bool = False
    deleted: bool = False
    shown_state: str | None = None
    settings: dict[str, Any] | None = None
    job_parameters: dict[str, str] = field(default_factory=dict)
    parameter_defaults: dict[str, str] = field(default_factory=dict)
    trigger: str = "ONE_TIME"
    when_ended: list[Callable[[], None]] = field(default_factory=list)

    @property
    def run_type(self) -> str:
        """`SUBMIT_RUN` or `JOB_RUN` (SDK: RunType)."""
        return "SUBMIT_RUN" if self.settings is None else "JOB_RUN"

    @property
    def active(self) -> bool:
        """Not ended yet, and still there."""
        return not self.progress.terminal and not self.deleted

    @property
    def timeout_seconds(self) -> int:
        """Timeout of the whole run; 0 means none."""
        return int(self.request.get("timeout_seconds", 0))

    def task(self, task_key: str) -> TaskRun:
        """The latest attempt of the task with this key."""
        return next(task for task in reversed(self.tasks) if task.task_key == task_key)

    def latest_tasks(self) -> list[TaskRun]:
        """The latest attempt of each task."""
        return list({task.task_key: task for task in self.tasks}.values())


class RunStore:
    """All runs of the workspace, by run id, by task run id and by idempotency token.

    Args:
        now: the sandbox's clock, Unix seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._runs: dict[int, Run] = {}
        self._task_runs: dict[int, tuple[Run, TaskRun]] = {}
        self._tokens: dict[str, int] = {}
        self._sequence = itertools.count(1)
        self.deleted: set[int] = set()
        self.paid_total = 0

    def now_ms(self) -> int:
        """The clock as the API shows it."""
        return int(self._now() * 1000)

    def create(
        self, name: str, creator: str, run_as: str, request: dict[str, Any], *, job_id: int | None = None
    ) -> Run:
        """A new run in PENDING (tasks with dependencies in BLOCKED), remembered by its idempotency token."""
        started = self.now_ms()
        tasks = [TaskRun(new_id(), spec["task_key"], spec) for spec in request["tasks"]]
        run = Run(new_id(), job_id or new_id(), name, creator, run_as, request, tasks, next(self._sequence))
        run.progress.start_time = started
        for task in tasks:
            task.progress.start_time = started
            if task.depends_on:
                task.progress.life_cycle_state = "BLOCKED"
            self._task_runs[task.run_id] = (run, task)
        self._runs[run.run_id] = run
        if request.get("idempotency_token"):
            self._tokens[request["idempotency_token"]] = run.run_id
        return run

    def add_attempt(self, run: Run, failed: TaskRun) -> TaskRun:
        """The next attempt of a task: a task run of its own beside the failed one.

        All attempts stay in the run's tasks under the same key (seen in how the Airflow provider for Databricks sorts
        them by start time to find the latest).
        """
        task = TaskRun(new_id(), failed.task_key, failed.spec, attempt_number=failed.attempt_number + 1)
        task.progress.start_time = self.now_ms()
        run.tasks.append(task)
        self._task_runs[task.run_id] = (run, task)
        return task

    def run_id_of_token(self, idempotency_token: str) -> int | None:
        """The run id (of a run that may be deleted since) that an idempotency token made."""
        return self._tokens.get(idempotency_token)

    def get(self, run_id: int) -> Run | None:
        """The run, or None when there is none or it was deleted."""
        return self._runs.get(run_id)

    def get_task(self, run_id: int) -> tuple[Run, TaskRun] | None:
        """The task run with this id and the run it belongs to."""
        return self._task_runs.get(run_id)

    def newest_first(self) -> Iterator[Run]:
        """All runs, newest first."""
        return reversed(self._runs.values())

    def delete(self, run: Run) -> None:
        """Forget a run and its tasks. Its idempotency token stays taken (SDK docstring of `jobs.submit`)."""
        del self._runs[run.run_id]
        for task in run.tasks:
            del self._task_runs[task.run_id]
        self.deleted.add(run.run_id)
        was_active, run.deleted = run.active, True
        if was_active:
            for tell in run.when_ended:
                tell()

    def terminate(self, run: Run, outcome: Outcome) -> None:
        """Bring a run into TERMINATING with its outcome known (SDK docstring of RunStatus.termination_details)."""
        self.move(run, "TERMINATING", outcome.message)
        run.progress.outcome = outcome

    def move(self, run: Run, life_cycle_state: str, message: str = "", task: TaskRun | None = None) -> None:
        """Bring a run (or one task of it) into a state that is not terminal."""
        progress = task.progress if task else run.progress
        now = self.now_ms()
        if life_cycle_state == "RUNNING" and not progress.running_since:
            progress.running_since = now
        if life_cycle_state == "TERMINATING" and not progress.ended_since:
            progress.ended_since = now
        progress.life_cycle_state = life_cycle_state
        progress.message = message
        self._note_paid(run, life_cycle_state)

    def finish(self, run: Run, outcome: Outcome, task: TaskRun | None = None) -> None:
        """End a run (or one task of it) for good; ending twice changes nothing."""
        progress = task.progress if task else run.progress
        if progress.terminal:
            return
        progress.ended_since = progress.ended_since or self.now_ms()
        progress.end_time = self.now_ms()
        progress.life_cycle_state = outcome.life_cycle_state
        progress.message = outcome.message
        progress.outcome = outcome
        if task is None:
            for tell in run.when_ended:
                tell()

    def _note_paid(self, run: Run, life_cycle_state: str) -> None:
        if life_cycle_state not in NOT_YET_PAID and not run.paid:
            run.paid = True
            self.paid_total += 1


def new_id() -> int:
    """An id of a run or a job."""
    # Beyond 2^53 and odd, so that a client that passes an id through a float loses it (facts of the platform: ids are
    # 64-bit integers).
    return secrets.randbelow(2**62) + 2**62 | 1
