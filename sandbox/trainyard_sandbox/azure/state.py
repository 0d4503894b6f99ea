"""What the Azure half of one sandbox knows, at `state.azure`; nothing here does I/O.

server.py builds it once. What a module owns hangs here, so that no module imports another's internals.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainyard_sandbox.azure.blob_sas import Signatures
from trainyard_sandbox.azure.blob_store import AzureBlobs
from trainyard_sandbox.azure.principals import AzureDirectory
from trainyard_sandbox.azure.throttle import Throttle
from trainyard_sandbox.azure.token_store import AzureToken, AzureTokens

ML_RESOURCE = "https://ml.azure.com"
STORAGE_RESOURCE = "https://storage.azure.com"
DATABRICKS_RESOURCE = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d"
"""Azure Databricks (databricks-sdk `environments.py`, ARM_DATABRICKS_RESOURCE_ID)."""
GRAPH_RESOURCE = "https://graph.microsoft.com"
STORAGE_SUFFIX = "core.sandbox.test"
TOKEN_LIFETIME_SECONDS = 3599.0
"""What `expires_in` says to an application by default (Microsoft Entra documentation, client credentials flow)."""


def _guid() -> str:
    return str(uuid.uuid4())


@dataclass
class AzureState:
    """One tenant with one subscription, resource group and workspace.

    Args:
        data_dir: where the Azure half may keep files.
        now: the sandbox's clock, Unix seconds.

    `url` is the one origin of all planes, `imds_url` that of the instance metadata service, without a slash at the end;
    set once the ports are bound.
    """

    data_dir: Path
    now: Callable[[], float]
    url: str = ""
    tenant_id: str = field(default_factory=_guid)
    tenant_domain: str = "sandbox.onmicrosoft.test"
    tenant_name: str = "Sandbox"
    subscription_id: str = field(default_factory=_guid)
    resource_group: str = "rg-sandbox"
    workspace_name: str = "ws-sandbox"
    workspace_guid: str = field(default_factory=_guid)
    region: str = "westeurope"
    storage_account: str = "wssandboxstorage"
    token_lifetime_seconds: float = TOKEN_LIFETIME_SECONDS
    directory: AzureDirectory = field(default_factory=AzureDirectory)
    tokens: AzureTokens = field(init=False)
    imds_url: str = ""
    imds_tokens: dict[tuple[str, str], AzureToken] = field(default_factory=dict)
    """What the instance metadata service holds, by client id and resource."""
    throttle: Throttle = field(init=False)
    blobs: AzureBlobs = field(init=False)
    created_at: float = 0.0
    workspace_overrides: dict[str, Any] = field(default_factory=dict)
    """Properties that the control API makes the workspace show instead of the truth."""
    codes: Any = None
    environments: Any = None
    data: Any = None
    models: Any = None
    datastores: Any = None
    components: Any = None
    computes: Any = None
    online: Any = None
    online_changes: Any = None
    operations: Any = None
    images: Any = None
    logs: Any = None
    jobs: Any = None
    engine: Any = None
    history: Any = None
    mlflow: Any = None
    job_types: dict[str, Any] = field(default_factory=dict)
    """What serves each `jobType`; modules add theirs in `attach`."""

    def __post_init__(self) -> None:
        self.tokens = AzureTokens(self.now, self.tenant_id)
        self.throttle = Throttle(time.monotonic)
        self.blobs = AzureBlobs(self.data_dir / "blobs", self.storage_account, self.now)

    def knows_resource(self, resource: str) -> bool:
        """Whether the tenant gives tokens for it: the resource manager, Azure ML, Azure Storage, Azure Databricks and
        Microsoft Graph."""
        known = (self.url, ML_RESOURCE, STORAGE_RESOURCE, DATABRICKS_RESOURCE, GRAPH_RESOURCE)
        return resource.rstrip("/") in known

    def signatures(self) -> Signatures:
        """Makes and checks shared access signatures, as of now."""
        return Signatures(self.blobs, f"{self.url}/blob/{self.storage_account}", self.now())

    @property
    def subscription_scope(self) -> str:
        """Resource id of the subscription."""
        return f"/subscriptions/{self.subscription_id}"

    @property
    def group_scope(self) -> str:
        """Resource id of the resource group."""
        return f"{self.subscription_scope}/resourceGroups/{self.resource_group}"

    @property
    def workspace_scope(self) -> str:
        """Resource id of the workspace: the path below which its ARM routes and data-plane routes lie."""
        return f"{self.group_scope}/providers/Microsoft.MachineLearningServices/workspaces/{self.workspace_name}"

    @property
    def storage_scope(self) -> str:
        """Resource id of the workspace's storage account."""
        return f"{self.group_scope}/providers/Microsoft.Storage/storageAccounts/{self.storage_account}"

    def identity_scope(self, name: str) -> str:
        """Resource id of a user-assigned managed identity."""
        return f"{self.group_scope}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"

    def announcement(self) -> dict[str, Any]:
        """The part `azureML` of sandbox.json."""
        return {
            "resourceManager": self.url,
            "authority": self.url,
            "storageSuffix": STORAGE_SUFFIX,
            "mlResource": ML_RESOURCE,
            "dataHosts": [self.url.removeprefix("https://")],
            "subscriptionId": self.subscription_id,
            "resourceGroup": self.resource_group,
            "workspaceName": self.workspace_name,
            "tenantId": self.tenant_id,
            "region": self.region,
            "imds": self.imds_url,
            "graph": self.url,
        }
