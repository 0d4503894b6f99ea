"""Which rule decides, and what comes of it: one test for each promise about a ModelDeployment."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.serving_world import (
    BROKEN,
    SLOW,
    START,
    TARGET,
    UID,
    WRONG,
    Apart,
    AsOne,
    RefusedError,
    Settings,
    World,
    model,
)
from trainyard.core.serving.actions import AskChecks, DeleteEndpoint, FetchLogs, Reach, RemoveFinalizer
from trainyard.core.serving.decide import RULES
from trainyard.core.serving.plans import plan_digest
from trainyard.core.snapshot import Blocked, Target
from trainyard.core.times import parse

SMOKE = {"smoke": {"rows": [{"alcohol": 9.4}]}}
CANARY = {
    "strategy": "Canary",
    "checks": SMOKE,
    "steps": [{"traffic": 10, "holdForSeconds": 60}, {"traffic": 50, "checks": {"bounds": {"maxErrorPercent": 1}}}],
}
PLATFORMS = pytest.mark.parametrize("platform", [Apart, AsOne])


def served(platform: type[Apart] = Apart, **changes: Any) -> World:
    """A deployment whose first revision is served."""
    world = World(platform, **changes).settle()
    assert world.status.phase == "Ready"
    return world


def events(world: World) -> list[str]:
    return [reason for reason, _ in world.notes]


def test_the_order_of_the_rules_is_part_of_their_meaning() -> None:
    assert [rule.__name__ for rule in RULES] == [
        "deleting",
        "expiring",
        "unreadable",
        "given",
        "held",
        "moved",
        "pin",
        "revise",
        "turn_back",
        "go_forward",
        "clean_up",
        "try_again",
        "keep",
        "nothing",
    ]


# --- from nothing to Ready


@PLATFORMS
def test_a_first_revision_is_served_and_asked_before_it_is_ready(platform: type[Apart]) -> None:
    world = World(platform).settle()
    assert (world.status.phase, world.reason, world.true()) == ("Ready", "Serving", {"Ready", "Available"})
    assert world.status.last_good == world.status.target
    assert (world.status.revision, world.status.last_good_revision) == (1, 1)
    assert world.status.traffic == "champion:1=100/100"
    assert world.status.endpoint is not None
    assert world.status.endpoint.made
    assert events(world) == ["RevisionCreated", "EndpointReady"]
    assert [each.outcome for each in world.status.revisions] == ["Served"]


def test_where_the_endpoint_will_be_is_written_before_the_platform_is_asked() -> None:
    world = World()
    asked = False
    while not asked:
        decision = world.step()
        asked = isinstance(decision.action, Reach)
    assert world.finalizer
    assert world.status.endpoint is not None
    assert (world.status.endpoint.principal, world.status.endpoint.made) == ("app-id", None)
    assert world.status.rollout is not None


def test_nothing_answers_before_a_first_revision_has_answered() -> None:
    world = World()
    while world.status.phase != "Ready":
        world.settle(1) if False else world.step()
        assert ("Available" in world.true()) == (world.status.phase == "Ready")
        world.later(1)


@PLATFORMS
@pytest.mark.parametrize(
    ("version", "reason"),
    [(BROKEN, "ServedModelFailed"), (SLOW, "NotReadyInTime"), (WRONG, "SmokeCheckFailed")],
)
def test_a_first_revision_that_fails_is_removed_with_its_log_kept(
    platform: type[Apart], version: str, reason: str
) -> None:
    world = World(platform, models=[model(version=version)], rollout={"checks": SMOKE}).settle()
    assert (world.status.phase, world.reason, world.true()) == ("Stalled", "DeploymentFailed", {"Stalled"})
    assert world.status.failure is not None
    assert (world.status.failure.reason, world.status.failure.revision) == (reason, 1)
    assert world.status.failure.log == f"what {world.status.failure.served} printed"
    assert world.platform.boxes == {}
    assert world.status.revisions[-1].outcome == "Failed"
    changes = len(world.platform.changes)
    world.after(7200)
    assert (len(world.platform.changes), world.status.phase) == (changes, "Stalled")


@PLATFORMS
def test_after_a_failed_first_revision_another_one_is_served(platform: type[Apart]) -> None:
    world = World(platform, models=[model(version=BROKEN)]).settle()
    world.edit(models=[model()]).settle()
    assert (world.status.phase, world.status.revision, world.status.failure) == ("Ready", 2, None)


@PLATFORMS
def test_a_first_revision_that_was_refused_for_its_settings_is_tried_again_with_others(platform: type[Apart]) -> None:
    world = World(platform, tags={"team": "a tag that the platform refuses"})
    reach = world.platform.reach

    def no_tags(plan: Any, *, change: bool) -> Any:
        if plan.tags and plan.served:
            raise RefusedError("RequestRefused")
        return reach(plan, change=change)

    world.platform.reach = no_tags  # type: ignore[method-assign]
    world.settle()
    assert (world.status.phase, world.reason) == ("Stalled", "DeploymentFailed")
    assert "RequestRefused" in world.message
    world.after(3600)
    assert world.status.revision == 1
    world.edit(tags=None).settle()
    assert (world.status.phase, world.status.revision) == ("Ready", 2)
    assert [each.outcome for each in world.status.revisions] == ["Failed", "Served"]


def test_an_endpoint_of_that_name_that_is_anothers_is_left_alone_unless_it_is_adopted() -> None:
    world = World()
    world.platform.there, world.platform.uid = True, "another"
    world.settle(until="Stalled")
    assert (world.reason, world.platform.changes, world.status.failure) == ("EndpointNameTaken", [], None)
    world.after(600)
    assert (world.reason, world.platform.changes) == ("EndpointNameTaken", [])
    assert events(world) == ["RevisionCreated", "EndpointNameTaken"]
    world.edit(adopt=True).settle()
    assert world.status.phase == "Ready"


def adopting(version: str) -> World:
    """A deployment that adopts an endpoint which serves what others made."""
    world = World(adopt=True, models=[model(version=version)])
    theirs = next(iter(served().platform.boxes.values()))
    world.platform.there, world.platform.uid = True, "another"
    world.platform.boxes, world.platform.traffic = {"theirs": theirs}, {"theirs": 100}
    return world


def test_what_an_adopted_endpoint_served_answers_until_what_is_new_does_and_then_goes() -> None:
    world = adopting("2")
    while world.status.phase != "Ready":
        world.step()
        assert sum(world.platform.traffic.values()) == 100
        world.later(1)
    assert list(world.platform.boxes) == [each.served for each in world.status.served_models]
    assert world.status.traffic == "champion:2=100/100"


def test_an_adopted_endpoint_is_not_emptied_when_what_is_new_fails() -> None:
    world = adopting(BROKEN).settle()
    assert (world.status.phase, world.reason) == ("Stalled", "DeploymentFailed")
    assert "what others made" in world.message
    assert world.platform.traffic == {"theirs": 100}


# --- waiting


def test_what_may_yet_appear_is_waited_for_and_then_a_person_is_asked_for() -> None:
    world = World(models=[model(fromRun={"name": "churn-42"})])
    world.after(60)
    assert (world.status.phase, world.reason, world.status.endpoint) == ("Pending", "RunNotFound", None)
    world.after(3600)
    assert (world.status.phase, world.true()) == ("Stalled", {"Stalled"})
    world.runs["churn-42"] = "2"
    world.settle()
    assert (world.status.phase, world.status.traffic) == ("Ready", "champion:2=100/100")


def test_a_model_of_a_run_is_served_on_when_the_run_is_gone() -> None:
    world = World(models=[model(fromRun={"name": "churn-42"})])
    world.runs["churn-42"] = "2"
    world.settle()
    world.runs.clear()
    world.restart()
    world.after(600)
    assert world.status.phase == "Ready"
    world.edit(tags={"team": "wine"}).settle()
    assert (world.status.phase, world.status.traffic) == ("Ready", "champion:2=100/100")


def test_what_only_a_person_can_mend_is_stalled_at_once() -> None:
    world = World()
    world.blocked = Blocked("ComputeClassUnknown", "there is no class small", waiting=False)
    world.step()
    assert (world.status.phase, world.reason) == ("Stalled", "ComputeClassUnknown")
    assert events(world) == ["ComputeClassUnknown"]
    world.after(600)
    assert events(world) == ["ComputeClassUnknown"]


def test_while_a_new_spec_is_blocked_the_old_one_is_served_and_looked_at() -> None:
    world = served()
    world.blocked = Blocked("PermissionMissing", "EXECUTE is missing", waiting=False)
    world.edit(models=[model(version="2")]).after(300)
    assert (world.status.phase, world.true()) == ("Stalled", {"Stalled", "Available"})
    world.platform.boxes[next(iter(world.platform.boxes))].state = "Failed"
    world.after(120)
    assert world.true() == {"Stalled"}
    assert not [each for each in world.platform.changes if "17696943" in each]


def test_what_is_served_needs_nothing_that_only_a_new_revision_needs() -> None:
    world = served()
    world.blocked = Blocked("PermissionMissing", "EXECUTE is missing", waiting=False)
    world.after(600)
    assert world.status.phase == "Ready"


def test_a_rollout_goes_on_when_what_it_was_begun_with_goes_missing() -> None:
    world = served()
    world.edit(models=[model(version="2")]).settle(until="RollingOut")
    world.blocked = Blocked("WorkspaceNotReady", "the workspace is being checked", waiting=True)
    world.settle()
    assert (world.status.phase, world.status.revision) == ("Ready", 2)


def test_a_rollout_is_held_while_a_newer_spec_is_blocked() -> None:
    world = served(rollout={"strategy": "Canary", "steps": [{"traffic": 10, "holdForSeconds": 100}]})
    world.edit(models=[model(version="2")]).after(60)
    assert world.status.rollout is not None
    assert world.status.rollout.stage == "Stepping"
    world.blocked = Blocked("ModelNotRegistered", "there is no version 9", waiting=True)
    world.edit(models=[model(version="9")]).after(1000)
    assert (world.status.phase, world.status.rollout.step, world.status.rollout.traffic) == ("Pending", 1, 10)
    assert world.status.traffic == "champion:1=90/90, champion:2=10/10"


def test_a_spec_that_can_not_be_read_leaves_what_is_served() -> None:
    world = served()
    world.unreadable = "models: field required"
    world.after(120)
    assert (world.status.phase, world.reason, world.true()) == ("Stalled", "InvalidSpec", {"Stalled", "Available"})


# --- rollouts


@PLATFORMS
def test_a_canary_gets_its_shares_step_by_step(platform: type[Apart]) -> None:
    world = served(platform)
    world.edit(rollout=CANARY, models=[model(version="2")])
    shares = []
    world.settle(until="RollingOut")
    while world.status.phase == "RollingOut":
        world.step()
        if world.platform.traffic not in shares:
            shares.append(world.platform.traffic)
        world.later(1)
    assert [sorted(each.values()) for each in shares] == [[100], [10, 90], [50, 50], [100]]
    assert (world.status.phase, world.status.last_good_revision) == ("Ready", 2)
    assert events(world)[2:] == [
        "RevisionCreated",
        "RolloutStep",
        "RolloutStep",
        "Promoting",
        "Promoted",
        "EndpointReady",
    ]
    assert len(world.platform.boxes) == 1


def test_a_share_is_held_from_when_the_platform_gives_it() -> None:
    world = served()
    world.edit(rollout=CANARY, models=[model(version="2")])
    while not (world.status.rollout is not None and world.status.rollout.held_since and world.status.rollout.step == 1):
        world.step()
        world.later(1)
    given = world.now
    while world.status.rollout is not None and world.status.rollout.step == 1:
        world.step()
        world.later(1)
    assert timedelta(seconds=60) <= world.now - given <= timedelta(seconds=62)


def test_bounds_wait_for_requests_without_a_deadline_and_say_so() -> None:
    world = served()
    world.metrics["2"] = "Waiting"
    world.edit(rollout=CANARY, models=[model(version="2")]).after(20_000)
    assert (world.status.phase, world.reason) == ("RollingOut", "Checking")
    assert "Bounds" in world.message
    world.metrics["2"] = "Passed"
    assert world.settle().status.phase == "Ready"


def test_checks_that_wait_are_told_once_though_they_count_on() -> None:
    world = served()
    world.metrics["2"] = "Waiting"
    world.edit(rollout=CANARY, models=[model(version="2")]).after(600)
    asked, writes = len(world.asked), 0
    for _ in range(600):
        before = world.status
        world.step()
        writes += world.status != before
        world.later(1)
    assert len(world.asked) > asked + 30
    assert writes == 0
    world.metrics["2"] = "Passed"
    assert world.settle().status.phase == "Ready"


def test_what_is_waited_for_is_told_when_it_is_something_else() -> None:
    world = served(models=[model(version="2", traffic=50), model("challenger", "3", traffic=50)])
    world.metrics |= {"4": "Waiting", "5": "Waiting"}
    models = [model(version="4", traffic=50), model("challenger", "5", traffic=50)]
    world.edit(rollout=CANARY, models=models).after(600)
    assert "of champion" in world.message
    world.metrics["4"] = "Passed"
    world.after(30)
    assert "of challenger" in world.message
    assert world.status.rollout is not None
    assert {(each.served.split("-")[0], each.outcome) for each in world.status.rollout.checks} >= {
        ("champion", "Passed"),
        ("challenger", "Waiting"),
    }
    promoted = world.message
    world.edit(tags={"team": "wine"}).after(60)
    condition = world.status.condition("Ready")
    assert condition is not None
    assert (condition.observed_generation, world.message.split(":")[0]) == (world.generation, promoted.split(":")[0])


@PLATFORMS
def test_a_canary_whose_check_fails_goes_back_keeps_the_log_and_removes_it(platform: type[Apart]) -> None:
    world = served(platform)
    before = world.platform.looks()
    world.metrics["2"] = "Failed"
    world.edit(rollout=CANARY, models=[model(version="2")]).settle()
    assert (world.status.phase, world.reason) == ("RolledBack", "BoundsCheckFailed")
    assert world.true() == {"Stalled", "Available"}
    assert world.platform.looks() == before
    assert world.status.failure is not None
    assert world.status.failure.log
    assert [each.outcome for each in world.status.revisions] == ["Served", "RolledBack"]
    world.restart()
    world.after(3600)
    assert (world.status.phase, world.status.revision) == ("RolledBack", 2)


@PLATFORMS
@pytest.mark.parametrize("version", [BROKEN, SLOW, WRONG])
def test_what_fails_before_its_first_request_never_gets_one(platform: type[Apart], version: str) -> None:
    world = served(platform, rollout={"checks": SMOKE})
    good = world.platform.traffic
    world.edit(models=[model(version=version)])
    world.settle(until="RollingOut")
    while world.status.phase != "RolledBack":
        world.step()
        assert world.platform.traffic == good
        world.later(1)
    assert len(world.platform.boxes) == 1


def test_the_share_goes_back_before_the_log_is_read_and_the_log_is_read_before_the_removal() -> None:
    world = served()
    world.metrics["2"] = "Failed"
    world.edit(rollout=CANARY, models=[model(version="2")]).settle(until="RollingBack")
    order = []
    while world.status.phase != "RolledBack":
        decision = world.step()
        shares, boxes = sorted(world.platform.traffic.values()), len(world.platform.boxes)
        order.append(("logs" if isinstance(decision.action, FetchLogs) else "", tuple(shares), boxes))
        world.later(1)
    seen = [each for at, each in enumerate(order) if at == 0 or each != order[at - 1]]
    assert ("logs", (100,), 2) in seen
    assert not [each for each in seen[: seen.index(("logs", (100,), 2))] if each[2] == 1]


def test_a_rollback_of_an_operator_that_was_killed_keeps_the_log_all_the_same() -> None:
    world = served()
    world.metrics["2"] = "Failed"
    world.edit(rollout=CANARY, models=[model(version="2")]).settle(until="RollingBack")
    world.restart()
    world.settle()
    assert world.status.failure is not None
    assert world.status.failure.log


def test_a_newer_spec_waits_until_what_failed_has_gone_and_its_log_is_kept() -> None:
    world = served()
    world.metrics["2"] = "Failed"
    world.edit(rollout=CANARY, models=[model(version="2")]).settle(until="RollingBack")
    world.edit(models=[model(version="3")]).settle(until="RollingOut")
    assert world.status.failure is not None
    assert world.status.failure.log
    assert len(world.platform.boxes) == 1
    world.settle()
    assert (world.status.phase, world.status.revision, world.status.failure) == ("Ready", 3, None)
    assert [each.outcome for each in world.status.revisions] == ["Served", "RolledBack", "Served"]


def test_a_person_promotes_where_promotion_is_manual() -> None:
    world = served(rollout={**CANARY, "promotion": "Manual"})
    world.edit(models=[model(version="2")]).settle(until="AwaitingPromotion")
    world.after(10_000)
    assert world.status.phase == "AwaitingPromotion"
    assert "set spec.promote to 2" in world.message
    world.edit(promote=2).settle()
    assert (world.status.phase, world.status.last_good_revision) == ("Ready", 2)


@PLATFORMS
@pytest.mark.parametrize("check", ["Bounds", "Answers"])
def test_a_canary_that_goes_bad_while_a_person_thinks_goes_back(platform: type[Apart], check: str) -> None:
    world = served(platform, rollout={**CANARY, "promotion": "Manual"})
    world.edit(models=[model(version="2")]).settle(until="AwaitingPromotion")
    world.after(600)
    assert world.status.phase == "AwaitingPromotion"
    (world.metrics if check == "Bounds" else world.answering)["2"] = "Failed"
    world.after(2 * world.limits.recheck_served).settle()
    assert (world.status.phase, world.reason) == ("RolledBack", f"{check}CheckFailed")


def test_while_a_person_thinks_checks_are_asked_as_seldom_as_what_serves_is_looked_at() -> None:
    world = served(rollout={**CANARY, "promotion": "Manual"})
    world.edit(models=[model(version="2")]).settle(until="AwaitingPromotion")
    asked, looks, writes = len(world.asked), 0, 0
    for second in range(600):
        if second == 100:
            world.answering["2"] = world.metrics["2"] = "Waiting"  # a passing failure, and a restart: nothing is known
        if second == 300:
            world.answering.clear()
            world.metrics.clear()
        before = world.status
        looks += isinstance(world.step().action, Reach)
        writes += world.status != before
        assert (world.status.phase, world.reason) == ("AwaitingPromotion", "AwaitingPromotion")
        world.later(1)
    assert 9 <= len(world.asked) - asked <= 11
    assert 9 <= looks <= 11
    assert writes == 2  # from Passed to Waiting, and back


def deny_checks(world: World) -> None:
    """From now on nobody may ask what is new."""
    does = world._ask
    world._ask = lambda action, how: does(action, "denied" if isinstance(action, AskChecks) else how)  # type: ignore[method-assign]


def test_a_right_that_goes_while_a_person_thinks_is_told_once_and_then_the_person_is_waited_for_again() -> None:
    world = served(rollout={**CANARY, "promotion": "Manual"})
    world.edit(models=[model(version="2")]).settle(until="AwaitingPromotion")
    may = world._ask
    deny_checks(world)
    writes = 0
    for _ in range(600):
        before = world.status
        world.step()
        writes += world.status != before
        world.later(1)
    assert (world.status.phase, world.reason, writes) == ("Stalled", "PermissionDenied", 1)
    world._ask = may  # type: ignore[method-assign]
    world.answering["2"] = "Waiting"  # it has been idle
    world.after(70)
    world.answering.clear()
    world.after(70)
    assert (world.status.phase, world.reason) == ("AwaitingPromotion", "AwaitingPromotion")


def test_a_passing_failure_just_when_nobody_is_waited_for_any_more_is_none() -> None:
    world = served(rollout={**CANARY, "promotion": "Manual"})
    world.edit(models=[model(version="2")]).settle(until="AwaitingPromotion")
    world.after(3600)
    world.answering["2"] = "Waiting"
    world.after(70)
    world.edit(rollout=CANARY).after(30)
    assert (world.status.phase, world.reason) == ("RollingOut", "Checking")
    world.answering.clear()
    assert world.settle().status.phase == "Ready"


def test_what_has_no_share_is_not_asked_again_while_a_person_thinks() -> None:
    """It may have been scaled to zero since."""
    world = served(rollout={"strategy": "Canary", "promotion": "Manual", "checks": SMOKE, "steps": []})
    world.edit(models=[model(version="2")]).settle(until="AwaitingPromotion")
    asked = len(world.asked)
    world.after(600)
    assert len(world.asked) == asked


def test_what_is_measured_while_a_person_thinks_is_of_the_last_day() -> None:
    world = served(rollout={**CANARY, "promotion": "Manual"})
    world.edit(models=[model(version="2")]).settle(until="AwaitingPromotion")
    assert world.status.rollout is not None
    assert world.status.rollout.held_since is not None
    held = parse(world.status.rollout.held_since)
    world.after(600)
    assert world.asked[-1][1].since == held
    world.later(3 * 86_400).after(120)
    at, asked = world.asked[-1]
    assert asked.since == at - timedelta(days=1)


def test_what_is_checked_anew_is_not_promoted_before_it_holds() -> None:
    world = served(rollout={**CANARY, "promotion": "Manual"})
    world.edit(models=[model(version="2")]).settle(until="AwaitingPromotion")
    world.metrics["2"] = "Waiting"
    world.after(120)
    world.edit(rollout=CANARY).after(600)
    assert (world.status.phase, world.reason) == ("RollingOut", "Checking")
    world.metrics["2"] = "Passed"
    assert world.settle().status.phase == "Ready"


@pytest.mark.parametrize("change", [{"promote": 2}, {"rollout": CANARY}])
@pytest.mark.parametrize("seconds", [0, 30, 100])
def test_nobody_reads_of_a_spec_that_promotes_that_promotion_is_awaited(change: dict[str, Any], seconds: int) -> None:
    world = served(rollout={**CANARY, "promotion": "Manual"})
    world.edit(models=[model(version="2")]).settle(until="AwaitingPromotion")
    world.later(seconds)
    world.target = Target("azureml", TARGET.host, "app-id", "secret", "")  # something else is written meanwhile
    world.edit(**change)
    for _ in range(200):
        world.step("never arrived" if world.status.phase == "AwaitingPromotion" else "answered")
        assert world.status.observed_generation != world.generation or world.status.phase != "AwaitingPromotion"
        world.later(1)
    assert (world.status.phase, world.status.last_good_revision) == ("Ready", 2)


def test_promote_ends_a_hold() -> None:
    world = served(rollout={**CANARY, "steps": [{"traffic": 10, "holdForSeconds": 100_000}]})
    world.edit(models=[model(version="2")]).after(300)
    assert (world.status.phase, world.status.traffic) == ("RollingOut", "champion:1=90/90, champion:2=10/10")
    since = world.now
    world.edit(promote=2).settle()
    assert (world.status.phase, world.status.last_good_revision) == ("Ready", 2)
    assert world.now - since < timedelta(seconds=150)


def test_promote_skips_steps_and_checks_but_not_readiness() -> None:
    world = served(rollout={**CANARY, "steps": [{"traffic": 10, "holdForSeconds": 100_000}]})
    world.edit(models=[model(version=WRONG)], promote=2).settle()
    assert (world.status.phase, world.status.last_good_revision) == ("Ready", 2)
    world.edit(models=[model(version=BROKEN)], promote=3).settle()
    assert (world.status.phase, world.status.last_good_revision) == ("RolledBack", 2)


@PLATFORMS
def test_going_back_to_what_is_good_in_the_middle_of_a_rollout_prepares_nothing(platform: type[Apart]) -> None:
    world = served(platform)
    before = world.platform.looks()
    world.edit(rollout={**CANARY, "steps": [{"traffic": 10, "holdForSeconds": 9000}]}, models=[model(version="2")])
    world.after(200)
    assert world.status.phase == "RollingOut"
    since = world.now
    world.edit(models=[model()]).settle()
    assert (world.status.phase, world.status.revision, world.platform.looks()) == ("Ready", 3, before)
    assert world.now - since < timedelta(seconds=150)
    assert [each.outcome for each in world.status.revisions] == ["Served", "Superseded", "Served"]


@PLATFORMS
def test_a_newer_spec_takes_the_place_of_a_rollout(platform: type[Apart]) -> None:
    world = served(platform)
    world.edit(models=[model(version=SLOW)]).after(100)
    world.edit(models=[model(version="3")]).settle()
    assert (world.status.phase, world.status.traffic) == ("Ready", "champion:3=100/100")


@PLATFORMS
def test_copies_and_shares_change_without_steps(platform: type[Apart]) -> None:
    two = [model(traffic=70), model("challenger", "2", traffic=30)]
    world = served(platform, rollout=CANARY, models=two)
    world.edit(models=[model(traffic=20, replicas={"min": 3}), model("challenger", "2", traffic=80)])
    since = world.now
    world.settle()
    assert (world.status.phase, world.status.traffic) == ("Ready", "champion:1=20/20, challenger:2=80/80")
    assert world.now - since < timedelta(seconds=150)
    assert "RolloutStep" not in events(world)


def test_an_alias_is_followed_where_that_is_asked_for_and_only_there() -> None:
    followed = served(models=[model(alias="champion", followAlias=True)])
    pinned = served(models=[model(alias="champion")])
    for world in (followed, pinned):
        world.aliases["champion"] = "2"
        world.after(300)
        world.settle()
    assert (followed.status.revision, followed.status.traffic) == (2, "champion:2=100/100")
    assert (pinned.status.revision, pinned.status.traffic) == (1, "champion:1=100/100")


@PLATFORMS
@pytest.mark.parametrize(
    ("there", "back"),
    [
        ({"tags": {"team": "wine"}}, {"tags": None}),
        ({"auth": "Key"}, {"auth": None}),
        ({"permissions": [{"group": "analysts", "level": "CAN_QUERY"}]}, {"permissions": None}),
        ({"models": [model(env={"A": "b"})]}, {"models": [model()]}),
        ({"models": [model(secrets={"A": {"store": "s", "key": "k"}})]}, {"models": [model()]}),
        ({"models": [model(replicas={"min": 2, "max": 4})]}, {"models": [model()]}),
        ({"models": [model(scaleToZero=True)]}, {"models": [model()]}),
        ({"models": [model(compute={"class": "large"})]}, {"models": [model()]}),
        ({"models": [model(traffic=100), model("shadow", "2")]}, {"models": [model()]}),
        ({"models": [model(version="2")]}, {"models": [model()]}),
        ({"models": [model(alias="champion")]}, {"models": [model()]}),
        ({"rollout": CANARY, "driftPolicy": "Revert"}, {"rollout": None, "driftPolicy": None}),
    ],
)
def test_a_field_driven_forth_and_back_leaves_no_trace(
    platform: type[Apart], there: dict[str, Any], back: dict[str, Any]
) -> None:
    world = served(platform)
    before = world.platform.looks()
    world.edit(**there).settle()
    assert world.status.phase == "Ready"
    forth = World(platform, **there).settle()
    assert world.platform.looks() == forth.platform.looks()
    world.edit(**back).settle()
    assert world.status.phase == "Ready"
    assert world.platform.looks() == before


def test_settings_that_the_platform_refuses_need_a_person_and_what_is_served_stays() -> None:
    world = served()
    refuse(world, "RequestRefused")
    world.edit(tags={"team": "wine"}).after(300)
    assert (world.status.phase, world.reason) == ("Stalled", "RequestRefused")
    assert world.true() == {"Stalled", "Available"}
    assert world.status.rollout is None


def test_a_new_revision_that_the_platform_refuses_goes_back() -> None:
    world = served()
    reach = world.platform.reach

    def no_second(plan: Any, *, change: bool) -> Any:
        if len(plan.served) > 1:
            raise_refused("QuotaExceeded")
        return reach(plan, change=change)

    world.platform.reach = no_second  # type: ignore[method-assign]
    world.edit(models=[model(version="2")]).settle()
    assert (world.status.phase, world.reason) == ("RolledBack", "QuotaExceeded")


def refuse(world: World, reason: str) -> None:
    """From now on the platform takes no change."""
    reach = world.platform.reach

    def no(plan: Any, *, change: bool) -> Any:
        if change and world.platform.differences(plan):
            raise_refused(reason)
        return reach(plan, change=change)

    world.platform.reach = no  # type: ignore[method-assign]


def raise_refused(reason: str) -> None:
    raise RefusedError(reason)


# --- staying as it is


@PLATFORMS
@pytest.mark.parametrize("what", ["traffic", "settings", "deleted"])
def test_what_somebody_changed_is_reported_once_or_brought_back(platform: type[Apart], what: str) -> None:
    world = served(platform, models=[model(traffic=70), model("challenger", "2", traffic=30)])
    before = world.platform.looks()
    touch(world, what)
    world.after(600)
    reason = "EndpointMissing" if what == "deleted" else "EndpointDrifted"
    assert (world.status.phase, world.reason) == ("Drifted", reason)
    assert world.status.drift
    assert events(world).count(reason) == 1
    world.edit(driftPolicy="Revert").settle()
    assert (world.status.phase, world.platform.looks(), world.status.drift) == ("Ready", before, [])
    assert world.true() == {"Ready", "Available"}
    touch(world, what)
    world.restart()
    world.after(600)
    assert (world.status.phase, world.platform.looks()) == ("Ready", before)
    assert events(world).count("DriftReverted") == 1


def touch(world: World, what: str) -> None:
    if what == "traffic":
        name = sorted(world.platform.boxes)[0]
        world.platform.give({name: 100})
    elif what == "settings":
        world.platform.settings = Settings(tags={"team": "beer"})
    else:
        world.platform.delete(UID)


def test_a_drift_that_was_changed_back_by_hand_is_over() -> None:
    world = served()
    world.platform.settings = Settings(tags={"team": "beer"})
    world.after(120)
    world.platform.settings = Settings()
    world.after(120)
    assert (world.status.phase, world.status.drift) == ("Ready", [])


def test_a_server_that_breaks_later_is_not_ready_and_no_ones_edit() -> None:
    world = served()
    next(iter(world.platform.boxes.values())).state = "Failed"
    world.after(120)
    assert (world.status.phase, world.reason, world.true()) == ("Drifted", "ServedNotReady", {"Stalled"})


def test_an_endpoint_that_somebody_took_is_never_changed_again() -> None:
    world = served(driftPolicy="Revert")
    world.platform.uid = "another"
    changes = len(world.platform.changes)
    world.edit(tags={"team": "wine"}).after(600)
    assert (world.status.phase, world.reason, world.true()) == ("Stalled", "EndpointNotOurs", {"Stalled"})
    assert len(world.platform.changes) == changes
    assert events(world).count("EndpointNotOurs") == 1


def test_all_is_well_is_looked_at_by_its_own_clock() -> None:
    world = served()
    looks = 0
    for _ in range(600):
        looks += isinstance(world.step().action, Reach)
        world.later(1)
    assert 9 <= looks <= 11


# --- trouble


def test_a_single_slow_answer_is_not_told() -> None:
    world = served()
    world.later(61)
    world.step("never arrived")
    assert world.true() == {"Ready", "Available"}
    assert world.reason == "Serving"


def test_a_platform_that_is_away_for_long_is_told_and_what_is_served_stays_ready() -> None:
    world = served()
    writes = 0
    for _ in range(900):
        before = world.status
        world.step("never arrived")
        writes += world.status != before
        world.later(1)
    assert (world.status.phase, world.reason) == ("Ready", "PlatformUnreachable")
    assert writes == 1
    world.settle()
    assert world.reason == "Serving"


def test_a_right_that_is_missing_in_a_rollout_needs_a_person_and_costs_no_time_of_the_rollout() -> None:
    world = World(rollout={"readyWithinSeconds": 100})
    for _ in range(600):
        world.step("denied")
        world.later(1)
    assert (world.status.phase, world.reason) == ("Stalled", "PermissionDenied")
    assert world.settle().status.phase == "Ready"


def test_a_busy_platform_is_waited_for_and_named() -> None:
    world = served()
    world.edit(models=[model(version="2")])
    world.platform.busy_until = world.now + timedelta(seconds=200)
    world.after(100)
    assert (world.status.phase, world.reason) == ("RollingOut", "PlatformBusy")
    assert world.settle().status.phase == "Ready"


def test_checks_of_one_step_are_not_taken_for_another_steps() -> None:
    world = served(rollout=CANARY)
    world.edit(models=[model(version="2")])
    moments = []
    world.settle(until="RollingOut")
    while world.status.phase == "RollingOut":
        action = world.step().action
        moments += [action.moment] if isinstance(action, AskChecks) else []
        world.later(1)
    assert len(moments) == len(set(moments)) == 4
    assert [each.split("-")[1] for each in moments] == ["Preparing", "Stepping", "Stepping", "Promoting"]


# --- the end


@PLATFORMS
def test_deleting_the_resource_deletes_the_endpoint_first(platform: type[Apart]) -> None:
    world = served(platform)
    world.deleting = world.now
    world.step()
    assert (world.status.phase, world.reason) == ("Deleting", "Deleted")
    world.settle()
    assert not world.exists
    assert not world.platform.there


def test_an_orphan_stays() -> None:
    world = served(deletionPolicy="Orphan")
    world.deleting = world.now
    assert isinstance(world.step().action, RemoveFinalizer)
    assert world.platform.there


def test_an_orphan_stays_also_where_the_spec_can_not_be_read() -> None:
    """An operator of before may not know a value that the spec has."""
    world = served(deletionPolicy="Orphan")
    world.deleting, world.unreadable = world.now, "spec.compute: no such kind of compute"
    assert isinstance(world.step().action, RemoveFinalizer)
    assert world.platform.there


def test_an_endpoint_that_can_not_be_deleted_is_let_go_after_the_deadline_with_a_warning() -> None:
    world = served()
    world.deleting = world.now
    while world.exists:
        world.step("never arrived")
        world.later(5)
    assert world.now - world.deleting >= timedelta(seconds=world.limits.deletion_deadline)
    assert events(world)[-1] == "RemoteEndpointLeft"
    assert "delete" in world.notes[-1][1].lower()


@pytest.mark.parametrize(("adopt", "kind"), [(None, "Warning"), (True, "Normal")])
@pytest.mark.parametrize("end", ["deletion", "expiry"])
def test_an_endpoint_that_lost_our_mark_is_left_and_told_to_be(end: str, adopt: bool | None, kind: str) -> None:
    world = served(**({"adopt": adopt} if adopt else {}))
    world.platform.uid = ""
    if end == "deletion":
        world.deleting = world.now
    else:
        world.edit(expiresAfterSeconds=300).later(300)
    while world.exists and world.status.phase != "Expired":
        told = world.step().notes
        world.later(1)
    assert [(note.type, note.reason) for note in told] == [(kind, "RemoteEndpointLeft")]
    assert "not marked" in told[0].message
    assert world.platform.there


def test_an_endpoint_that_was_anothers_from_the_start_is_not_told_to_be_left() -> None:
    world = World()
    world.platform.there, world.platform.uid = True, "another"
    world.settle(until="Stalled")
    world.deleting = world.now
    world.after(300)
    assert not world.exists
    assert "RemoteEndpointLeft" not in events(world)


def test_an_endpoint_that_was_never_seen_is_looked_for_until_no_request_can_be_under_way() -> None:
    world = World()
    while world.platform.changes == []:
        world.step("answer lost")
        world.later(3)
    late, world.platform = world.platform, Apart()  # the request of a process that died, on its way
    world.restart()
    world.deleting = world.now
    world.after(5)
    world.platform = late
    world.settle()
    assert not late.there


def test_an_endpoint_whose_time_is_up_goes_and_comes_again_when_that_is_taken_back() -> None:
    world = served(expiresAfterSeconds=3600)
    assert world.status.expires_at == "2026-11-01T13:00:00Z"
    world.after(3300)
    assert world.status.phase == "Ready"
    world.after(500)
    assert (world.status.phase, world.true(), world.platform.there) == ("Expired", set(), False)
    assert (world.status.endpoint, world.status.served_models) == (None, [])
    world.edit(expiresAfterSeconds=None).settle()
    assert (world.status.phase, world.status.revision) == ("Ready", 1)
    world.deleting = world.now
    world.settle()
    assert not world.platform.there


@pytest.mark.parametrize("end", ["expiry", "recreation"])
def test_a_request_that_was_under_way_when_the_end_came_leaves_no_endpoint(end: str) -> None:
    """The process that sent it died before it saw the endpoint."""
    world = World(**({"expiresAfterSeconds": 300} if end == "expiry" else {"recreateForCreator": True}))
    while world.platform.changes == []:
        world.step("answer lost")
        world.later(3)
    late, world.platform = world.platform, Apart()
    world.restart()
    assert world.status.endpoint is not None
    assert world.status.endpoint.made is None
    world.now = max(world.now, START + timedelta(seconds=300))
    world.target = (
        Target("azureml", TARGET.host, "another-app", "federated", "server") if end == "recreation" else TARGET
    )
    world.after(5)
    assert world.status.phase == "Deleting"
    world.platform = late
    deleted = False
    for _ in range(200):
        world.step()
        world.later(1)
        deleted = deleted or not late.there
    assert deleted
    assert world.status.phase == ("Expired" if end == "expiry" else "Ready")


@PLATFORMS
@pytest.mark.parametrize("end", ["expiry", "recreation"])
@pytest.mark.parametrize("done", [True, False])
def test_a_deletion_that_is_taken_back_is_finished_and_the_endpoint_made_again(
    platform: type[Apart], end: str, done: bool
) -> None:
    """`done`: the platform has been asked already."""
    world = served(platform, expiresAfterSeconds=3600)
    if end == "expiry":
        world.later(3600)
    else:
        world.target = Target("azureml", TARGET.host, "another-app", "federated", "server")
        world.edit(recreateForCreator=True)
    while world.status.phase != "Deleting":
        world.step("answered" if done else "never arrived")
    assert world.platform.there is not done
    world.target = TARGET
    world.edit(expiresAfterSeconds=None, recreateForCreator=None)
    world.settle(until="Deploying")
    assert not world.platform.there
    world.settle()
    assert (world.status.phase, world.status.drift) == ("Ready", [])
    assert world.platform.there
    assert {"EndpointMissing", "RemoteEndpointLeft"}.isdisjoint(events(world))


@PLATFORMS
def test_a_deletion_that_was_never_allowed_and_is_taken_back_leaves_what_serves(platform: type[Apart]) -> None:
    world = served(platform, expiresAfterSeconds=3600).later(3600)
    for _ in range(60):
        world.step("denied")
        world.later(1)
    assert (world.status.phase, world.reason) == ("Deleting", "PermissionDenied")
    world.edit(expiresAfterSeconds=None)
    for _ in range(200):
        world.step()
        assert sum(world.platform.traffic.values()) == 100
        world.later(1)
    assert (world.status.phase, world.status.revision) == ("Ready", 1)


def test_an_endpoint_of_another_maker_is_made_again_only_with_consent() -> None:
    world = served()
    world.target = Target("azureml", TARGET.host, "another-app", "federated", "server")
    world.after(300)
    assert (world.status.phase, world.reason, world.true()) == ("Stalled", "CreatorChanged", {"Stalled", "Available"})
    assert world.platform.there
    world.edit(recreateForCreator=True)
    deleted = []
    while world.status.phase != "Ready":
        deleted += [world.step().action] if isinstance(world.last and world.last.action, DeleteEndpoint) else []
        world.step()
        world.later(1)
    assert world.status.endpoint is not None
    assert world.status.endpoint.principal == "another-app"
    assert world.status.revision == 1


def test_another_host_is_not_followed() -> None:
    world = served()
    world.target = Target("azureml", "https://other.example", "app-id", "federated", "server")
    world.after(300)
    assert (world.status.phase, world.reason) == ("Stalled", "WorkspaceMoved")
    assert world.true() == {"Stalled", "Available"}


def test_the_same_maker_by_other_means_is_pinned_anew() -> None:
    world = served()
    world.target = Target("azureml", TARGET.host, "app-id", "secret", "")
    world.settle()
    assert world.status.endpoint is not None
    assert (world.status.phase, world.status.endpoint.mode) == ("Ready", "secret")


# --- plans


def test_the_digest_of_a_plan_does_not_depend_on_where_a_version_came_from() -> None:
    by_number, by_alias = served(), served(models=[model(alias="champion")])
    assert by_number.status.applied == by_alias.status.applied
    assert by_number.status.target is not None
    assert by_alias.status.target is not None
    assert by_number.status.target.digest == by_alias.status.target.digest
    assert by_number.last is not None
    reach = next(by_number.step().action for _ in [by_number.later(61)])
    assert isinstance(reach, Reach)
    assert plan_digest(reach.plan) == by_number.status.applied


def test_what_failed_at_once_is_looked_at_again_before_it_is_mended() -> None:
    """Or its log would go with it, before it is known that this change failed."""
    world = World(models=[model(version=BROKEN)])
    world.limits = replace(world.limits, poll=0.3)
    for _ in range(2000):
        world.step()
        if world.platform.boxes and world.status.rollout is not None and world.status.rollout.sent_at is not None:
            break
        world.later(0.1)
    assert world.status.rollout is not None
    assert world.status.rollout.sent_at is not None
    began = parse(world.status.rollout.sent_at)
    (name,) = world.platform.boxes
    world.platform.boxes[name].state = "Failed"
    world.platform.busy_until = began
    looked = world.observed.reached
    assert looked is not None
    seen = replace(looked, endpoint=world.platform.endpoint(UID), sent=None, at=began + timedelta(seconds=0.5))
    world.observed = replace(world.observed, reached=seen)
    world.now = began + timedelta(seconds=0.9)
    action = world.step().action
    assert isinstance(action, Reach)
    assert not action.change
