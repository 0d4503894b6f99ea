"""Access control lists of workspace objects: who holds which permission level, and where it is inherited from; no HTTP.

databricks/permissions.py shows and changes them. They are the grants of principals, users and groups, under the names
that the enforcing stores ask for: the path of a folder, file, notebook or experiment, `clusters/<id>`, `jobs/<id>` and
so on; so what is shown is what is enforced. It must never add a level that nobody enforces.

Read in: Databricks documentation, "Access control lists" (levels by type, inheritance from folders; a job has exactly
one owner, who is no group); databricks/terraform-provider-databricks `permissions/permission_definitions.go` (types and
levels; the admins' permissions cannot be modified); answers of real workspaces in amesar/mlflow-export-import
("mlflowExperiment", "/directories/<id>", admins inheriting from "/directories/" and "/registered-models/").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trainyard_sandbox.errors import invalid_parameter, not_found
from trainyard_sandbox.principals import Directory, NamedIdentity, Principal

NAME_FIELDS = {"service_principal": "service_principal_name", "user": "user_name", "group": "group_name"}
OWNER = "IS_OWNER"


@dataclass(frozen=True)
class ObjectType:
    """One type of object: its name in answers, its levels from least to most, and those that may manage it."""

    name: str
    levels: tuple[str, ...]
    admins_level: str = "CAN_MANAGE"

    @property
    def managing(self) -> frozenset[str]:
        """Levels that may see and change the list; none for policies, which are the admins'."""
        return frozenset(self.levels) & {"CAN_MANAGE", OWNER}


_IN_FOLDERS = ("CAN_READ", "CAN_RUN", "CAN_EDIT", "CAN_MANAGE")
OBJECT_TYPES = {
    "directories": ObjectType("directory", _IN_FOLDERS),
    "files": ObjectType("file", _IN_FOLDERS),
    "notebooks": ObjectType("notebook", _IN_FOLDERS),
    "experiments": ObjectType("mlflowExperiment", ("CAN_READ", "CAN_EDIT", "CAN_MANAGE")),
    "clusters": ObjectType("cluster", ("CAN_ATTACH_TO", "CAN_RESTART", "CAN_MANAGE")),
    "jobs": ObjectType("job", ("CAN_VIEW", "CAN_MANAGE_RUN", OWNER, "CAN_MANAGE")),
    "instance-pools": ObjectType("instance-pool", ("CAN_ATTACH_TO", "CAN_MANAGE")),
    "cluster-policies": ObjectType("cluster-policy", ("CAN_USE",), admins_level="CAN_USE"),
    "serving-endpoints": ObjectType("serving-endpoint", ("CAN_VIEW", "CAN_QUERY", "CAN_MANAGE")),
}


@dataclass(frozen=True)
class Place:
    """One step of inheritance: how answers name it, under which name it is granted, what it gives by itself."""

    shown: str
    granted_on: str
    implied: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Entry:
    """One line of a list that a caller sends: who, and which level."""

    identity: Principal | NamedIdentity
    level: str


class AccessLists:
    """The lists of all objects; `chain` is an object's places, from the root to itself."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def may_manage(self, principal: Principal, kind: ObjectType, chain: Sequence[Place]) -> bool:
        """Whether the principal may see and change the list."""
        return principal.is_admin or bool(self.levels(principal, chain) & kind.managing)

    def levels(self, principal: Principal, chain: Sequence[Place]) -> set[str]:
        """Every level that the principal holds on the object, itself or through its groups, here or inherited."""
        names = principal.names()
        implied = {level for place in chain for name, level in place.implied if name in names}
        return implied | {level for place in chain for level in principal.held(place.granted_on)}

    def shown(self, chain: Sequence[Place]) -> list[dict[str, Any]]:
        """The list as the API shows it: direct levels, and inherited ones with their sources."""
        entries = []
        for identity in self._directory.identities():
            held = list(_permissions(identity, chain))
            if held:
                named = {NAME_FIELDS[identity.kind]: identity.name}
                if isinstance(identity, Principal):
                    named["display_name"] = identity.display_name
                entries.append(named | {"all_permissions": held})
        return entries

    def entries(self, kind: ObjectType, sent: list[dict[str, Any]]) -> list[Entry]:
        """A list that a caller sends, checked.

        Raises:
            ApiError: 400 for a level that the type does not have, for the admins, for a group as owner; 404 for a
                principal that does not exist.
        """
        found = []
        for entry in sent:
            names = [(word, field) for word, field in NAME_FIELDS.items() if field in entry]
            if len(names) != 1:
                raise invalid_parameter(
                    "Each entry names exactly one of user_name, group_name, service_principal_name."
                )
            word, field = names[0]
            identity = self._directory.identity(entry[field])
            if identity is None or identity.kind != word:
                label = {"user": "UserName", "group": "GroupName"}.get(word, "ServicePrincipalName")
                raise not_found(f"Principal: {label}({entry[field]}) does not exist")
            level = entry.get("permission_level")
            if level not in kind.levels:
                raise invalid_parameter(f"Permission type {level} is not defined for {kind.name} objects.")
            if identity.name == "admins":
                raise invalid_parameter("The permissions of the group admins cannot be modified.")
            if level == OWNER and word == "group":
                raise invalid_parameter("A group cannot be the owner of a job.")
            found.append(Entry(identity, level))
        return found

    def change(self, kind: ObjectType, place: Place, entries: list[Entry], *, replace: bool) -> None:
        """Set the levels of those named; with `replace` nobody else keeps a direct one.

        Raises:
            ApiError: 400 when a job would not have exactly one owner.
        """
        named = {entry.identity.name for entry in entries}
        if OWNER in kind.levels:
            kept = [one for one in self._directory.identities() if not replace and one.name not in named]
            owners = [one for one in kept if OWNER in one.grants.get(place.granted_on, ())]
            owners += [entry.identity for entry in entries if entry.level == OWNER]
            if len(owners) != 1:
                raise invalid_parameter("The job must have exactly one owner.")
        for identity in self._directory.identities():
            if replace or identity.name in named:
                identity.grants.pop(place.granted_on, None)
        for entry in entries:
            entry.identity.grants[place.granted_on] = {entry.level}


def _permissions(identity: Principal | NamedIdentity, chain: Sequence[Place]) -> Iterator[dict[str, Any]]:
    """What one identity itself, not its groups, holds along the chain."""
    inherited: dict[str, list[str]] = {}
    for place in chain:
        implied = {level for name, level in place.implied if name == identity.name}
        levels = identity.grants.get(place.granted_on, set()) | implied
        for level in sorted(levels):
            if place is chain[-1]:
                yield {"permission_level": level, "inherited": False}
            else:
                inherited.setdefault(level, []).append(place.shown)
    for level, sources in inherited.items():
        yield {"permission_level": level, "inherited": True, "inherited_from_object": sources}
