"""What a platform can tell about a run, in words that hold for every platform.

Made by `platforms`, kept in memory by `controllers`, read by `core.decide`. Frozen; no I/O.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal


class Stage(StrEnum):
    """Where a remote run is. UNKNOWN is a state that this version has never heard of: watched, never done."""

    QUEUED = "Queued"
    BUILDING = "BuildingEnvironment"
    RUNNING = "Running"
    ENDED = "Ended"
    UNKNOWN = "Unknown"


class End(StrEnum):
    """How a remote run ended, by who has to act on it. The value is the reason shown to people."""

    SUCCEEDED = "Succeeded"
    CODE = "CodeFailed"
    OUT_OF_MEMORY = "OutOfMemory"
    PACKAGES = "PackageInstallFailed"
    INFRASTRUCTURE = "InfrastructureFailed"
    QUOTA = "QuotaExceeded"
    PERMISSION = "PermissionDenied"
    CONFIGURATION = "InvalidConfiguration"
    CANCELLED = "CancelledOnPlatform"
    TIMED_OUT = "AttemptTimedOut"


@dataclass(frozen=True, slots=True)
class RemoteRun:
    """One look at a remote run. `state` is the platform's own word for it."""

    remote_id: str
    stage: Stage
    state: str
    end: End | None = None
    message: str = ""
    url: str | None = None
    ran_as: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    mlflow_run_id: str | None = None
    over: bool = False  # the platform says that it has ended, in words that this version does not know
    builds_image: bool = False  # its software is being made: it waits for no machine, and for nobody's quota


@dataclass(frozen=True, slots=True)
class RemoteTask:
    """One task of a remote run. `end` is None while it has not ended, and when it was never started (`skipped`)."""

    name: str
    remote_id: str
    stage: Stage
    state: str
    end: End | None = None
    skipped: bool = False  # not started, because of how others ended
    message: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Submitted:
    """The platform has accepted an attempt."""

    remote_id: str
    mlflow_run_id: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered model version, found by the MLflow run that made it."""

    name: str
    version: str
    uri: str
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class TaskText:
    """What one task printed, as far as the platform still has it. `missing` says why there is no text."""

    name: str
    text: str
    truncated: bool = False
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """What was found at an output. `message` says what kept it from being measured, if anything."""

    uri: str | None = None
    table: str | None = None
    size_bytes: int | None = None
    files: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What an ended attempt left behind.

    `shortfall` is a (reason, message) why success is not complete. `end`, if set, says more exactly than the platform's
    own word how it ended, read from what the code printed. `tasks` holds every task of a run of several. `started_at`
    and `ended_at` are set where the platform tells them more exactly than a look at the run did.
    """

    metrics: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    mlflow_url: str | None = None
    model: ModelVersion | None = None
    error: str = ""
    end: End | None = None
    tasks: tuple[RemoteTask, ...] = ()
    outputs: dict[str, Written] = field(default_factory=dict)
    logs: tuple[TaskText, ...] = ()
    logs_uri: str | None = None
    shortfall: tuple[str, str] | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check before a submission found. The outcomes are those of `api.run_status.Check`."""

    name: str  # what was checked, for example "CREATE MODEL on schema main.ml"
    field: str  # the field of the spec that asks for it
    outcome: Literal["Passed", "Missing", "Unknown"]
    message: str  # with the command or page that mends it


@dataclass(frozen=True, slots=True)
class Trouble:
    """A request that did not work: what kind, since when, and when to try again.

    `waiting` says that time alone may mend it, for example a federation policy that is not known everywhere yet.
    `action` is what was tried: a good look at the run (Watch) says nothing about a cancel that is refused.
    """

    kind: str  # name of the error class in core.errors
    reason: str
    message: str
    since: datetime
    retry_at: datetime
    waiting: bool = False
    action: str = "Watch"


@dataclass(frozen=True, slots=True)
class Observed:
    """What this process has learned of one attempt. Empty after a restart; nothing in it is needed for safety."""

    attempt: int = 0
    submitted: Submitted | None = None
    remote: RemoteRun | None = None
    vanished: bool = False
    deletion_seen_at: datetime | None = None
    searched_at: datetime | None = None
    located: str | None = None
    cancel_sent_at: datetime | None = None
    result: Result | None = None
    trouble: Trouble | None = None
    cleaned: str | None = None  # of a finished run: what was removed of its uploads, or why nothing was
