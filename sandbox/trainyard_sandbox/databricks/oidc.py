"""The workspace's token endpoint: RFC 8693 token exchange of a federated assertion, and nothing else.

The SDK posts here what a federated workload's identity provider signed. No client secrets, no user sign-in: those
grants are refused as unsupported. It must never log or echo the subject token.

Read in: databricks-sdk `oidc.py` `_exchange_id_token` and `oauth.py` `retrieve_token` (fields sent, errors read);
Databricks documentation, "Configure a federation policy" (issuer, audiences, subject, subject claim; audience defaults
to the account id) and "Authenticate access using OAuth token federation"; RFC 8693 section 2.2.2 and RFC 6749 section
5.2 (error codes). The `error_description` sentences are ours: the platform's are not published.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.errors import ApiError
from trainyard_sandbox.issuers import AssertionRefusedError, peek
from trainyard_sandbox.principals import FederationPolicy, Principal
from trainyard_sandbox.schema import Obj, Str, form_body
from trainyard_sandbox.state import SandboxState, sandbox_state

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - the name of a grant, not a secret
JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}

_FORM = Obj(
    {
        "grant_type": Str(),
        "subject_token": Str(min_length=1),
        "subject_token_type": Str(),
        "scope": Str(),
        "client_id": Str(),
        "client_secret": Str(),
        "authorization_details": Str(),
    }
)


@dataclass(frozen=True)
class OAuthError(Exception):
    """A refusal in OAuth's own format."""

    status: int
    error: str
    description: str


async def token(request: Request) -> Response:
    """POST /oidc/v1/token."""
    try:
        issued = await _exchange(request)
    except OAuthError as refused:
        body = {"error": refused.error, "error_description": refused.description}
        return JSONResponse(body, status_code=refused.status, headers=_NO_STORE)
    return JSONResponse(issued, headers=_NO_STORE)


async def _exchange(request: Request) -> dict[str, Any]:
    state = sandbox_state(request)
    form = await _read_form(request)
    client_id = form.get("client_id") or None
    assertion = form["subject_token"]
    try:
        principal, claims = await _authenticate(state, client_id, assertion)
    except AssertionRefusedError as refused:
        raise OAuthError(400, "invalid_request", f"Token exchange failed: {refused}.") from refused
    request.state.application_id = principal.application_id
    now = state.now()
    lifetime = min(float(claims["exp"]) - now, state.max_token_lifetime_seconds)
    issued = state.tokens.issue(principal.application_id, lifetime, "federation")
    return {
        "access_token": issued.value,
        "token_type": "Bearer",
        "expires_in": int(lifetime),
        "scope": "all-apis",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
    }


async def _read_form(request: Request) -> dict[str, Any]:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/x-www-form-urlencoded":
        raise OAuthError(400, "invalid_request", "The body must be application/x-www-form-urlencoded.")
    if request.url.query:
        raise OAuthError(400, "invalid_request", "Parameters belong in the body, not in the URL.")
    try:
        form = await form_body(request, _FORM)
    except ApiError as error:
        raise OAuthError(400, "invalid_request", error.message) from error
    if form.get("grant_type") != TOKEN_EXCHANGE:
        raise OAuthError(400, "unsupported_grant_type", "Only token exchange is offered by this sandbox.")
    if "subject_token" not in form or form.get("subject_token_type") != JWT_TYPE:
        raise OAuthError(400, "invalid_request", f"subject_token of subject_token_type {JWT_TYPE} is required.")
    if form.get("scope") != "all-apis":
        raise OAuthError(400, "invalid_scope", "The scope must be all-apis.")
    if form.get("client_secret"):
        raise OAuthError(401, "invalid_client", "Client authentication failed.")
    return form


async def _authenticate(state: SandboxState, client_id: str | None, assertion: str) -> tuple[Principal, dict[str, Any]]:
    """The principal an assertion speaks for, once a policy accepts it and its issuer's key verifies it."""
    if client_id is not None and state.directory.get(client_id) is None:
        raise OAuthError(401, "invalid_client", "Client authentication failed.")
    unverified = peek(assertion)
    policy = _matching_policy(state, client_id, unverified)
    claims = await state.issuers.verify(assertion, policy.issuer, policy.audiences, state.now())
    application_id = policy.application_id or str(claims.get(policy.subject_claim, ""))
    principal = state.directory.get(application_id)
    if principal is None:
        raise AssertionRefusedError(f"no principal is named '{application_id}' in this account")
    return principal, claims


def _matching_policy(state: SandboxState, client_id: str | None, claims: dict[str, Any]) -> FederationPolicy:
    """The policy to verify against; nothing in `claims` is trusted yet, it only chooses."""
    candidates = [policy for policy in state.directory.policies if policy.application_id == client_id]
    if not candidates:
        whom = f"service principal {client_id}" if client_id else "the account"
        raise AssertionRefusedError(f"no federation policy is configured for {whom}")
    of_issuer = [policy for policy in candidates if policy.issuer == claims.get("iss")]
    if not of_issuer:
        raise AssertionRefusedError(f"no federation policy trusts the issuer '{claims.get('iss')}'")
    of_subject = [
        policy
        for policy in of_issuer
        if policy.application_id is None or claims.get(policy.subject_claim) == policy.subject
    ]
    if not of_subject:
        raise AssertionRefusedError("no federation policy of this issuer matches the token's subject")
    audience = claims.get("aud", [])
    presented = {audience} if isinstance(audience, str) else set(audience)
    return next((policy for policy in of_subject if presented & set(policy.audiences)), of_subject[0])


def routes() -> list[Route]:
    """The routes of this module."""
    return [Route("/oidc/v1/token", token, methods=["POST"])]
