"""Online endpoints and deployments of the workspace, their machines and quotas; this file does no I/O and never waits.

online_endpoints.py and online_deployments.py change them, online_provisioning.py brings them from state to state,
online_scoring.py sends requests to what is ready.

Quota: `ceil(1.2 * instances)` machines of each deployment, except for sizes that are exempt (Azure documentation,
"Virtual machine quota allocation for deployment" and "Managed online endpoints SKU list"). "Each deployment subtracts
from available quota and adds it back after deletion" ("Troubleshoot online endpoint deployment", CPU quota), so that a
failed one keeps its machines.
"""

from __future__ import annotations

import math
import secrets
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trainyard_sandbox.azure.assets import Author
from trainyard_sandbox.azure.compute_sizes import vm_size
from trainyard_sandbox.serving.traffic import TrafficSplit

if TYPE_CHECKING:
    from trainyard_sandbox.serving.served_model import ServedModel

EXEMPT_SIZES = frozenset(
    {
        "standard_nc24ads_a100_v4",
        "standard_nc96ads_a100_v4",
        "standard_nd96asr_v4",
        "standard_nd40rs_v2",
        "standard_nd96isr_h100_v5",
    }
)
"""Sizes of the sandbox's region that need no fifth more ("Managed online endpoints SKU list", Skip 20% Reservation)."""
SERVING_SIZES = EXEMPT_SIZES | {
    f"standard_{name}"
    for name in (
        *("ds1_v2", "ds2_v2", "ds3_v2", "ds4_v2", "ds5_v2", "e4s_v3", "e8s_v3", "f4s_v2", "f16s_v2"),
        *("nc6s_v3", "nc12s_v3", "nc24s_v3", "nc4as_t4_v3", "nc64as_t4_v3"),
    )
}
"""Sizes of the sandbox's region that managed online endpoints take, from the same list."""
MOVING = frozenset({"Creating", "Updating", "Deleting", "Scaling"})
"""Provisioning states in which the service takes no other change."""

LOG_CHARACTERS = 100_000
"""How much of the end of a log is kept."""

Failure = tuple[str, str]
"""(code, message) of a change that failed."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer at the scoring URI: when (Unix seconds), of which deployment, with which HTTP status; `model_status`
    is what the model's server answered itself, if it was asked."""

    at: float
    deployment: str
    status: int
    model_status: int | None
    seconds: float


@dataclass
class OnlineDeployment:
    """One deployment.

    Args:
        properties: ManagedOnlineDeployment as submitted, without what only the service writes.
        state: DeploymentProvisioningState.
        failure: (code, message) of the last change that failed.
        server: what answers now; None as long as nothing ever did.
        storage_log: what the container that fetches the model said.
        server_log: what the inference server said before there was a server, or instead of one.
    """

    endpoint: str
    name: str
    location: str
    properties: dict[str, Any]
    sku: dict[str, Any]
    author: Author
    created_at: float
    modified_at: float
    tags: dict[str, str] = field(default_factory=dict)
    kind: str = "Managed"
    state: str = "Creating"
    failure: Failure | None = None
    server: ServedModel | None = None
    storage_log: str = ""
    server_log: str = ""
    in_flight: int = 0
    operation: str = ""
    """Address of the last operation on it."""

    @property
    def instances(self) -> int:
        """How many machines were asked for."""
        count: int = self.sku.get("capacity", 1)
        return count

    @property
    def instance_type(self) -> str:
        """Their VM size."""
        size: str = self.properties["instanceType"]
        return size

    def note(self, text: str) -> None:
        """Add to what the inference server printed; only the end is kept."""
        self.server_log = (self.server_log + text)[-LOG_CHARACTERS:]

    @property
    def reserved_cores(self) -> int:
        """vCPUs that it takes of its family's quota."""
        return reserved_cores(self.instance_type, self.instances)

    @property
    def answers(self) -> bool:
        """Whether it can take requests: a version of it has been ready, and it is not being deleted."""
        return self.server is not None and self.state != "Deleting"

    @property
    def most_requests(self) -> int:
        """How many requests it takes at once: "2 * max_concurrent_requests_per_instance * instance_count"
        ("Troubleshoot online endpoint deployment", HTTP status codes); one per instance by default (its YAML
        reference)."""
        settings = self.properties.get("requestSettings") or {}
        each: int = settings.get("maxConcurrentRequestsPerInstance", 1)
        return 2 * each * self.instances


def reserved_cores(instance_type: str, instances: int) -> int:
    """vCPUs that so many machines of a size take of a quota; 0 for a size that is not known."""
    size = vm_size(instance_type)
    if size is None:
        return 0
    exempt = size.name.lower() in EXEMPT_SIZES
    return size.cores * (instances if exempt else math.ceil(instances * 12 / 10))


@dataclass
class OnlineEndpoint:
    """One endpoint.

    Args:
        properties: OnlineEndpointProperties as submitted, without traffic and what only the service writes.
        split: who gets how much now; `properties` of a change under way count once it is done.
        state: EndpointProvisioningState of the endpoint itself; see `shown_state`.
        before: properties, traffic, tags before the last change, for a silent rollback.
    """

    name: str
    location: str
    properties: dict[str, Any]
    author: Author
    created_at: float
    modified_at: float
    identity: dict[str, Any]
    tags: dict[str, str] = field(default_factory=dict)
    kind: str = "Managed"
    state: str = "Creating"
    failure: Failure | None = None
    split: TrafficSplit = field(default_factory=lambda: TrafficSplit({}))
    mirror: dict[str, int] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=lambda: {k: new_key() for k in ("primaryKey", "secondaryKey")})
    deployments: dict[str, OnlineDeployment] = field(default_factory=dict)
    before: dict[str, Any] | None = None
    principal_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    aml_tokens: dict[str, float] = field(default_factory=dict)
    """When each token that the endpoint gave ends, Unix seconds."""
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=200_000))
    """What was answered, oldest first."""
    operation: str = ""
    made: bool = False
    """Whether it was ever there: what failed at first has to be made anew."""
    started: int = 0
    """How many changes were begun; a change that is not the last one any more leaves the endpoint alone."""

    @property
    def traffic(self) -> dict[str, int]:
        """Percentages by deployment, as they are now."""
        return dict(self.split.shares)

    @property
    def shown_state(self) -> str:
        """The state as the API shows it: `Updating` also while a deployment is made, changed or deleted."""
        if self.state not in MOVING and any(one.state in MOVING for one in self.deployments.values()):
            return "Updating"
        return self.state

    @property
    def busy(self) -> bool:
        """Whether a change is under way."""
        return self.shown_state in MOVING

    def deployment(self, name: str) -> OnlineDeployment | None:
        """The deployment of this name, in any case."""
        return next((one for key, one in self.deployments.items() if key.lower() == name.lower()), None)


def new_key() -> str:
    """An endpoint's key."""
    return secrets.token_urlsafe(24)


class OnlineStore:
    """The workspace's endpoints by name, in any case.

    Args:
        now: the sandbox's clock, Unix seconds.

    Attributes:
        taken: names that endpoints of other workspaces of the region have.
        endpoint_limit, deployment_limit: how many there may be in the subscription, and of one endpoint.
        endpoint_seconds: how long an endpoint is Creating or Updating, on its own account.
        delete_seconds: how long a deletion takes.
        metric_delay_seconds: how late Azure Monitor tells of a request.
        busy_status: how a change of something busy is refused, 409 or 400.
        endpoint_failure: what changes of endpoints fail with from now on; "" lets them succeed.
        secrets: values of secret references, such as "azureml://connections/c/credentials/key".
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._endpoints: dict[str, OnlineEndpoint] = {}
        self.taken: set[str] = set()
        self.reset()

    def reset(self) -> None:
        """Limits, delays and secrets as in the beginning."""
        self.endpoint_limit = 100
        self.deployment_limit = 20
        self.endpoint_seconds = 0.0
        self.delete_seconds = 0.0
        self.metric_delay_seconds = 0.0
        self.busy_status = 409
        self.endpoint_failure = ""
        self.secrets: dict[str, str] = {}

    def now(self) -> float:
        """The sandbox's clock."""
        return self._now()

    def get(self, name: str) -> OnlineEndpoint | None:
        """The endpoint of this name."""
        return self._endpoints.get(name.lower())

    def all(self) -> list[OnlineEndpoint]:
        """Every endpoint, oldest first."""
        return list(self._endpoints.values())

    def put(self, endpoint: OnlineEndpoint) -> None:
        """Add an endpoint."""
        self._endpoints[endpoint.name.lower()] = endpoint

    def remove(self, name: str) -> None:
        """Take an endpoint away."""
        self._endpoints.pop(name.lower(), None)

    def deployments(self) -> list[OnlineDeployment]:
        """Every deployment of every endpoint."""
        return [one for endpoint in self.all() for one in endpoint.deployments.values()]

    def reserved_by_family(self) -> Mapping[str, int]:
        """vCPUs that deployments take, by the quota's name."""
        found: dict[str, int] = {}
        for one in self.deployments():
            size = vm_size(one.instance_type)
            if size is not None:
                found[size.family] = found.get(size.family, 0) + one.reserved_cores
        return found
