"""Logs are kept as well as they can be, told when they are not, and never cost a result."""

import json
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.unit.stage import Scene
from trainyard.api.base import DNS_NAME
from trainyard.api.mappings import LogDestination, S3Destination
from trainyard.api.run_log import MOST_CHARACTERS, MLRunLogSpec, log_name
from trainyard.audit.transport import Bounds
from trainyard.controllers.destinations import BOUNDS, REST_SECONDS, SECONDS, Keeping, Resting, _Key
from trainyard.controllers.run_logs import MOST_BYTES, shortened
from trainyard.controllers.runs import DEADLINES
from trainyard.core.errors import Denied, PlatformError, Refused, Unreachable
from trainyard.core.remote import End, RemoteRun, Result, TaskText
from trainyard.identity.base import ServiceAccountRef
from trainyard.keeping.base import LogStore
from trainyard.platforms.base import Wanted

LOGS = Result(logs=(TaskText("train", "epoch 1\nepoch 2\n"),))


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    yield made
    await made.stop()


async def test_the_log_belongs_to_the_run_and_goes_with_it(scene: Scene) -> None:
    await scene.finish(scene.put(), result=LOGS)
    kept = scene.api.objects["MLRunLog", "team", "iris-uid-iris-1"]
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
    body = {"metadata": {"namespace": "team", "name": "iris-uid-iris-1"}, "spec": {"runUid": "uid-iris"}}
    before = scene.api.seed("MLRunLog", body)
    assert (await scene.finish(key, result=LOGS))["phase"] == "Succeeded"
    assert scene.api.objects["MLRunLog", "team", "iris-uid-iris-1"] == before
    assert "LogsNotKept" not in [note["reason"] for note in scene.api.notes]


async def test_a_run_made_again_under_the_same_name_has_logs_of_its_own(scene: Scene) -> None:
    """The log of the run before may still be there: its owner has gone, and the garbage collector takes its time."""
    before = scene.api.seed("MLRunLog", {"metadata": {"namespace": "team", "name": log_name("iris", "another", 1)}})
    assert (await scene.finish(scene.put(), result=LOGS))["phase"] == "Succeeded"
    assert scene.api.objects["MLRunLog", "team", "iris-uid-iris-1"]["spec"]["runUid"] == "uid-iris"
    assert scene.api.objects["MLRunLog", "team", before["metadata"]["name"]] == before
    assert "LogsNotKept" not in [note["reason"] for note in scene.api.notes]


async def test_somebody_elses_log_is_not_taken_for_ours(scene: Scene) -> None:
    body = {"metadata": {"namespace": "team", "name": "iris-uid-iris-1"}, "spec": {"runUid": "another"}}
    scene.api.seed("MLRunLog", body)
    assert (await scene.finish(scene.put(), result=LOGS))["phase"] == "Succeeded"
    [note] = [note for note in scene.api.notes if note["reason"] == "LogsNotKept"]
    assert "delete it" in note["message"]


@pytest.mark.parametrize("name", ["iris", "a" * 253, "a" * 199 + ".b", "a" * 198 + ".-b"])
def test_the_name_of_a_log_is_one_for_every_run_and_every_attempt(name: str) -> None:
    found = log_name(name, "0a1b2c3d-4e5f-6789-abcd-ef0123456789", 1234)
    assert len(found) <= 253
    assert re.fullmatch(DNS_NAME, found)
    assert found.endswith("-0a1b2c3d-1234")


async def test_a_log_that_can_not_be_written_is_told_and_costs_no_result(scene: Scene) -> None:
    scene.api.forbidden.add("mlrunlogs")
    key = scene.put()
    status = await scene.finish(key, result=Result(metrics={"accuracy": "0.9"}, logs=LOGS.logs))
    assert (status["phase"], status["metrics"]) == ("Succeeded", {"accuracy": "0.9"})
    [note] = [note for note in scene.api.notes if note["reason"] == "LogsNotKept"]
    assert "MLRunLog iris-uid-iris-1 could not be written" in note["message"]


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


AT = _Key(ServiceAccountRef("team", "trainer"), "databricks", "https://dbc-1", "p", "{}")


def keeping(
    store: Store | Callable[[], LogStore],
    folder: str = "f",
    resting: Resting | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Keeping:
    """What keeps logs in that store, or in what makes one."""
    made = (lambda: store) if isinstance(store, Store) else store
    return Keeping(made, folder, AT, resting or Resting(clock), clock)


def test_each_task_has_a_file_in_the_attempts_folder() -> None:
    store = Store()
    assert keeping(store, "team/iris/uid/attempt-1")("train", "hällo") == "s3://logs/team/iris/uid/attempt-1/train.log"
    assert store.kept == {"team/iris/uid/attempt-1/train.log": "hällo".encode()}


def test_a_destination_that_refuses_is_not_asked_for_every_task() -> None:
    store = Store()
    store.error = Denied("no right to write")
    keep = keeping(store)
    for task in ("a", "b", "c"):
        with pytest.raises(Denied):
            keep(task, "text")
    assert store.tries == 1
    assert keep.failure is store.error


def test_a_slow_destination_is_given_up_while_there_is_time_for_the_result() -> None:
    now = 0.0
    store = Store()
    keep = keeping(store, clock=lambda: now)
    keep("a", "text")
    now = SECONDS + 1
    with pytest.raises(Unreachable, match="longer than"):
        keep("b", "text")
    token = Bounds(total=15.0).total
    assert SECONDS + BOUNDS.total + token < DEADLINES["collect"]


def test_whatever_goes_wrong_with_a_destination_is_told_as_its_failure() -> None:
    def broken() -> LogStore:
        raise ValueError("a destination that nobody thought of")

    for keep in (keeping(broken), keeping(store := Store())):
        store.error = KeyError("no such thing")
        with pytest.raises(PlatformError, match="unexpectedly"):
            keep("a", "text")
        assert keep.failure is not None


def test_a_destination_that_is_down_is_left_alone_for_a_while_by_every_run() -> None:
    now = 0.0
    store, resting = Store(), Resting(lambda: now)
    store.error = Unreachable("S3 did not answer")
    for _ in range(3):
        with pytest.raises(Unreachable, match="S3 did not answer"):
            keeping(store, resting=resting)("a", "text")
    assert store.tries == 1
    now = REST_SECONDS - 1
    with pytest.raises(Unreachable) as told:
        keeping(store, resting=resting)("a", "text")
    assert told.value.message.count("left alone") == 1
    now, store.error = REST_SECONDS, None  # however many asked meanwhile
    assert keeping(store, resting=resting)("a", "text")


def test_a_destination_that_is_down_is_down_for_every_namespace_and_for_no_other_destination() -> None:
    resting = Resting(lambda: 0.0)
    resting.failed(AT, Unreachable("S3 did not answer"))
    assert resting.why(AT._replace(account=ServiceAccountRef("another", "trainer"), principal="q")) is not None
    assert resting.why(AT._replace(destination='{"s3": {}}')) is None


def test_a_destination_that_refuses_is_asked_again_by_the_next_run() -> None:
    """It may have been mended meanwhile, and a quick no holds up nobody."""
    store, resting = Store(), Resting(time.monotonic)
    store.error = Denied("no right to write")
    for _ in range(2):
        with pytest.raises(Denied):
            keeping(store, resting=resting)("a", "text")
    assert store.tries == 2


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
    assert len(scene.destinations._stores) == 0  # made where it is used, so that it can not keep a run from ending


async def test_a_destination_that_makes_no_sense_costs_no_result(scene: Scene) -> None:
    """One of an older schema, or of a stricter store."""
    s3 = S3Destination.model_construct(bucket="logs", prefix="a/../b", region="x", role_arn="y")
    scene.readiness.log_destination = lambda _: LogDestination(s3=s3)  # type: ignore[method-assign, assignment]

    def collect(_remote: RemoteRun, _mlflow: str | None, wanted: Wanted) -> Result:
        assert wanted.keep is not None
        with pytest.raises(Refused):
            wanted.keep("train", "hello")
        return LOGS

    scene.remote.collect = collect  # type: ignore[method-assign, assignment]
    assert (await scene.finish(scene.put()))["phase"] == "Succeeded"
    [note] = [note for note in scene.api.notes if note["reason"] == "LogsNotKept"]
    assert "is no bucket of a region" in note["message"]


async def test_what_was_printed_is_not_remembered_once_it_is_kept(scene: Scene) -> None:
    """Runs that back off after they printed much would fill the memory together."""
    await scene.finish(scene.put(retry={"limit": 3}), End.INFRASTRUCTURE, LOGS)
    [observed] = scene.controller._observed.values()
    assert observed.result == Result()
