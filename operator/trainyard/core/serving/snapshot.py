"""Input of the decision on a deployment. Frozen; no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from trainyard.api.model_deployment import ModelDeploymentSpec, ModelDeploymentStatus
from trainyard.core.serving.seen import ResolvedModel, ServingObserved
from trainyard.core.snapshot import Blocked, Target

ENDPOINT_FINALIZER = "trainyard.dev/endpoint"


@dataclass(frozen=True, slots=True)
class DeploymentSnapshot:
    """A ModelDeployment as the API server last showed it. Where `spec` can not be read, `spec_error` says why."""

    namespace: str
    name: str
    uid: str
    generation: int
    created_at: datetime
    deleting_since: datetime | None
    has_finalizer: bool
    spec: ModelDeploymentSpec | None
    spec_error: str
    status: ModelDeploymentStatus
    orphan: bool = False  # spec.deletionPolicy is Orphan; known also where the rest of the spec can not be read


@dataclass(frozen=True, slots=True)
class ServingReady:
    """Everything that the newest revision needs is there.

    `models` holds what each of spec.models stands for now, by its name: alias and run looked up (an alias that is not
    followed, and a run, only where `status.target` does not hold the answer for the same source already: see
    `core.serving.resolving`). `endpoint` is the endpoint's name. `cluster` is what this cluster is called.
    """

    target: Target
    endpoint: str
    models: Mapping[str, ResolvedModel]
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class ServingLimits:
    """How long the operator waits, in seconds. Set by the operator's flags; the reasons stand in its settings."""

    poll: float = 10.0  # between looks while something moves
    recheck_served: float = 60.0  # between looks at an endpoint that is as it should be
    wait_before_stalled: float = 3600.0
    ready_within: float = 3600.0  # spec.rollout.readyWithinSeconds
    deletion_deadline: float = 900.0
    logs_may_take: float = 120.0  # those of what failed, before it is removed without them
    trouble_before_told: float = 15.0
    recheck_stalled: float = 60.0
    recheck_waiting: float = 15.0


@dataclass(frozen=True, slots=True)
class DeploymentKnown:
    """Input of `decide_deployment`."""

    deployment: DeploymentSnapshot
    readiness: ServingReady | Blocked
    observed: ServingObserved
    limits: ServingLimits
    now: datetime
