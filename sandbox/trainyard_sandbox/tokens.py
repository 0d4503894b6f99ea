"""Access tokens of the sandbox: issued, found again, expired, and never forgotten.

oidc.py issues them for an assertion or an OAuth secret, the engines for a run's own code, the control API by hand and
as personal access tokens; auth.py looks them up. Every token ever issued stays in the list, because the canary scan
searches for all of them. The request log must never contain one.

A Databricks OAuth token is a JWT signed by the workspace's OIDC service (Databricks documentation, "Authorize service
principal access with OAuth"): ours has that shape, so that a scan for JWT segments meets what it would meet there. A
personal access token is "dapi" and 32 hexadecimal digits.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

Purpose = Literal["federation", "secret", "runtime", "manual", "pat", "entra"]
PURPOSES: tuple[str, ...] = get_args(Purpose)
PAT_PREFIX = "dapi"


@dataclass
class IssuedToken:
    """One access token and whom it speaks for: `application_id` is a service principal's, or a user's name.

    A token `for_account` is good for the account's API and for the workspace, any other for the workspace only. Times
    are Unix seconds of the sandbox's clock; `token_id` names it where its value may not be. The purpose "entra" is that
    of the tenant's tokens, which are not kept here.
    """

    value: str
    application_id: str
    purpose: Purpose
    issued_at: float
    expires_at: float
    for_account: bool = False
    token_id: str = field(default_factory=lambda: secrets.token_hex(16))


class TokenStore:
    """All tokens of one sandbox.

    Args:
        now: the sandbox's clock, Unix seconds.
        issuer: called for the `iss` claim, with whether it is the account's, since the URLs are known only once the
            ports are bound.
    """

    def __init__(self, now: Callable[[], float], issuer: Callable[[bool], str]) -> None:
        self._now = now
        self._issuer = issuer
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._tokens: dict[str, IssuedToken] = {}

    def issue(
        self, application_id: str, lifetime_seconds: float, purpose: Purpose, *, for_account: bool = False
    ) -> IssuedToken:
        """A new token for the service principal, valid for `lifetime_seconds` from now."""
        issuer = self._issuer(for_account)
        issued_at = self._now()
        expires_at = issued_at + lifetime_seconds
        claims = {
            "iss": issuer,
            "aud": issuer,
            "sub": application_id,
            "client_id": application_id,
            "scope": "all-apis",
            "iat": int(issued_at),
            "exp": int(expires_at),
            "jti": secrets.token_hex(16),
        }
        value = jwt.encode(claims, self._key, algorithm="ES256", headers={"typ": "at+jwt", "kid": "sandbox"})
        token = IssuedToken(value, application_id, purpose, issued_at, expires_at, for_account)
        self._tokens[value] = token
        return token

    def issue_pat(self, owner: str, lifetime_seconds: float) -> IssuedToken:
        """A new personal access token of a service principal or a user."""
        now = self._now()
        token = IssuedToken(PAT_PREFIX + secrets.token_hex(16), owner, "pat", now, now + lifetime_seconds)
        self._tokens[token.value] = token
        return token

    def find(self, value: str) -> IssuedToken | None:
        """The token with this value, expired or not."""
        return self._tokens.get(value)

    def expire(self, application_id: str, purpose: Purpose | None = None) -> int:
        """Make every live token of the principal (of one purpose, if given) expired now; returns how many."""
        now = self._now()
        live = [
            token
            for token in self._tokens.values()
            if token.application_id == application_id
            and token.expires_at > now
            and (purpose is None or token.purpose == purpose)
        ]
        for token in live:
            token.expires_at = now
        return len(live)

    def expire_value(self, value: str) -> None:
        """Make one token expired now: the run that it was for has ended."""
        token = self._tokens[value]
        token.expires_at = min(token.expires_at, self._now())

    def all_issued(self) -> list[IssuedToken]:
        """Every token ever issued, oldest first."""
        return list(self._tokens.values())
