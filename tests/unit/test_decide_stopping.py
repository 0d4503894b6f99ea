"""How runs are stopped: by a person, by a deadline, by deletion."""

from datetime import timedelta

import pytest

from tests.unit.runs import START, Run
from trainyard.core.actions import Cancel, Locate, RemoveFinalizer, Watch
from trainyard.core.remote import End, RemoteRun, Result, Stage
from trainyard.core.snapshot import Limits


class TestStopping:
    def test_cancel_before_anything_started_is_final_at_once(self) -> None:
        run = Run(cancel=True)
        run.turn()
        assert (run.status.phase, run.reason) == ("Cancelled", "Cancelled")

    def test_cancel_is_latched_then_asked_then_believed_only_from_the_platform(self) -> None:
        run = Run().running().edit(cancel=True)
        run.turn()
        assert run.status.phase == "Cancelling"
        assert run.turn().action == Cancel("9007199254740993")
        run.see(cancel_sent_at=run.now)
        assert run.turn().action == Watch()
        assert run.status.phase == "Cancelling"
        run.ended(End.CANCELLED).turn()
        assert run.status.phase == "Cancelled"

    def test_a_latched_stop_survives_an_edit(self) -> None:
        run = Run().running().edit(cancel=True)
        run.turn()
        run.edit(cancel=False).turn()
        assert run.status.stop is not None
        assert run.status.phase == "Cancelling"

    def test_a_run_that_had_succeeded_before_the_cancel_took_effect_has_succeeded(self) -> None:
        run = Run().running().edit(cancel=True)
        run.turn()
        run.ended(End.SUCCEEDED, Result({"a": "1"})).turn()
        assert run.status.phase == "Succeeded"

    def test_cancel_in_doubt_searches_and_starts_nothing(self) -> None:
        run = Run().intended().edit(cancel=True)
        run.turn()
        assert run.turn().action == Locate()
        run.see(searched_at=run.now)
        assert run.turn().action is None
        run.later(30)
        assert run.turn().action == Locate()
        run.see(searched_at=run.now).turn()
        assert run.status.phase == "Cancelled"

    def test_cancel_in_doubt_stops_what_the_search_found(self) -> None:
        run = Run().intended().edit(cancel=True)
        run.turn()
        run.see(searched_at=run.now, located="77").turn()
        assert run.status.attempts[0].remote_id == "77"
        assert run.turn().action == Cancel("77")

    @pytest.mark.parametrize(
        ("spec", "reason", "seconds"),
        [
            ({"timeoutSeconds": 100}, "TimedOut", 100),
            ({"queueTimeoutSeconds": 50}, "QueueTimedOut", 50),
            ({"attemptTimeoutSeconds": 40}, "AttemptTimedOut", 100),
        ],
    )
    def test_each_deadline_stops_the_remote_run(self, spec: dict[str, int], reason: str, seconds: int) -> None:
        run = Run(**spec).submitted().remote(Stage.QUEUED, "QUEUED")
        decision = run.turn()
        assert decision.wake_at == START + timedelta(seconds=seconds)
        run.later(seconds - 1).turn()
        assert run.status.stop is None
        run.later(1).turn()
        assert run.status.stop is not None
        assert run.status.stop.reason == reason
        assert run.turn().action == Cancel("9007199254740993")
        run.ended(End.CANCELLED).turn()
        assert (run.status.phase, run.reason) == ("TimedOut", reason)

    def test_the_queue_deadline_ends_with_the_queue(self) -> None:
        run = Run(queueTimeoutSeconds=50).running().later(51)
        run.turn()
        assert run.status.phase == "Running"

    def test_a_platform_that_cancels_what_ran_out_of_time_has_timed_it_out(self) -> None:
        run = Run().running().ended(End.CANCELLED, Result(end=End.TIMED_OUT))
        run.turn()
        assert run.reason == "AttemptTimedOut"

    def test_the_build_of_an_image_does_not_count_as_waiting_for_machines(self) -> None:
        building = RemoteRun("9007199254740993", Stage.BUILDING, "Preparing", builds_image=True)
        run = Run(queueTimeoutSeconds=50).submitted().see(remote=building)
        run.turn()
        run.later(1800).turn()
        assert (run.status.phase, run.status.stop) == ("BuildingEnvironment", None)
        run.remote(Stage.QUEUED, "Queued").turn()
        run.later(49).turn()
        assert (run.status.phase, run.status.stop) == ("Queued", None)
        run.later(1).turn()
        assert run.status.stop is not None
        assert run.status.stop.reason == "QueueTimedOut"

    def test_the_queue_deadline_needs_a_look_because_the_code_may_have_started_meanwhile(self) -> None:
        run = Run(queueTimeoutSeconds=50).submitted().later(600)
        assert run.turn().action == Watch()
        run.remote(Stage.RUNNING, "RUNNING").turn()
        assert run.status.phase == "Running"

    def test_a_stop_believes_that_a_run_is_over_in_whatever_words(self) -> None:
        run = Run().running().edit(cancel=True)
        run.turn()
        over = RemoteRun("9007199254740993", Stage.UNKNOWN, "TERMINATED/EVAPORATED", over=True)
        run.see(remote=over).turn()
        assert run.status.phase == "Cancelled"

    def test_the_overall_deadline_also_ends_a_pause(self) -> None:
        run = Run(timeoutSeconds=20, retry={"limit": 3, "backoffSeconds": 60}).running().ended(End.INFRASTRUCTURE)
        run.turn()
        run.later(20).turn()
        assert (run.status.phase, run.reason) == ("TimedOut", "TimedOut")

    def test_a_cancel_that_got_no_answer_is_sent_again(self) -> None:
        run = Run().running().edit(cancel=True)
        run.turn()
        run.see(cancel_sent_at=run.now)
        assert run.turn().action == Watch()
        assert run.later(61).turn().action == Cancel("9007199254740993")


class TestDeleting:
    def test_a_run_without_a_live_attempt_is_let_go(self) -> None:
        run = Run()
        run.finalizer, run.deleting = True, START
        assert run.turn().action == RemoveFinalizer()

    def test_a_live_remote_run_is_stopped_first(self) -> None:
        run = Run().running()
        run.deleting = run.now
        assert run.turn().action == Cancel("9007199254740993")
        run.see(cancel_sent_at=run.now)
        assert run.turn().action == Watch()
        run.remote(Stage.ENDED, "TERMINATED", End.CANCELLED)
        assert run.turn().action == RemoveFinalizer()

    def test_orphan_leaves_it(self) -> None:
        run = Run(deletionPolicy="Orphan").running()
        run.deleting = run.now
        assert run.turn().action == RemoveFinalizer()

    def test_orphan_leaves_it_also_where_the_spec_can_not_be_read(self) -> None:
        """An operator of before may not know a value that the spec has."""
        run = Run(deletionPolicy="Orphan").running()
        run.deleting, run.unreadable = run.now, "spec.compute: no such kind of compute"
        assert run.turn().action == RemoveFinalizer()

    def test_an_intent_in_doubt_is_searched_for_and_never_submitted(self) -> None:
        run = Run().intended()
        run.deleting = run.now
        assert run.turn().action == Locate()
        run.see(searched_at=run.now)
        assert run.turn().action is None
        run.later(31)
        assert run.turn().action == Locate()
        run.see(searched_at=run.now)
        assert run.turn().action == RemoveFinalizer()

    def test_a_platform_that_is_gone_does_not_hold_the_object_for_ever(self) -> None:
        run = Run(limits=Limits(deletion_deadline=60)).running().trouble("Unreachable", pause=1000)
        run.deleting = run.now
        decision = run.turn()
        assert decision.wake_at == run.now + timedelta(seconds=60)
        decision = run.later(60).turn()
        assert decision.action == RemoveFinalizer()
        assert decision.notes[0].reason == "RemoteRunLeft"
        assert "9007199254740993" in decision.notes[0].message

    def test_an_operator_that_was_down_first_tries_to_stop_it(self) -> None:
        run = Run().running()
        run.deleting = run.now
        run.later(86_400)
        assert run.turn().action == Cancel("9007199254740993")

    def test_a_search_that_is_put_off_does_not_outlast_the_deadline(self) -> None:
        run = Run(limits=Limits(deletion_deadline=60)).intended().trouble("Unreachable", pause=3600)
        run.deleting = run.now
        assert run.turn().wake_at == run.now + timedelta(seconds=60)

    def test_nothing_new_is_started(self) -> None:
        run = Run()
        run.deleting = START
        assert run.turn().action is None
        assert run.status.attempts == []
