"""From a compute class of the workspace to the part of a Databricks task that says what it runs on. Pure.

Called by tasks.py. Field names, the words for availability and which cloud has which are those of databricks-sdk
service/compute.py (ClusterSpec, AwsAttributes, AzureAttributes, GcpAttributes) and service/jobs.py (SubmitTask).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from trainyard.api.training_run import Compute
from trainyard.api.workspace import ComputeClass, JobCluster, MLWorkspaceSpec, Runtime
from trainyard.core.errors import TranslationError
from trainyard.platforms import short_names
from trainyard.platforms.base import Job
from trainyard.platforms.databricks import names
from trainyard.platforms.databricks.steps import Step

# databricks-sdk environments.py (ALL_ENVS).
_CLOUDS = {
    ".azuredatabricks.net": "Azure",
    ".databricks.azure.cn": "Azure",
    ".databricks.azure.us": "Azure",
    ".cloud.databricks.com": "AWS",
    ".cloud.databricks.mil": "AWS",
    ".cloud.databricks.us": "AWS",
    ".gcp.databricks.com": "GCP",
}
_ATTRIBUTES = {"AWS": "aws_attributes", "Azure": "azure_attributes", "GCP": "gcp_attributes"}
_AVAILABILITY = {
    "AWS": {"OnDemand": "ON_DEMAND", "Spot": "SPOT", "SpotWithFallback": "SPOT_WITH_FALLBACK"},
    "Azure": {"OnDemand": "ON_DEMAND_AZURE", "Spot": "SPOT_AZURE", "SpotWithFallback": "SPOT_WITH_FALLBACK_AZURE"},
    "GCP": {
        "OnDemand": "ON_DEMAND_GCP",
        "Spot": "PREEMPTIBLE_GCP",
        "SpotWithFallback": "PREEMPTIBLE_WITH_FALLBACK_GCP",
    },
}


@dataclass(frozen=True, slots=True)
class Computing:
    """A compute class with its name and the field of the run that names it."""

    name: str
    field: str
    shape: ComputeClass

    @property
    def takes_variables(self) -> bool:
        """Whether environment variables can be set there. A running cluster has those it was started with."""
        return self.shape.existing_cluster is None


def compute_class(compute: Compute | None, field: str, workspace: MLWorkspaceSpec) -> Computing:
    """What the name in the run stands for.

    Raises:
        TranslationError: ComputeClassUnknown.
    """
    name, shape = short_names.compute_class(compute, field, workspace)
    return Computing(name, field, shape)


def runtime_of(step: Step, workspace: MLWorkspaceSpec) -> Runtime | None:
    """What the step's runtime stands for; None where it names none.

    Raises:
        TranslationError: RuntimeUnknown.
    """
    return short_names.runtime(step.environment, step.environment_field, workspace)


def packages_of(step: Step, workspace: MLWorkspaceSpec) -> list[str]:
    """What is installed for the step: the runtime's packages first."""
    runtime = runtime_of(step, workspace)
    return [*(runtime.pip if runtime else []), *(step.environment.pip if step.environment else [])]


def new_cluster(job: Job, step: Step, compute: Computing, variables: Mapping[str, str]) -> dict[str, Any]:
    """The job cluster of a step.

    Raises:
        TranslationError: SparkVersionMissing, CloudUnknown, ComputeClassInvalid or InvalidSpec.
    """
    shape = compute.shape.job_cluster
    assert shape is not None  # noqa: S101  (asked for job clusters only)
    runtime = runtime_of(step, job.workspace)
    spark_version = shape.spark_version or (runtime.spark_version if runtime else None)
    if spark_version is None:
        raise TranslationError(
            f"{step.environment_field}.runtime",
            f"neither compute class {compute.name!r} nor a runtime names a sparkVersion; name a runtime "
            "that has one, or have it added to the workspace",
            reason="SparkVersionMissing",
        )
    return {
        "spark_version": spark_version,
        **_machines(shape, compute),
        "data_security_mode": shape.data_security_mode,
        **owned_by(job, variables),
        **_size(shape),
        **_cloud(shape, compute, job.workspace),
        **_options(shape),
    }


def owned_by(job: Job, variables: Mapping[str, str]) -> dict[str, Any]:
    """The part of a cluster that says whose it is and tells the code so."""
    ours = {
        "trainyard-namespace": job.namespace,
        "trainyard-name": job.name,
        "trainyard-uid": job.uid,
        "trainyard-attempt": str(job.attempt),
    }
    if job.cluster:
        ours["trainyard-cluster"] = job.cluster
    return {"spark_env_vars": dict(variables), "custom_tags": names.cluster_tags({**job.spec.tags, **ours})}


def request_wide(used: Sequence[tuple[Step, Computing]]) -> dict[str, Any]:
    """What serverless classes say that the platform takes for the whole run only.

    Raises:
        TranslationError: ComputeClassesDiffer, naming two tasks that want different things.
    """
    serverless = [(step, compute, compute.shape.serverless) for step, compute in used if compute.shape.serverless]
    found: dict[str, Any] = {}
    for name, python in (("budgetPolicyId", "budget_policy_id"), ("performanceTarget", "performance_target")):
        wanted = [(step, compute, getattr(shape, python)) for step, compute, shape in serverless]
        for step, compute, value in wanted[1:]:
            first_step, first_compute, first_value = wanted[0]
            if value != first_value:
                raise TranslationError(
                    compute.field,
                    f"task {first_step.name!r} on {first_compute.name!r} and task {step.name!r} on {compute.name!r} "
                    f"want {name} {first_value or 'absent'} and {value or 'absent'}, but a run has just one; use "
                    "classes that agree",
                    reason="ComputeClassesDiffer",
                )
        if wanted and wanted[0][2] is not None:
            found[python] = wanted[0][2]
    return found


def _machines(shape: JobCluster, compute: Computing) -> dict[str, Any]:
    if shape.instance_pool_id is None:
        drivers = {"driver_node_type_id": shape.driver_node_type_id} if shape.driver_node_type_id else {}
        return {"node_type_id": shape.node_type_id, **drivers}
    # The platform refuses these beside a pool, whose machines have them already.
    beside = {
        "driverNodeTypeId": shape.driver_node_type_id,
        "availability": shape.availability,
        "firstOnDemand": shape.first_on_demand,
        "zoneId": shape.zone_id,
    }
    for name, value in beside.items():
        if value is not None:
            raise _invalid(compute, f"{name} can not stand beside instancePoolId, as the pool decides it; remove it")
    driver = {"driver_instance_pool_id": shape.driver_instance_pool_id} if shape.driver_instance_pool_id else {}
    return {"instance_pool_id": shape.instance_pool_id, **driver}


def _size(shape: JobCluster) -> dict[str, Any]:
    # ClusterSpec: is_single_node, and modes named DATA_SECURITY_MODE_*, belong to this kind; with is_single_node the
    # platform sets the number of workers and the Spark settings itself.
    if shape.autoscale is None and not shape.num_workers:
        return {"kind": "CLASSIC_PREVIEW", "is_single_node": True}
    kind = {"kind": "CLASSIC_PREVIEW"} if shape.data_security_mode.startswith("DATA_SECURITY_MODE_") else {}
    if shape.autoscale is None:
        return {"num_workers": shape.num_workers, **kind}
    limits = {"min_workers": shape.autoscale.min_workers, "max_workers": shape.autoscale.max_workers}
    return {"autoscale": limits, **kind}


def _cloud(shape: JobCluster, compute: Computing, workspace: MLWorkspaceSpec) -> dict[str, Any]:
    """Availability, zone and instance profile, in the words of the workspace's cloud."""
    asked = {
        "availability": shape.availability,
        "firstOnDemand": shape.first_on_demand,
        "instanceProfileArn": shape.instance_profile_arn,
        "zoneId": shape.zone_id,
    }
    given = [name for name, value in asked.items() if value is not None]
    if not given:
        return {}
    where = workspace.databricks
    cloud = (where.cloud or _cloud_of(where.host)) if where is not None else None
    if cloud is None:
        raise TranslationError(
            compute.field,
            f"compute class {compute.name!r} has {given[0]}, which is said differently in each cloud, and the host "
            "does not tell which it is; have spec.databricks.cloud set in the workspace",
            reason="CloudUnknown",
        )
    if cloud != "AWS" and shape.instance_profile_arn is not None:
        raise _invalid(compute, f"instanceProfileArn is for AWS, and the workspace is in {cloud}; remove it")
    if cloud == "Azure" and shape.zone_id is not None:
        raise _invalid(compute, "zoneId can not be chosen in Azure; remove it")
    attributes: dict[str, Any] = {}
    if shape.availability is not None:
        attributes["availability"] = _AVAILABILITY[cloud][shape.availability]
    if shape.first_on_demand is not None:
        attributes["first_on_demand"] = shape.first_on_demand
    elif shape.availability in ("Spot", "SpotWithFallback"):
        attributes["first_on_demand"] = 1  # the driver stays when spot machines are taken away
    if shape.zone_id is not None:
        attributes["zone_id"] = shape.zone_id
    if shape.instance_profile_arn is not None:
        attributes["instance_profile_arn"] = shape.instance_profile_arn
    return {_ATTRIBUTES[cloud]: attributes}


def _options(shape: JobCluster) -> dict[str, Any]:
    options = {
        "policy_id": shape.policy_id,
        "apply_policy_default_values": shape.apply_policy_default_values,
        "runtime_engine": shape.runtime_engine,
        "spark_conf": dict(shape.spark_conf) or None,
    }
    return {name: value for name, value in options.items() if value is not None}


def _cloud_of(host: str) -> str | None:
    name = urlsplit(host).hostname or ""
    return next((cloud for suffix, cloud in _CLOUDS.items() if name.endswith(suffix)), None)


def _invalid(compute: Computing, message: str) -> TranslationError:
    return TranslationError(
        compute.field,
        f"compute class {compute.name!r} of the workspace: {message}",
        reason="ComputeClassInvalid",
    )
