"""A lane: the only way from the event loop to a platform, one per host, principal and owner (invariant 3).

Used by `controllers` and `observe`. Bounds how many calls are under way, how long each may take and how often the
platform is asked; fails fast while it does not answer. One lane never makes another wait. Threads are daemons: a call
that hangs must not keep the operator from stopping.
"""

import asyncio
import contextvars
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from trainyard.core.errors import PlatformError, Throttled, Unreachable
from trainyard.platforms.limits import BesideUnreachable, Breaker, BreakerSettings, Bucket, Quota, QuotaReached

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """Bounds of each lane.

    `threads` is how many calls may be under way at once: enough to overlap waiting, few enough that a dead platform
    costs little. `rate` (calls per second) and `burst` are for a platform that names no quota of its own. `patience` is
    how many seconds a call may wait for its turn.
    """

    threads: int = 4
    rate: float = 20.0
    burst: int = 40
    patience: float = 60.0
    breaker: BreakerSettings = field(default_factory=BreakerSettings)


class Lane:
    """Calls to one host as one principal. To be used from one event loop.

    `bucket` is shared with the lanes that the platform counts together; without one, the lane has its own.
    """

    def __init__(
        self,
        host: str,
        principal: str,
        settings: LaneSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        bucket: Bucket | None = None,
    ) -> None:
        self.host = host
        self.principal = principal
        self._settings = settings or LaneSettings()
        self._clock = clock
        self._slots = asyncio.Semaphore(self._settings.threads)
        self._bucket = bucket or Bucket(self._settings.rate, self._settings.burst)
        self._breaker = Breaker(self._settings.breaker)
        self._paused_until = 0.0
        self._under_way = 0
        self._stuck = 0
        self.last_used = clock()

    @property
    def idle(self) -> bool:
        """Nothing is under way, waiting or stuck."""
        return self._under_way == 0 and not self._slots.locked()

    @property
    def stuck(self) -> int:
        """Threads whose call has passed its deadline and still hangs."""
        return self._stuck

    async def call(self, fn: Callable[..., T], *args: object, deadline: float) -> T:
        """Runs `fn(*args)` in a thread of this lane, with the caller's context variables.

        Args:
            deadline: seconds that the call may take once it is its turn.

        Raises:
            Unreachable: the deadline passed, all threads hang, or the platform has not answered lately. A
                BesideUnreachable says nothing about the platform's API, which is asked on.
            Throttled: the platform asked for a pause, or it was not this call's turn in time. A QuotaReached holds up
                nobody else.
            TrainyardError: what `fn` raises.
        """
        self.last_used = self._clock()
        self._refuse_early()
        await self._turn()
        started = False
        try:
            await asyncio.sleep(self._bucket.take(self._clock()))
            self._refuse_early()
            self._refuse_open()
            future = self._start(fn, args)
            started = True
        finally:
            if not started:
                self._slots.release()
        return await self._finish(future, deadline)

    def _refuse_early(self) -> None:
        pause = self._paused_until - self._clock()
        if pause > 0:
            raise Throttled(f"{self.host} asked for a pause", retry_after=pause)
        if self._stuck >= self._settings.threads:
            raise Unreachable(f"every call to {self.host} hangs; waiting for one of {self._stuck} to end")

    def _refuse_open(self) -> None:
        wait = self._breaker.wait(self._clock())
        if wait > 0:
            raise Unreachable(
                # Without the seconds: the message goes into a status, which is written whenever it changes.
                f"{self.host} has not answered lately; it is asked again soon",
                retry_after=wait,
            )

    async def _turn(self) -> None:
        try:
            async with asyncio.timeout(self._settings.patience):
                await self._slots.acquire()
        except TimeoutError:
            raise Throttled(
                f"too many calls to {self.host} as {self.principal} wait for their turn",
                retry_after=self._settings.patience / 4,
            ) from None

    def _start(self, fn: Callable[..., T], args: tuple[object, ...]) -> "_Call[T]":
        loop = asyncio.get_running_loop()
        call: _Call[T] = _Call(loop.create_future())
        context = contextvars.copy_context()

        def work() -> None:
            outcome = _run(lambda: context.run(fn, *args))
            # A loop that is closed has nobody left to tell.
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._ended, call, outcome)

        try:
            threading.Thread(target=work, name=f"lane {self.host}", daemon=True).start()
        except BaseException:
            # No thread could be had. If the breaker let this call through as its probe, another one must be.
            self._breaker.undecided()
            raise
        self._under_way += 1
        return call

    def _ended(self, call: "_Call[T]", outcome: "_Outcome[T]") -> None:
        """On the event loop, once the thread is free again."""
        self._under_way -= 1
        self._slots.release()
        self.last_used = self._clock()
        if call.stuck:
            self._stuck -= 1
        if call.future.done():
            # The caller has gone: at its deadline, or cancelled.
            return
        if isinstance(outcome, BaseException):
            call.future.set_exception(outcome)
        else:
            call.future.set_result(outcome[0])

    async def _finish(self, call: "_Call[T]", deadline: float) -> T:
        if not await self._in_time(call, deadline):
            call.stuck = True
            self._stuck += 1
            self._failed()
            raise Unreachable(f"{self.host} did not answer within {deadline:g} s")
        try:
            result = call.future.result()
        except QuotaReached:
            self._breaker.succeeded()
            raise
        except Throttled as error:
            self._paused_until = self._clock() + error.retry_after
            self._breaker.succeeded()
            raise
        except BesideUnreachable:
            self._breaker.undecided()
            raise
        except Unreachable:
            self._failed()
            raise
        except PlatformError:
            self._breaker.succeeded()
            raise
        except BaseException:
            self._breaker.undecided()
            raise
        self._breaker.succeeded()
        return result

    async def _in_time(self, call: "_Call[T]", deadline: float) -> bool:
        """Whether the thread is done by the deadline. Told by the future alone: `fn` may raise a TimeoutError too."""
        in_time = False
        try:
            await asyncio.wait((call.future,), timeout=deadline)
            in_time = call.future.done()
        except asyncio.CancelledError:
            self._breaker.undecided()
            raise
        finally:
            # Nobody will ask an abandoned future; cancelled or read, it does not complain of that.
            if not in_time and not call.future.cancel():
                call.future.exception()
        return in_time

    def _failed(self) -> None:
        self._breaker.failed(self._clock(), random.random())  # noqa: S311 - spreads load, no secret


_Outcome = tuple[T] | BaseException


@dataclass(slots=True)
class _Call(Generic[T]):
    """A call in a thread. `stuck`: its deadline has passed while the thread hangs on."""

    future: "asyncio.Future[T]"
    stuck: bool = False


def _run(call: Callable[[], T]) -> _Outcome[T]:
    try:
        return (call(),)
    except StopIteration as raised:
        # A future can not carry it.
        error = RuntimeError("StopIteration")
        error.__cause__ = raised
        return error
    except BaseException as raised:  # noqa: BLE001 - carried over to the caller, whatever it is
        return raised


class Lanes:
    """Every lane of this operator, by host, principal and owner. Lanes that nobody has used for a while are dropped.

    Threads, pause and breaker are each lane's own, so that a host which hangs holds up no other; how often is asked is
    shared by the lanes of one quota.
    """

    def __init__(
        self,
        settings: LaneSettings | None = None,
        *,
        idle_seconds: float = 900.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings or LaneSettings()
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._lanes: dict[tuple[str, str, str], Lane] = {}
        self._buckets: WeakValueDictionary[str, Bucket] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._lanes)

    def lane(self, host: str, principal: str, quota: Quota | None = None, *, owner: str = "") -> Lane:
        """The lane for that host and principal, whose calls count against `quota`.

        `owner` is who names the principal: another one's pauses and hanging calls are not waited for.
        """
        self._evict()
        key = (host, principal, owner)
        if key not in self._lanes:
            bucket = None if quota is None else self._bucket(quota)
            self._lanes[key] = Lane(host, principal, self._settings, self._clock, bucket)
        return self._lanes[key]

    def _bucket(self, quota: Quota) -> Bucket:
        """The bucket of the quota, which lives as long as a lane of it does."""
        bucket = self._buckets.get(quota.key)
        if bucket is None:
            bucket = self._buckets[quota.key] = Bucket(quota.rate, quota.burst)
        return bucket

    def _evict(self) -> None:
        # A lane with a hanging thread is kept: forgetting it would let as many threads again hang on the same host.
        oldest = self._clock() - self._idle_seconds
        for key, lane in list(self._lanes.items()):
            if lane.idle and lane.last_used < oldest:
                del self._lanes[key]
