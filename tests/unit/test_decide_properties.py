"""Whatever happens to a run, in any order: one live remote run at most, an end to reach, conditions by the table."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.unit.runs import READY
from tests.unit.world import How, Paid, World
from trainyard.core.conditions import FINAL, TRUE_IN, TYPES
from trainyard.core.remote import End, Stage
from trainyard.core.snapshot import Blocked
from trainyard.core.tokens import submission_token

HOW: st.SearchStrategy[How] = st.sampled_from(["answered", "answer lost", "never arrived", "crashed after", "refused"])
ENDS = st.sampled_from(sorted(End))
PAUSES = st.sampled_from([1, 5, 20, 60, 400, 4000])
CALM = settings(max_examples=150, stateful_step_count=60, deadline=None, derandomize=True)


class Life(RuleBasedStateMachine):
    """Steps of the controller, doings of the platform and of people, in any order."""

    spec: dict[str, Any] = {"retry": {"limit": 3, "when": "Any"}}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.world = World(**self.spec)
        self.most_live = 0

    @rule(how=HOW)
    @precondition(lambda self: self.world.exists)
    def the_controller_goes_on(self, how: How) -> None:
        self.world.step(how)

    @rule(count=st.integers(1, 12))
    @precondition(lambda self: self.world.exists)
    def all_goes_well_for_a_while(self, count: int) -> None:
        for _ in range(count):
            if self.world.exists:
                self.world.step()

    @rule(seconds=PAUSES)
    def time_passes(self, seconds: int) -> None:
        self.world.run.later(seconds)

    @rule()
    def the_operator_restarts(self) -> None:
        self.world.restart()

    @rule(stage=st.sampled_from([Stage.QUEUED, Stage.BUILDING, Stage.RUNNING, Stage.UNKNOWN]))
    @precondition(lambda self: self.world.live)
    def the_platform_moves_on(self, stage: Stage) -> None:
        self.world.live[0].stage = stage

    @rule(end=ENDS)
    @precondition(lambda self: self.world.live)
    def the_remote_run_ends(self, end: End) -> None:
        self.world.live[0].end = end

    @rule()
    @precondition(lambda self: self.world.newest is not None)
    def somebody_deletes_the_remote_run(self) -> None:
        self.world.vanish()

    @rule(waiting=st.booleans())
    def something_goes_missing(self, waiting: bool) -> None:
        self.world.run.readiness = Blocked("CodeNotFound", "no ConfigMap", waiting)

    @rule()
    def everything_is_there(self) -> None:
        self.world.run.readiness = READY

    @rule(suspend=st.booleans())
    def somebody_suspends_or_resumes(self, suspend: bool) -> None:
        self.world.run.edit(suspend=suspend)

    @rule(limit=st.integers(0, 5))
    def somebody_changes_the_retry_limit(self, limit: int) -> None:
        self.world.run.edit(retry={**self.world.run.wire["retry"], "limit": limit})

    @rule(ttl=st.sampled_from([0, 100]))
    def somebody_sets_a_ttl(self, ttl: int) -> None:
        self.world.run.edit(ttlSecondsAfterFinished=ttl)

    @rule()
    def somebody_cancels(self) -> None:
        self.world.run.edit(cancel=True)

    @rule()
    @precondition(lambda self: self.world.run.finalizer)
    def somebody_deletes_the_resource(self) -> None:
        self.world.run.deleting = self.world.run.deleting or self.world.run.now

    @invariant()
    def never_two_live_remote_runs(self) -> None:
        assert len(self.world.live) <= 1, self.world.paid

    @invariant()
    def every_remote_run_belongs_to_an_attempt_that_was_written_first(self) -> None:
        newest = self.world.run.status.attempts[-1:] if self.world.run.status.attempts else []
        assert len(self.world.paid) <= (newest[0].number if newest else 0)

    @invariant()
    def the_conditions_are_those_of_the_phase(self) -> None:
        status = self.world.run.status
        if status.phase is not None:
            assert {c.type: c.status for c in status.conditions} == {
                kind: "True" if kind in TRUE_IN[status.phase] else "False" for kind in TYPES
            }

    @invariant()
    def a_final_run_pays_for_nothing(self) -> None:
        if self.world.run.status.phase in FINAL:
            assert self.world.live == []

    @invariant()
    def a_suspended_run_pays_for_nothing(self) -> None:
        if self.world.run.status.phase == "Suspended":
            assert self.world.live == []

    def teardown(self) -> None:
        """There is always a way to an end, and at the end nobody pays. A suspension takes hold of what runs on."""
        self.world.run.readiness = READY
        if self.world.run.wire.get("suspend"):
            self.world.settle(well=False)
            assert self.world.live == []
        self.world.calm()
        self.world.settle()
        assert self.world.live == []


class LifeOfARestoredRun(Life):
    spec = {"retry": {"limit": 2, "when": "Any"}, "submissionKey": "quarterly-2026", "timeoutSeconds": 5000}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        # The platform has the first two attempts of another life already.
        for number in (1, 2):
            token = submission_token("team", "iris", "any uid", "quarterly-2026", number)
            self.world.paid[token] = Paid(str(number), Stage.RUNNING, End.INFRASTRUCTURE)

    @invariant()
    def every_remote_run_belongs_to_an_attempt_that_was_written_first(self) -> None:
        return


TestAnyLife = pytest.mark.timeout(300)(Life.TestCase)
TestAnyLifeOfARestoredRun = pytest.mark.timeout(300)(LifeOfARestoredRun.TestCase)
for case in (TestAnyLife, TestAnyLifeOfARestoredRun):
    case.settings = settings(CALM, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])


def test_a_world_that_starts_a_run_per_submission_is_caught() -> None:
    """The check of the check: where tokens mean nothing, two remote runs do live at once."""
    world = World()
    world.submit = lambda token: world.paid.setdefault(f"{token}#{len(world.paid)}", Paid(str(len(world.paid))))  # type: ignore[method-assign]
    world.step()
    world.step()
    world.step("answer lost")
    world.run.later(5)
    for _ in range(4):
        world.step()
    assert len(world.live) > 1


def test_a_run_left_alone_succeeds_in_one_attempt() -> None:
    world = World()
    world.settle()
    assert world.run.status.phase == "Succeeded"
    assert len(world.paid) == 1
    assert timedelta(0) <= world.run.now - READY_SINCE < timedelta(minutes=5)


READY_SINCE = World().run.now
