"""Uploaded code goes when nobody needs it, and never while somebody may."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.unit.stage import SCOPE, Scene
from trainyard.api.training_run import Attempt
from trainyard.controllers.snapshots import run_snapshot
from trainyard.controllers.store import Key
from trainyard.controllers.uploads import QUEUED_AT_MOST, upload_scope
from trainyard.core.errors import Missing, Unreachable
from trainyard.core.remote import End, RemoteRun, Stage
from trainyard.core.snapshot import RunSnapshot
from trainyard.core.times import stamp
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
    folder = names.code_folder("app-id", SCOPE, attempt.code_digest)
    assert scene.remote.folders == {folder}
    assert await scene.uploads.clean(run) == "1 folder of uploaded code removed"
    assert scene.remote.folders == set()


async def test_what_is_gone_already_is_no_error(scene: Scene) -> None:
    run = await finished(scene)
    scene.remote.folders.clear()
    assert await scene.uploads.clean(run) == "no uploaded code was there that can be removed"


async def test_what_has_ended_is_taken_out_of_the_platforms_lists(scene: Scene) -> None:
    run = await finished(scene)
    attempt = newest(run.status)
    assert attempt is not None
    await scene.uploads.clean(run)
    assert scene.remote.retired == [attempt.remote_id]


async def test_what_the_platform_no_longer_has_need_not_be_retired(scene: Scene) -> None:
    run = await finished(scene)
    scene.remote.errors["retire"] = Missing("gone")
    assert await scene.uploads.clean(run) == "1 folder of uploaded code removed"


async def test_a_platform_that_does_not_answer_is_asked_to_retire_again(scene: Scene) -> None:
    run = await finished(scene)
    scene.remote.errors["retire"] = Unreachable("answered 503")
    with pytest.raises(Unreachable):
        await scene.uploads.clean(run)
    del scene.remote.errors["retire"]
    assert await scene.uploads.clean(run) == "no uploaded code was there that can be removed"
    assert len(scene.remote.retired) == 1


async def test_a_remote_run_that_was_never_seen_to_end_is_not_retired(scene: Scene) -> None:
    key = scene.put("lost")
    await scene.turn(key)
    await scene.uploads.clean(snapshot(scene, key))
    assert "retire" not in scene.remote.calls


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
    assert await scene.uploads.clean(snapshot(scene, key)) == "no uploaded code was there that can be removed"
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
    assert [call for call in scene.remote.calls if call in ("clean", "submit")] == ["submit", "clean", "submit"]
    assert len(scene.remote.folders) == 1


async def test_two_that_remove_the_same_folder_do_it_once_and_agree(scene: Scene) -> None:
    runs = [await finished(scene, "a"), await finished(scene, "b")]
    slow = Slow(scene)
    removals = [asyncio.create_task(scene.uploads.clean(run)) for run in runs]
    await slow.begun.wait()
    slow.go_on.set()
    assert await asyncio.gather(*removals) == [
        "1 folder of uploaded code removed",
        "no uploaded code was there that can be removed",
    ]


async def deleted(scene: Scene, key: Key) -> dict[str, Any]:
    """A person deletes the run; the watch tells of it."""
    obj = scene.api.objects[key.kind, key.namespace, key.name]
    meta = {**obj["metadata"], "deletionTimestamp": stamp(scene.now)}
    obj = scene.api.seed(key.kind, {**obj, "metadata": meta})
    scene.store.put(key, obj)
    await scene.turn(key)
    return obj


async def test_an_orphan_keeps_its_code_until_the_platform_has_ended_it(scene: Scene) -> None:
    done = await finished(scene)
    orphan = scene.put("orphan", deletionPolicy="Orphan", attemptTimeoutSeconds=600)
    await scene.turn(orphan)
    await deleted(scene, orphan)
    scene.store.remove(orphan)
    told = "uploaded code left for a remote run that was not stopped when its resource was deleted"
    assert await scene.uploads.clean(done) == told
    assert len(scene.remote.folders) == 1
    scene.later(QUEUED_AT_MOST + 599)
    assert await scene.uploads.clean(done) == told
    scene.later(1)
    assert await scene.uploads.clean(done) == "1 folder of uploaded code removed"


async def test_a_run_that_could_not_be_stopped_keeps_its_code(scene: Scene) -> None:
    done, key = await finished(scene), scene.put("stuck")
    await scene.turn(key)
    scene.remote.errors["cancel"] = Unreachable("answered 503")
    await deleted(scene, key)
    scene.later(900)
    await scene.turn(key)
    assert "RemoteRunLeft" in [note["reason"] for note in scene.api.notes]
    scene.store.remove(key)
    assert (await scene.uploads.clean(done)).startswith("uploaded code left for a remote run")


async def test_an_object_that_went_without_us_keeps_its_code(scene: Scene) -> None:
    """Somebody took the finalizer away by hand."""
    done, key = await finished(scene), scene.put("torn")
    await scene.turn(key)
    del scene.api.objects[key.kind, key.namespace, key.name]
    obj = scene.store.get(key)
    assert obj is not None
    scene.controller.gone(obj)
    scene.store.remove(key)
    assert (await scene.uploads.clean(done)).startswith("uploaded code left for a remote run")


async def test_a_run_that_was_seen_to_end_before_it_went_keeps_nothing(scene: Scene) -> None:
    done, key = await finished(scene), scene.put("stopped")
    await scene.turn(key)
    await deleted(scene, key)
    remote = RemoteRun(scene.status(key)["remoteId"], Stage.ENDED, "TERMINATED", End.CANCELLED, ended_at=scene.now)
    scene.controller.seen("uid-stopped", remote)
    await scene.turn(key)
    obj = scene.store.get(key)
    assert obj is not None
    scene.controller.gone(obj)
    scene.store.remove(key)
    assert await scene.uploads.clean(done) == "1 folder of uploaded code removed"


async def test_orphans_whose_time_is_over_are_forgotten(scene: Scene) -> None:
    for number in range(3):
        key = scene.put(f"orphan-{number}", deletionPolicy="Orphan", code={"inline": f"print({number})"})
        await scene.turn(key)
        await deleted(scene, key)
        scene.later(QUEUED_AT_MOST + 3600)
    assert len(scene.uploads._left) == 1


def test_operators_that_watch_other_namespaces_have_other_folders() -> None:
    scopes = {upload_scope("c", names) for names in ((), ("a",), ("b",), ("a", "b"))}
    assert len(scopes) == 4
    assert upload_scope("c", ("b", "a", "a")) == upload_scope("c", ("a", "b"))
