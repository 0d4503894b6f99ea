"""Uploaded code goes when nobody needs it, and never while somebody may."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.unit.stage import CLUSTER, Scene
from trainyard.api.training_run import Attempt
from trainyard.controllers.snapshots import run_snapshot
from trainyard.controllers.store import Key
from trainyard.core.snapshot import RunSnapshot
from trainyard.core.transition import newest
from trainyard.platforms.databricks import names


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    yield made
    await made.stop()


def snapshot(scene: Scene, key: Key) -> RunSnapshot:
    obj = scene.store.get(key)
    assert obj is not None
    return run_snapshot(obj)


async def finished(scene: Scene, name: str = "done") -> RunSnapshot:
    key = scene.put(name)
    await scene.finish(key)
    return snapshot(scene, key)


class Slow:
    """A removal that ends when it is told to."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.begun, self.go_on = scene, asyncio.Event(), asyncio.Event()
        loop, clean = asyncio.get_running_loop(), scene.remote.clean

        def slow(folder: str) -> bool:
            loop.call_soon_threadsafe(self.begun.set)
            asyncio.run_coroutine_threadsafe(self.go_on.wait(), loop).result(10)
            return clean(folder)

        scene.remote.clean = slow  # type: ignore[method-assign, assignment]


async def test_what_is_removed_is_what_was_uploaded(scene: Scene) -> None:
    run = await finished(scene)
    attempt = newest(run.status)
    assert attempt is not None
    folder = names.code_folder("app-id", CLUSTER, attempt.code_digest)
    assert scene.remote.folders == {folder}
    assert await scene.uploads.clean(run) == "1 folder of uploaded code removed"
    assert scene.remote.folders == set()


async def test_what_is_gone_already_is_no_error(scene: Scene) -> None:
    run = await finished(scene)
    scene.remote.folders.clear()
    assert await scene.uploads.clean(run) == "there was no uploaded code to remove"


async def test_a_run_that_is_about_to_upload_keeps_the_folder(scene: Scene) -> None:
    """Its intent is written, and nothing is on the platform yet."""
    run = await finished(scene)
    key = scene.put("next")
    scene.remote.errors["submit"] = ConnectionError("the process dies here")
    with pytest.raises(ConnectionError):
        await scene.turn(key)
    assert scene.status(key)["phase"] == "Submitting"
    assert await scene.uploads.clean(run) == "uploaded code left for next, which uses it too"
    assert "clean" not in scene.remote.calls


async def test_another_teams_run_is_not_named(scene: Scene) -> None:
    run = await finished(scene)
    other = scene.put("secret-project")
    await scene.turn(other)
    obj = scene.store.get(other)
    assert obj is not None
    elsewhere = {**obj, "metadata": {**obj["metadata"], "namespace": "elsewhere", "uid": "another"}}
    scene.store.remove(other)
    scene.store.put(Key("MLTrainingRun", "elsewhere", "secret-project"), elsewhere)
    assert await scene.uploads.clean(run) == "uploaded code left for a run of another namespace, which uses it too"


async def test_a_run_that_uploaded_nothing_asks_nothing(scene: Scene) -> None:
    key = scene.put(code=None, compute=None, jobRef={"id": "7"})
    await scene.finish(key)
    assert await scene.uploads.clean(snapshot(scene, key)) == "there was no uploaded code to remove"
    assert "clean" not in scene.remote.calls


async def test_an_upload_waits_for_a_removal_under_way(scene: Scene) -> None:
    run = await finished(scene)
    slow = Slow(scene)
    removal = asyncio.create_task(scene.uploads.clean(run))
    await slow.begun.wait()
    reached, may_begin = asyncio.Event(), scene.uploads.may_begin

    async def told(attempt: Attempt) -> None:
        reached.set()
        await may_begin(attempt)

    scene.uploads.may_begin = told  # type: ignore[method-assign]
    turn = asyncio.create_task(scene.turn(scene.put("next")))
    await reached.wait()
    assert scene.remote.calls.count("submit") == 1  # of the finished run only
    slow.go_on.set()
    await asyncio.gather(removal, turn)
    assert scene.remote.calls[-2:] == ["clean", "submit"]
    assert len(scene.remote.folders) == 1


async def test_two_that_remove_the_same_folder_do_it_once_and_agree(scene: Scene) -> None:
    runs = [await finished(scene, "a"), await finished(scene, "b")]
    slow = Slow(scene)
    removals = [asyncio.create_task(scene.uploads.clean(run)) for run in runs]
    await slow.begun.wait()
    slow.go_on.set()
    assert await asyncio.gather(*removals) == [
        "1 folder of uploaded code removed",
        "there was no uploaded code to remove",
    ]
