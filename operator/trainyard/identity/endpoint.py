"""Where a Databricks workspace's tokens are got: looked up, allowed, and remembered for a while.

Used by `identity.exchange` before an assertion is minted, and by `identity.client_secret` before a Secret is read.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import requests

from trainyard.identity.hosts import HostPolicy
from trainyard.identity.oauth import token_endpoint

# Token endpoints hardly ever move; asking once an hour keeps two requests out of each refresh.
DISCOVERY_HOLDS = timedelta(hours=1)


class TokenEndpoint:
    """The token endpoint of one workspace, asked for through the session."""

    def __init__(self, host: str, hosts: HostPolicy, session: requests.Session, now: Callable[[], datetime]) -> None:
        self._host = host
        self._hosts = hosts
        self._session = session
        self._now = now
        self._found: tuple[str, datetime] | None = None

    def url(self) -> str:
        """The endpoint, allowed by the policy.

        Raises:
            IdentityError: HostNotAllowed, TokenEndpointNotAllowed, DiscoveryFailed or RedirectRefused.
            Unreachable: no usable answer.
        """
        origin = self._hosts.check(self._host)
        if self._found is not None and self._now() < self._found[1]:
            return self._found[0]
        endpoint, _ = token_endpoint(self._session, origin, self._hosts)
        self._found = (endpoint, self._now() + DISCOVERY_HOLDS)
        return endpoint

    def forget(self) -> None:
        """Has it looked up again, after it has failed."""
        self._found = None
