"""What was asked of the platform's host, for tests and for people: never a token, a body or a header that carries one.

server.py's middleware writes one entry per request when it ends; the control API reads them.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

REDACTED_QUERY = ("signature", "sig", "token", "subject_token", "access_token")
"""Query parameters whose values are credentials (presigned storage URLs carry a signature)."""


@dataclass
class LoggedRequest:
    """One request. `status` is None when no answer was sent (a reset), `fault` the kind that was injected."""

    sequence: int
    at: float
    method: str
    path: str
    query: str
    status: int | None
    principal: str | None
    user_agent: str
    request_id: str
    workspace_header: str | None
    duration_seconds: float
    fault: str | None


def redact_query(query: str) -> str:
    """The query string with the values of credential parameters replaced."""
    pairs = parse_qsl(query, keep_blank_values=True)
    return urlencode([(key, "REDACTED" if key.lower() in REDACTED_QUERY else value) for key, value in pairs])


class RequestLog:
    """The last `limit` requests, oldest first, and a count of all."""

    def __init__(self, limit: int = 100_000) -> None:
        self._entries: deque[LoggedRequest] = deque(maxlen=limit)
        self._sequence = itertools.count(1)
        self.total = 0

    def next_sequence(self) -> int:
        """The number of the next entry, never reused."""
        return next(self._sequence)

    def add(self, entry: LoggedRequest) -> None:
        """Append an entry."""
        self._entries.append(entry)
        self.total += 1

    def select(self, keep: Callable[[LoggedRequest], bool]) -> list[LoggedRequest]:
        """The entries for which `keep` is true, oldest first."""
        return [entry for entry in self._entries if keep(entry)]

    def clear(self) -> None:
        """Forget the entries (the count and the sequence go on)."""
        self._entries.clear()
