"""Whatever happens to a deployment, in any order: requests are answered, an end is reached, and it is the spec's.

Both ways in which platforms change an endpoint are driven: one deployment after another, and all of it as one.
"""

from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.unit.serving_world import BROKEN, SLOW, START, TARGET, UID, WRONG, Apart, AsOne, How, World, config_of, model
from trainyard.api.deployment_status import MOST_REVISIONS
from trainyard.core.serving.conditions import BY_PHASE, TRUE_IN, TYPES
from trainyard.core.snapshot import Blocked

HOW: st.SearchStrategy[How] = st.sampled_from(["answered", "answer lost", "never arrived", "crashed after", "denied"])
PAUSES = st.sampled_from([1, 5, 20, 60, 400, 4000])
OUTCOMES: st.SearchStrategy[Literal["Passed", "Failed", "Waiting"]] = st.sampled_from(["Passed", "Failed", "Waiting"])
MODELS = st.sampled_from(
    [
        [model()],
        [model(version="2")],
        [model(version="3", replicas={"min": 2})],
        [model(version=BROKEN)],
        [model(version=SLOW)],
        [model(version=WRONG)],
        [model(alias="champion", followAlias=True)],
        [model(alias="champion")],
        [model(fromRun={"name": "churn-42"})],
        [model(traffic=70), model("challenger", "2", traffic=30)],
        [model(traffic=30), model("challenger", "2", traffic=70)],
        [model(version="2", traffic=100), model("shadow", BROKEN)],
    ]
)
SMOKE = {"smoke": {"rows": [{"alcohol": 9.4}]}}
BOUNDS = {"bounds": {"maxErrorPercent": 1}}
ROLLOUTS = st.sampled_from(
    [
        None,
        {"checks": SMOKE},
        {"promotion": "Manual", "checks": SMOKE},
        {"strategy": "Canary", "checks": SMOKE, "steps": [{"traffic": 10, "holdForSeconds": 30}, {"traffic": 50}]},
        {"strategy": "Canary", "promotion": "Manual", "steps": [{"traffic": 20, "checks": BOUNDS}]},
        {"strategy": "Canary", "steps": [{"traffic": 5, "checks": BOUNDS}], "readyWithinSeconds": 300},
    ]
)
GROUP = {"group": "analysts", "level": "CAN_QUERY"}
SETTINGS = st.sampled_from(
    [
        {"tags": {"team": "wine"}},
        {"tags": None},
        {"auth": "Key"},
        {"auth": None},
        {"permissions": [GROUP]},
        {"permissions": None},
    ]
)
CALM = settings(max_examples=40, stateful_step_count=40, deadline=None, derandomize=True)


class Life(RuleBasedStateMachine):
    """Steps of the controller, doings of the platform and of people, in any order."""

    platform: type[Apart] = Apart

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.platform)
        self.by_hand = False  # somebody else has touched the endpoint, or asked for it to go
        self.taken = False
        self.had_good = False
        self.ended = False  # its time was up, or another maker has made it again

    @property
    def remote(self) -> Apart:
        return self.world.platform

    # The controller.

    @rule(how=HOW)
    @precondition(lambda self: self.world.exists)
    def the_controller_goes_on(self, how: How) -> None:
        self.world.step(how)

    @rule(seconds=st.sampled_from([5, 30, 120, 900]))
    @precondition(lambda self: self.world.exists)
    def all_goes_well_for_a_while(self, seconds: int) -> None:
        self.world.after(seconds)

    @rule(seconds=PAUSES)
    def time_passes(self, seconds: int) -> None:
        self.world.later(seconds)

    @rule()
    def the_operator_restarts(self) -> None:
        self.world.restart()

    # People who write specs.

    @rule(models=MODELS)
    def somebody_wants_other_models(self, models: list[dict[str, Any]]) -> None:
        self.world.edit(models=models)

    @rule(rollout=ROLLOUTS)
    def somebody_wants_another_way(self, rollout: dict[str, Any] | None) -> None:
        self.world.edit(rollout=rollout)

    @rule(changes=SETTINGS)
    def somebody_changes_a_setting(self, changes: dict[str, Any]) -> None:
        self.world.edit(**changes)

    @rule(policy=st.sampled_from(["Report", "Revert"]))
    def somebody_changes_the_policy(self, policy: str) -> None:
        self.world.edit(driftPolicy=policy)

    @rule()
    @precondition(lambda self: self.world.status.revision)
    def somebody_promotes(self) -> None:
        self.world.edit(promote=self.world.status.revision)

    @rule(seconds=st.sampled_from([60, 5, None]))
    def its_time_is_set_or_taken_back(self, seconds: int | None) -> None:
        self.ended = self.by_hand = True
        lived = int((self.world.now - START).total_seconds())
        self.world.edit(expiresAfterSeconds=None if seconds is None else max(lived + seconds, 60))

    @rule(principal=st.sampled_from(["another-app", "app-id"]), consents=st.booleans())
    def the_workspace_has_another_identity(self, principal: str, consents: bool) -> None:
        self.ended = self.by_hand = True
        self.world.target = replace(TARGET, principal=principal)
        self.world.edit(recreateForCreator=consents or None)

    @rule(version=st.sampled_from(["1", "2", BROKEN]))
    def the_alias_moves(self, version: str) -> None:
        self.world.aliases["champion"] = version

    @rule()
    def the_run_registers(self) -> None:
        self.world.runs["churn-42"] = "2"

    @rule()
    def the_run_is_deleted(self) -> None:
        self.world.runs.pop("churn-42", None)

    @rule(waiting=st.booleans())
    def something_goes_missing(self, waiting: bool) -> None:
        self.world.blocked = Blocked("PermissionMissing", "EXECUTE on model ml.wine is missing", waiting)

    @rule()
    def everything_is_there(self) -> None:
        self.world.blocked = None

    @rule(version=st.sampled_from(["1", "2", "3"]), outcome=OUTCOMES)
    def requests_are_measured(self, version: str, outcome: Literal["Passed", "Failed", "Waiting"]) -> None:
        self.world.metrics[version] = outcome

    # People, and the platform, who work past the spec.

    @rule()
    @precondition(lambda self: self.remote.there and not self.remote.busy)
    def somebody_shifts_requests_by_hand(self) -> None:
        ready = sorted(name for name, box in self.remote.boxes.items() if box.state == "Ready")
        if ready:
            self.by_hand = True
            self.remote.give({ready[-1]: 100})

    @rule()
    @precondition(lambda self: self.remote.there)
    def somebody_deletes_the_endpoint(self) -> None:
        self.by_hand = True
        self.remote.delete(self.remote.uid)

    @rule()
    @precondition(lambda self: self.remote.there)
    def somebody_takes_the_endpoint(self) -> None:
        self.by_hand = self.taken = True
        self.remote.uid = "another"

    @rule()
    @precondition(lambda self: self.remote.boxes)
    def a_server_breaks(self) -> None:
        self.by_hand = True
        sorted(self.remote.boxes.items())[0][1].state = "Failed"

    @rule()
    @precondition(lambda self: self.world.finalizer)
    def somebody_deletes_the_resource(self) -> None:
        self.by_hand = True
        self.world.deleting = self.world.deleting or self.world.now

    # What holds at any moment.

    @invariant()
    def what_was_served_once_is_served_on(self) -> None:
        """From the first good revision on, all requests go to what can answer, whatever is rolled out or back."""
        if self.world.status.last_good is not None and not self.by_hand:
            assert sum(self.remote.traffic.values()) == 100
            assert all(self.remote.boxes[name].state in ("Ready", "Updating") for name in self.remote.traffic)

    @invariant()
    def the_last_good_revision_is_never_lost(self) -> None:
        self.had_good = self.had_good or self.world.status.last_good is not None
        assert self.world.status.last_good is not None or not self.had_good or self.ended

    @invariant()
    def nobody_reads_of_a_spec_that_promotes_that_promotion_is_awaited(self) -> None:
        status, promoted = self.world.status, self.world.wire.get("promote", 0)
        if status.phase == "AwaitingPromotion" and status.observed_generation == self.world.generation:
            assert (status.revision or 0) > promoted

    @invariant()
    def the_conditions_are_those_of_the_phase(self) -> None:
        status = self.world.status
        if status.phase is not None:
            assert {c.type for c in status.conditions} == set(TYPES)
            assert self.world.true() - {"Available"} == {kind for kind in BY_PHASE if kind in TRUE_IN[status.phase]}

    @invariant()
    def ready_means_that_the_newest_revision_is_the_good_one(self) -> None:
        status = self.world.status
        if status.phase == "Ready" and status.target is not None:
            assert status.last_good == status.target
            assert status.rollout is None

    @invariant()
    def the_history_is_bounded_and_has_one_open_end(self) -> None:
        history = self.world.status.revisions
        assert len(history) <= MOST_REVISIONS
        assert all(each.outcome != "RollingOut" for each in history[:-1])
        assert [each.number for each in history] == sorted({each.number for each in history})

    def teardown(self) -> None:
        """There is always a way to an end: what the spec says, or the last good revision, or nothing that costs."""
        world = self.world
        world.target = TARGET
        world.edit(expiresAfterSeconds=None, recreateForCreator=True)
        world.calm()
        if world.deleting is not None:
            world.settle()
            assert not world.exists
            assert not self.remote.there or self.taken  # what is another's is not deleted
            return
        world.settle()
        assert world.status.phase in ("Ready", "RolledBack", "Stalled"), (
            world.status.phase,
            world.reason,
            world.message,
        )
        self.is_what_a_fresh_one_would_be()

    def is_what_a_fresh_one_would_be(self) -> None:
        world, status = self.world, self.world.status
        if status.phase == "Stalled":
            assert world.reason == "DeploymentFailed"
            assert self.remote.boxes == {}
            return
        assert status.last_good is not None
        good = {each.served: config_of(each) for each in status.last_good.models}
        assert {name: config_of(box.serving) for name, box in self.remote.boxes.items()} == good
        assert {box.state for box in self.remote.boxes.values()} == {"Ready"}
        assert self.remote.traffic == {each.served: each.traffic for each in status.last_good.models if each.traffic}
        assert self.remote.uid == UID
        if status.phase == "Ready":
            fresh = World(self.platform)
            fresh.wire, fresh.aliases, fresh.runs = world.wire, world.aliases, world.runs
            fresh.settle()
            if fresh.status.phase == "Ready" and not self.resolved_earlier():
                assert self.remote.looks() == fresh.platform.looks()

    def resolved_earlier(self) -> bool:
        """Whether the spec names an alias that is not followed: it may have meant another version then."""
        return any(m["model"].get("alias") and not m["model"].get("followAlias") for m in self.world.wire["models"])


class LifeAsOne(Life):
    platform = AsOne


TestAnyLife = pytest.mark.timeout(300)(Life.TestCase)
TestAnyLifeAsOne = pytest.mark.timeout(300)(LifeAsOne.TestCase)
for case in (TestAnyLife, TestAnyLifeAsOne):
    case.settings = settings(CALM, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
del case  # pytest would take it for one more
