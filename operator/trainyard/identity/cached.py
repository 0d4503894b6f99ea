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

# A token is not handed out in its last seconds: the request that carries it has to arrive as well, and Databricks has
# been seen to refuse one half a minute before its end (databricks/databricks-vscode issue 583).
LAST_SECONDS = timedelta(seconds=45)
# After a failed refresh, how long the failure answers for itself: the callers who waited for the same flight share it,
# and a live token is used on instead of asking again at each request.
FAILURE_HOLDS = timedelta(seconds=5)
# How long it does where a live token is used on: a token endpoint that hangs then holds up one caller now and again.
REFRESH_AGAIN = timedelta(seconds=30)
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
        # Guards the change of `_cached`; never held while anything is asked.
        self._changing = threading.Lock()
        self._given = threading.local()
        self._cached: tuple[AccessToken, datetime] | None = None
        self._failed: tuple[TrainyardError, datetime] | None = None
        self._forgotten: datetime | None = None

    def get(self) -> AccessToken:
        """A token that is good for a while.

        A live token keeps working while it is refreshed, and when it can not be, for example because the ServiceAccount
        went away with its namespace: stopping the remote run may need just that (invariant 8). Raises what `mint`
        raises.
        """
        token = self._given.token = self._found()
        return token

    def forget(self) -> None:
        """Drops the token that the calling thread was given last, after the platform has refused it.

        Does nothing if another thread has replaced it meanwhile, or if it is itself what replaced one just now: however
        many requests were under way with a refused token, it leads to one mint.
        """
        with self._changing:
            cached, given = self._cached, getattr(self._given, "token", None)
            if cached is None or (given is not None and given is not cached[0]):
                return
            now = self._now()
            if self._forgotten is None or now >= self._forgotten + FORGET_HOLDS:
                self._forgotten = now
                self._cached = None

    def _found(self) -> AccessToken:
        fresh = self._fresh()
        if fresh is not None:
            return fresh
        if not self._flight.acquire(blocking=False):
            # Somebody refreshes it already. What lives is used on meanwhile, so that one thread waits and not all.
            live = self._live()
            if live is not None:
                return live
            self._flight.acquire()
        try:
            return self._fresh() or self._refresh()
        finally:
            self._flight.release()

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
            holds = max(FAILURE_HOLDS, min(REFRESH_AGAIN, self._left()))
            if isinstance(error, Throttled):
                # The pause is the issuer's, whichever lane asks next.
                holds = max(holds, timedelta(seconds=error.retry_after))
            self._failed = (error, self._now() + holds)
            return self._live_or_raise(error)
        life = token.expires_at - self._now()
        # Spread over a tenth of the life, so that tokens made together are not all renewed in the same second.
        refresh_at = self._now() + life * (0.7 + 0.1 * random.random())  # noqa: S311 - jitter, not a secret
        self._failed = None
        with self._changing:
            self._cached = (token, min(refresh_at, token.expires_at - LAST_SECONDS))
        return token

    def _again(self, error: TrainyardError, until: datetime) -> TrainyardError:
        """The failure once more, with what is left of its pause."""
        if isinstance(error, Throttled):
            return Throttled(error.message, retry_after=(until - self._now()).total_seconds())
        return error.with_traceback(None)

    def _live_or_raise(self, error: TrainyardError) -> AccessToken:
        live = self._live()
        if live is None:
            raise error
        return live

    def _live(self) -> AccessToken | None:
        cached = self._cached
        return cached[0] if cached is not None and self._left() > timedelta() else None

    def _left(self) -> timedelta:
        """How long the token may still be handed out; nothing if there is none."""
        cached = self._cached
        return timedelta() if cached is None else cached[0].expires_at - LAST_SECONDS - self._now()


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
