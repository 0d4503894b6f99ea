"""Every right that all operators have is needed: with it a request is answered, without it refused.

As in test_rights_modes.py: the operator's own requests, as a ServiceAccount with exactly the chart's rules. Take a verb
away from the files, and the test of its name fails.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from tests.controlplane.rights import MARKER, Holder, rules_of, without
from trainyard.api.base import GROUP, VERSION
from trainyard.controllers.kube import (
    CLUSTER_WORKSPACE,
    DEPLOYMENT,
    RUN,
    RUN_LOG,
    WORKSPACE,
    ForbiddenError,
    Kind,
    Kube,
)
from trainyard_localcluster import LocalCluster

API = "/apis/trainyard.dev/v1alpha1"
BASE = ("cluster", "namespaced")
SPEC = {
    "databricks": {"host": "https://adb-1.azuredatabricks.net"},
    "identity": {"federated": {"serviceAccountName": "trainer"}},
}
LOG = {"runName": "iris", "runUid": "u", "attempt": 1, "at": "2026-11-01T12:00:00Z", "tasks": []}


@dataclass(frozen=True)
class Place:
    """A ServiceAccount, and one object of each kind in its namespace; the ClusterMLWorkspace has its name."""

    holder: Holder
    objects: dict[str, dict[str, Any]]

    @property
    def kube(self) -> Kube:
        return self.holder.kube

    @property
    def namespace(self) -> str:
        return self.holder.namespace


def watched(kind: Kind) -> Callable[[Place], object]:
    """A watch as kopf opens it; ends by itself after a second."""

    def watch(place: Place) -> object:
        ask = client.CustomObjectsApi(place.holder.client)
        also: dict[str, Any] = {"watch": True, "timeout_seconds": 1}
        if kind.namespaced:
            return ask.list_namespaced_custom_object(GROUP, VERSION, place.namespace, kind.plural, **also)
        return ask.list_cluster_custom_object(GROUP, VERSION, kind.plural, **also)

    return watch


def of_kind(kind: Kind) -> dict[tuple[str, str], Callable[[Place], object]]:
    """What is asked about each kind that is watched."""

    def where(place: Place) -> str:
        return place.namespace if kind.namespaced else ""

    def named(place: Place) -> str:
        return str(place.objects[kind.name]["metadata"]["name"])

    def listed(place: Place) -> object:
        return place.kube.list_all(kind, place.namespace if kind.namespaced else None)

    return {
        ("get", kind.plural): lambda place: place.kube.get(kind, where(place), named(place)),
        ("list", kind.plural): listed,
        ("watch", kind.plural): watched(kind),
        ("patch", kind.plural): lambda place: place.kube.put_finalizers(kind, place.objects[kind.name], []),
        ("update", f"{kind.plural}/status"): lambda place: place.kube.put_status(kind, place.objects[kind.name], {}),
    }


OPERATIONS: dict[tuple[str, str], Callable[[Place], object]] = {
    **of_kind(RUN),
    **of_kind(WORKSPACE),
    **of_kind(DEPLOYMENT),
    **of_kind(CLUSTER_WORKSPACE),
    ("delete", "mltrainingruns"): lambda place: place.kube.delete(RUN, place.objects[RUN.name]),
    ("create", "mlrunlogs"): lambda place: place.kube.create(
        RUN_LOG,
        place.namespace,
        {"apiVersion": "trainyard.dev/v1alpha1", "kind": "MLRunLog", **_named("new"), "spec": LOG},
    ),
    ("get", "mlrunlogs"): lambda place: place.kube.get(RUN_LOG, place.namespace, "kept"),
    ("get", "configmaps"): lambda place: place.kube.config_map(place.namespace, "code"),
    ("create", "events"): lambda place: place.kube.create_event(
        place.namespace,
        {**_named("told"), "involvedObject": {"namespace": place.namespace}, "reason": "Told", "type": "Normal"},
    ),
    ("get", "namespaces"): lambda place: place.kube.namespace_uid("kube-system"),
}
EACH = [pytest.param(*each, id=f"{each[0]}-{each[1]}") for each in OPERATIONS]


def _named(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}}


def base_rules() -> list[dict[str, Any]]:
    """The rules of all operators."""
    return [rule for file in BASE for rule in rules_of(file)]


@pytest.fixture
def place(api: LocalCluster, namespace: str, tmp_path: Path) -> Iterator[Place]:
    """A ServiceAccount without rights, beside what the requests are about."""
    own = f"{API}/namespaces/{namespace}"
    run = {"workspaceRef": {"name": "dbx"}, "compute": {"class": "small"}, "code": {"inline": "print(1)"}}
    model = {"name": "iris", "model": {"name": "iris", "version": "1"}, "compute": {"class": "small"}}
    served = {"workspaceRef": {"name": "dbx"}, "models": [model]}
    objects = {
        RUN.name: api.call("POST", f"{own}/mltrainingruns", _made(RUN, "iris", run)),
        DEPLOYMENT.name: api.call("POST", f"{own}/modeldeployments", _made(DEPLOYMENT, "iris", served)),
        WORKSPACE.name: api.call("POST", f"{own}/mlworkspaces", _made(WORKSPACE, "dbx", SPEC)),
        CLUSTER_WORKSPACE.name: api.call(
            "POST",
            f"{API}/clustermlworkspaces",
            _made(CLUSTER_WORKSPACE, namespace, {**SPEC, "allowedNamespaces": ["x"]}),
        ),
    }
    api.call("POST", f"{own}/mlrunlogs", _made(RUN_LOG, "kept", LOG))
    api.call("POST", f"/api/v1/namespaces/{namespace}/configmaps", {**_named("code"), "data": {"train.py": "pass"}})
    holder = Holder(api, namespace, "operator", tmp_path)
    yield Place(holder, objects)
    holder.let_go()
    api.call("DELETE", f"{API}/clustermlworkspaces/{namespace}")


def _made(kind: Kind, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "trainyard.dev/v1alpha1", "kind": kind.name, **_named(name), "spec": spec}


@pytest.mark.parametrize(("verb", "resource"), EACH)
def test_with_all_its_rights_the_operator_is_answered(place: Place, verb: str, resource: str) -> None:
    place.holder.hold(base_rules(), everywhere=True)
    OPERATIONS[verb, resource](place)


@pytest.mark.parametrize(("verb", "resource"), EACH)
def test_without_one_of_them_it_is_refused(place: Place, verb: str, resource: str) -> None:
    place.holder.hold(without(base_rules(), verb, resource), everywhere=True)
    with pytest.raises((ForbiddenError, ApiException)) as refused:
        OPERATIONS[verb, resource](place)
    assert "403" in str(refused.value)


def test_nothing_is_granted_that_no_test_asks_for(place: Place) -> None:
    anybody = place.holder.rights()
    place.holder.hold(base_rules(), everywhere=True)
    named = {("get", "namespaces"): "kube-system"}
    asked = {(verb, resource, named.get((verb, resource), "")) for verb, resource in OPERATIONS}
    assert place.holder.rights() - anybody - {("get", *MARKER["resources"], "")} == asked
