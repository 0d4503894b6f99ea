"""Unity Catalog API 2.1, volumes: create, get, list, update, delete over `VolumeStore`.

server.py mounts `routes()`. It must never decide who may do what: the store does.

Read in: databricks-sdk `service/catalog.py` (VolumesAPI, VolumeInfo, page lengths). External volumes need external
locations, which the sandbox has none of: they are refused.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.auth import caller
from trainyard_sandbox.errors import invalid_parameter
from trainyard_sandbox.schema import Bool, Int, Obj, Str, json_body, page, query
from trainyard_sandbox.state import SandboxState, sandbox_state
from trainyard_sandbox.stores.volumes import Volume, VolumeStore, volumes_of

CREATE = Obj(
    {
        "catalog_name": Str(min_length=1),
        "schema_name": Str(min_length=1),
        "name": Str(min_length=1),
        "volume_type": Str(choices=("MANAGED", "EXTERNAL")),
        "comment": Str(),
        "storage_location": Str(),
    },
    required=("catalog_name", "schema_name", "name", "volume_type"),
)
UPDATE = Obj({"comment": Str(), "new_name": Str(min_length=1), "owner": Str(min_length=1)})
LIST = Obj(
    {
        "catalog_name": Str(),
        "schema_name": Str(),
        "include_browse": Bool(),
        "max_results": Int(0),
        "page_token": Str(),
    },
    required=("catalog_name", "schema_name"),
)
INCLUDE_BROWSE = Obj({"include_browse": Bool()})
PAGE_LENGTH = 10_000


def attach(state: SandboxState) -> None:
    """Hang an empty store on the state."""
    if state.volumes is None:
        state.volumes = VolumeStore(state.securables, state.data_dir.resolve() / "volumes", state.now)


def routes() -> list[Route]:
    """The routes of this module."""
    base = "/api/2.1/unity-catalog/volumes"
    return [
        Route(base, create, methods=["POST"]),
        Route(base, list_volumes, methods=["GET"]),
        Route(f"{base}/{{full_name}}", read, methods=["GET"]),
        Route(f"{base}/{{full_name}}", update, methods=["PATCH"]),
        Route(f"{base}/{{full_name}}", delete, methods=["DELETE"]),
    ]


def control_routes() -> list[Route]:
    """POST /volumes makes one, POST /volumes/files puts a file into one, as an administrator would."""
    return [Route("/volumes", add_volume, methods=["POST"]), Route("/volumes/files", add_file, methods=["POST"])]


async def add_volume(request: Request) -> Response:
    """POST /volumes (control API): `full_name` with its schema, and `owner`."""
    state = sandbox_state(request)
    shape = Obj({"full_name": Str(min_length=1), "owner": Str(min_length=1)}, required=("full_name",))
    given = await json_body(request, shape)
    store = volumes_of(request)
    state.securables.add_schema(given["full_name"].rpartition(".")[0])
    return JSONResponse(_info(store, store.add(given["full_name"], given.get("owner", "admins"))))


async def add_file(request: Request) -> Response:
    """POST /volumes/files (control API): `path` and `content` in base64; replaces what is there."""
    given = await json_body(request, Obj({"path": Str(min_length=1), "content": Str()}, required=("path", "content")))
    try:
        content = base64.b64decode(given["content"], validate=True)
    except binascii.Error:
        raise invalid_parameter("The field 'content' is not base64-encoded.") from None
    volumes_of(request).put(given["path"], content)
    return JSONResponse({})


async def create(request: Request) -> Response:
    """VolumesAPI.create."""
    principal = caller(request).principal
    body = await json_body(request, CREATE)
    if body["volume_type"] != "MANAGED" or "storage_location" in body:
        raise invalid_parameter("The sandbox has no external locations: only MANAGED volumes can be created.")
    store = volumes_of(request)
    full_name = f"{body['catalog_name']}.{body['schema_name']}.{body['name']}"
    return JSONResponse(_info(store, store.create(principal, full_name, body.get("comment"))))


async def read(request: Request) -> Response:
    """VolumesAPI.read."""
    principal = caller(request).principal
    query(request, INCLUDE_BROWSE)
    store = volumes_of(request)
    return JSONResponse(_info(store, store.get(principal, request.path_params["full_name"], "READ VOLUME")))


async def list_volumes(request: Request) -> Response:
    """VolumesAPI.list."""
    principal = caller(request).principal
    asked = query(request, LIST)
    store = volumes_of(request)
    found = store.in_schema(principal, f"{asked['catalog_name']}.{asked['schema_name']}")
    shown, following = page(found, asked, PAGE_LENGTH, PAGE_LENGTH)
    return JSONResponse({"volumes": [_info(store, volume) for volume in shown]} | following)


async def update(request: Request) -> Response:
    """VolumesAPI.update: name, owner or comment."""
    principal = caller(request).principal
    body = await json_body(request, UPDATE)
    store = volumes_of(request)
    volume = store.get(principal, request.path_params["full_name"])
    if "owner" in body:
        store.securables.change_owner(volume.full_name, body["owner"])
    if "new_name" in body:
        store.rename(volume, body["new_name"])
    volume.comment = body.get("comment", volume.comment)
    store.touch(principal, volume)
    return JSONResponse(_info(store, volume))


async def delete(request: Request) -> Response:
    """VolumesAPI.delete."""
    principal = caller(request).principal
    query(request, Obj({}))
    volumes_of(request).delete(principal, request.path_params["full_name"])
    return JSONResponse({})


def _info(store: VolumeStore, volume: Volume) -> dict[str, Any]:
    catalog_name, schema_name, name = volume.full_name.split(".")
    info: dict[str, Any] = {
        "catalog_name": catalog_name,
        "schema_name": schema_name,
        "name": name,
        "full_name": volume.full_name,
        "owner": volume.owner,
        "volume_id": volume.id,
        "volume_type": "MANAGED",
        "storage_location": f"s3://trainyard-sandbox-metastore/volumes/{volume.id}",
        "metastore_id": store.securables.metastore_id,
        "created_at": volume.created_at,
        "created_by": volume.created_by,
        "updated_at": volume.updated_at,
        "updated_by": volume.updated_by,
    }
    return info if volume.comment is None else info | {"comment": volume.comment}
