"""From an object of the API server to what decisions look at."""

from datetime import UTC, datetime
from typing import Any

import pytest

from trainyard.controllers.serving_snapshots import deployment_snapshot
from trainyard.controllers.snapshots import run_snapshot
from trainyard.core.snapshot import FINALIZER


def run(spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "team",
            "name": "iris",
            "uid": "5b3c",
            "generation": 3,
            "creationTimestamp": "2026-11-01T12:00:00Z",
            **metadata,
        },
        "spec": spec
        or {"workspaceRef": {"name": "dbx"}, "code": {"inline": "print(1)"}, "compute": {"class": "small"}},
    }


def test_a_new_run_has_an_empty_status_and_no_finalizer() -> None:
    found = run_snapshot(run())
    assert (found.namespace, found.name, found.uid, found.generation) == ("team", "iris", "5b3c", 3)
    assert found.status.phase is None
    assert found.deleting_since is None
    assert not found.has_finalizer
    assert found.spec is not None
    assert found.spec.compute.class_ == "small"


def test_only_our_own_finalizer_counts() -> None:
    assert not run_snapshot(run(finalizers=["someone.else/keeps"])).has_finalizer
    assert run_snapshot(run(finalizers=["someone.else/keeps", FINALIZER])).has_finalizer


def test_the_time_of_deletion_is_the_api_servers() -> None:
    found = run_snapshot(run(deletionTimestamp="2026-11-02T08:30:00Z"))
    assert found.deleting_since == datetime(2026, 11, 2, 8, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"code": {"inline": "x"}, "compute": {"class": "small"}}, "spec.workspaceRef"),
        ({"workspaceRef": {"name": "dbx"}, "code": {"inline": "x"}, "compute": {"class": 4}}, "spec.compute.class"),
    ],
)
def test_a_spec_that_can_not_be_read_is_told_by_field_and_not_raised(spec: dict[str, Any], field: str) -> None:
    found = run_snapshot(run(spec))
    assert found.spec is None
    assert found.spec_error.startswith(f"{field}: ")


def test_an_orphan_is_known_whatever_else_its_spec_says() -> None:
    unreadable = {"code": {"inline": "x"}, "deletionPolicy": "Orphan"}
    assert run_snapshot(run(unreadable)).spec is None
    assert run_snapshot(run(unreadable)).orphan
    assert deployment_snapshot(run(unreadable)).spec is None
    assert deployment_snapshot(run(unreadable)).orphan
    assert not run_snapshot(run()).orphan
    assert not deployment_snapshot(run({"deletionPolicy": "Delete"})).orphan


def test_the_value_of_a_bad_field_is_not_repeated() -> None:
    spec = {
        "workspaceRef": {"name": "dbx"},
        "code": {"inline": "x"},
        "compute": {"class": "small"},
        "timeoutSeconds": "s3cret",
    }
    found = run_snapshot(run(spec))
    assert found.spec_error.startswith("spec.timeoutSeconds: ")
    assert "s3cret" not in found.spec_error


def test_a_field_of_a_later_version_does_not_make_a_run_unreadable() -> None:
    spec = {"workspaceRef": {"name": "dbx"}, "code": {"inline": "x"}, "compute": {"class": "small"}, "gpu": 1}
    assert run_snapshot(run(spec)).spec is not None


def test_the_digest_is_of_the_spec_as_it_was_written() -> None:
    assert run_snapshot(run()).spec_digest == run_snapshot(run(generation=9)).spec_digest
    other = {"workspaceRef": {"name": "dbx"}, "code": {"inline": "print(2)"}, "compute": {"class": "small"}}
    assert run_snapshot(run()).spec_digest != run_snapshot(run(other)).spec_digest
