"""Machines of the Azure ML half without a server: who gets nodes, in which order, and who waits."""

from __future__ import annotations

import pytest

from trainyard_sandbox.azure.compute_store import SERVERLESS, AzureCompute, ComputeStore


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> ComputeStore:
    return ComputeStore(clock)


def cluster(nodes: int, settled_at: float = 0.0) -> AzureCompute:
    return AzureCompute("gpu", "AmlCompute", "here", {"scaleSettings": {"maxNodeCount": nodes}}, 0, 0, settled_at)


def claim(store: ComputeStore, granted: list[str], job: str, nodes: int, compute: str = "gpu") -> None:
    assert store.claim(job, compute, nodes, None, lambda: granted.append(job))


def test_a_job_waits_while_the_cluster_is_full_and_goes_when_nodes_are_given_back(store: ComputeStore) -> None:
    store.put(cluster(4))
    granted: list[str] = []
    claim(store, granted, "a", 3)
    claim(store, granted, "b", 2)
    assert granted == ["a"]
    store.release("a", "gpu")
    assert granted == ["a", "b"]


def test_nobody_overtakes_a_job_that_waits(store: ComputeStore) -> None:
    store.put(cluster(4))
    granted: list[str] = []
    claim(store, granted, "a", 3)
    claim(store, granted, "large", 4)
    claim(store, granted, "small", 1)
    store.serve()
    assert granted == ["a"]
    store.release("large", "gpu")
    assert granted == ["a", "small"]


def test_a_larger_cluster_serves_those_who_wait(store: ComputeStore) -> None:
    store.put(cluster(1))
    granted: list[str] = []
    claim(store, granted, "a", 1)
    claim(store, granted, "b", 1)
    store.put(cluster(2))
    assert granted == ["a", "b"]


def test_a_cluster_that_is_being_made_has_no_nodes_yet(store: ComputeStore, clock: Clock) -> None:
    store.put(cluster(4, settled_at=1010))
    granted: list[str] = []
    claim(store, granted, "a", 1)
    assert granted == []
    clock.now = 1010
    store.serve()
    assert granted == ["a"]


def test_serverless_jobs_share_a_quota_of_vcpus_by_vm_size(store: ComputeStore) -> None:
    store.serverless_cores = 8
    granted: list[str] = []
    for job, size in (("a", "standard_ds2_v2"), ("b", "Standard_DS3_v2"), ("c", None)):
        store.claim(job, SERVERLESS, 1, size, lambda job=job: granted.append(job))  # type: ignore[misc]
    assert granted == ["a", "b"]
    store.release("a", SERVERLESS)
    assert granted == ["a", "b", "c"]


def test_a_compute_that_is_gone_grants_nothing(store: ComputeStore) -> None:
    store.put(cluster(1))
    granted: list[str] = []
    claim(store, granted, "a", 1)
    assert store.delete("GPU") == ["a"]
    assert not store.claim("b", "gpu", 1, None, lambda: None)
