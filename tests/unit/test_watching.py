"""What an event of the watch makes due: what it is about, and who refers to it, but nothing that is over."""

import sys
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from tests.unit.stage import CLUSTER, Scene
from trainyard.audit.log import AuditLog
from trainyard.controllers.destinations import Destinations
from trainyard.controllers.kube import Kube
from trainyard.controllers.operator import Operator
from trainyard.controllers.settings import OperatorSettings, StorageEndpoints
from trainyard.core.snapshot import FINALIZER


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    scene = Scene()
    destinations = Destinations(scene.api, AuditLog(sys.stderr), StorageEndpoints())
    kube = cast(Kube, scene.api)
    yield Operator(OperatorSettings(), kube, scene.sessions, scene.repositories, destinations, CLUSTER)
    await scene.stop()


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


async def test_a_workspace_wakes_its_runs_but_not_those_that_are_over(operator: Operator) -> None:
    runs = run("waiting", "Pending"), run("over", "Succeeded"), run("mortal", "Failed", ttlSecondsAfterFinished=60)
    await due(operator, *runs)
    meta = {"namespace": "team", "name": "dbx", "uid": "w", "resourceVersion": "2"}
    assert await due(operator, {"kind": "MLWorkspace", "metadata": meta, "spec": {}}) == {"dbx", "waiting"}
