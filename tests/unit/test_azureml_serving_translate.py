"""The plan of an endpoint as bodies of Azure ML; azure-ai-ml's own entities make the same."""

from typing import Any

import pytest
from azure.ai.ml.entities import (
    DataCollector,
    DefaultScaleSettings,
    DeploymentCollection,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
)
from azure.ai.ml.entities import OnlineRequestSettings as Requests

from tests.unit.azureml_endpoints import SIZE, UID, WORKSPACE, WS, desired, logging, plan, serving
from trainyard.core.errors import TranslationError
from trainyard.core.serving.plan import EndpointPlan
from trainyard.platforms.azureml import needs
from trainyard.platforms.azureml.platform import AzureML
from trainyard.platforms.azureml.serving_steps import Seen, next_request, traffic_of

LOCATION = "westeurope"
NAME = "champion-aaaaaaaa"


def bodies(wanted: EndpointPlan) -> dict[str, Any]:
    return dict(AzureML().translate_endpoint(wanted, WORKSPACE).body)


def test_the_endpoint_is_what_the_sdk_makes_of_one() -> None:
    body = bodies(plan(serving(NAME), tags={"team": "wine"}))["endpoint"]
    entity = ManagedOnlineEndpoint(name="team-a-wine", auth_mode="aad_token", tags=body["tags"])
    theirs = entity._to_rest_online_endpoint(LOCATION).as_dict()
    empty: dict[str, Any] = {"properties": {}, "traffic": {}, "mirrorTraffic": {}}
    assert theirs.pop("properties") | empty == body["properties"] | empty
    assert theirs == {"location": LOCATION, "identity": body["identity"], "tags": body["tags"]}


def test_a_deployment_is_what_the_sdk_makes_of_one() -> None:
    served = serving(NAME, "3", minReplicas=2, maxReplicas=2, env={"MODE": "fast"})
    wanted = desired(served, request_logging=logging(50))
    change = next_request(
        Seen({**wanted.endpoint, "properties": {**wanted.endpoint["properties"], "provisioningState": "Succeeded"}}),
        wanted,
    )
    assert change is not None
    assert change.body is not None
    collected = DeploymentCollection(enabled="true")
    entity = ManagedOnlineDeployment(
        name=NAME,
        endpoint_name="team-a-wine",
        tags=change.body["tags"],
        model=f"{WS}/models/wine/versions/3",
        instance_type=SIZE,
        instance_count=2,
        environment_variables={"MODE": "fast"},
        scale_settings=DefaultScaleSettings(),
        request_settings=Requests(request_timeout_ms=120_000),
        data_collector=DataCollector(
            collections={"model_inputs": collected, "model_outputs": collected}, rolling_rate="Hour", sampling_rate=0.5
        ),
    )
    theirs = entity._to_rest_object(LOCATION).as_dict()
    ours = dict(change.body)
    sent = dict(theirs.pop("properties"))
    for each in sent["dataCollector"]["collections"].values():
        # The enumeration of the service says Enabled; the SDK writes it small, which is the same to it.
        each["dataCollectionMode"] = each["dataCollectionMode"].title()
    sent["requestSettings"] = {k: v for k, v in sent["requestSettings"].items() if k == "requestTimeout"}
    kept = {key: value for key, value in sent.items() if value not in ({}, None)}
    assert kept == ours.pop("properties")
    assert theirs == {"location": LOCATION, **ours}


def test_auth_by_key_is_the_endpoints_own_mode() -> None:
    assert bodies(plan(serving(NAME), auth="Key"))["endpoint"]["properties"]["authMode"] == "Key"
    assert bodies(plan(serving(NAME)))["endpoint"]["properties"]["authMode"] == "AADToken"


def test_everything_says_whose_it_is() -> None:
    body = bodies(plan(serving(NAME), tags={"team": "wine"}))
    ours = {
        "trainyard_cluster": "here",
        "trainyard_namespace": "team-a",
        "trainyard_name": "wine",
        "trainyard_uid": UID,
    }
    assert body["deployments"][NAME]["tags"] == ours
    assert ours.items() <= body["endpoint"]["tags"].items()
    assert body["endpoint"]["tags"]["team"] == "wine"


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"scaleToZero": True}, "UnsupportedOnPlatform", "scaleToZero"),
    ({"maxReplicas": 2}, "UnsupportedOnPlatform", "replicas"),
    ({"secrets": {"KEY": {"store": "s", "key": "k"}}}, "UnsupportedOnPlatform", "secrets"),
    ({"computeClass": "job"}, "UnsupportedOnPlatform", "compute.class"),
    ({"computeClass": "dbx"}, "UnsupportedOnPlatform", "compute.class"),
    ({"computeClass": "none"}, "ComputeClassUnknown", "compute.class"),
]


@pytest.mark.parametrize(
    ("fields", "reason", "field"), REFUSED, ids=[f"{case[2]}-{i}" for i, case in enumerate(REFUSED)]
)
def test_what_azure_ml_lacks_is_refused_by_name(fields: dict[str, Any], reason: str, field: str) -> None:
    with pytest.raises(TranslationError) as raised:
        bodies(plan(serving(NAME, **fields)))
    assert raised.value.reason == reason
    assert field in raised.value.field


def test_tags_of_ours_are_not_the_users_to_write() -> None:
    with pytest.raises(TranslationError, match=r"spec\.tags"):
        bodies(plan(serving(NAME), tags={"trainyard_uid": "mine"}))


@pytest.mark.parametrize("name", ["main.ml.wine", "_wine", "w" * 256])
def test_names_that_the_registry_can_not_have_are_refused(name: str) -> None:
    with pytest.raises(TranslationError, match="model"):
        AzureML().model_name(name, WORKSPACE)


def test_a_model_is_called_as_it_is() -> None:
    assert AzureML().model_name("wine-quality_2", WORKSPACE) == "wine-quality_2"


def test_an_endpoints_name_fits() -> None:
    name = AzureML().endpoint_name(None, WORKSPACE, "team-with-a-long-name", "deployment-with-a-long-name")
    assert 3 <= len(name) <= 32


def test_the_quota_is_asked_for_all_that_serves_at_a_time() -> None:
    old, new = serving("m-aaaaaaaa", minReplicas=3, maxReplicas=3), serving("m-bbbbbbbb", "2")
    large = serving("n-cccccccc", computeClass="large")
    request = AzureML().translate_endpoint(plan(old, new, large), WORKSPACE)
    quotas = {need.name: need.right for need in request.needs if need.kind == needs.SERVING_QUOTA}
    # ceil(1.2 * 3) + ceil(1.2 * 1), for each deployment by itself
    assert quotas == {SIZE: "QUOTA for 6 machines", "Standard_F4s_v2": "QUOTA for 2 machines"}


@pytest.mark.parametrize(("machines", "counted"), [(1, 2), (2, 3), (5, 6), (6, 8), (10, 12)])
def test_a_fifth_is_added_for_upgrades(machines: int, counted: int) -> None:
    assert needs.reserved(machines) == counted


def test_the_models_and_rights_are_asked_for() -> None:
    request = AzureML().translate_endpoint(plan(serving(NAME, "3"), auth="Key"), WORKSPACE)
    asked = {(need.kind, need.name if need.kind != needs.WORKSPACE else need.right) for need in request.needs}
    assert (needs.SERVED_MODEL, "wine:3") in asked
    assert (needs.WORKSPACE, needs.ENDPOINTS_KEYS) in asked
    assert (needs.WORKSPACE, needs.DEPLOYMENTS_WRITE) in asked


def test_an_empty_plan_is_one_too() -> None:
    wanted = desired()
    assert wanted.deployments == {}
    assert traffic_of(wanted.endpoint) == {}
