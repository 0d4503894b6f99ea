"""The HTTP session that token requests leave through: audited, bounded, https only, with nothing from ~/.netrc.

Used by `identity.federated` and `identity.entra`.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests

from trainyard.audit.log import AuditLog
from trainyard.audit.transport import AuditedAdapter, Bounds, Dialect
from trainyard.core.errors import IdentityError

EXCHANGE_BOUNDS = Bounds(connect=3.0, read=10.0, total=15.0, body=1024 * 1024)


def token_session(
    log: AuditLog, dialect: Dialect, facts: Mapping[str, Any], bounds: Bounds, only: str = ""
) -> requests.Session:
    """A session. `facts` are read anew at each request, for the audit records.

    `only` is the one origin that is asked, where a library and not we choose the URLs; empty: any.
    """
    session = requests.Session()
    session.mount(f"{only}/" if only else "https://", AuditedAdapter(log, dialect, lambda: dict(facts), bounds))
    if only:
        session.mount("https://", _Elsewhere(only))
    session.mount("http://", _Plaintext())
    # Without an auth of its own, requests would send what ~/.netrc holds for the host.
    session.auth = _no_auth
    return session


def document_of(response: requests.Response) -> dict[str, Any] | None:
    """The JSON object in an answer; None where there is anything else, whatever it calls itself."""
    try:
        document = response.json()
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _Elsewhere(requests.adapters.BaseAdapter):
    """Refuses every other origin, whatever a discovery document or an environment variable says."""

    def __init__(self, only: str) -> None:
        super().__init__()
        self._only = only

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        raise IdentityError(
            f"{self._only} names {urlsplit(request.url or '').netloc[:255]} as the place to get tokens, which is "
            "another host; nothing is sent there",
            reason="TokenEndpointNotAllowed",
        )

    def close(self) -> None:
        """Nothing to close."""


class _Plaintext(requests.adapters.BaseAdapter):
    """Refuses http://, whatever a discovery document says."""

    def send(self, *_: Any, **__: Any) -> requests.Response:
        raise IdentityError("plain http is never used for tokens", reason="TokenEndpointNotAllowed")

    def close(self) -> None:
        """Nothing to close."""
