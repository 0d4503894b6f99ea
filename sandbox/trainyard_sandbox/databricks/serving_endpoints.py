"""The endpoints of Model Serving: configurations, one update at a time, what serves meanwhile; no HTTP here.

serving.py and serving_invocations.py are its routes, `SandboxState.model_serving` the one store. A new configuration is
brought up beside the active one and takes its place when all of it is ready; a failed one leaves the active one as it
is. It must never give a share to a model that is not ready, nor end a model before its requests are answered.

Read in: databricks-sdk `service/serving.py` (EndpointState: "if the endpoint's config_update state value is
IN_PROGRESS, another update can not be made until the update completes or fails"; EndpointPendingConfig); Databricks
documentation, "Manage model serving endpoints" (until the new configuration is ready, the old one keeps serving; an
update that fails leaves it), "Create custom model serving endpoints", "Identity and access" (the recorded creator is
fixed, needs EXECUTE, USE CATALOG and USE SCHEMA at creation and at each update, and must be in the workspace), "Model
Serving limits and regions" (1000 endpoints and 4096 provisioned concurrency per workspace). 409 RESOURCE_CONFLICT and
its sentence, 409 RESOURCE_ALREADY_EXISTS and its sentence: databricks/cli `libs/testserver/serving_endpoints.go`, which
mirrors the platform.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import yaml

from trainyard_sandbox.databricks.serving_shapes import Config, Entity
from trainyard_sandbox.errors import ApiError, invalid_parameter, not_found, permission_denied
from trainyard_sandbox.principals import Principal
from trainyard_sandbox.secret_scopes import UnresolvedSecret
from trainyard_sandbox.serving.scripts import Identity
from trainyard_sandbox.serving.served_model import ServedModel, Source
from trainyard_sandbox.serving.traffic import TrafficSplit
from trainyard_sandbox.stores.model_catalog import ModelCatalog

if TYPE_CHECKING:
    from trainyard_sandbox.state import SandboxState

Update = Literal["IN_PROGRESS", "NOT_UPDATING", "UPDATE_FAILED", "UPDATE_CANCELED"]
QUERY = frozenset({"CAN_QUERY", "CAN_MANAGE"})
VIEW = frozenset({"CAN_VIEW", "CAN_QUERY", "CAN_MANAGE"})
MANAGE = frozenset({"CAN_MANAGE"})


@dataclass
class Limits:
    """What the workspace allows, and how long an update takes at least; the control API changes them."""

    endpoints: int = 1000
    concurrency: int = 4096
    update_seconds: float = 0.05


@dataclass
class Endpoint:
    """One endpoint. Times are milliseconds. `models` serve, `coming` are those of `pending` that are not yet there."""

    name: str
    creator: str
    created_at: int
    updated_at: int
    tags: dict[str, str | None]
    details: dict[str, Any] = field(default_factory=dict)
    gateway: dict[str, Any] | None = None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    update: Update = "NOT_UPDATING"
    config: Config | None = None
    pending: Config | None = None
    models: dict[str, ServedModel] = field(default_factory=dict)
    coming: dict[str, ServedModel] = field(default_factory=dict)
    versions: int = 0
    split: TrafficSplit = field(default_factory=lambda: TrafficSplit({}))
    work: asyncio.Task[None] | None = None

    @property
    def securable(self) -> str:
        """What permission levels on it are granted on."""
        return f"serving-endpoints/{self.id}"

    @property
    def is_ready(self) -> bool:
        """READY "if all of the served entities in its active configuration are ready" (EndpointState)."""
        return bool(self.models) and all(model.state in ("ready", "stopped") for model in self.models.values())

    def model(self, served: str) -> ServedModel | None:
        """What serves under this name, or is on its way; of an update that failed, what failed."""
        coming = self.coming.get(served)
        if coming is not None and coming.state == "failed":
            return coming
        return self.models.get(served) or coming


class EndpointStore:
    """All endpoints of the workspace.

    Args:
        state: of the sandbox: its catalog, files, secrets, principals and served models.
    """

    def __init__(self, state: SandboxState) -> None:
        self._state = state
        self._endpoints: dict[str, Endpoint] = {}
        self.limits = Limits()

    def all(self) -> list[Endpoint]:
        """Every endpoint, by name."""
        return [self._endpoints[name] for name in sorted(self._endpoints)]

    def get(self, name: str) -> Endpoint:
        """The endpoint of this name, or 404."""
        if name not in self._endpoints:
            raise not_found(f"Serving endpoint with name {name} not found")
        return self._endpoints[name]

    def by_id(self, endpoint_id: str) -> Endpoint:
        """The endpoint of this id, or 404."""
        for endpoint in self._endpoints.values():
            if endpoint.id == endpoint_id:
                return endpoint
        raise not_found(f"Serving endpoint {endpoint_id} does not exist.")

    def create(self, principal: Principal, name: str, config: Config, tags: dict[str, str | None]) -> Endpoint:
        """A new endpoint whose creator is the principal; its configuration is on its way.

        Raises:
            ApiError: 409 the name is taken; 403 the creator may not use a model; 404, 400 a model that can not be
                served, and limits.
        """
        if name in self._endpoints:
            message = f"Serving endpoint with name {name} already exists"
            raise ApiError(409, "RESOURCE_ALREADY_EXISTS", message)
        if len(self._endpoints) >= self.limits.endpoints:
            message = f"The workspace has {self.limits.endpoints} serving endpoints, the most that it may have."
            raise ApiError(400, "RESOURCE_LIMIT_EXCEEDED", message)
        self._check(principal, config, None)
        now = self._milliseconds()
        endpoint = Endpoint(name, principal.application_id, now, now, tags)
        self._endpoints[name] = endpoint
        principal.grants.setdefault(endpoint.securable, set()).add("CAN_MANAGE")
        self._begin(endpoint, config)
        return endpoint

    def require_settled(self, endpoint: Endpoint, what: str) -> None:
        """409 while an update is in progress."""
        if endpoint.update == "IN_PROGRESS":
            message = f"Endpoint {endpoint.name} is currently updating. Wait for the update to complete before {what}."
            raise ApiError(409, "RESOURCE_CONFLICT", message)

    def change(self, endpoint: Endpoint, config: Config) -> None:
        """Bring another configuration up.

        Raises:
            ApiError: 409 while an update is in progress; as `create` of the recorded creator's rights.
        """
        self.require_settled(endpoint, "updating its config")
        self._check(self.creator(endpoint), config, endpoint)
        self._drop(endpoint.coming)
        endpoint.coming = {}
        self._begin(endpoint, config)

    def delete(self, endpoint: Endpoint) -> None:
        """Take an endpoint away, with what is on its way."""
        del self._endpoints[endpoint.name]
        if endpoint.work is not None:
            endpoint.work.cancel()
        self._drop(endpoint.models | {f"{name} (coming)": model for name, model in endpoint.coming.items()})
        self._state.directory.move_grants(endpoint.securable, None)

    def cancel(self, endpoint: Endpoint) -> None:
        """End an update that is in progress, as the platform can: what is on its way is aborted."""
        if endpoint.update == "IN_PROGRESS" and endpoint.work is not None:
            endpoint.work.cancel()
            endpoint.update = "UPDATE_CANCELED"
            self._drop(endpoint.coming)

    def creator(self, endpoint: Endpoint) -> Principal:
        """The recorded creator.

        Raises:
            ApiError: 403 when it is no longer in the workspace.
        """
        principal = self._state.directory.signed_in(endpoint.creator)
        if principal is None or not (principal.workspace_access and principal.is_entitled("workspace-access")):
            raise permission_denied(f"The endpoint's creator {endpoint.creator} is no member of this workspace.")
        return principal

    def _check(self, creator: Principal, config: Config, endpoint: Endpoint | None) -> None:
        """What is looked at before anything is brought up."""
        profiles = self._state.compute.instance_profiles
        for entity in config.entities.values():
            profile = entity.settings.get("instance_profile_arn")
            if profile is not None and profile not in profiles:
                raise invalid_parameter(f"The instance profile {profile} has not been added to this workspace.")
            self._check_model(creator, entity)
        used = sum(_concurrency(one) for one in self._endpoints.values() if one is not endpoint)
        wanted = sum(entity.most_concurrency for entity in config.entities.values())
        if used + wanted > self.limits.concurrency:
            message = (
                f"The endpoint needs a provisioned concurrency of {wanted}; {used} of the workspace's "
                f"{self.limits.concurrency} are in use."
            )
            raise ApiError(400, "RESOURCE_LIMIT_EXCEEDED", message)

    def _check_model(self, creator: Principal, entity: Entity) -> None:
        catalog: ModelCatalog = self._state.catalog
        model, version = catalog.version(creator, entity.model, entity.version, "EXECUTE")
        if version.status != "READY":
            raise ApiError(400, "INVALID_STATE", f"Model version {version.version} is {version.status}, not READY.")
        description = self._state.mlflow.blobs.file(model.storage_key(version)) / "MLmodel"
        if description.is_file() and not (yaml.safe_load(description.read_text("utf-8")) or {}).get("signature"):
            raise invalid_parameter(
                f"Model {entity.model} version {entity.version} has no signature: models in Unity Catalog need one."
            )

    def _begin(self, endpoint: Endpoint, config: Config) -> None:
        endpoint.versions += 1
        config.version, config.started_at = endpoint.versions, self._milliseconds()
        endpoint.updated_at = config.started_at
        endpoint.pending, endpoint.update = config, "IN_PROGRESS"
        for name, entity in config.entities.items():
            if not _unchanged(endpoint, entity):
                identity = Identity("databricks", endpoint.name, name)
                endpoint.coming[name] = self._state.serving.serve(identity, self._source(endpoint, entity))
        endpoint.work = self._state.serving.run(self._bring_up(endpoint, config))

    def _source(self, endpoint: Endpoint, entity: Entity) -> Source:
        model, version = self._state.catalog.version(self.creator(endpoint), entity.model, entity.version, "EXECUTE")
        return Source(
            folder=self._state.mlflow.blobs.file(model.storage_key(version)),
            environment=dict(entity.settings.get("environment_vars", {})),
            scale_to_zero=entity.settings["scale_to_zero_enabled"],
        )

    async def _bring_up(self, endpoint: Endpoint, config: Config) -> None:
        """Provision what is new; all of it takes over when it is ready, none of it when one has failed."""
        await asyncio.sleep(self.limits.update_seconds)
        starting = {self._state.serving.run(self._provision(endpoint, model)) for model in endpoint.coming.values()}
        try:
            waiting = set(starting)
            while waiting and not _failed(endpoint.coming):
                _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in starting:
                task.cancel()
        if _failed(endpoint.coming):
            endpoint.update = "UPDATE_FAILED"
            self._drop({name: model for name, model in endpoint.coming.items() if model.state != "failed"})
            return
        old, endpoint.models = (
            endpoint.models,
            {name: endpoint.coming.get(name) or endpoint.models[name] for name in config.entities},
        )
        endpoint.config, endpoint.pending, endpoint.coming, endpoint.update = config, None, {}, "NOT_UPDATING"
        endpoint.split.change(config.traffic)
        serving = set(map(id, endpoint.models.values()))
        self._drop({name: model for name, model in old.items() if id(model) not in serving})

    async def _provision(self, endpoint: Endpoint, model: ServedModel) -> None:
        try:
            given = model.source.environment
            resolved = self._state.secret_scopes.resolved(given, self.creator(endpoint))
        except (ApiError, UnresolvedSecret) as error:
            model.refuse(f"The served entity's environment variables can not be resolved: {error.message}")
            return
        model.environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", **resolved}
        await model.provision()

    def _drop(self, models: dict[str, ServedModel]) -> None:
        for model in models.values():
            self._state.serving.run(model.retire())

    def _milliseconds(self) -> int:
        return int(self._state.now() * 1000)


def _unchanged(endpoint: Endpoint, entity: Entity) -> bool:
    """Whether what serves under this name is what is asked for, and serves."""
    if endpoint.config is None or entity.name not in endpoint.models:
        return False
    return endpoint.config.entities.get(entity.name) == entity and endpoint.models[entity.name].state != "failed"


def _failed(models: dict[str, ServedModel]) -> bool:
    return any(model.state == "failed" for model in models.values())


def _concurrency(endpoint: Endpoint) -> int:
    """What an endpoint may scale to: the active configuration, or the one on its way if that is more."""
    configs = [config for config in (endpoint.config, endpoint.pending) if config is not None]
    return max((sum(entity.most_concurrency for entity in one.entities.values()) for one in configs), default=0)
