"""Data assets: names and versions for files and folders in datastores.

Bodies: Azure/azure-rest-api-specs, examples `Workspace/DataVersionBase/*` and `DataContainer/*`. A version keeps the
type of its name's first one. MLTable is refused: its files are read by a library of Azure ML that the sandbox has not.
"""

from __future__ import annotations

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.arm import Action, AzureCall, arm_route
from trainyard_sandbox.azure.assets import AssetStore, Author
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

TYPES = ("uri_file", "uri_folder")
_PUT = put_shape(
    {
        "dataType": Str(choices=(*TYPES, "mltable")),
        "dataUri": Str(min_length=1),
        "referencedUris": AnyJson(),
        "autoDeleteSetting": AnyJson(),
    },
    required=("dataType", "dataUri"),
)


def attach(state: SandboxState) -> None:
    """Hang the data assets on the state."""
    state.azure.data = AssetStore("data", state.azure.now)


def routes() -> list[Route]:
    """Mounted by server.py."""
    read, write = "workspaces/data/versions/read", "workspaces/data/versions/write"
    return [
        arm_route("/data", {"GET": Action(list_names, "workspaces/data/read", VERSIONS, CONTAINER_QUERY)}),
        arm_route("/data/{name}", {"GET": Action(get_name, "workspaces/data/read", VERSIONS)}),
        arm_route("/data/{name}/versions", {"GET": Action(list_versions, read, VERSIONS, LIST_QUERY)}),
        arm_route(
            "/data/{name}/versions/{version}",
            {"GET": Action(get_version, read, VERSIONS), "PUT": Action(put_data, write, VERSIONS)},
        ),
    ]


async def list_names(call: AzureCall) -> Response:
    """Containers of data."""
    store: AssetStore = call.azure.data
    return listed_containers(call, store)


async def get_name(call: AzureCall) -> Response:
    """One container."""
    store: AssetStore = call.azure.data
    return JSONResponse(container_body(call, store, require_container(store, call.path["name"])))


async def list_versions(call: AzureCall) -> Response:
    """Versions of a name."""
    store: AssetStore = call.azure.data
    require_container(store, call.path["name"])
    return listed_versions(call, store, store.versions(call.path["name"]))


async def get_version(call: AzureCall) -> Response:
    """One version."""
    store: AssetStore = call.azure.data
    return JSONResponse(version_body(call, store, require_version(store, call.path["name"], call.path["version"])))


async def put_data(call: AzureCall) -> Response:
    """Make a version: what `dataUri` points to is not looked at, as there."""
    store: AssetStore = call.azure.data
    properties = await put_properties(call, _PUT)
    if properties["dataType"] not in TYPES:
        message = f"This sandbox has no data of type {properties['dataType']}; use one of {', '.join(TYPES)}."
        raise user_error(message, "BadArgument", target="dataType")
    known = store.container(call.path["name"])
    if known is not None and known.properties.get("dataType") != properties["dataType"]:
        message = f"Data {known.name} is of type {known.properties.get('dataType')}, not {properties['dataType']}."
        raise user_error(message, "BadArgument", target="dataType")
    version, made = put_version(call, store, properties, "dataUri")
    store.ensure_container(version.name, Author.of(call.principal)).properties["dataType"] = properties["dataType"]
    return JSONResponse(version_body(call, store, version), 201 if made else 200)
