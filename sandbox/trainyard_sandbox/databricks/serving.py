"""Model Serving API 2.0: create, get, list, update config, tags, AI Gateway, notifications, delete; logs.

server.py mounts `routes()` and hangs the store on the state with `attach`. Requests to the models themselves, and
metrics, are in serving_invocations.py, permissions in permissions.py.

Read in: databricks-sdk `service/serving.py` ServingEndpointsAPI; Databricks documentation, "Access control lists",
serving endpoints (view: get, list; query; manage: update, delete, permissions). In `PUT .../config` what is served is
said in full, as its documentation's examples do. An inference table needs USE CATALOG, USE SCHEMA and CREATE TABLE of
the creator, is named `<prefix>_payload`, and must be disabled before its place changes (AiGatewayInferenceTableConfig;
"Monitor served models using AI Gateway-enabled inference tables"). It has no rows here, as no table has.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.auth import caller
from trainyard_sandbox.compute.rights import holds
from trainyard_sandbox.databricks import serving_shapes as shapes
from trainyard_sandbox.databricks import serving_view as view
from trainyard_sandbox.databricks.serving_endpoints import MANAGE, VIEW, Endpoint, EndpointStore
from trainyard_sandbox.errors import ApiError, invalid_parameter, not_found, permission_denied
from trainyard_sandbox.principals import Principal
from trainyard_sandbox.schema import Obj, json_body, query
from trainyard_sandbox.serving.served_model import ServedModel
from trainyard_sandbox.state import SandboxState, sandbox_state

NOTHING = Obj({})
PAYLOAD_COLUMNS = {
    "databricks_request_id": "STRING",
    "client_request_id": "STRING",
    "request_date": "DATE",
    "request_time": "TIMESTAMP",
    "status_code": "INT",
    "sampling_fraction": "DOUBLE",
    "execution_duration_ms": "BIGINT",
    "request": "STRING",
    "response": "STRING",
    "served_entity_id": "STRING",
    "requester": "STRING",
}
"""Databricks documentation, "Monitor served models using AI Gateway-enabled inference tables", schema."""


def attach(state: SandboxState) -> None:
    """Hang an empty store on the state."""
    state.model_serving = EndpointStore(state)


def routes() -> list[Route]:
    """The routes of this module."""
    base = "/api/2.0/serving-endpoints"
    one, served = f"{base}/{{name}}", f"{base}/{{name}}/served-models/{{served}}"
    return [
        Route(base, create, methods=["POST"]),
        Route(base, list_endpoints, methods=["GET"]),
        Route(one, get, methods=["GET"]),
        Route(one, delete, methods=["DELETE"]),
        Route(f"{one}/config", update_config, methods=["PUT"]),
        Route(f"{one}/tags", patch_tags, methods=["PATCH"]),
        Route(f"{one}/ai-gateway", put_ai_gateway, methods=["PUT"]),
        Route(f"{one}/notifications", update_notifications, methods=["PATCH"]),
        Route(f"{served}/logs", logs, methods=["GET"]),
        Route(f"{served}/build-logs", build_logs, methods=["GET"]),
    ]


async def create(request: Request) -> Response:
    """ServingEndpointsAPI.create: the caller becomes the endpoint's creator for ever."""
    principal, store = caller(request).principal, store_of(request)
    body = await json_body(request, shapes.CREATE)
    name = shapes.checked_name(body["name"], "endpoint")
    shapes.refuse_extras(body)
    config, tags = shapes.checked_config(body["config"]), shapes.tag_map(body.get("tags", []))
    gateway = shapes.checked_gateway(body.get("ai_gateway", {}))
    budget = body.get("budget_policy_id")
    if budget is not None and budget not in sandbox_state(request).compute.budget_policies:
        raise invalid_parameter(f"The budget policy {budget} does not exist.")
    _check_table(sandbox_state(request), principal, name, gateway)
    endpoint = store.create(principal, name, config, tags)
    endpoint.details = {
        key: body[key] for key in ("budget_policy_id", "description", "email_notifications") if key in body
    }
    _set_gateway(sandbox_state(request), endpoint, gateway)
    return JSONResponse(view.detailed(endpoint, principal))


async def get(request: Request) -> Response:
    """ServingEndpointsAPI.get."""
    principal = caller(request).principal
    query(request, NOTHING)
    return JSONResponse(view.detailed(required(request, principal, VIEW, "view"), principal))


async def list_endpoints(request: Request) -> Response:
    """ServingEndpointsAPI.list: those that the caller may view."""
    principal = caller(request).principal
    query(request, NOTHING)
    found = [one for one in store_of(request).all() if holds(principal, one.securable, VIEW)]
    return JSONResponse({"endpoints": [view.listed(one) for one in found]} if found else {})


async def delete(request: Request) -> Response:
    """ServingEndpointsAPI.delete: also while it is being updated."""
    principal = caller(request).principal
    query(request, NOTHING)
    store_of(request).delete(required(request, principal, MANAGE, "manage"))
    return JSONResponse({})


async def update_config(request: Request) -> Response:
    """ServingEndpointsAPI.update_config: refused while another update is in progress."""
    principal, store = caller(request).principal, store_of(request)
    config = shapes.checked_config(await json_body(request, shapes.CONFIG))
    endpoint = required(request, principal, MANAGE, "manage")
    store.change(endpoint, config)
    return JSONResponse(view.detailed(endpoint, principal))


async def patch_tags(request: Request) -> Response:
    """ServingEndpointsAPI.patch: adds or replaces, and deletes."""
    principal = caller(request).principal
    body = await json_body(request, shapes.TAGS_PATCH)
    added = shapes.tag_map(body.get("add_tags", []))
    endpoint = required(request, principal, MANAGE, "manage")
    endpoint.tags.update(added)
    for key in body.get("delete_tags", []):
        endpoint.tags.pop(key, None)
    return JSONResponse({"tags": view.tags(endpoint)})


async def put_ai_gateway(request: Request) -> Response:
    """ServingEndpointsAPI.put_ai_gateway: replaces all of it."""
    principal, store = caller(request).principal, store_of(request)
    gateway = shapes.checked_gateway(await json_body(request, shapes.AI_GATEWAY))
    endpoint = required(request, principal, MANAGE, "manage")
    old = (endpoint.gateway or {}).get("inference_table_config", {})
    new = gateway.get("inference_table_config", {})
    if old.get("enabled") and new.get("enabled") and _table_name(endpoint.name, old) != _table_name(endpoint.name, new):
        raise invalid_parameter("Disable the inference table first in order to change its catalog, schema or prefix.")
    if new.get("enabled") and not old.get("enabled"):
        _check_table(sandbox_state(request), store.creator(endpoint), endpoint.name, gateway)
    _set_gateway(sandbox_state(request), endpoint, gateway)
    return JSONResponse(gateway)


async def update_notifications(request: Request) -> Response:
    """ServingEndpointsAPI.update_notifications."""
    principal = caller(request).principal
    body = await json_body(request, shapes.NOTIFY)
    endpoint = required(request, principal, MANAGE, "manage")
    endpoint.details["email_notifications"] = body.get("email_notifications", {})
    return JSONResponse({"name": endpoint.name, "email_notifications": endpoint.details["email_notifications"]})


async def logs(request: Request) -> Response:
    """ServingEndpointsAPI.logs: what the model's server printed; also of one that failed, until the next update."""
    return JSONResponse({"logs": _served(request).log})


async def build_logs(request: Request) -> Response:
    """ServingEndpointsAPI.build_logs."""
    return JSONResponse({"logs": _served(request).build_log})


def store_of(request: Request) -> EndpointStore:
    """The endpoints of the sandbox that serves this request."""
    store = sandbox_state(request).model_serving
    if not isinstance(store, EndpointStore):
        raise TypeError("SandboxState.model_serving is not an EndpointStore")
    return store


def required(request: Request, principal: Principal, levels: frozenset[str], to: str) -> Endpoint:
    """The endpoint of the path, for who has one of the levels on it.

    Raises:
        ApiError: 404, or 403.
    """
    endpoint = store_of(request).get(request.path_params["name"])
    if not holds(principal, endpoint.securable, levels):
        raise permission_denied(
            f"{principal.application_id} does not have permission to {to} serving endpoint {endpoint.name}."
        )
    return endpoint


def _served(request: Request) -> ServedModel:
    principal = caller(request).principal
    query(request, NOTHING)
    endpoint = required(request, principal, VIEW, "view")
    model = endpoint.model(request.path_params["served"])
    if model is None:
        raise not_found(f"Endpoint {endpoint.name} has no served entity {request.path_params['served']}.")
    return model


def _check_table(state: SandboxState, creator: Principal, name: str, gateway: dict[str, Any]) -> None:
    """That the creator may make the inference table, or write to the one that is there."""
    config = gateway.get("inference_table_config", {})
    if not config.get("enabled"):
        return
    table = _table_name(name, config)
    if _exists(state, table):
        state.securables.require(creator, table, "TABLE", "MODIFY")
    else:
        state.securables.require_create(creator, table, "CREATE TABLE")


def _set_gateway(state: SandboxState, endpoint: Endpoint, gateway: dict[str, Any]) -> None:
    endpoint.gateway = gateway or None
    table = gateway.get("inference_table_config", {})
    if not table.get("enabled"):
        return
    name = _table_name(endpoint.name, table)
    if not _exists(state, name):
        state.tables.add(name, endpoint.creator, PAYLOAD_COLUMNS, {}, None)


def _exists(state: SandboxState, table: str) -> bool:
    try:
        state.securables.require_known(table, "TABLE")
    except ApiError:
        return False
    return True


def _table_name(endpoint: str, table: dict[str, Any]) -> str:
    prefix = table.get("table_name_prefix", endpoint)
    return f"{table['catalog_name']}.{table['schema_name']}.{prefix}_payload".lower()
