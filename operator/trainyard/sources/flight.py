"""A bounded cache in which each value is made once, whoever asks for it at the same time.

Called by `sources.git`. What could not be made is not tried again for as long as its kind of failure is remembered;
whoever asks meanwhile gets the same error.
"""

import copy
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

_FAILURES = 1000  # remembered at a time, each of a message


class SharedCache(Generic[Key, Value]):
    """Args:
    bound: the sum of sizes that is kept; the longest unused value goes first.
    size: of a value.
    seconds: how long a value is good; None is for ever.
    failing: for how many seconds a failure is the answer; 0 is for those who waited for it alone.
    now: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        bound: int,
        size: Callable[[Value], int],
        seconds: float | None,
        failing: Callable[[BaseException], float],
        now: Callable[[], float],
    ) -> None:
        self._bound = bound
        self._size = size
        self._seconds = seconds
        self._failing = failing
        self._now = now
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, tuple[Value, float]] = OrderedDict()
        self._total = 0
        self._failed: OrderedDict[Key, tuple[BaseException, float]] = OrderedDict()
        self._flights: dict[Key, Future[Value]] = {}

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value for that key, made by the first who asks. Raises what `make` raises."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and (self._seconds is None or self._now() < kept[1] + self._seconds):
                self._kept.move_to_end(key)
                return kept[0]
            failed = self._failed.get(key)
            if failed is not None and self._now() < failed[1]:
                raise copy.copy(failed[0])
            flight = self._flights.get(key)
            mine = flight is None
            if flight is None:
                flight = self._flights[key] = Future()
        if mine:
            self._fly(key, flight, make)
        return flight.result()

    def _fly(self, key: Key, flight: Future[Value], make: Callable[[], Value]) -> None:
        began = self._now()
        try:
            value = make()
        except BaseException as error:  # noqa: BLE001 - raised again in every thread that waits, this one included
            with self._lock:
                del self._flights[key]
                self._remember(key, error)
            flight.set_exception(error)
            return
        with self._lock:
            del self._flights[key]
            self._failed.pop(key, None)
            self._keep(key, value, began)
        flight.set_result(value)

    def _remember(self, key: Key, error: BaseException) -> None:
        seconds = self._failing(error)
        self._failed.pop(key, None)
        if seconds <= 0:
            return
        # A copy has neither traceback nor context, which would keep alive what the failed call had in its hands.
        self._failed[key] = (copy.copy(error), self._now() + seconds)
        if len(self._failed) > _FAILURES:
            self._failed.popitem(last=False)

    def _keep(self, key: Key, value: Value, began: float) -> None:
        self._drop(key)
        if self._size(value) > self._bound:
            return
        self._kept[key] = (value, began)
        self._total += self._size(value)
        while self._total > self._bound:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: Key) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._total -= self._size(kept[0])
