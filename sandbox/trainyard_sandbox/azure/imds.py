"""The instance metadata service of one virtual machine: tokens of the managed identities that are assigned to it.

server.py serves `build` as plain http on a loopback port of its own, which stands for 169.254.169.254; the control API
says which identities the machine has. Nothing but the token endpoint is answered.

Read in: Microsoft Entra documentation, "How to use managed identities for Azure resources on an Azure VM to acquire an
access token" (parameters, the answer's strings, the token cache, errors 400 to 5xx) and "Azure Instance Metadata
Service" (`Metadata: true` in lower case, no X-Forwarded-For, api-versions); Azure/azure-rest-api-specs, imds.json
2018-02-01 (parameters that exclude each other, error codes); Hexadite/acs-keyvault-agent pull request 43 ("Multiple
user assigned identities exist"), MicrosoftDocs/azure-docs issue 21322 ("Identity not found"); msal
`managed_identity.py` adds `expires_in` to the present time, so it is what is left of a cached token's life. Other
sentences are ours.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.entra import disabled, unknown_resource
from trainyard_sandbox.azure.principals import AzurePrincipal
from trainyard_sandbox.azure.state import AzureState
from trainyard_sandbox.azure.token_store import AzureToken
from trainyard_sandbox.faults import Fault
from trainyard_sandbox.state import SandboxState, sandbox_state

TOKEN_PATH = "/metadata/identity/oauth2/token"  # noqa: S105 - a path, no secret
API_VERSIONS = (
    "2018-02-01",
    "2018-04-02",
    "2018-10-01",
    "2019-02-01",
    "2019-03-11",
    "2019-04-30",
    "2019-06-01",
    "2019-06-04",
    "2019-08-01",
    "2019-08-15",
    "2019-11-01",
    "2020-06-01",
    "2020-07-15",
    "2020-09-01",
    "2020-10-01",
    "2020-12-01",
    "2021-01-01",
    "2021-02-01",
    "2021-10-01",
)
""" "Use API version 2018-02-01 or greater"; the versions of imds.json."""

_IDENTITY_PARAMETERS = ("client_id", "object_id", "msi_res_id")
_PARAMETERS = {"api-version", "resource", "authority", *_IDENTITY_PARAMETERS}
_CODES = {
    400: ("bad_request", "The request is not valid."),
    404: ("not_found", "The identity endpoint is updating."),
    405: ("method_not_allowed", "Only GET is answered."),
    410: ("gone", "The instance metadata service is updating and will be available within 70 seconds."),
    429: ("too_many_requests", "Too many requests."),
    500: ("server_error", "Failed to retrieve a token from the directory."),
    503: ("service_unavailable", "The service is unavailable."),
}


class ImdsError(Exception):
    """A request refused with a status, an error code and a description."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(f"{status} {error}: {description}")
        self.status = status
        self.body = {"error": error, "error_description": description}


def build(state: SandboxState) -> Starlette:
    """The service's application."""
    handlers: dict[Any, Any] = {ImdsError: _refused, 404: _unknown, 405: _unknown}
    app = Starlette(routes=[Route(TOKEN_PATH, token, methods=["GET"])], exception_handlers=handlers)
    app.router.redirect_slashes = False
    app.state.sandbox = state
    return app


def fault_body(fault: Fault, _path: str) -> bytes:
    """The body of an injected status."""
    error, description = _CODES.get(fault.status, ("server_error", "An injected error."))
    body = {"error": fault.error_code or error, "error_description": fault.message or description}
    return json.dumps(body).encode()


async def token(request: Request) -> Response:
    """GET /metadata/identity/oauth2/token."""
    state = sandbox_state(request)
    asked = _asked(request)
    principal = _identity(state.azure, asked)
    resource = asked["resource"]
    if not state.azure.knows_resource(resource):
        raise ImdsError(400, "invalid_resource", f"AADSTS500011: {unknown_resource(state.azure, resource)}")
    if not principal.enabled:
        raise ImdsError(400, "unauthorized_client", f"AADSTS7000112: {disabled(principal)}")
    request.state.application_id = principal.client_id
    issued = _cached(state, principal, resource)
    return JSONResponse(
        {
            "access_token": issued.value,
            "refresh_token": "",
            "expires_in": str(int(issued.expires_at - state.now())),
            "expires_on": str(int(issued.expires_at)),
            "not_before": str(int(issued.issued_at)),
            "resource": resource,
            "token_type": "Bearer",
        }
    )


def _asked(request: Request) -> dict[str, str]:
    """The query parameters, once headers and parameters are such as the service takes."""
    if "x-forwarded-for" in request.headers:
        raise ImdsError(400, "bad_request", "Requests with the header X-Forwarded-For are not served.")
    if request.headers.get("metadata") != "true":
        raise ImdsError(400, "bad_request_102", "Required metadata header not specified")
    pairs = request.query_params.multi_items()
    asked = dict(pairs)
    unknown = sorted(set(asked) - _PARAMETERS)
    if unknown or len(pairs) != len(asked):
        what = f"the parameter '{unknown[0]}' is not known" if unknown else "a parameter is given more than once"
        raise ImdsError(400, "invalid_request", f"The request is malformed: {what}.")
    version = asked.get("api-version")
    if version not in API_VERSIONS:
        fault = f"'{version}' is not supported" if version else "was not specified in the request"
        newest = ", ".join(reversed(API_VERSIONS[-3:]))
        raise ImdsError(400, "invalid_request", f"Bad request. api-version {fault}. Newest versions: {newest}.")
    if not asked.get("resource"):
        raise ImdsError(400, "invalid_request", "Required query variable 'resource' is missing")
    if len(set(asked) & set(_IDENTITY_PARAMETERS)) > 1:
        raise ImdsError(400, "invalid_request", "client_id, object_id and msi_res_id exclude each other.")
    return asked


def _identity(azure: AzureState, asked: dict[str, str]) -> AzurePrincipal:
    """The identity asked for; without a name the system-assigned one, or the only one there is."""
    assigned = [one for one in azure.directory.all() if one.assigned]
    for parameter in _IDENTITY_PARAMETERS:
        if parameter in asked:
            wanted = asked[parameter].lower()
            for one in assigned:
                if _name(azure, one, parameter).lower() == wanted:
                    return one
            raise ImdsError(400, "invalid_request", "Identity not found")
    system = [one for one in assigned if one.kind == "system-assigned"]
    if not system and len(assigned) > 1:
        message = "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity "
        raise ImdsError(400, "invalid_request", message + "in the token request")
    if not assigned:
        raise ImdsError(400, "invalid_request", "Identity not found")
    return (system or assigned)[0]


def _name(azure: AzureState, principal: AzurePrincipal, parameter: str) -> str:
    if parameter == "msi_res_id":
        return azure.identity_scope(principal.display_name) if principal.kind == "user-assigned" else ""
    return principal.client_id if parameter == "client_id" else principal.object_id


def _cached(state: SandboxState, principal: AzurePrincipal, resource: str) -> AzureToken:
    """The token that the service holds for an identity and a resource, until it is expired."""
    azure = state.azure
    held = azure.imds_tokens.get((principal.client_id, resource))
    if held is None or held.expires_at <= state.now():
        lifetime = azure.token_lifetime_seconds
        held = azure.tokens.issue(
            principal.client_id,
            principal.object_id,
            resource,
            lifetime,
            "managed-identity",
            resource_id=_resource_id(azure, principal),
        )
        azure.imds_tokens[principal.client_id, resource] = held
    return held


def _resource_id(azure: AzureState, principal: AzurePrincipal) -> str:
    """What the token says it belongs to: the identity itself, or the machine whose own it is."""
    if principal.kind == "user-assigned":
        return azure.identity_scope(principal.display_name)
    return f"{azure.group_scope}/providers/Microsoft.Compute/virtualMachines/{principal.display_name}"


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ImdsError)  # noqa: S101 - registered for this class only
    return JSONResponse(error.body, error.status)


async def _unknown(request: Request, _error: Exception) -> Response:
    status = 405 if request.url.path == TOKEN_PATH else 404
    error = "method_not_allowed" if status == 405 else "not_found"
    return JSONResponse({"error": error, "error_description": f"{request.method} {request.url.path}"}, status)
