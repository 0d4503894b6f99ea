"""The workspace's computes, and which jobs have which machines; this file does no I/O and never waits.

computes.py changes computes, the engines ask `Machines` for nodes. A job that does not fit stays in the queue, first
come, first served (Azure Machine Learning documentation, "Manage and increase quotas": "jobs are queued"; azure-ai-ml
`_enums.py`, JobStatus.QUEUED).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trainyard_sandbox.azure.compute_sizes import SERVERLESS_DEFAULT, vm_size

SERVERLESS = "serverless"
PROVISIONING_STATES = ("Unknown", "Updating", "Creating", "Deleting", "Succeeded", "Failed", "Canceled")
"""azure-ai-ml `_enums.py`, ComputeProvisioningState."""


@dataclass
class AzureCompute:
    """One compute.

    Args:
        properties: the inner properties as submitted (AMLComputeProperties and the like).
        settled_at: until then (Unix seconds) it is `Creating` or `Updating`; then `settles_to`.
        errors: what went wrong while it was provisioned, as (code, message).
    """

    name: str
    compute_type: str
    location: str
    properties: dict[str, Any]
    created_at: float
    modified_at: float
    settled_at: float
    settles_to: str = "Succeeded"
    until_settled: str = "Creating"
    description: str | None = None
    resource_id: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    identity: dict[str, Any] | None = None
    errors: list[tuple[str, str]] = field(default_factory=list)

    def provisioning_state(self, now: float) -> str:
        """Its state at a time."""
        return self.settles_to if now >= self.settled_at else self.until_settled

    @property
    def maximum_nodes(self) -> int | None:
        """How many nodes it may have at most; None when nothing limits it."""
        if self.compute_type == "ComputeInstance":
            return 1
        maximum: int | None = (self.properties.get("scaleSettings") or {}).get("maxNodeCount")
        return maximum

    @property
    def low_priority(self) -> bool:
        """Whether its machines may be taken away."""
        return self.properties.get("vmPriority") == "LowPriority"


@dataclass
class _Claim:
    job: str
    nodes: int
    granted: Callable[[], None]


class NodePool:
    """Nodes of one compute, or serverless vCPUs.

    Args:
        capacity: how many there are now; None for no limit.
    """

    def __init__(self, capacity: Callable[[], int | None]) -> None:
        self._capacity = capacity
        self._held: dict[str, int] = {}
        self._waiting: list[_Claim] = []

    @property
    def in_use(self) -> int:
        """How many are taken."""
        return sum(self._held.values())

    @property
    def jobs(self) -> list[str]:
        """Names of the jobs that hold some."""
        return list(self._held)

    def claim(self, job: str, nodes: int, granted: Callable[[], None]) -> None:
        """Ask for nodes; `granted` is called once they are there, at once if they are."""
        self._waiting.append(_Claim(job, nodes, granted))
        self.serve()

    def release(self, job: str) -> None:
        """Give back what a job holds or waits for."""
        self._waiting = [claim for claim in self._waiting if claim.job != job]
        self._held.pop(job, None)
        self.serve()

    def serve(self) -> None:
        """Give nodes to those who wait, in their order."""
        while self._waiting:
            claim, capacity = self._waiting[0], self._capacity()
            if capacity is not None and self.in_use + claim.nodes > capacity:
                return
            self._waiting.pop(0)
            self._held[claim.job] = claim.nodes
            claim.granted()


class ComputeStore:
    """Computes by name, in any case, and the machines that jobs hold.

    Args:
        now: the sandbox's clock, Unix seconds.

    Attributes:
        provisioning_seconds: how long a compute is Creating or Updating.
        node_start_seconds: how long a node takes to start; its job is still Queued.
        serverless_cores: vCPU quota of serverless compute; None for no limit.
        family_cores: vCPU quotas of families as the region tells them; only told, nothing waits for them.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._computes: dict[str, AzureCompute] = {}
        self._pools: dict[str, NodePool] = {SERVERLESS: NodePool(lambda: self.serverless_cores)}
        self.provisioning_seconds = 0.0
        self.node_start_seconds = 0.0
        self.serverless_cores: int | None = None
        self.family_cores: dict[str, int] = {}

    def now(self) -> float:
        """The sandbox's clock."""
        return self._now()

    def get(self, name: str) -> AzureCompute | None:
        """The compute with this name."""
        return self._computes.get(name.lower())

    def all(self) -> list[AzureCompute]:
        """Every compute, oldest first."""
        return list(self._computes.values())

    def put(self, compute: AzureCompute) -> None:
        """Add or replace a compute; jobs that wait for nodes may get them."""
        key = compute.name.lower()
        self._computes[key] = compute
        self._pools.setdefault(key, NodePool(lambda: self._capacity(key))).serve()

    def delete(self, name: str) -> list[str]:
        """Remove a compute; returns the names of the jobs that held nodes of it."""
        self._computes.pop(name.lower(), None)
        pool = self._pools.pop(name.lower(), None)
        return pool.jobs if pool else []

    def pool(self, name: str) -> NodePool | None:
        """The nodes of a compute, or serverless vCPUs."""
        return self._pools.get(name.lower())

    def claim(self, job: str, compute: str, instances: int, size: str | None, granted: Callable[[], None]) -> bool:
        """Ask for machines for a job; False when the compute is gone.

        Args:
            compute: its name, or `SERVERLESS`.
            instances: how many machines.
            size: the VM size of a serverless job; None for the default.
        """
        pool = self.pool(compute)
        if pool is None:
            return False
        each = (vm_size(size) if size else None) or SERVERLESS_DEFAULT
        pool.claim(job, instances * each.cores if compute == SERVERLESS else instances, granted)
        return True

    def release(self, job: str, compute: str) -> None:
        """Give back the machines of a job."""
        pool = self.pool(compute)
        if pool is not None:
            pool.release(job)

    def serve(self) -> None:
        """Look again at who waits: a quota has changed."""
        for pool in list(self._pools.values()):
            pool.serve()

    def _capacity(self, key: str) -> int | None:
        compute = self._computes.get(key)
        if compute is None or compute.provisioning_state(self._now()) not in ("Succeeded", "Updating"):
            return 0
        return compute.maximum_nodes
