"""Computes of the Azure ML half: by the unmodified SDK and by plain requests."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import ResourceNotFoundError

from trainyard_sandbox.client import SandboxControl

from .azure_fixtures import Arm
from .conftest import wait_until

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

VERSION = "2023-08-01-preview"


@pytest.fixture
def owner(control: SandboxControl) -> Iterator[str]:
    """Client id of an application that may make computes."""
    yield control.add_application("owner", roles={"subscription": ["Contributor"]})
    control.azure_compute_settings(provisioning_seconds=0)


@pytest.fixture
def client(ml_client: Callable[..., MLClient], control: SandboxControl, owner: str, issuer: Any) -> MLClient:
    control.add_federated_credential(owner, issuer.url, "system:serviceaccount:team-a:trainer")
    return ml_client(owner)


def test_the_sdk_makes_reads_changes_lists_and_deletes_a_cluster(client: MLClient) -> None:
    from azure.ai.ml.entities import AmlCompute

    wanted = AmlCompute(
        name="sdk-cluster", size="Standard_DS3_v2", min_instances=0, max_instances=2, tier="low_priority"
    )
    made = client.compute.begin_create_or_update(wanted).result()
    assert (made.name, made.provisioning_state, made.size) == ("sdk-cluster", "Succeeded", "Standard_DS3_v2")
    read = client.compute.get("sdk-cluster")
    assert (read.max_instances, read.tier, read.location) == (2, "low_priority", client.workspaces.get().location)
    read.max_instances = 5
    assert client.compute.begin_update(read).result().max_instances == 5
    assert "sdk-cluster" in [compute.name for compute in client.compute.list()]
    client.compute.begin_delete("sdk-cluster").result()
    with pytest.raises(ResourceNotFoundError, match="was not found"):
        client.compute.get("sdk-cluster")


def test_the_sdk_reads_a_cluster_that_failed_to_come_up(client: MLClient, control: SandboxControl) -> None:
    control.add_azure_compute("broken")
    control.set_azure_compute_state("broken", "Failed", code="ClusterCoreQuotaReached", message="no cores")
    read = client.compute.get("broken")
    assert (read.provisioning_state, read.provisioning_errors) == ("Failed", "ClusterCoreQuotaReached")


def test_the_sdk_reads_attached_kubernetes(client: MLClient, control: SandboxControl) -> None:
    control.add_azure_compute("arc", "Kubernetes", instanceTypes={"gpu": {"nodeSelector": {"a": "b"}}}, namespace="ml")
    read = client.compute.get("arc")
    assert (read.type, read.namespace, read.provisioning_state) == ("kubernetes", "ml", "Succeeded")


def test_the_sdk_lists_vm_sizes_and_usages_of_the_region(client: MLClient) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sizes = {size.name: size for size in client.compute.list_sizes()}
        usages = list(client.compute.list_usage())
    assert sizes["Standard_NC6s_v3"].gpus == 1
    assert any(usage.name["value"] == "serverless" for usage in usages)


def cluster(**properties: Any) -> dict[str, Any]:
    scale = {"scaleSettings": {"maxNodeCount": 2}}
    return {
        "properties": {"computeType": "AmlCompute", "properties": {"vmSize": "Standard_DS3_v2"} | scale | properties}
    }


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("1a", cluster(), "Invalid compute name"),
        ("a", cluster(vmSize="Standard_X9"), "The specified VM size Standard_X9 is not supported in region"),
        ("a", cluster(scaleSettings={"maxNodeCount": 1, "minNodeCount": 2}), "minNodeCount must not be more"),
        ("a", cluster(vmPriority="Spot"), "properties.properties.vmPriority"),
        ("a", cluster(nodes=3), "unknown field 'properties.properties.nodes'"),
        ("a", {"properties": {"computeType": "HDInsight"}}, "properties.computeType"),
    ],
)
def test_a_compute_that_cannot_be_is_refused(
    arm: Arm, owner: str, name: str, body: dict[str, Any], message: str
) -> None:
    refused = arm(owner, "PUT", f"/computes/{name}", version=VERSION, json=body)
    assert refused.status_code == 400
    assert message in refused.json()["error"]["message"]
    assert arm(owner, "GET", f"/computes/{name}", version=VERSION).status_code == 404


def test_a_cluster_is_creating_until_it_is_there(arm: Arm, owner: str, control: SandboxControl) -> None:
    control.azure_compute_settings(provisioning_seconds=0.5)
    created = arm(owner, "PUT", "/computes/slow", version=VERSION, json=cluster())
    assert (created.status_code, created.json()["properties"]["provisioningState"]) == (201, "Creating")

    def state() -> str:
        found: str = arm(owner, "GET", "/computes/slow", version=VERSION).json()["properties"]["provisioningState"]
        return found

    assert wait_until(lambda: state() == "Succeeded")


def test_a_data_scientist_may_look_at_computes_and_not_make_or_delete_them(
    arm: Arm, data_scientist: str, control: SandboxControl
) -> None:
    control.add_azure_compute("kept")
    assert arm(data_scientist, "GET", "/computes/kept", version=VERSION).status_code == 200
    put = arm(data_scientist, "PUT", "/computes/kept", version=VERSION, json=cluster())
    params = {"underlyingResourceAction": "Delete"}
    deletion = arm(data_scientist, "DELETE", "/computes/kept", version=VERSION, params=params)
    assert (put.status_code, deletion.status_code) == (403, 403)
    assert put.json()["error"]["code"] == "AuthorizationFailed"


def test_a_cluster_cannot_be_deleted_without_saying_what_becomes_of_its_machines(
    arm: Arm, owner: str, control: SandboxControl
) -> None:
    control.add_azure_compute("kept")
    assert arm(owner, "DELETE", "/computes/kept", version=VERSION).status_code == 400
    params = {"underlyingResourceAction": "Detach"}
    assert arm(owner, "DELETE", "/computes/kept", version=VERSION, params=params).status_code == 400
