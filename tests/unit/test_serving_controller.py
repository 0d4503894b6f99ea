"""Deployments brought from spec to endpoint, with API server and platform in memory."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.unit.serving_fake import Endpoint, Served
from tests.unit.serving_stage import MODEL, ServingScene, served
from trainyard.controllers.kube import DEPLOYMENT
from trainyard.controllers.store import Key, has_endpoint
from trainyard.core.errors import Denied, Unreachable
from trainyard.core.serving.seen import Measured, Scored
from trainyard.core.serving.snapshot import ENDPOINT_FINALIZER
from trainyard.platforms.limits import PlatformBusy

CANARY = {
    "strategy": "Canary",
    "steps": [{"traffic": 10, "holdForSeconds": 60}, {"traffic": 50, "holdForSeconds": 60}],
    "checks": {"smoke": {"rows": [{"alcohol": 12}], "expect": {"type": "Number"}}},
}
ENDPOINT = "team-wine"


@pytest.fixture
async def scene() -> AsyncIterator[ServingScene]:
    made = ServingScene()
    yield made
    await made.stop()


def reasons(scene: ServingScene, kind: str | None = None) -> list[str]:
    return [note["reason"] for note in scene.api.notes if kind is None or note["type"] == kind]


async def tenth(scene: ServingScene, key: Key) -> None:
    """Version 2 gets its first share."""
    scene.edit(key, models=[served("2")])
    while scene.platform.shares(ENDPOINT).get("2") != 10:
        scene.now = max(scene.now, await scene.turn(key) or scene.now)


async def test_a_new_deployment_is_pinned_before_it_is_made_and_ready_when_it_answers(scene: ServingScene) -> None:
    key = scene.put("1")
    status = await scene.until(key, "Ready")
    assert scene.finalizers(key) == [ENDPOINT_FINALIZER]
    assert {session.namespace for session in scene.sessions._sessions} == {"team"}
    assert status["endpoint"]["url"] == "https://fake.example/team-wine"
    assert (status["endpoint"]["principal"], status["lastGoodRevision"]) == ("app-id", 1)
    assert scene.platform.shares(ENDPOINT) == {"1": 100}
    assert "score" in scene.platform.calls
    before = scene.api.asked.index("update modeldeployments/status")
    assert scene.api.asked.index("patch modeldeployments") < before


async def test_nothing_is_asked_of_the_platform_before_the_pin_is_in_the_api_server(scene: ServingScene) -> None:
    key = scene.put("1")
    scene.api.forbidden.add("modeldeployments/status")
    with pytest.raises(Exception, match="403"):
        await scene.turn(key)
    assert "change" not in scene.platform.calls


async def test_a_canary_goes_by_its_steps_and_nothing_that_is_not_ready_gets_requests(scene: ServingScene) -> None:
    key = scene.put("1", rollout=CANARY)
    await scene.until(key, "Ready")
    scene.edit(key, models=[served("2")])
    await scene.until(key, "RollingOut")
    status = await scene.until(key, "Ready")
    shares = [after for what, after in scene.platform.trail if what == "share"]
    assert shares == [{"1": 90, "2": 10}, {"1": 50, "2": 50}, {"1": 0, "2": 100}]
    assert scene.platform.shares(ENDPOINT) == {"2": 100}
    assert (status["revision"], status["lastGoodRevision"]) == (2, 2)
    assert reasons(scene).count("RolloutStep") == 2


async def test_a_model_that_answers_wrongly_is_rolled_back_with_its_log_and_without_its_tokens(
    scene: ServingScene,
) -> None:
    key = scene.put("1", rollout=CANARY)
    await scene.until(key, "Ready")
    scene.platform.answers = lambda version, rows: Scored(200, 0.1, ["no number"] if version == "2" else [1.0])
    scene.edit(key, models=[served("2")])
    status = await scene.until(key, "RolledBack")
    assert scene.platform.shares(ENDPOINT) == {"1": 100}
    assert status["failure"]["reason"] == "SmokeCheckFailed"
    assert status["failure"]["log"].startswith("Traceback of 2")
    assert "eyJ" not in json.dumps(status)
    assert not any(after.get("2") for _, after in scene.platform.trail)


async def test_a_broken_model_is_removed_since_it_costs_and_what_served_goes_on(scene: ServingScene) -> None:
    key = scene.put("1")
    await scene.until(key, "Ready")
    scene.platform.broken.add("2")
    scene.edit(key, models=[served("2")])
    status = await scene.until(key, "RolledBack")
    assert scene.platform.shares(ENDPOINT) == {"1": 100}
    available = next(each for each in status["conditions"] if each["type"] == "Available")
    assert available["status"] == "True"


@pytest.mark.parametrize("turns", range(1, 12))
async def test_a_restart_anywhere_in_a_rollout_ends_the_same(scene: ServingScene, turns: int) -> None:
    key = scene.put("1", rollout=CANARY)
    await scene.until(key, "Ready")
    scene.edit(key, models=[served("2")])
    for _ in range(turns):
        wake = await scene.turn(key)
        if wake is not None:
            scene.now = max(scene.now, wake)
    scene.restart()
    await scene.until(key, "Ready")
    assert scene.platform.shares(ENDPOINT) == {"2": 100}
    shares = [after for what, after in scene.platform.trail if what == "share"]
    assert shares == [{"1": 90, "2": 10}, {"1": 50, "2": 50}, {"1": 0, "2": 100}]


async def test_a_deleted_deployment_holds_its_object_until_the_endpoint_is_gone(scene: ServingScene) -> None:
    key = scene.put("1")
    await scene.until(key, "Ready")
    scene.delete(key)
    scene.platform.errors["delete"] = Unreachable("no answer")
    await scene.rest(key, 20)
    assert scene.finalizers(key) == [ENDPOINT_FINALIZER]
    scene.platform.errors.clear()
    scene.platform.calls.clear()
    await scene.rest(key, 120)
    assert scene.platform.endpoints_by_name == {}
    assert scene.finalizers(key) == []
    assert scene.platform.calls == ["delete", "exists", "exists"]
    assert "RemoteEndpointLeft" not in reasons(scene)


async def test_an_endpoint_that_lost_our_mark_is_told_to_be_left_when_its_deployment_goes(scene: ServingScene) -> None:
    key = scene.put("1")
    await scene.until(key, "Ready")
    scene.platform.endpoints_by_name[ENDPOINT].uid = "another"
    scene.delete(key)
    await scene.rest(key, 120)
    assert scene.finalizers(key) == []
    assert ENDPOINT in scene.platform.endpoints_by_name
    assert "RemoteEndpointLeft" in reasons(scene, "Warning")


async def test_an_endpoint_goes_although_its_workspace_went_first(scene: ServingScene) -> None:
    key = scene.put("1")
    await scene.until(key, "Ready")
    workspace = next(found for found, _ in scene.store.all_of("MLWorkspace"))
    scene.store.remove(workspace)
    scene.delete(key)
    await scene.rest(key, 120)
    assert scene.platform.endpoints_by_name == {}
    assert scene.finalizers(key) == []


async def test_an_endpoint_is_looked_at_once_a_minute_while_all_is_well(scene: ServingScene) -> None:
    key = scene.put("1")
    await scene.until(key, "Ready")
    await scene.rest(key, 61)
    scene.platform.calls.clear()
    writes = len(scene.api.asked)
    await scene.rest(key, 600)
    assert 9 <= scene.platform.calls.count("look") <= 11
    assert set(scene.platform.calls) == {"look"}
    assert scene.api.asked[writes:] == []


async def test_a_change_by_another_hand_is_told_or_reverted_as_the_policy_says(scene: ServingScene) -> None:
    key = scene.put("1", tags={"team": "wine"})
    await scene.until(key, "Ready")
    scene.platform.endpoints_by_name[ENDPOINT].tags = {"team": "other"}
    status = await scene.until(key, "Drifted")
    assert status["drift"]
    assert scene.platform.endpoints_by_name[ENDPOINT].tags == {"team": "other"}
    scene.edit(key, driftPolicy="Revert")
    await scene.until(key, "Ready")
    assert scene.platform.endpoints_by_name[ENDPOINT].tags == {"team": "wine"}


async def test_somebody_elses_endpoint_is_never_changed(scene: ServingScene) -> None:
    scene.platform.endpoints_by_name[ENDPOINT] = Endpoint("another", served={"x": Served(MODEL, "9", "Ready", 100)})
    key = scene.put("1")
    await scene.until(key, "Stalled")
    assert scene.reason(key) == "EndpointNameTaken"
    scene.api.asked.clear()
    await scene.rest(key, 300)
    assert scene.platform.trail == []
    assert scene.api.asked == []  # looked at, and told once
    scene.delete(key)
    await scene.rest(key, 120)
    assert ENDPOINT in scene.platform.endpoints_by_name
    assert scene.finalizers(key) == []


async def test_a_person_can_go_back_to_what_serves_although_its_compute_class_is_gone(scene: ServingScene) -> None:
    key = scene.put("1", rollout=CANARY)
    await scene.until(key, "Ready")
    await tenth(scene, key)
    scene.put_workspace(computeClasses={"other": {"serverless": {"environmentVersion": "5"}}})
    scene.edit(key, models=[served("1")])
    await scene.rest(key, 120)
    assert scene.platform.shares(ENDPOINT) == {"1": 100}


@pytest.mark.parametrize("gone", [True, False])
async def test_what_failed_goes_back_whatever_became_of_the_workspace(scene: ServingScene, *, gone: bool) -> None:
    key = scene.put("1", rollout=CANARY)
    await scene.until(key, "Ready")
    await tenth(scene, key)
    bad = scene.status(key)["target"]["models"][0]["served"]
    scene.platform.endpoints_by_name[ENDPOINT].served[bad].state = "Failed"
    scene.platform.frozen = True
    await scene.until(key, "RollingBack")
    if gone:
        scene.store.remove(next(found for found, _ in scene.store.all_of("MLWorkspace")))
    else:
        scene.put_workspace(computeClasses={"other": {"serverless": {"environmentVersion": "5"}}})
    await scene.rest(key, 120)
    assert scene.platform.shares(ENDPOINT) == {"1": 100}
    assert scene.status(key)["failure"]["reason"] == "ServedModelFailed"


async def test_a_canary_that_fails_is_taken_back_although_its_compute_class_is_gone(scene: ServingScene) -> None:
    key = scene.put("1", rollout=CANARY)
    await scene.until(key, "Ready")
    await tenth(scene, key)
    scene.put_workspace(computeClasses={"other": {"serverless": {"environmentVersion": "5"}}})
    bad = scene.status(key)["target"]["models"][0]["served"]
    scene.platform.endpoints_by_name[ENDPOINT].served[bad].state = "Failed"
    await scene.rest(key, 120)
    assert scene.platform.shares(ENDPOINT) == {"1": 100}


async def test_what_a_revision_newly_asks_for_has_to_be_in_the_workspace(scene: ServingScene) -> None:
    key = scene.put("1", rollout=CANARY)
    await scene.until(key, "Ready")
    scene.put_workspace(computeClasses={"other": {"serverless": {"environmentVersion": "5"}}})
    scene.edit(key, models=[served("1", replicas={"min": 2, "max": 2})])
    await scene.rest(key, 120)
    assert (scene.status(key)["phase"], scene.reason(key)) == ("Stalled", "InvalidSpec")


async def test_a_new_revision_takes_the_place_of_one_whose_compute_class_is_gone(scene: ServingScene) -> None:
    key = scene.put("1", rollout=CANARY)
    await scene.until(key, "Ready")
    scene.put_workspace(computeClasses={"other": {"serverless": {"environmentVersion": "5"}}})
    scene.edit(key, models=[served("2", compute={"class": "other"})])
    await scene.until(key, "Ready")
    assert scene.platform.shares(ENDPOINT) == {"2": 100}


BOUNDED = {
    "strategy": "Canary",
    "readyWithinSeconds": 600,
    "steps": [{"traffic": 10, "checks": {"bounds": {"maxErrorPercent": 1, "minRequests": 50}}}],
}


async def test_a_platform_that_does_not_tell_of_errors_holds_a_rollout_no_longer_than_it_may_take(
    scene: ServingScene,
) -> None:
    key = scene.put("1", rollout=BOUNDED)
    await scene.until(key, "Ready")
    scene.platform.measures = Measured(5, None)
    await tenth(scene, key)
    await scene.rest(key, 3000)
    assert (scene.status(key)["phase"], scene.reason(key)) == ("RollingOut", "Checking")
    scene.platform.measures = Measured(500, None)
    await scene.rest(key, 590)
    assert (scene.status(key)["phase"], scene.reason(key)) == ("RollingOut", "Checking")
    status = await scene.until(key, "RolledBack", 60)
    assert status["failure"]["reason"] == "ChecksUnanswered"
    assert "does not tell of errors" in status["failure"]["message"]


async def test_what_was_not_told_for_a_while_is_forgiven_when_it_is_told(scene: ServingScene) -> None:
    key = scene.put("1", rollout=BOUNDED)
    await scene.until(key, "Ready")
    await tenth(scene, key)
    for measures in (Measured(500, None), Measured(5, None), Measured(500, None)):
        scene.platform.measures = measures
        await scene.rest(key, 400)
    assert (scene.status(key)["phase"], scene.reason(key)) == ("RollingOut", "Checking")
    scene.platform.measures = Measured(500, 0)
    await scene.until(key, "Ready")
    assert scene.platform.shares(ENDPOINT) == {"2": 100}


async def test_a_busy_platform_is_waited_for_and_nobody_else_is_kept_from_asking(scene: ServingScene) -> None:
    key = scene.put("1")
    await scene.until(key, "Ready")
    scene.platform.errors["change"] = PlatformBusy("an update is in progress")
    scene.edit(key, models=[served("2")])
    await scene.rest(key, 300)
    assert scene.platform.calls.count("change") > 5
    assert scene.reason(key) == "PlatformBusy"
    session = next(iter(scene.sessions._sessions.values()))
    await session.call("whoami", scene.platform.whoami, deadline=5)
    scene.platform.errors.clear()
    await scene.until(key, "Ready")


async def test_trouble_is_tried_again_more_and_more_seldom_and_told_once(scene: ServingScene) -> None:
    key = scene.put("1")
    await scene.until(key, "Ready")
    scene.platform.errors["look"] = Unreachable("no answer", reason="PlatformUnreachable")
    scene.platform.calls.clear()
    await scene.rest(key, 900)
    assert 8 <= scene.platform.calls.count("look") <= 25
    assert scene.status(key)["phase"] == "Ready"
    assert scene.reason(key) == "PlatformUnreachable"
    assert scene.api.asked.count("update modeldeployments/status") < 20


async def test_a_missing_right_during_a_rollout_asks_for_a_person_and_goes_on_by_itself(scene: ServingScene) -> None:
    key = scene.put("1")
    scene.platform.errors["change"] = Denied("no right to create endpoints")
    await scene.until(key, "Stalled")
    assert scene.reason(key) == "PermissionDenied"
    scene.platform.errors.clear()
    await scene.until(key, "Ready")


async def test_a_spec_that_can_not_be_followed_leaves_what_is_served(scene: ServingScene) -> None:
    key = scene.put("1")
    await scene.until(key, "Ready")
    scene.edit(key, models=[served("9")])
    await scene.rest(key, 120)
    assert (scene.status(key)["phase"], scene.reason(key)) == ("Pending", "ModelNotRegistered")
    assert scene.platform.shares(ENDPOINT) == {"1": 100}
    scene.edit(key, models=[served("1")])
    await scene.until(key, "Ready")
    assert scene.status(key)["revision"] == 1


async def test_a_followed_alias_that_moves_is_rolled_out(scene: ServingScene) -> None:
    scene.platform.aliases[MODEL, "best"] = "1"
    model: dict[str, Any] = {"name": "wine", "alias": "best", "followAlias": True}
    key = scene.put(None, models=[{"name": "champion", "model": model, "compute": {"class": "small"}}])
    await scene.until(key, "Ready")
    scene.platform.aliases[MODEL, "best"] = "3"
    await scene.rest(key, 300)
    assert scene.platform.shares(ENDPOINT) == {"3": 100}


async def test_what_is_remembered_goes_with_the_object(scene: ServingScene) -> None:
    key = scene.put("1")
    await scene.until(key, "Ready")
    scene.controller.forget("uid-wine")
    assert (scene.controller._observed, scene.controller._troubles._failures, scene.checks._in_vain) == ({}, {}, {})


async def test_an_endpoint_whose_time_is_up_holds_its_workspace_no_more(scene: ServingScene) -> None:
    key = scene.put("1", expiresAfterSeconds=600)
    await scene.until(key, "Ready")
    obj = scene.api.objects[DEPLOYMENT.name, "team", "wine"]
    assert has_endpoint(obj)
    await scene.until(key, "Expired")
    assert not has_endpoint(scene.api.objects[DEPLOYMENT.name, "team", "wine"])
    assert scene.platform.endpoints_by_name == {}
