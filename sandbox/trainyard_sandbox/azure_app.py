"""Assembles the application of the Azure half: all its modules on one origin, and how unknown paths and faults answer.

server.py calls `build` and wraps the result in faults and the request log.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trainyard_sandbox import azure
from trainyard_sandbox.azure.errors import ArmError, AzureError, DataPlaneError, StorageError, render_azure_error
from trainyard_sandbox.azure.state import STORAGE_SUFFIX, AzureState
from trainyard_sandbox.errors import ApiError
from trainyard_sandbox.faults import Fault
from trainyard_sandbox.state import SandboxState

BLOB_PREFIX = "/blob/"
_DATA_PLANE = ("/history/", "/mlflow/", "/discovery", "/metric/")
_STORAGE_CODES = {
    400: ("InvalidInput", "One of the request inputs is not valid."),
    401: ("NoAuthenticationInformation", "Server failed to authenticate the request."),
    403: ("AuthorizationFailure", "This request is not authorized to perform this operation."),
    404: ("BlobNotFound", "The specified blob does not exist."),
    409: ("BlobAlreadyExists", "The specified blob already exists."),
    412: ("ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met."),
    500: ("InternalError", "The server encountered an internal error. Please retry the request."),
    503: ("ServerBusy", "The server is currently unable to receive requests. Please retry your request."),
}
"""Azure Storage documentation, "Common REST API error codes" and "Blob Storage error codes"; 403 is what a firewall
or a private endpoint answers."""
_ARM_CODES = {
    400: ("BadRequest", "The request was invalid."),
    401: ("InvalidAuthenticationToken", "The access token is invalid."),
    403: ("AuthorizationFailed", "The client does not have authorization to perform this action."),
    404: ("ResourceNotFound", "The resource was not found."),
    409: ("Conflict", "The request conflicts with one that is being processed."),
    412: ("PreconditionFailed", "The condition was not met."),
    429: ("TooManyRequests", "The request is being throttled."),
    500: ("InternalServerError", "The server encountered an internal error. Please retry the request."),
    503: ("ServerBusy", "The service is temporarily unavailable. Please retry the request."),
    504: ("GatewayTimeout", "The gateway did not receive a response within the specified time period."),
}
"""Azure documentation, "Common API error codes"."""


def modules() -> list[ModuleType]:
    """Every module and package of the Azure half."""
    names = sorted(info.name for info in pkgutil.iter_modules(azure.__path__))
    return [importlib.import_module(f"{azure.__name__}.{name}") for name in names]


def control_routes() -> list[BaseRoute]:
    """What the Azure modules add to the control API."""
    return [route for module in modules() for route in getattr(module, "control_routes", list)()]


def build(state: SandboxState) -> Starlette:
    """The Azure application: every module attached and mounted, the storage account empty."""
    state.azure.blobs.reset()
    routes: list[BaseRoute] = []
    found = modules()
    for module in found:
        if hasattr(module, "attach"):
            module.attach(state)
    for module in found:
        if hasattr(module, "routes"):
            routes.extend(module.routes())
    handlers: dict[Any, Any] = {
        AzureError: render_azure_error,
        ApiError: _malformed,
        404: _unknown_path,
        405: _unknown_path,
        Exception: _internal_error,
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    app.state.sandbox = state
    return app


class RequestIds:
    """ASGI middleware: the names under which Azure's planes give the request's id and echo the client's own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = [value for name, value in scope["headers"] if name == b"x-ms-client-request-id"]
        added = [(b"x-ms-request-id", scope["state"]["request_id"].encode())]
        added += [(b"x-ms-client-request-id", value) for value in asked[:1]]

        async def send_with_ids(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *added]
            await send(message)

        await self._app(scope, receive, send_with_ids)


class AccountHosts:
    """ASGI middleware: takes a request to `https://{account}.blob.{suffix}/...` for one to `/blob/{account}/...`.

    The names do not resolve anywhere; it serves clients that were told to connect here for them.
    """

    def __init__(self, app: ASGIApp, state: AzureState) -> None:
        self._app = app
        self._host = f"{state.storage_account}.blob.{STORAGE_SUFFIX}"
        self._prefix = f"{BLOB_PREFIX}{state.storage_account}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
            if host.partition(":")[0].lower() == self._host:
                scope = {**scope, "path": self._prefix + scope["path"], "raw_path": None}
        await self._app(scope, receive, send)


def fault_body(fault: Fault, path: str) -> bytes:
    """The body of an injected status, as the plane that serves the path shapes it."""
    in_storage = path.startswith(BLOB_PREFIX)
    codes = _STORAGE_CODES if in_storage else _ARM_CODES
    code, message = codes.get(fault.status, ("UnknownError", "An injected error."))
    code, message = fault.error_code or code, fault.message or message
    if in_storage:
        return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    if path.endswith("/oauth2/v2.0/token"):
        refusal = {
            "error": fault.error_code or "temporarily_unavailable",
            "error_description": message,
            "error_codes": [],
        }
        return json.dumps(refusal).encode()
    return json.dumps({"error": {"code": code, "message": message}}).encode()


def _refusal(request: Request, status: int, code: str, message: str) -> Response:
    kinds: Sequence[tuple[bool, type[AzureError]]] = (
        (request.url.path.startswith(BLOB_PREFIX), StorageError),
        (request.url.path.startswith(_DATA_PLANE), DataPlaneError),
        (True, ArmError),
    )
    return next(kind for fits, kind in kinds if fits)(status, code, message).response(request)


async def _malformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 - registered for this class only
    return _refusal(request, error.status, "UserError", error.message)


async def _unknown_path(request: Request, _error: Exception) -> Response:
    message = f"The resource type could not be found for '{request.method} {request.url.path}'."
    return _refusal(request, 404, "InvalidResourceType", message)


async def _internal_error(request: Request, error: Exception) -> Response:
    return _refusal(request, 500, "InternalServerError", f"The sandbox failed: {type(error).__name__}: {error}")
