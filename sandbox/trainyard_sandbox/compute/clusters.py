"""Clusters and their states: everything that affects a cluster's state lives here, and this file does no I/O.

databricks/clusters.py serves them, the engines launch one for each task with `new_cluster` and start existing ones. A
cluster is only a state: what runs "on" it is a subprocess of the run engine's. States follow the clock when somebody
looks, so that thousands of job clusters need no timer.

Read in: databricks-sdk `service/compute.py` State (allowed transitions), ClusterDetails, TerminationReason and its
enums; types of termination codes as seen in public issues: AZURE_QUOTA_EXCEEDED_EXCEPTION(CLIENT_ERROR) in
databricks-industry-solutions/pixels#24, SECRET_RESOLUTION_ERROR (SERVICE_FAULT) in
microsoft/Purview-ADB-Lineage-Solution-Accelerator#76, INIT_SCRIPT_FAILURE (CLIENT_ERROR) in
databricks/terraform-provider-databricks#2976; the others follow their names.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trainyard_sandbox.compute.rights import CLUSTER_ATTACH, give, holds
from trainyard_sandbox.errors import ApiError, invalid_parameter, permission_denied
from trainyard_sandbox.principals import Principal

TERMINATION_TYPES = ("SUCCESS", "CLIENT_ERROR", "SERVICE_FAULT", "CLOUD_FAILURE")
_TYPE_OF_CODE = {
    "AZURE_QUOTA_EXCEEDED_EXCEPTION": "CLIENT_ERROR",
    "AWS_RESOURCE_QUOTA_EXCEEDED": "CLIENT_ERROR",
    "AWS_MAX_SPOT_INSTANCE_COUNT_EXCEEDED_FAILURE": "CLIENT_ERROR",
    "GCP_QUOTA_EXCEEDED": "CLIENT_ERROR",
    "INIT_SCRIPT_FAILURE": "CLIENT_ERROR",
    "INSTANCE_POOL_MAX_CAPACITY_REACHED": "CLIENT_ERROR",
    "INVALID_ARGUMENT": "CLIENT_ERROR",
    "SECRET_PERMISSION_DENIED": "CLIENT_ERROR",
    "SECRET_RESOLUTION_ERROR": "SERVICE_FAULT",
    "INTERNAL_ERROR": "SERVICE_FAULT",
    "DRIVER_UNREACHABLE": "SERVICE_FAULT",
    "SELF_BOOTSTRAP_FAILURE": "SERVICE_FAULT",
}
SPOT_WITHOUT_FALLBACK = frozenset({"SPOT", "SPOT_AZURE", "PREEMPTIBLE_GCP"})


@dataclass(frozen=True)
class Termination:
    """Why a cluster ended."""

    code: str
    type: str
    parameters: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, code: str, kind: str | None = None, parameters: dict[str, str] | None = None) -> Termination:
        """A termination whose type, unless given, is the one that the platform gives with the code."""
        return cls(code, kind or _TYPE_OF_CODE.get(code, "CLOUD_FAILURE"), parameters or {})

    @property
    def sentence(self) -> str:
        """The state message, worded as in databricks-industry-solutions/pixels#24."""
        details = ",".join(f"{key}:{value}" for key, value in self.parameters.items())
        return f"{self.code}({self.type}): {details}"


@dataclass
class StartFailure:
    """What the control API has the next cluster starts fail with.

    Args:
        times: for how many starts; None for all.
        run_name: only clusters of runs whose name this regular expression matches wholly.
        spot_only: only clusters that ask for spot machines without falling back to on-demand ones.
    """

    termination: Termination
    times: int | None = 1
    run_name: str | None = None
    spot_only: bool = False

    def matches(self, spec: dict[str, Any], run_name: str) -> bool:
        """Whether it is for this start."""
        if self.times == 0 or (self.spot_only and not asks_for_spot(spec)):
            return False
        return self.run_name is None or re.fullmatch(self.run_name, run_name) is not None


@dataclass
class Cluster:
    """One cluster. `ready_at` and `gone_at` are seconds of the monotonic clock."""

    cluster_id: str
    spec: dict[str, Any]
    creator: str
    source: str
    start_time: int
    ready_at: float
    doom: Termination | None = None
    termination: Termination | None = None
    gone_at: float = 0.0
    error: str | None = None
    terminated_time: int = 0
    tenants: dict[int, Callable[[Termination], None]] = field(default_factory=dict)
    """Task runs on it, and what to call when it goes away under them."""

    def state(self, clock: float) -> str:
        """Its state at this time of the monotonic clock."""
        if self.error is not None:
            return "ERROR"
        if self.termination is not None:
            return "TERMINATED" if clock >= self.gone_at else "TERMINATING"
        if clock < self.ready_at:
            return "PENDING"
        return "RUNNING" if self.doom is None else "TERMINATED"

    @property
    def reason(self) -> Termination | None:
        """Why it is terminated, if it is or will be."""
        return self.termination or self.doom


def asks_for_spot(spec: dict[str, Any]) -> bool:
    """Whether a specification takes spot machines or none."""
    attributes = ("aws_attributes", "azure_attributes", "gcp_attributes")
    return any(spec.get(name, {}).get("availability") in SPOT_WITHOUT_FALLBACK for name in attributes)


class ClusterStore:
    """All clusters of the workspace.

    Args:
        now: the sandbox's clock, Unix seconds.
    """

    start_seconds = 0.05
    """How long a cluster is PENDING; minutes on the platform. The control API changes it."""
    stop_seconds = 0.05

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._clusters: dict[str, Cluster] = {}
        self.failures: list[StartFailure] = []

    def create(self, spec: dict[str, Any], principal: Principal) -> Cluster:
        """An all-purpose cluster, starting; its creator may manage it."""
        cluster = self.launch(spec, principal.application_id, "API", "")
        give(principal, f"clusters/{cluster.cluster_id}", "CAN_MANAGE")
        return cluster

    def launch(self, spec: dict[str, Any], creator: str, source: str, run_name: str) -> Cluster:
        """A cluster, starting; a planned failure is taken now and shows when it would be ready."""
        stamp = time.strftime("%m%d-%H%M%S", time.gmtime(self._now()))
        cluster_id = f"{stamp}-{secrets.token_hex(4)}"
        cluster = Cluster(cluster_id, spec, creator, source, int(self._now() * 1000), 0.0)
        self._clusters[cluster_id] = cluster
        self._begin(cluster, run_name)
        return cluster

    def start(self, cluster: Cluster, run_name: str = "") -> None:
        """Start a terminated cluster; nothing happens in any other state (ClustersAPI.start)."""
        if self.state(cluster) != "TERMINATED":
            return
        if cluster.source == "JOB":
            raise invalid_parameter(f"Cluster {cluster.cluster_id} was launched to run a job and cannot be started.")
        cluster.termination = cluster.doom = None
        cluster.start_time, cluster.terminated_time = int(self._now() * 1000), 0
        self._begin(cluster, run_name)

    def _begin(self, cluster: Cluster, run_name: str) -> None:
        cluster.ready_at = time.monotonic() + self.start_seconds
        for failure in self.failures:
            if failure.matches(cluster.spec, run_name):
                if failure.times is not None:
                    failure.times -= 1
                cluster.doom = failure.termination
                return

    def terminate(self, cluster: Cluster, termination: Termination) -> None:
        """Terminate it, and tell whatever runs on it; nothing happens when it is terminated (ClustersAPI.delete)."""
        if self.state(cluster) in ("TERMINATING", "TERMINATED"):
            return
        cluster.error = None
        cluster.termination = termination
        cluster.terminated_time = int(self._now() * 1000)
        cluster.gone_at = time.monotonic() + self.stop_seconds
        for tell in list(cluster.tenants.values()):
            tell(termination)

    def break_down(self, cluster: Cluster, message: str) -> None:
        """Bring it into ERROR, as the control API asks."""
        cluster.error = message
        for tell in list(cluster.tenants.values()):
            tell(Termination.of("INTERNAL_ERROR", None, {"databricks_error_message": message}))

    def state(self, cluster: Cluster) -> str:
        """Its state now."""
        return cluster.state(time.monotonic())

    def seconds_to_wait(self, cluster: Cluster) -> float:
        """How long it will still be PENDING."""
        return max(0.0, cluster.ready_at - time.monotonic())

    def find(self, cluster_id: str) -> Cluster | None:
        """The cluster, if there is one."""
        return self._clusters.get(cluster_id)

    def get(self, cluster_id: str) -> Cluster:
        """The cluster.

        Raises:
            ApiError: 400, worded as in databrickslabs/ucx#2930.
        """
        cluster = self.find(cluster_id)
        if cluster is None:
            raise no_such_cluster(cluster_id)
        return cluster

    def attachable(self, cluster_id: str, principal: Principal) -> Cluster:
        """The cluster for a task with `existing_cluster_id`.

        Raises:
            ApiError: 400 when there is none or it is a job's; 403 when the principal may not attach to it.
        """
        cluster = self.get(cluster_id)
        self.require(principal, cluster, CLUSTER_ATTACH, "Attach")
        if cluster.source == "JOB":
            # databricks/databricks-sdk-py#744
            raise invalid_parameter("existing_cluster_id only supports all-purpose cluster IDs")
        if cluster.spec.get("workload_type", {}).get("clients", {}).get("jobs") is False:
            # ClientsTypes.jobs: "With jobs set, the cluster can be used for jobs"
            raise invalid_parameter(f"Cluster {cluster_id} cannot be used for jobs.")
        return cluster

    def require(self, principal: Principal, cluster: Cluster, levels: frozenset[str], action: str) -> None:
        """403 unless the principal holds one of the levels on the cluster; the one a job cluster runs as may see it."""
        mine = cluster.source == "JOB" and cluster.creator == principal.application_id
        if not mine and not holds(principal, f"clusters/{cluster.cluster_id}", levels):
            raise permission_denied(
                f"{principal.application_id} does not have {action} permissions on {cluster.cluster_id}. "
                "Please contact the owner or an administrator for access."
            )

    def visible(self, principal: Principal) -> list[Cluster]:
        """The clusters that the principal may attach to, newest first."""
        return [
            cluster
            for cluster in reversed(self._clusters.values())
            if (cluster.source == "JOB" and cluster.creator == principal.application_id)
            or holds(principal, f"clusters/{cluster.cluster_id}", CLUSTER_ATTACH)
        ]

    def forget(self, cluster: Cluster) -> None:
        """Delete it for good."""
        self._clusters.pop(cluster.cluster_id, None)


def no_such_cluster(cluster_id: str) -> ApiError:
    """400: databricks-sdk `errors/overrides.py` expects this status and sentence."""
    return invalid_parameter(f"Cluster {cluster_id} does not exist")
