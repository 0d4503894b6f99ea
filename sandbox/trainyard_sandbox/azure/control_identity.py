"""The part of the control API about the Entra tenant: applications, credentials, roles, tokens and limits.

azure_client.py is its client; it has no route on the Azure origin.
"""

from __future__ import annotations

import secrets
from typing import Any

from cryptography import x509
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.principals import (
    MAX_FEDERATED_CREDENTIALS,
    TOKEN_EXCHANGE_AUDIENCE,
    AzurePrincipal,
    ClientSecret,
    FederatedCredential,
)
from trainyard_sandbox.azure.roles import ROLES, RoleAssignment
from trainyard_sandbox.azure.state import AzureState
from trainyard_sandbox.azure.throttle import LIMITS, Limit
from trainyard_sandbox.errors import invalid_parameter, not_found
from trainyard_sandbox.schema import Bool, ListOf, MapOf, Number, Obj, Str, json_body
from trainyard_sandbox.state import sandbox_state

_ROLE = Str(choices=tuple(ROLES))
_APPLICATION = Obj(
    {"name": Str(min_length=1), "client_id": Str(min_length=1), "roles": MapOf(ListOf(_ROLE))}, required=("name",)
)
_CREDENTIAL = Obj(
    {
        "issuer": Str(min_length=1),
        "subject": Str(min_length=1),
        "audiences": ListOf(Str(min_length=1), maximum=1),
        "unknown_for_seconds": Number(),
    },
    required=("issuer", "subject"),
)
_SECRET = Obj({"lifetime_seconds": Number()})
_CERTIFICATE = Obj({"pem": Str(min_length=1)}, required=("pem",))
_ASSIGNMENT = Obj({"client_id": Str(), "role": _ROLE, "scope": Str()}, required=("client_id", "role", "scope"))
_ISSUE = Obj({"client_id": Str(), "audience": Str(), "lifetime_seconds": Number()}, required=("client_id", "audience"))
_EXPIRE = Obj({"client_id": Str()}, required=("client_id",))
_LIMIT = Obj({"size": Number(), "per_second": Number()}, required=("size", "per_second"))
_SETTINGS = Obj({"token_lifetime_seconds": Number(), "limits": Obj(dict.fromkeys(LIMITS, _LIMIT))})
SCOPES = ("workspace", "resource group", "subscription", "storage account")


def control_routes() -> list[Route]:
    """Mounted on the control API by server.py."""
    one = "/azure/applications/{client_id}"
    return [
        Route("/azure/applications", add_application, methods=["POST"]),
        Route("/azure/applications", list_applications, methods=["GET"]),
        Route(one, remove_application, methods=["DELETE"]),
        Route(one, enable_application, methods=["PATCH"]),
        Route(one + "/federated-credentials", add_credential, methods=["POST"]),
        Route(one + "/federated-credentials/{name}", remove_credential, methods=["DELETE"]),
        Route(one + "/secrets", add_secret, methods=["POST"]),
        Route(one + "/certificates", add_certificate, methods=["POST"]),
        Route(one + "/graph-permissions", set_graph_permissions, methods=["PUT"]),
        Route("/azure/roles", assign_role, methods=["POST"]),
        Route("/azure/roles", remove_role, methods=["DELETE"]),
        Route("/azure/tokens", list_tokens, methods=["GET"]),
        Route("/azure/tokens", issue_token, methods=["POST"]),
        Route("/azure/tokens/expire", expire_tokens, methods=["POST"]),
        Route("/azure/tokens/revoke", revoke_tokens, methods=["POST"]),
        Route("/azure/settings", settings, methods=["PUT"]),
    ]


async def add_application(request: Request) -> Response:
    """POST /azure/applications: an application with its service principal, and roles by scope."""
    azure = sandbox_state(request).azure
    given = await json_body(request, _APPLICATION)
    principal = AzurePrincipal(given["name"])
    principal.client_id = given.get("client_id", principal.client_id)
    if azure.directory.get(principal.client_id):
        raise invalid_parameter(f"application {principal.client_id} exists already")
    for scope, roles in given.get("roles", {}).items():
        principal.assignments += [RoleAssignment(role, resolved_scope(azure, scope)) for role in roles]
    azure.directory.add(principal)
    return JSONResponse(_shown(principal))


async def list_applications(request: Request) -> Response:
    """GET /azure/applications."""
    return JSONResponse([_shown(principal) for principal in sandbox_state(request).azure.directory.all()])


async def remove_application(request: Request) -> Response:
    """DELETE /azure/applications/{client_id}."""
    sandbox_state(request).azure.directory.remove(_application(request).client_id)
    return JSONResponse({})


async def enable_application(request: Request) -> Response:
    """PATCH /azure/applications/{client_id}: whether it may sign in."""
    given = await json_body(request, Obj({"enabled": Bool()}, required=("enabled",)))
    _application(request).enabled = given["enabled"]
    return JSONResponse({})


async def add_credential(request: Request) -> Response:
    """POST .../federated-credentials: one more of at most 20; Entra may take a while to know it."""
    principal = _application(request)
    if principal.kind == "system-assigned":
        raise invalid_parameter("a system-assigned managed identity takes no federated credentials")
    given = await json_body(request, _CREDENTIAL)
    if len(principal.credentials) >= MAX_FEDERATED_CREDENTIALS:
        raise invalid_parameter(f"an application holds at most {MAX_FEDERATED_CREDENTIALS} federated credentials")
    if any((c.issuer, c.subject) == (given["issuer"], given["subject"]) for c in principal.credentials):
        raise invalid_parameter("issuer and subject are together in a credential of this application already")
    unknown_for = given.get("unknown_for_seconds", 0.0)
    known_at = sandbox_state(request).now() + unknown_for if unknown_for else 0.0  # at once, whatever the clock says
    audiences = tuple(given.get("audiences", (TOKEN_EXCHANGE_AUDIENCE,)))
    principal.credentials.append(FederatedCredential(given["issuer"], given["subject"], audiences, known_at))
    return JSONResponse({"name": principal.credentials[-1].name})


async def remove_credential(request: Request) -> Response:
    """DELETE .../federated-credentials/{name}."""
    principal = _application(request)
    kept = [credential for credential in principal.credentials if credential.name != request.path_params["name"]]
    if len(kept) == len(principal.credentials):
        raise not_found(f"no federated credential {request.path_params['name']}")
    principal.credentials = kept
    return JSONResponse({})


async def add_secret(request: Request) -> Response:
    """POST .../secrets: a client secret; its value is told only here."""
    principal = _own_credentials(request)
    given = await json_body(request, _SECRET)
    value = f"{secrets.token_urlsafe(3)}8Q~{secrets.token_urlsafe(24)}"
    expires_at = sandbox_state(request).now() + given.get("lifetime_seconds", 86400.0)
    principal.client_secrets.append(ClientSecret(ClientSecret.digest_of(value), expires_at))
    return JSONResponse({"value": value, "key_id": principal.client_secrets[-1].key_id})


async def add_certificate(request: Request) -> Response:
    """POST .../certificates: a certificate (PEM) whose key signs the application's own assertions."""
    principal = _own_credentials(request)
    pem = (await json_body(request, _CERTIFICATE))["pem"].encode()
    try:
        x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise invalid_parameter("pem is not a certificate") from None
    principal.certificates.append(pem)
    return JSONResponse({})


async def set_graph_permissions(request: Request) -> Response:
    """PUT .../graph-permissions: the application permissions of Microsoft Graph that were consented to."""
    given = await json_body(request, Obj({"permissions": ListOf(Str(min_length=1))}, required=("permissions",)))
    _application(request).graph_permissions = set(given["permissions"])
    return JSONResponse({})


async def assign_role(request: Request) -> Response:
    """POST /azure/roles: give a role on a scope."""
    azure = sandbox_state(request).azure
    principal, assignment = _assignment(azure, await json_body(request, _ASSIGNMENT))
    if assignment not in principal.assignments:
        principal.assignments.append(assignment)
    return JSONResponse({})


async def remove_role(request: Request) -> Response:
    """DELETE /azure/roles: take a role on a scope away."""
    azure = sandbox_state(request).azure
    principal, assignment = _assignment(azure, await json_body(request, _ASSIGNMENT))
    if assignment not in principal.assignments:
        raise not_found(f"{principal.client_id} has no {assignment.role} on {assignment.scope}")
    principal.assignments.remove(assignment)
    return JSONResponse({})


def _assignment(azure: AzureState, given: dict[str, Any]) -> tuple[AzurePrincipal, RoleAssignment]:
    principal = azure.directory.require(given["client_id"])
    return principal, RoleAssignment(given["role"], resolved_scope(azure, given["scope"]))


def resolved_scope(azure: AzureState, scope: str) -> str:
    """A resource id; `SCOPES` are names for the ones that the sandbox has."""
    own = (azure.workspace_scope, azure.group_scope, azure.subscription_scope, azure.storage_scope)
    named = dict(zip(SCOPES, own, strict=True))
    if scope not in named and not scope.startswith("/"):
        raise invalid_parameter(f"scope {scope!r} is neither a resource id nor one of {', '.join(SCOPES)}")
    return named.get(scope, scope)


async def list_tokens(request: Request) -> Response:
    """GET /azure/tokens: every token ever issued, oldest first."""
    issued = sandbox_state(request).azure.tokens.all_issued()
    return JSONResponse([vars(entry) for entry in issued])


async def issue_token(request: Request) -> Response:
    """POST /azure/tokens: a token without a sign-in."""
    azure = sandbox_state(request).azure
    given = await json_body(request, _ISSUE)
    principal = azure.directory.require(given["client_id"])
    lifetime = given.get("lifetime_seconds", azure.token_lifetime_seconds)
    issued = azure.tokens.issue(principal.client_id, principal.object_id, given["audience"], lifetime, "manual")
    return JSONResponse({"value": issued.value})


async def expire_tokens(request: Request) -> Response:
    """POST /azure/tokens/expire: an application's live tokens expire now."""
    client_id = (await json_body(request, _EXPIRE))["client_id"]
    return JSONResponse({"expired": sandbox_state(request).azure.tokens.expire(client_id)})


async def revoke_tokens(request: Request) -> Response:
    """POST /azure/tokens/revoke: an application's live tokens are refused, though they do not say that they ended."""
    client_id = (await json_body(request, _EXPIRE))["client_id"]
    return JSONResponse({"revoked": sandbox_state(request).azure.tokens.revoke(client_id)})


async def settings(request: Request) -> Response:
    """PUT /azure/settings: the life of new tokens, and Azure Resource Manager's limits."""
    azure = sandbox_state(request).azure
    given = await json_body(request, _SETTINGS)
    azure.token_lifetime_seconds = given.get("token_lifetime_seconds", azure.token_lifetime_seconds)
    for kind, limit in given.get("limits", {}).items():
        azure.throttle.change(kind, Limit(limit["size"], limit["per_second"]))
    return JSONResponse({})


def _application(request: Request) -> AzurePrincipal:
    return sandbox_state(request).azure.directory.require(request.path_params["client_id"])


def _own_credentials(request: Request) -> AzurePrincipal:
    principal = _application(request)
    if principal.kind != "application":
        raise invalid_parameter("a managed identity takes no secrets and certificates")
    return principal


def _shown(principal: AzurePrincipal) -> dict[str, Any]:
    return {
        "client_id": principal.client_id,
        "object_id": principal.object_id,
        "display_name": principal.display_name,
        "kind": principal.kind,
        "federated_credentials": [
            {"name": c.name, "issuer": c.issuer, "subject": c.subject, "audiences": list(c.audiences)}
            for c in principal.credentials
        ],
        "roles": [{"role": given.role, "scope": given.scope} for given in principal.assignments],
    }
