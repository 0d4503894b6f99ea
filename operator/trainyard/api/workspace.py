"""MLWorkspace and ClusterMLWorkspace: where runs go, as whom, and what short names mean there."""

from typing import Annotated, Literal

from pydantic import Field

from trainyard.api.base import ApiModel, Condition, Name, rules

ShortName = Annotated[str, Field(min_length=1, max_length=63)]


class DatabricksTarget(ApiModel):
    """A Databricks workspace."""

    host: Annotated[
        str,
        Field(
            min_length=9,
            max_length=255,
            description="The workspace's URL, for example https://adb-1234567890123456.7.azuredatabricks.net. "
            "Its host must be on the operator's allow-list; it can not be changed later.",
            json_schema_extra=rules(
                (
                    "self.matches('^https://[^/?#@]+$')",
                    "host must be an https URL without a path, user or query: write https://NAME or https://NAME:PORT",
                ),
                (
                    "self == oldSelf",
                    "host can not be changed, or runs of the old one could not be stopped: create another workspace",
                ),
            ),
        ),
    ]


class FederatedIdentity(ApiModel):
    """A ServiceAccount token exchanged for a short-lived platform token; nothing is stored."""

    service_account_name: Annotated[
        Name,
        Field(
            description="ServiceAccount in the namespace of the run (not of the workspace, where they differ). It must "
            "opt in with the annotation trainyard.dev/databricks-client-id, whose value is the application id of the "
            "service principal that trusts it."
        ),
    ]


class Identity(ApiModel):
    """How the operator proves who is asking. Exactly one mode."""

    federated: Annotated[
        FederatedIdentity,
        Field(description="Exchange a ServiceAccount token of the namespace for a platform token (RFC 8693)."),
    ]


class JobCluster(ApiModel):
    """A cluster that exists for one attempt and is billed for it."""

    node_type_id: Annotated[str, Field(min_length=1, max_length=128, description="Machine type of driver and workers.")]
    num_workers: Annotated[
        int,
        Field(
            default=0, ge=0, le=1000, description="Number of workers beside the driver. 0, or absent: a single node."
        ),
    ] = 0
    spark_version: Annotated[
        str | None,
        Field(
            default=None,
            max_length=128,
            description="Databricks runtime, for example 16.4.x-cpu-ml-scala2.13. Absent: the run's runtime names it.",
        ),
    ] = None
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


class ComputeClass(ApiModel):
    """What a short name for compute means here. Exactly one shape."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "has(self.jobCluster) != has(self.serverless)",
                "a compute class needs exactly one of jobCluster or serverless: add the one that you use, or remove "
                "the other",
            )
        )
    }

    job_cluster: Annotated[
        JobCluster | None,
        Field(default=None, description="A job cluster per attempt. Absent when serverless is given."),
    ] = None
    serverless: Annotated[
        Serverless | None, Field(default=None, description="Serverless job compute. Absent when jobCluster is given.")
    ] = None


Requirement = Annotated[
    str,
    Field(
        min_length=1,
        max_length=512,
        pattern=r"^[^-\s]",
        description="A requirement specifier (PEP 508), for example scikit-learn==1.9.1. Options of pip are refused.",
    ),
]


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


class Permission(ApiModel):
    """Who may see what the operator starts."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "[has(self.group), has(self.user), has(self.servicePrincipal)].filter(x, x).size() == 1",
                "a permission needs exactly one of group, user or servicePrincipal: write one entry for each",
            )
        )
    }

    group: Annotated[
        str | None, Field(default=None, max_length=255, description="Name of a group. Absent when another is given.")
    ] = None
    user: Annotated[
        str | None,
        Field(
            default=None,
            max_length=255,
            description="A user name, for example ada@example.com. Absent when another is given.",
        ),
    ] = None
    service_principal: Annotated[
        str | None,
        Field(
            default=None,
            max_length=64,
            description="Application id of a service principal. Absent when another is given.",
        ),
    ] = None
    level: Annotated[
        Literal["CAN_VIEW", "CAN_MANAGE_RUN", "CAN_MANAGE"],
        Field(description="CAN_VIEW opens a run's page and logs; CAN_MANAGE_RUN also cancels it; CAN_MANAGE edits it."),
    ]


class MLWorkspaceSpec(ApiModel):
    """Where to run, as whom, and the mappings from portable short names to what the platform has."""

    databricks: Annotated[DatabricksTarget, Field(description="The Databricks workspace that runs go to.")]
    identity: Annotated[Identity, Field(description="How the operator proves who is asking.")]
    compute_classes: Annotated[
        dict[ShortName, ComputeClass],
        Field(
            default_factory=dict,
            max_length=64,
            description="Short names that runs use in spec.compute.class. A run that names another is stalled. "
            "Absent: no run can start.",
        ),
    ]
    runtimes: Annotated[
        dict[ShortName, Runtime],
        Field(
            default_factory=dict,
            max_length=64,
            description="Short names that runs use in spec.environment.runtime. A run that names another is stalled. "
            "Absent: runs name none.",
        ),
    ]
    model_prefix: Annotated[
        str | None,
        Field(
            default=None,
            max_length=255,
            pattern=r"^[^.\s/]+\.[^.\s/]+$",
            description="catalog.schema in Unity Catalog that registered models go to. Absent: a run that registers a "
            "model is stalled.",
        ),
    ] = None
    experiment_root: Annotated[
        str | None,
        Field(
            default=None,
            max_length=255,
            pattern=r"^/[^\s]*[^/\s]$",
            description="Workspace folder that experiments are made in. Absent: the home folder of the principal.",
        ),
    ] = None
    default_permissions: Annotated[
        list[Permission],
        Field(
            default_factory=list,
            max_length=32,
            description="Rights on every run started here. "
            "Absent: only the principal that submits sees the run's page.",
        ),
    ]


class ClusterMLWorkspaceSpec(MLWorkspaceSpec):
    """A workspace shared by an administrator. Each namespace uses it with a ServiceAccount of its own."""

    allowed_namespaces: Annotated[
        list[Name],
        Field(
            default_factory=list,
            max_length=1000,
            description="Namespaces whose runs may use this workspace. Absent or empty: none.",
        ),
    ]


class WorkspaceStatus(ApiModel):
    """What the operator found out about the workspace; a field is absent until it is known."""

    observed_generation: Annotated[
        int | None, Field(default=None, ge=0, description="The generation of the spec that this status speaks of.")
    ] = None
    conditions: Annotated[
        list[Condition],
        Field(
            default_factory=list,
            max_length=8,
            description="Ready, Reconciling and Stalled.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ]
    principal: Annotated[
        str | None,
        Field(default=None, max_length=255, description="Identity that the platform sees, as the platform names it."),
    ] = None
    host: Annotated[str | None, Field(default=None, max_length=255, description="The host that was checked.")] = None
    workspace_id: Annotated[
        str | None, Field(default=None, max_length=64, description="The platform's own id of the workspace.")
    ] = None
    active_runs: Annotated[
        int | None,
        Field(default=None, ge=0, description="Absent unless deletion waits for runs: how many it waits for."),
    ] = None

    def condition(self, kind: str) -> Condition | None:
        """The condition of that type, if it has been written."""
        return next((c for c in self.conditions if c.type == kind), None)
