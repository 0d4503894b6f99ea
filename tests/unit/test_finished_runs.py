"""What a finished run costs, and how it goes: nothing, until its time to live is over."""

from collections.abc import AsyncIterator

import pytest

from tests.unit.stage import Scene
from trainyard.core.errors import Denied
from trainyard.core.remote import End


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    yield made
    await made.stop()


async def test_a_resync_of_finished_runs_asks_nobody_anything(scene: Scene) -> None:
    keys = [scene.put(f"run-{n}") for n in range(5)]
    for key in keys:
        assert (await scene.finish(key))["phase"] == "Succeeded"
        assert await scene.turn(key) is None
    scene.api.asked.clear()
    scene.remote.calls.clear()
    for key in keys:
        scene.store.put(key, scene.api.objects[key.kind, key.namespace, key.name])  # as a new watch lists it
        assert await scene.turn(key) is None
    assert (scene.api.asked, scene.remote.calls) == ([], [])


async def test_nothing_of_a_finished_run_is_remembered(scene: Scene) -> None:
    key = scene.put()
    await scene.finish(key)
    await scene.turn(key)
    assert (scene.controller._observed, scene.controller._troubles._failures, scene.controller._keys) == ({}, {}, {})
    assert scene.sessions._watched == {}


async def test_a_run_with_a_time_to_live_only_wakes_when_it_is_over(scene: Scene) -> None:
    key = scene.put(ttlSecondsAfterFinished=600)
    await scene.finish(key)
    scene.api.asked.clear()
    wake = await scene.turn(key)
    assert wake is not None
    assert (wake - scene.now).total_seconds() == 600
    assert scene.api.asked == []
    assert scene.controller._observed == {}


async def test_when_its_time_is_over_its_uploads_go_and_then_itself(scene: Scene) -> None:
    key = scene.put(ttlSecondsAfterFinished=600)
    await scene.finish(key)
    await scene.turn(key)
    assert len(scene.remote.folders) == 1
    scene.later(600)
    await scene.turn(key)
    assert scene.remote.folders == set()
    assert (key.kind, key.namespace, key.name) not in scene.api.objects
    assert scene.api.asked[-1] == "delete mltrainingruns"
    assert scene.controller._observed == {}


async def test_a_run_that_somebody_has_just_changed_is_not_deleted_as_it_was(scene: Scene) -> None:
    key = scene.put(ttlSecondsAfterFinished=600)
    await scene.finish(key)
    obj = scene.api.objects[key.kind, key.namespace, key.name]
    spec = {name: value for name, value in obj["spec"].items() if name != "ttlSecondsAfterFinished"}
    scene.api.seed(key.kind, {**obj, "spec": spec})  # the watch has not told yet
    scene.later(600)
    assert await scene.turn(key) is None
    assert (key.kind, key.namespace, key.name) in scene.api.objects


async def test_what_argo_cd_tracks_stays_and_says_so(scene: Scene) -> None:
    meta = {"annotations": {"argocd.argoproj.io/tracking-id": "app:trainyard.dev/MLTrainingRun:team/iris"}}
    key = scene.put(meta=meta, ttlSecondsAfterFinished=60)
    await scene.finish(key)
    scene.later(60)
    await scene.turn(key)
    cleanup = scene.status(key)["cleanup"]
    assert cleanup["reason"] == "UploadsRemoved"
    assert "Argo CD" in cleanup["message"]
    assert scene.remote.folders == set()
    scene.api.asked.clear()
    assert await scene.turn(key) is None
    assert scene.api.asked == []


async def test_a_cleanup_that_fails_is_tried_again_later_and_given_up_at_last(scene: Scene) -> None:
    key = scene.put(ttlSecondsAfterFinished=60)
    await scene.finish(key)
    scene.remote.errors["clean"] = Denied("lacks CAN MANAGE on the folder")
    scene.later(60)
    first = await scene.turn(key)
    assert first is not None
    assert first > scene.now
    assert (key.kind, key.namespace, key.name) in scene.api.objects
    for _ in range(40):
        wake = await scene.turn(key)
        if wake is None:
            break
        scene.now = max(scene.now, wake)
    assert (key.kind, key.namespace, key.name) not in scene.api.objects
    assert 5 < scene.remote.calls.count("clean") < 30


async def test_source_that_another_run_uses_is_left_for_it(scene: Scene) -> None:
    done, running = scene.put("done", ttlSecondsAfterFinished=60), scene.put("running")
    await scene.finish(done)
    await scene.turn(running)
    assert scene.status(running)["phase"] == "Queued"
    scene.later(60)
    await scene.turn(done)
    assert len(scene.remote.folders) == 1
    assert "clean" not in scene.remote.calls
    await scene.finish(running)
    scene.edit(running, ttlSecondsAfterFinished=60)
    scene.later(60)
    await scene.turn(running)
    assert scene.remote.folders == set()


async def test_a_failed_run_is_told_with_its_end(scene: Scene) -> None:
    assert (await scene.finish(scene.put(), End.CODE))["phase"] == "Failed"
