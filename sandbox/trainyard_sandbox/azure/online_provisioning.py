"""Brings online endpoints and deployments from state to state, in the background; only this module waits.

online_endpoints.py and online_deployments.py begin each change here, the control API's hand edits too. What serves goes
on serving until what replaces it is ready, and for good when that fails (Azure documentation, "Safe rollout for online
endpoints": an update of a deployment is rolling). How long machines take and how models behave is scripted with
`Fleet.scripts`; the endpoint's own delays are `OnlineStore`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainyard_sandbox.azure.errors import iso_time
from trainyard_sandbox.azure.job_shapes import duration_seconds
from trainyard_sandbox.azure.online_models import PROVIDED, DeploymentFailed, prepared
from trainyard_sandbox.azure.online_store import OnlineDeployment, OnlineEndpoint, OnlineStore
from trainyard_sandbox.azure.state import AzureState
from trainyard_sandbox.serving.fleet import Fleet
from trainyard_sandbox.serving.scripts import Identity
from trainyard_sandbox.serving.served_model import ServedModel, Source
from trainyard_sandbox.state import SandboxState

_RESTARTS = ("model", "environmentId", "environmentVariables", "modelMountPath")
"""Properties that another container is needed for."""


class Provisioning:
    """The changes under way in one workspace."""

    def __init__(self, state: SandboxState) -> None:
        self._state = state

    @property
    def _azure(self) -> AzureState:
        return self._state.azure

    @property
    def _store(self) -> OnlineStore:
        store: OnlineStore = self._azure.online
        return store

    @property
    def _fleet(self) -> Fleet:
        fleet: Fleet = self._state.serving
        return fleet

    def pretends(self, endpoint: str, name: str) -> bool:
        """Whether scripts say that this deployment is answered for without a model."""
        return self._fleet.scripts.behaviour(Identity("azure", endpoint, name), 0).pretend

    def change_endpoint(self, endpoint: OnlineEndpoint, apply: Callable[[], None], moving: str = "Updating") -> None:
        """Have the endpoint in state `moving` for its time; then `apply`, and it has succeeded. What fails is as
        before."""
        endpoint.state, endpoint.failure = moving, None
        endpoint.started += 1
        began = endpoint.started

        async def run() -> None:
            await asyncio.sleep(self._store.endpoint_seconds)
            if endpoint.started != began:
                return
            if self._store.endpoint_failure:
                endpoint.state, endpoint.failure = "Failed", ("InternalServerError", self._store.endpoint_failure)
                return
            apply()
            endpoint.state, endpoint.made = "Succeeded", True

        self._fleet.run(run())

    def delete_endpoint(self, endpoint: OnlineEndpoint) -> None:
        """Take an endpoint away with its deployments; nothing answers from now on."""
        endpoint.state = "Deleting"
        endpoint.started += 1
        endpoint.split.change({})
        for one in endpoint.deployments.values():
            one.state = "Deleting"

        async def run() -> None:
            servers = [one.server for one in endpoint.deployments.values() if one.server is not None]
            await asyncio.gather(asyncio.sleep(self._store.delete_seconds), *(server.retire() for server in servers))
            self._store.remove(endpoint.name)

        self._fleet.run(run())

    def delete_deployment(self, endpoint: OnlineEndpoint, deployment: OnlineDeployment) -> None:
        """Take a deployment away; its machines are free when it is gone."""
        deployment.state = "Deleting"

        async def run() -> None:
            await asyncio.sleep(self._store.delete_seconds)
            if deployment.server is not None:
                await deployment.server.retire()
            endpoint.deployments.pop(deployment.name, None)
            endpoint.split.change({name: share for name, share in endpoint.traffic.items() if name != deployment.name})

        self._fleet.run(run())

    def deploy(self, endpoint: OnlineEndpoint, deployment: OnlineDeployment) -> None:
        """Bring up a new deployment; it has succeeded or failed afterwards."""
        deployment.state, deployment.failure = "Creating", None
        self._fleet.run(self._replace_server(endpoint, deployment))

    def update(self, endpoint: OnlineEndpoint, deployment: OnlineDeployment, properties: dict[str, Any]) -> None:
        """Give a deployment other properties; with another container only if these need one."""
        before = deployment.properties
        deployment.state, deployment.failure = "Updating", None
        deployment.properties = properties
        if deployment.server is None or any(before.get(key) != properties.get(key) for key in _RESTARTS):
            self._fleet.run(self._replace_server(endpoint, deployment))
        else:
            self._fleet.run(self._settle(deployment))

    async def _settle(self, deployment: OnlineDeployment) -> None:
        server = deployment.server
        await asyncio.sleep(server.behaviour.provisioning_seconds if server is not None else 0)
        if deployment.state == "Updating":
            deployment.state = "Succeeded"

    async def _replace_server(self, endpoint: OnlineEndpoint, deployment: OnlineDeployment) -> None:
        try:
            server = await self._started(endpoint, deployment)
        except DeploymentFailed as error:
            if deployment.state != "Deleting":
                deployment.state, deployment.failure = "Failed", (error.code, str(error))
                deployment.storage_log, deployment.server_log = error.storage_log, error.server_log
            return
        before, deployment.server = deployment.server, server
        if deployment.state != "Deleting":
            deployment.state = "Succeeded"
        if before is not None:
            await before.retire()
        if (
            self._store.get(endpoint.name) is not endpoint
            or endpoint.deployments.get(deployment.name) is not deployment
        ):
            await server.retire()

    async def _started(self, endpoint: OnlineEndpoint, deployment: OnlineDeployment) -> ServedModel:
        """A server that is ready.

        Raises:
            DeploymentFailed: it is not, within the time of its readiness probe.
        """
        pretended = self.pretends(endpoint.name, deployment.name)
        try:
            given = prepared(self._azure, endpoint, deployment, pretended=pretended)
        except DeploymentFailed:
            identity = Identity("azure", endpoint.name, deployment.name)
            await asyncio.sleep(self._fleet.scripts.behaviour(identity, 0).provisioning_seconds)
            raise
        source = Source(given.folder if not pretended else Path(), given.environment, PROVIDED)
        server = self._fleet.serve(Identity("azure", endpoint.name, deployment.name), source)
        seconds = server.behaviour.provisioning_seconds + _readiness_seconds(deployment.properties)
        late = False
        try:
            await asyncio.wait_for(server.provision(), seconds)
        except TimeoutError:
            late = True
        if server.state != "ready":
            reason = f"Readiness probe failed for {seconds:.0f} s." if late else server.message
            log = f"{server.build_log}{server.log}{reason}\n"
            await server.retire()
            message = "ResourceNotReady: User container has crashed or terminated: " + reason
            message += " Please see troubleshooting guide, available here: https://aka.ms/oe-tsg#error-resourcenotready"
            raise DeploymentFailed("ResourceNotReady", message, storage_log=given.storage_log, server_log=log)
        deployment.storage_log, deployment.server_log = given.storage_log, ""
        return server


def _readiness_seconds(properties: dict[str, Any]) -> float:
    """How long a container may take to be ready: by default 10 s, and 30 times 10 s ("CLI (v2) managed online
    deployment YAML schema", ProbeSettings)."""
    probe = properties.get("readinessProbe") or {}
    tries: int = probe.get("failureThreshold", 30)
    delay = duration_seconds(probe.get("initialDelay", "PT10S"))
    return delay + tries * duration_seconds(probe.get("period", "PT10S"))


def container_log(deployment: OnlineDeployment, container: str, now: float) -> str:
    """What getLogs shows, in the form that the service gives it: the instance's steps, then the container's output
    (recalled)."""
    failed = deployment.state == "Failed" and deployment.server is None
    downloaded = bool(deployment.storage_log) and "succeeded" in deployment.storage_log
    started = deployment.server is not None
    steps = {
        "SystemSetup": "Succeeded",
        "UserContainerImagePull": "Succeeded",
        "ModelDownload": "Succeeded" if downloaded or started else "Failed" if failed else "InProgress",
        "UserContainerStart": "Succeeded" if started else "Failed" if failed else "InProgress",
    }
    server = deployment.server
    if container == "StorageInitializer":
        output = deployment.storage_log
    else:
        output = (f"{server.build_log}{server.log}" if server is not None else "") + deployment.server_log
    status = "".join(f"{step}: {state}\n" for step, state in steps.items())
    event = f"Kind: Pod, Name: {container}, Type: Normal, Time: {iso_time(now)}, Message: Container observed\n"
    return f"Instance status:\n{status}\nContainer events:\n{event}\nContainer logs:\n{output}"


def attach(state: SandboxState) -> None:
    """Give the workspace its endpoints: none."""
    state.azure.online = OnlineStore(state.now)
    state.azure.online_changes = Provisioning(state)
