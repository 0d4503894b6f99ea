"""Which deployments a workspace or a run has to wake, whatever their spec said before."""

from typing import Any

from trainyard.controllers.kube import DEPLOYMENT
from trainyard.controllers.store import Key, Store, has_endpoint, key_of

WORKSPACE = Key("MLWorkspace", "team", "dbx")
IRIS = Key("MLTrainingRun", "team", "iris")
TULIP = Key("MLTrainingRun", "team", "tulip")


def deployment(name: str, *runs: str, version: int = 1, status: dict[str, Any] | None = None) -> dict[str, Any]:
    models = [{"name": run, "model": {"fromRun": {"name": run}}} for run in runs]
    models = models or [{"name": "wine", "model": {"name": "wine", "version": "1"}}]
    meta = {"namespace": "team", "name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": meta, "spec": {"workspaceRef": {"name": "dbx"}, "models": models}, "status": status or {}}


def put(store: Store, obj: dict[str, Any]) -> Key:
    key = key_of(DEPLOYMENT.name, obj)
    store.put(key, obj)
    return key


def test_a_workspace_knows_its_deployments_and_not_as_runs() -> None:
    store = Store()
    key = put(store, deployment("wine"))
    assert [found for found, _ in store.deployments_of(WORKSPACE)] == [key]
    assert list(store.runs_of(WORKSPACE)) == []
    store.remove(key)
    assert list(store.deployments_of(WORKSPACE)) == []


def test_a_run_knows_the_deployments_that_name_it_now() -> None:
    store = Store()
    key = put(store, deployment("flowers", "iris", "tulip"))
    assert [found for found, _ in store.deployments_of_run(IRIS)] == [key]
    put(store, deployment("flowers", "tulip", version=2))
    assert list(store.deployments_of_run(IRIS)) == []
    assert [found for found, _ in store.deployments_of_run(TULIP)] == [key]
    store.remove(key)
    assert list(store.deployments_of_run(TULIP)) == []


def test_an_older_version_that_arrives_late_wakes_for_nothing_that_the_newer_dropped() -> None:
    store = Store()
    put(store, deployment("flowers", "tulip", version=2))
    put(store, deployment("flowers", "iris", version=1))
    assert list(store.deployments_of_run(IRIS)) == []


def test_an_endpoint_is_there_from_its_intent_until_it_has_expired() -> None:
    assert not has_endpoint(deployment("wine", status={"phase": "Pending"}))
    assert has_endpoint(deployment("wine", status={"phase": "Deploying", "endpoint": {"name": "wine"}}))
    assert not has_endpoint(deployment("wine", status={"phase": "Expired", "endpoint": {"name": "wine"}}))
