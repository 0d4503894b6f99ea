"""Who exists in the sandbox's workspace and what each may do; changed by the control API only.

auth.py, oidc.py and all platform modules read it. Nothing on the platform's own host can change it.

Terms as in Databricks' documentation, "Manage entitlements", "Unity Catalog privileges and securable objects" and
"Configure a federation policy".
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from trainyard_sandbox.errors import not_found

ENTITLEMENTS = (
    "workspace-access",
    "allow-cluster-create",
    "allow-instance-pool-create",
    "databricks-sql-access",
    "workspace-consume",
)
"""Databricks documentation, "Manage entitlements"; names as in the SCIM API."""

MAX_FEDERATION_POLICIES = 20
"""Per service principal (Databricks documentation, "Configure a federation policy")."""


@dataclass
class Principal:
    """A service principal assigned to the workspace.

    Args:
        application_id: its client id, a UUID; what `client_id` names in a token exchange.
        display_name: for people.
        scim_id: the numeric id of SCIM.
        workspace_access: assigned to this workspace at all; without it every call is refused.
        entitlements: see `ENTITLEMENTS`.
        groups: workspace groups; "users" always, "admins" makes a workspace admin.
        grants: Unity Catalog full name ("main", "main.ml", "main.ml.iris") to privileges.
        usable_service_principals: application ids on which it has the role Service Principal User (`run_as`).
    """

    application_id: str
    display_name: str
    scim_id: str
    workspace_access: bool = True
    entitlements: set[str] = field(default_factory=lambda: {"workspace-access"})
    groups: set[str] = field(default_factory=lambda: {"users"})
    grants: dict[str, set[str]] = field(default_factory=dict)
    usable_service_principals: set[str] = field(default_factory=set)

    @property
    def is_admin(self) -> bool:
        """Member of the workspace's admins."""
        return "admins" in self.groups


@dataclass(frozen=True)
class FederationPolicy:
    """Which assertions are accepted: for one service principal, or account-wide when `application_id` is None.

    `subject` is compared with the claim named `subject_claim`; an account-wide policy has no subject, there the claim
    itself names the principal (Databricks documentation, "Configure a federation policy").
    """

    issuer: str
    audiences: tuple[str, ...]
    application_id: str | None
    subject: str | None
    subject_claim: str = "sub"
    policy_id: str = field(default_factory=lambda: str(uuid.uuid4()))


class Directory:
    """Service principals, users and groups by name, with the federation policies."""

    def __init__(self) -> None:
        self._principals: dict[str, Principal] = {}
        self.users: set[str] = set()
        self.groups: set[str] = {"users", "admins"}
        self.policies: list[FederationPolicy] = []

    def add(self, principal: Principal) -> None:
        """Add or replace a principal, with the groups it names."""
        self._principals[principal.application_id] = principal
        self.groups |= principal.groups

    def get(self, application_id: str) -> Principal | None:
        """The principal with this application id."""
        return self._principals.get(application_id)

    def require(self, application_id: str) -> Principal:
        """The principal with this application id, or 404 as the platform says it."""
        principal = self.get(application_id)
        if principal is None:
            raise not_found(f"Principal: ServicePrincipalName({application_id}) does not exist")
        return principal

    def remove(self, application_id: str) -> None:
        """Delete a principal with its policies."""
        self._principals.pop(application_id, None)
        self.policies = [policy for policy in self.policies if policy.application_id != application_id]

    def all(self) -> list[Principal]:
        """Every principal, in the order they were added."""
        return list(self._principals.values())
