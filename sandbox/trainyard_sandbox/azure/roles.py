"""Azure role-based access control: built-in roles and what an assignment permits; no I/O.

principals.py keeps the assignments, arm.py and storage ask `permits`.

Role definitions: Azure documentation, "Azure built-in roles" (sections AI + machine learning, General, Storage). A `*`
in an operation stands for any characters; NotActions take away only from their own role ("Understand Azure role
definitions"). Roles are inherited from a scope to everything below it ("Understand scope for Azure RBAC").
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

ML = "Microsoft.MachineLearningServices"
_BLOBS = "Microsoft.Storage/storageAccounts/blobServices"


@dataclass(frozen=True)
class Role:
    """A role definition: management operations and data operations, as patterns."""

    actions: tuple[str, ...] = ()
    not_actions: tuple[str, ...] = ()
    data_actions: tuple[str, ...] = ()

    def permits(self, action: str, *, data: bool = False) -> bool:
        """Whether this role permits one operation."""
        if data:
            return any(_matches(pattern, action) for pattern in self.data_actions)
        if any(_matches(pattern, action) for pattern in self.not_actions):
            return False
        return any(_matches(pattern, action) for pattern in self.actions)


ROLES = {
    "Owner": Role(actions=("*",)),
    "Contributor": Role(
        actions=("*",),
        not_actions=(
            "Microsoft.Authorization/*/Delete",
            "Microsoft.Authorization/*/Write",
            "Microsoft.Authorization/elevateAccess/Action",
        ),
    ),
    "Reader": Role(actions=("*/read",)),
    "Monitoring Reader": Role(
        actions=("*/read", "Microsoft.OperationalInsights/workspaces/search/action", "Microsoft.Support/*"),
    ),
    "AzureML Data Scientist": Role(
        actions=tuple(f"{ML}/workspaces/*/{verb}" for verb in ("read", "action", "delete", "write")),
        not_actions=(
            f"{ML}/workspaces/delete",
            f"{ML}/workspaces/write",
            f"{ML}/workspaces/computes/*/write",
            f"{ML}/workspaces/computes/*/delete",
            f"{ML}/workspaces/computes/listKeys/action",
            f"{ML}/workspaces/listKeys/action",
            f"{ML}/workspaces/hubs/write",
            f"{ML}/workspaces/hubs/delete",
            f"{ML}/workspaces/featurestores/write",
            f"{ML}/workspaces/featurestores/delete",
        ),
    ),
    "AzureML Compute Operator": Role(
        actions=(f"{ML}/workspaces/computes/*", f"{ML}/workspaces/notebooks/vm/*"),
    ),
    "Azure Machine Learning Workspace Connection Secrets Reader": Role(
        actions=(f"{ML}/workspaces/connections/listsecrets/action", f"{ML}/workspaces/metadata/secrets/read"),
    ),
    "Storage Blob Data Contributor": Role(
        actions=tuple(
            f"{_BLOBS}/{verb}"
            for verb in ("containers/delete", "containers/read", "containers/write", "generateUserDelegationKey/action")
        ),
        data_actions=tuple(
            f"{_BLOBS}/containers/blobs/{verb}" for verb in ("delete", "read", "write", "move/action", "add/action")
        ),
    ),
    "Storage Blob Data Reader": Role(
        actions=(f"{_BLOBS}/containers/read", f"{_BLOBS}/generateUserDelegationKey/action"),
        data_actions=(f"{_BLOBS}/containers/blobs/read",),
    ),
}


@dataclass(frozen=True)
class RoleAssignment:
    """A role on a scope: a resource id such as `/subscriptions/S/resourceGroups/G`, or "/" for all.

    `custom` is the definition of a role that is not built in ("Azure custom roles").
    """

    role: str
    scope: str
    custom: Role | None = None

    @property
    def definition(self) -> Role:
        """What the role permits."""
        return self.custom or ROLES[self.role]

    def covers(self, scope: str) -> bool:
        """Whether the scope is this one or below it; resource ids are compared without regard to case."""
        mine, other = self.scope.rstrip("/").lower(), scope.rstrip("/").lower()
        return other == mine or other.startswith(mine + "/")


def permits(assignments: Iterable[RoleAssignment], action: str, scope: str, *, data: bool = False) -> bool:
    """Whether any of the assignments permits the action on the scope."""
    return any(given.covers(scope) and given.definition.permits(action, data=data) for given in assignments)


@cache
def _pattern(pattern: str) -> re.Pattern[str]:
    # "workspaces/*/read" also stands for "workspaces/read": the role AzureML Data Scientist has no other grant of it,
    # takes "workspaces/write" back from "workspaces/*/write", and its holders can open the workspace.
    text = re.escape(pattern).replace(r"/\*/", "/(?:.*/)?").replace(r"\*", ".*")
    return re.compile(text, re.IGNORECASE)


def _matches(pattern: str, action: str) -> bool:
    return _pattern(pattern).fullmatch(action) is not None
