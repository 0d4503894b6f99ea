"""Minting the assertion: requesting the ServiceAccount's token and looking at what came.

Called by `identity.federated` and for the places of logs, only after the token endpoint is known to be allowed and the
ServiceAccount has consented. The assertion lives in the caller's memory for one exchange.
"""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from trainyard.core.errors import IdentityError
from trainyard.identity import clocks
from trainyard.identity.base import ServiceAccountRef, ServiceAccounts
from trainyard.identity.cached import utc_now

# The shortest life that TokenRequest grants, and the longest that the design allows.
ASSERTION_SECONDS = 600
# An API server may grant another life than was asked for (TokenRequestStatus); this long is not short-lived any more.
LONGEST_LIFE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Assertion:
    """A token for one exchange, with what a federation policy has to say to accept it.

    `key_id` is of the key that signs it; the times are None where it does not say them.
    """

    value: str = field(repr=False)
    issuer: str
    subject: str
    audience: str
    jti: str | None
    key_id: str | None = None
    issued_at: datetime | None = None
    expires_at: datetime | None = None


# A fresh assertion, each time it is called; what it may do before that (consent, reading a Secret) is its own affair.
Prove = Callable[[], Assertion]


def mint(
    accounts: ServiceAccounts, account: ServiceAccountRef, audience: str, now: Callable[[], datetime] | None = None
) -> Assertion:
    """A fresh assertion for exactly that audience, which a platform can be expected to accept now.

    `now` is the machine's clock, unless a test has another; never the one that a cache goes by.

    Raises:
        IdentityError: AssertionUnusable if the API server gave something else, IssuerUnusable, ClockSkew, or what
            `accounts` raises.
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
    if not str(issuer).startswith("https://"):
        raise IdentityError(
            f"the API server issues its tokens as {str(issuer)[:200]!a}, and no platform trusts an issuer that is no "
            "https URL. Have it started with --service-account-issuer=https://HOST, where HOST serves "
            "/.well-known/openid-configuration.",
            reason="IssuerUnusable",
        )
    issued_at, expires_at = times_of(claims)
    _check_times(issued_at, expires_at, (now or utc_now)())
    return Assertion(
        value,
        str(issuer),
        str(subject),
        audience,
        jti if isinstance(jti, str) else None,
        key_id_of(value),
        issued_at,
        expires_at,
    )


def times_of(claims: Mapping[str, Any]) -> tuple[datetime | None, datetime | None]:
    """From when and until when claims hold: the later of `iat` and `nbf`, and `exp`; None for what is no time."""
    begins = [moment for moment in (_moment(claims.get("iat")), _moment(claims.get("nbf"))) if moment is not None]
    return max(begins, default=None), _moment(claims.get("exp"))


def _moment(seconds: Any) -> datetime | None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _check_times(issued_at: datetime | None, expires_at: datetime | None, now: datetime) -> None:
    if issued_at is None or expires_at is None:
        return
    life = expires_at - issued_at
    if life > LONGEST_LIFE:
        raise IdentityError(
            f"the API server granted a token that lives {life.total_seconds():g} s where {ASSERTION_SECONDS} were "
            "asked for; it is not sent anywhere. Look for what changes TokenRequests (an admission webhook).",
            reason="AssertionUnusable",
        )
    wrong = clocks.of_api_server(issued_at, expires_at, now)
    if wrong is not None:
        raise wrong


def key_id_of(token: str) -> str | None:
    """The id of the key that a JWT says it is signed with, unverified; None if it says none."""
    try:
        header = _decoded(token.split(".")[0])
    except ValueError:
        return None
    key_id = header.get("kid") if isinstance(header, dict) else None
    return key_id[:128] if isinstance(key_id, str) else None


def _claims(token: str) -> dict[str, Any]:
    """The claims, unverified: only to look at what our own API server gave us."""
    try:
        claims = _decoded(token.split(".")[1])
    except (IndexError, ValueError) as error:
        raise IdentityError("the API server issued something else than a JWT", reason="AssertionUnusable") from error
    if not isinstance(claims, dict):
        raise IdentityError("the API server issued a JWT without claims", reason="AssertionUnusable")
    return claims


def _decoded(part: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
