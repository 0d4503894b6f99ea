"""The store: late events never win, and a workspace knows its runs."""

from typing import Any

from trainyard.controllers.store import Key, Store, at_rest, key_of, workspace_key
from trainyard.core.snapshot import FINALIZER

WORKSPACE = Key("MLWorkspace", "team", "dbx")


def run(name: str, version: str = "1", uid: str = "u1", workspace: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "kind": "MLTrainingRun",
        "metadata": {"namespace": "team", "name": name, "uid": uid, "resourceVersion": version},
        "spec": {"workspaceRef": workspace or {"name": "dbx"}},
    }


def put(store: Store, obj: dict[str, Any]) -> bool:
    return store.put(key_of("MLTrainingRun", obj), obj)


def test_a_late_event_does_not_replace_a_newer_version() -> None:
    store = Store()
    assert put(store, run("a", "10"))
    assert not put(store, run("a", "9"))
    kept = store.get(key_of("MLTrainingRun", run("a")))
    assert kept is not None
    assert kept["metadata"]["resourceVersion"] == "10"


def test_versions_are_compared_as_numbers() -> None:
    store = Store()
    put(store, run("a", "9"))
    assert put(store, run("a", "10"))


def test_versions_that_are_no_numbers_are_taken_as_they_come() -> None:
    store = Store()
    put(store, run("a", "zz"))
    assert put(store, run("a", "aa"))


def test_another_object_of_the_same_name_replaces_the_old_one_whatever_its_version() -> None:
    store = Store()
    put(store, run("a", "10", uid="old"))
    assert put(store, run("a", "3", uid="new"))


def test_the_deletion_of_an_old_object_does_not_remove_its_successor() -> None:
    store = Store()
    new = run("a", uid="new")
    put(store, new)
    store.remove(key_of("MLTrainingRun", new), uid="old")
    assert store.get(key_of("MLTrainingRun", new)) is not None
    store.remove(key_of("MLTrainingRun", new), uid="new")
    assert store.get(key_of("MLTrainingRun", new)) is None


def test_a_workspace_knows_its_runs_and_forgets_those_that_went() -> None:
    store = Store()
    for name in ("b", "a"):
        put(store, run(name, uid=name))
    put(store, run("other", uid="o", workspace={"name": "elsewhere"}))
    assert [key.name for key, _ in store.runs_of(WORKSPACE)] == ["a", "b"]
    store.remove(key_of("MLTrainingRun", run("a")))
    assert [key.name for key, _ in store.runs_of(WORKSPACE)] == ["b"]
    assert store.count("MLTrainingRun") == 2


def ended(**changes: Any) -> dict[str, Any]:
    obj = run("a")
    obj["spec"] |= {"code": {"inline": "x" * 65_536}} | changes
    return {**obj, "status": {"phase": "Succeeded"}}


def test_the_source_of_finished_runs_is_not_kept_in_memory() -> None:
    store, obj = Store(), ended()
    obj["metadata"]["managedFields"] = [{"manager": "kubectl"}]
    put(store, obj)
    kept = store.get(key_of("MLTrainingRun", obj))
    assert kept is not None
    assert kept["spec"] == {"workspaceRef": {"name": "dbx"}}
    assert "managedFields" not in kept["metadata"]
    assert "code" in obj["spec"]  # what the watch gave is not ours to change


def test_the_source_of_a_run_that_goes_on_is_kept() -> None:
    store, obj = Store(), {**ended(), "status": {"phase": "Running"}}
    put(store, obj)
    kept = store.get(key_of("MLTrainingRun", obj))
    assert kept is not None
    assert "code" in kept["spec"]


def test_a_finished_run_is_at_rest_unless_it_holds_something_or_has_a_time_to_live() -> None:
    assert at_rest(ended())
    assert not at_rest(ended(ttlSecondsAfterFinished=0))
    assert not at_rest({**ended(), "status": {"phase": "Suspended"}})
    held = ended()
    held["metadata"]["finalizers"] = [FINALIZER]
    assert not at_rest(held)


def test_a_shared_workspace_is_not_the_namespaces_own_of_the_same_name() -> None:
    shared = run("a", workspace={"kind": "ClusterMLWorkspace", "name": "dbx"})
    assert workspace_key(shared) == Key("ClusterMLWorkspace", "", "dbx")
    assert workspace_key(run("a")) == WORKSPACE
