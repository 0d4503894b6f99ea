"""Federated identity: a ServiceAccount token exchanged for a Databricks token (RFC 8693). The default mode.

Made by the wiring through `FederatedTokens`, asked by `platforms.databricks.client` at each request, in a lane's
thread. Nothing is stored or logged; the host is checked and its token endpoint pinned before an assertion is minted.

Ours rather than the SDK's: the SDK posts to the token endpoint without a time-out while it holds a lock that every call
waits for, and follows the host's own word about where that endpoint is.
"""

import random
import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import requests

from trainyard.audit.log import AuditLog
from trainyard.audit.transport import AuditedAdapter, Bounds
from trainyard.core.errors import IdentityError, Refused, TrainyardError
from trainyard.identity.assertion import Assertion, mint, require_consent
from trainyard.identity.audience import checked_audience
from trainyard.identity.base import AccessToken, ServiceAccountRef, ServiceAccounts
from trainyard.identity.hosts import HostPolicy
from trainyard.identity.oauth import OAuthDialect, access_token, form, refusal, token_endpoint

MODE = "federated"
# A token is not handed out in its last seconds: the request that carries it has to arrive as well.
LAST_SECONDS = timedelta(seconds=30)
# After a failed refresh, how long the failure answers for itself: the callers who waited for the same flight share it,
# and a live token is used on instead of asking again at each request.
FAILURE_HOLDS = timedelta(seconds=5)
# Token endpoints hardly ever move; asking once an hour keeps two requests out of each refresh.
DISCOVERY_HOLDS = timedelta(hours=1)
EXCHANGE_BOUNDS = Bounds(connect=3.0, read=10.0, total=15.0, body=1024 * 1024)


def _utc_now() -> datetime:
    return datetime.now(UTC)


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
        now: Callable[[], datetime] = _utc_now,
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
        self._flight = threading.Lock()
        self._cached: tuple[AccessToken, datetime] | None = None
        self._failed: tuple[TrainyardError, datetime] | None = None
        self._endpoint: tuple[str, datetime] | None = None
        self._facts: dict[str, Any] = {
            "principal": client_id,
            "mode": MODE,
            "service_account": f"{account.namespace}/{account.name}",
        }
        self._session = _session(log, self._facts, bounds)

    def token(self) -> AccessToken:
        """A token that is good for a while; at most one exchange at a time.

        A live token keeps working when it can not be refreshed, for example because the ServiceAccount went away with
        its namespace: stopping the remote run may need just that (invariant 8).

        Raises:
            IdentityError: no token can be had; says what to mend.
            Unreachable, Throttled: the platform or the API server did not answer.
        """
        fresh = self._fresh()
        if fresh is not None:
            return fresh
        with self._flight:
            fresh = self._fresh()
            if fresh is not None:
                return fresh
            return self._refresh()

    def describe(self) -> dict[str, str]:
        """Who asks for what, for the audit records of the requests that carry the token."""
        return {name: self._facts[name] for name in ("principal", "mode", "service_account")}

    def forget(self) -> None:
        """Drops the token, after the platform has refused it."""
        self._cached = None

    def _fresh(self) -> AccessToken | None:
        cached = self._cached
        return cached[0] if cached is not None and self._now() < cached[1] else None

    def _refresh(self) -> AccessToken:
        """A new token, or the old one while it lives; called by one thread at a time."""
        now = self._now()
        if self._failed is not None and now < self._failed[1]:
            return self._live_or_raise(self._failed[0].with_traceback(None))
        try:
            token = self._exchange()
        except TrainyardError as error:
            self._failed = (error, self._now() + FAILURE_HOLDS)
            self._endpoint = None
            return self._live_or_raise(error)
        life = token.expires_at - self._now()
        # Spread over a tenth of the life, so that tokens made together are not all renewed in the same second.
        refresh_at = self._now() + life * (0.7 + 0.1 * random.random())  # noqa: S311 - jitter, not a secret
        self._failed = None
        self._cached = (token, min(refresh_at, token.expires_at - LAST_SECONDS))
        return token

    def _live_or_raise(self, error: TrainyardError) -> AccessToken:
        cached = self._cached
        if cached is not None and self._now() < cached[0].expires_at - LAST_SECONDS:
            return cached[0]
        raise error

    def _exchange(self) -> AccessToken:
        endpoint = self._discover()
        require_consent(self._accounts, self._account, self._client_id)
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
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._accounts = accounts
        self._hosts = hosts
        self._audience = checked_audience(audience)
        self._log = log
        self._bound = bound
        self._now = now
        self._lock = threading.Lock()
        self._sources: OrderedDict[tuple[str, ServiceAccountRef, str], FederatedToken] = OrderedDict()

    def source(self, host: str, account: ServiceAccountRef, client_id: str) -> FederatedToken:
        """The source for that host, ServiceAccount and service principal. Sends nothing."""
        key = (host, account, client_id)
        with self._lock:
            source = self._sources.get(key)
            if source is None:
                source = FederatedToken(
                    host,
                    account,
                    client_id,
                    accounts=self._accounts,
                    hosts=self._hosts,
                    audience=self._audience,
                    log=self._log,
                    now=self._now,
                )
                self._sources[key] = source
            self._sources.move_to_end(key)
            while len(self._sources) > self._bound:
                self._sources.popitem(last=False)
            return source


def _session(log: AuditLog, facts: dict[str, Any], bounds: Bounds) -> requests.Session:
    session = requests.Session()
    session.mount("https://", AuditedAdapter(log, OAuthDialect(), lambda: dict(facts), bounds))
    session.mount("http://", _Plaintext())
    # Without an auth of its own, requests would send what ~/.netrc holds for the host.
    session.auth = _no_auth
    return session


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _Plaintext(requests.adapters.BaseAdapter):
    """Refuses http://, whatever a discovery document says."""

    def send(self, *_: Any, **__: Any) -> requests.Response:
        raise IdentityError("plain http is never used for tokens", reason="TokenEndpointNotAllowed")

    def close(self) -> None:
        """Nothing to close."""
