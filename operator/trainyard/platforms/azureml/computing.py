"""From a compute class of the workspace to the fields of an Azure ML job that say what it runs on. Pure.

Called by translate.py. Field names are those of azure-ai-ml's `_restclient/arm_ml_service/models/_models.py`
(JobBaseProperties.compute_id, JobResourceConfiguration, DistributionConfiguration, QueueSettings). A job without a
compute runs serverless (https://learn.microsoft.com/azure/machine-learning/how-to-use-serverless-compute).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainyard.api.azureml import AzureMLCompute
from trainyard.core.errors import TranslationError
from trainyard.platforms import short_names
from trainyard.platforms.azureml import names
from trainyard.platforms.base import Job

_DISTRIBUTIONS = {"PyTorch": "PyTorch", "MPI": "Mpi"}


@dataclass(frozen=True, slots=True)
class Machines:
    """What a job runs on. `compute_id` is None for serverless; `where` goes with the job, `how` with what it starts.

    `processes` is how often the command is started on each machine.
    """

    compute: str | None
    instance_type: str | None
    compute_id: str | None
    where: dict[str, Any]
    how: dict[str, Any]
    processes: int


def machines_of(job: Job) -> Machines:
    """The machines of the run's compute class.

    Raises:
        TranslationError: ComputeClassUnknown or ComputeClassInvalid.
    """
    field = "spec.compute.class"
    name, found = short_names.compute_class(job.spec.compute, field, job.workspace)
    shape = found.azure_ml
    assert shape is not None  # noqa: S101  (platforms.lacking refuses other shapes)
    if shape.serverless is None and shape.tier is not None:
        raise TranslationError(
            field,
            f"compute class {name!r} of the workspace: tier is for serverless alone, as a cluster has its own; have it "
            "removed",
            reason="ComputeClassInvalid",
        )
    compute_id = f"{names.workspace_id(job.target)}/computes/{shape.compute}" if shape.compute is not None else None
    return Machines(
        compute=shape.compute,
        instance_type=shape.serverless.instance_type if shape.serverless is not None else None,
        compute_id=compute_id,
        where=({"computeId": compute_id} if compute_id else {})
        | ({"queueSettings": {"jobTier": shape.tier}} if shape.tier else {}),
        how={"resources": _resources(shape)} | _distribution(shape),
        processes=(shape.distribution.process_count_per_instance or 1) if shape.distribution is not None else 1,
    )


def machine_count(properties: Mapping[str, Any]) -> int:
    """How many machines the properties of a job ask for.

    What spec.azureML merged into them may be anything, which the platform itself judges; here it counts as one.
    """
    trial = properties.get("trial")
    places = (properties, trial if isinstance(trial, Mapping) else {})
    resources = (place.get("resources") for place in places)
    counts = [each.get("instanceCount") for each in resources if isinstance(each, Mapping)]
    return next((count for count in counts if isinstance(count, int) and count > 0), 1)


def _resources(shape: AzureMLCompute) -> dict[str, Any]:
    resources: dict[str, Any] = {"instanceCount": shape.instance_count or 1}
    instance_type = shape.serverless.instance_type if shape.serverless is not None else shape.instance_type
    if instance_type is not None:
        resources["instanceType"] = instance_type
    if shape.shm_size is not None:
        resources["shmSize"] = shape.shm_size
    return resources


def _distribution(shape: AzureMLCompute) -> dict[str, Any]:
    if shape.distribution is None:
        return {}
    return {
        "distribution": {
            "distributionType": _DISTRIBUTIONS[shape.distribution.type],
            "processCountPerInstance": shape.distribution.process_count_per_instance or 1,
        }
    }
