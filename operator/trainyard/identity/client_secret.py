"""Databricks tokens of what a Secret holds: a service principal's OAuth secret, or a personal access token.

Made by `identity.secret_ref`, asked by `platforms.databricks.client` at each request, in a lane's thread. The request
for an OAuth secret (RFC 6749 section 4.4) is the one of databricks-sdk (oauth.py ClientCredentials, and
credentials_provider.py oauth_service_principal): HTTP Basic and `scope=all-apis`. Ours for the reasons that
`identity.exchange` gives.

A personal access token is only read; the workspace is then asked whose it is, as nothing else tells.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import requests

from trainyard.core.errors import Denied, IdentityError, Refused, TrainyardError
from trainyard.identity.base import AccessToken, is_stand_in
from trainyard.identity.cached import CachedToken, utc_now
from trainyard.identity.endpoint import TokenEndpoint
from trainyard.identity.oauth import access_token, error_of
from trainyard.identity.whoami import principal_of

# A personal access token has no life that is told: it counts for this long, so that a rotated one is soon used.
READ_HOLDS = timedelta(minutes=5)
FORM = {"grant_type": "client_credentials", "scope": "all-apis"}
# What the platform answers, with 403, to a token that it does not know or that has ended (databricks-sdk-go issue 873).
_TOKEN_REFUSED = "invalid access token"  # noqa: S105 - words


@dataclass(frozen=True, slots=True)
class Kept:
    """What a Secret held just now, and where: "key KEY of Secret NAMESPACE/NAME". Lives as long as one mint takes."""

    value: str = field(repr=False)
    where: str


class KeptToken:
    """Tokens of what a Secret holds; a TokenSource.

    Args:
        told: principal, mode and secret, for the audit records.
        mint: gets a new one.
        now: the clock.
    """

    def __init__(
        self, told: Mapping[str, str], mint: Callable[[], AccessToken], now: Callable[[], datetime] = utc_now
    ) -> None:
        self._told = dict(told)
        self._cache = CachedToken(mint, now)

    def token(self) -> AccessToken:
        """A token that is good for a while; at most one is got at a time. See `CachedToken.get`.

        Raises:
            IdentityError: no token can be had; says what to mend.
            PlatformError: the platform did not answer, or does not let the token's owner in.
        """
        return self._cache.get()

    def describe(self) -> dict[str, str]:
        """Who asks for what, for the audit records of the requests that carry the token."""
        return dict(self._told)

    def forget(self) -> None:
        """Drops the token, after the platform has refused it."""
        self._cache.forget()


@dataclass(frozen=True)
class ClientSecretMint:
    """Tokens for a service principal's OAuth secret.

    Args:
        principal: application id of the service principal.
        read: the secret, read and checked each time; called once the token endpoint is known to be allowed.
        endpoint: where tokens are got.
        session: an audited one, of `identity.wire`.
        now: the clock.
    """

    principal: str
    read: Callable[[], Kept]
    endpoint: TokenEndpoint
    session: requests.Session
    now: Callable[[], datetime]

    def __call__(self) -> AccessToken:
        """A new token. Raises as `KeptToken.token`."""
        try:
            return self._posted(self.endpoint.url(), self.read())
        except TrainyardError:
            self.endpoint.forget()
            raise

    def _posted(self, endpoint: str, kept: Kept) -> AccessToken:
        asked_at = self.now()
        basic = base64.b64encode(f"{self.principal}:{kept.value}".encode()).decode()
        headers = {"Accept": "application/json", "Authorization": f"Basic {basic}"}
        try:
            response = self.session.post(endpoint, data=FORM, headers=headers, allow_redirects=False)
        except Refused as error:
            raise IdentityError(error.message, reason=error.reason) from error
        if response.status_code >= 400:
            raise self._refusal(response, kept)
        return access_token(response, asked_at)

    def _refusal(self, response: requests.Response, kept: Kept) -> IdentityError:
        code, said = error_of(response)
        if code == "invalid_client":
            return IdentityError(
                f"the workspace does not take {kept.where} as a secret of service principal {self.principal} ({said}): "
                "the secret is wrong, has expired or was deleted, or the workspace does not have the service "
                "principal. Make a new secret (databricks account service-principal-secrets create ID, with the "
                "service principal's number) and put it there.",
                reason="ClientSecretWrong",
            )
        return IdentityError(
            f"the workspace refused a token of service principal {self.principal} for {kept.where}: {said}",
            reason="TokenExchangeRefused",
        )


@dataclass(frozen=True)
class PersonalTokenMint:
    """A personal access token, looked at before it is used.

    Args:
        principal: whose it has to be: the name that the workspace tells, or a stand-in for it, which is anybody.
        read: the token, read and checked each time; called once the host is known to be allowed.
        origin: the workspace's origin, allowed; called each time.
        session: an audited one, of `identity.wire`.
        now: the clock.
    """

    principal: str
    read: Callable[[], Kept]
    origin: Callable[[], str]
    session: requests.Session
    now: Callable[[], datetime]

    def __call__(self) -> AccessToken:
        """The token as it is now. Raises as `KeptToken.token`."""
        origin, read_at = self.origin(), self.now()
        kept = self.read()
        token = AccessToken(kept.value, read_at + READ_HOLDS)
        status, told = principal_of(self.session, origin, token)
        if status == 401 or (status == 403 and _TOKEN_REFUSED in told.lower()):
            raise IdentityError(
                f"the workspace refuses {kept.where} ({told}): the personal access token has expired, was revoked, or "
                "is of another workspace. Make a new one and put it there.",
                reason="PersonalAccessTokenRefused",
            )
        if status >= 400:
            raise Denied(f"{origin} does not let the owner of {kept.where} in: {told}")
        if not is_stand_in(self.principal) and told.casefold() != self.principal.casefold():
            raise IdentityError(
                f"{kept.where} is now of {told[:255]}, not of {self.principal}, whom this attempt is pinned to; it was "
                "not used.",
                reason="ClientIdMismatch",
            )
        return token
