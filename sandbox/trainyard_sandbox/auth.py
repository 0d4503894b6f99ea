"""Who calls: the bearer token of a platform request, turned into a principal or refused.

Every platform route but discovery and the token endpoint calls `caller`. It must never put a token into a message.

A bearer is a Databricks token, a personal access token, or an Entra access token for Azure Databricks whose application
is a service principal of the workspace (Azure Databricks documentation, "Get Microsoft Entra ID tokens for service
principals" and "Troubleshoot Microsoft Entra ID access tokens": audience, issuer and times are checked).

Wordings: "Credential was not sent or was of an unsupported type for this API." and "Unauthorized access to Org" are
what workspaces answer (public issue threads of databricks/terraform-provider-databricks);
the entitlement sentence follows Databricks documentation, "Manage entitlements". Personal access tokens: 403 and the
status as a number in databricks/databricks-sdk-go issues 873 and 917. Entra tokens: 400 for another audience in
databricks/terraform-provider-databricks issue 4495, 401 "Token is expired" in databrickslabs/splunk-integration issue
55, 403 for a service principal that the workspace does not have in DataThirstLtd/databricks.vsts.tools issue 20.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from trainyard_sandbox.azure.state import DATABRICKS_RESOURCE
from trainyard_sandbox.errors import ApiError, permission_denied
from trainyard_sandbox.principals import Principal
from trainyard_sandbox.state import SandboxState, sandbox_state
from trainyard_sandbox.tokens import PAT_PREFIX, IssuedToken


@dataclass(frozen=True)
class Caller:
    """The principal a request speaks for, and the token it showed."""

    principal: Principal
    token: IssuedToken


def _unauthenticated(message: str) -> ApiError:
    headers = {"WWW-Authenticate": 'Bearer realm="DatabricksRealm"'}
    return ApiError(401, "UNAUTHENTICATED", message, headers)


def _gateway(status: int, message: str) -> ApiError:
    return ApiError(status, str(status), message, {"X-Databricks-Reason-Phrase": message})


def caller(request: Request) -> Caller:
    """The caller of a workspace API.

    Raises:
        ApiError: 401 without a live token (403 for a personal access token, 400 for an Entra token of another
            audience); 403 when the principal is not in this workspace, when it lacks the entitlement
            `workspace-access`, or when the request names another workspace.
    """
    state = sandbox_state(request)
    token = bearer(request)
    principal = _principal(request, token)
    named = request.headers.get("x-databricks-workspace-id", state.workspace_id)
    if not principal.workspace_access or named != state.workspace_id:
        raise permission_denied(f"Unauthorized access to Org: {named}")
    if not principal.is_entitled("workspace-access"):
        raise permission_denied("This API is disabled for users without the workspace-access entitlement.")
    return Caller(principal, token)


def account_admin(request: Request) -> Caller:
    """The caller of the account's API, which is for account admins.

    Raises:
        ApiError: as `caller`; 401 for a token of a workspace and a personal access token, 403 for who is no admin.
    """
    token = bearer(request)
    if not token.for_account and token.purpose != "entra":
        raise _unauthenticated("Credential was not sent or was of an unsupported type for this API.")
    principal = _principal(request, token)
    if principal.name not in sandbox_state(request).directory.account_admins:
        raise permission_denied("This API is only for account admins.")
    return Caller(principal, token)


def _principal(request: Request, token: IssuedToken) -> Principal:
    request.state.application_id = token.application_id
    principal = sandbox_state(request).directory.signed_in(token.application_id)
    if principal is None and token.purpose == "entra":
        raise _gateway(403, "User not authorized.")
    if principal is None:
        raise _unauthenticated("The principal of this access token no longer exists.")
    return principal


def bearer(request: Request) -> IssuedToken:
    """The live token that a request shows, of whatever kind.

    Raises:
        ApiError: 400, 401 or 403; see `caller`.
    """
    state = sandbox_state(request)
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not value:
        raise _unauthenticated("Credential was not sent or was of an unsupported type for this API.")
    token = state.tokens.find(value) or _entra_token(state, value)
    if token is None and value.startswith(PAT_PREFIX):
        raise _gateway(403, "Invalid access token.")
    if token is None:
        raise _unauthenticated("Invalid access token.")
    if token.expires_at <= state.now():
        raise _expired(token)
    return token


def _expired(token: IssuedToken) -> ApiError:
    if token.purpose == "pat":
        return _gateway(403, "Invalid access token.")
    if token.purpose == "entra":
        return _gateway(401, "Token is expired")
    return _unauthenticated("Invalid access token: the token is expired.")


def _entra_token(state: SandboxState, value: str) -> IssuedToken | None:
    """An access token of the tenant, as the platform takes it: whom it speaks for is its claim `appid`."""
    token = state.azure.tokens.find(value)
    if token is None or token.revoked:
        return None
    if token.audience != DATABRICKS_RESOURCE:
        claim = f"Expected aud claim to be: {DATABRICKS_RESOURCE}, but was: {token.audience}."
        raise _gateway(400, f"io.jsonwebtoken.IncorrectClaimException: {claim}")
    return IssuedToken(value, token.client_id, "entra", token.issued_at, token.expires_at)
