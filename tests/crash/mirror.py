"""Puts the proxy's address in the place of a server's own, as reverse proxies do for servers that tell their addresses.

Used by proxy.py for servers whose answers say where to go next: upload URLs, the discovery document, next pages. What
the client echoes of them goes back with the server's own address, so that the server sees what it said. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
Headers = list[tuple[str, str]]


class Mirror:
    """Between one server and its address in the proxy; both are `host:port`.

    Only documents (JSON) and forms are rewritten: files pass as they are, or their digests would not fit.
    """

    def __init__(self, server: str, proxy: str) -> None:
        self._inward = [(proxy.encode(), server.encode()), (_quoted(proxy), _quoted(server))]
        self._outward = [(server.encode(), proxy.encode()), (_quoted(server), _quoted(proxy))]

    def inward(self, body: bytes, headers: Iterable[tuple[str, str]]) -> bytes:
        """The body of a request, as the server is to see it."""
        return _replaced(body, self._inward) if _kind(headers) in (JSON, FORM) else body

    def outward(self, body: bytes, headers: Headers) -> tuple[bytes, Headers]:
        """Body and headers of an answer, as the client is to see them."""
        shown = [(name, _replaced(value.encode(), self._outward).decode()) for name, value in headers]
        return (_replaced(body, self._outward) if _kind(headers) == JSON else body), shown


def _kind(headers: Iterable[tuple[str, str]]) -> str:
    said = next((value for name, value in headers if name.lower() == "content-type"), "")
    return said.partition(";")[0].strip().lower()


def _quoted(address: str) -> bytes:
    return quote(address, safe="").encode()


def _replaced(text: bytes, pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    for old, new in pairs:
        text = text.replace(old, new)
    return text
