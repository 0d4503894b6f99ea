"""The wire of another OpenID provider: its discovery document and its token endpoint. Called by `identity.oidc`.

Read in: OpenID Connect Discovery 1.0 sections 4 and 4.3 (`issuer` must be equal), RFC 8414 section 3.1 (the path goes
behind the well-known part), RFC 6749 sections 4.4 (client credentials), 5.1 and 5.2 (answers), RFC 8707 (`resource`).
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests

from trainyard.api.identity import OidcIdentity
from trainyard.core.errors import IdentityError, Refused, Unreachable
from trainyard.identity.hosts import origin_of
from trainyard.identity.oidc_client import ClientProof
from trainyard.identity.oidc_issuers import IssuerPolicy
from trainyard.identity.wire import document_of

_JSON = {"Accept": "application/json"}
# Characters of a token. Headers of this size are still taken by platforms; more is no token.
LONGEST_TOKEN = 65536


def discovered(session: requests.Session, issuer: str, policy: IssuerPolicy) -> tuple[str, Mapping[str, Any]]:
    """The provider's token endpoint, allowed by the policy, and its discovery document.

    Raises:
        IdentityError: IssuerNotAllowed, DiscoveryFailed, TokenEndpointNotAllowed, RedirectRefused.
        Unreachable, Throttled: no usable answer.
    """
    policy.check(issuer)
    document = _document(session, f"{issuer.rstrip('/')}/.well-known/openid-configuration", issuer)
    if document is None:
        path = urlsplit(issuer).path.rstrip("/")
        url = f"{origin_of(issuer)}/.well-known/oauth-authorization-server{path}"
        document = _document(session, url, issuer)
    if document is None:
        raise IdentityError(
            f"issuer {issuer} has no discovery document (/.well-known/openid-configuration); check that "
            "identity.oidc.issuer is what the provider's tokens name as iss",
            reason="DiscoveryFailed",
        )
    named = document.get("issuer")
    if named != issuer:
        raise IdentityError(
            f"the discovery document of {issuer} names another issuer ({str(named)[:200]!a}), and they must be equal "
            "to the last letter and slash; correct identity.oidc.issuer",
            reason="DiscoveryFailed",
        )
    endpoint = document.get("token_endpoint")
    if not isinstance(endpoint, str):
        raise IdentityError(f"the discovery document of {issuer} names no token_endpoint", reason="DiscoveryFailed")
    return policy.check_token_endpoint(issuer, endpoint), document


def _document(session: requests.Session, url: str, issuer: str) -> dict[str, Any] | None:
    """A discovery document; None when there is none."""
    try:
        response = session.get(url, headers=_JSON, allow_redirects=False)
    except Refused as error:
        raise _refused(error, issuer) from error
    if response.status_code == 404:
        return None
    if response.status_code >= 400:
        raise IdentityError(f"{url} answered {response.status_code}", reason="DiscoveryFailed")
    document = document_of(response)
    if document is None:
        raise Unreachable(f"{url} is not a JSON object", reason="PlatformAnswerMalformed")
    return document


def request_form(identity: OidcIdentity) -> dict[str, str]:
    """What is asked for.

    An audience is named twice: Auth0 and Ory take `audience`, providers of RFC 8707 take `resource`, which must be an
    absolute URI. Others ignore what they do not know (RFC 6749 section 3.2).
    """
    form = {"grant_type": "client_credentials"}
    if identity.scope is not None:
        form["scope"] = identity.scope
    if identity.audience is not None:
        form["audience"] = identity.audience
        if _is_absolute_uri(identity.audience):
            form["resource"] = identity.audience
    return form


def _is_absolute_uri(text: str) -> bool:
    parts = urlsplit(text)
    return bool(parts.scheme and (parts.netloc or parts.path)) and "#" not in text


def token(session: requests.Session, endpoint: str, identity: OidcIdentity, proof: ClientProof) -> str:
    """The access token that the provider gives the client.

    Raises:
        IdentityError: ProviderRefusedClient, ProviderRefusedRequest, RedirectRefused.
        Unreachable, Throttled: no usable answer.
    """
    try:
        response = session.post(
            endpoint,
            data={**request_form(identity), **proof.form},
            headers={**_JSON, **proof.headers},
            allow_redirects=False,
        )
    except Refused as error:
        raise _refused(error, identity.issuer) from error
    if response.status_code >= 400:
        raise refusal(response, identity)
    document = document_of(response)
    value = document.get("access_token") if document is not None else None
    if not isinstance(value, str) or not value or not value.isascii() or len(value) > LONGEST_TOKEN:
        raise Unreachable(
            f"the token endpoint of {identity.issuer} answered with something else than a token",
            reason="PlatformAnswerMalformed",
        )
    return value


def refusal(response: requests.Response, identity: OidcIdentity) -> IdentityError:
    """What a refused request means, and what to mend."""
    code, said = _error_of(response)
    if code == "invalid_client" or (not code and response.status_code == 401):
        return IdentityError(
            f"{identity.issuer} does not accept client {identity.client_id} with what Secret {identity.secret_name} "
            f"holds ({said}). Correct identity.oidc.clientId or the Secret; after a rotation the Secret needs the new "
            "value, and a private key its public half at the provider.",
            reason="ProviderRefusedClient",
        )
    mend = {
        "invalid_scope": f"Let the client have scope {identity.scope or '(none was asked for)'} at the provider, or "
        "correct identity.oidc.scope",
        "invalid_target": f"Make audience {identity.audience} known at the provider, or correct identity.oidc.audience",
        "unauthorized_client": "Allow the client the grant client_credentials at the provider",
        # RFC 9449: such a token is of use only to who holds a key beside it, which is no platform.
        "invalid_dpop_proof": "Let the client have tokens without proof of possession (DPoP) at the provider",
        "access_denied": "Let a policy of the provider give this client tokens for what it asks",
    }.get(code, "Look at the client's settings at the provider")
    return IdentityError(
        f"{identity.issuer} refused client {identity.client_id} a token: {said}. {mend}.",
        reason="ProviderRefusedRequest",
    )


def _refused(error: Refused, issuer: str) -> IdentityError:
    if error.reason != "RedirectRefused":
        return IdentityError(error.message, reason=error.reason)
    return IdentityError(
        f"issuer {issuer} redirects, and redirects are never followed; correct identity.oidc.issuer to the provider's "
        "own URL",
        reason="RedirectRefused",
    )


def _error_of(response: requests.Response) -> tuple[str, str]:
    """OAuth's error code, and the provider's words."""
    document = document_of(response)
    if document is None:
        return "", f"status {response.status_code}"
    # RFC 6749, section 5.2; some of Okta's answers say errorCode and errorSummary instead.
    code = str(document.get("error") or document.get("errorCode") or "")[:64]
    words = " ".join(str(document.get("error_description") or document.get("errorSummary") or "").split())[:300]
    told = ": ".join(part for part in (code, words.rstrip(".")) if part)
    return code, told or f"status {response.status_code}"
