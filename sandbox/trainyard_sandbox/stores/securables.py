"""Unity Catalog's namespace: which catalogs, schemas and objects there are, who owns them, who may do what; no HTTP.

The stores of models, volumes and tables ask it before they hand anything out, and grants_api.py shows what it says: one
truth for what is enforced and what is shown. It must never answer from anything but owners and grants.

Read in: Databricks documentation, "Unity Catalog privileges and securable objects", "Manage privileges in Unity
Catalog" (who may manage; inheritance from catalog to schema to object), "Manage Unity Catalog object ownership" (an
owner has all privileges on the object itself, not on what is below it, but may grant those; workspace admins own the
workspace catalog) and the docstrings of databricks-sdk `service/catalog.py`. Sentences as quoted in public issues, e.g.
databricks-demos/dbdemos#74.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from starlette.requests import Request

from trainyard_sandbox.errors import ApiError, already_exists, invalid_parameter, not_found, permission_denied
from trainyard_sandbox.principals import Directory, Principal, normal_privilege
from trainyard_sandbox.state import sandbox_state

SecurableType = Literal["CATALOG", "SCHEMA", "FUNCTION", "TABLE", "VOLUME"]
"""As grants name them; a registered model's is FUNCTION (SDK docstring of RegisteredModelsAPI)."""

MAX_NAME_LENGTH = 255
NAME = re.compile(r"[^./\s\x00-\x1f\x7f]+")
"""Databricks documentation, "Names": lower case, 255 characters, no period, space or slash."""

WORDS: dict[SecurableType, str] = {
    "CATALOG": "Catalog",
    "SCHEMA": "Schema",
    "FUNCTION": "Routine or Model",
    "TABLE": "Table",
    "VOLUME": "Volume",
}

DEFAULT_OWNER = "admins"
"""Of catalogs and schemas: "Workspace admins are the default owners of the workspace catalog"."""

NOT_IN_ALL_PRIVILEGES = frozenset({"MANAGE", "EXTERNAL USE LOCATION", "EXTERNAL USE SCHEMA"})
"""Databricks documentation, "ALL PRIVILEGES": it does not include these."""


class Securable(Protocol):
    """A model, a volume or a table: the third level of the namespace."""

    full_name: str
    owner: str

    @property
    def securable_type(self) -> SecurableType:
        """What it is."""
        ...


@dataclass(frozen=True)
class HeldPrivilege:
    """A privilege as it applies to a securable; `inherited_from` is the catalog or schema it was granted on."""

    privilege: str
    inherited_from: str | None = None


def type_of_name(full_name: str) -> SecurableType:
    """CATALOG or SCHEMA, by the number of names."""
    return "SCHEMA" if "." in full_name else "CATALOG"


class Securables:
    """The namespace of one sandbox. Names are kept in lower case.

    A catalog or schema that appears in anyone's grants exists as well: a privilege can only be granted on a securable
    that is there. Models, volumes and tables share one set of names here, which is stricter than the platform.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._schemas: set[str] = {"main.default"}
        self._owners: dict[str, str] = {}
        self._objects: dict[str, Securable] = {}
        self.metastore_id = str(uuid.uuid4())

    def add_schema(self, full_name: str) -> None:
        """Create catalog and schema (`catalog.schema`), as an administrator would have done."""
        self._schemas.add(full_name.lower())

    def add(self, securable: Securable) -> None:
        """Register a new object under its name."""
        self.require_free(securable.full_name, securable.securable_type)
        self._objects[securable.full_name] = securable

    def require_free(self, full_name: str, securable_type: SecurableType) -> None:
        """400 when the name is taken."""
        if full_name in self._objects:
            raise already_exists(f"{WORDS[securable_type]} '{full_name.rpartition('.')[2]}' already exists")

    def remove(self, full_name: str) -> None:
        """Forget an object, with everybody's grants on it."""
        del self._objects[full_name]
        self._directory.move_grants(full_name, None)

    def rename(self, securable: Securable, full_name: str) -> None:
        """Give an object another name; its grants go with it."""
        self.require_free(full_name, securable.securable_type)
        old = securable.full_name
        self._objects[full_name] = self._objects.pop(old)
        securable.full_name = full_name
        self._directory.move_grants(old, full_name)

    def owner(self, full_name: str) -> str:
        """Who owns the securable."""
        found = self._objects.get(full_name)
        return found.owner if found else self._owners.get(full_name, DEFAULT_OWNER)

    def change_owner(self, full_name: str, owner: str) -> None:
        """Give a securable to a principal, user or group."""
        if self._directory.identity(owner) is None:
            raise ApiError(404, "PRINCIPAL_DOES_NOT_EXIST", f"Could not find principal with name {owner}")
        found = self._objects.get(full_name)
        if found:
            found.owner = owner
        else:
            self._owners[full_name] = owner

    def require_catalog(self, principal: Principal, name: str) -> str:
        """The catalog's stored name, if it exists and the principal may use it."""
        catalog = name.lower()
        if catalog not in {schema.split(".")[0] for schema in self._known_schemas()}:
            raise ApiError(404, "CATALOG_DOES_NOT_EXIST", f"Catalog '{name}' does not exist.")
        if not self.allowed(principal, catalog, "USE CATALOG"):
            raise permission_denied(f"User does not have USE CATALOG on Catalog '{catalog}'.")
        return catalog

    def require_schema(self, principal: Principal, full_name: str) -> str:
        """The schema's stored full name, if it exists and the principal may use it."""
        schema = full_name.lower()
        if schema.count(".") != 1:
            raise invalid_parameter(f"'{full_name}' is not a valid full name of a schema.")
        self.require_catalog(principal, schema.split(".")[0])
        if schema not in self._known_schemas():
            raise ApiError(404, "SCHEMA_DOES_NOT_EXIST", f"Schema '{schema}' does not exist.")
        if not self.allowed(principal, schema, "USE SCHEMA"):
            raise permission_denied(f"User does not have USE SCHEMA on Schema '{schema}'.")
        return schema

    def uses_schema(self, principal: Principal, schema: str) -> bool:
        """Whether the principal may use a schema and its catalog."""
        return self.allowed(principal, schema.split(".")[0], "USE CATALOG") and self.allowed(
            principal, schema, "USE SCHEMA"
        )

    def require_create(self, principal: Principal, full_name: str, *privileges: str) -> None:
        """403 unless the principal may create this in its schema: owner of the schema, or one of `privileges`."""
        schema = self.require_schema(principal, full_name.rpartition(".")[0])
        if not self.allowed(principal, schema, *privileges):
            raise permission_denied(f"User does not have {privileges[0]} on Schema '{schema}'.")

    def require(self, principal: Principal, full_name: str, securable_type: SecurableType, *privileges: str) -> None:
        """Check that an object is there and that the principal owns it or has one of `privileges` (MANAGE if none).

        Raises:
            ApiError: 404 when it does not exist; 403 naming the first privilege that is missing.
        """
        self.require_schema(principal, full_name.rpartition(".")[0])
        found = self._objects.get(full_name)
        word = WORDS[securable_type]
        if found is None or found.securable_type != securable_type:
            raise not_found(f"{word} '{full_name}' does not exist.")
        if not self.allowed(principal, full_name, *privileges):
            missing = privileges[0] if privileges else "MANAGE"
            raise permission_denied(f"User does not have {missing} on {word} '{full_name}'.")

    def allowed(self, principal: Principal, full_name: str, *privileges: str) -> bool:
        """Whether the principal owns this securable, or has one of the privileges (MANAGE if none) here or above.

        MANAGE alone gives no other privilege: its holders "are not automatically granted all privileges" and may grant
        them to themselves (Databricks documentation, "Unity Catalog privileges and securable objects", MANAGE).
        """
        return self.owns(principal, full_name) or self.has(principal, full_name, *(privileges or ("MANAGE",)))

    def owns(self, principal: Principal, full_name: str) -> bool:
        """Whether the principal, or a group it is in, owns exactly this."""
        return self.owner(full_name) in principal.names()

    def manages(self, principal: Principal, full_name: str) -> bool:
        """Whether the principal may change and see all grants on it: owner of it or above, or MANAGE."""
        return any(self.owns(principal, name) for name in levels(full_name)) or self.has(principal, full_name, "MANAGE")

    def has(self, principal: Principal, full_name: str, *privileges: str) -> bool:
        """Whether one of the privileges is granted here or above, to the principal or a group of its."""
        wanted = set(privileges)
        if wanted - NOT_IN_ALL_PRIVILEGES:
            wanted.add("ALL PRIVILEGES")
        above = set(levels(full_name))
        return any(
            normal_privilege(name, privilege) in wanted
            for name, granted in principal.all_grants()
            if name.lower() in above
            for privilege in granted
        )

    def assigned(self, full_name: str) -> Iterator[tuple[str, list[str]]]:
        """(principal, its privileges granted on exactly this), for everybody who has any."""
        for identity in self._directory.identities():
            held = {
                entry for name, granted in identity.grants.items() if name.lower() == full_name for entry in granted
            }
            if held:
                yield identity.name, sorted(normal_privilege(full_name, privilege) for privilege in held)

    def effective(self, full_name: str) -> dict[str, list[HeldPrivilege]]:
        """By principal: what it was granted on this and on what is above it. Ownership is no grant."""
        found: dict[str, list[HeldPrivilege]] = {}
        for name in reversed(levels(full_name)):
            for principal, privileges in self.assigned(name):
                source = None if name == full_name else name
                found.setdefault(principal, []).extend(HeldPrivilege(privilege, source) for privilege in privileges)
        return found

    def change_grants(self, full_name: str, name: str, add: Iterable[str], remove: Iterable[str]) -> None:
        """Grant and revoke on exactly this; who it is for must exist."""
        identity = self._directory.identity(name)
        if identity is None:
            raise not_found(f"Nobody is called {name}.")
        held: set[str] = set()
        for key in [key for key in identity.grants if key.lower() == full_name]:
            held |= {normal_privilege(full_name, privilege) for privilege in identity.grants.pop(key)}
        held |= {normal_privilege(full_name, privilege) for privilege in add}
        held -= {normal_privilege(full_name, privilege) for privilege in remove}
        if held:
            identity.grants[full_name] = held

    def require_known(self, full_name: str, securable_type: SecurableType) -> str:
        """The stored name of a securable of this type, or 404, whoever asks."""
        name = full_name.lower()
        if securable_type in ("CATALOG", "SCHEMA"):
            schemas = self._known_schemas()
            known = schemas if securable_type == "SCHEMA" else {schema.split(".")[0] for schema in schemas}
            if name not in known:
                message = f"{WORDS[securable_type]} '{name}' does not exist."
                raise ApiError(404, f"{securable_type}_DOES_NOT_EXIST", message)
            return name
        found = self._objects.get(name)
        if found is None or found.securable_type != securable_type:
            raise not_found(f"{WORDS[securable_type]} '{name}' does not exist.")
        return name

    def _known_schemas(self) -> set[str]:
        """Every schema, with a bare `catalog.` for a catalog that is known without one."""
        known = set(self._schemas)
        for identity in self._directory.identities():
            for securable in identity.grants:
                if "/" not in securable:
                    known.add(".".join([*securable.lower().split("."), ""][:2]))
        return known


def levels(full_name: str) -> list[str]:
    """The names of a securable's catalog, schema and itself, from the top."""
    parts = full_name.split(".")
    return [".".join(parts[: depth + 1]) for depth in range(len(parts))]


def checked_name(full_name: str, what: str, plural: str) -> str:
    """A three-level name in lower case.

    Raises:
        ApiError: 400 when it is none.
    """
    parts = full_name.split(".")
    if len(parts) != 3 or not all(NAME.fullmatch(part) and len(part) <= MAX_NAME_LENGTH for part in parts):
        raise invalid_parameter(
            f"'{full_name}' is not a valid name for a {what}. "
            f"{plural} in Unity Catalog have a three-level name of the form <catalog>.<schema>.<{what.split()[-1]}>."
        )
    return full_name.lower()


def securables_of(request: Request) -> Securables:
    """The namespace of the sandbox that serves this request."""
    securables = sandbox_state(request).securables
    if not isinstance(securables, Securables):
        raise TypeError("SandboxState.securables is not a Securables")
    return securables
