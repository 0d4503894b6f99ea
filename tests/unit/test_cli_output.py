"""What the command writes to a terminal, a pipe and a script, and what its errors mean."""

import io
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from trainyard.cli.exits import MEANING, Exit
from trainyard.cli.logs import tail_of
from trainyard.cli.plans import planned, would_start
from trainyard.cli.session import code_for
from trainyard.cli.terminal import harmless, plain, tell
from trainyard.client import (
    BadManifest,
    ClientError,
    NotAllowed,
    NotFound,
    Refused,
    Run,
    RunCancelled,
    RunFailed,
    RunStalled,
    RunTimedOut,
    Unreachable,
    WaitTimedOut,
)
from trainyard.client.server import error_of

COMMAND = [sys.executable, "-m", "trainyard"]
META = {"name": "churn", "namespace": "team", "uid": "u", "resourceVersion": "1"}


def run(phase: str = "Failed", **status: Any) -> Run:
    return Run({"metadata": META, "spec": {}, "status": {"phase": phase} | status})


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RunFailed(run()), Exit.FAILED),
        (RunStalled(run()), Exit.FAILED),
        (Refused("no"), Exit.USAGE),
        (BadManifest("no"), Exit.USAGE),
        (RunTimedOut(run()), Exit.TIMEOUT),
        (WaitTimedOut(run(), 5), Exit.TIMEOUT),
        (RunCancelled(run()), Exit.CANCELLED),
        (NotFound("no"), Exit.NOT_FOUND),
        (NotAllowed("no"), Exit.UNREACHABLE),
        (Unreachable("no"), Exit.UNREACHABLE),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_has_its_exit_code(error: ClientError, code: Exit) -> None:
    assert code_for(error) is code


def test_every_exit_code_has_a_meaning() -> None:
    assert MEANING.keys() == set(Exit)


def status(code: int, reason: str = "", **details: Any) -> str:
    return json.dumps({"kind": "Status", "code": code, "reason": reason, "message": "words", "details": details})


@pytest.mark.parametrize(
    ("code", "body", "kind"),
    [
        (401, status(401), NotAllowed),
        (403, status(403), NotAllowed),
        (404, status(404, name="churn"), NotFound),
        (404, "404 page not found\n", Unreachable),  # the kind is not served
        (409, status(409), Refused),
        (422, status(422), Refused),
        (400, status(400), Refused),
        (410, status(410, reason="Expired"), Unreachable),
        (302, "", Unreachable),
        (500, "<html>", Unreachable),
        (503, b"upstream", Unreachable),
        (422, "[]", Refused),
    ],
)
def test_what_an_answer_means(code: int, body: Any, kind: type[ClientError]) -> None:
    assert type(error_of(code, "Reason", body)) is kind


def test_what_the_server_complains_about_is_kept_by_field() -> None:
    causes = [{"field": "spec.code", "message": 'Invalid value: "object": code needs one way'}, {"message": "bad"}]
    error = error_of(422, "", status(422, causes=causes))
    assert isinstance(error, Refused)
    assert [(p.field, p.message) for p in error.problems] == [("spec.code", "code needs one way"), (None, "bad")]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]52;c;cm0gLXJm\x1b\\x", "x"),
        ("\x1b[2J\x1b[Hx", "x"),
        ("\x1bcx", "x"),
        ("a\x9b2Jb\x07", "a2Jb"),
        ("10%\r20%\r\n\tend", "10%\r20%\r\n\tend"),
        ("\x1b", ""),
    ],
)
def test_a_log_colours_a_terminal_and_does_nothing_else_to_it(given: str, shown: str) -> None:
    assert harmless(given) == shown
    assert "\x1b" not in plain(given)


@pytest.mark.parametrize(
    ("lines", "tail"), [(None, "a\nb\nc"), (2, "b\nc"), (9, "a\nb\nc"), (0, ""), (3, "a\nb\nc"), (1, "c")]
)
def test_tail_is_the_last_lines(lines: int | None, tail: str) -> None:
    assert tail_of("a\nb\nc", lines) == tail


def check(outcome: str) -> dict[str, str]:
    return {"name": "CREATE MODEL on main.ml", "field": "spec.model", "outcome": outcome, "message": "GRANT CREATE ..."}


def plan(*outcomes: str) -> dict[str, Any]:
    return {"request": '{"run_name":"churn"}', "checks": [check(outcome) for outcome in outcomes]}


def test_a_plan_shows_the_request_and_how_to_mend_what_is_missing() -> None:
    lines = "\n".join(planned(run("Failed", plan=plan("Passed", "Missing"))))
    assert '"run_name": "churn"' in lines
    assert lines.count("GRANT CREATE") == 1
    assert "would not start" in lines


def test_a_plan_that_was_too_long_for_the_status_is_shown_as_far_as_it_goes() -> None:
    cut = '{"run_name": "churn", "ta\n... cut off here'
    lines = planned(run("Succeeded", plan=plan() | {"request": cut}))
    assert lines[1:3] == ['{"run_name": "churn", "ta', "... cut off here"]


@pytest.mark.parametrize(
    ("found", "starts"),
    [
        (run("Succeeded", plan=plan("Passed", "Unknown")), True),
        (run("Succeeded", plan=plan("Passed", "Missing")), False),
        (run("Failed", plan=plan("Passed")), False),
        (run("Stalled"), False),
    ],
)
def test_a_run_would_start_if_it_was_planned_and_nothing_is_missing(found: Run, starts: bool) -> None:
    assert would_start(found) is starts


@pytest.mark.parametrize("phase", ["Succeeded", "Failed", "TimedOut", "Cancelled", "Running", "Stalled", None])
def test_a_run_has_ended_in_the_final_phases_only(phase: str | None) -> None:
    found = Run({"metadata": META, "status": {"phase": phase} if phase else {}})
    assert found.finished is (phase in ("Succeeded", "Failed", "TimedOut", "Cancelled"))
    assert found.succeeded is (phase == "Succeeded")
    assert found.failed is (phase in ("Failed", "TimedOut", "Cancelled"))


def test_metrics_are_numbers_also_where_json_has_none() -> None:
    metrics = run(metrics={"auc": "0.9", "loss": "NaN", "worst": "-Infinity"}).metrics
    assert metrics["auc"] == 0.9
    assert metrics["loss"] != metrics["loss"]
    assert metrics["worst"] == float("-inf")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_the_verbs(shell: str) -> None:
    script = subprocess.run([*COMMAND, "completion", shell], capture_output=True, text=True, check=True).stdout
    assert f"_TRAINYARD_COMPLETE=complete_{shell}" in script
    asked = {"_TRAINYARD_COMPLETE": f"complete_{shell}", "COMP_WORDS": "trainyard re", "COMP_CWORD": "1"}
    asked |= {"_TYPER_COMPLETE_ARGS": "trainyard re", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    offered = subprocess.run(COMMAND, env=os.environ | asked, capture_output=True, text=True, check=False).stdout
    assert "resume" in offered
    assert "cancel" not in offered


def test_a_mistake_of_the_command_is_no_failed_run() -> None:
    code = "import trainyard.cli.running as r, trainyard.cli.main as m; r.wait = lambda *a: 1 / 0; m.main()"
    ran = subprocess.run([sys.executable, "-c", code, "wait", "x"], capture_output=True, text=True, check=False)
    assert ran.returncode == Exit.BUG
    assert "ZeroDivisionError" in ran.stderr


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "no_color", "coloured"),
    [(Terminal(), None, True), (Terminal(), "1", False), (io.StringIO(), None, False)],
    ids=["terminal", "NO_COLOR", "pipe"],
)
def test_only_a_terminal_gets_colour_and_none_with_no_color(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, no_color: str | None, coloured: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr("sys.stdout", stream)
    line = "churn   Succeeded   " + "x" * 300 + " [bold]:smile:"
    tell(line)
    assert ("\x1b[" in stream.getvalue()) is coloured
    assert plain(stream.getvalue()) == line + "\n"  # neither wrapped nor read as markup
