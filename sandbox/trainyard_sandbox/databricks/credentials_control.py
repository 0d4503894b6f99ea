"""The part of the control API about long-lived credentials: OAuth secrets and personal access tokens.

identity_client.py is its client; it has no route on the platform's own host. A value is told only when it is made.

Read in: Databricks documentation, "Authorize service principal access to Databricks with OAuth" and "Authenticate with
Databricks personal access tokens" (a token lives at most 730 days and can be revoked).
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.errors import invalid_parameter, not_found
from trainyard_sandbox.oauth_secrets import MAX_LIFETIME_SECONDS
from trainyard_sandbox.principals import ENTITLEMENTS
from trainyard_sandbox.schema import ListOf, Number, Obj, Str, json_body
from trainyard_sandbox.state import sandbox_state

_LIFETIME = Obj({"lifetime_seconds": Number()})
_PAT = Obj({"owner": Str(min_length=1), "lifetime_seconds": Number()}, required=("owner",))
_USER = Obj({"entitlements": ListOf(Str(choices=ENTITLEMENTS)), "groups": ListOf(Str(min_length=1))})


def control_routes() -> list[Route]:
    """Mounted on the control API by server.py."""
    secrets = "/principals/{application_id}/oauth-secrets"
    return [
        Route(secrets, add_secret, methods=["POST"]),
        Route(secrets, list_secrets, methods=["GET"]),
        Route("/oauth-secrets/{secret_id}", revoke_secret, methods=["DELETE"]),
        Route("/personal-access-tokens", add_pat, methods=["POST"]),
        Route("/personal-access-tokens/{token_id}", revoke_pat, methods=["DELETE"]),
        Route("/users/{name}", change_user, methods=["PUT"]),
        Route("/account-admins/{name}", account_admin, methods=["PUT", "DELETE"]),
    ]


async def add_secret(request: Request) -> Response:
    """POST .../oauth-secrets: one more of at most five; 730 days unless `lifetime_seconds` says less."""
    state = sandbox_state(request)
    principal = state.directory.require(request.path_params["application_id"])
    given = await json_body(request, _LIFETIME)
    lifetime = float(given.get("lifetime_seconds", MAX_LIFETIME_SECONDS))
    try:
        secret, value = state.oauth_secrets.add(principal.application_id, lifetime)
    except ValueError as error:
        raise invalid_parameter(str(error)) from error
    return JSONResponse({"secret_id": secret.secret_id, "value": value, "expires_at": secret.expires_at})


async def list_secrets(request: Request) -> Response:
    """GET .../oauth-secrets: without their values."""
    state = sandbox_state(request)
    principal = state.directory.require(request.path_params["application_id"])
    found = state.oauth_secrets.of(principal.application_id)
    return JSONResponse([{"secret_id": one.secret_id, "expires_at": one.expires_at} for one in found])


async def revoke_secret(request: Request) -> Response:
    """DELETE /oauth-secrets/{secret_id}."""
    if not sandbox_state(request).oauth_secrets.revoke(request.path_params["secret_id"]):
        raise not_found("No such OAuth secret.")
    return JSONResponse({})


async def add_pat(request: Request) -> Response:
    """POST /personal-access-tokens: of a service principal (by application id) or a user (by name)."""
    state = sandbox_state(request)
    given = await json_body(request, _PAT)
    if state.directory.signed_in(given["owner"]) is None:
        raise not_found(f"No service principal or user is called {given['owner']}.")
    lifetime = float(given.get("lifetime_seconds", MAX_LIFETIME_SECONDS))
    if not 0 < lifetime <= MAX_LIFETIME_SECONDS:
        raise invalid_parameter("The lifetime of a personal access token is between 0 and 730 days.")
    token = state.tokens.issue_pat(given["owner"], lifetime)
    return JSONResponse({"token_id": token.token_id, "value": token.value, "expires_at": token.expires_at})


async def revoke_pat(request: Request) -> Response:
    """DELETE /personal-access-tokens/{token_id}."""
    state = sandbox_state(request)
    asked = request.path_params["token_id"]
    token = next((one for one in state.tokens.all_issued() if one.token_id == asked and one.purpose == "pat"), None)
    if token is None:
        raise not_found("No such personal access token.")
    state.tokens.expire_value(token.value)
    return JSONResponse({})


async def change_user(request: Request) -> Response:
    """PUT /users/{name}: makes the user if it is missing; `entitlements` and `groups` (that it is in) replace."""
    directory = sandbox_state(request).directory
    given = await json_body(request, _USER)
    user = directory.add_user(request.path_params["name"])
    user.entitlements = set(given.get("entitlements", user.entitlements))
    user.groups = {"users", *(directory.add_group(name).name for name in given.get("groups", user.groups))}
    return JSONResponse({"name": user.name, "entitlements": sorted(user.entitlements), "groups": sorted(user.groups)})


async def account_admin(request: Request) -> Response:
    """PUT makes a service principal (by application id) or a user (by name) an account admin, DELETE ends it."""
    directory = sandbox_state(request).directory
    name = request.path_params["name"]
    if directory.signed_in(name) is None:
        raise not_found(f"No service principal or user is called {name}.")
    if request.method == "PUT":
        directory.account_admins.add(name)
    else:
        directory.account_admins.discard(name)
    return JSONResponse({"account_admins": sorted(directory.account_admins)})
