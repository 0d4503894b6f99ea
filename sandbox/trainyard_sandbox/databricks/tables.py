"""Unity Catalog API 2.1, tables: get, list, exists, delete over `TableStore`; creating one is the control API's.

server.py mounts `routes()`. It must never decide who may do what: the store does.

Read in: databricks-sdk `service/catalog.py` (TablesAPI, TableInfo, TableExistsResponse, ColumnInfo). Tables have no
rows here, and the API's own create (external Delta tables) is not offered: there are no external locations.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.auth import caller
from trainyard_sandbox.errors import invalid_parameter
from trainyard_sandbox.schema import Bool, Int, MapOf, Obj, Str, json_body, page, query
from trainyard_sandbox.state import SandboxState, sandbox_state
from trainyard_sandbox.stores.tables import Table, TableStore, tables_of

GET = Obj({"include_browse": Bool(), "include_delta_metadata": Bool(), "include_manifest_capabilities": Bool()})
LIST = Obj(
    {
        "catalog_name": Str(),
        "schema_name": Str(),
        "include_browse": Bool(),
        "include_manifest_capabilities": Bool(),
        "max_results": Int(0),
        "omit_columns": Bool(),
        "omit_properties": Bool(),
        "omit_username": Bool(),
        "page_token": Str(),
    },
    required=("catalog_name", "schema_name"),
)
ADD = Obj(
    {
        "full_name": Str(min_length=1),
        "owner": Str(min_length=1),
        "columns": MapOf(Str(min_length=1)),
        "properties": MapOf(Str()),
        "comment": Str(),
    },
    required=("full_name", "columns"),
)
PAGE_LENGTH = 50
"""The platform's own is not published for tables; a short one makes clients follow pages."""


def attach(state: SandboxState) -> None:
    """Hang an empty store on the state."""
    if state.tables is None:
        state.tables = TableStore(state.securables, state.now)


def routes() -> list[Route]:
    """The routes of this module."""
    base = "/api/2.1/unity-catalog/tables"
    return [
        Route(base, list_tables, methods=["GET"]),
        Route(f"{base}/{{full_name}}", get, methods=["GET"]),
        Route(f"{base}/{{full_name}}", delete, methods=["DELETE"]),
        Route(f"{base}/{{full_name}}/exists", exists, methods=["GET"]),
    ]


def control_routes() -> list[Route]:
    """POST /tables makes one as Spark would."""
    return [Route("/tables", add_table, methods=["POST"])]


async def add_table(request: Request) -> Response:
    """POST /tables (control API): with its schema; `columns` maps names to SQL types."""
    given = await json_body(request, ADD)
    store = tables_of(request)
    sandbox_state(request).securables.add_schema(given["full_name"].rpartition(".")[0])
    if not given["columns"]:
        raise invalid_parameter("A table has at least one column.")
    table = store.add(
        given["full_name"],
        given.get("owner", "admins"),
        given["columns"],
        given.get("properties", {}),
        given.get("comment"),
    )
    return JSONResponse(_info(store, table))


async def get(request: Request) -> Response:
    """TablesAPI.get."""
    principal = caller(request).principal
    query(request, GET)
    store = tables_of(request)
    return JSONResponse(_info(store, store.get(principal, request.path_params["full_name"])))


async def exists(request: Request) -> Response:
    """TablesAPI.exists."""
    principal = caller(request).principal
    query(request, Obj({}))
    return JSONResponse({"table_exists": tables_of(request).exists(principal, request.path_params["full_name"])})


async def list_tables(request: Request) -> Response:
    """TablesAPI.list; all at once unless `max_results` asks for pages."""
    principal = caller(request).principal
    asked = query(request, LIST)
    store = tables_of(request)
    found = store.in_schema(principal, f"{asked['catalog_name']}.{asked['schema_name']}")
    length = PAGE_LENGTH if "max_results" in asked else len(found) + 1
    shown, following = page(found, asked, length, length)
    omitted = [name for name, omit in _OMITTED.items() if asked.get(omit, False)]
    infos = [{key: value for key, value in _info(store, table).items() if key not in omitted} for table in shown]
    return JSONResponse({"tables": infos} | following)


async def delete(request: Request) -> Response:
    """TablesAPI.delete."""
    principal = caller(request).principal
    query(request, Obj({}))
    tables_of(request).delete(principal, request.path_params["full_name"])
    return JSONResponse({})


_OMITTED = {
    "columns": "omit_columns",
    "properties": "omit_properties",
    "owner": "omit_username",
    "created_by": "omit_username",
    "updated_by": "omit_username",
}


def _info(store: TableStore, table: Table) -> dict[str, Any]:
    catalog_name, schema_name, name = table.full_name.split(".")
    info: dict[str, Any] = {
        "catalog_name": catalog_name,
        "schema_name": schema_name,
        "name": name,
        "full_name": table.full_name,
        "owner": table.owner,
        "table_id": table.id,
        "table_type": "MANAGED",
        "data_source_format": "DELTA",
        "columns": table.columns,
        "properties": table.properties,
        "storage_location": f"s3://trainyard-sandbox-metastore/tables/{table.id}",
        "metastore_id": store.securables.metastore_id,
        "created_at": table.created_at,
        "created_by": table.owner,
        "updated_at": table.created_at,
        "updated_by": table.owner,
    }
    return info if table.comment is None else info | {"comment": table.comment}
