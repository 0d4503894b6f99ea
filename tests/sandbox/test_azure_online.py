"""Online endpoints and deployments in Azure Resource Manager: with the unmodified MLClient and with plain requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import requests
from azure.core.exceptions import HttpResponseError

from trainyard_sandbox.azure.online_store import reserved_cores
from trainyard_sandbox.client import SandboxControl

from .azure_fixtures import Arm
from .azure_online import DEPLOYMENT, ENDPOINT, SIZE, Online, new_name, refused_because
from .conftest import wait_until

if TYPE_CHECKING:
    from azure.ai.ml import MLClient


@pytest.fixture
def online(control: SandboxControl, arm: Arm, data_scientist: str) -> Iterator[Online]:
    """Models are pretended here."""
    control.script_serving(platform="azure", pretend=True)
    yield Online(control, arm, data_scientist)
    control.clear_serving_scripts()
    control.azure_serving_settings()
    control.azure_compute_settings(family_cores={})
    for endpoint in control.azure_endpoints():
        control.delete_azure_endpoint(endpoint["name"])
    wait_until(lambda: control.azure_endpoints() == [])


@pytest.fixture
def model(online: Online) -> str:
    return online.pretended()


@pytest.fixture
def client(online: Online, ml_client: Callable[..., MLClient]) -> MLClient:
    return ml_client(online.client_id)


def test_the_sdk_makes_shows_changes_and_deletes_endpoint_and_deployment(
    online: Online, client: MLClient, model: str
) -> None:
    from azure.ai.ml.entities import ManagedOnlineDeployment, ManagedOnlineEndpoint

    name = new_name()
    made = client.begin_create_or_update(
        ManagedOnlineEndpoint(name=name, auth_mode="aad_token", tags={"team": "a"}, description="irises")
    ).result()
    assert (made.provisioning_state, made.auth_mode, made.tags) == ("Succeeded", "aad_token", {"team": "a"})
    assert made.scoring_uri == f"{online.control.address.azure.resource_manager}/online/{name}/score"
    blue = ManagedOnlineDeployment(name="blue", endpoint_name=name, model=model, instance_type=SIZE, instance_count=1)
    deployed = client.begin_create_or_update(blue).result()
    assert (deployed.provisioning_state, deployed.instance_count, deployed.model) == ("Succeeded", 1, model)
    made.traffic = {"blue": 100}
    assert client.begin_create_or_update(made).result().traffic == {"blue": 100}
    assert [one.name for one in client.online_endpoints.list()] == [name]
    assert [one.name for one in client.online_deployments.list(name)] == ["blue"]
    assert "UserContainerStart: Succeeded" in client.online_deployments.get_logs("blue", name, 50)
    found = client.online_deployments.get("blue", name)
    found.instance_count = 2
    assert client.begin_create_or_update(found).result().instance_count == 2
    client.online_endpoints.begin_delete(name).result()
    with pytest.raises(HttpResponseError) as gone:
        client.online_endpoints.get(name)
    assert gone.value.status_code == 404


def test_the_sdk_hears_why_a_deployment_failed(online: Online, client: MLClient, model: str) -> None:
    from azure.ai.ml.entities import ManagedOnlineDeployment

    online.control.script_serving(platform="azure", provisioning_error="out of memory")
    endpoint = online.make()
    blue = ManagedOnlineDeployment(name="blue", endpoint_name=endpoint, model=model, instance_type=SIZE)
    blue.instance_count = 1
    with pytest.raises(HttpResponseError, match=r"ResourceNotReady.*out of memory"):
        client.begin_create_or_update(blue).result()


def test_nothing_of_an_endpoint_changes_while_something_does(online: Online, model: str) -> None:
    online.control.script_serving(platform="azure", provisioning_seconds=30)
    endpoint = online.make()
    assert online.deploy(endpoint, "blue", model).status_code == 201
    assert online.get(endpoint)["properties"]["provisioningState"] == "Updating"
    sentence = f"deployment in endpoint {endpoint} because it is in Updating provisioning state."
    refusals = [
        (online.deploy(endpoint, "green", model), f"Cannot create a {sentence}"),
        (online.deploy(endpoint, "blue", model), f"Cannot update a {sentence}"),
        (online.call("DELETE", f"/{endpoint}/deployments/blue", version=DEPLOYMENT), f"Cannot delete a {sentence}"),
        (online.put(endpoint), f"Cannot update endpoint {endpoint} because it is in Updating provisioning state."),
        (online.call("DELETE", f"/{endpoint}"), f"Cannot delete endpoint {endpoint} because it is in Updating "),
    ]
    for answer, message in refusals:
        assert refused_because(answer)[:2] == (409, "UserError")
        assert message in answer.json()["error"]["message"]
    online.control.azure_serving_settings(busy_status=400)
    assert online.deploy(endpoint, "green", model).status_code == 400


def test_the_old_shares_count_until_the_endpoint_is_updated(online: Online, model: str) -> None:
    endpoint = online.make()
    online.deployed(endpoint, "blue", model)
    online.deployed(endpoint, "green", model)
    online.share(endpoint, blue=100)
    online.control.azure_serving_settings(endpoint_seconds=0.5)
    answer = online.put(endpoint, traffic={"blue": 50, "green": 50})
    assert answer.json()["properties"]["provisioningState"] == "Updating"
    assert online.get(endpoint)["properties"]["traffic"] == {"blue": 100}
    online.settled(endpoint)
    assert online.get(endpoint)["properties"]["traffic"] == {"blue": 50, "green": 50}


@pytest.mark.parametrize(
    ("traffic", "because"),
    [
        ({"blue": 60}, "must be 0 or 100"),
        ({"blue": 60, "green": 60}, "must be 0 or 100"),
        ({"green": 100}, "deployment green in traffic was not found"),
        ({"blue": "all"}, "expects an integer"),
        ({"blue": 101}, "between 0 and 100"),
    ],
)
def test_traffic_is_100_or_0_and_names_what_is_there(
    online: Online, model: str, traffic: dict[str, Any], because: str
) -> None:
    endpoint = online.make()
    online.deployed(endpoint, "blue", model)
    answer = online.put(endpoint, traffic=traffic)
    assert answer.status_code == 400
    assert because in answer.json()["error"]["message"]


def test_a_deployment_with_traffic_stays_and_its_endpoint_takes_all_with_it(online: Online, model: str) -> None:
    endpoint = online.make()
    online.deployed(endpoint, "blue", model)
    online.share(endpoint, blue=100)
    refused = online.call("DELETE", f"/{endpoint}/deployments/blue", version=DEPLOYMENT)
    assert "Can't delete deployment [blue] with non-zero traffic weight" in refused_because(refused)[2]
    online.share(endpoint)
    assert online.call("DELETE", f"/{endpoint}/deployments/blue", version=DEPLOYMENT).status_code == 202
    gone = wait_until(lambda: online.call("DELETE", f"/{endpoint}/deployments/blue", version=DEPLOYMENT))
    assert gone.status_code in (204, 409)
    online.settled(endpoint)
    online.deployed(endpoint, "green", model)
    online.share(endpoint, green=100)
    assert online.call("DELETE", f"/{endpoint}").status_code == 202
    wait_until(lambda: online.call("DELETE", f"/{endpoint}").status_code == 204)


@pytest.mark.parametrize("name", ["ab", "a" * 33, "1abc", "a_bc", "abc-"])
def test_names_are_3_to_32_letters_digits_and_hyphens(online: Online, name: str) -> None:
    assert refused_because(online.put(name))[:2] == (400, "UserError")


def test_a_name_that_another_workspace_of_the_region_has_is_refused(online: Online) -> None:
    online.control.azure_serving_settings(taken_names=["theirs"])
    status, code, message = refused_because(online.put("Theirs"))
    assert (status, code) == (400, "BadRequest")
    assert "Endpoint name needs to be unique within a region" in message
    assert online.call("GET", "/theirs").status_code == 404


def test_endpoints_and_deployments_have_their_limits(online: Online, model: str) -> None:
    endpoint = online.make()
    online.control.azure_serving_settings(endpoint_limit=1, deployment_limit=1)
    assert "usage/limit: 1/1" in refused_because(online.put(new_name()))[2]
    online.deployed(endpoint, "blue", model)
    assert "usage/limit: 1/1" in refused_because(online.deploy(endpoint, "green", model))[2]


def test_quota_counts_a_fifth_more_machines_and_those_of_failed_deployments(online: Online, model: str) -> None:
    assert [reserved_cores(SIZE, count) for count in (1, 5, 6, 10)] == [8, 24, 32, 48]
    assert reserved_cores("Standard_NC24ads_A100_v4", 2) == 48, "exempt"
    online.control.azure_compute_settings(family_cores={"standardDSv2Family": 16})
    online.control.script_serving(platform="azure", provisioning_error="it does not start")
    endpoint = online.make()
    assert online.deployed(endpoint, "blue", model)["properties"]["provisioningState"] == "Failed"
    assert _usage(online) == (8, 16)
    refused = online.deploy(endpoint, "green", model, capacity=2)
    sentence = "Current usage/limit: 8/16. Additional needed: 12"
    assert sentence in refused_because(refused)[2]
    assert refused.json()["error"]["details"][0]["code"] == "InferencingClientCreateDeploymentFailed"
    online.call("DELETE", f"/{endpoint}/deployments/blue", version=DEPLOYMENT)
    online.settled(endpoint)
    assert _usage(online) == (0, 16)
    assert online.deploy(endpoint, "green", model, capacity=2).status_code == 201


def _usage(online: Online) -> tuple[int, int]:
    azure = online.control.address.azure
    reader = online.control.add_application("reader", roles={"subscription": ["Reader"]})
    token = online.control.issue_azure_token(reader, azure.resource_manager)
    url = f"{azure.resource_manager}/subscriptions/{azure.subscription_id}/providers/"
    url += f"Microsoft.MachineLearningServices/locations/{azure.region}/usages?api-version=2023-10-01"
    headers = {"Authorization": f"Bearer {token}"}
    listed = requests.get(url, headers=headers, verify=str(online.control.address.ca_file), timeout=10).json()["value"]
    found = {row["name"]["value"]: (row["currentValue"], row["limit"]) for row in listed}
    return found["standardDSv2Family"]


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ({"instanceType": "Standard_D2_v2"}, "Not supported VM Size Standard_D2_v2"),
        ({"instanceType": "Huge"}, "Not supported VM Size Huge"),
        ({"scaleSettings": {"scaleType": "TargetUtilization"}}, "Valid values: Default"),
        ({"instances": 2}, "unknown field 'properties.instances'"),
        ({"appInsightsEnabled": "yes"}, "expects a boolean"),
        ({"requestSettings": {"requestTimeout": "PT300S"}}, "at most 180 seconds"),
        ({"codeConfiguration": {"scoringScript": "score.py"}}, "without code"),
        ({"endpointComputeType": "Kubernetes"}, "Valid values: Managed"),
        ({"dataCollector": {"collections": {"request": {"dataCollectionMode": "On"}}}}, "Invalid value 'On'"),
    ],
)
def test_a_deployment_is_what_the_service_takes(
    online: Online, model: str, changes: dict[str, Any], because: str
) -> None:
    endpoint = online.make()
    status, _, message = refused_because(online.deploy(endpoint, "blue", model, **changes))
    assert status == 400
    assert because in message


def test_at_least_one_instance_and_a_model_that_is_there(online: Online, model: str) -> None:
    endpoint = online.make()
    assert "between 1 and 50" in refused_because(online.deploy(endpoint, "blue", model, capacity=0))[2]
    missing = online.deploy(endpoint, "blue", model.replace("versions/1", "versions/9"))
    assert missing.status_code == 404
    foreign = online.deploy(endpoint, "blue", "azureml://registries/azureml/models/x/versions/1")
    assert foreign.status_code == 400


def test_a_data_collector_needs_an_api_version_that_has_it(online: Online, model: str) -> None:
    collector = {"collections": {"request": {"dataCollectionMode": "Enabled", "samplingRate": 0.5}}}
    endpoint = online.make()
    body = online.deployment_body(model, dataCollector=collector)
    path = f"/{endpoint}/deployments/blue"
    assert "dataCollector" in refused_because(online.call("PUT", path, body, "2023-10-01"))[2]
    assert online.call("PUT", path, body, "2024-04-01").status_code == 201
    online.settled(endpoint)
    assert online.deployment(endpoint, "blue")["properties"]["dataCollector"] == collector


def test_an_endpoint_that_fails_is_as_before_or_has_to_be_made_again(online: Online, model: str) -> None:
    endpoint, name = online.make(), new_name()
    online.deployed(endpoint, "blue", model)
    online.share(endpoint, blue=100)
    online.control.azure_serving_settings(endpoint_failure="no capacity")
    assert online.put(endpoint).status_code == 200
    assert online.settled(endpoint) == "Failed"
    assert online.score(endpoint).status_code == 200
    assert online.put(name).status_code == 201
    assert online.settled(name) == "Failed"
    online.control.azure_serving_settings(endpoint_failure="")
    refused = online.deploy(name, "blue", model)
    assert f"Specified endpoint [{name}] has not been created successfully" in refused_because(refused)[2]
    assert online.deploy(endpoint, "green", model).status_code == 201


def test_size_and_identity_stay_as_they_were_made(online: Online, model: str) -> None:
    endpoint = online.make()
    online.deployed(endpoint, "blue", model)
    larger = online.deploy(endpoint, "blue", model, instanceType="Standard_DS4_v2")
    assert "instanceType of deployment blue cannot be changed" in refused_because(larger)[2]
    other = online.body() | {"identity": {"type": "UserAssigned", "userAssignedIdentities": {"/x": {}}}}
    assert (
        "identity of an online endpoint cannot be changed"
        in refused_because(online.call("PUT", f"/{endpoint}", other))[2]
    )
    nobody = online.body() | {"identity": {"type": "None"}}
    assert "needs an identity" in refused_because(online.call("PUT", f"/{new_name()}", nobody))[2]
    unknown = online.body() | {"identity": {"type": "UserAssigned", "userAssignedIdentities": {"/x": {}}}}
    assert refused_because(online.call("PUT", f"/{new_name()}", unknown))[1] == "FailedIdentityOperation"


def test_a_patch_changes_tags_and_instances_only(online: Online, model: str) -> None:
    endpoint = online.make()
    online.deployed(endpoint, "blue", model)
    online.share(endpoint, blue=100)
    assert online.call("PATCH", f"/{endpoint}", {"tags": {"team": "b"}}).status_code == 202
    online.settled(endpoint)
    found = online.get(endpoint)
    assert (found["tags"], found["properties"]["traffic"]) == ({"team": "b"}, {"blue": 100})
    path = f"/{endpoint}/deployments/blue"
    patched = online.call("PATCH", path, {"sku": {"capacity": 3}}, DEPLOYMENT)
    assert (patched.status_code, patched.json()["sku"]["capacity"]) == (202, 3)
    online.settled(endpoint)
    for body in ({"properties": {"traffic": {}}}, {"sku": {"capacity": 3}}):
        assert online.call("PATCH", f"/{endpoint}", body).status_code == 400
    assert online.call("PATCH", path, {"properties": {}}, DEPLOYMENT).status_code == 400


def test_a_role_on_the_endpoint_alone_opens_it_and_none_makes_role_assignments(online: Online) -> None:
    endpoint = online.make("Key")
    azure = online.control.address.azure
    caller = online.control.add_application("caller")
    assert online.arm(caller, "GET", f"/onlineEndpoints/{endpoint}", version=ENDPOINT).status_code == 403
    scope = f"{azure.workspace_scope}/onlineEndpoints/{endpoint}"
    online.control.assign_role(caller, "AzureML Data Scientist", scope)
    assert online.arm(caller, "POST", f"/onlineEndpoints/{endpoint}/listKeys", version=ENDPOINT).status_code == 200
    assert online.arm(caller, "GET", "/onlineEndpoints", version=ENDPOINT).status_code == 403
    assert online.arm(caller, "PUT", f"/onlineEndpoints/{new_name()}", version=ENDPOINT, json={}).status_code == 403
    reader = online.control.add_application("looks", roles={"workspace": ["Reader"]})
    assert online.arm(reader, "GET", f"/onlineEndpoints/{endpoint}", version=ENDPOINT).status_code == 200
    assert online.arm(reader, "POST", f"/onlineEndpoints/{endpoint}/listKeys", version=ENDPOINT).status_code == 403


def test_what_others_do_behind_the_operators_back_is_seen(online: Online, model: str) -> None:
    endpoint = online.make()
    for name in ("blue", "green"):
        online.deployed(endpoint, name, model)
    online.share(endpoint, blue=100)
    online.share(endpoint, blue=10, green=90)
    online.control.roll_back_azure_endpoint(endpoint)
    online.settled(endpoint)
    assert online.get(endpoint)["properties"]["traffic"] == {"blue": 100}
    online.control.edit_azure_endpoint(endpoint, traffic={"green": 100}, tags={}, auth_mode="Key", creator="them")
    found = online.get(endpoint)
    assert (found["systemData"]["createdBy"], found["properties"]["authMode"]) == ("them", "Key")
    assert (found["tags"], found["properties"]["traffic"]) == ({}, {"green": 100})
    online.control.edit_azure_deployment(endpoint, "green", capacity=4)
    assert online.deployment(endpoint, "green")["sku"]["capacity"] == 4
    online.control.delete_azure_deployment(endpoint, "green")
    online.settled(endpoint)
    assert [one["name"] for one in online.control.azure_endpoint(endpoint)["deployments"]] == ["blue"]
    online.control.delete_azure_endpoint(endpoint)
    wait_until(lambda: online.call("GET", f"/{endpoint}").status_code == 404)
