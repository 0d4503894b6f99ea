"""Who exists in the sandbox's workspace and what each may do; changed by the control API only.

auth.py, oidc.py and all platform modules read it. Nothing on the platform's own host can change it.

Terms as in Databricks' documentation, "Manage entitlements", "Unity Catalog privileges and securable objects" and
"Configure a federation policy".
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

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


SERVICE_PRINCIPAL_USER = "roles/servicePrincipal.user"
SERVICE_PRINCIPAL_MANAGER = "roles/servicePrincipal.manager"
"""Databricks documentation, "Roles for managing service principals"; names as in rule sets."""

_SERVICE_PRINCIPALS = "servicePrincipals/"

IdentityKind = Literal["service_principal", "user", "group"]


def new_scim_id() -> str:
    """A numeric id such as SCIM gives."""
    return str(10**15 + secrets.randbelow(9 * 10**15))


def normal_privilege(securable: str, privilege: str) -> str:
    """How a grant is kept: Unity Catalog privileges in capitals with spaces, levels and roles as they are.

    What is not in Unity Catalog has a slash in its name: a workspace path, `clusters/<id>`, `servicePrincipals/<id>`.
    """
    return privilege if "/" in securable else privilege.upper().replace("_", " ")


@dataclass
class NamedIdentity:
    """A user or a group: it can be granted things; a group passes them on to its members. Groups never sign in."""

    kind: IdentityKind
    name: str
    scim_id: str = field(default_factory=new_scim_id)
    entitlements: set[str] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    grants: dict[str, set[str]] = field(default_factory=dict)


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
        grants: what it was granted itself, by name: Unity Catalog privileges by full name ("main", "main.ml.iris"),
            permission levels by workspace path ("/Shared/x") or by type and id ("clusters/<id>"), roles by
            "servicePrincipals/<application id>". Ask `held` and `all_grants`, which count its groups' as well.
        directory: where its groups are; set by `Directory.add`.
    """

    application_id: str
    display_name: str
    scim_id: str
    workspace_access: bool = True
    entitlements: set[str] = field(default_factory=lambda: {"workspace-access"})
    groups: set[str] = field(default_factory=lambda: {"users"})
    grants: dict[str, set[str]] = field(default_factory=dict)
    directory: Directory | None = field(default=None, repr=False, compare=False)
    kind: IdentityKind = "service_principal"

    @property
    def name(self) -> str:
        """How grants and access control lists name it."""
        return self.application_id

    @property
    def is_admin(self) -> bool:
        """Member of the workspace's admins."""
        return "admins" in self.groups

    @property
    def usable_service_principals(self) -> set[str]:
        """Application ids on which it has the role Service Principal User, which `run_as` needs."""
        return {
            securable.removeprefix(_SERVICE_PRINCIPALS)
            for securable, roles in self.all_grants()
            if securable.startswith(_SERVICE_PRINCIPALS) and SERVICE_PRINCIPAL_USER in roles
        }

    def use_service_principals(self, application_ids: set[str]) -> None:
        """Have the role Service Principal User, granted to itself, on exactly these."""
        for securable in [name for name in self.grants if name.startswith(_SERVICE_PRINCIPALS)]:
            self.grants[securable].discard(SERVICE_PRINCIPAL_USER)
        for application_id in application_ids:
            self.grants.setdefault(_SERVICE_PRINCIPALS + application_id, set()).add(SERVICE_PRINCIPAL_USER)

    def is_entitled(self, entitlement: str) -> bool:
        """Whether it has the entitlement itself, through a group, or as an admin.

        Databricks documentation, "Manage entitlements": members inherit the entitlements of their groups; the admins
        group has all of them.
        """
        return self.is_admin or any(entitlement in identity.entitlements for identity in self._counting())

    def all_grants(self) -> Iterator[tuple[str, set[str]]]:
        """Every grant that counts for it: its own, then those of each of its groups."""
        for identity in self._counting():
            yield from identity.grants.items()

    def names(self) -> set[str]:
        """Its own name and those of all its groups."""
        return {identity.name for identity in self._counting()}

    def held(self, securable: str) -> set[str]:
        """What it was granted on exactly this name, itself or through its groups."""
        return {entry for name, granted in self.all_grants() if name == securable for entry in granted}

    def _counting(self) -> list[Principal | NamedIdentity]:
        """Itself, its groups, and the groups that those are in."""
        found: dict[str, NamedIdentity] = {}
        waiting = sorted(self.groups) if self.directory else []
        while waiting and self.directory:
            name = waiting.pop(0)
            group = self.directory.groups.get(name)
            if group is not None and name not in found:
                found[name] = group
                waiting.extend(sorted(group.groups))
        return [self, *found.values()]


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
    jwks_json: str | None = None
    jwks_uri: str | None = None
    description: str = ""
    created_at: float = 0.0
    policy_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))


class Directory:
    """Service principals, users and groups by name, with the federation policies."""

    def __init__(self) -> None:
        self._principals: dict[str, Principal] = {}
        self.users: dict[str, NamedIdentity] = {}
        self.groups: dict[str, NamedIdentity] = {}
        for name in ("users", "admins"):
            self.add_group(name)
        self.policies: list[FederationPolicy] = []
        self.account_admins: set[str] = set()
        """Names of service principals and users that administer the account."""

    def add(self, principal: Principal) -> None:
        """Add or replace a principal, with the groups it names."""
        self._principals[principal.application_id] = principal
        principal.directory = self
        for name in principal.groups:
            self.add_group(name)

    def add_group(self, name: str) -> NamedIdentity:
        """The group with this name, made if it is missing."""
        return self.groups.setdefault(name, NamedIdentity("group", name))

    def add_user(self, name: str) -> NamedIdentity:
        """The user with this name, made if it is missing; every user is in the group users."""
        return self.users.setdefault(name, NamedIdentity("user", name, groups={"users"}))

    def identity(self, name: str) -> Principal | NamedIdentity | None:
        """Who has this name: a service principal's application id, a user's name or a group's."""
        return self._principals.get(name) or self.users.get(name) or self.groups.get(name)

    def move_grants(self, old: str, new: str | None) -> None:
        """Have everybody's grants on `old` go with the object to its new name, or away with it."""
        for identity in self.identities():
            for name in [name for name in identity.grants if name.lower() == old.lower()]:
                granted = identity.grants.pop(name)
                if new is not None:
                    identity.grants[new] = granted

    def identities(self) -> Iterator[Principal | NamedIdentity]:
        """Everybody to whom something can be granted."""
        yield from self._principals.values()
        yield from self.users.values()
        yield from self.groups.values()

    def get(self, application_id: str) -> Principal | None:
        """The principal with this application id."""
        return self._principals.get(application_id)

    def signed_in(self, name: str) -> Principal | None:
        """Who calls: the service principal with this application id, or the user with this name.

        A user is shown as a principal whose application id is the user's name; both share what they were granted.
        """
        user = self.users.get(name)
        if user is None or name in self._principals:
            return self._principals.get(name)
        return Principal(
            application_id=user.name,
            display_name=user.name,
            scim_id=user.scim_id,
            entitlements=user.entitlements,
            groups=user.groups,
            grants=user.grants,
            directory=self,
            kind="user",
        )

    def acting(self, name: str) -> Principal:
        """Who a run or a cluster speaks for: as `signed_in`, or 404 as the platform says it."""
        principal = self.signed_in(name)
        if principal is None:
            raise not_found(f"Principal: ServicePrincipalName({name}) does not exist")
        return principal

    def require(self, application_id: str) -> Principal:
        """The service principal with this application id, or 404."""
        if application_id not in self._principals:
            raise not_found(f"Principal: ServicePrincipalName({application_id}) does not exist")
        return self._principals[application_id]

    def remove(self, application_id: str) -> None:
        """Delete a principal with its policies."""
        self._principals.pop(application_id, None)
        self.account_admins.discard(application_id)
        self.policies = [policy for policy in self.policies if policy.application_id != application_id]

    def all(self) -> list[Principal]:
        """Every principal, in the order they were added."""
        return list(self._principals.values())
