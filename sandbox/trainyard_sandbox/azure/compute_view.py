"""How Azure Resource Manager shows a compute.

computes.py renders with it. Fields: azure-ai-ml `_restclient/arm_ml_service/models/_models.py`, ComputeResource,
AmlComputeProperties, NodeStateCounts.
"""

from __future__ import annotations

from typing import Any

from trainyard_sandbox.azure.compute_store import AzureCompute, ComputeStore
from trainyard_sandbox.azure.errors import iso_time
from trainyard_sandbox.azure.state import AzureState

COMPUTE_TYPE = "Microsoft.MachineLearningServices/workspaces/computes"


def rendered(azure: AzureState, compute: AzureCompute) -> dict[str, Any]:
    """The compute as a resource."""
    store: ComputeStore = azure.computes
    state = compute.provisioning_state(store.now())
    shown = {
        "id": f"{azure.workspace_scope}/computes/{compute.name}",
        "name": compute.name,
        "type": COMPUTE_TYPE,
        "location": compute.location,
        "tags": dict(compute.tags),
        "properties": {
            "computeType": compute.compute_type,
            "computeLocation": compute.location,
            "description": compute.description,
            "provisioningState": state,
            "createdOn": iso_time(compute.created_at),
            "modifiedOn": iso_time(compute.modified_at),
            "resourceId": compute.resource_id,
            "provisioningErrors": _errors(compute) if state == "Failed" else None,
            "isAttachedCompute": compute.compute_type == "Kubernetes",
            "disableLocalAuth": True,
            "properties": _inner(store, compute, state),
        },
    }
    return shown | ({"identity": compute.identity} if compute.identity else {})


def _errors(compute: AzureCompute) -> list[dict[str, Any]]:
    return [{"error": {"code": code, "message": message, "details": []}} for code, message in compute.errors]


def _inner(store: ComputeStore, compute: AzureCompute, state: str) -> dict[str, Any]:
    if compute.compute_type == "ComputeInstance":
        running = "Running" if state == "Succeeded" else "Creating"
        return compute.properties | {"state": running if state != "Failed" else "CreateFailed"}
    if compute.compute_type == "Kubernetes":
        return {"namespace": "default", "defaultInstanceType": "defaultinstancetype"} | compute.properties
    pool = store.pool(compute.name)
    running_nodes = pool.in_use if pool else 0
    least = (compute.properties.get("scaleSettings") or {}).get("minNodeCount", 0) if state == "Succeeded" else 0
    nodes = max(running_nodes, least)
    now = iso_time(store.now())
    return (
        {"osType": "Linux", "vmPriority": "Dedicated", "enableNodePublicIp": True}
        | compute.properties
        | {
            "allocationState": "Steady" if state != "Updating" else "Resizing",
            "allocationStateTransitionTime": now,
            "errors": None,
            "currentNodeCount": nodes,
            "targetNodeCount": nodes,
            "nodeStateCounts": {
                "idleNodeCount": nodes - running_nodes,
                "runningNodeCount": running_nodes,
                "preparingNodeCount": 0,
                "unusableNodeCount": 0,
                "leavingNodeCount": 0,
                "preemptedNodeCount": 0,
            },
        }
    )
