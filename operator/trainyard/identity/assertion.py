"""Minting the assertion: requesting the ServiceAccount's token and looking at what came.

Called by `identity.federated` and `identity.entra`, only after the token endpoint is known to be allowed and the
ServiceAccount has consented. The assertion lives in the caller's memory for one exchange.
"""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trainyard.core.errors import IdentityError
from trainyard.identity.base import ServiceAccountRef, ServiceAccounts

# The shortest life that TokenRequest grants, and the longest that the design allows.
ASSERTION_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Assertion:
    """A ServiceAccount token for one exchange, with what a federation policy has to say to accept it."""

    value: str = field(repr=False)
    issuer: str
    subject: str
    audience: str
    jti: str | None


# A fresh assertion, each time it is called; what it may do before that (consent, reading a Secret) is its own affair.
Prove = Callable[[], Assertion]


def mint(accounts: ServiceAccounts, account: ServiceAccountRef, audience: str) -> Assertion:
    """A fresh assertion for exactly that audience.

    Raises:
        IdentityError: AssertionUnusable if the API server gave something else, or what `accounts` raises.
    """
    value = accounts.request_token(account, audience, ASSERTION_SECONDS)
    claims = _claims(value)
    issuer, subject, jti = claims.get("iss"), claims.get("sub"), claims.get("jti")
    named = claims.get("aud")
    audiences = named if isinstance(named, list) else [named]
    if audiences != [audience] or audience == issuer:
        raise IdentityError(
            f"the API server issued a token for audiences {audiences} instead of just {audience}; it is not "
            "sent anywhere. Check the API server's --api-audiences.",
            reason="AssertionUnusable",
        )
    return Assertion(value, str(issuer), str(subject), audience, jti if isinstance(jti, str) else None)


def _claims(token: str) -> dict[str, Any]:
    """The claims, unverified: only to look at what our own API server gave us."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError) as error:
        raise IdentityError("the API server issued something else than a JWT", reason="AssertionUnusable") from error
    if not isinstance(claims, dict):
        raise IdentityError("the API server issued a JWT without claims", reason="AssertionUnusable")
    return claims
