"""The order of the chain: what is skipped, what is looked at all the same, and how long each may take."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from trainyard.client.doctor import chain
from trainyard.client.doctor.case import Case, Subject
from trainyard.client.doctor.chain import Examined, Link
from trainyard.client.doctor.results import Result, failed, not_applicable, not_seen, passed
from trainyard.client.errors import Unreachable
from trainyard.core.errors import Unreachable as PlatformUnreachable

PAGE = Path(__file__).resolve().parents[2] / "docs" / "doctor.md"


def case() -> Case:
    return Case(Subject("MLWorkspace", "databricks", "team-a"), cast(Any, None))


@pytest.fixture
def walk(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Examined]]:
    """Examines a chain of three: first, second after it, third after second; and other, after none."""

    def run(*results: Result | Exception, seconds: float = 10.0) -> list[Examined]:
        def look(index: int) -> chain.Look:
            def found(_: Case) -> Result:
                result = results[index]
                if isinstance(result, Exception):
                    raise result
                return result

            return found

        made = (
            Link("first", "first", look(0)),
            Link("second", "second", look(1), ("first",)),
            Link("third", "third", look(2), ("second",)),
            Link("other", "other", look(3)),
        )
        monkeypatch.setattr(chain, "links", lambda: made)
        return list(chain.examine(case(), seconds))

    return run


OK = passed("fine")


def outcomes(found: list[Examined]) -> list[str]:
    return [each.result.outcome.value for each in found]


def test_what_depends_on_a_failure_is_skipped_and_the_rest_is_looked_at(walk: Callable[..., list[Examined]]) -> None:
    found = walk(failed("Wrong", "wrong"), OK, OK, OK)
    assert outcomes(found) == ["Failed", "Skipped", "Skipped", "Passed"]
    assert [each.result.message for each in found[1:3]] == ["depends on first"] * 2


def test_what_is_not_seen_hides_what_depends_on_it(walk: Callable[..., list[Examined]]) -> None:
    assert outcomes(walk(OK, not_seen("NotPermitted", "no"), OK, OK)) == ["Passed", "NotSeen", "Skipped", "Passed"]


def test_a_link_that_the_mode_does_not_have_hides_nothing(walk: Callable[..., list[Examined]]) -> None:
    assert outcomes(walk(OK, not_applicable("none"), OK, OK)) == ["Passed", "Skipped", "Passed", "Passed"]


def test_a_failure_that_leaves_what_is_needed_hides_nothing(walk: Callable[..., list[Examined]]) -> None:
    found = walk(failed("Wrong", "wrong", goes_on=True), OK, OK, OK)
    assert outcomes(found) == ["Failed", "Passed", "Passed", "Passed"]


def test_an_error_of_a_platform_is_a_failure_of_its_link(walk: Callable[..., list[Examined]]) -> None:
    found = walk(OK, PlatformUnreachable("gone"), OK, OK)
    assert (found[1].result.outcome.value, found[1].result.word) == ("Failed", "PlatformUnreachable")


def test_an_api_server_that_is_gone_ends_the_examination(walk: Callable[..., list[Examined]]) -> None:
    with pytest.raises(Unreachable):
        walk(OK, Unreachable("gone"), OK, OK)


def test_a_link_that_hangs_is_left_behind() -> None:
    release = threading.Event()

    def hang(_: Case) -> Result:
        release.wait(30)
        return OK

    found = chain.bounded(case(), hang, 0.05)
    release.set()
    assert (found.outcome.value, found.word) == ("NotSeen", "OutOfTime")


def test_when_the_time_of_all_is_over_nothing_more_is_looked_at(walk: Callable[..., list[Examined]]) -> None:
    found = walk(OK, OK, OK, OK, seconds=0)
    assert {each.result.word for each in found} <= {"OutOfTime", "Depends"}
    assert "Passed" not in outcomes(found)


def test_each_link_depends_on_links_before_it_and_is_documented() -> None:
    names: list[str] = []
    page = PAGE.read_text()
    for link in chain.links():
        assert set(link.after) <= set(names)
        names.append(link.name)
        assert f"| `{link.name}` |" in page
        assert link.title in page
