"""Watching a run on a real API server: closed watches and versions that it has forgotten."""

from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest

from tests.controlplane.cli import RUNS, PlayedOperator, manifest
from trainyard.client import NotFound, Trainyard, following
from trainyard.client.access import find_access
from trainyard.client.server import Server, WatchExpired
from trainyard_localcluster import LocalCluster


@pytest.fixture
def operator(api: LocalCluster, namespace: str) -> PlayedOperator:
    return PlayedOperator(api, namespace)


@pytest.fixture
def yard(api: LocalCluster, namespace: str) -> Iterator[Trainyard]:
    with Trainyard(namespace, kubeconfig=api.kubeconfig) as made:
        yield made


def test_a_change_after_the_server_closed_the_watch_is_seen(
    yard: Trainyard, operator: PlayedOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "WATCH_SECONDS", 1)
    operator.create(manifest())
    later = Timer(2.5, operator.write, ("churn", "Succeeded"))
    later.start()
    assert yard.wait("churn", timeout=60).succeeded
    later.join()


def test_a_version_that_the_server_has_forgotten_is_told_apart(
    api: LocalCluster, operator: PlayedOperator, namespace: str
) -> None:
    operator.create(manifest())
    access = find_access(kubeconfig=Path(api.kubeconfig))
    with access.api, pytest.raises(WatchExpired):
        list(Server(access.api).watch("mltrainingruns", namespace, "churn", "1", 5))


def test_a_deletion_ends_the_wait(api: LocalCluster, yard: Trainyard, operator: PlayedOperator) -> None:
    operator.create(manifest())
    with pytest.raises(NotFound, match="was deleted"):
        yard.wait("churn", timeout=60, on_progress=lambda _: operator.delete("churn"))
    assert api.call("GET", RUNS.format(operator.namespace))["items"] == []


def test_a_list_of_many_pages_is_whole(
    yard: Trainyard, operator: PlayedOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainyard.client.server.PAGE", 2)
    for number in range(5):
        operator.create(manifest(f"churn-{number}"))
    assert [run.name for run in yard.list()] == [f"churn-{number}" for number in range(5)]
    assert {run.resource["kind"] for run in yard.list()} == {"MLTrainingRun"}
