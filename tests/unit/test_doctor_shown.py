"""What `trainyard doctor` prints and exits with, and that its words are on its page."""

import ast
import io
import re
from pathlib import Path
from typing import Any, cast

import pytest

from trainyard.cli.examining import _begun, _cleared, code_of, document, lines, summary
from trainyard.client.doctor.case import Case, Means, Subject
from trainyard.client.doctor.chain import Examined, Link
from trainyard.client.doctor.results import (
    Outcome,
    Remedy,
    Result,
    failed,
    not_applicable,
    not_seen,
    passed,
    warned,
)
from trainyard.identity.base import ServiceAccountRef

ROOT = Path(__file__).resolve().parents[2]
DOCTOR = ROOT / "operator" / "trainyard" / "client" / "doctor"
PAGE = (ROOT / "docs" / "doctor.md").read_text()
REASONS = PAGE + (ROOT / "docs" / "reasons.md").read_text() + (ROOT / "docs" / "workspaces.md").read_text()
MEND = Remedy("do this", "kubectl do 'this  thing'")


def examined(result: Result, number: int = 2) -> Examined:
    return Examined(number, Link("speaker", "who speaks", lambda _: result), result, 0.1234)


def test_a_link_is_a_row_and_what_mends_it_stands_below_on_a_line_of_its_own() -> None:
    row, what, command = lines(examined(failed("NotThere", "it is not\nthere", MEND)))
    assert row == f"  2  {'who speaks':24}{'FAIL':10}NotThere: it is not there"
    assert (what, command) == ("     to mend it: do this:", "       kubectl do 'this  thing'")


def test_what_is_not_seen_comes_with_how_to_see_it() -> None:
    assert list(lines(examined(not_seen("NotPermitted", "no", MEND))))[1] == "     to see it: do this:"


def test_a_sentence_that_says_it_all_is_not_said_twice() -> None:
    assert len(list(lines(examined(failed("Wrong", "ask for more; Settings > X", Remedy("Settings > X")))))) == 1


def test_colours_are_for_terminals_and_nothing_of_a_platform_drives_one() -> None:
    result = failed("Wrong", "\x1b]0;owned\x07boom", Remedy("x\x1b[2J", "kubectl \x1b[2J"))
    plain = "\n".join(lines(examined(result)))
    assert "\x1b" not in plain
    coloured = "\n".join(lines(examined(result), colour=True))
    assert re.findall(r"\x1b\[[0-9;]*[A-Za-z]", coloured) == ["\x1b[1;31m", "\x1b[0m"]


@pytest.mark.parametrize(
    ("results", "code"),
    [
        ([passed("fine"), not_applicable("none"), warned("Soon", "soon")], 0),
        ([passed("fine"), not_seen("NotPermitted", "no")], 3),
        ([not_seen("NotPermitted", "no"), failed("Wrong", "wrong")], 1),
    ],
)
def test_the_exit_code_is_the_worst_that_was_found(results: list[Result], code: int) -> None:
    assert int(code_of([examined(result) for result in results])) == code


def test_the_last_line_counts() -> None:
    assert summary([examined(passed("a")), examined(passed("b")), examined(failed("C", "c"))]) == "2 pass, 1 FAIL"


def test_the_document_has_the_keys_of_the_page() -> None:
    means = Means(*cast(Any, (None,) * 4), ServiceAccountRef("trainyard-system", "trainyard"), "ada")
    case = Case(Subject("MLWorkspace", "databricks", "team-a"), means)
    found = [examined(failed("NotThere", "no", MEND, principal="x"))]
    told = document(case, found, code_of(found))
    assert told["result"] == "Failed"
    assert told["workspace"] == {"kind": "MLWorkspace", "name": "databricks", "namespace": "team-a"}
    assert told["links"][0]["remedies"] == [{"what": MEND.what, "command": MEND.command}]
    example = PAGE.split("```json")[1].split("```")[0]
    keys = {*told, *told["links"][0], "what", "command", "kind"}
    assert {key for key in keys if f'"{key}"' not in example} == set()


def test_every_outcome_and_every_word_of_the_doctor_is_on_a_page() -> None:
    assert all(f"| `{outcome.value}` |" in PAGE for outcome in Outcome)
    words = set()
    for path in sorted(DOCTOR.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words |= {node.value} & _said(node.value)
    assert len(words) > 20
    assert {word for word in words if f"`{word}`" not in REASONS} == set()


def _said(text: str) -> set[str]:
    """The text, if it is written like a reason and is none of the names that are."""
    names = {
        "MLWorkspace",
        "ClusterMLWorkspace",
        "NotApplicable",
        "NotSeen",
        "AmlCompute",
        "BearerToken",
        "TokenRequest",
    }
    names |= {"SelfSubjectReview", "SubjectAccessReview", "DatabricksOAuthSecret", "EntraClientSecret"}
    return {text} if re.fullmatch(r"([A-Z][a-z]+){2,}", text) and text not in names else set()


class Terminal(io.StringIO):
    """A stream that says what it is."""

    def __init__(self, tty: bool) -> None:
        super().__init__()
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty


@pytest.mark.parametrize("tty", [True, False])
def test_progress_is_for_who_watches_and_leaves_nothing_behind(tty: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal(tty)
    monkeypatch.setattr("sys.stderr", stream)
    _begun(4, Link("issuer", "issuer and its keys", lambda _: passed("fine")))
    assert ("issuer and its keys ..." in stream.getvalue()) is tty
    _cleared()
    assert stream.getvalue().endswith("\r\x1b[K") is tty
