"""Every rule that moves a run, and their order."""

from datetime import timedelta

import pytest

from tests.unit.runs import READY, START, Run
from trainyard.core.actions import AddFinalizer, Collect, Locate, RemoveFinalizer, Submit, Watch
from trainyard.core.conditions import FINAL, TRUE_IN, TYPES
from trainyard.core.decide import RULES
from trainyard.core.ending import END_PHASE, RETRIED_ALWAYS, RETRIED_ON_ANY
from trainyard.core.remote import End, ModelVersion, RemoteRun, Result, Stage, Submitted
from trainyard.core.snapshot import Blocked, Ready, Target
from trainyard.core.times import parse
from trainyard.core.tokens import submission_token


def test_the_order_of_the_rules_is_pinned() -> None:
    assert [rule.__name__ for rule in RULES] == [
        "finished",
        "deleting",
        "unreadable",
        "stop_requested",
        "stopping",
        "collecting",
        "following",
        "submitting",
        "suspended",
        "planned",
        "blocked",
        "backing_off",
        "intend",
    ]


class TestTheWayThrough:
    def test_the_finalizer_comes_before_the_intent(self) -> None:
        run = Run()
        assert run.turn().action == AddFinalizer()
        assert run.status.attempts == []

    def test_the_intent_is_complete_before_anything_is_submitted(self) -> None:
        run = Run().intended()
        (attempt,) = run.status.attempts
        assert attempt.submission_token == "ty-5b3c-1"
        assert (attempt.host, attempt.principal, attempt.mode) == ("https://dbc.example", "app-id", "federated")
        assert attempt.code_digest == "sha256:code"
        assert attempt.remote_id is None
        assert run.status.phase == "Submitting"
        assert run.turn().action == Submit()

    def test_a_restart_between_intent_and_submit_uses_the_same_token(self) -> None:
        run = Run().intended()
        before = run.status.attempts[0].submission_token
        decision = run.later(600).turn()
        assert decision.action == Submit()
        assert [a.submission_token for a in run.status.attempts] == [before]

    def test_the_submission_key_stands_for_the_uid(self) -> None:
        run = Run(submissionKey="iris-2026-11").intended()
        token = submission_token("team", "iris", "another uid", "iris-2026-11", 1)
        assert run.status.attempts[0].submission_token == token

    def test_the_remote_id_is_written_and_watched(self) -> None:
        run = Run().intended()
        run.see(submitted=Submitted("9007199254740993", "mlflow-1", run.now))
        decision = run.turn()
        assert decision.action == Watch()
        assert run.status.attempts[0].remote_id == run.status.remote_id == "9007199254740993"
        assert run.status.attempts[0].mlflow_run_id == "mlflow-1"
        assert run.status.phase == "Queued"

    def test_running_is_shown_once(self) -> None:
        run = Run().running()
        before = run.status
        run.later(30).remote(Stage.RUNNING, "TERMINATING").turn()
        assert run.status == before

    def test_success_needs_the_result_first(self) -> None:
        run = Run().running().remote(Stage.ENDED, "TERMINATED", End.SUCCEEDED)
        assert run.turn().action == Collect()
        assert run.status.phase == "Running"

    def test_success_is_complete_and_then_the_object_is_let_go(self) -> None:
        model = ModelVersion("main.ml.iris", "3", "models:/main.ml.iris/3", "challenger")
        run = Run().running().later(133).ended(End.SUCCEEDED, Result({"accuracy": "0.9"}, model=model))
        run.turn()
        assert run.status.phase == "Succeeded"
        assert run.status.metrics == {"accuracy": "0.9"}
        assert run.status.model is not None
        assert run.status.model.version == "3"
        assert run.status.duration == "2m13s"
        assert run.turn().action == RemoveFinalizer()
        run.finalizer = False
        assert run.turn().action is None

    def test_metrics_are_bounded(self) -> None:
        run = Run().running().ended(End.SUCCEEDED, Result({f"m{i:04}": "1" for i in range(500)}))
        run.turn()
        assert len(run.status.metrics) == 100

    def test_a_model_that_was_promised_and_is_missing_is_a_failure(self) -> None:
        shortfall = ("ModelNotRegistered", "no version was registered")
        run = Run().running().ended(End.SUCCEEDED, Result(shortfall=shortfall))
        run.turn()
        assert (run.status.phase, run.reason) == ("Failed", "ModelNotRegistered")

    def test_an_unknown_state_is_watched_and_never_done(self) -> None:
        run = Run().running().remote(Stage.UNKNOWN, "HIBERNATING")
        decision = run.turn()
        assert decision.action == Watch()
        assert (run.status.phase, run.reason) == ("Running", "RemoteStateUnknown")
        assert "HIBERNATING" in run.message
        assert run.status.attempts[0].remote_state == "HIBERNATING"


class TestReferences:
    def test_what_may_yet_appear_is_waited_for(self) -> None:
        run = Run()
        run.readiness = Blocked("WorkspaceNotFound", "create it", waiting=True)
        decision = run.turn()
        assert (run.status.phase, run.reason) == ("Pending", "WorkspaceNotFound")
        assert decision.wake_at == START + timedelta(seconds=15)
        assert run.status.started_at is not None

    def test_waiting_ends_with_asking_for_a_person_and_still_recovers(self) -> None:
        run = Run()
        run.readiness = Blocked("WorkspaceNotFound", "create it", waiting=True)
        run.turn()
        decision = run.later(3600).turn()
        assert run.status.phase == "Stalled"
        assert [note.type for note in decision.notes] == ["Warning"]
        assert run.later(60).turn().notes == ()
        run.readiness = READY
        assert run.turn().action == AddFinalizer()

    def test_what_only_a_person_can_mend_is_stalled_at_once(self) -> None:
        run = Run()
        run.readiness = Blocked("ComputeClassUnknown", "no such class", waiting=False)
        run.turn()
        assert (run.status.phase, run.reason) == ("Stalled", "ComputeClassUnknown")

    def test_waiting_is_written_once(self) -> None:
        run = Run()
        run.readiness = Blocked("WorkspaceNotFound", "create it", waiting=True)
        run.turn()
        before = run.status
        run.later(10).turn()
        assert run.status is before or run.status == before

    def test_an_intent_is_not_submitted_to_a_workspace_that_went_away(self) -> None:
        run = Run().intended()
        run.readiness = Blocked("WorkspaceNotFound", "create it", waiting=True)
        assert run.turn().action == Locate()
        assert run.see(searched_at=run.now).turn().action is None
        assert run.status.phase == "Pending"

    def test_an_intent_that_was_accepted_before_a_crash_is_followed_whatever_went_away(self) -> None:
        run = Run().intended()
        run.readiness = Blocked("CodeNotFound", "create it", waiting=True)
        assert run.turn().action == Locate()
        found = RemoteRun("77", Stage.RUNNING, "RUNNING", mlflow_run_id="mlflow-7")
        run.see(searched_at=run.now, located="77", remote=found).turn()
        assert run.status.attempts[0].remote_id == "77"
        assert run.status.attempts[0].mlflow_run_id == "mlflow-7"

    def test_a_search_that_fails_does_not_hide_what_is_in_the_way(self) -> None:
        run = Run().intended()
        run.readiness = Blocked("WorkspaceNotFound", "create it", waiting=True)
        run.trouble("Unreachable", action="Locate").turn()
        assert (run.status.phase, run.reason) == ("Pending", "WorkspaceNotFound")
        assert run.later(2).turn().action == Locate()

    def test_waiting_counts_from_the_last_attempt(self) -> None:
        run = Run(retry={"limit": 3, "backoffSeconds": 60}).running().later(7200).ended(End.INFRASTRUCTURE)
        run.turn()
        run.readiness = Blocked("WorkspaceNotReady", "wait", waiting=True)
        run.later(60).turn()
        assert run.status.phase == "Pending"
        run.later(3600).turn()
        assert run.status.phase == "Stalled"

    def test_a_pause_is_shown_again_after_something_stood_in_the_way(self) -> None:
        run = Run(retry={"limit": 3, "backoffSeconds": 60}).running().ended(End.INFRASTRUCTURE)
        run.turn()
        run.readiness = Blocked("RuntimeUnknown", "no such runtime", waiting=False)
        run.turn()
        assert run.status.phase == "Stalled"
        run.readiness = READY
        run.turn()
        assert (run.status.phase, run.reason) == ("Pending", "RetryBackoff")

    def test_submitting_is_shown_again_after_something_stood_in_the_way(self) -> None:
        run = Run().intended().see(searched_at=START)
        run.readiness = Blocked("RuntimeUnknown", "no such runtime", waiting=False)
        run.turn()
        run.readiness = READY
        run.turn()
        assert run.status.phase == "Submitting"
        assert run.turn().action == Submit()

    def test_a_live_run_is_followed_whatever_became_of_its_workspace(self) -> None:
        run = Run().running()
        run.readiness = Blocked("WorkspaceNotFound", "create it", waiting=True)
        assert run.turn().action == Watch()
        assert run.status.phase == "Running"

    def test_a_spec_that_can_not_be_read_needs_a_person(self) -> None:
        run = Run()
        run.unreadable = "spec.compute: Field required"
        run.turn()
        assert (run.status.phase, run.reason) == ("Stalled", "InvalidSpec")
        assert "spec.compute" in run.message


class TestSpecChanges:
    @pytest.mark.parametrize("change", [{"databricks": {"b": 1}}, {"params": {"n": "2"}}])
    def test_a_changed_spec_is_never_submitted(self, change: dict[str, object]) -> None:
        run = Run(databricks={"a": 1}).intended().edit(**change)
        assert run.turn().action == Locate()
        assert run.see(searched_at=run.now).turn().action is None
        assert (run.status.phase, run.reason) == ("Stalled", "SpecChanged")

    def test_changed_code_is_not_retried(self) -> None:
        run = Run().running().ended(End.INFRASTRUCTURE)
        run.turn()
        run.readiness = Ready(READY.target, "sha256:other")
        run.later(60).turn()
        assert (run.status.phase, run.reason) == ("Stalled", "SpecChanged")

    @pytest.mark.parametrize("change", [{"cancel": False}, {"deletionPolicy": "Orphan"}, {"retry": {"limit": 5}}])
    def test_what_may_change_does_not_count_as_a_change(self, change: dict[str, object]) -> None:
        run = Run(retry={"limit": 1}).intended().edit(**change)
        assert run.turn().action == Submit()


class TestSubmissionTrouble:
    def test_a_slow_platform_is_asked_again_when_it_may_be(self) -> None:
        run = Run().intended().trouble("Unreachable", reason="PlatformUnreachable", pause=4)
        decision = run.turn()
        assert decision.action is None
        assert decision.wake_at == run.now + timedelta(seconds=4)
        assert run.status.phase == "Submitting"
        assert run.later(4).turn().action == Submit()

    def test_trouble_is_told_once_it_lasts(self) -> None:
        run = Run().intended().trouble("Unreachable", reason="PlatformUnreachable")
        run.turn()
        assert run.reason == "Submitting"
        run.later(20).trouble("Unreachable", reason="PlatformUnreachable")
        run.turn()
        assert (run.status.phase, run.reason) == ("Submitting", "PlatformUnreachable")

    @pytest.mark.parametrize("kind", ["Denied", "IdentityError", "Unauthenticated", "Missing"])
    def test_what_a_person_must_mend_stalls_and_is_tried_again(self, kind: str) -> None:
        run = Run().intended().trouble(kind, pause=30)
        decision = run.turn()
        assert run.status.phase == "Stalled"
        assert decision.notes
        assert run.turn().notes == ()
        assert run.later(30).turn().action == Submit()

    @pytest.mark.parametrize("kind", ["Refused", "SubmissionDeleted"])
    def test_what_can_never_be_accepted_fails_without_another_token(self, kind: str) -> None:
        run = Run().intended().see(searched_at=START).trouble(kind)
        run.turn()
        assert run.status.phase == "Failed"
        assert len(run.status.attempts) == 1
        assert run.turn().action == RemoveFinalizer()

    def test_an_identity_that_may_yet_be_known_is_waited_for_ten_minutes(self) -> None:
        run = Run().intended().trouble("IdentityError", reason="NoMatchingPolicy", waiting=True)
        run.turn()
        assert run.status.phase == "Submitting"
        run.later(599).trouble("IdentityError", reason="NoMatchingPolicy", waiting=True).turn()
        assert (run.status.phase, run.reason) == ("Submitting", "NoMatchingPolicy")
        run.later(1).trouble("IdentityError", reason="NoMatchingPolicy", waiting=True).turn()
        assert run.status.phase == "Stalled"


class TestFollowingTrouble:
    def test_an_unreachable_platform_is_told_and_the_telling_ends(self) -> None:
        run = Run().running().trouble("Unreachable", reason="PlatformUnreachable")
        run.turn()
        assert run.reason == "Running"
        run.later(20).trouble("Unreachable", reason="PlatformUnreachable").turn()
        assert (run.status.phase, run.reason) == ("Running", "PlatformUnreachable")
        run.later(20).remote(Stage.RUNNING, "RUNNING").turn()
        assert run.reason == "Running"

    def test_troubles_that_come_and_go_are_told_once(self) -> None:
        run = Run().running().trouble("Unreachable", reason="PlatformUnreachable")
        run.later(20).turn()
        told = run.status
        for reason in ("PlatformThrottled", "PlatformUnreachable", "PlatformThrottled"):
            run.later(10).trouble("Unreachable", reason=reason).turn()
        assert run.status == told

    def test_a_result_that_is_refused_for_long_is_given_up(self) -> None:
        run = Run().running().remote(Stage.ENDED, "TERMINATED", End.SUCCEEDED)
        run.trouble("Denied", reason="PermissionDenied", action="Collect").turn()
        assert run.status.phase == "Running"
        run.later(600).turn()
        assert (run.status.phase, run.reason) == ("Failed", "ResultNotCollected")

    def test_a_result_is_waited_for_as_long_as_the_platform_is_away(self) -> None:
        run = Run().running().remote(Stage.ENDED, "TERMINATED", End.SUCCEEDED)
        run.trouble("Unreachable", reason="PlatformUnreachable", action="Collect").later(86_000)
        assert run.turn().action == Collect()

    def test_a_run_that_vanished_fails_and_never_starts_another(self) -> None:
        run = Run(retry={"limit": 5, "when": "Any"}).running().see(vanished=True)
        run.turn()
        assert (run.status.phase, run.reason) == ("Failed", "RemoteRunVanished")
        assert len(run.status.attempts) == 1


class TestRetries:
    @pytest.mark.parametrize("end", sorted(set(End) - {End.SUCCEEDED}))
    @pytest.mark.parametrize("when", ["Infrastructure", "Any"])
    def test_only_what_a_retry_may_mend_is_retried(self, end: End, when: str) -> None:
        run = Run(retry={"limit": 1, "when": when, "backoffSeconds": 30}).running().ended(end)
        run.turn()
        if end in (RETRIED_ON_ANY if when == "Any" else RETRIED_ALWAYS):
            assert (run.status.phase, run.reason) == ("Pending", "RetryBackoff")
            run.later(29).turn()
            assert len(run.status.attempts) == 1
            run.later(1).turn()
            assert [a.submission_token for a in run.status.attempts] == ["ty-5b3c-1", "ty-5b3c-2"]
        else:
            assert run.status.phase == END_PHASE.get(end, "Failed")
            assert run.reason == end.value

    def test_the_limit_holds_and_the_pauses_double_up_to_the_cap(self) -> None:
        run = Run(retry={"limit": 3, "backoffSeconds": 10, "maxBackoffSeconds": 25}).running()
        pauses = []
        for _ in range(4):
            run.ended(End.INFRASTRUCTURE).turn()
            if run.status.retry_at is None:
                break
            pauses.append((parse(run.status.retry_at) - run.now).total_seconds())
            run.later(pauses[-1]).submitted()
        assert pauses == [10, 20, 25]
        assert run.status.phase == "Failed"
        assert len(run.status.attempts) == 4

    def test_each_attempt_keeps_why_it_ended(self) -> None:
        run = Run(retry={"limit": 1}).running().ended(End.INFRASTRUCTURE, message="spot instance lost")
        run.turn()
        (attempt,) = run.status.attempts
        assert attempt.reason == "InfrastructureFailed"
        assert attempt.message is not None
        assert "spot instance lost" in attempt.message


class TestConditions:
    @pytest.mark.parametrize("phase", sorted(TRUE_IN))
    def test_ready_means_done_and_stalled_means_a_person(self, phase: str) -> None:
        true = TRUE_IN[phase]  # type: ignore[index]
        assert ("Ready" in true) == (phase == "Succeeded")
        assert not {"Reconciling", "Stalled"} <= true
        assert ("Failed" in true) == (phase in FINAL - {"Succeeded"})

    def test_all_five_are_always_there(self) -> None:
        run = Run().running()
        assert [c.type for c in run.status.conditions] == list(TYPES)

    def test_a_transition_time_moves_only_with_its_status(self) -> None:
        run = Run().intended()
        before = run.status.condition("Reconciling")
        run.later(50).see()
        run.see(submitted=Submitted("1", None, run.now)).turn()
        after = run.status.condition("Reconciling")
        assert before is not None
        assert after is not None
        assert after.last_transition_time == before.last_transition_time
        assert after.reason != before.reason

    def test_a_stalled_run_acknowledges_a_new_generation(self) -> None:
        run = Run(retry={"limit": 1}).intended().trouble("Denied", pause=60)
        run.turn()
        run.edit(retry={"limit": 2}).turn()
        assert run.status.phase == "Stalled"
        assert run.status.observed_generation == 2

    def test_a_final_run_still_acknowledges_a_new_generation(self) -> None:
        run = Run().running().ended(End.SUCCEEDED)
        run.turn()
        run.finalizer = False
        run.edit(deletionPolicy="Orphan").turn()
        assert run.status.observed_generation == 2
        assert run.status.phase == "Succeeded"


def test_attempts_are_pinned_to_where_they_went() -> None:
    run = Run().running().ended(End.INFRASTRUCTURE)
    run.turn()
    run.readiness = Ready(Target("databricks", "https://dbc.example", "other-app", "federated", "other"), "sha256:code")
    run.later(60).turn()
    assert [a.principal for a in run.status.attempts] == ["app-id", "other-app"]
