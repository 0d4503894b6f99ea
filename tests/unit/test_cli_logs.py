"""Following logs over attempts, some of which printed nothing."""

from collections.abc import Iterator
from typing import Any

import pytest

from trainyard.api.run_log import MLRunLogSpec
from trainyard.cli import logs
from trainyard.cli.exits import Exit
from trainyard.client import NotFound, Run, RunLog


def state(phase: str, *ended: bool) -> Run:
    """A run with an attempt for each, which has ended or not."""
    shared = {"submissionToken": "t", "platform": "databricks", "host": "h", "principal": "p", "mode": "federated"}
    shared |= {"serviceAccount": "s", "specDigest": "d", "codeDigest": "d", "intendedAt": "2026-11-23T12:00:00Z"}
    attempts = [
        {"number": number} | shared | ({"endedAt": "2026-11-23T12:10:00Z"} if over else {})
        for number, over in enumerate(ended, 1)
    ]
    meta = {"name": "churn", "namespace": "team", "uid": "u", "resourceVersion": str(len(ended))}
    return Run({"metadata": meta, "spec": {}, "status": {"phase": phase, "attempt": len(ended), "attempts": attempts}})


class Yard:
    """A client whose run goes through those states, and whose attempts printed that."""

    def __init__(self, states: list[Run], texts: dict[int, str]) -> None:
        self.states, self.texts = states, texts

    def get(self, _name: str) -> Run:
        return self.states[0]

    def follow(self, _run: Run) -> Iterator[Run]:
        yield from self.states
        raise AssertionError("the run has ended")

    def logs(self, run: Run, *, attempt: int) -> RunLog:
        if attempt not in self.texts:
            raise NotFound(f"there is no log of attempt {attempt}", run)
        at = {"runName": "churn", "runUid": "u", "attempt": attempt, "at": "2026-11-23T12:10:00Z"}
        tasks = [{"name": "train", "text": self.texts[attempt]}]
        return RunLog(f"churn-{attempt}", MLRunLogSpec.model_validate(at | {"tasks": tasks}))


def follow(states: list[Run], texts: dict[int, str], **wanted: Any) -> Exit:
    asked = logs.Wanted(**({"attempt": None, "task": None, "tail": None} | wanted))
    return logs._follow(Yard(states, texts), "churn", asked)  # type: ignore[arg-type]


GOING = [state("Running", False), state("Pending", True), state("Running", True, False), state("Failed", True, True)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_LOG_SECONDS", 0.0)


def test_each_attempt_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(GOING, {1: "first", 2: "second"}) is Exit.OK
    assert capsys.readouterr().out == "first\nsecond\n"


def test_an_attempt_that_printed_nothing_is_no_end_to_following(capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(GOING, {2: "second"}) is Exit.OK
    out, err = capsys.readouterr()
    assert out == "second\n"
    assert "there is no log of attempt 1: none was kept" in err


def test_following_ends_with_the_attempt_that_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(GOING, {1: "first", 2: "second"}, attempt=1) is Exit.OK
    assert capsys.readouterr().out == "first\n"


def test_a_run_that_printed_nothing_at_all_is_said_to(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NotFound, match="nothing that run churn printed"):
        follow(GOING, {})
    assert capsys.readouterr().out == ""


def test_of_a_finished_run_the_newest_attempt_is_printed_without_progress(capsys: pytest.CaptureFixture[str]) -> None:
    assert follow([GOING[-1]], {1: "first", 2: "second"}) is Exit.OK
    assert capsys.readouterr() == ("second\n", "")
