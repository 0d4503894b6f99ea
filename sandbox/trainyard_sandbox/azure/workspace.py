"""The workspace itself, and the discovery document that says where its services are.

Body: Azure/azure-rest-api-specs, example `Workspace/get`, with the fields that azure-ai-ml reads
(`entities/_workspace/workspace.py`). The discovery document is fetched without a token (azure-ai-ml
`_utils/utils.py`, download_text_from_url); its keys are those of azure-ai-ml `WorkspaceDiscoveryUrlKey` and of public
traces. Here all services are one origin.
"""

from __future__ import annotations

import uuid
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.arm import PROVIDER, Action, AzureCall, arm_route
from trainyard_sandbox.azure.assets import SYSTEM, system_data
from trainyard_sandbox.azure.assets_api import VERSIONS
from trainyard_sandbox.azure.state import AzureState
from trainyard_sandbox.state import SandboxState, sandbox_state

_SERVICES = ("api", "experimentation", "history", "hyperdrive", "modelmanagement", "pipelines", "catalog")


def attach(state: SandboxState) -> None:
    """Note when the workspace was made."""
    state.azure.created_at = state.now()


def routes() -> list[Route]:
    """Mounted by server.py."""
    return [
        arm_route("", {"GET": Action(get_workspace, "workspaces/read", VERSIONS)}),
        Route("/discovery", discovery, methods=["GET"]),
    ]


async def discovery(request: Request) -> Response:
    """Where each service of the workspace is."""
    return JSONResponse(dict.fromkeys(_SERVICES, sandbox_state(request).azure.url))


async def get_workspace(call: AzureCall) -> Response:
    """The workspace as ARM shows it."""
    return JSONResponse(workspace_body(call.azure))


def workspace_body(azure: AzureState) -> dict[str, Any]:
    """The workspace as ARM shows it, with what the control API changed."""
    host = azure.url.removeprefix("https://")
    vault = f"{azure.group_scope}/providers/Microsoft.KeyVault/vaults/kv-sandbox"
    properties = {
        "friendlyName": azure.workspace_name,
        "description": "",
        "storageAccount": azure.storage_scope,
        "keyVault": vault,
        "applicationInsights": f"{azure.group_scope}/providers/Microsoft.Insights/components/ai-sandbox",
        "containerRegistry": None,
        "hbiWorkspace": False,
        "tenantId": azure.tenant_id,
        "imageBuildCompute": None,
        "provisioningState": "Succeeded",
        "v1LegacyMode": False,
        "publicNetworkAccess": "Enabled",
        "privateLinkCount": 0,
        "storageHnsEnabled": False,
        "systemDatastoresAuthMode": "AccessKey",
        "workspaceId": azure.workspace_guid,
        "discoveryUrl": f"{azure.url}/discovery",
        "mlFlowTrackingUri": f"azureml://{host}/mlflow/v1.0{azure.workspace_scope}",
    }
    return {
        "id": azure.workspace_scope,
        "name": azure.workspace_name,
        "type": f"{PROVIDER}/workspaces",
        "location": azure.region,
        "kind": "Default",
        "tags": {},
        "sku": {"name": "Basic", "tier": "Basic"},
        "identity": {
            "type": "SystemAssigned",
            "principalId": str(uuid.uuid5(uuid.UUID(azure.workspace_guid), "identity")),
            "tenantId": azure.tenant_id,
        },
        "properties": properties | azure.workspace_overrides,
        "systemData": system_data(SYSTEM, azure.created_at, azure.created_at),
    }
