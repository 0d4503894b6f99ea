"""What a recipe of the cookbook finds on the platform beside its manifest: files, jobs, secrets, clusters, policies.

`PREPARED` by the example's name. Read by test_cookbook.py only.
"""

import json
from collections.abc import Callable
from typing import Any

from databricks.sdk.service import compute, jobs

from tests.e2e.kitchen import TRAIN, WHEEL, Kitchen, wheel

# A curated environment of Azure ML's own registry, for jobs and components that others have made.
CURATED = "azureml://registries/azureml/environments/sklearn-1.5/versions/1"


def a_folder_of_the_workspace(place: Kitchen) -> None:
    place.put_workspace("/Workspace/Shared/wine/1.4/train.py", TRAIN.encode())


def a_folder_of_a_volume(place: Kitchen) -> None:
    place.put_volume("/Volumes/main/wine/code/wine-1.4/train.py", TRAIN.encode())


def a_wheel_in_a_volume(place: Kitchen) -> None:
    place.put_volume(f"/Volumes/main/wine/code/wheels/{WHEEL}", wheel())


def wines(place: Kitchen) -> None:
    place.put_volume("/Volumes/main/wine/data/2026/wines.csv", b"a\nb\n")


def a_saved_job(place: Kitchen, name: str, *parameters: str) -> int:
    place.put_workspace(f"/Workspace/Shared/jobs/{name}.py", b"import sys\nprint(*sys.argv[1:])\n")
    references = [f"{{{{job.parameters.{each}}}}}" for each in parameters]
    made = place.client().jobs.create(
        name=name,
        tasks=[
            jobs.Task(
                task_key="only",
                spark_python_task=jobs.SparkPythonTask(f"/Workspace/Shared/jobs/{name}.py", parameters=references),
                environment_key="default",
                disable_auto_optimization=True,
            )
        ],
        environments=[jobs.JobEnvironment("default", compute.Environment(environment_version="5"))],
        parameters=[jobs.JobParameterDefinition(name=each, default="none") for each in parameters],
    )
    assert made.job_id is not None
    return made.job_id


def a_job_with_parameters(place: Kitchen) -> None:
    place.instead['"1042"'] = f'"{a_saved_job(place, "daily", "day", "mlflow_run_id")}"'


def a_job_with_a_name(place: Kitchen) -> None:
    a_saved_job(place, "prepare wines")


def a_secret(place: Kitchen) -> None:
    place.client().secrets.create_scope(place.namespace)  # what team-wine is here
    place.client().secrets.put_secret(place.namespace, "feature-store", string_value="not telling")


def a_cluster(place: Kitchen) -> None:
    waiter: Any = place.client().clusters.create(
        spark_version="16.4.x-scala2.12", node_type_id="m5d.large", num_workers=0, cluster_name="shared"
    )
    place.instead["1123-120000-abcdefgh"] = waiter.response.cluster_id


def two_pools(place: Kitchen) -> None:
    for there in ("1123-120000-pool-abcdefgh", "1123-120000-pool-ijklmnop"):
        made = place.client(place.admin).instance_pools.create(instance_pool_name=there, node_type_id="m5d.large")
        place.instead[there] = made.instance_pool_id or ""
        place.stand.control.grant(place.trainer, f"instance-pools/{made.instance_pool_id}", "CAN_ATTACH_TO")


def a_policy(place: Kitchen) -> None:
    definition = {"num_workers": {"type": "range", "maxValue": 2, "defaultValue": 1}}
    made = place.client(place.admin).cluster_policies.create(name="small", definition=json.dumps(definition))
    place.instead["60646AB1C2D3E4F5"] = made.policy_id or ""
    place.stand.control.grant(place.trainer, f"cluster-policies/{made.policy_id}", "CAN_USE")


def a_budget_policy(place: Kitchen) -> None:
    place.stand.control.compute(budget_policies=["7a0c0e1e-0000-4000-8000-000000000000"])


def an_instance_profile(place: Kitchen) -> None:
    place.stand.control.compute(instance_profiles=["arn:aws:iam::123456789012:instance-profile/wine-raw-reader"])


def a_day_without_machines(place: Kitchen) -> None:
    place.stand.control.fail_cluster_starts(
        "AWS_INSUFFICIENT_INSTANCE_CAPACITY_FAILURE", times=1, run_name=f"{place.namespace}/spot-autoscale .*"
    )


def a_notebook_in_the_workspace(place: Kitchen) -> None:
    source = b"# Databricks notebook source\ndbutils.notebook.exit('cleaned')\n"
    place.put_workspace("/Workspace/Shared/wine/clean.py", source)


# --- Azure ML


def wines_and_labels(place: Kitchen) -> None:
    place.stand.control.put_azure_blob("lake", "wine/2026/wines.csv", b"a\nb\n")
    place.stand.control.put_azure_blob("lake", "wine/labels/labels.csv", b"red\nwhite\n")
    where = "azureml://datastores/lake/paths/wine/labels/labels.csv"
    body = {"properties": {"dataType": "uri_file", "dataUri": where}}
    place.put_azure("/data/wine-labels/versions/1", "2023-04-01-preview", body)


def a_build_that_can_be_watched(place: Kitchen) -> None:
    place.stand.control.azure_compute_settings(build_seconds=5)


def an_environment(place: Kitchen) -> None:
    body = {"properties": {"image": "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04", "osType": "Linux"}}
    place.put_azure("/environments/wine-tools/versions/3", "2023-04-01-preview", body)


def a_wheel_in_a_datastore(place: Kitchen) -> None:
    place.stand.control.put_azure_blob("lake", f"code/wheels/{WHEEL}", wheel())


def a_job_of_last_month(place: Kitchen) -> None:
    properties = {
        "jobType": "Command",
        "experimentName": "monthly",
        "command": "echo reported on ${{inputs.month}}, $TRAINYARD_NAME",
        "environmentId": CURATED,
        "inputs": {"month": {"jobInputType": "literal", "value": "2026-10"}},
    }
    place.put_azure("/jobs/wine-monthly", "2025-01-01-preview", {"properties": properties})


def two_components(place: Kitchen) -> None:
    wines_and_labels(place)
    folder = {"type": "uri_folder"}
    clean = {
        "command": "grep . ${{inputs.wines}}/wines.csv > ${{outputs.wines}}/clean.csv",
        "inputs": {"wines": folder},
        "outputs": {"wines": folder},
    }
    score = {
        "command": "sed s/$/,${{inputs.depth}}/ ${{inputs.wines}}/clean.csv > ${{outputs.scores}}/scores.csv",
        "inputs": {"wines": folder, "depth": {"type": "string"}},
        "outputs": {"scores": folder},
    }
    for name, spec in (("clean-wines", clean), ("score-wines", score)):
        body = {"properties": {"componentSpec": {"type": "command", "environment": CURATED, **spec}}}
        place.put_azure(f"/components/{name}/versions/1", "2024-10-01-preview", body)


PREPARED: dict[str, Callable[[Kitchen], None]] = {
    "04-workspace-path": a_folder_of_the_workspace,
    "05-volume-path": a_folder_of_a_volume,
    "06-wheel-file": a_wheel_in_a_volume,
    "13-job-by-id": a_job_with_parameters,
    "14-job-by-name": a_job_with_a_name,
    "16-data": wines,
    "17-secrets": a_secret,
    "18-platform-task": a_notebook_in_the_workspace,
    "20-existing-cluster": a_cluster,
    "21-pool": two_pools,
    "22-policy": a_policy,
    "23-serverless": a_budget_policy,
    "24-instance-profile": an_instance_profile,
    "25-spot-autoscale": a_day_without_machines,
    "41-azureml-data": wines_and_labels,
    "42-azureml-environment": a_build_that_can_be_watched,
    "43-azureml-cluster": an_environment,
    "44-azureml-wheel": a_wheel_in_a_datastore,
    "46-azureml-job-ref": a_job_of_last_month,
    "48-azureml-pipeline": two_components,
}
