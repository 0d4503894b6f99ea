"""An assertion exchanged for a Databricks token (RFC 8693).

Made by the modes that have an assertion, asked by `platforms.databricks.client` at each request, in a lane's thread.
Nothing is stored or logged; the host is checked and its token endpoint pinned before an assertion is made.

Ours rather than the SDK's: the SDK posts to the token endpoint without a time-out while it holds a lock that every call
waits for, and follows the host's own word about where that endpoint is.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from trainyard.api.identity import Policy
from trainyard.audit.log import AuditLog
from trainyard.audit.transport import Bounds
from trainyard.core.errors import IdentityError, Refused, TrainyardError
from trainyard.identity.assertion import Assertion, Prove
from trainyard.identity.base import AccessToken
from trainyard.identity.cached import CachedToken, utc_now
from trainyard.identity.endpoint import TokenEndpoint
from trainyard.identity.hosts import HostPolicy
from trainyard.identity.oauth import OAuthDialect, access_token, form, refusal
from trainyard.identity.whoami import require_principal
from trainyard.identity.wire import EXCHANGE_BOUNDS, token_session


class ExchangedToken:
    """Access tokens for one host as one service principal; a TokenSource.

    Args:
        host: the workspace's URL.
        client_id: application id of the service principal.
        prove: makes an assertion that stands for it; called only once the token endpoint is known to be allowed.
        facts: mode and, where it has one, service_account, for the audit records.
        hosts: the allow-list.
        policy: the kind of federation policy; one of the account finds the principal itself, and is not told it. The
            workspace is then asked whom it found before the token is used.
        log: the audit log.
        now: the clock.
        bounds: limits of each HTTP request.
    """

    def __init__(
        self,
        host: str,
        client_id: str,
        prove: Prove,
        facts: Mapping[str, str],
        *,
        hosts: HostPolicy,
        policy: Policy = "ServicePrincipal",
        log: AuditLog,
        now: Callable[[], datetime] = utc_now,
        bounds: Bounds = EXCHANGE_BOUNDS,
    ) -> None:
        self._host = host
        self._client_id = client_id
        self._prove = prove
        self._hosts = hosts
        self._named = client_id if policy == "ServicePrincipal" else None
        self._now = now
        self._cache = CachedToken(self._minted, now)
        self._told = {"principal": client_id, **facts}
        self._facts: dict[str, Any] = dict(self._told)
        self._session = token_session(log, OAuthDialect(), self._facts, bounds)
        self._endpoint = TokenEndpoint(host, hosts, self._session, now)

    def token(self) -> AccessToken:
        """A token that is good for a while; at most one exchange at a time. See `CachedToken.get`.

        Raises:
            IdentityError: no token can be had; says what to mend.
            Unreachable, Throttled: the platform or the API server did not answer.
        """
        return self._cache.get()

    def assertion(self) -> Assertion:
        """A fresh assertion as it would be exchanged; sent nowhere. For `trainyard doctor`."""
        return self._prove()

    def describe(self) -> dict[str, str]:
        """Who asks for what, for the audit records of the requests that carry the token."""
        return dict(self._told)

    def forget(self) -> None:
        """Drops the token, after the platform has refused it."""
        self._cache.forget()

    def _minted(self) -> AccessToken:
        try:
            return self._exchange()
        except TrainyardError:
            self._endpoint.forget()
            raise

    def _exchange(self) -> AccessToken:
        endpoint = self._endpoint.url()  # allowed by the policy; nothing has been minted yet
        assertion = self._prove()
        self._facts["assertion_jti"] = assertion.jti
        try:
            token = self._post(endpoint, assertion)
            if self._named is None:
                require_principal(self._session, self._hosts.check(self._host), token, self._client_id)
            return token
        finally:
            del self._facts["assertion_jti"]

    def _post(self, endpoint: str, assertion: Assertion) -> AccessToken:
        asked_at = self._now()
        try:
            response = self._session.post(
                endpoint,
                data=form(assertion, self._named),
                headers={"Accept": "application/json"},
                allow_redirects=False,
            )
        except Refused as error:
            raise IdentityError(error.message, reason=error.reason) from error
        if response.status_code >= 400:
            raise refusal(response, assertion, self._client_id, account=self._named is None)
        return access_token(response, asked_at, assertion)
