"""Federated identity: a ServiceAccount token exchanged for a Databricks token (RFC 8693). The default mode.

Made by the wiring through `FederatedTokens`, asked by `platforms.databricks.client` at each request, in a lane's
thread. Nothing is stored or logged; the host is checked and its token endpoint pinned before an assertion is minted.

Ours rather than the SDK's: the SDK posts to the token endpoint without a time-out while it holds a lock that every call
waits for, and follows the host's own word about where that endpoint is.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from trainyard.audit.log import AuditLog
from trainyard.audit.transport import Bounds
from trainyard.core.errors import IdentityError, Refused, TrainyardError
from trainyard.identity.assertion import Assertion, mint
from trainyard.identity.audience import checked_audience
from trainyard.identity.base import AccessToken, ServiceAccountRef, ServiceAccounts
from trainyard.identity.cached import CachedToken, Sources, utc_now
from trainyard.identity.consent import require_consent
from trainyard.identity.hosts import HostPolicy
from trainyard.identity.oauth import OAuthDialect, access_token, form, refusal, token_endpoint
from trainyard.identity.wire import EXCHANGE_BOUNDS, token_session

MODE = "federated"
PLATFORM = "databricks"
# Token endpoints hardly ever move; asking once an hour keeps two requests out of each refresh.
DISCOVERY_HOLDS = timedelta(hours=1)


class FederatedToken:
    """Access tokens for one host as one service principal; a TokenSource.

    Args:
        host: the workspace's URL.
        account: the ServiceAccount that speaks for the service principal.
        client_id: application id of the service principal; the ServiceAccount's annotation must name the same.
        accounts: reads ServiceAccounts and requests their tokens.
        hosts: the allow-list.
        audience: of the assertions; see `identity.audience`.
        log: the audit log.
        now: the clock.
        bounds: limits of each HTTP request.
    """

    def __init__(
        self,
        host: str,
        account: ServiceAccountRef,
        client_id: str,
        *,
        accounts: ServiceAccounts,
        hosts: HostPolicy,
        audience: str,
        log: AuditLog,
        now: Callable[[], datetime] = utc_now,
        bounds: Bounds = EXCHANGE_BOUNDS,
    ) -> None:
        self.workspace_id: str | None = None
        self._host = host
        self._account = account
        self._client_id = client_id
        self._accounts = accounts
        self._hosts = hosts
        self._audience = checked_audience(audience)
        self._now = now
        self._cache = CachedToken(self._minted, now)
        self._endpoint: tuple[str, datetime] | None = None
        self._facts: dict[str, Any] = {
            "principal": client_id,
            "mode": MODE,
            "service_account": f"{account.namespace}/{account.name}",
        }
        self._session = token_session(log, OAuthDialect(), self._facts, bounds)

    def token(self) -> AccessToken:
        """A token that is good for a while; at most one exchange at a time. See `CachedToken.get`.

        Raises:
            IdentityError: no token can be had; says what to mend.
            Unreachable, Throttled: the platform or the API server did not answer.
        """
        return self._cache.get()

    def describe(self) -> dict[str, str]:
        """Who asks for what, for the audit records of the requests that carry the token."""
        return {name: self._facts[name] for name in ("principal", "mode", "service_account")}

    def forget(self) -> None:
        """Drops the token, after the platform has refused it."""
        self._cache.forget()

    def _minted(self) -> AccessToken:
        try:
            return self._exchange()
        except TrainyardError:
            self._endpoint = None
            raise

    def _exchange(self) -> AccessToken:
        endpoint = self._discover()
        require_consent(self._accounts, self._account, PLATFORM, self._client_id)
        assertion = mint(self._accounts, self._account, self._audience)
        self._facts["assertion_jti"] = assertion.jti
        try:
            return self._post(endpoint, assertion)
        finally:
            del self._facts["assertion_jti"]

    def _discover(self) -> str:
        """Where the exchange happens, allowed by the policy; nothing has been minted yet."""
        origin = self._hosts.check(self._host)
        if self._endpoint is not None and self._now() < self._endpoint[1]:
            return self._endpoint[0]
        endpoint, self.workspace_id = token_endpoint(self._session, origin, self._hosts)
        self._endpoint = (endpoint, self._now() + DISCOVERY_HOLDS)
        return endpoint

    def _post(self, endpoint: str, assertion: Assertion) -> AccessToken:
        asked_at = self._now()
        try:
            response = self._session.post(
                endpoint,
                data=form(assertion, self._client_id),
                headers={"Accept": "application/json"},
                allow_redirects=False,
            )
        except Refused as error:
            raise IdentityError(error.message, reason=error.reason) from error
        if response.status_code >= 400:
            raise refusal(response, assertion, self._client_id)
        return access_token(response, asked_at, assertion)


class FederatedTokens:
    """Every federated token source of this operator, one per host, ServiceAccount and principal.

    Bounded: the longest unused source is dropped, which costs its user one more exchange.
    """

    def __init__(
        self,
        accounts: ServiceAccounts,
        hosts: HostPolicy,
        audience: str,
        log: AuditLog,
        *,
        bound: int = 1000,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._accounts = accounts
        self._hosts = hosts
        self._audience = checked_audience(audience)
        self._log = log
        self._now = now
        self._sources: Sources[tuple[str, ServiceAccountRef, str], FederatedToken] = Sources(bound)

    def source(self, host: str, account: ServiceAccountRef, client_id: str) -> FederatedToken:
        """The source for that host, ServiceAccount and service principal. Sends nothing."""
        key = (host, account, client_id)
        return self._sources.get(
            key,
            lambda: FederatedToken(
                host,
                account,
                client_id,
                accounts=self._accounts,
                hosts=self._hosts,
                audience=self._audience,
                log=self._log,
                now=self._now,
            ),
        )
