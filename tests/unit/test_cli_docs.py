"""docs/cli.md and docs/python-client.md say what the code does: every verb, flag, exit code, method and error."""

import inspect
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import typer

from trainyard import client
from trainyard.cli.exits import MEANING, Exit
from trainyard.cli.main import app
from trainyard.cli.session import code_for
from trainyard.client import ClientError, Deployment, Run, Trainyard

DOCS = Path(__file__).resolve().parents[2] / "docs"
COMMON = "## Flags of every verb"
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
VERBS = sorted(COMMANDS.keys() - {"operator"})


@cache
def section(page: str, heading: str) -> str:
    """The text below a heading, up to the next of its level or above."""
    level = len(heading.split(" ", 1)[0])
    body = (DOCS / page).read_text().split(f"\n{heading}\n", 1)[1]
    return re.split(rf"\n#{{1,{level}}} ", body, maxsplit=1)[0]


def rows(page: str, heading: str) -> Iterator[list[str]]:
    """The cells of each row of the tables there, without their heads."""
    lines = [*section(page, heading).splitlines(), ""]
    for line, following in pairwise(lines):
        if line.startswith("|") and not line.startswith("|---") and not following.startswith("|---"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def flags(heading: str) -> set[str]:
    return {flag for row in rows("cli.md", heading) for flag in re.findall(r"`(-[^`]+)`", row[0])}


def test_every_verb_is_documented_and_no_other() -> None:
    assert sorted(re.findall(r"^### (\w+)$", section("cli.md", "## Verbs"), re.MULTILINE)) == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_every_flag_of_a_verb_is_in_its_table_and_no_other(verb: str) -> None:
    own = {flag for option in COMMANDS[verb].params for flag in option.opts if flag.startswith("-")}
    assert flags(f"### {verb}") == own - flags(COMMON)
    if verb != "completion":
        assert flags(COMMON) - {"--help", "-h"} <= own


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_an_example(verb: str) -> None:
    assert re.search(rf"^(\$ )?(source <\()?trainyard {verb}\b", section("cli.md", f"### {verb}"), re.MULTILINE)


def test_defaults_are_told_as_they_are() -> None:
    for verb in VERBS:
        told = {row[0]: row[1] for row in rows("cli.md", f"### {verb}")}
        for option in COMMANDS[verb].params:
            if isinstance(option.default, float):
                assert f"absent: {option.default:g}" in told[f"`{option.opts[0]}`"]


def test_exit_codes_are_the_same_in_the_docs_in_help_and_in_the_code() -> None:
    table = {int(code): words for code, words in rows("cli.md", "## Exit codes")}
    assert table == {int(code): words for code, words in MEANING.items()}
    assert all(f"{int(code)}: {words}" in COMMANDS["run"].epilog for code, words in MEANING.items())


def test_every_method_of_the_client_is_documented_with_its_arguments() -> None:
    public = {name: fn for name, fn in inspect.getmembers(Trainyard, inspect.isfunction) if not name.startswith("_")}
    wanted = {f"{name}({', '.join([*inspect.signature(fn).parameters][1:])})" for name, fn in public.items()}
    assert {row[0].strip("`") for row in rows("python-client.md", "## Trainyard")} == wanted


@pytest.mark.parametrize("kind", [Run, Deployment])
def test_every_property_of_what_the_client_hands_out_is_documented(kind: type) -> None:
    public = {name for name in [*dir(kind), "resource"] if not name.startswith("_") and name.islower()}
    body = section("python-client.md", f"## {kind.__name__}").split("\n\n`")[0]
    assert public == set(re.findall(r"`(\w+)(?:\(\w+\))?`", body))


def test_every_error_is_documented_with_the_exit_code_that_it_becomes() -> None:
    told = {row[0].strip("`"): int(row[2]) for row in rows("python-client.md", "## Errors")}
    errors = {name: kind for name in client.__all__ if issubclass(kind := getattr(client, name), ClientError)}
    assert told.keys() == errors.keys() - {"ClientError", "RunEnded"}
    codes = {name: code_for(kind.__new__(kind)) for name, kind in errors.items()}
    assert {name: Exit(code) for name, code in told.items()} == {name: codes[name] for name in told}
