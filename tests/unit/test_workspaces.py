"""What a check of a workspace is worth telling."""

from datetime import UTC, datetime, timedelta

import pytest

from trainyard.api.base import Condition
from trainyard.api.workspace import WorkspaceStatus
from trainyard.controllers.workspaces import WAITING_MAY_TAKE, Verdict, steadied
from trainyard.core.times import stamp

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def told(reason: str, status: str = "False", ago: timedelta = timedelta(seconds=30)) -> WorkspaceStatus:
    ready = Condition(
        type="Ready", status=status, reason=reason, message="as first told", last_transition_time=stamp(NOW - ago)
    )
    return WorkspaceStatus(observed_generation=1, conditions=[ready])


WAITING = Verdict("Reconciling", "PlatformUnreachable", "no answer, request 4711")


def test_the_same_trouble_keeps_its_first_words() -> None:
    assert steadied(told("PlatformUnreachable"), 1, WAITING, NOW).message == "as first told"


def test_troubles_that_come_and_go_keep_the_first_ones_name() -> None:
    verdict = steadied(told("PlatformThrottled"), 1, WAITING, NOW)
    assert (verdict.reason, verdict.message) == ("PlatformThrottled", "as first told")


def test_another_trouble_is_told() -> None:
    assert steadied(told("HostNotAllowed"), 1, WAITING, NOW) == WAITING


def test_a_changed_spec_is_told_anew() -> None:
    assert steadied(told("PlatformUnreachable"), 2, WAITING, NOW) == WAITING


def test_waiting_asks_for_a_person_in_the_end() -> None:
    before = told("PlatformUnreachable", ago=WAITING_MAY_TAKE - timedelta(seconds=1))
    assert steadied(before, 1, WAITING, NOW).state == "Reconciling"
    assert steadied(before, 1, WAITING, NOW + timedelta(seconds=1)).state == "Stalled"


@pytest.mark.parametrize("before", [WorkspaceStatus(), told("IdentityWorks", "True", timedelta(days=1))])
def test_what_was_ready_or_new_waits_from_now(before: WorkspaceStatus) -> None:
    assert steadied(before, 1, WAITING, NOW) == WAITING


def test_ready_is_ready() -> None:
    ready = Verdict("Ready", "IdentityWorks", "runs are submitted as x")
    assert steadied(told("PlatformUnreachable", ago=timedelta(days=1)), 1, ready, NOW) == ready
