"""What a decision about a run may look at, gathered by the controller before `decide` is called. Frozen; no I/O."""

from dataclasses import dataclass
from datetime import datetime

from trainyard.api.identity import Identity
from trainyard.api.training_run import MLTrainingRunSpec, MLTrainingRunStatus, Plan
from trainyard.core.remote import Observed

FINALIZER = "trainyard.dev/remote-run"


@dataclass(frozen=True, slots=True)
class Target:
    """Where an attempt goes and as whom; pinned into the attempt when the intent is written."""

    platform: str
    host: str
    principal: str
    mode: str
    service_account: str  # empty where the mode has none
    tenant: str = ""  # of an Entra identity
    # What else the mode needs to get tokens; None is federated, by the ServiceAccount alone.
    identity: Identity | None = None


@dataclass(frozen=True, slots=True)
class Blocked:
    """Something that the run needs is not there. `waiting`: it may yet appear by itself or by somebody's hand."""

    reason: str
    message: str
    waiting: bool


@dataclass(frozen=True, slots=True)
class Ready:
    """Everything that a new attempt needs is there."""

    target: Target
    code_digest: str
    commit: str | None = None
    run_as: str | None = None
    plan: Plan | None = None  # only of a run that is planned and not run


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """An MLTrainingRun as the API server last showed it. Where `spec` can not be read, `spec_error` says why."""

    namespace: str
    name: str
    uid: str
    generation: int
    deleting_since: datetime | None
    has_finalizer: bool
    spec: MLTrainingRunSpec | None
    spec_error: str
    spec_digest: str
    status: MLTrainingRunStatus
    orphan: bool = False  # spec.deletionPolicy is Orphan; known also where the rest of the spec can not be read
    tracked_by: str | None = None  # Argo CD or Flux: whoever would make the object again if it were deleted


@dataclass(frozen=True, slots=True)
class Limits:
    """How long the operator waits, in seconds. Set by the operator's flags; the reasons stand in its settings."""

    wait_before_stalled: float = 3600.0
    default_attempt_timeout: int = 86_400
    attempt_timeout_grace: float = 60.0
    settle_before_giving_up_search: float = 30.0
    deletion_deadline: float = 900.0
    trouble_before_told: float = 15.0
    identity_may_take: float = 600.0
    collecting_may_take: float = 600.0
    cleaning_may_take: float = 600.0
    unreachable_may_take: float = 86_400.0
    recheck_stalled: float = 60.0
    recheck_waiting: float = 15.0


@dataclass(frozen=True, slots=True)
class Known:
    """Input of `decide`."""

    run: RunSnapshot
    readiness: Ready | Blocked
    observed: Observed
    limits: Limits
    now: datetime
