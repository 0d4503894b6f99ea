"""Assertions and tokens of Azure go only where the operator's clouds say, whatever a resource, or a workspace, names.

The API server's audit log is the witness for what was minted, and a listener of our own for what was sent elsewhere.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.scene import Scene
from tests.e2e.test_hostile_host import Elsewhere, assert_nothing_was_minted, elsewhere, minted

__all__ = ["elsewhere"]


@pytest.fixture
def platform_name() -> str:
    return "azureml"


def at(scene: Scene, namespace: str, **changes: str) -> dict[str, Any]:
    """The workspace of a team, with other words about where it is."""
    workspace = scene.platform.workspace(namespace)
    where = {**workspace["spec"]["azureML"], **changes}
    return {**workspace, "spec": {**workspace["spec"], "azureML": where}}


def test_a_cloud_that_the_operator_knows_gets_an_assertion_and_the_log_would_show_it(scene: Scene) -> None:
    team = scene.team()
    scene.workspace(team.namespace, "IdentityWorks")
    assert minted(scene, team.namespace) == ["trainer"]


def test_a_cloud_that_the_operator_does_not_know_is_not_even_asked(scene: Scene) -> None:
    team = scene.team(azureML=at(scene, "any", cloud="Contoso")["spec"]["azureML"])
    condition = scene.workspace(team.namespace, "HostNotAllowed")
    assert "--azure-cloud" in condition["message"]
    run = scene.run(team).because("WorkspaceNotReady")
    assert "HostNotAllowed" in run.message
    assert_nothing_was_minted(scene, team.namespace)


def test_a_sign_in_that_redirects_is_not_followed(scene: Scene, elsewhere: Elsewhere) -> None:
    scene.fault("redirect", "token", times=0, location=f"{elsewhere.host}/token")
    team = scene.team()
    scene.workspace(team.namespace, "RedirectRefused")
    assert elsewhere.visits == []


def test_an_api_that_redirects_gets_no_token_elsewhere(scene: Scene, elsewhere: Elsewhere) -> None:
    scene.fault("redirect", "whoami", times=0, location=f"{elsewhere.host}/subscriptions")
    team = scene.team()
    scene.workspace(team.namespace, "RedirectRefused")
    assert elsewhere.visits == []


@pytest.fixture(params=["discoveryUrl", "mlFlowTrackingUri"])
def lying(scene: Scene, elsewhere: Elsewhere, request: pytest.FixtureRequest) -> Iterator[str]:
    """The workspace itself says that one of its services is elsewhere."""
    host = elsewhere.host.removeprefix("https://")
    told = {"discoveryUrl": f"{elsewhere.host}/discovery", "mlFlowTrackingUri": f"azureml://{host}/mlflow/v1.0/x"}
    scene.control.change_azure_workspace(**{request.param: told[request.param]})
    yield str(request.param)
    scene.control.change_azure_workspace()


def test_a_workspace_that_names_its_services_elsewhere_gets_no_token_there(
    scene: Scene, elsewhere: Elsewhere, lying: str
) -> None:
    team = scene.team()
    if lying == "discoveryUrl":
        condition = scene.workspace(team.namespace, "HostNotAllowed")
        assert "dataHosts" in condition["message"]
        scene.run(team).because("WorkspaceNotReady")
    else:
        scene.workspace(team.namespace, "IdentityWorks")
        scene.run(team).until("Succeeded", "Failed")
    assert elsewhere.visits == []


def test_a_service_account_that_has_not_opted_in_is_not_used(scene: Scene) -> None:
    namespace = scene.namespace()
    account = {"name": "trainer", "namespace": namespace, "annotations": {"trainyard.dev/databricks-client-id": "app"}}
    scene.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        scene.platform.workspace(namespace),
    )
    condition = scene.workspace(namespace, "ServiceAccountNotOptedIn")
    assert "trainyard.dev/azure-client-id" in condition["message"]
    assert_nothing_was_minted(scene, namespace)


def test_a_credential_that_is_missing_is_waited_for_with_the_command_that_adds_it(scene: Scene) -> None:
    alone = scene.namespace()
    client_id = scene.control.add_application(alone, roles={"workspace": ["AzureML Data Scientist"]})
    account = {"name": "trainer", "namespace": alone, "annotations": {"trainyard.dev/azure-client-id": client_id}}
    scene.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": alone}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        scene.platform.workspace(alone),
    )
    condition = scene.workspace(alone, "TokenExchangeRefused")
    subject = f"system:serviceaccount:{alone}:trainer"
    for needed in (f"--id {client_id}", scene.cluster.issuer, subject, "api://AzureADTokenExchange"):
        assert needed in condition["message"]
    scene.control.add_federated_credential(client_id, scene.cluster.issuer, subject)
    scene.workspace(alone, "IdentityWorks")
