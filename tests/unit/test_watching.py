"""What an event of the watch makes due: what it is about, and who refers to it, but nothing that is over."""

import sys
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, cast

import pytest

from tests.unit.stage import CLUSTER, Scene
from trainyard.audit.log import AuditLog
from trainyard.controllers.destinations import Destinations
from trainyard.controllers.kube import Kube
from trainyard.controllers.operator import TOLD_AFTER, Operator
from trainyard.controllers.settings import OperatorSettings, StorageEndpoints
from trainyard.controllers.store import Key
from trainyard.core.snapshot import FINALIZER


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    yield made
    await made.stop()


@pytest.fixture
async def operator(scene: Scene) -> Operator:
    destinations = Destinations(scene.api, AuditLog(sys.stderr), StorageEndpoints())
    kube = cast(Kube, scene.api)
    return Operator(OperatorSettings(), kube, scene.sessions, scene.repositories, destinations, CLUSTER)


def run(name: str, phase: str | None, *finalizers: str, **spec: Any) -> dict[str, Any]:
    meta = {"namespace": "team", "name": name, "uid": name, "resourceVersion": "1", "finalizers": list(finalizers)}
    status = {"phase": phase} if phase else {}
    full = {"workspaceRef": {"name": "dbx"}, "code": {"inline": "x"}, "compute": {"class": "small"}, **spec}
    return {"kind": "MLTrainingRun", "metadata": meta, "spec": full, "status": status}


async def due(operator: Operator, *objects: dict[str, Any]) -> set[str]:
    """Names of what these events make due."""
    for obj in objects:
        await operator._watched({"type": "MODIFIED", "object": obj})
    found = set()
    while len(operator._queue):
        key = await operator._queue.get()
        operator._queue.done(key)
        found.add(key.name)
    return found


async def test_a_thousand_finished_runs_are_nothing_to_do(operator: Operator) -> None:
    assert await due(operator, *(run(f"run-{n}", "Succeeded") for n in range(1000))) == set()


async def test_a_finished_run_with_a_time_to_live_or_something_to_let_go_is_looked_at(operator: Operator) -> None:
    runs = run("new", None), run("held", "Failed", FINALIZER), run("mortal", "Failed", ttlSecondsAfterFinished=60)
    assert await due(operator, *runs, run("over", "Failed")) == {"new", "held", "mortal"}


async def test_what_is_known_is_no_news_and_what_somebody_changed_is(operator: Operator) -> None:
    """The watch tells of our own writes, too: looking again at each would be a loop without a pause."""
    ours = run("ours", "Pending")
    operator._store.put(Key("MLTrainingRun", "team", "ours"), ours)
    assert await due(operator, ours) == set()
    changed = {**ours, "metadata": {**ours["metadata"], "resourceVersion": "2"}}
    assert await due(operator, changed) == {"ours"}
    another = {**ours, "metadata": {**ours["metadata"], "uid": "another"}}
    assert await due(operator, another) == {"ours"}


async def fail(operator: Operator, error: Exception, times: int) -> None:
    """Has the next looks at the run end in that error."""

    async def broken(_: Key) -> datetime | None:
        raise error

    operator._runs.reconcile = broken  # type: ignore[method-assign, assignment]
    for _ in range(times):
        operator._queue.add(Key("MLTrainingRun", "team", "odd"))
        await operator._work(await operator._queue.get())


async def test_a_run_that_breaks_the_operator_says_so_once_it_lasts(operator: Operator, scene: Scene) -> None:
    operator._store.put(Key("MLTrainingRun", "team", "odd"), run("odd", "Pending"))
    token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln"
    error = TypeError(f"unhashable type: 'dict' {token}\nmore that nobody reads")
    await fail(operator, error, TOLD_AFTER - 1)
    assert scene.api.notes == []
    await fail(operator, error, 1)
    [note] = scene.api.notes
    assert (note["type"], note["reason"], note["involvedObject"]["name"]) == ("Warning", "OperatorError", "odd")
    assert "TypeError: unhashable type: 'dict' [redacted]. This is" in note["message"]


async def test_an_error_that_passes_is_no_event(operator: Operator, scene: Scene) -> None:
    operator._store.put(Key("MLTrainingRun", "team", "odd"), run("odd", "Pending"))
    await fail(operator, TypeError("x"), TOLD_AFTER - 1)
    operator._queue.succeeded(Key("MLTrainingRun", "team", "odd"))
    await fail(operator, TypeError("x"), TOLD_AFTER - 1)
    assert scene.api.notes == []


async def test_a_run_that_breaks_the_operator_is_looked_at_less_and_less(operator: Operator) -> None:
    operator._store.put(Key("MLTrainingRun", "team", "odd"), run("odd", "Pending"))
    began = time.monotonic()
    await fail(operator, TypeError("x"), 12)
    assert operator._queue._deadline[Key("MLTrainingRun", "team", "odd")] > began + 30


async def test_a_workspace_wakes_its_runs_but_not_those_that_are_over(operator: Operator) -> None:
    runs = run("waiting", "Pending"), run("over", "Succeeded"), run("mortal", "Failed", ttlSecondsAfterFinished=60)
    await due(operator, *runs)
    meta = {"namespace": "team", "name": "dbx", "uid": "w", "resourceVersion": "2"}
    assert await due(operator, {"kind": "MLWorkspace", "metadata": meta, "spec": {}}) == {"dbx", "waiting"}


def deployment(name: str, run_name: str = "") -> dict[str, Any]:
    meta = {"namespace": "team", "name": name, "uid": name, "resourceVersion": "1"}
    source = {"fromRun": {"name": run_name}} if run_name else {"name": "wine", "version": "1"}
    models = [{"name": "champion", "model": source, "compute": {"class": "small"}}]
    spec = {"workspaceRef": {"name": "dbx"}, "models": models}
    return {"kind": "ModelDeployment", "metadata": meta, "spec": spec}


async def test_a_workspace_wakes_its_deployments_and_a_run_those_that_serve_its_model(operator: Operator) -> None:
    await due(operator, deployment("wine"), deployment("iris", "train-iris"))
    meta = {"namespace": "team", "name": "dbx", "uid": "w", "resourceVersion": "2"}
    workspace = {"kind": "MLWorkspace", "metadata": meta, "spec": {}}
    assert await due(operator, workspace) == {"dbx", "wine", "iris"}
    assert await due(operator, run("train-iris", "Succeeded")) == {"iris"}
    assert await due(operator, run("another", "Running")) == {"another"}


async def test_a_deployment_that_goes_wakes_a_workspace_that_waits_for_it(operator: Operator) -> None:
    meta = {"namespace": "team", "name": "dbx", "uid": "w", "resourceVersion": "2"}
    going = {**meta, "deletionTimestamp": "2026-11-01T12:00:00Z"}
    wine = deployment("wine")
    await due(operator, wine, {"kind": "MLWorkspace", "metadata": going, "spec": {}})
    await operator._watched({"type": "DELETED", "object": wine})
    assert await due(operator) == {"dbx"}
    assert list(operator._store.deployments_of(Key("MLWorkspace", "team", "dbx"))) == []
