"""Link 4: the issuer of the assertion can be read from here, and the assertion is signed with a key that it publishes.

What a platform does when it verifies an assertion: OpenID Connect Discovery 1.0 (the document below the issuer's URL
names the same issuer and its `jwks_uri`), RFC 7517 (keys by `kid`). From here is not from where the platform is: what
can not be reached from here is not seen, and the keys are then looked at by way of the API server, which publishes the
same ones. Nothing but these two documents is asked for, and no token is sent.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jwt
import requests

from trainyard.client.doctor import mending, remedies
from trainyard.client.doctor.case import Case
from trainyard.client.doctor.results import Result, failed, not_applicable, not_seen, passed
from trainyard.client.errors import ClientError
from trainyard.core.errors import IdentityError, Refused, TrainyardError
from trainyard.identity.assertion import Assertion
from trainyard.identity.oauth import OAuthDialect
from trainyard.identity.wire import EXCHANGE_BOUNDS, document_of, token_session

# What an issuer may sign with; never a secret that both sides would know (RFC 8725, 3.1 and 3.2).
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")

# API servers serve their keys as the second (RFC 7517, 8.5.2), and answer 406 to who asks for the first alone.
ACCEPTED = "application/json, application/jwk-set+json"


class _HiddenError(Exception):
    """The issuer answers, and shows its documents to nobody who has no credential."""


class _UnseenError(Exception):
    """The issuer can not be reached from here. `args[0]` says why."""


class _WrongError(Exception):
    """The documents are not what they have to be. `args` are a word and a sentence."""


def look(case: Case) -> Result:
    """Reads the issuer's documents as a platform does, and verifies the assertion with them."""
    assertion = case.assertion
    if assertion is None:
        return not_applicable("there is no assertion in this mode, so no issuer")
    try:
        with token_session(case.means.log, OAuthDialect(), {"mode": "doctor"}, EXCHANGE_BOUNDS) as session:
            key = _published(session, assertion)
        verify(assertion.value, key)
    except _HiddenError as hidden:
        return _hidden(case, assertion, str(hidden))
    except _UnseenError as unseen:
        return _by_the_api_server(case, assertion, str(unseen))
    except _WrongError as wrong:
        return failed(str(wrong.args[0]), str(wrong.args[1]))
    return passed(
        f"{assertion.issuer} publishes key {key['kid']}, and the token's signature is by it",
        issuer=assertion.issuer,
        keyId=str(key["kid"]),
    )


def _published(session: requests.Session, assertion: Assertion) -> Mapping[str, Any]:
    """The key that the assertion names, as the issuer publishes it."""
    issuer = assertion.issuer
    document = _document(session, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    if document.get("issuer") != issuer:
        said = str(document.get("issuer"))[:200]
        raise _WrongError(
            "IssuerDiffers",
            f"the discovery document of {issuer} names another issuer, {said!a}: platforms refuse its tokens. Correct "
            "--service-account-issuer of the API server, or the document.",
        )
    uri = document.get("jwks_uri")
    if not isinstance(uri, str):
        raise _WrongError("KeysNotNamed", f"the discovery document of {issuer} names no jwks_uri")
    return key_of(assertion.value, _document(session, uri), uri)


def key_of(token: str, keys: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """The key of a set that the token says it is signed with. Raises _WrongError."""
    kid = jwt.get_unverified_header(token).get("kid")
    rows = keys.get("keys")
    listed: Sequence[Mapping[str, Any]] = (
        [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    )
    found = next((row for row in listed if row.get("kid") == kid), None)
    if found is None:
        has = ", ".join(str(row.get("kid"))[:64] for row in listed[:5]) or "none"
        raise _WrongError(
            "KeyNotPublished",
            f"{where} does not have the key {kid} that tokens are signed with now (it has {has}): publish the API "
            "server's current keys there (kubectl get --raw /openid/v1/jwks), also after each rotation.",
        )
    return found


def verify(token: str, key: Mapping[str, Any]) -> None:
    """Raises _WrongError unless the token's signature is by that public key."""
    try:
        jwt.decode(
            token,
            jwt.PyJWK(dict(key)).key,
            algorithms=ALGORITHMS,
            options={"verify_aud": False, "verify_exp": False, "verify_nbf": False, "verify_iat": False},
        )
    except jwt.PyJWTError as error:
        raise _WrongError(
            "SignatureWrong",
            f"the token's signature is not by the published key {key.get('kid')} ({type(error).__name__}): publish the "
            "API server's current keys (kubectl get --raw /openid/v1/jwks).",
        ) from None


def _document(session: requests.Session, url: str) -> Mapping[str, Any]:
    try:
        response = session.get(url, headers={"Accept": ACCEPTED}, allow_redirects=False)
    except (Refused, IdentityError) as error:
        raise _WrongError("IssuerUnreadable", f"{url}: {error.message}") from error
    except TrainyardError as error:
        raise _UnseenError(error.message) from error
    if response.status_code in (401, 403):
        raise _HiddenError(f"{url} answered {response.status_code}")
    if response.status_code >= 400:
        raise _WrongError(
            "IssuerUnreadable", f"{url} answered {response.status_code}: serve the issuer's documents there"
        )
    document = document_of(response)
    if document is None:
        raise _WrongError("IssuerUnreadable", f"{url} is no JSON object: serve the issuer's documents there")
    return document


def _hidden(case: Case, assertion: Assertion, why: str) -> Result:
    """The issuer shows its documents to those alone who have a credential, as API servers do by default."""
    told = f"{assertion.issuer} hides its documents from the outside ({why})"
    if mending.by_entra(case):
        return failed("IssuerHidden", f"{told}, and Entra has to read them", remedies.publish_issuer())
    return not_seen(
        "IssuerHidden",
        f"{told}; Databricks can verify tokens only if the federation policy has the keys in it (jwks_json)",
        remedies.publish_issuer(),
    )


def _by_the_api_server(case: Case, assertion: Assertion, why: str) -> Result:
    """The keys, as the API server shows them to who has a credential, where the issuer itself can not be reached."""
    told = f"{assertion.issuer} can not be read from here ({why}); the platform has to read it from where it is"
    try:
        document, keys = case.means.cluster.issuer_documents()
        if document.get("issuer") == assertion.issuer:
            verify(assertion.value, key_of(assertion.value, keys, "the API server's own /openid/v1/jwks"))
            told += ". The API server's own keys fit the token"
    except _WrongError as wrong:
        return failed(str(wrong.args[0]), str(wrong.args[1]))
    except ClientError as error:
        told += f". The API server's own keys can not be seen: {error.message}"
    return not_seen("IssuerNotReached", told, case.in_operator())
