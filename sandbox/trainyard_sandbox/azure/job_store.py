"""Jobs of the Azure ML workspace and their states: whatever changes a job is here, and this file does no I/O.

jobs.py creates jobs and renders them as ARM does, the engines and the control API move them from state to state
through `AzureJobStore`, run history and MLflow read them. A job's name is its run id, also in MLflow (azure-ai-ml
`_job_ops.py`, where `jobs.get(name)` and run history's `runs/{name}` are the same thing).

States: azure-ai-ml `_restclient/arm_ml_service/models/_enums.py`, JobStatus. Run history knows the same ones
(`_restclient/runhistory`, RunStatus).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

STATUSES = (
    "NotStarted",
    "Starting",
    "Provisioning",
    "Preparing",
    "Queued",
    "Running",
    "Finalizing",
    "CancelRequested",
    "Completed",
    "Failed",
    "Canceled",
    "NotResponding",
    "Paused",
    "Unknown",
)
TERMINAL_STATUSES = frozenset({"Completed", "Failed", "Canceled"})
PAYING_STATUSES = frozenset({"Provisioning", "Running", "Finalizing"})
"""A command job costs money once it has been in one of these: machines were given to it. An image build (Preparing) and
a place in the queue cost none of them; a sweep or a pipeline has no machines, its children have."""

ERROR_CODES = ("UserError", "SystemError", "ServiceError", "AzureMLCompute", "ExecutionFailed")
"""Codes that run history gives in a job's error; the first says that the job's author is to act."""

MUTABLE = ("description", "tags", "displayName", "properties", "isArchived")
"""What a second PUT of a job may change."""


@dataclass(frozen=True)
class JobError:
    """Why a job failed. `inner` are codes from the outer to the innermost `innerError`."""

    code: str
    message: str
    inner: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobEnd:
    """How a job ends: Completed, Failed with an error, or Canceled."""

    status: str = "Completed"
    error: JobError | None = None


@dataclass
class AzureJob:
    """One job. Times are Unix seconds, None while unknown.

    Args:
        definition: the body's `properties` as submitted, without what `MUTABLE` names.
        creator: client id (application id) of who submitted it; `creator_object_id` is its object id in the tenant.
        properties: of the job, ours and the submitter's.
        parent: name of the sweep or pipeline job that started it; `children` are the names of those it started.
        history: every status it had and when it came into it.
        log_files: path of the blob in the default datastore's container by name, such as `user_logs/std_log.txt`.
        output_uris: where its outputs are, by name.
        shown_status: an override that tests set.
        when_ended: called once when it has ended or was deleted.
    """

    name: str
    job_type: str
    definition: dict[str, Any]
    creator: str
    creator_object_id: str
    experiment: str
    number: int
    created_at: float
    display_name: str = ""
    description: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    is_archived: bool = False
    status: str = "NotStarted"
    error: JobError | None = None
    started_at: float | None = None
    ended_at: float | None = None
    modified_at: float = 0.0
    history: list[tuple[str, float]] = field(default_factory=list)
    parent: str | None = None
    children: list[str] = field(default_factory=list)
    paid: bool = False
    cancel_requested: bool = False
    deleted: bool = False
    log_files: dict[str, str] = field(default_factory=dict)
    output_uris: dict[str, str] = field(default_factory=dict)
    shown_status: str | None = None
    when_ended: list[Callable[[], None]] = field(default_factory=list)

    @property
    def terminal(self) -> bool:
        """Whether it has ended for good."""
        return self.status in TERMINAL_STATUSES

    @property
    def active(self) -> bool:
        """Not ended yet, and still there."""
        return not self.terminal and not self.deleted

    @property
    def status_to_show(self) -> str:
        """The status that the API says: the true one unless a test overrides it."""
        return self.shown_status or self.status

    @property
    def compute(self) -> str:
        """Name of the compute it runs on, `serverless` without one (run history's `target`)."""
        compute_id: str = self.definition.get("computeId") or ""
        return compute_id.rsplit("/", 1)[-1] or "serverless"

    @property
    def root(self) -> str:
        """The name of the outermost job above it, its own when there is none. Children are one level deep here."""
        return self.parent or self.name


class AzureJobStore:
    """All jobs of the workspace by name, in the order of their creation.

    Args:
        now: the sandbox's clock, Unix seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._jobs: dict[str, AzureJob] = {}
        self._numbers = itertools.count(1)
        self.created_total = 0
        self.paid_total = 0
        """How many jobs were ever paid for, deleted ones included."""

    def now(self) -> float:
        """The sandbox's clock."""
        return self._now()

    def create(
        self,
        name: str,
        properties: dict[str, Any],
        creator: str,
        creator_object_id: str,
        *,
        parent: AzureJob | None = None,
    ) -> AzureJob:
        """A new job in NotStarted.

        Args:
            properties: the PUT's `properties`, already checked.

        Raises:
            ValueError: there is one with that name.
        """
        if name in self._jobs:
            raise ValueError(f"job {name} exists")
        job = AzureJob(
            name=name,
            job_type=properties["jobType"],
            definition={key: value for key, value in properties.items() if key not in MUTABLE},
            creator=creator,
            creator_object_id=creator_object_id,
            experiment=properties.get("experimentName") or "Default",
            number=next(self._numbers),
            created_at=self._now(),
            display_name=properties.get("displayName") or name,
            parent=parent.name if parent else None,
        )
        self.change(job, properties)
        job.history.append((job.status, job.created_at))
        self._jobs[name] = job
        self.created_total += 1
        if parent is not None:
            parent.children.append(name)
        return job

    def change(self, job: AzureJob, properties: dict[str, Any]) -> None:
        """Take over what `MUTABLE` names; the properties that the service itself set stay."""
        job.display_name = properties.get("displayName") or job.display_name
        job.description = properties.get("description")
        job.tags = dict(properties.get("tags") or {})
        job.properties |= properties.get("properties") or {}
        job.is_archived = bool(properties.get("isArchived"))
        job.modified_at = self._now()

    def get(self, name: str) -> AzureJob | None:
        """The job, or None when there is none or it was deleted."""
        return self._jobs.get(name)

    def newest_first(self) -> Iterator[AzureJob]:
        """All jobs, the newest first."""
        return reversed(self._jobs.values())

    def children(self, job: AzureJob) -> list[AzureJob]:
        """The jobs that it started and that are still there, oldest first."""
        return [child for child in map(self.get, job.children) if child is not None]

    def move(self, job: AzureJob, status: str) -> None:
        """Bring a job into a status that is not terminal; one that has ended stays as it is."""
        if status in TERMINAL_STATUSES:
            raise ValueError(f"{status} is an end: use finish")
        if job.terminal or job.status == status:
            return
        self._enter(job, status)
        if status == "Running" and job.started_at is None:
            job.started_at = self._now()
        if status in PAYING_STATUSES and job.job_type == "Command" and not job.paid:
            job.paid = True
            self.paid_total += 1

    def finish(self, job: AzureJob, end: JobEnd) -> None:
        """End a job for good; ending twice changes nothing."""
        if job.terminal:
            return
        self._enter(job, end.status)
        job.error = end.error
        job.ended_at = self._now()
        self._tell(job)

    def delete(self, job: AzureJob) -> None:
        """Forget a job; its children go with it. Its name is free again."""
        for child in self.children(job):
            self.delete(child)
        del self._jobs[job.name]
        was_active, job.deleted = job.active, True
        if was_active:
            self._tell(job)

    def _enter(self, job: AzureJob, status: str) -> None:
        job.status = status
        job.modified_at = self._now()
        job.history.append((status, job.modified_at))

    def _tell(self, job: AzureJob) -> None:
        listeners, job.when_ended = job.when_ended, []
        for tell in listeners:
            tell()


def timestamp(at: float) -> str:
    """A time as ARM and run history write it: `2026-01-01T12:34:56.789012Z`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
