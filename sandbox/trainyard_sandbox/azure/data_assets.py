"""Data assets: names and versions for files and folders in datastores.

Bodies: Azure/azure-rest-api-specs, examples `Workspace/DataVersionBase/*` and `DataContainer/*`. A version keeps the
type of its name's first one. MLTable is refused: its files are read by a library of Azure ML that the sandbox has not.
"""

from __future__ import annotations

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.arm import AzureCall
from trainyard_sandbox.azure.assets import AssetStore, Author
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
    return asset_routes("data", PUT=put_data)


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
