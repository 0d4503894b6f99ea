"""Who calls: the bearer token of a platform request, turned into a principal or refused.

Every platform route but discovery and the token endpoint calls `caller`. It must never put a token into a message.

Wordings: "Credential was not sent or was of an unsupported type for this API." and "Unauthorized access to Org" are
what workspaces answer (public issue threads of databricks/terraform-provider-databricks);
the entitlement sentence follows Databricks documentation, "Manage entitlements".
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from trainyard_sandbox.errors import ApiError, permission_denied
from trainyard_sandbox.principals import Principal
from trainyard_sandbox.state import sandbox_state
from trainyard_sandbox.tokens import IssuedToken


@dataclass(frozen=True)
class Caller:
    """The principal a request speaks for, and the token it showed."""

    principal: Principal
    token: IssuedToken


def _unauthenticated(message: str) -> ApiError:
    headers = {"WWW-Authenticate": 'Bearer realm="DatabricksRealm"'}
    return ApiError(401, "UNAUTHENTICATED", message, headers)


def caller(request: Request) -> Caller:
    """The caller of a workspace API.

    Raises:
        ApiError: 401 without a live token; 403 when the principal is not in this workspace, when it lacks the
            entitlement `workspace-access`, or when the request names another workspace.
    """
    state = sandbox_state(request)
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not value:
        raise _unauthenticated("Credential was not sent or was of an unsupported type for this API.")
    token = state.tokens.find(value)
    if token is None:
        raise _unauthenticated("Invalid access token.")
    if token.expires_at <= state.now():
        raise _unauthenticated("Invalid access token: the token is expired.")
    request.state.application_id = token.application_id
    principal = state.directory.get(token.application_id)
    if principal is None:
        raise _unauthenticated("The principal of this access token no longer exists.")
    named = request.headers.get("x-databricks-workspace-id", state.workspace_id)
    if not principal.workspace_access or named != state.workspace_id:
        raise permission_denied(f"Unauthorized access to Org: {named}")
    if not principal.is_entitled("workspace-access"):
        raise permission_denied("This API is disabled for users without the workspace-access entitlement.")
    return Caller(principal, token)
