"""The sweep: a list where that is cheaper, a question per run where not, and nothing lost in between."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TypeVar, cast

from trainyard.core.errors import Denied, Missing, Throttled, TrainyardError, Unreachable
from trainyard.core.remote import RemoteRun, Stage
from trainyard.observe.sweep import CLOCK_MARGIN, Sweep
from trainyard.platforms.base import Connection

T = TypeVar("T")
SINCE = datetime(2026, 11, 1, tzinfo=UTC)


class Platform:
    """A connection to a list of runs, newest first, and the calls that were made of it."""

    def __init__(self, *remote_ids: str, page: int = 2) -> None:
        self.ids = list(remote_ids)
        self.page = page
        self.calls: list[str] = []
        self.listed_since: datetime | None = None
        self.errors: dict[str, TrainyardError] = {}

    async def call(self, fn: Callable[..., T], *args: object, deadline: float) -> T:
        return fn(*args)

    def get(self, remote_id: str) -> RemoteRun:
        self.calls.append(f"get {remote_id}")
        if remote_id in self.errors:
            raise self.errors[remote_id]
        return RemoteRun(remote_id, Stage.RUNNING, "RUNNING")

    def sweep(self, since: datetime) -> Iterator[list[RemoteRun]]:
        self.listed_since = since
        for start in range(0, len(self.ids), self.page):
            self.calls.append("list")
            if "list" in self.errors:
                raise self.errors["list"]
            yield [RemoteRun(i, Stage.RUNNING, "RUNNING") for i in self.ids[start : start + self.page]]


class Watching:
    """A sweep whose task never runs by itself: tests call `once`."""

    def __init__(self, platform: Platform, *watched: str) -> None:
        self.told: dict[str, RemoteRun | TrainyardError] = {}
        self.sweep = Sweep(platform, cast(Connection, platform), self.told.__setitem__, poll_seconds=10)
        self.sweep._watched = {remote_id: SINCE + timedelta(hours=n) for n, remote_id in enumerate(watched)}

    async def once(self) -> set[str]:
        self.told.clear()
        await self.sweep.once()
        return set(self.told)


async def test_one_run_is_asked_for_by_itself() -> None:
    platform = Platform("a", "b", "c", "d")
    assert await Watching(platform, "c").once() == {"c"}
    assert platform.calls == ["get c"]


async def test_many_runs_are_listed_from_before_the_oldest_and_no_further_than_needed() -> None:
    platform = Platform("a", "b", "c", "d", "e", "f")
    assert await Watching(platform, "a", "b", "d").once() == {"a", "b", "d"}
    assert platform.calls == ["list", "list"]
    assert platform.listed_since == SINCE - CLOCK_MARGIN


async def test_what_the_list_does_not_show_is_asked_for_by_itself() -> None:
    platform = Platform("a", "b")
    assert await Watching(platform, "a", "b", "lost").once() == {"a", "b", "lost"}
    assert platform.calls == ["list", "get lost"]


async def test_when_other_peoples_runs_fill_the_pages_each_run_is_asked_for_the_next_time() -> None:
    platform = Platform(*(f"other-{n}" for n in range(20)), "a", "b")
    watching = Watching(platform, "a", "b")
    assert await watching.once() == {"a", "b"}
    assert platform.calls == ["list", "list", "get a", "get b"]
    platform.calls.clear()
    assert await watching.once() == {"a", "b"}
    assert platform.calls == ["get a", "get b"]


async def test_a_run_that_vanished_is_told_and_the_others_are_still_looked_at() -> None:
    platform = Platform()
    platform.errors["a"] = Missing("no such run")
    watching = Watching(platform, "a", "b")
    assert await watching.once() == {"a", "b"}
    assert isinstance(watching.told["a"], Missing)
    assert isinstance(watching.told["b"], RemoteRun)


async def test_when_the_list_fails_every_run_hears_why_and_none_is_asked_for() -> None:
    platform = Platform("a", "b")
    platform.errors["list"] = Unreachable("answered 503")
    watching = Watching(platform, "a", "b")
    assert await watching.once() == {"a", "b"}
    assert all(isinstance(what, Unreachable) for what in watching.told.values())
    assert platform.calls == ["list"]


async def test_a_run_that_can_not_be_looked_at_does_not_hide_the_others() -> None:
    platform = Platform("a")
    platform.errors["b"] = Unreachable("answered 500")
    platform.errors["c"] = Denied("not yours")
    watching = Watching(platform, "a", "b", "c", "d")
    assert await watching.once() == {"a", "b", "c", "d"}
    told = {name: type(what).__name__ for name, what in watching.told.items()}
    assert told == {"a": "RemoteRun", "b": "Unreachable", "c": "Denied", "d": "RemoteRun"}


async def test_when_the_platform_goes_in_the_middle_the_rest_hears_it_and_is_not_asked_for() -> None:
    platform = Platform()
    names = ("a", "b", "c", "d", "e")
    for name in names:
        platform.errors[name] = Unreachable("answered 503")
    watching = Watching(platform, *names)
    assert await watching.once() == set(names)
    assert {type(what).__name__ for what in watching.told.values()} == {"Unreachable"}
    assert [call for call in platform.calls if call.startswith("get")] == ["get a", "get b", "get c"]


async def test_a_platform_that_asks_for_less_is_asked_no_more() -> None:
    platform = Platform()
    platform.errors["a"] = Throttled("slow down", retry_after=5)
    watching = Watching(platform, "a", "b")
    assert await watching.once() == {"a", "b"}
    assert "get b" not in platform.calls


async def test_a_run_that_nobody_watches_any_more_is_not_told() -> None:
    platform = Platform("a", "b")
    watching = Watching(platform, "a", "b")
    original = platform.sweep

    def leaving(since: datetime) -> Iterator[list[RemoteRun]]:
        watching.sweep.leave("b")
        yield from original(since)

    platform.sweep = leaving  # type: ignore[method-assign]
    assert await watching.once() == {"a"}


async def test_nothing_is_asked_when_nothing_is_watched() -> None:
    platform = Platform("a")
    assert await Watching(platform).once() == set()
    assert platform.calls == []


async def test_a_stopped_sweep_forgets_what_it_watched() -> None:
    platform = Platform("a")
    watching = Watching(platform)
    watching.sweep.watch("a", SINCE)
    await watching.sweep.stop()
    assert len(watching.sweep) == 0
