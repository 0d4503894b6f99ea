"""What a provider's access token has to be before it is sent on as an assertion. Pure; called by `identity.oidc`.

Its signature is not checked here: the platform does, with the keys that the provider publishes, and a token that came
over TLS from the allowed token endpoint is the provider's word. What the platform would refuse for a reason that can be
known here is told here, with what mends it; and no token goes anywhere that an API server might take for a credential.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import jwt

from trainyard.core.errors import IdentityError
from trainyard.identity.assertion import Assertion, times_of
from trainyard.identity.audience import checked_audience
from trainyard.identity.clocks import TOLERATED
from trainyard.identity.entra import AUDIENCE as ENTRA_AUDIENCE

# Databricks: "signed using the RS256 or ES256 algorithm" ("Authenticate access using OAuth token federation"). Entra
# supports RS256, and says that others may work ("Important considerations ... for federated identity credentials").
DATABRICKS_ALGORITHMS = ("RS256", "ES256")
ENTRA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
# Seconds since 1970, in the year 9999: what is beyond, or is not finite, is no time.
LATEST = 253_370_764_800


def assertion_of(token: str, issuer: str, audience: str | None, now: datetime, *, for_entra: bool) -> Assertion:
    """The token as the assertion for one exchange.

    Args:
        token: what the provider gave.
        issuer: as the workspace names it.
        audience: what was asked for, if something was.
        now: our clock.
        for_entra: whether it goes to Entra rather than to Databricks.

    Raises:
        IdentityError: AssertionUnusable, ClockSkew.
    """
    header, claims = _parts(token, issuer, ENTRA_ALGORITHMS if for_entra else DATABRICKS_ALGORITHMS)
    if claims.get("iss") != issuer:
        raise _unusable(
            issuer, f"names another issuer ({_shown(claims.get('iss'))}); correct identity.oidc.issuer to what it names"
        )
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise _unusable(issuer, "has no subject (sub), which a federation policy needs")
    _check_times(claims, issuer, now.timestamp())
    wanted = ENTRA_AUDIENCE if for_entra else audience
    jti, key_id = claims.get("jti"), header.get("kid")
    issued_at, expires_at = times_of(claims)
    return Assertion(
        value=token,
        issuer=issuer,
        subject=subject,
        audience=_audience(claims, issuer, wanted, for_entra=for_entra),
        jti=jti[:128] if isinstance(jti, str) else None,
        key_id=key_id[:128] if isinstance(key_id, str) else None,
        issued_at=issued_at,
        expires_at=expires_at,
    )


def _parts(token: str, issuer: str, algorithms: tuple[str, ...]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Header and claims, unverified."""
    try:
        whole = jwt.decode_complete(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise _unusable(
            issuer,
            "is no JWT, so that no platform can read it; have the provider issue JWTs: at Okta use a custom "
            "authorization server, at Auth0 name the API in identity.oidc.audience",
        ) from None
    algorithm = whole["header"].get("alg")
    if algorithm not in algorithms:
        raise _unusable(
            issuer,
            f"is signed with {_shown(algorithm)}, and the platform takes {', '.join(algorithms)}; have the provider "
            "sign with RS256",
        )
    return whole["header"], whole["payload"]


def _check_times(claims: Mapping[str, Any], issuer: str, now: float) -> None:
    times = {name: claims.get(name, 0.0 if name != "exp" else None) for name in ("exp", "nbf", "iat")}
    if not all(_is_time(value) for value in times.values()):
        raise _unusable(issuer, "has no expiry (exp), or times that are no numbers")
    if times["exp"] <= now:
        raise _clocks(issuer, f"ended {round(now - times['exp'])} s ago")
    begins = max(times["nbf"], times["iat"])
    if begins > now + TOLERATED.total_seconds():
        raise _clocks(issuer, f"is valid only {round(begins - now)} s from now")


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LATEST


def _audience(claims: Mapping[str, Any], issuer: str, wanted: str | None, *, for_entra: bool) -> str:
    named = claims.get("aud")
    audiences = [named] if isinstance(named, str) else named
    if not isinstance(audiences, list) or not audiences or not all(isinstance(each, str) for each in audiences):
        raise _unusable(issuer, "has no audience (aud); have the provider set one")
    told = ", ".join(_shown(each) for each in audiences[:5])
    for each in audiences:
        try:
            checked_audience(each)
        except ValueError:
            raise _unusable(
                issuer,
                f"is for the audience {_shown(each)}, which an API server would take for its own: it is not sent "
                "anywhere. Have the provider set another one",
            ) from None
    if wanted is not None and wanted not in audiences:
        whose = "the only one that Entra takes" if for_entra else "what identity.oidc.audience asks for"
        raise _unusable(
            issuer,
            f"is for the audience {told}, not {wanted}, {whose}. Set it at the provider: at Okta it is a setting of "
            "the authorization server",
        )
    return wanted if wanted is not None else audiences[0]


def _unusable(issuer: str, why: str) -> IdentityError:
    return IdentityError(f"the token that {issuer} gave {why}", reason="AssertionUnusable")


def _clocks(issuer: str, how: str) -> IdentityError:
    return IdentityError(
        f"the token that {issuer} gave just now {how}: the provider's clock and the operator's differ. Correct the "
        "clock of the operator's machine, or the provider's",
        reason="ClockSkew",
    )


def _shown(value: object) -> str:
    return ascii(value)[1:101].rstrip("'") if isinstance(value, str) else "none"
