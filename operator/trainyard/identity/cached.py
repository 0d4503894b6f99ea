"""A token that is kept while it is good: minted by one thread at a time, ahead of its end, and used on when that fails.

Shared by every way of getting tokens (`identity.federated`, `identity.entra`). Memory only.
"""

import random
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from trainyard.core.errors import Throttled, TrainyardError
from trainyard.identity.base import AccessToken

K = TypeVar("K", bound=Hashable)
S = TypeVar("S")

# A token is not handed out in its last seconds: the request that carries it has to arrive as well.
LAST_SECONDS = timedelta(seconds=30)
# After a failed refresh, how long the failure answers for itself: the callers who waited for the same flight share it,
# and a live token is used on instead of asking again at each request.
FAILURE_HOLDS = timedelta(seconds=5)
# How long a token that replaces a refused one is kept, whoever refuses it: where the platform refuses every token, a
# new one for each request would have the issuer refuse them too.
FORGET_HOLDS = timedelta(seconds=5)


def utc_now() -> datetime:
    """The clock, unless a test has another."""
    return datetime.now(UTC)


class CachedToken:
    """One token.

    Args:
        mint: gets a new one; called by one thread at a time.
        now: the clock.
    """

    def __init__(self, mint: Callable[[], AccessToken], now: Callable[[], datetime] = utc_now) -> None:
        self._mint = mint
        self._now = now
        self._flight = threading.Lock()
        self._cached: tuple[AccessToken, datetime] | None = None
        self._failed: tuple[TrainyardError, datetime] | None = None
        self._forgotten: datetime | None = None

    def get(self) -> AccessToken:
        """A token that is good for a while.

        A live token keeps working when it can not be refreshed, for example because the ServiceAccount went away with
        its namespace: stopping the remote run may need just that (invariant 8). Raises what `mint` raises.
        """
        fresh = self._fresh()
        if fresh is not None:
            return fresh
        with self._flight:
            fresh = self._fresh()
            if fresh is not None:
                return fresh
            return self._refresh()

    def forget(self) -> None:
        """Drops the token, after the platform has refused it; but not one that was got for the same reason just now."""
        now = self._now()
        if self._forgotten is None or now >= self._forgotten + FORGET_HOLDS:
            self._forgotten = now
            self._cached = None

    def _fresh(self) -> AccessToken | None:
        cached = self._cached
        return cached[0] if cached is not None and self._now() < cached[1] else None

    def _refresh(self) -> AccessToken:
        """A new token, or the old one while it lives; called by one thread at a time."""
        if self._failed is not None and self._now() < self._failed[1]:
            return self._live_or_raise(self._again(*self._failed))
        try:
            token = self._mint()
        except TrainyardError as error:
            holds = FAILURE_HOLDS
            if isinstance(error, Throttled):
                # The pause is the issuer's, whichever lane asks next.
                holds = max(holds, timedelta(seconds=error.retry_after))
            self._failed = (error, self._now() + holds)
            return self._live_or_raise(error)
        life = token.expires_at - self._now()
        # Spread over a tenth of the life, so that tokens made together are not all renewed in the same second.
        refresh_at = self._now() + life * (0.7 + 0.1 * random.random())  # noqa: S311 - jitter, not a secret
        self._failed = None
        self._cached = (token, min(refresh_at, token.expires_at - LAST_SECONDS))
        return token

    def _again(self, error: TrainyardError, until: datetime) -> TrainyardError:
        """The failure once more, with what is left of its pause."""
        if isinstance(error, Throttled):
            return Throttled(error.message, retry_after=(until - self._now()).total_seconds())
        return error.with_traceback(None)

    def _live_or_raise(self, error: TrainyardError) -> AccessToken:
        cached = self._cached
        if cached is not None and self._now() < cached[0].expires_at - LAST_SECONDS:
            return cached[0]
        raise error


class Sources(Generic[K, S]):
    """Token sources by what they are for. Safe to use from several threads.

    Bounded: the longest unused source is dropped, which costs its user one more exchange.
    """

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._lock = threading.Lock()
        self._sources: OrderedDict[K, S] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sources)

    def get(self, key: K, make: Callable[[], S]) -> S:
        """The source for the key, made by `make` (which must send nothing) if there is none yet."""
        with self._lock:
            source = self._sources.get(key)
            if source is None:
                source = self._sources[key] = make()
            self._sources.move_to_end(key)
            while len(self._sources) > self._bound:
                self._sources.popitem(last=False)
            return source
