"""Plans of endpoints, and endpoints as Azure ML shows them, in a line."""

from collections.abc import Mapping
from typing import Any

from trainyard.api.deployment_status import Serving
from trainyard.api.model_deployment import EndpointPermission, RequestLogging
from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.core.serving.plan import EndpointPlan, Owner
from trainyard.platforms.azureml.serving_steps import Desired, Seen
from trainyard.platforms.azureml.serving_translate import translate_endpoint

UID = "8d0b1c6e-1111-4222-8333-444444444444"
WS = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
SIZE = "Standard_DS3_v2"
CLASSES = {
    "small": {"onlineEndpoint": {"instanceType": SIZE}},
    "many": {"onlineEndpoint": {"instanceType": SIZE, "concurrentRequests": 4}},
    "large": {"onlineEndpoint": {"instanceType": "Standard_F4s_v2"}},
    "job": {"azureML": {"compute": "cpu-cluster"}},
    "dbx": {"modelServing": {"workloadSize": "Small"}},
}
WORKSPACE = MLWorkspaceSpec.model_validate(
    {
        "azureML": {
            "subscriptionId": "00000000-1111-2222-3333-444444444444",
            "resourceGroup": "g",
            "workspaceName": "wine",
            "tenantId": "11111111-1111-2222-3333-444444444444",
        },
        "identity": {"federated": {"serviceAccountName": "trainer"}},
        "computeClasses": CLASSES,
    }
)


def serving(served: str, version: str = "1", **fields: Any) -> Serving:
    return Serving.model_validate(
        {
            "name": served.rpartition("-")[0] or served,
            "served": served,
            "model": "wine",
            "version": version,
            "computeClass": "small",
            "minReplicas": 1,
            "maxReplicas": 1,
            "traffic": 100,
            **fields,
        }
    )


def plan(*served: Serving, traffic: Mapping[str, int] | None = None, **fields: Any) -> EndpointPlan:
    shares = {served[0].served: 100} if traffic is None and served else dict(traffic or {})
    return EndpointPlan("team-a-wine", Owner("team-a", "wine", UID, "here"), 1, served, shares, **fields)


def logging(percent: int | None = None) -> RequestLogging:
    return RequestLogging.model_validate({"samplingPercent": percent})


def permission(**fields: str) -> EndpointPermission:
    return EndpointPermission.model_validate(fields)


def desired(*served: Serving, traffic: Mapping[str, int] | None = None, **fields: Any) -> Desired:
    wanted = plan(*served, traffic=traffic, **fields)
    body = translate_endpoint(wanted, WORKSPACE).body
    return Desired(UID, wanted.adopt, body["endpoint"], body["deployments"], wanted.traffic, WS)


def seen(
    wanted: Desired,
    states: Mapping[str, str] | None = None,
    traffic: Mapping[str, int] | None = None,
    *,
    state: str = "Succeeded",
    endpoint: Mapping[str, Any] | None = None,
    **properties: Any,
) -> Seen:
    """An endpoint with the plan's settings. `states` are those of its deployments, made as the plan says."""
    made = {}
    for name, each in (states or {}).items():
        body = wanted.deployments.get(name) or next(iter(wanted.deployments.values()))
        made[name] = {
            **body,
            "name": name,
            "properties": {**body["properties"], "model": WS + body["properties"]["model"], "provisioningState": each},
        }
    there = {
        "name": "team-a-wine",
        "tags": dict(wanted.endpoint["tags"]),
        "identity": {"type": "SystemAssigned", "principalId": "x"},
        "properties": {
            **wanted.endpoint["properties"],
            "provisioningState": state,
            "traffic": dict(traffic or {}),
            **properties,
        },
        **(endpoint or {}),
    }
    return Seen(there, made)
