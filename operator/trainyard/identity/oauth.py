"""The wire of Databricks' token exchange: discovery documents, the form, answers and refusals.

Called by `identity.exchange`. Read in: RFC 8414 (discovery), RFC 8693 (exchange), RFC 6749 section 5.2 (errors),
databricks-sdk oidc.py and oauth.py (fields and paths that the platform knows).
"""

import json
import shlex
from datetime import datetime, timedelta
from typing import Any

import requests

from trainyard.audit.transport import Answer
from trainyard.core.errors import IdentityError, Refused, TrainyardError, Unreachable
from trainyard.identity import clocks, refusals
from trainyard.identity.assertion import Assertion
from trainyard.identity.base import AccessToken
from trainyard.identity.cached import utc_now
from trainyard.identity.hosts import HostPolicy
from trainyard.identity.wire import document_of

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
SUBJECT_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:jwt"  # noqa: S105 - the name of a type, not a secret
# Seconds. Databricks' tokens live for an hour; what says more than any calendar holds says nothing.
LONGEST_LIFE = 10 * 365 * 86_400

# What time alone may mend: a federation policy takes minutes to be known everywhere.
_MAY_APPEAR = frozenset({"invalid_grant", "invalid_request", "access_denied", "unauthorized_client"})


class OAuthDialect:
    """Lets 4xx answers through: what they mean depends on which of the three requests it was."""

    def error(self, answer: Answer) -> TrainyardError | None:  # noqa: ARG002 - the protocol's signature
        """Nothing; the caller reads the answer."""
        return None

    def remote_id(self, answer: Answer) -> str | None:  # noqa: ARG002 - the protocol's signature
        """Nothing; no run is asked about."""
        return None


def token_endpoint(session: requests.Session, origin: str, hosts: HostPolicy) -> tuple[str, str | None]:
    """The workspace's token endpoint and its id, where it tells one.

    Raises:
        IdentityError: TokenEndpointNotAllowed, DiscoveryFailed or RedirectRefused.
        Unreachable: no usable answer.
    """
    metadata = _document(session, f"{origin}/.well-known/databricks-config")
    workspace_id = metadata.get("workspace_id")
    account_id = str(metadata.get("account_id", ""))
    # Workspaces that do not have the metadata document yet serve OIDC below their own host.
    oidc = str(metadata.get("oidc_endpoint") or f"{origin}/oidc").replace("{account_id}", account_id).rstrip("/")
    hosts.check_token_endpoint(origin, oidc)
    server = _document(session, f"{oidc}/.well-known/oauth-authorization-server")
    endpoint = server.get("token_endpoint")
    if not isinstance(endpoint, str):
        raise IdentityError(
            f"{origin} does not tell where tokens are exchanged; check that host is a Databricks workspace",
            reason="DiscoveryFailed",
        )
    return hosts.check_token_endpoint(origin, endpoint), None if workspace_id is None else str(workspace_id)


def _document(session: requests.Session, url: str) -> dict[str, Any]:
    """A discovery document; empty when there is none."""
    try:
        response = session.get(url, headers={"Accept": "application/json"}, allow_redirects=False)
    except Refused as error:
        raise IdentityError(error.message, reason=error.reason) from error
    if response.status_code == 404:
        return {}
    if response.status_code >= 400:
        raise IdentityError(f"{url} answered {response.status_code}", reason="DiscoveryFailed")
    document = document_of(response)
    if document is None:
        raise Unreachable(f"{url} is not a JSON object", reason="PlatformAnswerMalformed")
    return document


def form(assertion: Assertion, client_id: str | None) -> dict[str, str]:
    """The body of the exchange. Without a client id it is a policy of the account that finds the principal."""
    fields = {
        "grant_type": GRANT_TYPE,
        "subject_token_type": SUBJECT_TOKEN_TYPE,
        "subject_token": assertion.value,
        "scope": "all-apis",
    }
    return fields if client_id is None else {**fields, "client_id": client_id}


def access_token(response: requests.Response, asked_at: datetime, assertion: Assertion | None = None) -> AccessToken:
    """The token in a good answer.

    Raises:
        Unreachable: the answer is not what RFC 6749 section 5.1 and RFC 8693 section 2.2.1 say.
    """
    document = document_of(response)
    if document is not None:
        value, life = document.get("access_token"), document.get("expires_in")
        fits = isinstance(value, str) and value and value.isascii() and value.isprintable()
        if fits and isinstance(life, int | float) and 0 < life <= LONGEST_LIFE:
            jti = assertion.jti if assertion is not None else None
            return AccessToken(str(value), asked_at + timedelta(seconds=life), jti)
    raise Unreachable("the token endpoint's answer holds no token with a life", reason="PlatformAnswerMalformed")


def refusal(
    response: requests.Response,
    assertion: Assertion,
    client_id: str,
    *,
    account: bool = False,
    now: datetime | None = None,
) -> IdentityError:
    """What a refused exchange means, and what to mend.

    Databricks publishes no sentences, so that the code, the clocks and then the words lead, as far as they do.

    Args:
        account: whether a federation policy of the account was asked for, and not one of the service principal.
        now: the machine's clock, unless a test has another.
    """
    code, said = error_of(response)
    if code == "invalid_client":
        return IdentityError(
            f"the workspace does not know service principal {client_id} ({said}). Correct "
            f"{refusals.names_principal(assertion)}, or add the service principal to the workspace.",
            reason="ServicePrincipalUnknown",
        )
    case = _case(said, assertion, client_id, account=account)
    return (
        refusals.clock_skew(case, clocks.told_now(response.headers), now or utc_now())
        or refusals.by_words(case)
        or refusals.not_told(case, waiting=code in _MAY_APPEAR)
    )


def _case(said: str, assertion: Assertion, client_id: str, *, account: bool) -> refusals.Case:
    rule = {"issuer": assertion.issuer, "audiences": [assertion.audience]}
    if account:
        whom, command = "the account", "databricks account federation-policy create"
        policy = {"oidc_policy": {**rule, "subject_claim": "sub"}}
    else:
        whom = f"service principal {client_id}"
        command = "databricks account service-principal-federation-policy create SERVICE_PRINCIPAL_NUMBER"
        policy = {"oidc_policy": {**rule, "subject": assertion.subject}}
    remedy = f"{command} --json {shlex.quote(json.dumps(policy, separators=(',', ':')))}"
    return refusals.Case("Databricks", whom, said, "federation policy", remedy, assertion)


def error_of(response: requests.Response) -> tuple[str, str]:
    """OAuth's error code, or the platform's own, and the words; empty and the status where the answer has none."""
    document = document_of(response)
    if document is None:
        return "", f"status {response.status_code}"
    code = str(document.get("error") or document.get("error_code") or "")[:64]
    words = " ".join(str(document.get("error_description") or document.get("message") or "").split())[:300]
    return code, ": ".join(part for part in (code, words.rstrip(".")) if part) or f"status {response.status_code}"
