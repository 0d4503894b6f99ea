"""Suspend, resume, plan, retire: what a run goes through beside its way from submission to end."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.runs import READY, START, Run
from trainyard.api.run_status import Check, Plan
from trainyard.core.actions import Cancel, CleanUp, Collect, DeleteRun, Locate
from trainyard.core.decide import ATTEMPTS_KEPT
from trainyard.core.remote import End, Result, Stage, Submitted
from trainyard.core.snapshot import Blocked

ID = "9007199254740993"


def suspended() -> Run:
    run = Run().running().edit(suspend=True)
    run.turn()
    run.ended(End.CANCELLED)
    run.turn()
    assert run.status.phase == "Suspended"
    return run


class TestSuspending:
    def test_a_run_that_is_suspended_from_the_start_asks_nobody_and_waits_without_a_clock(self) -> None:
        run = Run(suspend=True, timeoutSeconds=60)
        decision = run.turn()
        assert (run.status.phase, decision.action, decision.wake_at) == ("Suspended", None, None)
        again = run.later(3600).turn()
        assert (run.status.phase, again.action, again.wake_at) == ("Suspended", None, None)
        assert run.status.attempts == []

    def test_a_live_attempt_is_stopped_first(self) -> None:
        run = Run().running().edit(suspend=True)
        run.turn()
        assert (run.status.phase, run.reason) == ("Cancelling", "Suspended")
        assert run.turn().action == Cancel(ID)
        run.remote(Stage.ENDED, "TERMINATED", End.CANCELLED)
        assert run.turn().action == Collect()
        run.see(result=Result())
        run.turn()
        assert (run.status.phase, run.status.stop) == ("Suspended", None)
        assert run.status.attempts[-1].reason == "Suspended"

    def test_every_condition_is_false_while_suspended(self) -> None:
        assert {c.status for c in suspended().status.conditions} == {"False"}

    def test_an_intent_in_doubt_is_searched_for_before_the_run_counts_as_suspended(self) -> None:
        run = Run().intended().edit(suspend=True)
        run.turn()
        assert run.turn().action == Locate()

    def test_an_attempt_that_ended_well_meanwhile_has_succeeded(self) -> None:
        run = Run().running().edit(suspend=True)
        run.turn()
        run.ended(End.SUCCEEDED)
        run.turn()
        assert (run.status.phase, run.status.stop) == ("Succeeded", None)

    def test_an_attempt_that_failed_by_itself_meanwhile_has_failed(self) -> None:
        run = Run().running().edit(suspend=True)
        run.turn()
        run.ended(End.CODE)
        run.turn()
        assert (run.status.phase, run.reason, run.status.stop) == ("Failed", "CodeFailed", None)

    def test_a_cancel_goes_before_a_suspension(self) -> None:
        run = Run().running().edit(suspend=True)
        run.turn()
        run.edit(cancel=True)
        run.turn()
        assert run.status.stop is not None
        assert run.status.stop.reason == "Cancelled"
        run.ended(End.CANCELLED)
        run.turn()
        assert run.status.phase == "Cancelled"

    def test_a_suspended_run_can_be_cancelled(self) -> None:
        run = suspended().edit(cancel=True)
        run.turn()
        assert run.status.phase == "Cancelled"

    def test_a_pause_before_a_retry_is_suspended_too(self) -> None:
        run = Run().running().ended(End.INFRASTRUCTURE)
        run.turn()
        run.edit(suspend=True).turn()
        assert (run.status.phase, run.status.retry_at, run.status.retries) == ("Suspended", None, 1)

    def test_deadlines_do_not_pass_while_suspended_and_begin_anew_when_resumed(self) -> None:
        run = Run(timeoutSeconds=100, suspend=True)
        run.turn()
        run.later(1000).edit(suspend=False).turn()
        assert run.reason == "Resumed"
        run.later(99).turn()
        assert run.reason != "TimedOut"
        run.later(2).turn()
        assert run.reason == "TimedOut"


class TestResuming:
    def test_a_new_attempt_is_made_that_does_not_count_against_the_limit(self) -> None:
        run = suspended().edit(suspend=False)
        run.turn()
        assert (run.status.phase, run.reason) == ("Pending", "Resumed")
        run.turn()
        assert [each.number for each in run.status.attempts] == [1, 2]
        for _ in range(2):
            run.see(submitted=Submitted(ID, None, run.now)).turn()
            run.ended(End.INFRASTRUCTURE).turn()
            assert run.reason == "RetryBackoff"
            run.later(700).turn()
        run.see(submitted=Submitted(ID, None, run.now)).turn()
        run.ended(End.INFRASTRUCTURE).turn()
        assert run.status.phase == "Failed"
        assert run.status.retries == 2

    def test_the_new_attempt_has_a_token_of_its_own(self) -> None:
        run = suspended().edit(suspend=False)
        run.turn()
        run.turn()
        first, second = run.status.attempts
        assert first.submission_token != second.submission_token

    def test_what_is_missing_after_a_long_suspension_is_waited_for_as_long_as_ever(self) -> None:
        run = Run(suspend=True)
        run.turn()
        run.later(90_000).edit(suspend=False)
        run.readiness = Blocked("CodeNotFound", "no ConfigMap", waiting=True)
        run.turn()
        run.turn()
        assert (run.status.phase, run.reason) == ("Pending", "CodeNotFound")

    def test_the_history_of_attempts_is_bounded_however_often_a_run_is_suspended(self) -> None:
        run = suspended()
        for _ in range(40):
            run.edit(suspend=False).turn()
            run.turn()
            run.see(submitted=Submitted(ID, None, run.now)).turn()
            run.edit(suspend=True).turn()
            run.ended(End.CANCELLED).turn()
            assert run.status.phase == "Suspended"
        assert len(run.status.attempts) == ATTEMPTS_KEPT
        assert run.status.attempts[-1].number == 41


class TestLoweringTheLimit:
    def test_a_retry_that_is_waited_for_is_not_made_any_more(self) -> None:
        run = Run().running().ended(End.INFRASTRUCTURE)
        run.turn()
        run.edit(retry={"limit": 0}).turn()
        assert (run.status.phase, run.reason, run.status.retry_at) == ("Failed", "InfrastructureFailed", None)
        assert "retry.limit was lowered" in run.message

    def test_a_limit_that_still_allows_it_changes_nothing(self) -> None:
        run = Run(retry={"limit": 5}).running().ended(End.INFRASTRUCTURE)
        run.turn()
        run.edit(retry={"limit": 1}).turn()
        assert run.reason == "RetryBackoff"


class TestPlanning:
    PLAN = Plan(request="{}", checks=[Check(name="CREATE MODEL on main.ml", outcome="Missing", message="GRANT it")])

    def test_nothing_is_started_and_nothing_held(self) -> None:
        run = Run(planOnly=True)
        run.readiness = replace(READY, plan=self.PLAN)
        decision = run.turn()
        assert (run.status.phase, run.reason, decision.action) == ("Succeeded", "Planned", None)
        assert run.status.plan == self.PLAN
        assert "CREATE MODEL on main.ml" in run.message
        assert run.status.attempts == []
        assert run.turn().action is None

    def test_what_can_not_be_mended_by_waiting_ends_it(self) -> None:
        run = Run(planOnly=True)
        run.readiness = Blocked("ComputeClassUnknown", "no such class", waiting=False)
        run.turn()
        assert (run.status.phase, run.reason) == ("Failed", "ComputeClassUnknown")

    def test_what_may_yet_appear_is_waited_for(self) -> None:
        run = Run(planOnly=True)
        run.readiness = Blocked("WorkspaceNotReady", "being checked", waiting=True)
        run.turn()
        assert (run.status.phase, run.reason) == ("Pending", "WorkspaceNotReady")


class TestRetiring:
    def finished(self, **spec: Any) -> Run:
        run = Run(ttlSecondsAfterFinished=100, **spec).running().ended(End.SUCCEEDED)
        run.turn()
        run.finalizer = False
        return run

    def test_it_waits_until_the_time_is_up(self) -> None:
        run = self.finished()
        decision = run.later(40).turn()
        assert (decision.action, decision.wake_at) == (None, START + timedelta(seconds=100))

    def test_without_a_ttl_nothing_ever_happens_again(self) -> None:
        run = Run().running().ended(End.SUCCEEDED)
        run.turn()
        run.finalizer = False
        decision = run.later(10**8).turn()
        assert (decision.action, decision.wake_at) == (None, None)

    def test_uploads_go_first_and_then_the_object(self) -> None:
        run = self.finished().later(100)
        assert run.turn().action == CleanUp()
        assert run.see(cleaned="the source folder was removed").turn().action == DeleteRun()

    def test_a_run_without_an_attempt_has_no_uploads(self) -> None:
        run = Run(ttlSecondsAfterFinished=0, cancel=True)
        run.turn()
        assert run.status.phase == "Cancelled"
        assert run.turn().action == DeleteRun()

    @pytest.mark.parametrize("owner", ["Argo CD", "Flux"])
    def test_what_a_gitops_tool_tracks_is_kept_and_says_why_once(self, owner: str) -> None:
        run = self.finished().later(100).see(cleaned="the source folder was removed")
        run.tracked_by = owner
        decision = run.turn()
        assert decision.action is None
        assert run.status.cleanup is not None
        assert (run.status.cleanup.reason, run.status.phase) == ("UploadsRemoved", "Succeeded")
        assert f"kept, as {owner} tracks it" in run.status.cleanup.message
        assert [note.reason for note in decision.notes] == ["UploadsRemoved"]
        again = run.later(10**6).turn()
        assert (again.action, again.wake_at, again.notes) == (None, None, ())

    def test_a_platform_that_does_not_answer_is_waited_for(self) -> None:
        run = self.finished().later(100).trouble("Unreachable", reason="PlatformUnreachable", action="CleanUp")
        decision = run.later(1).turn()
        assert (decision.action, decision.wake_at) == (None, run.now + timedelta(seconds=1))
        assert run.later(1).turn().action == CleanUp()

    def test_a_platform_that_refuses_does_not_keep_the_object_for_ever(self) -> None:
        run = self.finished().later(100).trouble("Denied", reason="PermissionDenied", action="CleanUp")
        assert run.later(601).turn().action == DeleteRun()

    def test_uploads_that_stayed_are_told_of_where_the_object_is_kept(self) -> None:
        run = self.finished().later(100).trouble("Denied", reason="PermissionDenied", action="CleanUp")
        run.tracked_by = "Flux"
        run.later(601).turn()
        assert run.status.cleanup is not None
        assert run.status.cleanup.reason == "UploadsLeft"

    def test_an_object_that_is_being_deleted_is_left_alone(self) -> None:
        run = self.finished().later(100)
        run.deleting = run.now
        assert run.turn().action is None

    def test_a_ttl_may_be_set_or_taken_back_after_the_end(self) -> None:
        run = Run().running().ended(End.SUCCEEDED)
        run.turn()
        run.finalizer = False
        assert run.later(500).edit(ttlSecondsAfterFinished=100).turn().action == CleanUp()
        run.wire.pop("ttlSecondsAfterFinished")
        assert run.turn().action is None
