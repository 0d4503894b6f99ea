"""Secrets API 2.0: scopes, secrets and their permissions, over `SecretScopes`.

server.py mounts `routes()`. A value is given out by `secrets/get` alone, and only to code of a run.

Read in: databricks-sdk `service/workspace.py` SecretsAPI (docstrings, fields; get_secret: "This API can only be called
from the DBUtils interface ... Throws BAD_REQUEST if normal user calls get secret outside of a notebook").
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.auth import caller
from trainyard_sandbox.errors import ApiError, invalid_parameter, not_found
from trainyard_sandbox.schema import AnyJson, MapOf, Obj, Str, json_body, query
from trainyard_sandbox.secret_scopes import PERMISSIONS
from trainyard_sandbox.state import SandboxState, sandbox_state

_NAME = Str(min_length=1)
_CREATE_SCOPE = Obj(
    {
        "scope": _NAME,
        "initial_manage_principal": _NAME,
        "scope_backend_type": Str(choices=("DATABRICKS", "AZURE_KEYVAULT", "UC")),
        "backend_azure_keyvault": MapOf(AnyJson()),
    },
    required=("scope",),
)
_SCOPE = Obj({"scope": _NAME}, required=("scope",))
_SECRET = Obj({"scope": _NAME, "key": _NAME}, required=("scope", "key"))
_PUT = Obj({"scope": _NAME, "key": _NAME, "string_value": Str(), "bytes_value": Str()}, required=("scope", "key"))
_ACL = Obj({"scope": _NAME, "principal": _NAME}, required=("scope", "principal"))
_PUT_ACL = Obj(
    {"scope": _NAME, "principal": _NAME, "permission": Str(choices=PERMISSIONS)},
    required=("scope", "principal", "permission"),
)


async def create_scope(request: Request) -> Response:
    """POST scopes/create: managed by its creator, or by all users."""
    state, principal = sandbox_state(request), caller(request).principal
    body = await json_body(request, _CREATE_SCOPE)
    if body.get("scope_backend_type", "DATABRICKS") != "DATABRICKS" or "backend_azure_keyvault" in body:
        raise invalid_parameter("Only scopes of the type DATABRICKS are offered by this sandbox.")
    manager = body.get("initial_manage_principal", principal.application_id)
    if manager not in ("users", principal.application_id):
        raise invalid_parameter("The only supported principal for initial_manage_principal is the group 'users'.")
    state.secret_scopes.create_scope(body["scope"], manager)
    return JSONResponse({})


async def list_scopes(request: Request) -> Response:
    """GET scopes/list."""
    state, principal = sandbox_state(request), caller(request).principal
    scopes = [{"name": scope.name, "backend_type": "DATABRICKS"} for scope in state.secret_scopes.scopes(principal)]
    return JSONResponse({"scopes": scopes} if scopes else {})


async def delete_scope(request: Request) -> Response:
    """POST scopes/delete."""
    state, principal = sandbox_state(request), caller(request).principal
    state.secret_scopes.delete_scope((await json_body(request, _SCOPE))["scope"], principal)
    return JSONResponse({})


async def put_secret(request: Request) -> Response:
    """POST put: exactly one of string_value and bytes_value."""
    state, principal = sandbox_state(request), caller(request).principal
    body = await json_body(request, _PUT)
    if ("string_value" in body) == ("bytes_value" in body):
        raise ApiError(400, "MALFORMED_REQUEST", "Exactly one of string_value and bytes_value must be specified.")
    state.secret_scopes.put(body["scope"], body["key"], _value(body), principal)
    return JSONResponse({})


def _value(body: dict[str, Any]) -> bytes:
    if "string_value" in body:
        return str(body["string_value"]).encode()
    try:
        return base64.b64decode(body["bytes_value"], validate=True)
    except binascii.Error:
        raise invalid_parameter("bytes_value is not base64-encoded.") from None


async def list_secrets(request: Request) -> Response:
    """GET list: keys and times, never values."""
    state, principal = sandbox_state(request), caller(request).principal
    found = state.secret_scopes.list(query(request, _SCOPE)["scope"], principal)
    secrets = [{"key": secret.key, "last_updated_timestamp": secret.updated_at} for secret in found]
    return JSONResponse({"secrets": secrets} if secrets else {})


async def get_secret(request: Request) -> Response:
    """GET get: for the code of a run only."""
    state, asking = sandbox_state(request), caller(request)
    wanted = query(request, _SECRET)
    if asking.token.purpose != "runtime":
        raise ApiError(400, "BAD_REQUEST", "Secrets can be read from within a run only.")
    secret = state.secret_scopes.get(wanted["scope"], wanted["key"], asking.principal)
    return JSONResponse({"key": secret.key, "value": base64.b64encode(secret.value).decode()})


async def delete_secret(request: Request) -> Response:
    """POST delete."""
    state, principal = sandbox_state(request), caller(request).principal
    body = await json_body(request, _SECRET)
    state.secret_scopes.delete(body["scope"], body["key"], principal)
    return JSONResponse({})


async def put_acl(request: Request) -> Response:
    """POST acls/put."""
    state, principal = sandbox_state(request), caller(request).principal
    body = await json_body(request, _PUT_ACL)
    _require_known(state, body["principal"])
    state.secret_scopes.put_acl(body["scope"], body["principal"], body["permission"], principal)
    return JSONResponse({})


def _require_known(state: SandboxState, name: str) -> None:
    if state.directory.identity(name) is None:
        raise invalid_parameter(f"User or Group {name} does not exist.")


async def list_acls(request: Request) -> Response:
    """GET acls/list."""
    state, principal = sandbox_state(request), caller(request).principal
    acls = state.secret_scopes.acls(query(request, _SCOPE)["scope"], principal)
    return JSONResponse({"items": [{"principal": name, "permission": one} for name, one in acls.items()]})


async def get_acl(request: Request) -> Response:
    """GET acls/get."""
    state, principal = sandbox_state(request), caller(request).principal
    wanted = query(request, _ACL)
    permission = state.secret_scopes.acls(wanted["scope"], principal).get(wanted["principal"])
    if permission is None:
        raise not_found(f"Failed to find acls for principal {wanted['principal']} on scope {wanted['scope']}.")
    return JSONResponse({"principal": wanted["principal"], "permission": permission})


async def delete_acl(request: Request) -> Response:
    """POST acls/delete."""
    state, principal = sandbox_state(request), caller(request).principal
    body = await json_body(request, _ACL)
    state.secret_scopes.delete_acl(body["scope"], body["principal"], principal)
    return JSONResponse({})


def routes() -> list[Route]:
    """The routes of this module."""
    base = "/api/2.0/secrets"
    return [
        Route(f"{base}/scopes/create", create_scope, methods=["POST"]),
        Route(f"{base}/scopes/list", list_scopes, methods=["GET"]),
        Route(f"{base}/scopes/delete", delete_scope, methods=["POST"]),
        Route(f"{base}/put", put_secret, methods=["POST"]),
        Route(f"{base}/list", list_secrets, methods=["GET"]),
        Route(f"{base}/get", get_secret, methods=["GET"]),
        Route(f"{base}/delete", delete_secret, methods=["POST"]),
        Route(f"{base}/acls/put", put_acl, methods=["POST"]),
        Route(f"{base}/acls/list", list_acls, methods=["GET"]),
        Route(f"{base}/acls/get", get_acl, methods=["GET"]),
        Route(f"{base}/acls/delete", delete_acl, methods=["POST"]),
    ]
