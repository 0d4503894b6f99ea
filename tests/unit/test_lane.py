"""Lanes: what is bounded, what fails fast, what one dead platform never does to another."""

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncIterator, Callable

import pytest

from trainyard.core.errors import Denied, IdentityError, Missing, Throttled, TrainyardError, Unreachable
from trainyard.platforms.lane import Lane, Lanes, LaneSettings
from trainyard.platforms.limits import BesideUnreachable, Breaker, BreakerSettings, Bucket, Quota, QuotaReached

NEVER_OPEN = BreakerSettings(failures=1000)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Gate:
    """A platform that hangs until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self) -> str:
        self.entered.release()
        self.open.wait(20)
        return "late"


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    opened = Gate()
    yield opened
    opened.open.set()


def raising(error: BaseException) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in a thread
            await asyncio.sleep(0.005)


# The limiter and the breaker, with times as plain numbers.


def test_a_bucket_lets_a_burst_through_and_then_spaces_calls() -> None:
    bucket = Bucket(rate=10, burst=3)
    assert [round(bucket.take(0.0), 3) for _ in range(5)] == [0, 0, 0, 0.1, 0.2]
    assert round(bucket.take(0.2), 3) == 0.1
    assert [round(bucket.take(100.0), 3) for _ in range(4)] == [0, 0, 0, 0.1]


def test_a_breaker_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker(BreakerSettings(failures=3, shortest=8, longest=100))
    for _ in range(2):
        breaker.failed(0.0, 0.5)
    breaker.succeeded()
    for _ in range(2):
        breaker.failed(0.0, 0.5)
    assert breaker.wait(0.0) == 0
    breaker.failed(0.0, 0.5)
    assert breaker.wait(0.0) == 8


def test_an_open_breaker_lets_one_probe_through_and_backs_off() -> None:
    breaker = Breaker(BreakerSettings(failures=1, shortest=8, longest=20))
    breaker.failed(0.0, 0.5)
    assert breaker.wait(7.9) > 0
    assert breaker.wait(8.0) == 0
    assert breaker.wait(8.0) > 0
    breaker.failed(8.0, 0.5)
    assert breaker.wait(8.0) == 16
    assert breaker.wait(24.0) == 0
    breaker.failed(24.0, 0.5)
    assert breaker.wait(24.0) == 20
    assert breaker.wait(44.0) == 0
    breaker.succeeded()
    assert breaker.wait(44.0) == 0
    breaker.failed(44.0, 0.5)
    assert breaker.wait(44.0) == 8


def test_a_probe_that_says_nothing_makes_room_for_another() -> None:
    breaker = Breaker(BreakerSettings(failures=1, shortest=8))
    breaker.failed(0.0, 0.5)
    assert breaker.wait(8.0) == 0
    breaker.undecided()
    assert breaker.wait(8.0) == 0


def test_probes_of_several_lanes_are_spread() -> None:
    waits = []
    for jitter in (0.0, 1.0):
        breaker = Breaker(BreakerSettings(failures=1, shortest=8))
        breaker.failed(0.0, jitter)
        waits.append(breaker.wait(0.0))
    assert waits == [6, 10]


# The lane, with real threads.


async def test_a_call_returns_what_the_function_returns_with_the_callers_context() -> None:
    word: contextvars.ContextVar[str] = contextvars.ContextVar("word")
    word.set("kept")
    lane = Lane("dbc", "app")
    assert await lane.call(word.get, deadline=5) == "kept"
    assert await lane.call(int, "7", deadline=5) == 7
    assert await lane.call(next, iter(()), None, deadline=5) is None
    await until(lambda: lane.idle)


@pytest.mark.parametrize("error", [Denied("no"), Missing("no"), IdentityError("no"), KeyError("bug")])
async def test_errors_come_through_as_they_are_and_leave_the_lane_usable(error: Exception) -> None:
    lane = Lane("dbc", "app", LaneSettings(breaker=BreakerSettings(failures=1)))
    with pytest.raises(type(error)):
        await lane.call(raising(error), deadline=5)
    assert await lane.call(str, deadline=5) == ""


async def test_storage_that_does_not_answer_keeps_nobody_from_the_api() -> None:
    lane = Lane("arm", "app", LaneSettings(breaker=BreakerSettings(failures=1)))
    for _ in range(3):
        with pytest.raises(BesideUnreachable):
            await lane.call(raising(BesideUnreachable("no blob")), deadline=5)
    assert await lane.call(str, deadline=5) == ""


async def test_a_hanging_call_ends_at_its_deadline_and_its_thread_is_counted(gate: Gate) -> None:
    lane = Lane("dbc", "app", LaneSettings(breaker=NEVER_OPEN))
    began = time.monotonic()
    with pytest.raises(Unreachable, match=r"within 0\.1 s"):
        await lane.call(gate, deadline=0.1)
    assert time.monotonic() - began < 2
    assert (lane.stuck, lane.idle) == (1, False)
    gate.open.set()
    await until(lambda: lane.idle)
    assert lane.stuck == 0


async def test_when_all_threads_hang_calls_fail_at_once_and_another_lane_does_not_notice(gate: Gate) -> None:
    settings = LaneSettings(threads=2, breaker=NEVER_OPEN)
    dead, alive = Lane("dead", "app", settings), Lane("alive", "app", settings)
    hanging = [asyncio.create_task(dead.call(gate, deadline=0.1)) for _ in range(2)]
    for outcome in await asyncio.gather(*hanging, return_exceptions=True):
        assert isinstance(outcome, Unreachable)
    began = time.monotonic()
    with pytest.raises(Unreachable, match="hangs"):
        await dead.call(gate, deadline=30)
    assert await alive.call(str, deadline=5) == ""
    assert time.monotonic() - began < 1
    gate.open.set()
    await until(lambda: dead.stuck == 0)
    assert await dead.call(str, deadline=5) == ""


async def test_no_more_calls_are_under_way_than_threads_and_none_waits_for_ever(gate: Gate) -> None:
    lane = Lane("dbc", "app", LaneSettings(threads=2, patience=0.2, breaker=NEVER_OPEN))
    busy = [asyncio.create_task(lane.call(gate, deadline=10)) for _ in range(2)]
    await until(lambda: gate.entered.acquire(blocking=False))
    await until(lambda: gate.entered.acquire(blocking=False))
    with pytest.raises(Throttled, match="turn"):
        await lane.call(str, deadline=10)
    gate.open.set()
    assert await asyncio.gather(*busy) == ["late", "late"]


async def test_a_waiting_call_takes_its_turn(gate: Gate) -> None:
    lane = Lane("dbc", "app", LaneSettings(threads=1))
    busy = asyncio.create_task(lane.call(gate, deadline=10))
    await until(lambda: gate.entered.acquire(blocking=False))
    waiting = asyncio.create_task(lane.call(str, "next", deadline=10))
    gate.open.set()
    assert await busy == "late"
    assert await waiting == "next"


async def test_a_silent_platform_is_left_alone_and_probed_once_later() -> None:
    clock = Clock()
    lane = Lane("dbc", "app", LaneSettings(breaker=BreakerSettings(failures=2, shortest=8)), clock)
    asked = []

    def silent() -> None:
        asked.append(clock())
        raise Unreachable("no answer")

    for _ in range(5):
        with pytest.raises(Unreachable) as raised:
            await lane.call(silent, deadline=5)
    assert len(asked) == 2
    assert raised.value.retry_after is not None
    assert 6 <= raised.value.retry_after <= 10
    clock.now += 2
    told = raised.value.message
    with pytest.raises(Unreachable) as raised:
        await lane.call(silent, deadline=5)
    # It goes into a status, which must not be written anew for each second that passes.
    assert raised.value.message == told
    clock.now += 10
    for _ in range(2):
        with pytest.raises(Unreachable):
            await lane.call(silent, deadline=5)
    assert len(asked) == 3
    clock.now += 20
    assert await lane.call(str, deadline=5) == ""
    assert await lane.call(str, deadline=5) == ""


async def test_a_pause_that_the_platform_asks_for_holds_for_the_whole_lane() -> None:
    clock = Clock()
    lane = Lane("dbc", "app", clock=clock)
    with pytest.raises(Throttled):
        await lane.call(raising(Throttled("slow down", retry_after=7)), deadline=5)
    clock.now += 5
    with pytest.raises(Throttled) as raised:
        await lane.call(str, deadline=5)
    assert raised.value.retry_after == pytest.approx(2)
    clock.now += 2
    assert await lane.call(str, deadline=5) == ""


async def test_a_quota_holds_up_only_the_request_that_needs_it() -> None:
    lane = Lane("dbc", "app", LaneSettings(breaker=BreakerSettings(failures=1)))
    with pytest.raises(QuotaReached) as raised:
        await lane.call(raising(QuotaReached("too many runs", retry_after=60)), deadline=5)
    assert raised.value.retry_after == 60
    assert await lane.call(str, "looked at", deadline=5) == "looked at"


async def test_a_probe_for_which_there_is_no_thread_makes_room_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    lane = Lane("dbc", "app", LaneSettings(threads=1, breaker=BreakerSettings(failures=1, shortest=8)), clock)
    with pytest.raises(Unreachable):
        await lane.call(raising(Unreachable("no answer")), deadline=5)
    clock.now += 20

    def exhausted(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", exhausted)
        with pytest.raises(RuntimeError):
            await lane.call(str, deadline=5)
    assert lane.idle
    assert await lane.call(str, "probe", deadline=5) == "probe"


async def test_a_cancelled_caller_leaves_nothing_behind(gate: Gate) -> None:
    lane = Lane("dbc", "app", LaneSettings(threads=1))
    caller = asyncio.create_task(lane.call(gate, deadline=10))
    await until(lambda: gate.entered.acquire(blocking=False))
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert not lane.idle
    gate.open.set()
    await until(lambda: lane.idle)
    assert await lane.call(str, deadline=5) == ""


async def test_a_builtin_timeout_of_the_function_is_not_taken_for_the_deadline() -> None:
    lane = Lane("dbc", "app")
    with pytest.raises(TimeoutError) as raised:
        await lane.call(raising(TimeoutError("its own")), deadline=5)
    assert not isinstance(raised.value, TrainyardError)
    assert lane.stuck == 0


@pytest.mark.parametrize("error", [None, TimeoutError("its own"), Denied("no")])
async def test_a_call_that_ended_as_its_deadline_passed_tells_how_it_ended(error: Exception | None) -> None:
    lane = Lane("dbc", "app")
    ended = threading.Event()

    def call() -> str:
        ended.set()
        if error is not None:
            raise error
        return "in time"

    asked = asyncio.create_task(lane.call(call, deadline=0.2))
    while not lane._under_way:  # noqa: ASYNC110 - until the thread has been started
        await asyncio.sleep(0)
    # The event loop is busy until after the deadline: when it looks again, both have happened.
    assert ended.wait(5)
    time.sleep(0.4)  # noqa: ASYNC251
    [outcome] = await asyncio.gather(asked, return_exceptions=True)
    assert outcome == (error or "in time")
    assert (lane.stuck, lane.idle) == (0, True)


async def test_lanes_are_one_per_host_and_principal_and_dropped_when_idle(gate: Gate) -> None:
    clock = Clock()
    lanes = Lanes(LaneSettings(breaker=NEVER_OPEN), idle_seconds=60, clock=clock)
    first = lanes.lane("dbc", "app")
    assert lanes.lane("dbc", "app") is first
    assert lanes.lane("dbc", "other") is not first
    with pytest.raises(Unreachable):
        await first.call(gate, deadline=0.05)
    clock.now += 61
    assert lanes.lane("new", "app") is not first
    assert len(lanes) == 2
    assert lanes.lane("dbc", "app") is first
    gate.open.set()
    await until(lambda: first.idle)


async def test_lanes_of_one_quota_share_its_rate_and_nothing_else(gate: Gate) -> None:
    """A subscription is counted as a whole; a workspace in it that hangs holds up no other."""
    clock = Clock()
    lanes = Lanes(LaneSettings(threads=1), clock=clock)
    quota = Quota("subscription", rate=1, burst=2)
    one, two = lanes.lane("ws-1", "app", quota), lanes.lane("ws-2", "app", quota)
    other = lanes.lane("ws-1", "other", Quota("another", rate=1, burst=2))
    with pytest.raises(Unreachable):
        await one.call(gate, deadline=0.05)
    assert one.stuck == 1
    assert await two.call(str, "answered", deadline=5) == "answered"
    assert [each._bucket.take(clock.now) for each in (one, two)] == [1, 2]
    assert other._bucket.take(clock.now) == 0
    gate.open.set()
    await until(lambda: one.idle)


def test_a_quota_is_forgotten_with_its_last_lane() -> None:
    clock = Clock()
    lanes = Lanes(idle_seconds=60, clock=clock)
    quota = Quota("subscription", rate=1, burst=1)
    lane: Lane | None = lanes.lane("ws-1", "app", quota)
    assert lane is not None
    lane._bucket.take(clock.now)
    del lane
    clock.now += 61
    assert lanes.lane("ws-2", "app").idle
    assert len(lanes._buckets) == 0
