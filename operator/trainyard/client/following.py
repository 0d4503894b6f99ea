"""Follows a run or deployment from change to change, through expired watches, missing rights and absent API servers.

Used by trainyard.py. Watches where the caller may, asks every few seconds where not. Never spins: between two rounds
there is either a watch that lasted, or a pause.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from trainyard.client.errors import ClientError, NotAllowed, NotFound, Unreachable, WaitTimedOut, named
from trainyard.client.resource import Resource
from trainyard.client.server import Server, WatchExpired

R = TypeVar("R", bound=Resource)

# Seconds of one watch. A connection that has died without a word is noticed after that.
WATCH_SECONDS = 60
# Seconds between two looks where watching is not allowed, or does not work.
POLL_SECONDS = 3.0
# Seconds of the first pause after trouble, and what its doubling stops at.
PAUSE_SECONDS, LONGEST_PAUSE = 1.0, 30.0
# Seconds that the API server may be away before the wait is given up.
PATIENCE_SECONDS = 600.0


@dataclass(frozen=True)
class Clock:
    """Time as the follower needs it; tests bring their own."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Follower(Generic[R]):
    """The states of one object, each once, until the caller stops asking.

    `seconds`: what the caller has, counted from now; None for ever.
    """

    def __init__(
        self, server: Server, first: R, seconds: float | None, clock: Clock, on_trouble: Callable[[str], None]
    ) -> None:
        self._server = server
        self._last = first
        self._kind = type(first)
        self._seconds = seconds
        self._clock = clock
        self._on_trouble = on_trouble
        self._ends = None if seconds is None else clock.now() + seconds
        self._may_watch = True
        self._pause = PAUSE_SECONDS
        self._away_since: float | None = None

    def states(self) -> Iterator[R]:
        """The object as it was given, then every change.

        Raises NotFound when it is deleted, WaitTimedOut when the time is up, Unreachable when the API server has been
        away for too long, NotAllowed when it may not even be read.
        """
        yield self._last
        while True:
            began = self._clock.now()
            try:
                found = self._kind(self._server.get(self._kind.PLURAL, self._last.namespace, self._last.name))
            except Unreachable as error:
                self._bear(error)
                continue
            except NotFound as error:
                raise self._gone() from error
            self._away_since, self._pause = None, PAUSE_SECONDS
            yield from self._seen(found)
            yield from self._watched()
            if not self._may_watch or self._clock.now() - began < PAUSE_SECONDS:
                self._sleep(POLL_SECONDS)  # where no watch lasts, nobody is asked in a circle

    def _watched(self) -> Iterator[R]:
        """What changes during one watch. However it ends, the object is read again afterwards."""
        if not self._may_watch:
            return
        try:
            for kind, obj in self._server.watch(
                self._kind.PLURAL, self._last.namespace, self._last.name, self._last.version, self._watch_seconds()
            ):
                if kind == "DELETED":
                    raise self._gone()
                yield from self._seen(self._kind(obj))
        except NotAllowed:
            self._may_watch = False
        except (WatchExpired, Unreachable):
            return  # if the server is away, the next request finds that out

    def _seen(self, found: R) -> Iterator[R]:
        """The object, if it is news."""
        if found.uid != self._last.uid:
            raise self._gone()
        if found.version != self._last.version:
            self._last = found
            yield found
        self._check_time()

    def _gone(self) -> NotFound:
        return NotFound(f"{named(self._last)} was deleted", self._last)

    def _watch_seconds(self) -> int:
        self._check_time()
        left = WATCH_SECONDS if self._ends is None else self._ends - self._clock.now()
        return max(1, min(WATCH_SECONDS, int(left)))

    def _check_time(self) -> None:
        if self._ends is not None and self._seconds is not None and self._clock.now() >= self._ends:
            raise WaitTimedOut(self._last, self._seconds)

    def _bear(self, error: ClientError) -> None:
        """Waits before the API server is asked again; gives up when it has been away for too long."""
        now = self._clock.now()
        if self._away_since is None:
            self._away_since = now
            self._on_trouble(error.message)
        if now - self._away_since >= PATIENCE_SECONDS:
            raise error
        self._sleep(self._pause)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _sleep(self, seconds: float) -> None:
        self._check_time()
        left = seconds if self._ends is None else max(0.0, min(seconds, self._ends - self._clock.now()))
        self._clock.sleep(left)
        self._check_time()
