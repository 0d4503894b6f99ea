"""What only Azure ML needs of a workspace: where it is, and what short names for compute and software mean there.

Imported through workspace.py and compute.py.
"""

from typing import Annotated, Literal

from pydantic import Field

from trainyard.api.base import ApiModel, ShortName, rules

_ELSEWHERE = "can not be changed, or runs of the old one could not be stopped: create another workspace"
_UUID = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"


def _fixed(name: str) -> dict[str, object]:
    return rules(("self == oldSelf", f"{name} {_ELSEWHERE}"))


class AzureMLTarget(ApiModel):
    """An Azure ML workspace."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "has(self.cloud) == has(oldSelf.cloud) && (!has(self.cloud) || self.cloud == oldSelf.cloud)",
                f"cloud {_ELSEWHERE}",
            )
        )
    }

    subscription_id: Annotated[
        str,
        Field(
            pattern=_UUID,
            max_length=36,
            description="Id of its subscription, for example 00000000-0000-0000-0000-000000000000.",
            json_schema_extra=_fixed("subscriptionId"),
        ),
    ]
    # Rules of the names: https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules
    resource_group: Annotated[
        str,
        Field(
            min_length=1,
            max_length=90,
            pattern=r"^[A-Za-z0-9_.()-]*[A-Za-z0-9_()-]$",
            description="Name of its resource group.",
            json_schema_extra=_fixed("resourceGroup"),
        ),
    ]
    workspace_name: Annotated[
        str,
        Field(
            min_length=3,
            max_length=33,
            pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$",
            description="Its name.",
            json_schema_extra=_fixed("workspaceName"),
        ),
    ]
    tenant_id: Annotated[
        str,
        Field(
            min_length=1,
            max_length=64,
            pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$",
            description="Entra tenant of the subscription: its id, or a domain of it.",
            json_schema_extra=_fixed("tenantId"),
        ),
    ]
    cloud: Annotated[
        ShortName | None,
        Field(
            default=None,
            pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$",
            description="AzurePublic, AzureUSGovernment, AzureChina, or a cloud that the operator was started with "
            "(--azure-cloud). Absent: AzurePublic.",
        ),
    ] = None


class AzureMLServerless(ApiModel):
    """Serverless compute: machines for each job."""

    instance_type: Annotated[
        str,
        Field(
            min_length=1,
            max_length=128,
            pattern=r"^[A-Za-z0-9_]+$",
            description="Size of the machines, for example Standard_DS3_v2.",
        ),
    ]


class Distribution(ApiModel):
    """How the code is started on several machines or processes."""

    type: Annotated[
        Literal["PyTorch", "MPI"],
        Field(description="PyTorch starts the code in each process with torch.distributed's variables; MPI by mpirun."),
    ]
    process_count_per_instance: Annotated[
        int | None,
        Field(default=None, ge=1, le=64, description="Number of processes on each machine. Absent: 1."),
    ] = None


class AzureMLCompute(ApiModel):
    """Machines of an Azure ML workspace. Exactly one of compute and serverless."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "has(self.compute) != has(self.serverless)",
                "azureML needs exactly one of compute or serverless: add the one that you use, or remove the other",
            ),
            (
                "!has(self.tier) || has(self.serverless)",
                "tier is for serverless alone, as a cluster has its own: remove it",
            ),
            (
                "!has(self.instanceType) || has(self.compute)",
                "instanceType beside compute is of an attached Kubernetes cluster: write serverless.instanceType",
            ),
        )
    }

    compute: Annotated[
        str | None,
        Field(
            default=None,
            min_length=2,
            max_length=32,
            pattern=r"^[A-Za-z][A-Za-z0-9-]*$",
            description="Name of a compute cluster (AmlCompute) or of an attached Kubernetes cluster. Absent when "
            "serverless is given.",
        ),
    ] = None
    instance_type: Annotated[
        str | None,
        Field(
            default=None,
            min_length=1,
            max_length=128,
            pattern=r"^[A-Za-z0-9_.-]+$",
            description="Instance type of an attached Kubernetes cluster. Absent: the default of the compute.",
        ),
    ] = None
    serverless: Annotated[
        AzureMLServerless | None,
        Field(default=None, description="Machines made for each job. Absent when compute is given."),
    ] = None
    instance_count: Annotated[
        int | None, Field(default=None, ge=1, le=1000, description="Number of machines. Absent: 1.")
    ] = None
    distribution: Annotated[
        Distribution | None,
        Field(default=None, description="How the code is started on them. Absent: once, on one machine."),
    ] = None
    shm_size: Annotated[
        str | None,
        Field(
            default=None,
            max_length=16,
            pattern=r"^[0-9]+[bkmg]$",
            description="Size of the container's shared memory, for example 16g. Absent: 2g.",
        ),
    ] = None
    tier: Annotated[
        Literal["Standard", "Spot"] | None,
        Field(
            default=None,
            description="Spot is cheaper and may be taken away; for serverless alone, as a cluster has its own. "
            "Absent: Standard.",
        ),
    ] = None


class AzureMLRuntime(ApiModel):
    """What a software environment starts from. At most one of environment and image."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "!has(self.environment) || !(has(self.image) || has(self.pythonVersion) || has(self.conda))",
                "environment is used as it is: remove image, pythonVersion and conda, or describe the environment by "
                "them alone",
            )
        )
    }

    environment: Annotated[
        str | None,
        Field(
            default=None,
            max_length=512,
            pattern=r"^((azureml:)?[A-Za-z0-9_.-]+(:[A-Za-z0-9_.-]+|@latest)"
            r"|azureml://registries/[A-Za-z0-9_.-]+/environments/[A-Za-z0-9_.-]+/"
            r"(versions/[A-Za-z0-9_.-]+|labels/latest))$",
            description="An environment of the workspace (NAME:VERSION or NAME@latest) or of a registry "
            "(azureml://registries/REGISTRY/environments/NAME/versions/VERSION), used as it is. Absent: one is made "
            "from image and packages.",
        ),
    ] = None
    image: Annotated[
        str | None,
        Field(
            default=None,
            min_length=1,
            max_length=512,
            pattern=r"^[a-z0-9][A-Za-z0-9./_:@-]*$",
            description="Container image that packages are installed on. Absent: Azure ML's own for CPUs.",
        ),
    ] = None
    python_version: Annotated[
        str | None,
        Field(
            default=None,
            max_length=8,
            pattern=r"^3\.[0-9]{1,2}$",
            description="Python of the conda environment that packages are installed into. Absent: 3.11.",
        ),
    ] = None
    conda: Annotated[
        list[
            Annotated[
                str,
                Field(
                    min_length=1,
                    max_length=255,
                    pattern=r"^[^-\s][^\s]*$",
                    description="A conda package, for example libgomp=14.",
                ),
            ]
        ],
        Field(default_factory=list, max_length=64, description="Conda packages (conda-forge). Absent: Python alone."),
    ]
