"""Microsoft Graph, as far as an application's federated credentials can be read: by client id or by object id.

Read in: Microsoft Graph documentation v1.0, "Get application", "List federatedIdentityCredentials" (addresses,
`$filter` with eq, `$select`, permissions, the answer) and "Microsoft Graph error responses and resource types"; codes
and sentences in microsoftgraph/microsoft-graph-docs issue 16208 (audience), s1t5/mail-archiver issue 267 (expired) and
Azure-Samples/ms-identity-python-daemon issue 8 (no permission), that of 404 recalled. A managed identity is no
application.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.arm import authenticated
from trainyard_sandbox.azure.errors import GraphError
from trainyard_sandbox.azure.principals import AzurePrincipal, FederatedCredential
from trainyard_sandbox.azure.state import GRAPH_RESOURCE
from trainyard_sandbox.state import sandbox_state

READ_PERMISSIONS = {"Application.Read.All", "Application.ReadWrite.All"}
"""Application.ReadWrite.OwnedBy is for owners; applications have none here."""
_REFUSALS = {
    "AuthenticationFailed": "Access token is empty.",
    "InvalidAuthenticationToken": "Access token validation failure.",
    "ExpiredAuthenticationToken": "Lifetime validation failed, the token is expired.",
    "InvalidAuthenticationTokenAudience": "Access token validation failure. Invalid audience.",
}
PROPERTIES = ("id", "name", "issuer", "subject", "description", "audiences")
_FILTER = re.compile(r"\s*(id|name|issuer|subject)\s+eq\s+'((?:[^']|'')*)'\s*")

Cut = Callable[[dict[str, Any]], dict[str, Any]]


def routes() -> list[Route]:
    """Mounted by server.py."""
    found = []
    for application in ("/v1.0/applications(appId='{client_id}')", "/v1.0/applications/{object_id}"):
        found += [
            Route(application, get, methods=["GET"]),
            Route(application + "/federatedIdentityCredentials", list_credentials, methods=["GET"]),
        ]
    return found


async def get(request: Request) -> Response:
    """Get application."""
    application = _application(request)
    wanted = _selected(request, ("$select",), ("id", "appId", "displayName"))
    shown = {
        "id": application.registration_id,
        "appId": application.client_id,
        "displayName": application.display_name,
    }
    return JSONResponse({"@odata.context": _context("applications/$entity")} | wanted(shown))


async def list_credentials(request: Request) -> Response:
    """List federatedIdentityCredentials."""
    application = _application(request)
    wanted = _selected(request, ("$select", "$filter"), PROPERTIES)
    shown = [_shown(credential) for credential in application.credentials]
    name, value = _filter(request)
    kept = [wanted(one) for one in shown if name is None or one[name] == value]
    context = _context(f"applications('{application.registration_id}')/federatedIdentityCredentials")
    return JSONResponse({"@odata.context": context, "value": kept})


def _application(request: Request) -> AzurePrincipal:
    """The application that a caller with the permission asks for."""
    try:
        caller, _ = authenticated(request, {GRAPH_RESOURCE, GRAPH_RESOURCE + "/"}, GraphError)
    except GraphError as error:
        raise GraphError(401, "InvalidAuthenticationToken", _REFUSALS[error.code], error.headers) from None
    if not caller.graph_permissions & READ_PERMISSIONS:
        raise GraphError(403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")
    asked = request.path_params
    for one in sandbox_state(request).azure.directory.all():
        named = one.client_id if "client_id" in asked else one.registration_id
        if one.kind == "application" and named.lower() == next(iter(asked.values())).lower():
            return one
    message = (
        f"Resource '{next(iter(asked.values()))}' does not exist or one of its queried reference-property objects "
    )
    raise GraphError(404, "Request_ResourceNotFound", message + "are not present.")


def _shown(credential: FederatedCredential) -> dict[str, Any]:
    return {
        "id": credential.credential_id,
        "name": credential.name,
        "issuer": credential.issuer,
        "subject": credential.subject,
        "description": None,
        "audiences": list(credential.audiences),
    }


def _selected(request: Request, options: tuple[str, ...], properties: tuple[str, ...]) -> Cut:
    """How `$select` cuts an object with these properties; other query options than these are refused."""
    for name in request.query_params:
        if name not in options:
            raise GraphError(400, "BadRequest", f"The query option '{name}' is not supported.")
    names = [name.strip() for name in request.query_params.get("$select", "").split(",") if name.strip()]
    unknown = sorted(set(names) - set(properties))
    if unknown:
        raise GraphError(400, "BadRequest", f"Could not find a property named '{unknown[0]}'.")

    def cut(document: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in document.items() if not names or name in names}

    return cut


def _filter(request: Request) -> tuple[str | None, str]:
    text = request.query_params.get("$filter")
    if text is None:
        return None, ""
    match = _FILTER.fullmatch(text)
    if match is None:
        raise GraphError(400, "BadRequest", f"Invalid filter clause: {text}")
    return match[1], match[2].replace("''", "'")


def _context(what: str) -> str:
    return f"{GRAPH_RESOURCE}/v1.0/$metadata#{what}"
