"""Environments: images with conda packages, by name and version, and the unnamed ones that jobs bring along.

Bodies: Azure/azure-rest-api-specs, examples `Workspace/EnvironmentVersion/*` and `EnvironmentContainer/*`. An unnamed
environment is `CliV2AnonymousEnvironment` with the hash of its content as version (azure-ai-ml `constants/_common.py`).
Building an image from a Docker context is refused: the sandbox has no Docker.
"""

from __future__ import annotations

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.arm import AzureCall
from trainyard_sandbox.azure.assets import AssetStore
from trainyard_sandbox.azure.assets_api import (
    asset_routes,
    put_properties,
    put_shape,
    put_version,
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
    return asset_routes("environments", PUT=put_environment)


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
