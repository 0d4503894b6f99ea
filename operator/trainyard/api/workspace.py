"""MLWorkspace and ClusterMLWorkspace: where runs go, as whom, and what short names mean there."""

from typing import Annotated, Literal

from pydantic import Field

from trainyard.api.azureml import AzureMLCompute, AzureMLRuntime, AzureMLServerless, AzureMLTarget, Distribution
from trainyard.api.base import ApiModel, Condition, Name, ShortName, rules
from trainyard.api.compute import (
    Autoscale,
    ComputeClass,
    ExistingCluster,
    JobCluster,
    Runtime,
    Serverless,
)
from trainyard.api.identity import FEDERATED, MODES, OIDC, OPERATOR_WIDE, FederatedIdentity, Identity
from trainyard.api.mappings import (
    ADLSDestination,
    DataRoot,
    LogDestination,
    RunAs,
    RunAsIdentity,
    S3Destination,
    SecretStore,
)

__all__ = [
    "ADLSDestination",
    "Autoscale",
    "AzureMLCompute",
    "AzureMLRuntime",
    "AzureMLServerless",
    "AzureMLTarget",
    "ClusterMLWorkspaceSpec",
    "ComputeClass",
    "DataRoot",
    "DatabricksTarget",
    "Distribution",
    "ExistingCluster",
    "FederatedIdentity",
    "Identity",
    "JobCluster",
    "LogDestination",
    "MLWorkspaceSpec",
    "Permission",
    "RunAs",
    "RunAsIdentity",
    "Runtime",
    "S3Destination",
    "SecretStore",
    "Serverless",
    "WorkspaceStatus",
]


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
    cloud: Annotated[
        Literal["AWS", "Azure", "GCP"] | None,
        Field(
            default=None,
            description="Cloud that its machines are in, for availability and zones. Absent: read from the host, where "
            "it has the name of a public cloud.",
        ),
    ] = None


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


_PLATFORM_RULES = (
    (
        "has(self.databricks) != has(self.azureML)",
        "a workspace needs exactly one of databricks or azureML: add the one that runs go to, or remove the other",
    ),
    (
        "has(self.databricks) == has(oldSelf.databricks)",
        "a workspace can not move to another platform, or its runs could not be stopped: create another workspace",
    ),
    (
        "!has(self.azureML) || !(has(self.modelPrefix) || has(self.experimentRoot) || "
        "(has(self.defaultPermissions) && self.defaultPermissions.size() > 0))",
        "modelPrefix, experimentRoot and defaultPermissions are of Databricks, and Azure ML has nothing like them: "
        "remove them",
    ),
    (
        "!has(self.azureML) || !has(self.logDestination) || !has(self.logDestination.volume)",
        "logDestination.volume is of Databricks, and Azure ML can not write it: use s3 or adls, or remove it",
    ),
    (
        "!has(self.azureML) || ["
        + ", ".join(f"has(self.identity.{mode}) && has(self.identity.{mode}.entra)" for mode in MODES)
        + "].all(x, !x)",
        "identity.*.entra is for Azure Databricks; Azure ML signs in with azureML.tenantId: remove it",
    ),
    (
        "!has(self.azureML) || ["
        + ", ".join(f"has(self.identity.{mode}) && has(self.identity.{mode}.policy)" for mode in (FEDERATED, OIDC))
        + "].all(x, !x)",
        "identity.*.policy is of Databricks' token exchange: remove it",
    ),
    (
        "!has(self.azureML) || !has(self.identity.secretRef) || self.identity.secretRef.type.startsWith('Entra')",
        "identity.secretRef.type is of Databricks: Azure ML takes EntraClientSecret or EntraCertificate",
    ),
    (
        "!has(self.databricks) || !has(self.identity.secretRef) || "
        "self.identity.secretRef.type.startsWith('Entra') == has(self.identity.secretRef.entra)",
        "identity.secretRef.entra is needed by the types EntraClientSecret and EntraCertificate, and by no other",
    ),
    (
        "!has(self.databricks) || ["
        + ", ".join(f"has(self.identity.{mode}) && !has(self.identity.{mode}.entra)" for mode in sorted(OPERATOR_WIDE))
        + "].all(x, !x)",
        "identities of Azure need entra.tenantId for Azure Databricks: add entra to the mode",
    ),
)
_OWN_RULES = (
    (
        " && ".join(f"!has(self.identity.{mode})" for mode in sorted(OPERATOR_WIDE)),
        f"{' and '.join(sorted(OPERATOR_WIDE))} are the operator's own, which only an administrator may lend: use "
        "them in a ClusterMLWorkspace, or another mode",
    ),
)


class MLWorkspaceSpec(ApiModel):
    """Where to run, as whom, and the mappings from portable short names to what the platform has."""

    model_config = ApiModel.model_config | {"json_schema_extra": rules(*_PLATFORM_RULES, *_OWN_RULES)}

    databricks: Annotated[
        DatabricksTarget | None,
        Field(default=None, description="The Databricks workspace that runs go to. Absent when azureML is given."),
    ] = None
    azure_ml: Annotated[
        AzureMLTarget | None,
        Field(
            alias="azureML",
            default=None,
            description="The Azure ML workspace that runs go to. Absent when databricks is given.",
        ),
    ] = None
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
            "model on Databricks is stalled. Azure ML has none.",
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
    endpoint_prefix: Annotated[
        str | None,
        Field(
            default=None,
            min_length=1,
            max_length=12,
            pattern=r"^[a-zA-Z]([a-zA-Z0-9-]*[a-zA-Z0-9])?$",
            description="What the names of endpoints begin with, where a ModelDeployment names none. On Azure ML, "
            "names are shared by a whole region. Absent: the namespace's name.",
        ),
    ] = None
    data_roots: Annotated[
        dict[ShortName, DataRoot],
        Field(
            default_factory=dict,
            max_length=64,
            description="What data://NAME stands for in inputs, outputs and code. Absent: no run may use data://.",
        ),
    ]
    secret_stores: Annotated[
        dict[ShortName, SecretStore],
        Field(
            default_factory=dict,
            max_length=64,
            description="Short names that runs use in spec.secrets. Absent: no run may use secrets.",
        ),
    ]
    run_as: Annotated[
        RunAs | None,
        Field(
            default=None,
            description="Identities that code may run as. Absent: code runs as the identity that submits it.",
        ),
    ] = None
    log_destination: Annotated[
        LogDestination | None,
        Field(
            default=None,
            description="Where whole logs are kept. Absent: the platform's own copy, for as long as it lasts, and the "
            "last part in an MLRunLog.",
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
    """A workspace shared by an administrator.

    Each namespace uses it with a ServiceAccount or Secret of its own, or all with an identity of the operator's.
    """

    model_config = ApiModel.model_config | {"json_schema_extra": rules(*_PLATFORM_RULES)}

    allowed_namespaces: Annotated[
        list[Name],
        Field(
            default_factory=list,
            max_length=1000,
            description="Namespaces whose runs may use this workspace. Absent or empty: none.",
        ),
    ]


class WorkspaceDetails(ApiModel):
    """What the platform tells about a workspace."""

    region: Annotated[str | None, Field(default=None, max_length=64, description="Region that it is in.")] = None
    tracking_uri: Annotated[
        str | None, Field(default=None, max_length=1024, description="MLflow tracking URI of the workspace.")
    ] = None
    default_datastore: Annotated[
        str | None, Field(default=None, max_length=255, description="Datastore that code and outputs go to by default.")
    ] = None
    public_network_access: Annotated[
        str | None,
        Field(default=None, max_length=32, description="Enabled or Disabled: whether it is reached from anywhere."),
    ] = None


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
            description="Ready, Reconciling and Stalled; CredentialExpiring and PersonalAccessToken only while True.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ]
    principal: Annotated[
        str | None,
        Field(default=None, max_length=255, description="Identity that the platform sees, as the platform names it."),
    ] = None
    host: Annotated[
        str | None,
        Field(default=None, max_length=512, description="Host that was checked; of Azure ML, its URL in Azure's API."),
    ] = None
    workspace_id: Annotated[
        str | None, Field(default=None, max_length=64, description="The platform's own id of the workspace.")
    ] = None
    details: Annotated[
        WorkspaceDetails | None,
        Field(default=None, description="What the platform tells about the workspace; of Azure ML alone."),
    ] = None
    active_runs: Annotated[
        int | None,
        Field(default=None, ge=0, description="Absent unless deletion waits for runs: how many it waits for."),
    ] = None
    active_deployments: Annotated[
        int | None,
        Field(
            default=None,
            ge=0,
            description="Absent unless deletion waits for ModelDeployments with an endpoint: how many it waits for.",
        ),
    ] = None

    def condition(self, kind: str) -> Condition | None:
        """The condition of that type, if it has been written."""
        return next((c for c in self.conditions if c.type == kind), None)
