"""HTTP to the places where logs are kept: audited, bounded, https only, with nothing of this machine's user.

Called by the stores of this package and by what gets their tokens.
"""

import html
import re
from collections.abc import Callable, Mapping
from typing import Any

import requests
from requests.adapters import BaseAdapter

from trainyard.audit.log import AuditLog
from trainyard.audit.transport import Answer, AuditedAdapter, Bounds, Dialect, retry_after
from trainyard.core.errors import Refused, Throttled, Unreachable

# A log of 16 MiB within a minute; connecting and each answer's first byte are much faster or not there.
STORE_BOUNDS = Bounds(connect=3.0, read=15.0, total=60.0, body=16 * 1024 * 1024)
TOKEN_BOUNDS = Bounds(connect=3.0, read=10.0, total=15.0, body=1024 * 1024)
_SHOWN = 200  # characters of a service's words in a message


class StoreAdapter(AuditedAdapter):
    """The audited transport for services that answer with XML or with what they keep, and redirect with a meaning."""

    def __init__(self, log: AuditLog, dialect: Dialect, facts: Callable[[], Mapping[str, Any]], bounds: Bounds) -> None:
        super().__init__(log, dialect, facts, bounds)
        self._meanings = dialect

    def _judge(self, answer: Answer) -> None:
        if answer.status == 429 or (answer.status == 503 and code_of(answer) in ("SlowDown", "ServerBusy")):
            raise Throttled("the store asks for fewer requests", retry_after=retry_after(answer.headers))
        if answer.status >= 500:
            raise Unreachable(f"the store answered {answer.status} {code_of(answer)}".rstrip())
        if answer.status >= 300:
            error = self._meanings.error(answer)
            if error is not None:
                raise error


def session(
    log: AuditLog, dialect: Dialect, facts: Callable[[], Mapping[str, Any]], bounds: Bounds
) -> requests.Session:
    """A session whose requests are all recorded, with the principal's `facts`, and judged by the dialect."""
    made = requests.Session()
    made.mount("https://", StoreAdapter(log, dialect, facts, bounds))
    made.mount("http://", _Plaintext())
    # Without an auth of its own, requests would send what ~/.netrc holds for the host.
    made.auth = _no_auth
    return made


def code_of(answer: Answer) -> str:
    """The service's own word for an error: Azure's header, or the element that both put into the body."""
    return answer.headers.get("x-ms-error-code") or element(answer.body, "Code")


def words_of(answer: Answer, *secrets: str) -> str:
    """The service's word and sentence for an error, on one line, clipped and without what it was sent."""
    words = f"{code_of(answer)}: {element(answer.body, 'Message')}".strip(": ") or f"status {answer.status}"
    for secret in filter(None, secrets):
        words = words.replace(secret, "[token]")
    return "".join(letter for letter in " ".join(words.split()) if letter.isprintable())[:_SHOWN].rstrip(".")


def element(body: bytes, name: str) -> str:
    """Text of the first XML element of that name, or nothing."""
    return next(iter(elements(body, name)), "")


def elements(body: bytes, name: str) -> list[str]:
    """Texts of all XML elements of that name. No parser is needed: these have neither attributes nor own entities."""
    found = re.findall(rf"<{name}>([^<]*)</{name}>", body.decode(errors="replace"))
    return [html.unescape(text) for text in found]


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _Plaintext(BaseAdapter):
    """Refuses http://, whatever an endpoint was configured to be."""

    def send(self, *_: Any, **__: Any) -> requests.Response:
        raise Refused("plain http is never used for logs: configure an https endpoint", reason="HostNotAllowed")

    def close(self) -> None:
        """Nothing to close."""
