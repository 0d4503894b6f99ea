"""Logs are kept as well as they can be, told when they are not, and never cost a result."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.unit.stage import Scene
from trainyard.api.run_log import MOST_CHARACTERS, MLRunLogSpec
from trainyard.audit.transport import Bounds
from trainyard.controllers.destinations import BOUNDS, SECONDS, Keeping
from trainyard.controllers.run_logs import MOST_BYTES, shortened
from trainyard.controllers.runs import DEADLINES
from trainyard.core.errors import Denied, Refused, Unreachable
from trainyard.core.remote import End, Result, TaskText

LOGS = Result(logs=(TaskText("train", "epoch 1\nepoch 2\n"),))


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    yield made
    await made.stop()


async def test_the_log_belongs_to_the_run_and_goes_with_it(scene: Scene) -> None:
    await scene.finish(scene.put(), result=LOGS)
    kept = scene.api.objects["MLRunLog", "team", "iris-1"]
    [owner] = kept["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("MLTrainingRun", "iris", "uid-iris")
    assert owner["blockOwnerDeletion"] is False
    spec = MLRunLogSpec.model_validate(kept["spec"])
    assert (spec.run_uid, spec.attempt, spec.remote_id, spec.tasks[0].text) == (
        "uid-iris",
        1,
        "1",
        "epoch 1\nepoch 2\n",
    )


async def test_the_log_is_there_before_the_run_says_that_it_has_ended(scene: Scene) -> None:
    await scene.finish(scene.put(), End.CODE, LOGS)
    asked = scene.api.asked
    assert asked.index("create mlrunlogs") < len(asked) - 1 - asked[::-1].index("update mltrainingruns/status")


async def test_a_crash_after_the_log_was_written_changes_nothing(scene: Scene) -> None:
    key = scene.put()
    body = {"metadata": {"namespace": "team", "name": "iris-1"}, "spec": {"runUid": "uid-iris"}}
    before = scene.api.seed("MLRunLog", body)
    assert (await scene.finish(key, result=LOGS))["phase"] == "Succeeded"
    assert scene.api.objects["MLRunLog", "team", "iris-1"] == before
    assert "LogsNotKept" not in [note["reason"] for note in scene.api.notes]


async def test_an_earlier_runs_log_of_the_same_name_is_not_taken_for_ours(scene: Scene) -> None:
    key = scene.put()
    scene.api.seed("MLRunLog", {"metadata": {"namespace": "team", "name": "iris-1"}, "spec": {"runUid": "another"}})
    assert (await scene.finish(key, result=LOGS))["phase"] == "Succeeded"
    [note] = [note for note in scene.api.notes if note["reason"] == "LogsNotKept"]
    assert "delete it" in note["message"]


async def test_a_log_that_can_not_be_written_is_told_and_costs_no_result(scene: Scene) -> None:
    scene.api.forbidden.add("mlrunlogs")
    key = scene.put()
    status = await scene.finish(key, result=Result(metrics={"accuracy": "0.9"}, logs=LOGS.logs))
    assert (status["phase"], status["metrics"]) == ("Succeeded", {"accuracy": "0.9"})
    [note] = [note for note in scene.api.notes if note["reason"] == "LogsNotKept"]
    assert "MLRunLog iris-1 could not be written" in note["message"]


async def test_no_characters_make_no_object(scene: Scene) -> None:
    scene.logs.characters = 0
    await scene.finish(scene.put(), result=LOGS)
    assert "create mlrunlogs" not in scene.api.asked


def test_the_last_part_of_each_task_is_kept_and_it_says_so() -> None:
    texts = [TaskText("a", "x" * 10 + "the end"), TaskText("b", "short"), TaskText("c", "", missing="never started")]
    logs = [log.wire() for log in shortened(texts, 7)]
    assert logs == [
        {"name": "a", "text": "the end", "truncated": True},
        {"name": "b", "text": "short"},
        {"name": "c", "text": "", "missing": "never started"},
    ]


@pytest.mark.parametrize("letter", ["x", "ä", "\x1b", "😀"])
def test_thirty_two_tasks_fit_into_one_object_whatever_they_print(letter: str) -> None:
    logs = shortened([TaskText(f"task-{n}", letter * 65_536) for n in range(32)], 65_536)
    assert sum(len(log.text) for log in logs) <= MOST_CHARACTERS
    assert len(json.dumps([log.wire() for log in logs], ensure_ascii=False).encode()) <= MOST_BYTES
    assert all(len(log.text) > 1000 and log.truncated for log in logs)


class Store:
    """A destination."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.error: Exception | None = None
        self.tries = 0

    def put(self, key: str, data: bytes, content_type: str) -> str:
        self.tries += 1
        if self.error is not None:
            raise self.error
        self.kept[key] = data
        return f"s3://logs/{key}"

    def get(self, key: str) -> bytes | None:
        return self.kept.get(key)

    def delete(self, prefix: str) -> None:
        raise AssertionError("nothing here deletes logs")


def test_each_task_has_a_file_in_the_attempts_folder() -> None:
    store = Store()
    assert Keeping(store, "team/iris/uid/attempt-1")("train", "hällo") == "s3://logs/team/iris/uid/attempt-1/train.log"
    assert store.kept == {"team/iris/uid/attempt-1/train.log": "hällo".encode()}


def test_a_destination_that_refuses_is_not_asked_for_every_task() -> None:
    store = Store()
    store.error = Denied("no right to write")
    keeping = Keeping(store, "f")
    for task in ("a", "b", "c"):
        with pytest.raises(Denied):
            keeping(task, "text")
    assert store.tries == 1
    assert keeping.failure is store.error


def test_a_slow_destination_is_given_up_while_there_is_time_for_the_result() -> None:
    now = 0.0
    store = Store()
    keeping = Keeping(store, "f", lambda: now)
    keeping("a", "text")
    now = SECONDS + 1
    with pytest.raises(Unreachable, match="longer than"):
        keeping("b", "text")
    token = Bounds(total=15.0).total
    assert SECONDS + BOUNDS.total + token < DEADLINES["collect"]


class Volume:
    """A platform's own files."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def put(self, path: str, data: bytes) -> None:
        self.files[path] = data

    def get(self, path: str) -> bytes | None:
        return self.files.get(path)

    def delete(self, path: str) -> None:
        raise AssertionError("nothing here deletes logs")


async def test_a_volume_is_written_as_the_identity_that_the_attempt_was_made_with(scene: Scene) -> None:
    scene.put_workspace(logDestination={"volume": "/Volumes/main/ml/logs"})
    scene.remote.files = volume = Volume()
    await scene.finish(scene.put())
    keep = scene.remote.wanted[0].keep
    assert keep is not None
    path = "/Volumes/main/ml/logs/team/iris/uid-iris/attempt-1/train.log"
    assert keep("train", "hello") == path
    assert volume.files == {path: b"hello"}


async def test_a_platform_without_volumes_says_that_nothing_is_kept(scene: Scene) -> None:
    scene.put_workspace(logDestination={"volume": "/Volumes/main/ml/logs"})
    await scene.finish(scene.put())
    keep = scene.remote.wanted[0].keep
    assert keep is not None
    with pytest.raises(Refused):
        keep("train", "hello")


@pytest.mark.parametrize(
    "destination",
    [
        {"s3": {"bucket": "logs", "region": "eu-west-1", "roleArn": "arn:aws:iam::123456789012:role/logs"}},
        {"adls": {"account": "logs", "container": "runs", "tenantId": "t", "clientId": "c"}},
    ],
)
async def test_a_workspace_that_keeps_whole_logs_has_its_runs_keep_them(
    scene: Scene, destination: dict[str, Any]
) -> None:
    scene.put_workspace(logDestination=destination)
    await scene.finish(scene.put())
    assert isinstance(scene.remote.wanted[0].keep, Keeping)
    await scene.finish(scene.put("next"))
    assert len(scene.destinations._stores) == 1
