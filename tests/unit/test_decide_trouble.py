"""Adoption after a restore, results that can not be had, refusals, what is told of a wait and of an end."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.runs import READY, START, Run
from trainyard.core.actions import Collect, Locate, Submit
from trainyard.core.remote import End, RemoteRun, Result, Stage, Submitted
from trainyard.core.snapshot import Blocked
from trainyard.core.times import parse
from trainyard.core.tokens import submission_token

ID = "9007199254740993"


def suspended() -> Run:
    run = Run().running().edit(suspend=True)
    run.turn()
    run.ended(End.CANCELLED)
    run.turn()
    assert run.status.phase == "Suspended"
    return run


class TestAdopting:
    def restored(self) -> Run:
        return Run(submissionKey="quarterly-2026-q4").intended().see(submitted=Submitted(ID, None, START))

    def test_a_remote_run_that_was_there_before_is_marked(self) -> None:
        run = self.restored()
        run.turn()
        begun = START - timedelta(hours=3)
        run.see(remote=RemoteRun(ID, Stage.RUNNING, "RUNNING", started_at=begun)).turn()
        assert run.status.attempts[-1].adopted is True
        assert parse(run.status.attempts[-1].started_at or "") == begun

    def test_also_when_it_has_ended_long_ago(self) -> None:
        run = self.restored()
        run.turn()
        ended = RemoteRun(ID, Stage.ENDED, "TERMINATED", End.SUCCEEDED, started_at=START - timedelta(days=3))
        run.see(remote=ended, result=Result()).turn()
        assert (run.status.phase, run.status.attempts[-1].adopted) == ("Succeeded", True)

    def test_one_that_the_attempt_started_is_not(self) -> None:
        run = self.restored()
        run.turn()
        run.see(remote=RemoteRun(ID, Stage.RUNNING, "RUNNING", started_at=START + timedelta(seconds=2))).turn()
        assert run.status.attempts[-1].adopted is None

    def test_a_failed_one_is_followed_by_the_next_of_the_same_key_and_not_by_a_new_payment(self) -> None:
        run = self.restored()
        run.turn()
        run.ended(End.INFRASTRUCTURE).turn()
        run.later(700).turn()
        tokens = [each.submission_token for each in run.status.attempts]
        assert tokens == [submission_token("team", "iris", "any uid", "quarterly-2026-q4", n) for n in (1, 2)]

    def cancelled_before(self) -> Run:
        """The first attempt of its earlier life had been cancelled, and this life has just seen that."""
        run = self.restored()
        run.turn()
        seen = RemoteRun(ID, Stage.ENDED, "TERMINATED", End.CANCELLED, started_at=START - timedelta(hours=3))
        run.see(remote=seen, result=Result()).turn()
        assert (run.status.phase, run.reason) == ("Pending", "Adopting")
        run.turn()
        assert [each.number for each in run.status.attempts] == [1, 2]
        return run

    def test_an_earlier_life_that_was_suspended_and_went_on_is_followed_to_where_it_is(self) -> None:
        run = self.cancelled_before()
        assert run.turn().action == Locate()
        run.see(searched_at=run.now, located="77", remote=RemoteRun("77", Stage.RUNNING, "RUNNING")).turn()
        assert (run.status.remote_id, run.status.phase) == ("77", "Queued")

    def test_an_earlier_life_that_was_cancelled_stays_cancelled_and_is_never_paid_for_again(self) -> None:
        run = self.cancelled_before()
        assert run.turn().action == Locate()
        run.see(searched_at=run.now).turn()
        assert (run.status.phase, run.reason) == ("Cancelled", "CancelledOnPlatform")

    def test_an_attempt_of_this_life_that_somebody_cancels_ends_the_run(self) -> None:
        run = Run(submissionKey="quarterly-2026-q4").running().ended(End.CANCELLED)
        run.turn()
        assert run.status.phase == "Cancelled"


class TestCollectingInTrouble:
    def stuck(self, **spec: Any) -> Run:
        run = Run(**spec).running().remote(Stage.ENDED, "TERMINATED", End.SUCCEEDED)
        return run.trouble("Unreachable", reason="PlatformUnreachable", action="Collect")

    def test_a_platform_that_is_away_for_hours_is_waited_for(self) -> None:
        run = self.stuck().later(5 * 3600)
        assert run.turn().action == Collect()

    def test_but_not_for_ever(self) -> None:
        run = self.stuck().later(90_000)
        run.turn()
        assert (run.status.phase, run.reason) == ("Failed", "ResultNotCollected")

    def test_who_cancels_does_not_wait_for_what_was_left(self) -> None:
        run = self.stuck().edit(cancel=True)
        run.turn()
        assert run.reason == "ResultNotCollected"

    def test_nor_does_a_run_whose_time_is_up(self) -> None:
        run = self.stuck(timeoutSeconds=100).later(101)
        run.turn()
        assert run.reason == "ResultNotCollected"


class TestRefusals:
    def test_a_submission_that_is_refused_is_searched_for_first(self) -> None:
        run = Run().intended().trouble("Refused", reason="RequestRefused")
        assert run.turn().action == Locate()
        run.see(searched_at=run.now, trouble=None)
        assert run.turn().action == Submit()
        run.trouble("Refused", reason="RequestRefused")
        run.turn()
        assert (run.status.phase, run.reason) == ("Failed", "RequestRefused")

    def test_one_that_was_accepted_before_its_answer_was_lost_is_followed(self) -> None:
        run = Run().intended().trouble("Refused", reason="RequestRefused")
        run.turn()
        run.see(searched_at=run.now, located=ID, remote=RemoteRun(ID, Stage.RUNNING, "RUNNING"), trouble=None)
        run.turn()
        assert run.status.remote_id == ID

    def test_a_search_that_is_refused_does_not_end_the_run(self) -> None:
        run = Run().intended()
        run.readiness = Blocked("WorkspaceNotReady", "being checked", waiting=True)
        run.trouble("Refused", reason="RequestRefused", action="Locate").turn()
        assert run.status.phase != "Failed"


class TestWaitingInOtherWords:
    def test_a_message_that_differs_in_numbers_only_is_not_written_again(self) -> None:
        run = Run()
        for told in ("no answer after 2 ms (request 5f-3a)", "no answer after 40 ms (request 99-1b)"):
            run.readiness = Blocked("GitUnreachable", told, waiting=True)
            run.turn()
        assert run.message == "no answer after 2 ms (request 5f-3a)"

    def test_one_that_says_something_else_is(self) -> None:
        run = Run()
        for told in ("CREATE MODEL and USE SCHEMA are missing", "CREATE MODEL is missing"):
            run.readiness = Blocked("PermissionMissing", told, waiting=False)
            run.turn()
        assert run.message == "CREATE MODEL is missing"


class TestRunningAs:
    def test_the_code_ran_as_whom_it_was_asked_to_and_not_as_who_submitted_it(self) -> None:
        run = Run()
        run.readiness = replace(READY, run_as="reader")
        run.intended().see(submitted=Submitted(ID, None, START)).turn()
        run.see(remote=RemoteRun(ID, Stage.RUNNING, "RUNNING", ran_as="app-id")).turn()
        assert run.status.identity is not None
        assert run.status.identity.ran_as == "reader"
        ended = RemoteRun(ID, Stage.ENDED, "TERMINATED", End.SUCCEEDED, ran_as="app-id")
        run.see(remote=ended, result=Result()).turn()
        assert (run.status.phase, run.status.identity.ran_as) == ("Succeeded", "reader")


class TestClassifying:
    def test_what_was_printed_says_more_exactly_why_the_code_failed(self) -> None:
        run = Run().running().ended(End.CODE, Result(end=End.OUT_OF_MEMORY, error="MemoryError"))
        run.turn()
        assert run.reason == "OutOfMemory"
        assert "larger compute class" in run.message

    @pytest.mark.parametrize("said", [End.SUCCEEDED, End.CANCELLED, End.TIMED_OUT])
    def test_but_never_against_the_platforms_own_word(self, said: End) -> None:
        run = Run().running().ended(said, Result(end=End.OUT_OF_MEMORY))
        run.turn()
        assert run.reason == said.value
