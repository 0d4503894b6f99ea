"""One keyed work queue with one heap of deadlines. Used by the operator's workers; knows nothing of Kubernetes.

A key is worked on by one worker at a time. Adding a key that waits already does nothing; adding one that is being
worked on makes it due again afterwards. There is no timer or task per key.
"""

import asyncio
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

FIRST_BACKOFF = 0.2
LAST_BACKOFF = 60.0


class KeyedQueue(Generic[Key]):
    """Keys due now, and keys due later. `clock` gives seconds and never goes back."""

    def __init__(self, clock: Callable[[], float], jitter: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._jitter = jitter
        self._due: deque[Key] = deque()
        self._waiting: set[Key] = set()
        self._working: set[Key] = set()
        self._again: set[Key] = set()
        self._deadline: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._order = itertools.count()
        self._failures: dict[Key, int] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._due)

    @property
    def deadlines(self) -> int:
        """How many keys have a deadline."""
        return len(self._deadline)

    @property
    def working(self) -> int:
        """How many keys are being worked on."""
        return len(self._working)

    def add(self, key: Key) -> None:
        """Makes the key due now."""
        if key in self._working:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._due.append(key)
            self._changed.set()

    def wake_at(self, key: Key, when: float | None) -> None:
        """Sets the key's one deadline, in the clock's seconds; None takes it away."""
        if when is None:
            self._deadline.pop(key, None)
            return
        if self._deadline.get(key) == when:
            return
        self._deadline[key] = when
        heapq.heappush(self._heap, (when, next(self._order), key))
        if len(self._heap) > 2 * len(self._deadline) + 64:
            self._rebuild()
        self._changed.set()

    def retry(self, key: Key) -> float:
        """Sets a deadline that moves out with each failure in a row. Returns the pause in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        pause = min(LAST_BACKOFF, FIRST_BACKOFF * 2 ** min(failures, 16)) * (0.75 + self._jitter() / 2)
        self.wake_at(key, self._clock() + pause)
        return float(pause)

    def failures(self, key: Key) -> int:
        """How often in a row the key has failed."""
        return self._failures.get(key, 0)

    def succeeded(self, key: Key) -> None:
        """Forgets the key's failures."""
        self._failures.pop(key, None)

    def forget(self, key: Key) -> None:
        """Drops what is remembered of a key whose object is gone."""
        self._failures.pop(key, None)
        self._deadline.pop(key, None)

    async def get(self) -> Key:
        """The next key that is due. `done` must follow."""
        while True:
            pause = self._promote()
            if self._due:
                key = self._due.popleft()
                self._waiting.discard(key)
                self._working.add(key)
                return key
            self._changed.clear()
            try:
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def done(self, key: Key) -> None:
        """Ends the work on a key; it is due again if it was added meanwhile."""
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _rebuild(self) -> None:
        """Drops deadlines that were moved: far ones would stay in the heap for as long as they are far."""
        self._heap = [(when, next(self._order), key) for key, when in self._deadline.items()]
        heapq.heapify(self._heap)

    def _promote(self) -> float | None:
        """Makes due what has reached its deadline. Returns the seconds until the next one."""
        now = self._clock()
        while self._heap:
            when, _, key = self._heap[0]
            if self._deadline.get(key) != when:
                heapq.heappop(self._heap)  # moved or taken away since
            elif when <= now:
                heapq.heappop(self._heap)
                del self._deadline[key]
                self.add(key)
            else:
                return when - now
        return None
