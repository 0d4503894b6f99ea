"""How a client proves itself at its provider's token endpoint. Pure; called by `identity.oidc` for each token.

Read in: RFC 6749 section 2.3.1 (client_secret_basic: id and secret form-encoded before Base64), RFC 7523 sections 2.2
and 3 and OpenID Connect Core 1.0 section 9 (private_key_jwt), RFC 10070 (its newer audience and type), RFC 7518 section
3 (RS256: 2048 bits; ES256: P-256).
"""

import base64
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import quote_plus

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from trainyard.api.identity import OidcIdentity
from trainyard.core.errors import IdentityError
from trainyard.identity.base import SecretData, SecretRef
from trainyard.identity.secret_reading import entry, unusable

CLIENT_SECRET, PRIVATE_KEY, KEY_ID = "client-secret", "private-key", "key-id"
# By what the API calls them, how the provider's discovery document does.
METHODS = {"ClientSecretBasic": "client_secret_basic", "PrivateKeyJwt": "private_key_jwt"}
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# Long enough for a request and for clocks that differ a little, and used once.
CLIENT_ASSERTION_LIVES = timedelta(seconds=120)
FEWEST_RSA_BITS = 2048


@dataclass(frozen=True, slots=True)
class ClientProof:
    """What a token request carries beside what it asks for."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    form: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Key:
    """A private key, the algorithm that it signs with, and its id at the provider if the Secret says it."""

    private: RSAPrivateKey | EllipticCurvePrivateKey = field(repr=False)
    algorithm: str
    key_id: str | None


def by_secret(client_id: str, found: SecretData, secret: SecretRef) -> ClientProof:
    """Proof by the client's secret. Raises IdentityError if the Secret has none that can be sent."""
    value = entry(found, secret, CLIENT_SECRET)
    if not value.isprintable():
        raise unusable(secret, CLIENT_SECRET, "has more than one line, or characters that no secret has")
    # The characters of ids and secrets may be any but control characters: a colon or plus sign must survive.
    pair = f"{quote_plus(client_id)}:{quote_plus(value)}"
    return ClientProof(headers={"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()})


def by_key(identity: OidcIdentity, endpoint: str, key: Key, now: datetime) -> ClientProof:
    """Proof by a JWT that the client signs for this provider and this request alone."""
    for_issuer = identity.assertion_audience == "Issuer"
    claims = {
        "iss": identity.client_id,
        "sub": identity.client_id,
        "aud": identity.issuer if for_issuer else endpoint,
        "jti": uuid.uuid4().hex,
        "iat": int(now.timestamp()),
        "exp": int((now + CLIENT_ASSERTION_LIVES).timestamp()),
    }
    headers = {"typ": "client-authentication+jwt" if for_issuer else "JWT"}
    # An attempt keeps its workspace's keyId for as long as it runs, also when the key has been rotated meanwhile.
    key_id = key.key_id or identity.key_id
    if key_id is not None:
        headers["kid"] = key_id
    signed = jwt.encode(claims, key.private, algorithm=key.algorithm, headers=headers)
    return ClientProof(form={"client_assertion_type": JWT_BEARER, "client_assertion": signed})


def key_of(found: SecretData, secret: SecretRef) -> Key:
    """The private key in a Secret.

    Raises:
        IdentityError: SecretKeyMissing, SecretUnusable: no key that RS256 or ES256 could use.
    """
    text = entry(found, secret, PRIVATE_KEY)
    try:
        private = load_pem_private_key(text.encode(), password=None)
    except TypeError:
        raise unusable(secret, PRIVATE_KEY, "is protected by a password, which is not supported") from None
    except (ValueError, UnsupportedAlgorithm):
        raise unusable(secret, PRIVATE_KEY, "is no private key in PEM form") from None
    key_id = entry(found, secret, KEY_ID) if found.data.get(KEY_ID, b"").strip() else None
    if isinstance(private, RSAPrivateKey) and private.key_size >= FEWEST_RSA_BITS:
        return Key(private, "RS256", key_id)
    if isinstance(private, EllipticCurvePrivateKey) and isinstance(private.curve, SECP256R1):
        return Key(private, "ES256", key_id)
    raise unusable(
        secret, PRIVATE_KEY, f"is neither an RSA key of {FEWEST_RSA_BITS} bits or more nor an EC key of the curve P-256"
    )


def require_method(method: str, algorithm: str | None, metadata: Mapping[str, object], issuer: str) -> None:
    """Checks that the provider takes this way to prove oneself, as far as its discovery document tells.

    Raises:
        IdentityError: ClientAuthenticationUnsupported.
    """
    named = METHODS[method]
    taken = metadata.get("token_endpoint_auth_methods_supported")
    if isinstance(taken, list) and named not in taken:
        raise IdentityError(
            f"issuer {issuer} does not take {named} at its token endpoint, but {_listed(taken)}; change "
            "identity.oidc.authentication, or the provider's setting",
            reason="ClientAuthenticationUnsupported",
        )
    algorithms = metadata.get("token_endpoint_auth_signing_alg_values_supported")
    if algorithm is not None and isinstance(algorithms, list) and algorithm not in algorithms:
        raise IdentityError(
            f"issuer {issuer} does not take client assertions signed with {algorithm}, but with {_listed(algorithms)}; "
            "use a key of another type",
            reason="ClientAuthenticationUnsupported",
        )


def _listed(words: list[object]) -> str:
    return ", ".join(str(word)[:40] for word in words[:10]) or "nothing"
