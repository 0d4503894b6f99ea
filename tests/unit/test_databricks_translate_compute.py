"""What a compute class becomes: job clusters in the words of each cloud, serverless, and clusters that run already."""

from typing import Any

import pytest
from databricks.sdk.service import compute

from tests.unit.translations import only_task, refusal, request, step
from tests.wire.jobs import SERVERLESS

HOSTS = {
    "AWS": "https://dbc-1.cloud.databricks.com",
    "Azure": "https://adb-1.7.azuredatabricks.net",
    "GCP": "https://1.2.gcp.databricks.com",
}
NODES = {"nodeTypeId": "m", "sparkVersion": "16.4.x-scala2.13", "dataSecurityMode": "SINGLE_USER"}
POOL = {"instancePoolId": "p-1", "sparkVersion": "16.4.x-scala2.13", "dataSecurityMode": "SINGLE_USER"}


def of_class(shape: dict[str, Any], **fields: Any) -> dict[str, Any]:
    workspace = {"computeClasses": {"it": shape}, **fields.pop("workspace", {})}
    return {"workspace": workspace, "compute": {"class": "it"}, **fields}


def cluster(host: str = HOSTS["AWS"], **fields: Any) -> dict[str, Any]:
    task = only_task(**of_class({"jobCluster": {**NODES, **fields}}), host=host)
    found: dict[str, Any] = task["new_cluster"]
    assert compute.ClusterSpec.from_dict(found).as_dict() == found
    return found


SPOT = [
    ("AWS", "OnDemand", "aws_attributes", {"availability": "ON_DEMAND"}),
    ("AWS", "Spot", "aws_attributes", {"availability": "SPOT", "first_on_demand": 1}),
    ("AWS", "SpotWithFallback", "aws_attributes", {"availability": "SPOT_WITH_FALLBACK", "first_on_demand": 1}),
    ("Azure", "OnDemand", "azure_attributes", {"availability": "ON_DEMAND_AZURE"}),
    ("Azure", "Spot", "azure_attributes", {"availability": "SPOT_AZURE", "first_on_demand": 1}),
    (
        "Azure",
        "SpotWithFallback",
        "azure_attributes",
        {"availability": "SPOT_WITH_FALLBACK_AZURE", "first_on_demand": 1},
    ),
    ("GCP", "OnDemand", "gcp_attributes", {"availability": "ON_DEMAND_GCP"}),
    ("GCP", "Spot", "gcp_attributes", {"availability": "PREEMPTIBLE_GCP", "first_on_demand": 1}),
    (
        "GCP",
        "SpotWithFallback",
        "gcp_attributes",
        {"availability": "PREEMPTIBLE_WITH_FALLBACK_GCP", "first_on_demand": 1},
    ),
]


@pytest.mark.parametrize(("cloud", "availability", "name", "attributes"), SPOT)
def test_spot_is_said_in_the_words_of_each_cloud_and_keeps_the_driver(
    cloud: str, availability: str, name: str, attributes: dict[str, Any]
) -> None:
    found = cluster(HOSTS[cloud], availability=availability)
    assert found[name] == attributes
    assert [key for key in found if key.endswith("_attributes")] == [name]


def test_the_cloud_of_a_private_host_is_what_the_workspace_says() -> None:
    shape = {"jobCluster": {**NODES, "availability": "Spot"}}
    private = {"host": "https://databricks.example.com"}
    error = refusal(**of_class(shape), **private)
    assert (error.reason, error.field) == ("CloudUnknown", "spec.compute.class")
    assert "spec.databricks.cloud" in error.message
    said = {"databricks": {**private, "cloud": "GCP"}}
    assert "gcp_attributes" in only_task(**of_class(shape, workspace=said))["new_cluster"]
    assert "new_cluster" in only_task(**of_class({"jobCluster": NODES}), **private)


def test_zone_profile_and_the_number_on_demand_go_along() -> None:
    found = cluster(firstOnDemand=3, zoneId="us-west-2a", instanceProfileArn="arn:aws:iam::1:instance-profile/x")
    assert found["aws_attributes"] == {
        "first_on_demand": 3,
        "zone_id": "us-west-2a",
        "instance_profile_arn": "arn:aws:iam::1:instance-profile/x",
    }
    assert cluster(HOSTS["GCP"], zoneId="europe-west1-b")["gcp_attributes"] == {"zone_id": "europe-west1-b"}
    assert cluster(availability="Spot", firstOnDemand=0)["aws_attributes"]["first_on_demand"] == 0


def test_every_other_field_of_a_job_cluster_reaches_the_platform() -> None:
    found = cluster(
        driverNodeTypeId="d",
        autoscale={"minWorkers": 1, "maxWorkers": 8},
        runtimeEngine="PHOTON",
        sparkConf={"spark.x": "1"},
        policyId="pol",
        applyPolicyDefaultValues=True,
        dataSecurityMode="DATA_SECURITY_MODE_DEDICATED",
    )
    told = {key: value for key, value in found.items() if key not in ("spark_env_vars", "custom_tags")}
    assert told == {
        "spark_version": "16.4.x-scala2.13",
        "node_type_id": "m",
        "driver_node_type_id": "d",
        "data_security_mode": "DATA_SECURITY_MODE_DEDICATED",
        "autoscale": {"min_workers": 1, "max_workers": 8},
        "kind": "CLASSIC_PREVIEW",
        "policy_id": "pol",
        "apply_policy_default_values": True,
        "runtime_engine": "PHOTON",
        "spark_conf": {"spark.x": "1"},
    }


def test_machines_of_a_pool_are_not_named() -> None:
    shape = {"jobCluster": {**POOL, "driverInstancePoolId": "p-2", "numWorkers": 2}}
    found = only_task(**of_class(shape))["new_cluster"]
    assert (found["instance_pool_id"], found["driver_instance_pool_id"]) == ("p-1", "p-2")
    assert "node_type_id" not in found


INVALID = [
    ("AWS", {**POOL, "driverNodeTypeId": "d"}, "driverNodeTypeId"),
    ("AWS", {**POOL, "availability": "Spot"}, "availability"),
    ("AWS", {**POOL, "firstOnDemand": 1}, "firstOnDemand"),
    ("AWS", {**POOL, "zoneId": "z"}, "zoneId"),
    ("GCP", {**NODES, "instanceProfileArn": "arn:x"}, "GCP"),
    ("Azure", {**NODES, "zoneId": "1"}, "zoneId"),
]


@pytest.mark.parametrize(("cloud", "shape", "words"), INVALID)
def test_what_a_cloud_or_a_pool_does_not_have_is_refused(cloud: str, shape: dict[str, Any], words: str) -> None:
    error = refusal(**of_class({"jobCluster": shape}), host=HOSTS[cloud])
    assert (error.field, error.reason) == ("spec.compute.class", "ComputeClassInvalid")
    assert words in error.message


def test_a_running_cluster_is_named_and_gets_the_packages() -> None:
    shape = {"existingCluster": {"clusterId": "c-1"}}
    task = only_task(**of_class(shape, environment={"pip": ["pandas"]}))
    assert (task["existing_cluster_id"], task["libraries"]) == ("c-1", [{"pypi": {"package": "pandas"}}])
    assert not {"new_cluster", "environment_key"} & set(task)


def serverless(**fields: Any) -> dict[str, Any]:
    return {"serverless": {"environmentVersion": "5", **fields}}


def test_what_serverless_takes_for_a_whole_run_stands_in_the_request() -> None:
    shape = serverless(budgetPolicyId="b", performanceTarget="STANDARD", accelerator="GPU_1xA10")
    body = request(**of_class(shape)).body
    assert (body["budget_policy_id"], body["performance_target"]) == ("b", "STANDARD")
    assert body["tasks"][0]["compute"] == {"hardware_accelerator": "GPU_1xA10"}
    plain = request(**of_class(SERVERLESS)).body
    assert not {"budget_policy_id", "performance_target"} & set(plain)
    assert "compute" not in plain["tasks"][0]


def test_serverless_classes_that_want_different_things_for_the_run_are_refused_naming_the_tasks() -> None:
    classes = {"a": serverless(budgetPolicyId="b1"), "b": serverless(budgetPolicyId="b2"), "c": serverless()}
    graph = [step("fit", compute={"class": "a"}), step("score", compute={"class": "b"})]
    error = refusal(workspace={"computeClasses": classes}, tasks=graph, compute=None)
    assert (error.field, error.reason) == ("spec.tasks[score].compute.class", "ComputeClassesDiffer")
    assert "'fit' on 'a' and task 'score' on 'b' want budgetPolicyId b1 and b2" in error.message
    graph[1]["compute"] = {"class": "c"}
    assert "b1 and absent" in refusal(workspace={"computeClasses": classes}, tasks=graph, compute=None).message
    mixed = [step("fit", compute={"class": "a"}), step("look", compute={"class": "it"})]
    both = {**classes, "it": {"jobCluster": NODES}}
    assert request(workspace={"computeClasses": both}, tasks=mixed, compute=None).body["budget_policy_id"] == "b1"
