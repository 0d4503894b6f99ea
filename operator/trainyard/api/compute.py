"""What short names for compute and software mean in a workspace: computeClasses and runtimes.

Imported through workspace.py.
"""

from typing import Annotated, Literal

from pydantic import Field

from trainyard.api.azureml import AzureMLCompute, AzureMLRuntime
from trainyard.api.base import ApiModel, rules
from trainyard.api.code import Requirement

_Id = Annotated[str, Field(min_length=1, max_length=128)]


class Autoscale(ApiModel):
    """Limits between which the platform chooses the number of workers."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "self.minWorkers <= self.maxWorkers",
                "minWorkers must not exceed maxWorkers: raise the one or lower the other",
            )
        )
    }

    min_workers: Annotated[int, Field(ge=0, le=1000, description="Smallest number of workers beside the driver.")]
    max_workers: Annotated[int, Field(ge=1, le=1000, description="Largest number of workers beside the driver.")]


class JobCluster(ApiModel):
    """A cluster that exists for one attempt and is billed for it."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "has(self.nodeTypeId) != has(self.instancePoolId)",
                "a job cluster needs exactly one of nodeTypeId or instancePoolId: add the one that you use, or remove "
                "the other",
            ),
            (
                "!has(self.autoscale) || !has(self.numWorkers)",
                "numWorkers and autoscale can not stand together: remove one of them",
            ),
            (
                "!has(self.driverInstancePoolId) || has(self.instancePoolId)",
                "driverInstancePoolId needs instancePoolId: add it, or remove driverInstancePoolId",
            ),
        )
    }

    node_type_id: Annotated[
        str | None,
        Field(
            default=None,
            min_length=1,
            max_length=128,
            description="Machine type of the workers, and of the driver unless driverNodeTypeId is given. A GPU type "
            "needs a runtime whose sparkVersion is made for GPUs. Absent when instancePoolId is given.",
        ),
    ] = None
    driver_node_type_id: Annotated[
        _Id | None, Field(default=None, description="Machine type of the driver. Absent: as the workers.")
    ] = None
    instance_pool_id: Annotated[
        _Id | None,
        Field(default=None, description="Pool that machines are taken from. Absent when nodeTypeId is given."),
    ] = None
    driver_instance_pool_id: Annotated[
        _Id | None, Field(default=None, description="Pool that the driver is taken from. Absent: as the workers.")
    ] = None
    num_workers: Annotated[
        int | None,
        Field(
            default=None,
            ge=0,
            le=1000,
            description="Number of workers beside the driver. 0, or absent without autoscale: a single node.",
        ),
    ] = None
    autoscale: Annotated[
        Autoscale | None,
        Field(default=None, description="Let the platform choose the number of workers. Absent: numWorkers."),
    ] = None
    availability: Annotated[
        Literal["OnDemand", "Spot", "SpotWithFallback"] | None,
        Field(
            default=None,
            description="Spot machines are cheaper and may be taken away; SpotWithFallback takes on-demand ones when "
            "there are none. Absent: what the platform or the policy says.",
        ),
    ] = None
    first_on_demand: Annotated[
        int | None,
        Field(
            default=None,
            ge=0,
            le=1000,
            description="Number of machines, the driver first, that are on demand whatever availability says. Absent: "
            "1 with Spot and SpotWithFallback, so that the driver stays.",
        ),
    ] = None
    instance_profile_arn: Annotated[
        str | None,
        Field(
            default=None,
            max_length=255,
            pattern=r"^arn:",
            description="AWS instance profile of the machines. Absent: none.",
        ),
    ] = None
    zone_id: Annotated[
        str | None,
        Field(default=None, max_length=64, description="Zone of the machines. Absent: the platform chooses."),
    ] = None
    spark_version: Annotated[
        str | None,
        Field(
            default=None,
            max_length=128,
            description="Databricks runtime, for example 16.4.x-cpu-ml-scala2.13. Absent: the run's runtime names it.",
        ),
    ] = None
    runtime_engine: Annotated[
        Literal["STANDARD", "PHOTON"] | None,
        Field(default=None, description="Query engine. Absent: what the platform chooses."),
    ] = None
    spark_conf: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=255)], Annotated[str, Field(max_length=1024)]],
        Field(default_factory=dict, max_length=64, description="Spark settings. Absent: none."),
    ]
    data_security_mode: Annotated[
        Literal[
            "DATA_SECURITY_MODE_AUTO",
            "DATA_SECURITY_MODE_STANDARD",
            "DATA_SECURITY_MODE_DEDICATED",
            "USER_ISOLATION",
            "SINGLE_USER",
            "NONE",
        ],
        Field(description="Access mode. Named explicitly, because the platform's default hides Unity Catalog."),
    ]
    policy_id: Annotated[
        str | None,
        Field(
            default=None,
            max_length=64,
            description="Id of the cluster policy that the cluster must satisfy. Absent: none.",
        ),
    ] = None
    apply_policy_default_values: Annotated[
        bool | None,
        Field(default=None, description="Take the policy's defaults for what is not given. Absent: false."),
    ] = None


class ExistingCluster(ApiModel):
    """A cluster that runs already, or is started for the attempt, and is shared with others."""

    cluster_id: Annotated[str, Field(min_length=1, max_length=128, description="Its id.")]


class Serverless(ApiModel):
    """Serverless compute; the platform sizes it."""

    environment_version: Annotated[
        str,
        Field(
            max_length=8,
            pattern=r"^[0-9]+$",
            description="Serverless environment version. 5 or later, which is the first to take environment variables.",
            json_schema_extra=rules(
                (
                    "int(self) >= 5",
                    "environmentVersion must be 5 or later, as earlier ones take no environment variables: raise it",
                )
            ),
        ),
    ]
    budget_policy_id: Annotated[
        _Id | None, Field(default=None, description="Serverless budget policy that is billed. Absent: the default one.")
    ] = None
    performance_target: Annotated[
        Literal["STANDARD", "PERFORMANCE_OPTIMIZED"] | None,
        Field(default=None, description="STANDARD is cheaper and starts later. Absent: what the platform chooses."),
    ] = None
    accelerator: Annotated[
        str | None,
        Field(
            default=None,
            max_length=64,
            pattern=r"^[A-Za-z0-9_]+$",
            description="Serverless GPU as the platform names it, for example GPU_1xA10. Absent: none.",
        ),
    ] = None


class ModelServing(ApiModel):
    """Machines of Databricks Model Serving, for one copy of a served model."""

    workload_type: Annotated[
        str | None,
        Field(
            default=None,
            max_length=32,
            pattern=r"^[A-Z][A-Z0-9_]*$",
            description="CPU, or a kind of GPU as the platform names it, for example GPU_SMALL. Absent: CPU.",
        ),
    ] = None
    workload_size: Annotated[
        Literal["Small", "Medium", "Large"] | None,
        Field(
            default=None,
            description="Requests answered at a time by one copy: Small 4, Medium 8 to 16, Large 16 to 64. Absent: "
            "Small. replicas counts copies of it.",
        ),
    ] = None


class OnlineEndpoint(ApiModel):
    """Machines of a managed online endpoint of Azure ML, for one copy of a served model."""

    instance_type: Annotated[
        str,
        Field(
            min_length=1,
            max_length=128,
            pattern=r"^[A-Za-z0-9_]+$",
            description="Size of the machine, for example Standard_DS3_v2.",
        ),
    ]
    concurrent_requests: Annotated[
        int | None,
        Field(
            default=None,
            ge=1,
            le=1000,
            description="Number of requests that one copy answers at a time; as many more wait, and what comes beyond "
            "gets 429. The server has to work on as many: set WORKER_COUNT in the model's env. Absent: 1, as on the "
            "platform.",
        ),
    ] = None


_RUNS = ("jobCluster", "serverless", "existingCluster", "azureML")
_SERVES = ("modelServing", "onlineEndpoint")


def _count(names: tuple[str, ...]) -> str:
    return f"[{', '.join(f'has(self.{name})' for name in names)}].filter(x, x).size()"


class ComputeClass(ApiModel):
    """What a short name for compute means here: one shape for runs, one for served models, or both."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                f"{_count(_RUNS)} <= 1 && {_count(_SERVES)} <= 1 && {_count(_RUNS + _SERVES)} >= 1",
                "a compute class needs exactly one of jobCluster, serverless, existingCluster (Databricks) or azureML, "
                "or for served models one of modelServing (Databricks) or onlineEndpoint (Azure ML), or one of each: "
                "add the one that you use, or remove the others",
            )
        )
    }

    job_cluster: Annotated[
        JobCluster | None,
        Field(
            default=None,
            description="A cluster made for each attempt, and billed for it alone. Absent when another is given.",
        ),
    ] = None
    serverless: Annotated[
        Serverless | None,
        Field(
            default=None,
            description="Serverless compute for jobs; the platform sizes it. Absent when another is given.",
        ),
    ] = None
    existing_cluster: Annotated[
        ExistingCluster | None,
        Field(
            default=None,
            description="A cluster made by somebody else and shared with others. Packages stay installed on it. Absent "
            "when another is given.",
        ),
    ] = None
    azure_ml: Annotated[
        AzureMLCompute | None,
        Field(
            alias="azureML",
            default=None,
            description="Machines of an Azure ML workspace. Absent when another is given.",
        ),
    ] = None
    model_serving: Annotated[
        ModelServing | None,
        Field(default=None, description="Machines of Databricks Model Serving, for ModelDeployments. Absent: none."),
    ] = None
    online_endpoint: Annotated[
        OnlineEndpoint | None,
        Field(default=None, description="Machines of Azure ML's online endpoints, for ModelDeployments. Absent: none."),
    ] = None


class Runtime(ApiModel):
    """What a short name for a software environment means here."""

    spark_version: Annotated[
        str | None,
        Field(
            default=None,
            max_length=128,
            description="Databricks runtime for job clusters that name none. Absent: the compute class must name one.",
        ),
    ] = None
    pip: Annotated[
        list[Requirement],
        Field(
            default_factory=list, max_length=64, description="Packages installed before those of the run. Absent: none."
        ),
    ]
    azure_ml: Annotated[
        AzureMLRuntime | None,
        Field(
            alias="azureML",
            default=None,
            description="What it starts from on Azure ML. Absent: Azure ML's image for CPUs with Python 3.11.",
        ),
    ] = None
