"""Components of the workspace: a command with typed inputs and outputs, which pipeline jobs name by id.

azure_app.py mounts `routes()`; pipelines.py reads `state.azure.components`. Only command components are supported; a
version never changes.

Fields of `componentSpec`: azure-ai-ml `entities/_component/command_component.py` and what its `_to_rest_object` sends
(snake case, as in Azure Machine Learning documentation, "CLI (v2) command component YAML schema"); bodies:
Azure/azure-rest-api-specs, examples `Workspace/ComponentVersion`. azure-ai-ml asks for an anonymous component by its
hash before it makes one (`operations/_component_operations.py`).
"""

from __future__ import annotations

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.arm import Action, AzureCall, arm_route
from trainyard_sandbox.azure.assets import AssetStore
from trainyard_sandbox.azure.assets_api import (
    LIST_QUERY,
    container_body,
    listed_versions,
    page_response,
    put_shape,
    put_version,
    require_container,
    require_version,
    version_body,
)
from trainyard_sandbox.azure.assets_api import (
    VERSIONS as ASSET_VERSIONS,
)
from trainyard_sandbox.azure.errors import user_error
from trainyard_sandbox.azure.job_shapes import ASSET_TYPES, check_binding_name
from trainyard_sandbox.schema import AnyJson, Bool, MapOf, Obj, Str
from trainyard_sandbox.state import SandboxState

VERSIONS = (*ASSET_VERSIONS, "2024-01-01-preview")
LITERAL_TYPES = ("string", "number", "integer", "boolean")
COMMAND_TYPES = ("command", "CommandComponent")

_INPUT = Obj(
    {
        "type": Str((*LITERAL_TYPES, *ASSET_TYPES)),
        "optional": Bool(),
        "default": AnyJson(),
        "description": Str(),
        "mode": Str(),
        "min": AnyJson(),
        "max": AnyJson(),
        "enum": AnyJson(),
    },
    ("type",),
)
_OUTPUT = Obj({"type": Str(ASSET_TYPES), "mode": Str(), "description": Str()}, ("type",))
_SPEC = Obj(
    {
        "type": Str(),
        "name": Str(min_length=1),
        "version": Str(),
        "display_name": Str(),
        "description": Str(),
        "tags": MapOf(Str()),
        "command": Str(min_length=1),
        "code": Str(),
        "environment": Str(min_length=1),
        "distribution": AnyJson(),
        "resources": MapOf(AnyJson()),
        "inputs": MapOf(_INPUT),
        "outputs": MapOf(_OUTPUT),
        "is_deterministic": Bool(),
        "$schema": Str(),
        "_source": Str(),
    },
    ("type", "command", "environment"),
)
_PUT = put_shape({"componentSpec": _SPEC}, ("componentSpec",))


def attach(state: SandboxState) -> None:
    """Hang the components on the state."""
    state.azure.components = AssetStore("components", state.azure.now)


def routes() -> list[Route]:
    """The routes of this module."""
    read, write = "workspaces/components/versions/read", "workspaces/components/versions/write"
    one = "/components/{name}/versions/{version}"
    return [
        arm_route("/components", {"GET": Action(list_names, "workspaces/components/read", VERSIONS, LIST_QUERY)}),
        arm_route("/components/{name}", {"GET": Action(get_name, "workspaces/components/read", VERSIONS)}),
        arm_route("/components/{name}/versions", {"GET": Action(list_versions, read, VERSIONS, LIST_QUERY)}),
        arm_route(
            one,
            {"GET": Action(get_version, read, VERSIONS), "PUT": Action(put_component, write, VERSIONS)},
        ),
    ]


async def list_names(call: AzureCall) -> Response:
    """Containers of components."""
    store: AssetStore = call.azure.components
    return page_response(call, [container_body(call, store, found) for found in store.containers.values()])


async def get_name(call: AzureCall) -> Response:
    """One container."""
    store: AssetStore = call.azure.components
    return JSONResponse(container_body(call, store, require_container(store, call.path["name"])))


async def list_versions(call: AzureCall) -> Response:
    """Versions of a name."""
    store: AssetStore = call.azure.components
    return listed_versions(call, store, store.versions(require_container(store, call.path["name"]).name))


async def get_version(call: AzureCall) -> Response:
    """One version."""
    store: AssetStore = call.azure.components
    return JSONResponse(version_body(call, store, require_version(store, call.path["name"], call.path["version"])))


async def put_component(call: AzureCall) -> Response:
    """Make a version; a second PUT may change description and tags only."""
    body = await call.body()
    _check_kind(body)
    properties = (await call.body(_PUT))["properties"]
    spec = properties["componentSpec"]
    for place in ("inputs", "outputs"):
        for name in spec.get(place, {}):
            check_binding_name(place, name)
    version, made = put_version(call, call.azure.components, properties, None)
    return JSONResponse(version_body(call, call.azure.components, version), 201 if made else 200)


def _check_kind(body: object) -> None:
    """Refuse other kinds by name, before their fields are looked at."""
    properties = body.get("properties") if isinstance(body, dict) else None
    spec = properties.get("componentSpec") if isinstance(properties, dict) else None
    kind = spec.get("type") if isinstance(spec, dict) else None
    if kind not in COMMAND_TYPES:
        raise user_error(f"This sandbox supports components of type command; componentSpec.type is '{kind}'.")
