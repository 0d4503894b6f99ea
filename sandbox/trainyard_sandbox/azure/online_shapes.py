"""Bodies of online endpoints and their deployments, as their PUT, PATCH and POST may have them.

online_endpoints.py and online_deployments.py check every body here.

Fields and types: azure-ai-ml `_restclient/arm_ml_service/models/_models.py` (OnlineEndpoint, ManagedOnlineDeployment
and what they name) and `_enums.py`; what the SDK sends: `entities/_endpoint/online_endpoint.py`,
`entities/_deployment/online_deployment.py`. Published bodies: Azure/azure-rest-api-specs, 2023-10-01 examples
`Workspace/OnlineEndpoint/createOrUpdate.json`, `OnlineDeployment/ManagedOnlineDeployment/createOrUpdate.json`.
Read-only fields may come back in a PUT and change nothing. `dataCollector` is in 2023-04-01-preview and from
2024-04-01 on; the published example of 2023-10-01 has none.
"""

from __future__ import annotations

from trainyard_sandbox.azure.job_shapes import STRINGS, Duration, Kinds
from trainyard_sandbox.schema import AnyJson, Bool, Int, ListOf, MapOf, Number, Obj, Shape, Str

VERSIONS = (
    "2022-02-01-preview",
    "2022-05-01",
    "2022-10-01",
    "2023-04-01",
    "2023-04-01-preview",
    "2023-10-01",
    "2024-04-01",
    "2024-10-01",
)
COLLECTING_VERSIONS = ("2023-04-01-preview", "2024-04-01", "2024-10-01")
"""api-versions whose deployments may have a `dataCollector`."""
AUTH_MODES = ("AMLToken", "Key", "AADToken")
IDENTITY_TYPES = ("None", "SystemAssigned", "UserAssigned", "SystemAssigned,UserAssigned")
CONTAINERS = ("StorageInitializer", "InferenceServer")
MAX_INSTANCES = 50
"""Azure documentation, "Manage and increase quotas and limits for resources with Azure Machine Learning"."""
_TIERS = ("Free", "Basic", "Standard", "Premium")
_ENVELOPE: dict[str, Shape] = dict.fromkeys(("id", "name", "type", "systemData"), AnyJson())
_ON_OFF = Str(("Enabled", "Disabled"))

IDENTITY = Obj(
    {
        "type": Str(IDENTITY_TYPES),
        "userAssignedIdentities": MapOf(Obj({"principalId": AnyJson(), "clientId": AnyJson()})),
        "principalId": AnyJson(),
        "tenantId": AnyJson(),
    },
    ("type",),
)
PATCH_IDENTITY = Obj({"type": Str(IDENTITY_TYPES), "userAssignedIdentities": MapOf(AnyJson())})
SKU = Obj(
    {
        "name": Str(min_length=1),
        "tier": Str(_TIERS),
        "size": Str(),
        "family": Str(),
        "capacity": Int(minimum=1, maximum=MAX_INSTANCES),
    },
    ("name",),
)
PATCH_SKU = Obj({**SKU.fields})
_PERCENT = MapOf(Int(minimum=0, maximum=100))
ENDPOINT = Obj(
    {
        **_ENVELOPE,
        "location": Str(min_length=1),
        "kind": Str(),
        "tags": STRINGS,
        "sku": SKU,
        "identity": IDENTITY,
        "properties": Obj(
            {
                "authMode": Str(AUTH_MODES),
                "description": Str(),
                "compute": Str(),
                "keys": Obj({"primaryKey": Str(min_length=1), "secondaryKey": Str(min_length=1)}),
                "properties": STRINGS,
                "traffic": _PERCENT,
                "mirrorTraffic": _PERCENT,
                "publicNetworkAccess": _ON_OFF,
                "scoringUri": AnyJson(),
                "swaggerUri": AnyJson(),
                "provisioningState": AnyJson(),
            },
            ("authMode",),
        ),
    },
    ("location", "properties"),
)
PATCH_ENDPOINT = Obj({"tags": STRINGS, "identity": PATCH_IDENTITY})
"""`PartialMinimalTrackedResourceWithIdentity`: nothing else of an endpoint can be patched."""

_PROBE = Obj(
    {
        "failureThreshold": Int(minimum=1),
        "successThreshold": Int(minimum=1),
        "timeout": Duration(),
        "period": Duration(),
        "initialDelay": Duration(),
    }
)
_COLLECTOR = Obj(
    {
        "collections": MapOf(
            Obj(
                {
                    "clientId": Str(),
                    "dataCollectionMode": _ON_OFF,
                    "dataId": Str(),
                    "samplingRate": Number(),
                }
            )
        ),
        "requestLogging": Obj({"captureHeaders": ListOf(Str(min_length=1))}),
        "rollingRate": Str(("Year", "Month", "Day", "Hour", "Minute")),
    },
    ("collections",),
)
_MANAGED = Obj(
    {
        "codeConfiguration": Obj({"codeId": Str(), "scoringScript": Str(min_length=1)}, ("scoringScript",)),
        "description": Str(),
        "environmentId": Str(),
        "environmentVariables": STRINGS,
        "properties": STRINGS,
        "appInsightsEnabled": Bool(),
        "dataCollector": _COLLECTOR,
        "egressPublicNetworkAccess": _ON_OFF,
        "instanceType": Str(min_length=1),
        "livenessProbe": _PROBE,
        "readinessProbe": _PROBE,
        "model": Str(min_length=1),
        "modelMountPath": Str(),
        "privateNetworkConnection": Bool(),
        "provisioningState": AnyJson(),
        "requestSettings": Obj(
            {
                "maxConcurrentRequestsPerInstance": Int(minimum=1),
                "maxQueueWait": AnyJson(),
                "requestTimeout": Duration(),
            }
        ),
        "scaleSettings": Kinds("scaleType", {"Default": Obj({})}),
    },
    ("instanceType",),
)
DEPLOYMENT = Obj(
    {
        **_ENVELOPE,
        "location": Str(min_length=1),
        "kind": Str(),
        "tags": STRINGS,
        "identity": IDENTITY,
        "sku": SKU,
        "properties": Kinds("endpointComputeType", {"Managed": _MANAGED}),
    },
    ("location", "properties", "sku"),
)
"""Scale type TargetUtilization is for Kubernetes alone (Azure documentation, "CLI (v2) managed online deployment YAML
schema": "Currently only the default scale type is supported")."""
PATCH_DEPLOYMENT = Obj({"tags": STRINGS, "sku": PATCH_SKU})
"""`PartialMinimalTrackedResourceWithSku`."""

LOGS = Obj({"containerType": Str(CONTAINERS), "tail": Int(minimum=1)})
REGENERATE = Obj({"keyType": Str(("Primary", "Secondary")), "keyValue": Str(min_length=1)}, ("keyType",))
READ_ONLY_ENDPOINT = ("scoringUri", "swaggerUri", "provisioningState", "keys")
READ_ONLY_DEPLOYMENT = ("provisioningState",)
