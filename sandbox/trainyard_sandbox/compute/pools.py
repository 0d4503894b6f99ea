"""Instance pools: idle machines that clusters take their nodes from.

databricks/pools.py serves them; cluster_spec.py asks whether a pool exists and may be used. Counting the machines of a
pool is not attempted: its statistics are always zero.

Read in: databricks-sdk `service/compute.py` InstancePoolsAPI, InstancePoolAndStats.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from trainyard_sandbox.compute.rights import POOL_ATTACH, POOL_MANAGE, give, holds
from trainyard_sandbox.errors import already_exists, invalid_parameter, not_found, permission_denied
from trainyard_sandbox.principals import Principal


@dataclass(frozen=True)
class Pool:
    """One pool; `spec` is the request that made it."""

    pool_id: str
    spec: dict[str, Any]
    creator: str

    @property
    def node_type_id(self) -> str:
        """The kind of its machines."""
        node_type: str = self.spec["node_type_id"]
        return node_type

    def shown(self) -> dict[str, Any]:
        """As instance-pools/get shows it."""
        name = self.spec["instance_pool_name"]
        tags = {
            "Vendor": "Databricks",
            "InstancePoolCreator": self.creator,
            "InstancePoolName": name,
            "InstancePoolId": self.pool_id,
        }
        stats = {"used_count": 0, "idle_count": 0, "pending_used_count": 0, "pending_idle_count": 0}
        return {
            **self.spec,
            "instance_pool_id": self.pool_id,
            "default_tags": tags,
            "state": "ACTIVE",
            "stats": stats,
            "status": {},
        }


class PoolStore:
    """All pools of the workspace."""

    def __init__(self) -> None:
        self._pools: dict[str, Pool] = {}

    def create(self, spec: dict[str, Any], principal: Principal) -> Pool:
        """A new pool; its creator may manage it."""
        if not principal.is_entitled("allow-instance-pool-create"):
            raise permission_denied("You are not authorized to create instance pools.")
        if any(pool.spec["instance_pool_name"] == spec["instance_pool_name"] for pool in self._pools.values()):
            raise already_exists(f"An instance pool named '{spec['instance_pool_name']}' exists already.")
        pool_id = f"{secrets.randbelow(10**4):04}-{secrets.randbelow(10**6):06}-pool-{secrets.token_hex(4)}"
        pool = Pool(pool_id, spec, principal.application_id)
        self._pools[pool_id] = pool
        give(principal, f"instance-pools/{pool_id}", "CAN_MANAGE")
        return pool

    def get(self, pool_id: str) -> Pool:
        """The pool.

        Raises:
            ApiError: 404.
        """
        pool = self._pools.get(pool_id)
        if pool is None:
            raise not_found(f"Instance pool {pool_id} does not exist")
        return pool

    def visible(self, principal: Principal) -> list[Pool]:
        """The pools that the principal may attach to."""
        return [p for p in self._pools.values() if holds(principal, f"instance-pools/{p.pool_id}", POOL_ATTACH)]

    def attachable(self, pool_id: str, principal: Principal) -> Pool:
        """The pool for a cluster's nodes.

        Raises:
            ApiError: 400 when there is none, 403 when the principal may not attach to it.
        """
        pool = self._pools.get(pool_id)
        if pool is None:
            raise invalid_parameter(f"Instance pool {pool_id} does not exist")
        self.require(principal, pool, POOL_ATTACH, "Attach To")
        return pool

    def require(self, principal: Principal, pool: Pool, levels: frozenset[str], action: str) -> None:
        """403 unless the principal holds one of the levels on the pool."""
        if not holds(principal, f"instance-pools/{pool.pool_id}", levels):
            raise permission_denied(
                f"{principal.application_id} does not have {action} permissions on instance pool {pool.pool_id}."
            )

    def delete(self, pool_id: str, principal: Principal) -> None:
        """Delete a pool (InstancePoolsAPI.delete)."""
        self.require(principal, self.get(pool_id), POOL_MANAGE, "Manage")
        del self._pools[pool_id]
