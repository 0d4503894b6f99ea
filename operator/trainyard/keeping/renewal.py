"""What is good for a while, got again before it ends, by one thread at a time. Called by the rest of `keeping`."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Generic, Protocol, TypeVar

from trainyard.core.errors import Unauthenticated

# Not used in its last minutes: a request that carries it has to arrive as well.
LAST_MINUTES = timedelta(minutes=5)


class Expiring(Protocol):
    """A token or credentials."""

    @property
    def expires_at(self) -> datetime:
        """When it ends, by the clock of who issued it."""


Value = TypeVar("Value", bound=Expiring)
Sent = TypeVar("Sent")


def utc_now() -> datetime:
    """The clock outside of tests."""
    return datetime.now(UTC)


def sent(get: Callable[[], Value], forget: Callable[[Value], None], send: Callable[[Value], Sent]) -> Sent:
    """What `send` gives with a value that is good; once more with a new one if the service does not accept the first.

    That tells a value that has ended from a lasting refusal. Raises what `get` and `send` raise; after Unauthenticated
    the value is forgotten.
    """
    try:
        return _sent_once(get, forget, send)
    except Unauthenticated:
        return _sent_once(get, forget, send)


def _sent_once(get: Callable[[], Value], forget: Callable[[Value], None], send: Callable[[Value], Sent]) -> Sent:
    value = get()
    try:
        return send(value)
    except Unauthenticated:
        forget(value)
        raise


class Renewed(Generic[Value]):
    """Keeps one value, in memory only. `get_new` is called under a lock and has to be bounded in time."""

    def __init__(self, get_new: Callable[[], Value], now: Callable[[], datetime]) -> None:
        self._get_new = get_new
        self._now = now
        self._flight = threading.Lock()
        self._kept: Value | None = None

    def get(self) -> Value:
        """A value that is good for a while. Raises what `get_new` raises."""
        with self._flight:
            if self._kept is None or self._now() > self._kept.expires_at - LAST_MINUTES:
                self._kept = self._get_new()
            return self._kept

    def forget(self, refused: Value) -> None:
        """Drops the value, after the service has refused it, unless it has been replaced meanwhile."""
        with self._flight:
            if self._kept is refused:
                self._kept = None
