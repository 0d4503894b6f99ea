"""Whether a principal holds a permission level on a workspace object.

The compute modules and jobs ask it. Levels are kept as grants of principals and groups, under the object's name in the
permissions API, for example `clusters/1123-040102-abcdefgh`; workspace admins hold every level (Databricks
documentation, "Access control lists").
"""

from __future__ import annotations

from trainyard_sandbox.principals import Principal

CLUSTER_ATTACH = frozenset({"CAN_ATTACH_TO", "CAN_RESTART", "CAN_MANAGE"})
CLUSTER_RESTART = frozenset({"CAN_RESTART", "CAN_MANAGE"})
CLUSTER_MANAGE = frozenset({"CAN_MANAGE"})
POOL_ATTACH = frozenset({"CAN_ATTACH_TO", "CAN_MANAGE"})
POOL_MANAGE = frozenset({"CAN_MANAGE"})
POLICY_USE = frozenset({"CAN_USE"})
JOB_VIEW = frozenset({"CAN_VIEW", "CAN_MANAGE_RUN", "CAN_MANAGE", "IS_OWNER"})
JOB_MANAGE_RUN = frozenset({"CAN_MANAGE_RUN", "CAN_MANAGE", "IS_OWNER"})
JOB_MANAGE = frozenset({"CAN_MANAGE", "IS_OWNER"})


def holds(principal: Principal, securable: str, levels: frozenset[str]) -> bool:
    """Whether the principal has one of the levels on the object."""
    return principal.is_admin or bool(principal.held(securable) & levels)


def give(principal: Principal, securable: str, level: str) -> None:
    """Grant a level: what its creator gets on a new object."""
    principal.grants.setdefault(securable, set()).add(level)
