"""Environments: images with conda packages, by name and version, and the unnamed ones that jobs bring along.

Bodies: Azure/azure-rest-api-specs, examples `Workspace/EnvironmentVersion/*` and `EnvironmentContainer/*`. An unnamed
environment is `CliV2AnonymousEnvironment` with the hash of its content as version (azure-ai-ml `constants/_common.py`).
Building an image from a Docker context is refused: the sandbox has no Docker.
"""

from __future__ import annotations

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.arm import Action, AzureCall, arm_route
from trainyard_sandbox.azure.assets import AssetStore
from trainyard_sandbox.azure.assets_api import (
    CONTAINER_QUERY,
    LIST_QUERY,
    VERSIONS,
    container_body,
    listed_containers,
    listed_versions,
    put_properties,
    put_shape,
    put_version,
    require_container,
    require_version,
    version_body,
)
from trainyard_sandbox.azure.errors import user_error
from trainyard_sandbox.schema import AnyJson, Str
from trainyard_sandbox.state import SandboxState

_PUT = put_shape(
    {
        "image": Str(min_length=1),
        "condaFile": Str(),
        "build": AnyJson(),
        "osType": Str(choices=("Linux", "Windows")),
        "inferenceConfig": AnyJson(),
        "autoRebuild": Str(choices=("Disabled", "OnBaseImageUpdate")),
        "stage": Str(),
    }
)


def attach(state: SandboxState) -> None:
    """Hang the environments on the state."""
    state.azure.environments = AssetStore("environments", state.azure.now)


def routes() -> list[Route]:
    """Mounted by server.py."""
    read, write = "workspaces/environments/versions/read", "workspaces/environments/versions/write"
    names = "workspaces/environments/read"
    return [
        arm_route("/environments", {"GET": Action(list_names, names, VERSIONS, CONTAINER_QUERY)}),
        arm_route("/environments/{name}", {"GET": Action(get_name, names, VERSIONS)}),
        arm_route("/environments/{name}/versions", {"GET": Action(list_versions, read, VERSIONS, LIST_QUERY)}),
        arm_route(
            "/environments/{name}/versions/{version}",
            {"GET": Action(get_version, read, VERSIONS), "PUT": Action(put_environment, write, VERSIONS)},
        ),
    ]


async def list_names(call: AzureCall) -> Response:
    """Containers of environments."""
    store: AssetStore = call.azure.environments
    return listed_containers(call, store)


async def get_name(call: AzureCall) -> Response:
    """One container."""
    store: AssetStore = call.azure.environments
    return JSONResponse(container_body(call, store, require_container(store, call.path["name"])))


async def list_versions(call: AzureCall) -> Response:
    """Versions of a name."""
    store: AssetStore = call.azure.environments
    require_container(store, call.path["name"])
    return listed_versions(call, store, store.versions(call.path["name"]))


async def get_version(call: AzureCall) -> Response:
    """One version."""
    store: AssetStore = call.azure.environments
    return JSONResponse(version_body(call, store, require_version(store, call.path["name"], call.path["version"])))


async def put_environment(call: AzureCall) -> Response:
    """Make a version: an image, with or without conda packages."""
    store: AssetStore = call.azure.environments
    properties = await put_properties(call, _PUT)
    if "build" in properties:
        raise user_error("This sandbox builds no images from a Docker context; name an image.", "BadArgument")
    if not properties.get("image"):
        raise user_error("Environment must have an image or a build context.", "BadArgument", target="image")
    properties = {"environmentType": "UserCreated", "osType": "Linux"} | properties
    version, made = put_version(call, store, properties, None)
    return JSONResponse(version_body(call, store, version), 201 if made else 200)
