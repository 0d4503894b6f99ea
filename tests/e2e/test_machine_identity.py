"""The identity of the operator's own machine, whose name only a platform can tell: a real API server and an operator
that holds no right to any ServiceAccount's token or Secret of the team."""

from collections.abc import Iterator
from typing import Any

import pytest

from stand import Stand
from tests.e2e.scene import Run, Scene
from tests.platforms import on_every_platform
from tests.platforms.base import FOREVER


def operator_env(stand: Stand) -> dict[str, str]:
    """Where the machine's metadata service is."""
    return {"TRAINYARD_IMDS_ENDPOINT": stand.address.imds}


@pytest.fixture
def machine(scene: Scene) -> Iterator[str]:
    """Client id of the machine's system-assigned identity, which both platforms know."""
    made = scene.control.add_managed_identity(
        "machine", system_assigned=True, roles={"workspace": ["AzureML Data Scientist"]}
    )
    scene.control.add_principal(
        "machine", application_id=made.client_id, entitlements=["workspace-access", "allow-cluster-create"]
    )
    yield made.client_id
    scene.control.remove_application(made.client_id)


@pytest.fixture
def namespace(scene: Scene, machine: str) -> Iterator[str]:
    """A namespace without any ServiceAccount that opts in, to which a workspace lends the machine's identity."""
    name = scene.namespace()
    scene.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    described = scene.platform.workspace(name, identity={"managedIdentity": lent(scene)})
    spec = {**described["spec"], "allowedNamespaces": [name]}
    scene.apply({**described, "kind": "ClusterMLWorkspace", "metadata": {"name": name}, "spec": spec})
    yield name
    scene.cluster.kubectl("delete", "clustermlworkspace", name, "--wait=false")


def lent(scene: Scene) -> dict[str, Any]:
    if scene.platform.name == "azureml":
        return {}
    return {"entra": {"tenantId": scene.control.address.azure.tenant_id, "cloud": "Sandbox"}}


def started(scene: Scene, namespace: str) -> Run:
    return scene.run(namespace, workspaceRef={"kind": "ClusterMLWorkspace", "name": namespace})


@on_every_platform
def test_a_run_is_the_machines_and_names_it_as_far_as_the_platform_tells(
    scene: Scene, namespace: str, machine: str
) -> None:
    run = started(scene, namespace).until("Succeeded")
    assert run.only_remote().creator == machine
    [attempt] = run.status["attempts"]
    told = machine if scene.platform.name == "databricks" else "system-assigned"
    assert (attempt["mode"], attempt["principal"], run.status["identity"]["submittedAs"]) == (
        "managedIdentity",
        told,
        told,
    )
    asked = {each["objectRef"]["resource"] for each in scene.api_requests(namespace)}
    assert not {"serviceaccounts", "secrets"} & asked


@on_every_platform
def test_a_run_outlives_its_operator_and_is_stopped_by_the_next_one(scene: Scene, namespace: str, machine: str) -> None:
    scene.platform.pretend(FOREVER)
    run = started(scene, namespace).until("Running")
    scene.restart()
    run.change(cancel=True)
    run.until("Cancelled")
    remote = run.only_remote()
    assert (remote.creator, remote.result) == (machine, "cancelled")


@on_every_platform
def test_a_machine_that_loses_its_identity_stalls_the_next_run_and_not_for_ever(
    scene: Scene, namespace: str, machine: str
) -> None:
    scene.control.assign_managed_identity(machine, assigned=False)
    run = started(scene, namespace)
    # The second where the machine has one other, which the service gives instead.
    missing = {"ManagedIdentityNotFound", "ManagedIdentityMismatch"}
    run.wait("to say what is missing", lambda _: run.reason in missing)
    assert "system-assigned identity" in run.message
    assert run.remote() == []
    scene.control.assign_managed_identity(machine, assigned=True)
    run.until("Succeeded")
