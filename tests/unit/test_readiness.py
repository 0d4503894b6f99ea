"""What stands between a run and its next attempt, and how often the platform is asked about it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.stage import CLUSTER, Repositories, Scene
from trainyard.controllers.code import Source
from trainyard.controllers.kube import WORKSPACE, ConflictError, Kind
from trainyard.controllers.planning import MOST_CHARACTERS, plan_of
from trainyard.controllers.snapshots import run_snapshot
from trainyard.controllers.store import Key
from trainyard.core.errors import Denied, SourceError, Unreachable
from trainyard.core.remote import End, Finding, Result, TaskText
from trainyard.core.snapshot import Ready, RunSnapshot
from trainyard.platforms.base import Need, Request, RunsAs
from trainyard.platforms.databricks.platform import Databricks
from trainyard.sources.git import GitCredential, GitSource

NEED = Need("schema", "main.ml", "USE SCHEMA", "app-id", "spec.model")
PASSED = Finding("USE SCHEMA on schema main.ml", "spec.model", "Passed", "granted")
MISSING = Finding("USE SCHEMA on schema main.ml", "spec.model", "Missing", "GRANT USE SCHEMA ON SCHEMA main.ml TO x")
OTHER = Finding("USE CATALOG on catalog main", "spec.model", "Missing", "GRANT USE CATALOG ON CATALOG main TO x")
UNKNOWN = Finding("role servicePrincipal.user", "spec.runAs", "Unknown", "may not be asked")


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """A platform whose every request needs one right."""
    made = Scene()
    translate = Databricks.translate

    def with_need(self: Databricks, job: Any) -> Request:
        return replace(translate(self, job), needs=(NEED,))

    monkeypatch.setattr(Databricks, "translate", with_need)
    made.remote.findings = (PASSED,)
    yield made
    await made.stop()


def snapshot(scene: Scene, key: Key) -> RunSnapshot:
    obj = scene.store.get(key)
    assert obj is not None
    return run_snapshot(obj)


async def test_a_missing_right_stops_a_run_before_anything_is_started_and_names_all_of_them(scene: Scene) -> None:
    scene.remote.findings = (PASSED, MISSING, OTHER)
    key = scene.put()
    await scene.turn(key)
    assert (scene.status(key)["phase"], scene.reason(key)) == ("Stalled", "PermissionMissing")
    assert "GRANT USE SCHEMA ON SCHEMA main.ml" in scene.message(key)
    assert "GRANT USE CATALOG ON CATALOG main" in scene.message(key)
    assert scene.remote.calls == ["preflight"]
    assert scene.status(key).get("attempts", []) == []


async def test_what_can_not_be_found_out_stops_nobody(scene: Scene) -> None:
    scene.remote.findings = (UNKNOWN,)
    key = scene.put()
    await scene.turn(key)
    assert scene.status(key)["phase"] == "Queued"


async def test_a_right_that_is_granted_is_seen_within_a_minute(scene: Scene) -> None:
    scene.remote.findings = (MISSING,)
    key = scene.put()
    await scene.turn(key)
    scene.remote.findings = (PASSED,)
    scene.later(59)
    await scene.turn(key)
    assert scene.status(key)["phase"] == "Stalled"
    scene.later(1)
    await scene.turn(key)
    assert scene.status(key)["phase"] == "Queued"


async def test_runs_of_one_kind_ask_once_in_five_minutes(scene: Scene) -> None:
    for number in range(3):
        await scene.turn(scene.put(f"run-{number}"))
    assert scene.remote.calls.count("preflight") == 1
    scene.later(300)
    await scene.turn(scene.put("late"))
    assert scene.remote.calls.count("preflight") == 2


async def test_another_namespaces_answer_is_not_used(scene: Scene) -> None:
    key = scene.put()
    await scene.turn(key)
    request = scene.remote.requests[0]
    target = await scene.readiness.of(snapshot(scene, scene.put("another")))
    assert isinstance(target, Ready)
    await scene.preflight.of(target.target, "elsewhere", request)
    assert scene.remote.calls.count("preflight") == 2


async def test_a_written_intent_goes_on_without_being_checked_again(scene: Scene) -> None:
    key = scene.put()
    scene.remote.errors["submit"] = Unreachable("answered 503")
    await scene.turn(key)
    assert scene.remote.calls.count("preflight") == 1
    scene.remote.errors.clear()
    scene.remote.findings = (MISSING,)
    scene.later(400)
    await scene.turn(key)
    assert scene.status(key)["phase"] == "Queued"
    assert scene.remote.calls.count("preflight") == 1


async def test_a_platform_that_does_not_answer_a_check_is_waited_for(scene: Scene) -> None:
    scene.remote.errors["preflight"] = Unreachable("answered 503")
    key = scene.put()
    wake = await scene.turn(key)
    assert (scene.status(key)["phase"], scene.reason(key)) == ("Pending", "PlatformUnreachable")
    assert wake is not None


class Wordy(Repositories):
    """A git host that is down, and says so in other words each time."""

    def __init__(self, *, waiting: bool) -> None:
        super().__init__()
        self._waiting = waiting

    def resolve(self, source: GitSource, credential: GitCredential | None) -> str:
        self.asked.append("resolve")
        words = " ".join(["away"] * len(self.asked))
        raise SourceError(f"the host is {words}", reason="GitUnreachable", waiting=self._waiting)


@pytest.mark.parametrize("waiting", [True, False])
async def test_a_host_that_is_down_is_asked_once_a_pause_whatever_it_says(scene: Scene, waiting: bool) -> None:
    scene.code._repositories = wordy = Wordy(waiting=waiting)
    key = scene.put(code={"git": {"url": "https://github.com/acme/churn"}})
    for looks in range(1, 5):
        wake = await scene.turn(key)
        assert len(wordy.asked) == looks
        assert scene.api.asked.count("update mltrainingruns/status") <= looks
        assert wake is not None
        assert (wake - scene.now).total_seconds() >= 15
        scene.now = wake


async def test_a_platform_that_refuses_in_other_words_each_time_is_asked_once_a_pause(scene: Scene) -> None:
    for looks in range(1, 4):
        scene.remote.errors["preflight"] = Denied(f"no right {'at all ' * looks}to look")
        if looks == 1:
            key = scene.put()
        wake = await scene.turn(key)
        assert scene.remote.calls.count("preflight") == looks
        assert wake is not None
        scene.now = wake


async def test_a_run_made_again_while_it_is_looked_at_is_judged_by_itself(scene: Scene) -> None:
    key = scene.put(compute={"class": "huge"})
    write = scene.controller._api.write_status

    async def meanwhile(kind: Kind, obj: Any, status: Any) -> dict[str, Any]:
        scene.controller._api.write_status = write  # type: ignore[method-assign]
        await write(kind, obj, status)
        scene.put(meta={"uid": "another"})
        raise ConflictError("409")

    scene.controller._api.write_status = meanwhile  # type: ignore[method-assign]
    await scene.turn(key)
    assert scene.status(key)["phase"] == "Queued"


async def test_nothing_is_asked_for_a_run_that_is_suspended_or_cancelled(scene: Scene) -> None:
    await scene.turn(scene.put("a", suspend=True))
    await scene.turn(scene.put("b", cancel=True))
    assert scene.remote.calls == []
    assert [request for request in scene.api.asked if not request.endswith(("status", "events"))] == []


async def test_a_plan_shows_the_request_and_every_check_and_starts_nothing(scene: Scene) -> None:
    scene.remote.findings = (PASSED, MISSING, UNKNOWN)
    key = scene.put(planOnly=True)
    await scene.turn(key)
    status = scene.status(key)
    assert (status["phase"], scene.reason(key)) == ("Succeeded", "Planned")
    assert scene.remote.calls == ["preflight"]
    assert '"main.py": "8 bytes"' in status["plan"]["request"]
    assert "print(1)" not in status["plan"]["request"]
    outcomes = [(check["name"], check["outcome"]) for check in status["plan"]["checks"]]
    assert outcomes == [
        ("workspace dbx", "Passed"),
        ("source code", "Passed"),
        (MISSING.name, "Passed"),
        (MISSING.name, "Missing"),
        (UNKNOWN.name, "Unknown"),
    ]


async def test_each_plan_asks_afresh(scene: Scene) -> None:
    for number in range(2):
        await scene.turn(scene.put(f"plan-{number}", planOnly=True))
    assert scene.remote.calls.count("preflight") == 2


async def test_a_plan_that_can_not_be_made_fails_with_the_reason(scene: Scene) -> None:
    key = scene.put(planOnly=True, compute={"class": "huge"})
    await scene.turn(key)
    assert (scene.status(key)["phase"], scene.reason(key)) == ("Failed", "ComputeClassUnknown")


def test_a_plan_that_is_too_long_is_cut_and_says_so() -> None:
    request = Request({"long": "x" * MOST_CHARACTERS}, "l", "f", {}, None, {}, "t", runs_as=RunsAs("user", "ada"))
    plan = plan_of(request, Source({}, "d"), "dbx", "app-id", [])
    assert len(plan.request) == MOST_CHARACTERS
    assert plan.request.endswith("characters are more than a status holds")


async def test_a_run_carries_its_clusters_name_and_its_commit(scene: Scene) -> None:
    scene.repositories.refs, scene.repositories.commits = {None: "c" * 40}, {"c" * 40: {"main.py": b""}}
    key = scene.put(code={"git": {"url": "https://github.com/acme/churn"}})
    await scene.turn(key)
    assert scene.status(key)["attempts"][0]["commit"] == "c" * 40
    tags = scene.remote.requests[0].tags
    assert CLUSTER in tags.values()
    assert "c" * 40 in tags.values()


async def test_a_retry_leaves_out_the_tasks_that_are_done(scene: Scene) -> None:
    from trainyard.core.remote import RemoteTask, Stage

    tasks = [
        {"name": "prepare", "entrypoint": {"args": ["prepare"]}},
        {"name": "train", "entrypoint": {"args": ["train"]}, "dependsOn": ["prepare"]},
    ]
    key = scene.put(tasks=tasks, retry={"backoffSeconds": 1})
    ended = (
        RemoteTask("prepare", "11", Stage.ENDED, "TERMINATED", End.SUCCEEDED, ended_at=scene.now),
        RemoteTask("train", "12", Stage.ENDED, "TERMINATED", End.INFRASTRUCTURE, ended_at=scene.now),
    )
    await scene.finish(key, End.INFRASTRUCTURE, Result(tasks=ended))
    scene.later(60)
    await scene.turn(key)
    assert [task["task_key"] for task in scene.remote.requests[0].body["tasks"]] == ["prepare", "train"]
    [train] = scene.remote.requests[1].body["tasks"]
    assert train["task_key"] == "train"
    assert "depends_on" not in train


async def test_a_run_that_wants_nothing_of_its_workspace_ends_without_it(scene: Scene) -> None:
    key = scene.put()
    await scene.turn(key)
    scene.store.remove(Key(WORKSPACE.name, "team", "dbx"))
    assert (await scene.finish(key))["phase"] == "Succeeded"


async def test_logs_are_asked_for_as_far_as_they_are_kept(scene: Scene) -> None:
    key = scene.put()
    await scene.finish(key, result=Result(logs=(TaskText("train", "hello\n"),)))
    assert scene.remote.wanted[0].log_characters == 65_536
    assert scene.remote.wanted[0].keep is None
    kept = scene.api.objects["MLRunLog", "team", "iris-uid-iris-1"]
    assert kept["spec"]["tasks"] == [{"name": "train", "text": "hello\n"}]
