"""The HTTP session that token requests leave through: audited, bounded, https only, with nothing from ~/.netrc.

Used by `identity.federated` and `identity.entra`.
"""

from collections.abc import Mapping
from typing import Any

import requests

from trainyard.audit.log import AuditLog
from trainyard.audit.transport import AuditedAdapter, Bounds, Dialect
from trainyard.core.errors import IdentityError

EXCHANGE_BOUNDS = Bounds(connect=3.0, read=10.0, total=15.0, body=1024 * 1024)


def token_session(log: AuditLog, dialect: Dialect, facts: Mapping[str, Any], bounds: Bounds) -> requests.Session:
    """A session. `facts` are read anew at each request, for the audit records."""
    session = requests.Session()
    session.mount("https://", AuditedAdapter(log, dialect, lambda: dict(facts), bounds))
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
