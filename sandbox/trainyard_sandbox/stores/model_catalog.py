"""Unity Catalog's registered models, their versions and aliases, with the privileges they ask for; no HTTP here.

unity_catalog.py (REST 2.1) and mlflow_registry.py (what the MLflow client calls) are two views of this one store, so
that they always agree. It must never hand out an object without having checked the principal's privileges.

Read in: databricks-sdk `service/catalog.py` (docstrings of RegisteredModelsAPI, ModelVersionsAPI, CatalogsAPI);
Databricks documentation, "Unity Catalog privileges and securable objects" (inheritance, MANAGE, CREATE MODEL VERSION)
and "Names" (lower case, 255 characters, no period, space or slash). Sentences ("Routine or Model '...' does not
exist.", "User does not have USE CATALOG on Catalog '...'.") as quoted in public issues and troubleshooting notes, e.g.
databricks-demos/dbdemos#74; 'latest' as an alias: mlflow/mlflow#9730. No public example was found of the sentences for
an unknown alias and an unknown version, which are ours.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from starlette.requests import Request

from trainyard_sandbox.errors import ApiError, already_exists, invalid_parameter, not_found, permission_denied
from trainyard_sandbox.principals import Directory, Principal
from trainyard_sandbox.state import sandbox_state

VersionStatus = Literal["PENDING_REGISTRATION", "FAILED_REGISTRATION", "READY"]

MAX_NAME_LENGTH = 255
NAME = re.compile(r"[^./\s\x00-\x1f\x7f]+")
RESERVED_ALIAS = re.compile(r"latest|v\d+", re.IGNORECASE)


@dataclass
class ModelVersion:
    """One version of a registered model. Times are milliseconds since the epoch."""

    version: int
    created_by: str
    created_at: int
    updated_by: str
    updated_at: int
    source: str
    run_id: str | None = None
    run_workspace_id: int | None = None
    comment: str | None = None
    status: VersionStatus = "PENDING_REGISTRATION"
    tags: dict[str, str] = field(default_factory=dict)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass
class RegisteredModel:
    """A registered model: `full_name` is catalog.schema.model in lower case; `aliases` maps alias to version."""

    full_name: str
    owner: str
    created_by: str
    created_at: int
    updated_by: str
    updated_at: int
    comment: str | None = None
    aliases: dict[str, int] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    versions: dict[int, ModelVersion] = field(default_factory=dict)
    last_version: int = 0
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def storage_location(self, version: ModelVersion | None = None) -> str:
        """Where the files lie, in the metastore's default storage."""
        return f"s3://trainyard-sandbox-metastore/{self.storage_key(version)}"

    def storage_key(self, version: ModelVersion | None = None) -> str:
        """The same as a key of the sandbox's storage."""
        root = f"models/{self.id}"
        return root if version is None else f"{root}/versions/{version.id}"


class ModelCatalog:
    """Catalogs, schemas and registered models of one sandbox.

    Args:
        directory: whose grants decide. A name that appears in any principal's grants exists as well: a privilege can
            only be granted on a securable that is there.
        now: the sandbox's clock, Unix seconds.
    """

    def __init__(self, directory: Directory, now: Callable[[], float]) -> None:
        self._directory = directory
        self._now = now
        self._schemas: set[str] = {"main.default"}
        self._models: dict[str, RegisteredModel] = {}
        self.metastore_id = str(uuid.uuid4())

    def add_schema(self, full_name: str) -> None:
        """Create catalog and schema (`catalog.schema`), as an administrator would have done."""
        self._schemas.add(full_name.lower())

    def require_catalog(self, principal: Principal, name: str) -> str:
        """The catalog's stored name, if it exists and the principal may use it."""
        catalog = name.lower()
        if catalog not in {schema.split(".")[0] for schema in self._known_schemas()}:
            raise ApiError(404, "CATALOG_DOES_NOT_EXIST", f"Catalog '{name}' does not exist.")
        if not self._has(principal, catalog, "USE CATALOG"):
            raise permission_denied(f"User does not have USE CATALOG on Catalog '{catalog}'.")
        return catalog

    def require_schema(self, principal: Principal, full_name: str) -> str:
        """The schema's stored full name, if it exists and the principal may use it."""
        schema = full_name.lower()
        self.require_catalog(principal, schema.split(".")[0])
        if schema not in self._known_schemas():
            raise ApiError(404, "SCHEMA_DOES_NOT_EXIST", f"Schema '{schema}' does not exist.")
        if not self._has(principal, schema, "USE SCHEMA"):
            raise permission_denied(f"User does not have USE SCHEMA on Schema '{schema}'.")
        return schema

    def create_model(self, principal: Principal, full_name: str, comment: str | None = None) -> RegisteredModel:
        """A new registered model, owned by its creator (RegisteredModelsAPI.create)."""
        name = self._checked_name(full_name)
        schema, _, short = name.rpartition(".")
        self.require_schema(principal, schema)
        if not self._has(principal, schema, "CREATE MODEL", "CREATE FUNCTION"):
            raise permission_denied(f"User does not have CREATE MODEL on Schema '{schema}'.")
        if name in self._models:
            raise already_exists(f"Routine or Model '{short}' already exists")
        who, now = principal.application_id, self._milliseconds()
        model = RegisteredModel(name, who, who, now, who, now, comment)
        self._models[name] = model
        return model

    def model(self, principal: Principal, full_name: str, *privileges: str) -> RegisteredModel:
        """The registered model, for its owner, who has MANAGE on it, or who has one of `privileges` on it.

        Raises:
            ApiError: 404 when it does not exist; 403 naming the first privilege that is missing.
        """
        name = self._checked_name(full_name)
        self.require_schema(principal, name.rpartition(".")[0])
        model = self._models.get(name)
        if model is None:
            raise not_found(f"Routine or Model '{name}' does not exist.")
        if not self._allowed(principal, model, *privileges):
            missing = privileges[0] if privileges else "MANAGE"
            raise permission_denied(f"User does not have {missing} on Routine or Model '{name}'.")
        return model

    def models(self, principal: Principal, schema: str | None = None) -> list[RegisteredModel]:
        """The models the principal may execute, of one schema or of all (RegisteredModelsAPI.list)."""
        if schema is not None:
            schema = self.require_schema(principal, schema)
        return [
            model
            for name, model in sorted(self._models.items())
            if schema in (None, name.rpartition(".")[0])
            and self._has(principal, name.split(".")[0], "USE CATALOG")
            and self._has(principal, name.rpartition(".")[0], "USE SCHEMA")
            and self._allowed(principal, model, "EXECUTE")
        ]

    def rename_model(self, principal: Principal, model: RegisteredModel, new_name: str) -> None:
        """Give a model another last name within its schema."""
        schema = model.full_name.rpartition(".")[0]
        name = self._checked_name(new_name if new_name.count(".") == 2 else f"{schema}.{new_name}")
        if name in self._models:
            raise already_exists(f"Routine or Model '{name.rpartition('.')[2]}' already exists")
        del self._models[model.full_name]
        model.full_name = name
        self._models[name] = model
        self.touch(principal, model)

    def change_owner(self, principal: Principal, model: RegisteredModel, owner: str) -> None:
        """Give a model to another principal, user or group (RegisteredModelsAPI.update, `owner`)."""
        known = self._directory.get(owner) or owner in self._directory.users | self._directory.groups
        if not known:
            raise ApiError(404, "PRINCIPAL_DOES_NOT_EXIST", f"Could not find principal with name {owner}")
        model.owner = owner
        self.touch(principal, model)

    def delete_model(self, principal: Principal, full_name: str) -> RegisteredModel:
        """Delete a model with all its versions; returns what was deleted, for its files."""
        model = self.model(principal, full_name)
        del self._models[model.full_name]
        return model

    def create_version(
        self, principal: Principal, full_name: str, source: str, run_id: str | None, run_workspace_id: int | None
    ) -> tuple[RegisteredModel, ModelVersion]:
        """A new version in PENDING_REGISTRATION; numbers are never used twice."""
        model = self.model(principal, full_name, "CREATE MODEL VERSION")
        model.last_version += 1
        who, now = principal.application_id, self._milliseconds()
        version = ModelVersion(model.last_version, who, now, who, now, source, run_id, run_workspace_id)
        model.versions[version.version] = version
        return model, version

    def finalize_version(
        self, principal: Principal, full_name: str, number: int
    ) -> tuple[RegisteredModel, ModelVersion]:
        """READY, once the files are there (docstring of ModelVersionsAPI.update, `status`)."""
        model, version = self.version(principal, full_name, number, "CREATE MODEL VERSION")
        if version.status != "PENDING_REGISTRATION":
            raise ApiError(400, "INVALID_STATE", f"Model version {number} is not in PENDING_REGISTRATION.")
        version.status = "READY"
        self.touch(principal, version)
        return model, version

    def version(
        self, principal: Principal, full_name: str, number: int, *privileges: str
    ) -> tuple[RegisteredModel, ModelVersion]:
        """One version and its model; privileges as in `model`."""
        model = self.model(principal, full_name, *privileges)
        version = model.versions.get(number)
        if version is None:
            raise not_found(f"Model Version (name={model.full_name}, version={number}) not found.")
        return model, version

    def delete_version(self, principal: Principal, full_name: str, number: int) -> tuple[RegisteredModel, ModelVersion]:
        """Delete a version and the aliases that point at it (ModelVersionsAPI.delete)."""
        model, version = self.version(principal, full_name, number)
        del model.versions[number]
        model.aliases = {alias: target for alias, target in model.aliases.items() if target != number}
        return model, version

    def set_alias(self, principal: Principal, full_name: str, alias: str, number: int) -> RegisteredModel:
        """Point an alias at a version; only for the owner or MANAGE."""
        if RESERVED_ALIAS.fullmatch(alias):
            raise invalid_parameter(f"'{alias}' alias name (case insensitive) is reserved.")
        if not alias or len(alias) > MAX_NAME_LENGTH:
            raise invalid_parameter(f"An alias name has 1 to {MAX_NAME_LENGTH} characters.")
        model, _ = self.version(principal, full_name, number)
        model.aliases[alias] = number
        self.touch(principal, model)
        return model

    def delete_alias(self, principal: Principal, full_name: str, alias: str) -> None:
        """Remove an alias; only for the owner or MANAGE."""
        model = self.model(principal, full_name)
        self._alias_target(model, alias)
        del model.aliases[alias]
        self.touch(principal, model)

    def version_by_alias(
        self, principal: Principal, full_name: str, alias: str
    ) -> tuple[RegisteredModel, ModelVersion]:
        """The version an alias points at."""
        model = self.model(principal, full_name, "EXECUTE")
        return model, model.versions[self._alias_target(model, alias)]

    def touch(self, principal: Principal, changed: RegisteredModel | ModelVersion) -> None:
        """Record who changed it and when."""
        changed.updated_by = principal.application_id
        changed.updated_at = self._milliseconds()

    def _alias_target(self, model: RegisteredModel, alias: str) -> int:
        if alias not in model.aliases:
            raise not_found(f"Alias '{alias}' does not exist on Routine or Model '{model.full_name}'.")
        return model.aliases[alias]

    def _allowed(self, principal: Principal, model: RegisteredModel, *privileges: str) -> bool:
        if model.owner in {principal.application_id, *principal.groups} or self._has(
            principal, model.full_name, "MANAGE"
        ):
            return True
        return bool(privileges) and self._has(principal, model.full_name, *privileges)

    def _has(self, principal: Principal, full_name: str, *privileges: str) -> bool:
        """Whether one of the privileges is granted here or above; ALL PRIVILEGES does not include MANAGE."""
        parts = full_name.split(".")
        wanted = {privilege.replace("_", " ") for privilege in privileges}
        if "MANAGE" not in wanted:
            wanted.add("ALL PRIVILEGES")
        levels = {".".join(parts[: depth + 1]) for depth in range(len(parts))}
        return any(
            privilege.upper().replace("_", " ") in wanted
            for securable, granted in principal.grants.items()
            if securable.lower() in levels
            for privilege in granted
        )

    def _known_schemas(self) -> set[str]:
        """Every schema, with a bare `catalog.` for a catalog that is known without one."""
        known = set(self._schemas)
        for principal in self._directory.all():
            for securable in principal.grants:
                if not securable.startswith("/"):
                    known.add(".".join([*securable.lower().split("."), ""][:2]))
        return known

    def _checked_name(self, full_name: str) -> str:
        parts = full_name.split(".")
        if len(parts) != 3 or not all(NAME.fullmatch(part) and len(part) <= MAX_NAME_LENGTH for part in parts):
            raise invalid_parameter(
                f"'{full_name}' is not a valid name for a registered model. "
                "Registered models in Unity Catalog have a three-level name of the form <catalog>.<schema>.<model>."
            )
        return full_name.lower()

    def _milliseconds(self) -> int:
        return int(self._now() * 1000)


def catalog_of(request: Request) -> ModelCatalog:
    """The catalog of the sandbox that serves this request."""
    catalog = sandbox_state(request).catalog
    if not isinstance(catalog, ModelCatalog):
        raise TypeError("SandboxState.catalog is not a ModelCatalog")
    return catalog
