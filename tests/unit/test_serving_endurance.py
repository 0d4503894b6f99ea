"""What the rules of a deployment bear without writing, or stopping, for ever: checks that are refused."""

from dataclasses import replace

import pytest

from tests.unit.serving_stage import ServingScene, served
from tests.unit.serving_world import BROKEN, TARGET, How, World, model
from trainyard.api.deployment_rollout import Smoke
from trainyard.controllers.serving_snapshots import model_of_run
from trainyard.controllers.serving_verdicts import smoke
from trainyard.core.errors import Denied
from trainyard.core.serving.actions import AskChecks, Reach, ServingAction
from trainyard.core.serving.seen import Measured, ResolvedModel, Scored
from trainyard.core.snapshot import Blocked, Target
from trainyard.platforms.azureml.serving_metrics import measured_of

STEPS = {
    "strategy": "Canary",
    "steps": [{"traffic": 50, "checks": {"bounds": {"maxErrorPercent": 1}}}],
}


class Unmeasured(World):
    """A world in which the platform does not let the operator read what it measured."""

    no = ""

    def _ask(self, action: ServingAction, how: How) -> None:
        asks = isinstance(action, AskChecks) and action.checks.bounds is not None
        if asks and self.no:
            return self.trouble(self.no, "NotAllowed", action)
        before = self.observed.trouble
        super()._ask(action, how)
        if isinstance(action, Reach) and before is not None and before.action == AskChecks.__name__:
            self.observed = replace(self.observed, trouble=before)  # as the controller does
        return None


@pytest.mark.parametrize("no", ["Denied", "Refused", "IdentityError"])
def test_checks_that_are_denied_need_a_person_and_are_not_told_again_and_again(no: str) -> None:
    world = Unmeasured(rollout=STEPS)
    world.settle()
    world.no = no
    world.edit(models=[model(version="2")]).after(300)
    assert (world.status.phase, world.reason) == ("Stalled", "NotAllowed")
    told, rollout = world.status, world.status.rollout
    assert rollout is not None
    assert rollout.stage == "Stepping"
    world.after(300)
    assert world.status == told
    world.no = ""
    world.settle()
    assert (world.status.phase, world.status.revision) == ("Ready", 2)


async def test_a_look_at_the_endpoint_does_not_end_the_trouble_of_checks() -> None:
    scene = ServingScene()
    key = scene.put("1", rollout=STEPS)
    await scene.until(key, "Ready")
    scene.platform.errors["measured"] = Denied("no right to read metrics")
    scene.edit(key, models=[served("2")])
    await scene.until(key, "Stalled")
    assert scene.reason(key) == "PermissionDenied"
    version = scene.api.objects[key.kind, key.namespace, key.name]["metadata"]["resourceVersion"]
    await scene.rest(key, 120)
    assert scene.api.objects[key.kind, key.namespace, key.name]["metadata"]["resourceVersion"] == version
    await scene.stop()


def test_a_look_that_status_has_no_room_for_stops_no_decision() -> None:
    world = World().settle()
    reached = world.observed.reached
    assert reached is not None
    assert reached.endpoint is not None
    (each,) = reached.endpoint.served
    wild = replace(each, traffic=10**9, replicas=-1, message="x" * 5000, version="9" * 99)
    endpoint = replace(reached.endpoint, served=(wild,), url="https://e/" + "x" * 5000, creator="c" * 999)
    world.observed = replace(world.observed, reached=replace(reached, endpoint=endpoint))
    world.step()
    (line,) = world.status.served_models
    assert (line.served_traffic, line.replicas) == (100, None)


def test_numbers_in_what_the_platform_says_of_a_model_are_no_news() -> None:
    world = World().settle()
    reached = world.observed.reached
    assert reached is not None
    assert reached.endpoint is not None
    (each,) = reached.endpoint.served
    told = []
    for seconds in (10, 20):
        now = replace(each, message=f"scaling up for {seconds} s, request 5e{seconds}")
        endpoint = replace(reached.endpoint, served=(now,))
        world.observed = replace(world.observed, reached=replace(reached, endpoint=endpoint))
        world.step()
        told.append(world.status)
    assert told[0] == told[1]
    assert told[0].served_models[0].message == "scaling up for 10 s, request 5e10"


@pytest.mark.parametrize("stage", ["RollingBack", "Removing"])
def test_an_endpoint_that_somebody_took_during_a_rollback_is_left_alone_and_that_is_told(stage: str) -> None:
    world = World().settle().edit(models=[model(version=BROKEN)])
    while world.status.rollout is None or world.status.rollout.stage != stage:
        world.step()
        world.later(1)
    world.platform.uid = "another"
    world.after(300)
    assert (world.status.phase, world.reason) == ("Stalled", "EndpointNotOurs")
    assert [reason for reason, _ in world.notes].count("EndpointNotOurs") == 1
    world.platform.uid = "5b3c"
    world.settle()
    assert (world.status.phase, world.reason) == ("RolledBack", "ServedModelFailed")


def test_a_rollback_ends_although_the_workspace_has_another_identity_by_then() -> None:
    world = World().settle().edit(models=[model(version=BROKEN)])
    while world.status.rollout is None or world.status.rollout.stage != "RollingBack":
        world.step()
        world.later(1)
    world.target = replace(TARGET, principal="another-app")
    world.after(300)
    assert (world.status.phase, world.reason) == ("Stalled", "CreatorChanged")
    assert [stage.wire() for stage in (world.status.rollout,) if stage is not None] == []
    assert len(world.platform.boxes) == 1


@pytest.mark.parametrize(
    ("platform", "host", "found"),
    [
        ("azureml", "https://arm/w", ResolvedModel),
        ("azureml", "https://arm/other", Blocked),
        ("databricks", "https://arm/other", ResolvedModel),
    ],
)
def test_a_run_of_another_workspace_of_azure_ml_made_another_model(platform: str, host: str, found: type) -> None:
    attempt = {
        "number": 1,
        "intendedAt": "2026-11-01T12:00:00Z",
        "submissionToken": "t",
        "specDigest": "sha256:s",
        "codeDigest": "sha256:c",
        "host": host,
        "principal": "app-id",
        "mode": "federated",
        "platform": platform,
    }
    status = {
        "phase": "Succeeded",
        "attempts": [attempt],
        "model": {"name": "wine", "version": "3", "uri": "models:/wine/3"},
    }
    run = {"metadata": {"name": "iris", "uid": "u"}, "spec": {"model": {"name": "wine"}}, "status": status}
    target = Target(platform, "https://arm/w", "app-id", "federated", "server")
    assert isinstance(model_of_run("iris", "team", run, target), found)


@pytest.mark.parametrize("number", [10**400, float("nan"), float("inf")])
def test_a_number_that_is_none_fails_a_check_and_nothing_else(number: float) -> None:
    wanted = Smoke.model_validate({"rows": [{"x": 1}], "expect": {"minimum": 0}})
    judged = smoke(wanted, Scored(200, 0.1, [number]), seconds=60, may_be_cold=False)
    assert judged.outcome == "Failed"
    point = {"value": [{"timeseries": [{"metadatavalues": [], "data": [{"average": number}]}]}]}
    assert measured_of(point, point) == Measured()
