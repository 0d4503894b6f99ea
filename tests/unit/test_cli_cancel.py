"""Cancelling on the way out: tried again while there is time, and never for longer than there is."""

import signal

import pytest

from trainyard.cli import running
from trainyard.cli.exits import Exit
from trainyard.cli.signals import Interrupted, Signals
from trainyard.client import NotFound, Run, Unreachable, WaitTimedOut

RUN = Run({"metadata": {"name": "churn", "namespace": "team", "uid": "u", "resourceVersion": "1"}, "spec": {}})


class Yard:
    """A client that is interrupted as soon as it waits, and can not reach the API server for some times."""

    def __init__(self, away: int, number: signal.Signals = signal.SIGTERM) -> None:
        self.away, self.number = away, number
        self.asked = 0
        self.waits: list[float | None] = []

    def wait(self, run: Run, timeout: float | None, **_: object) -> Run:
        self.waits.append(timeout)
        if len(self.waits) == 1:
            signal.raise_signal(self.number)
        raise WaitTimedOut(run, timeout or 0)

    def cancel(self, run: Run) -> Run:
        self.asked += 1
        if self.asked <= self.away:
            raise Unreachable("connection refused")
        return run


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that moves when somebody sleeps."""
    found: list[float] = []
    monkeypatch.setattr("trainyard.cli.running.time.sleep", found.append)
    monkeypatch.setattr("trainyard.cli.running.time.monotonic", lambda: sum(found))
    return found


def follow(yard: Yard, **wishes: object) -> Exit:
    return running._follow(yard, lambda _: RUN, running.Waiting(**wishes))  # type: ignore[arg-type]


def test_an_api_server_that_is_away_is_asked_again(slept: list[float]) -> None:
    yard = Yard(away=3)
    assert follow(yard, cancel_on_exit=True, cancel_seconds=25.0) is Exit.CANCELLED
    assert yard.asked == 4
    assert yard.waits == [None, 22.0]


def test_an_api_server_that_stays_away_is_given_up_in_time(
    slept: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    yard = Yard(away=1000)
    assert follow(yard, cancel_on_exit=True, cancel_seconds=25.0) is Exit.CANCELLED
    assert sum(slept) < 25
    assert "could not be cancelled and goes on: connection refused" in capsys.readouterr().err


def test_a_run_that_has_gone_needs_no_cancelling(slept: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    yard = Yard(away=0)

    def gone(_run: Run) -> Run:
        raise NotFound("gone")

    monkeypatch.setattr(yard, "cancel", gone)
    assert follow(yard, cancel_on_exit=True) is Exit.CANCELLED
    assert slept == []


def test_the_handlers_of_before_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    follow(Yard(away=0), cancel_on_exit=True, cancel_seconds=0.0)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_signal_while_a_run_is_created_is_heard_afterwards() -> None:
    with Signals() as signals:
        signal.raise_signal(signal.SIGTERM)  # the name of what is being created is not known yet
        with pytest.raises(Interrupted, match=str(int(signal.SIGTERM))):
            signals.allow()
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)
