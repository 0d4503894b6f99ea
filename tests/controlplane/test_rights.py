"""What the operator's rights allow and refuse, asked of a real API server."""

from pathlib import Path
from typing import Any

import pytest

from trainyard_localcluster import LocalCluster

ROOT = Path(__file__).resolve().parents[2]
OPERATOR = "system:serviceaccount:trainyard-system:trainyard"


@pytest.fixture(scope="module")
def granted(api: LocalCluster) -> LocalCluster:
    """The control plane with the rights that the chart gives for all namespaces."""
    api.kubectl("apply", "-f", str(ROOT / "hack" / "rbac.yaml"))
    return api


def allowed(cluster: LocalCluster, user: str, verb: str, resource: str, namespace: str, name: str = "") -> bool:
    """What the API server's authorizer answers. `resource` is group/resource[/subresource], "" for the core group."""
    group, plural, *rest = resource.split("/")
    attributes = {"verb": verb, "group": group, "resource": plural, "namespace": namespace, "name": name}
    attributes |= {"subresource": rest[0]} if rest else {}
    review: dict[str, Any] = {"spec": {"user": user, "resourceAttributes": attributes}}
    answer = cluster.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


@pytest.mark.parametrize(
    ("verb", "resource", "expected"),
    [
        ("watch", "trainyard.dev/mltrainingruns", True),
        ("patch", "trainyard.dev/mltrainingruns", True),
        ("update", "trainyard.dev/mltrainingruns/status", True),
        ("watch", "trainyard.dev/clustermlworkspaces", True),
        ("get", "/configmaps", True),
        ("create", "/serviceaccounts/token", True),
        ("create", "/events", True),
        ("delete", "trainyard.dev/mltrainingruns", True),
        ("create", "trainyard.dev/mlrunlogs", True),
        ("watch", "trainyard.dev/modeldeployments", True),
        ("patch", "trainyard.dev/modeldeployments", True),
        ("update", "trainyard.dev/modeldeployments/status", True),
        ("update", "trainyard.dev/modeldeployments", False),
        ("create", "trainyard.dev/modeldeployments", False),
        ("delete", "trainyard.dev/modeldeployments", False),
        ("list", "trainyard.dev/mlrunlogs", False),
        ("delete", "trainyard.dev/mlrunlogs", False),
        ("delete", "trainyard.dev/mlworkspaces", False),
        ("create", "trainyard.dev/mltrainingruns", False),
        ("get", "/secrets", False),
        ("list", "/configmaps", False),
        ("list", "/serviceaccounts", False),
        ("create", "/pods", False),
        ("list", "/namespaces", False),
    ],
)
def test_the_operator_may_do_what_it_needs_and_no_more(
    granted: LocalCluster, verb: str, resource: str, expected: bool
) -> None:
    assert allowed(granted, OPERATOR, verb, resource, "default") is expected
