"""Plans, revisions and what status tells of them: pure arithmetic of a ModelDeployment."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.serving_world import World, model
from trainyard.api.deployment_status import Serving
from trainyard.api.model_deployment import ModelDeploymentSpec, ModelDeploymentStatus
from trainyard.core.serving.planning import trial_plan
from trainyard.core.serving.plans import served_name, shares
from trainyard.core.serving.revisions import resolved, source_of, still_meant, to_resolve
from trainyard.core.serving.seen import ResolvedModel

WINE = ResolvedModel("ml.wine", "3")


def spec_of(*models: dict[str, Any], **changes: Any) -> ModelDeploymentSpec:
    return ModelDeploymentSpec.model_validate({"workspaceRef": {"name": "w"}, "models": list(models), **changes})


def serving(name: str, traffic: int) -> Serving:
    spec = spec_of(model(name, traffic=traffic))
    found = resolved(spec, ModelDeploymentStatus(), {name: WINE})
    assert found is not None
    return found[0]


def whole(parts: int) -> st.SearchStrategy[list[int]]:
    """Shares that sum to 100."""
    cuts = st.lists(st.integers(0, 100), min_size=parts - 1, max_size=parts - 1).map(sorted)
    return cuts.map(lambda at: [b - a for a, b in zip([0, *at], [*at, 100], strict=True)])


@given(before=whole(3), after=whole(4), percent=st.integers(0, 100), same=st.integers(0, 3))
def test_shares_between_two_revisions_are_whole_and_sum_to_a_hundred(
    before: list[int], after: list[int], percent: int, same: int
) -> None:
    old = [serving(f"o{at}", share) for at, share in enumerate(before)]
    new = [*old[:same], *(serving(f"n{at}", share) for at, share in enumerate(after[same:]))]
    new = [each.model_copy(update={"traffic": share}) for each, share in zip(new, after, strict=True)]
    given_ = shares(old, new, percent)
    assert sum(given_.values()) == 100
    assert all(share >= 0 for share in given_.values())
    only_new = {each.served for each in new} - {each.served for each in old}
    exact = sum(each.traffic for each in new if each.served in only_new) * percent / 100
    assert abs(sum(given_[name] for name in only_new) - exact) < len(given_)
    assert percent or all(given_[name] == 0 for name in only_new)


@pytest.mark.parametrize("name", ["a", "champion", "a-name-of-20-letters"])
def test_a_served_name_fits_both_platforms_and_tells_contents_apart(name: str) -> None:
    one, two = served_name(name, {"version": "1"}), served_name(name, {"version": "2"})
    assert one != two
    assert re.fullmatch(r"[a-z][a-z0-9-]{2,31}", one)


def test_a_source_names_what_was_written_and_not_what_it_meant() -> None:
    sources = [
        source_of(each.model)
        for each in spec_of(
            model(),
            model("b", alias="champion"),
            model("c", alias="champion", followAlias=True),
            model("d", fromRun={"name": "churn-42"}),
        ).models
    ]
    assert sources == ["version:wine:1", "alias:wine:champion", "alias:wine:champion", "run:churn-42"]


def test_what_status_holds_the_answer_of_is_not_looked_up_again() -> None:
    world = World(models=[model(alias="champion", traffic=100), model("b", fromRun={"name": "churn-42"}, traffic=0)])
    world.runs["churn-42"] = "2"
    world.settle()
    spec = ModelDeploymentSpec.model_validate(world.wire)
    assert to_resolve(spec, ModelDeploymentStatus()) == tuple(spec.models)
    assert to_resolve(spec, world.status) == ()
    assert still_meant(spec, world.status)
    moved = spec_of(model(alias="other", traffic=100), model("c", fromRun={"name": "churn-42"}, traffic=0))
    assert [each.name for each in to_resolve(moved, world.status)] == ["champion"]
    assert not still_meant(moved, world.status)
    followed = spec_of(model(alias="champion", followAlias=True, traffic=100))
    assert [each.name for each in to_resolve(followed, world.status)] == ["champion"]


def test_a_run_whose_model_is_the_last_good_one_is_not_looked_up_when_one_goes_back_to_it() -> None:
    world = World(models=[model(fromRun={"name": "churn-42"})])
    world.runs["churn-42"] = "2"
    world.settle()
    world.runs.clear()
    world.edit(models=[model(version="66")]).settle()
    assert world.status.phase == "RolledBack"
    world.edit(models=[model(fromRun={"name": "churn-42"})]).settle()
    assert (world.status.phase, world.status.traffic) == ("Ready", "champion:2=100/100")


def test_the_trial_plan_counts_what_serves_beside_what_is_new() -> None:
    world = World()
    first = trial_plan(world.known().deployment, "endpoint", {"champion": ResolvedModel("ml.wine", "1")}, "c")
    assert first is not None
    assert (len(first.served), sorted(first.traffic.values()), first.owner.cluster) == (1, [100], "c")
    world.settle().edit(models=[model(version="2")], tags={"team": "wine"})
    trial = trial_plan(world.known().deployment, "endpoint", {"champion": ResolvedModel("ml.wine", "2")})
    assert trial is not None
    assert {each.version for each in trial.served} == {"1", "2"}
    assert list(trial.traffic.values()) == [100]
    assert trial.tags == {"team": "wine"}
    assert trial_plan(world.known().deployment, "endpoint", {}) is None


def test_a_status_is_bounded_whatever_the_platform_says() -> None:
    world = World().settle()
    seen = world.observed.reached
    assert seen is not None
    assert seen.endpoint is not None
    world.platform.boxes |= {f"{'x' * 60}{at:02}": next(iter(world.platform.boxes.values())) for at in range(60)}
    world.after(120)
    assert len(world.status.served_models) == 24
    assert len(world.status.drift) == 16
    for number in range(20):
        world.edit(models=[model(version=str(number + 2))]).settle()
    assert [each.number for each in world.status.revisions] == list(range(12, 22))


def test_what_is_wanted_and_what_is_there_stand_side_by_side() -> None:
    world = World().settle()
    world.platform.boxes["somebody-elses"] = next(iter(world.platform.boxes.values()))
    world.edit(models=[model(version="2")]).settle(until="RollingOut")
    world.after(5)
    lines = {each.served.split("-")[0] + ":" + (each.version or ""): each for each in world.status.served_models}
    assert {key: (each.state, each.served_traffic, each.desired_traffic) for key, each in lines.items()} == {
        "champion:1": ("Ready", 100, 100),
        "champion:2": ("Absent", 0, 0),
        "somebody:1": ("Ready", 0, 0),
    }
