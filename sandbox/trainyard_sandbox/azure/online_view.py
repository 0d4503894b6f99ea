"""Online endpoints and deployments as Azure Resource Manager shows them.

online_endpoints.py and online_deployments.py answer with it.

Bodies: Azure/azure-rest-api-specs, 2023-10-01 examples `Workspace/OnlineEndpoint/get.json` and
`OnlineDeployment/ManagedOnlineDeployment/get.json`; `properties` of the inner kind and the defaults of probes and
requests: azure-ai-ml `entities/_endpoint/online_endpoint.py`, and "CLI (v2) managed online deployment YAML schema". The
scoring URI is `https://<endpoint>.<region>.inference.ml.azure.com/score` in the public cloud, and a path of the
sandbox's one Azure origin here.
"""

from __future__ import annotations

from typing import Any

from trainyard_sandbox.azure.arm import PROVIDER
from trainyard_sandbox.azure.assets import system_data
from trainyard_sandbox.azure.online_store import OnlineDeployment, OnlineEndpoint
from trainyard_sandbox.azure.state import AzureState

SCORING_PREFIX = "/online"
_PROBE = {
    "failureThreshold": 30,
    "successThreshold": 1,
    "timeout": "PT2S",
    "period": "PT10S",
    "initialDelay": "PT10S",
}
_REQUESTS = {"maxConcurrentRequestsPerInstance": 1, "requestTimeout": "PT5S", "maxQueueWait": "PT0.5S"}


def endpoint_scope(azure: AzureState, name: str) -> str:
    """Resource id of an endpoint."""
    return f"{azure.workspace_scope}/onlineEndpoints/{name}"


def scoring_uri(azure: AzureState, name: str) -> str:
    """Where an endpoint takes requests."""
    return f"{azure.url}{SCORING_PREFIX}/{name}/score"


def endpoint_body(azure: AzureState, endpoint: OnlineEndpoint) -> dict[str, Any]:
    """An endpoint."""
    inner = {
        **endpoint.properties["properties"],
        "azureml.onlineendpointid": endpoint_scope(azure, endpoint.name),
        "AzureAsyncOperationUri": endpoint.operation,
    }
    properties = {
        "description": None,
        "publicNetworkAccess": "Enabled",
        **endpoint.properties,
        "properties": inner,
        "traffic": endpoint.traffic,
        "mirrorTraffic": dict(endpoint.mirror),
        "compute": None,
        "scoringUri": scoring_uri(azure, endpoint.name),
        "swaggerUri": f"{azure.url}{SCORING_PREFIX}/{endpoint.name}/swagger.json",
        "provisioningState": endpoint.shown_state,
    }
    return {
        "id": endpoint_scope(azure, endpoint.name),
        "name": endpoint.name,
        "type": f"{PROVIDER}/workspaces/onlineEndpoints",
        "location": endpoint.location,
        "kind": endpoint.kind,
        "tags": endpoint.tags,
        "identity": _identity(azure, endpoint),
        "properties": properties,
        "systemData": system_data(endpoint.author, endpoint.created_at, endpoint.modified_at),
    }


def _identity(azure: AzureState, endpoint: OnlineEndpoint) -> dict[str, Any]:
    shown: dict[str, Any] = {"type": endpoint.identity["type"]}
    if "SystemAssigned" in shown["type"]:
        shown |= {"principalId": endpoint.principal_id, "tenantId": azure.tenant_id}
    known = {azure.identity_scope(one.display_name).lower(): one for one in azure.directory.all()}
    assigned = {
        resource_id: {"principalId": found.object_id, "clientId": found.client_id}
        for resource_id in endpoint.identity.get("userAssignedIdentities") or {}
        if (found := known.get(resource_id.lower())) is not None
    }
    return shown | ({"userAssignedIdentities": assigned} if assigned else {})


def deployment_body(azure: AzureState, deployment: OnlineDeployment) -> dict[str, Any]:
    """A deployment."""
    scope = f"{endpoint_scope(azure, deployment.endpoint)}/deployments/{deployment.name}"
    given = deployment.properties
    properties = {
        "description": None,
        "environmentId": None,
        "appInsightsEnabled": False,
        "egressPublicNetworkAccess": "Enabled",
        "environmentVariables": {},
        "scaleSettings": {"scaleType": "Default"},
        "modelMountPath": None,
        **given,
        "requestSettings": _REQUESTS | (given.get("requestSettings") or {}),
        "livenessProbe": _PROBE | (given.get("livenessProbe") or {}),
        "readinessProbe": _PROBE | (given.get("readinessProbe") or {}),
        "properties": {**(given.get("properties") or {}), "AzureAsyncOperationUri": deployment.operation},
        "provisioningState": deployment.state,
    }
    return {
        "id": scope,
        "name": deployment.name,
        "type": f"{PROVIDER}/workspaces/onlineEndpoints/deployments",
        "location": deployment.location,
        "kind": deployment.kind,
        "tags": deployment.tags,
        "sku": {"name": "Default", "tier": "Standard", "capacity": deployment.instances} | deployment.sku,
        "properties": properties,
        "systemData": system_data(deployment.author, deployment.created_at, deployment.modified_at),
    }
