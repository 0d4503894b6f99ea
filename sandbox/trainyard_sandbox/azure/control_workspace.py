"""The part of the control API about the workspace's storage and assets; azure_client.py is its client."""

from __future__ import annotations

import base64
import binascii

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.datastores import Datastore
from trainyard_sandbox.azure.roles import ROLES, Role, RoleAssignment
from trainyard_sandbox.errors import invalid_parameter, not_found
from trainyard_sandbox.schema import AnyJson, ListOf, MapOf, Number, Obj, Str, json_body, query
from trainyard_sandbox.state import sandbox_state

_CUSTOM_ROLE = Obj(
    {
        "client_id": Str(),
        "role": Str(min_length=1),
        "actions": ListOf(Str(min_length=1)),
        "not_actions": ListOf(Str(min_length=1)),
    },
    required=("client_id", "role", "actions"),
)
KINDS = ("codes", "environments", "data", "models")
_BLOB = Obj(
    {"datastore": Str(), "path": Str(min_length=1), "content": Str()}, required=("datastore", "path", "content")
)
_DATASTORE = Obj({"name": Str(min_length=1), "container": Str(min_length=1)}, required=("name", "container"))
_WORKSPACE = Obj({"properties": MapOf(AnyJson())}, required=("properties",))
_WHERE = Obj({"datastore": Str(), "path": Str()}, required=("datastore",))
_SIGN = Obj(
    {"datastore": Str(), "path": Str(), "permissions": Str(min_length=1), "lifetime_seconds": Number()},
    required=("datastore",),
)
_ASSET = Obj(
    {
        "kind": Str(choices=("environments", "data", "models")),
        "name": Str(min_length=1),
        "version": Str(min_length=1),
        "properties": MapOf(AnyJson()),
    },
    required=("kind", "name", "version", "properties"),
)


def control_routes() -> list[Route]:
    """Mounted on the control API by server.py."""
    return [
        Route("/azure/workspace", change_workspace, methods=["PUT"]),
        Route("/azure/custom-roles", assign_custom_role, methods=["POST"]),
        Route("/azure/datastores", add_datastore, methods=["POST"]),
        Route("/azure/blobs", put_blob, methods=["POST"]),
        Route("/azure/blobs", list_blobs, methods=["GET"]),
        Route("/azure/blobs/content", get_blob, methods=["GET"]),
        Route("/azure/signatures", sign, methods=["POST"]),
        Route("/azure/assets", add_asset, methods=["POST"]),
        Route("/azure/assets/{kind}", list_assets, methods=["GET"]),
    ]


async def change_workspace(request: Request) -> Response:
    """PUT /azure/workspace: properties that the workspace shows instead of its own; {} for the truth again."""
    sandbox_state(request).azure.workspace_overrides = (await json_body(request, _WORKSPACE))["properties"]
    return JSONResponse({})


async def assign_custom_role(request: Request) -> Response:
    """POST /azure/custom-roles: give a role that is not built in on the workspace."""
    azure = sandbox_state(request).azure
    given = await json_body(request, _CUSTOM_ROLE)
    if given["role"] in ROLES:
        raise invalid_parameter(f"{given['role']} is built in")
    role = Role(tuple(given["actions"]), tuple(given.get("not_actions", ())))
    principal = azure.directory.require(given["client_id"])
    principal.assignments.append(RoleAssignment(given["role"], azure.workspace_scope, role))
    return JSONResponse({})


async def add_datastore(request: Request) -> Response:
    """POST /azure/datastores: a name for a container, made if it is missing."""
    given = await json_body(request, _DATASTORE)
    sandbox_state(request).azure.datastores.add(given["name"], given["container"])
    return JSONResponse({})


async def put_blob(request: Request) -> Response:
    """POST /azure/blobs: put a blob."""
    given = await json_body(request, _BLOB)
    try:
        content = base64.b64decode(given["content"], validate=True)
    except binascii.Error:
        raise invalid_parameter("content is not base64") from None
    store = _datastore(request, given["datastore"])
    sandbox_state(request).azure.blobs.write(store.container, given["path"], content)
    return JSONResponse({})


async def list_blobs(request: Request) -> Response:
    """GET /azure/blobs: names of the blobs below a path, with their sizes."""
    given = query(request, _WHERE)
    store = _datastore(request, given["datastore"])
    found = sandbox_state(request).azure.blobs.list(store.container, given.get("path", ""))
    return JSONResponse([{"name": blob.name, "size": blob.size} for blob in found])


async def get_blob(request: Request) -> Response:
    """GET /azure/blobs/content: a blob's bytes, as base64."""
    given = query(request, _WHERE)
    store, path = _datastore(request, given["datastore"]), given.get("path", "")
    blobs = sandbox_state(request).azure.blobs
    if not blobs.exists(store.container, path):
        raise not_found(f"no blob {path}")
    return JSONResponse({"content": base64.b64encode(blobs.read(store.container, path)).decode()})


async def sign(request: Request) -> Response:
    """POST /azure/signatures: a URL with a shared access signature."""
    given = await json_body(request, _SIGN)
    store = _datastore(request, given["datastore"])
    url = (
        sandbox_state(request)
        .azure.signatures()
        .signed_url(
            store.container, given.get("path"), given.get("permissions", "r"), given.get("lifetime_seconds", 3600.0)
        )
    )
    return JSONResponse({"url": url})


async def add_asset(request: Request) -> Response:
    """POST /azure/assets: a version, as somebody else would have made it."""
    given = await json_body(request, _ASSET)
    store = getattr(sandbox_state(request).azure, given["kind"])
    version = store.put(given["name"], given["version"], given["properties"])
    if given["kind"] == "data":
        store.ensure_container(version.name).properties["dataType"] = version.properties.get("dataType")
    return JSONResponse({})


async def list_assets(request: Request) -> Response:
    """GET /azure/assets/{kind}: every version of a kind, oldest first."""
    kind = request.path_params["kind"]
    if kind not in KINDS:
        raise not_found(f"no assets of kind {kind}; there are {', '.join(KINDS)}")
    store = getattr(sandbox_state(request).azure, kind)
    return JSONResponse(
        [
            {"name": v.name, "version": v.version, "properties": v.properties, "author": v.author.name}
            for container in store.containers.values()
            for v in container.versions.values()
        ]
    )


def _datastore(request: Request, name: str) -> Datastore:
    found: Datastore | None = sandbox_state(request).azure.datastores.get(name)
    if found is None:
        raise not_found(f"no datastore {name}")
    return found
