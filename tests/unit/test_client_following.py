"""Following a run: nothing is missed, nothing is asked in a circle, and it ends when it has to."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from trainyard.client import NotAllowed, NotFound, Run, Unreachable, WaitTimedOut
from trainyard.client.following import PATIENCE_SECONDS, POLL_SECONDS, Clock, Follower
from trainyard.client.server import WatchExpired

Object = dict[str, Any]


def run(version: int, phase: str = "Running", uid: str = "u1") -> Object:
    meta = {"name": "churn", "namespace": "team", "uid": uid, "resourceVersion": str(version)}
    return {"metadata": meta | {"creationTimestamp": "2026-11-23T12:00:00Z"}, "status": {"phase": phase}}


class Time:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds

    def clock(self) -> Clock:
        return Clock(lambda: self.seconds, self.sleep)


Troubles = list[str]
Watch = Callable[[], Iterator[tuple[str, Object]]]


class Server:
    """Answers from a script: what a get returns or raises, and what each watch does."""

    def __init__(
        self, gets: list[Object | Exception], watches: list[Callable[[], Iterator[tuple[str, Object]]]]
    ) -> None:
        self.gets, self.watches = gets, watches
        self.watched: list[tuple[str, int]] = []
        self.asked = 0

    def get(self, _plural: str, _namespace: str, _name: str) -> Object:
        self.asked += 1
        found = self.gets.pop(0) if len(self.gets) > 1 else self.gets[0]
        if isinstance(found, Exception):
            raise found
        return found

    def watch(self, _plural: str, _ns: str, _name: str, version: str, seconds: int) -> Iterator[tuple[str, Object]]:
        self.watched.append((version, seconds))
        return (self.watches.pop(0) if len(self.watches) > 1 else self.watches[0])()


def watch(*events: tuple[str, Object] | Exception) -> Watch:
    def play() -> Iterator[tuple[str, Object]]:
        for event in events:
            if isinstance(event, Exception):
                raise event
            yield event

    return play


def states(
    server: Server, time: Time, seconds: float | None = None, troubles: list[str] | None = None
) -> Iterator[Run]:
    told = troubles if troubles is not None else []
    return Follower(server, Run(run(1)), seconds, time.clock(), told.append).states()  # type: ignore[arg-type]


def versions(found: Iterator[Run], count: int) -> list[str]:
    return [next(found).version for _ in range(count)]


def test_each_state_is_shown_once_and_in_order() -> None:
    server = Server([run(1)], [watch(("MODIFIED", run(2)), ("MODIFIED", run(3)))])
    assert versions(states(server, Time()), 3) == ["1", "2", "3"]


def test_what_changed_between_two_watches_is_not_missed() -> None:
    server = Server([run(1), run(5)], [watch(("MODIFIED", run(2))), watch()])
    assert versions(states(server, Time()), 3) == ["1", "2", "5"]


def test_an_expired_watch_begins_again_from_the_run_as_it_is_now() -> None:
    server = Server([run(1), run(8), run(8)], [watch(WatchExpired()), watch(("MODIFIED", run(9)))])
    assert versions(states(server, Time()), 3) == ["1", "8", "9"]
    assert [version for version, _ in server.watched] == ["1", "8"]


def test_a_server_that_closes_every_watch_at_once_is_not_asked_in_a_circle() -> None:
    server, time = Server([run(1)], [watch()]), Time()
    with pytest.raises(WaitTimedOut):
        list(states(server, time, seconds=30))
    assert server.asked <= 30 / POLL_SECONDS + 1


def test_where_watching_is_forbidden_the_run_is_asked_for_every_few_seconds() -> None:
    server, time = Server([run(1), run(1), run(2), run(3)], [watch(NotAllowed("no"))]), Time()
    assert versions(states(server, time), 3) == ["1", "2", "3"]
    assert len(server.watched) == 1
    assert time.slept == [POLL_SECONDS] * 3


def test_an_api_server_that_is_away_is_waited_for_and_told_once() -> None:
    away, troubles, time = Unreachable("connection refused"), list[str](), Time()
    server = Server([away, away, away, run(2)], [watch()])
    assert versions(states(server, time, troubles=troubles), 2) == ["1", "2"]
    assert troubles == ["connection refused"]
    assert time.slept == [1.0, 2.0, 4.0]


def test_an_api_server_that_stays_away_is_given_up() -> None:
    time = Time()
    with pytest.raises(Unreachable):
        list(states(Server([Unreachable("gone")], [watch()]), time))
    assert PATIENCE_SECONDS <= time.seconds < PATIENCE_SECONDS + 60


def test_a_connection_that_breaks_in_a_watch_is_made_again() -> None:
    server = Server([run(1)], [watch(("MODIFIED", run(2)), Unreachable("broke off")), watch(("MODIFIED", run(3)))])
    server.gets = [run(1), run(2)]
    assert versions(states(server, Time()), 3) == ["1", "2", "3"]


def test_where_no_watch_lasts_the_run_is_asked_for_and_nothing_is_given_up() -> None:
    troubles, time = list[str](), Time()
    server = Server([run(1)], [watch(Unreachable("a proxy broke off"))])
    with pytest.raises(WaitTimedOut):
        list(states(server, time, seconds=2 * PATIENCE_SECONDS, troubles=troubles))
    assert troubles == []
    assert server.asked <= 2 * PATIENCE_SECONDS / POLL_SECONDS + 1


@pytest.mark.parametrize(
    "server",
    [
        Server([NotFound("no such run")], [watch()]),
        Server([run(2, uid="u2")], [watch()]),
        Server([run(1)], [watch(("DELETED", run(2)))]),
        Server([run(1)], [watch(("ADDED", run(3, uid="u2")))]),
    ],
    ids=["not there", "another one", "seen going", "another one in the watch"],
)
def test_a_deleted_run_ends_the_wait(server: Server) -> None:
    found = states(server, Time())
    next(found)
    with pytest.raises(NotFound, match="run team/churn was deleted") as caught:
        next(found)
    assert caught.value.run is not None  # as it was last seen


def test_the_time_is_up_in_time_and_the_last_state_is_in_the_error() -> None:
    time = Time()

    def lasting() -> Iterator[tuple[str, Object]]:
        time.seconds += server.watched[-1][1]
        yield "MODIFIED", run(2 + len(server.watched))

    server = Server([run(2)], [lasting])
    with pytest.raises(WaitTimedOut) as caught:
        list(states(server, time, seconds=100))
    assert time.seconds == pytest.approx(100, abs=1)
    assert caught.value.run.phase == "Running"
    assert [seconds for _, seconds in server.watched] == [60, 40]
