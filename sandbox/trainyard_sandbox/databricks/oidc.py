"""The workspace's token endpoint: RFC 8693 token exchange of a federated assertion, and client credentials.

The SDK posts here what a federated workload's identity provider signed, or shows a service principal's OAuth secret by
HTTP Basic. No user sign-in: other grants are refused as unsupported. It must never log or echo what it is shown.

Read in: databricks-sdk `oidc.py` `_exchange_id_token` and `oauth.py` `retrieve_token` (fields sent, errors read);
Databricks documentation, "Configure a federation policy" (issuer, audiences, subject, subject claim; audience defaults
to the account id) and "Authenticate access using OAuth token federation"; RFC 8693 section 2.2.2 and RFC 6749 section
5.2 (error codes). "Authorize service principal access to Databricks with OAuth": client_credentials with HTTP Basic and
the scope all-apis, a token that lives one hour; databricks/databricks-sql-nodejs issue 279 for "Client authentication
failed". The other `error_description` sentences are ours: the platform's are not published.
"""

from __future__ import annotations

import base64
import binascii
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
CLIENT_CREDENTIALS = "client_credentials"
SECRET_TOKEN_SECONDS = 3600.0
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


def _client_unknown() -> OAuthError:
    return OAuthError(401, "invalid_client", "Client authentication failed")


async def token(request: Request) -> Response:
    """POST /oidc/v1/token."""
    return await answer(request, for_account=False)


async def answer(request: Request, *, for_account: bool) -> Response:
    """A token of the workspace or of the account, or the refusal."""
    try:
        issued = await _issue(request, for_account)
    except OAuthError as refused:
        body = {"error": refused.error, "error_description": refused.description}
        challenge = {"WWW-Authenticate": 'Basic realm="Databricks"'} if refused.status == 401 else {}
        return JSONResponse(body, status_code=refused.status, headers=_NO_STORE | challenge)
    return JSONResponse(issued, headers=_NO_STORE)


async def _issue(request: Request, for_account: bool) -> dict[str, Any]:
    form = await _read_form(request)
    if form.get("grant_type") == CLIENT_CREDENTIALS:
        return _client_credentials(request, form, for_account)
    if form.get("grant_type") == TOKEN_EXCHANGE:
        return await _exchange(request, form, for_account)
    raise OAuthError(400, "unsupported_grant_type", "Only token exchange and client credentials are offered here.")


def _client_credentials(request: Request, form: dict[str, Any], for_account: bool) -> dict[str, Any]:
    """A token for the service principal whose OAuth secret the Authorization header shows."""
    state = sandbox_state(request)
    extra = sorted(set(form) & {"subject_token", "subject_token_type"})
    if extra:
        raise OAuthError(400, "invalid_request", f"{extra[0]} does not belong to this grant.")
    client_id, secret = _basic(request)
    principal = state.directory.get(client_id)
    if principal is None or not state.oauth_secrets.accepts(client_id, secret):
        raise _client_unknown()
    request.state.application_id = principal.application_id
    lifetime = min(SECRET_TOKEN_SECONDS, state.max_token_lifetime_seconds)
    issued = state.tokens.issue(principal.application_id, lifetime, "secret", for_account=for_account)
    return {
        "access_token": issued.value,
        "token_type": "Bearer",
        "expires_in": int(lifetime),
        "scope": "all-apis",
    }


def _basic(request: Request) -> tuple[str, str]:
    """Client id and secret of the Authorization header; RFC 6749, section 2.3.1."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    try:
        decoded = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise _client_unknown() from None
    client_id, colon, secret = decoded.partition(":")
    if scheme.lower() != "basic" or not colon:
        raise _client_unknown()
    return client_id, secret


async def _exchange(request: Request, form: dict[str, Any], for_account: bool) -> dict[str, Any]:
    state = sandbox_state(request)
    if "subject_token" not in form or form.get("subject_token_type") != JWT_TYPE:
        raise OAuthError(400, "invalid_request", f"subject_token of subject_token_type {JWT_TYPE} is required.")
    client_id = form.get("client_id") or None
    assertion = form["subject_token"]
    try:
        principal, claims = await _authenticate(state, client_id, assertion)
    except AssertionRefusedError as refused:
        raise OAuthError(400, "invalid_request", f"Token exchange failed: {refused}.") from refused
    request.state.application_id = principal.application_id
    now = state.now()
    lifetime = min(float(claims["exp"]) - now, state.max_token_lifetime_seconds)
    issued = state.tokens.issue(principal.application_id, lifetime, "federation", for_account=for_account)
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
    if form.get("grant_type") in (TOKEN_EXCHANGE, CLIENT_CREDENTIALS) and form.get("scope") != "all-apis":
        raise OAuthError(400, "invalid_scope", "The scope must be all-apis.")
    if form.get("client_secret"):  # the documentation shows HTTP Basic only
        raise _client_unknown()
    return form


async def _authenticate(state: SandboxState, client_id: str | None, assertion: str) -> tuple[Principal, dict[str, Any]]:
    """The principal an assertion speaks for, once a policy accepts it and its issuer's key verifies it."""
    if client_id is not None and state.directory.get(client_id) is None:
        raise _client_unknown()
    unverified = peek(assertion)
    policy = _matching_policy(state, client_id, unverified)
    keys = {"jwks_json": policy.jwks_json, "jwks_uri": policy.jwks_uri}
    claims = await state.issuers.verify(assertion, policy.issuer, policy.audiences, state.now(), **keys)
    application_id = policy.application_id or str(claims.get(policy.subject_claim, ""))
    principal = state.directory.signed_in(application_id)
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
