"""The keyed queue: one worker per key, one deadline per key, pauses that grow."""

import asyncio

import pytest

from trainyard.controllers.queue import FIRST_BACKOFF, LAST_BACKOFF, KeyedQueue


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> KeyedQueue[str]:
    # A jitter of a half leaves the pauses as they are.
    return KeyedQueue(clock, jitter=lambda: 0.5)


async def taken(queue: KeyedQueue[str]) -> str | None:
    """The key that is due now, if there is one."""
    task = asyncio.create_task(queue.get())
    for _ in range(3):
        await asyncio.sleep(0)
    if task.done():
        return task.result()
    task.cancel()
    return None


async def test_keys_come_in_the_order_in_which_they_were_added(queue: KeyedQueue[str]) -> None:
    queue.add("a")
    queue.add("b")
    assert [await taken(queue), await taken(queue), await taken(queue)] == ["a", "b", None]


async def test_a_key_that_waits_already_is_not_due_twice(queue: KeyedQueue[str]) -> None:
    queue.add("a")
    queue.add("a")
    assert [await taken(queue), await taken(queue)] == ["a", None]


async def test_a_key_that_is_worked_on_is_given_to_nobody_else_and_is_due_again_after(queue: KeyedQueue[str]) -> None:
    queue.add("a")
    assert await taken(queue) == "a"
    queue.add("a")
    queue.add("a")
    assert await taken(queue) is None
    queue.done("a")
    assert await taken(queue) == "a"
    queue.done("a")
    assert await taken(queue) is None


async def test_an_added_key_wakes_a_worker_that_waits(queue: KeyedQueue[str]) -> None:
    worker = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    assert await asyncio.wait_for(worker, 1) == "a"


async def test_a_deadline_makes_a_key_due_when_it_is_reached(queue: KeyedQueue[str], clock: Clock) -> None:
    queue.wake_at("a", 110)
    clock.now = 109.9
    assert await taken(queue) is None
    clock.now = 110
    assert await taken(queue) == "a"
    assert queue.deadlines == 0


async def test_a_deadline_that_moved_counts_only_where_it_is_now(queue: KeyedQueue[str], clock: Clock) -> None:
    queue.wake_at("a", 110)
    queue.wake_at("a", 120)
    clock.now = 115
    assert await taken(queue) is None
    clock.now = 120
    assert await taken(queue) == "a"


async def test_a_deadline_that_was_taken_away_wakes_nobody(queue: KeyedQueue[str], clock: Clock) -> None:
    queue.wake_at("a", 110)
    queue.wake_at("a", None)
    queue.wake_at("b", 110)
    queue.forget("b")
    clock.now = 200
    assert await taken(queue) is None


async def test_an_earlier_deadline_wakes_a_worker_that_waits_for_a_later_one(queue: KeyedQueue[str]) -> None:
    queue.wake_at("late", 1000)
    worker = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.wake_at("soon", 100)
    assert await asyncio.wait_for(worker, 1) == "soon"


async def test_pauses_double_up_to_the_longest_and_begin_anew_after_a_success(queue: KeyedQueue[str]) -> None:
    pauses = [queue.retry("a") for _ in range(12)]
    assert pauses[:4] == [FIRST_BACKOFF, 2 * FIRST_BACKOFF, 4 * FIRST_BACKOFF, 8 * FIRST_BACKOFF]
    assert pauses[-1] == LAST_BACKOFF
    queue.succeeded("a")
    assert queue.retry("a") == FIRST_BACKOFF


async def test_pauses_are_spread(clock: Clock) -> None:
    spread = [KeyedQueue[str](clock, jitter=lambda j=j: j).retry("a") for j in (0.0, 1.0)]  # type: ignore[misc]
    assert spread == [0.75 * FIRST_BACKOFF, 1.25 * FIRST_BACKOFF]


async def test_a_failure_of_one_key_delays_no_other(queue: KeyedQueue[str]) -> None:
    for _ in range(10):
        queue.retry("a")
    assert queue.retry("b") == FIRST_BACKOFF
