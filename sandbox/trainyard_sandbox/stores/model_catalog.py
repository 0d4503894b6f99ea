"""Unity Catalog's registered models, their versions and aliases, with the privileges they ask for; no HTTP here.

unity_catalog.py (REST 2.1) and mlflow_registry.py (what the MLflow client calls) are two views of this one store, so
that they always agree. It must never hand out an object without having asked `Securables` about the principal.

Read in: databricks-sdk `service/catalog.py` (docstrings of RegisteredModelsAPI, ModelVersionsAPI); Databricks
documentation, "Unity Catalog privileges and securable objects" (CREATE MODEL VERSION). 'latest' as an alias:
mlflow/mlflow#9730. No public example was found of the sentences for an unknown alias and an unknown version, which are
ours.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from starlette.requests import Request

from trainyard_sandbox.errors import ApiError, invalid_parameter, not_found
from trainyard_sandbox.principals import Principal
from trainyard_sandbox.state import sandbox_state
from trainyard_sandbox.stores.securables import MAX_NAME_LENGTH, Securables, SecurableType, checked_name

VersionStatus = Literal["PENDING_REGISTRATION", "FAILED_REGISTRATION", "READY"]

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

    @property
    def securable_type(self) -> SecurableType:
        """A registered model is a function (SDK docstring of RegisteredModelsAPI)."""
        return "FUNCTION"

    def storage_location(self, version: ModelVersion | None = None) -> str:
        """Where the files lie, in the metastore's default storage."""
        return f"s3://trainyard-sandbox-metastore/{self.storage_key(version)}"

    def storage_key(self, version: ModelVersion | None = None) -> str:
        """The same as a key of the sandbox's storage."""
        root = f"models/{self.id}"
        return root if version is None else f"{root}/versions/{version.id}"


class ModelCatalog:
    """The registered models of one sandbox.

    Args:
        securables: the namespace they live in, with its privileges.
        now: the sandbox's clock, Unix seconds.
    """

    def __init__(self, securables: Securables, now: Callable[[], float]) -> None:
        self.securables = securables
        self._now = now
        self._models: dict[str, RegisteredModel] = {}

    @property
    def metastore_id(self) -> str:
        """The metastore that all names are in."""
        return self.securables.metastore_id

    def create_model(self, principal: Principal, full_name: str, comment: str | None = None) -> RegisteredModel:
        """A new registered model, owned by its creator (RegisteredModelsAPI.create)."""
        name = _checked(full_name)
        self.securables.require_create(principal, name, "CREATE MODEL", "CREATE FUNCTION")
        who, now = principal.application_id, self._milliseconds()
        model = RegisteredModel(name, who, who, now, who, now, comment)
        self.securables.add(model)
        self._models[name] = model
        return model

    def model(self, principal: Principal, full_name: str, *privileges: str) -> RegisteredModel:
        """The registered model, for its owner or who has one of `privileges` on it (MANAGE if none is named).

        Raises:
            ApiError: 404 when it does not exist; 403 naming the first privilege that is missing.
        """
        name = _checked(full_name)
        self.securables.require(principal, name, "FUNCTION", *privileges)
        return self._models[name]

    def models(self, principal: Principal, schema: str | None = None) -> list[RegisteredModel]:
        """The models the principal may execute, of one schema or of all (RegisteredModelsAPI.list)."""
        if schema is not None:
            schema = self.securables.require_schema(principal, schema)
        return [
            model
            for name, model in sorted(self._models.items())
            if schema in (None, name.rpartition(".")[0])
            and self.securables.uses_schema(principal, name.rpartition(".")[0])
            and self.securables.allowed(principal, name, "EXECUTE")
        ]

    def rename_model(self, principal: Principal, model: RegisteredModel, new_name: str) -> None:
        """Give a model another last name within its schema."""
        schema = model.full_name.rpartition(".")[0]
        name = _checked(new_name if new_name.count(".") == 2 else f"{schema}.{new_name}")
        old = model.full_name
        self.securables.rename(model, name)
        self._models[name] = self._models.pop(old)
        self.touch(principal, model)

    def change_owner(self, principal: Principal, model: RegisteredModel, owner: str) -> None:
        """Give a model to another principal, user or group (RegisteredModelsAPI.update, `owner`)."""
        self.securables.change_owner(model.full_name, owner)
        self.touch(principal, model)

    def delete_model(self, principal: Principal, full_name: str) -> RegisteredModel:
        """Delete a model with all its versions; returns what was deleted, for its files."""
        model = self.model(principal, full_name)
        del self._models[model.full_name]
        self.securables.remove(model.full_name)
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

    def _milliseconds(self) -> int:
        return int(self._now() * 1000)


def _checked(full_name: str) -> str:
    return checked_name(full_name, "registered model", "Registered models")


def catalog_of(request: Request) -> ModelCatalog:
    """The catalog of the sandbox that serves this request."""
    catalog = sandbox_state(request).catalog
    if not isinstance(catalog, ModelCatalog):
        raise TypeError("SandboxState.catalog is not a ModelCatalog")
    return catalog
