"""What a workspace computes with: node types, runtimes, clusters, pools, cluster policies; no HTTP, no processes.

databricks/{clusters,pools,policies}.py serve it, databricks/jobs_submit.py judges submissions with it, the engines
start clusters in it. `Compute` is what hangs on the sandbox's state.
"""

from __future__ import annotations

from collections.abc import Callable

from trainyard_sandbox.compute.clusters import ClusterStore
from trainyard_sandbox.compute.policies import PolicyStore
from trainyard_sandbox.compute.pools import PoolStore


class Compute:
    """All compute of one sandbox's workspace.

    Args:
        now: the sandbox's clock, Unix seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.clusters = ClusterStore(now)
        self.pools = PoolStore()
        self.policies = PolicyStore(now)
        self.instance_profiles: set[str] = set()
        """ARNs that an administrator has added to the workspace (the control API does)."""
        self.budget_policies: set[str] = set()
        """Ids of the account's budget (usage) policies (the control API adds them)."""
