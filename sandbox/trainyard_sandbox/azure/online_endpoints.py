"""Managed online endpoints in Azure Resource Manager: their PUT, PATCH, GET, list, DELETE, keys and tokens.

Paths and versions: azure-ai-ml `_restclient/arm_ml_service/operations/_operations.py`, OnlineEndpointsOperations (PUT
200 and 201 with Azure-AsyncOperation, PATCH 202, DELETE 202 and 204), and `operations/_online_endpoint_operations.py`
(what the SDK sends, with 2022-02-01-preview). Published bodies: see online_shapes.py. A PUT replaces the endpoint,
traffic included. Rights: "Authentication for managed online endpoints"; for whom they count on the endpoint alone, a
role on its own scope is enough.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.arm import Action, AzureCall, arm_route, resource_not_found
from trainyard_sandbox.azure.assets import Author
from trainyard_sandbox.azure.assets_api import page_response
from trainyard_sandbox.azure.errors import ArmError, user_error
from trainyard_sandbox.azure.job_operations import operation_headers
from trainyard_sandbox.azure.online_provisioning import Provisioning
from trainyard_sandbox.azure.online_rules import (
    check_identity,
    check_idle,
    check_location,
    check_name,
    check_new_endpoint,
    check_same_identity,
    check_secret_stores,
    check_traffic,
)
from trainyard_sandbox.azure.online_shapes import ENDPOINT, PATCH_ENDPOINT, READ_ONLY_ENDPOINT, REGENERATE, VERSIONS
from trainyard_sandbox.azure.online_store import OnlineEndpoint, OnlineStore, new_key
from trainyard_sandbox.azure.online_view import endpoint_body

_LIST = ("name", "count", "computeType", "$skip", "tags", "properties", "orderBy")
TOKEN_SECONDS = 3600.0
"""How long a token of an endpoint in mode AMLToken is valid: an hour by default ("Authenticate clients for online
endpoints")."""


async def list_endpoints(call: AzureCall) -> Response:
    """GET /onlineEndpoints: a page, by name and tags."""
    if call.query.get("orderBy") or call.query.get("properties"):
        raise user_error("This sandbox lists endpoints in one order, and not by properties.", "BadArgument")
    found = [one for one in _store(call).all() if call.query.get("name", one.name).lower() == one.name.lower()]
    if call.query.get("computeType", "Managed") != "Managed":
        found = []
    for wanted in filter(None, call.query.get("tags", "").split(",")):
        key, equals, value = wanted.partition("=")
        found = [one for one in found if key in one.tags and (not equals or one.tags[key] == value)]
    return page_response(call, [endpoint_body(call.azure, one) for one in found], length_from="count")


async def get_endpoint(call: AzureCall) -> Response:
    """GET /onlineEndpoints/{endpoint}."""
    return JSONResponse(endpoint_body(call.azure, found_endpoint(call)))


async def put_endpoint(call: AzureCall) -> Response:
    """PUT /onlineEndpoints/{endpoint}: 201 for a new one, 200 for one that exists; both go on for a while."""
    name, store = call.path["endpoint"], _store(call)
    check_name("endpoint", name)
    body = await call.body(ENDPOINT)
    check_location(call.azure, body["location"])
    if body["properties"].get("compute"):
        raise user_error("This sandbox has managed online endpoints only: leave out compute.", "BadArgument")
    known = store.get(name)
    if known is None:
        return _create(call, store, name, body)
    check_idle(store, known, "Cannot update")
    check_same_identity(known, body.get("identity"))
    check_traffic(known, body["properties"])
    check_secret_stores(call, body["properties"], known.identity)
    return _change(call, known, _properties(body), body.get("tags", {}), 200)


def _create(call: AzureCall, store: OnlineStore, name: str, body: dict[str, Any]) -> Response:
    check_new_endpoint(store, call.azure, name)
    check_identity(call.azure, body.get("identity"))
    check_traffic(None, body["properties"])
    check_secret_stores(call, body["properties"], body["identity"])
    now = store.now()
    endpoint = OnlineEndpoint(
        name=name,
        location=call.azure.region,
        properties=_settings(_properties(body)),
        author=Author.of(call.principal),
        created_at=now,
        modified_at=now,
        identity={key: body["identity"][key] for key in ("type", "userAssignedIdentities") if key in body["identity"]},
        tags=body.get("tags", {}),
    )
    endpoint.keys |= body["properties"].get("keys", {})
    store.put(endpoint)
    _changes(call).change_endpoint(endpoint, lambda: None, "Creating")
    return _began(call, endpoint, 201)


def _change(
    call: AzureCall, endpoint: OnlineEndpoint, properties: dict[str, Any], tags: dict[str, str], status: int
) -> Response:
    begin_change(_changes(call), endpoint, properties, tags, _store(call).now())
    shown = dict(properties.get("traffic") or {})
    return _began(call, endpoint, status, traffic=shown)


def begin_change(
    changes: Provisioning,
    endpoint: OnlineEndpoint,
    properties: dict[str, Any],
    tags: dict[str, str],
    now: float,
) -> None:
    """Begin to give an endpoint other properties, traffic and tags; the old shares count until it is done."""
    endpoint.before = {"properties": endpoint.properties, "traffic": endpoint.traffic, "tags": endpoint.tags}
    endpoint.modified_at = now

    def apply() -> None:
        endpoint.split.change(_by_name(endpoint, properties.get("traffic")))
        endpoint.mirror = _by_name(endpoint, properties.get("mirrorTraffic"))
        endpoint.properties = _settings(properties)
        endpoint.tags = tags

    changes.change_endpoint(endpoint, apply)


def _by_name(endpoint: OnlineEndpoint, shares: dict[str, int] | None) -> dict[str, int]:
    """Percentages by the deployments' names as these are written, of those that are there."""
    named = ((endpoint.deployment(name), share) for name, share in (shares or {}).items())
    return {found.name: share for found, share in named if found is not None}


def _properties(body: dict[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in body["properties"].items() if key not in READ_ONLY_ENDPOINT}
    inner = {key: value for key, value in given.get("properties", {}).items() if not key.startswith("azureml.online")}
    inner.pop("AzureAsyncOperationUri", None)
    return given | {"properties": inner}


def _settings(properties: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in properties.items() if key not in ("traffic", "mirrorTraffic", "compute")}


def _began(call: AzureCall, endpoint: OnlineEndpoint, status: int, **shown: Any) -> Response:
    headers = began_headers(call, f"oe:{endpoint.name}", endpoint, lambda: not endpoint.busy)
    body = endpoint_body(call.azure, endpoint)
    body["properties"] |= shown
    return JSONResponse(body, status, headers)


def began_headers(call: AzureCall, name: str, of: Any, done: Callable[[], bool]) -> dict[str, str]:
    """The headers of an answer that begins an operation on an endpoint or a deployment; what it is about keeps the
    address, which the service shows as the property `AzureAsyncOperationUri`."""
    headers = operation_headers(call, name, done, lambda: of.failure)
    of.operation = headers["azure-asyncoperation"]
    return headers


async def patch_endpoint(call: AzureCall) -> Response:
    """PATCH /onlineEndpoints/{endpoint}: tags, and an identity that must be the same."""
    endpoint, store = found_endpoint(call), _store(call)
    body = await call.body(PATCH_ENDPOINT)
    check_idle(store, endpoint, "Cannot update")
    check_same_identity(endpoint, body.get("identity"))
    properties = endpoint.properties | {"traffic": endpoint.traffic, "mirrorTraffic": endpoint.mirror}
    return _change(call, endpoint, properties, body.get("tags", endpoint.tags), 202)


async def delete_endpoint(call: AzureCall) -> Response:
    """DELETE /onlineEndpoints/{endpoint}: with its deployments, whatever traffic they have; 204 if there is none."""
    store = _store(call)
    endpoint = store.get(call.path["endpoint"])
    if endpoint is None:
        return Response(status_code=204)
    check_idle(store, endpoint, "Cannot delete")
    _changes(call).delete_endpoint(endpoint)
    headers = operation_headers(call, f"oe:{endpoint.name}", lambda: store.get(endpoint.name) is not endpoint)
    return Response(status_code=202, headers=headers)


async def list_keys(call: AzureCall) -> Response:
    """POST /onlineEndpoints/{endpoint}/listKeys."""
    return JSONResponse(_of_mode(call, "Key").keys)


async def regenerate_keys(call: AzureCall) -> Response:
    """POST /onlineEndpoints/{endpoint}/regenerateKeys."""
    endpoint = _of_mode(call, "Key")
    asked = await call.body(REGENERATE)
    check_idle(_store(call), endpoint, "Cannot update")
    endpoint.keys[f"{asked['keyType'].lower()}Key"] = asked.get("keyValue") or new_key()
    return Response(status_code=202, headers=operation_headers(call, f"keys:{endpoint.name}", lambda: True))


async def get_token(call: AzureCall) -> Response:
    """POST /onlineEndpoints/{endpoint}/token: a token for an endpoint in mode AMLToken."""
    endpoint = _of_mode(call, "AMLToken")
    now = _store(call).now()
    value = secrets.token_urlsafe(48)
    endpoint.aml_tokens[value] = now + TOKEN_SECONDS
    return JSONResponse(
        {
            "accessToken": value,
            "expiryTimeUtc": int(now + TOKEN_SECONDS),
            "refreshAfterTimeUtc": int(now + TOKEN_SECONDS * 0.75),
            "tokenType": "Bearer",
        }
    )


def _of_mode(call: AzureCall, mode: str) -> OnlineEndpoint:
    endpoint = found_endpoint(call)
    if endpoint.properties["authMode"] != mode:
        message = f"The endpoint {endpoint.name} uses {endpoint.properties['authMode']} for authentication, not {mode}."
        raise user_error(message, "BadArgument", "InvalidAuthMode")
    return endpoint


def found_endpoint(call: AzureCall) -> OnlineEndpoint:
    """The endpoint that the path names.

    Raises:
        ArmError: 404 ResourceNotFound.
    """
    name = call.path["endpoint"]
    found = _store(call).get(name)
    if found is None:
        raise no_such(call, f"onlineEndpoints/{name}")
    return found


def no_such(call: AzureCall, path: str) -> ArmError:
    """404 of an endpoint or deployment."""
    names = path.split("/")
    kinds, values = "/".join(names[::2]), "/".join(names[1::2])
    provider = "Microsoft.MachineLearningServices/workspaces"
    return resource_not_found(f"{provider}/{kinds}/{call.azure.workspace_name}/{values}", call.path["group"])


def _store(call: AzureCall) -> OnlineStore:
    store: OnlineStore = call.azure.online
    return store


def _changes(call: AzureCall) -> Provisioning:
    changes: Provisioning = call.azure.online_changes
    return changes


def routes() -> list[Route]:
    """The routes of this module."""
    kind = "workspaces/onlineEndpoints"
    one = "/onlineEndpoints/{endpoint}"
    return [
        arm_route("/onlineEndpoints", {"GET": Action(list_endpoints, f"{kind}/read", VERSIONS, _LIST)}),
        arm_route(
            one,
            {
                "GET": Action(get_endpoint, f"{kind}/read", VERSIONS),
                "PUT": Action(put_endpoint, f"{kind}/write", VERSIONS),
                "PATCH": Action(patch_endpoint, f"{kind}/write", VERSIONS),
                "DELETE": Action(delete_endpoint, f"{kind}/delete", VERSIONS),
            },
        ),
        arm_route(f"{one}/listKeys", {"POST": Action(list_keys, f"{kind}/listKeys/action", VERSIONS)}),
        arm_route(
            f"{one}/regenerateKeys", {"POST": Action(regenerate_keys, f"{kind}/regenerateKeys/action", VERSIONS)}
        ),
        arm_route(f"{one}/token", {"POST": Action(get_token, f"{kind}/token/action", VERSIONS)}),
    ]
