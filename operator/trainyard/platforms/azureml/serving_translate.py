"""From a plan of an endpoint to the bodies that Azure ML takes for it. Pure; called by `platform`.

What is only known once the platform is asked (the workspace's region, what is there already) is put in by
`serving_steps`. Field names: azure-ai-ml `_restclient/arm_ml_service/models/_models.py` (OnlineEndpoint,
ManagedOnlineDeployment, DataCollector) and its `entities/_endpoint` and `entities/_deployment`.
"""

import re
from collections import Counter
from dataclasses import replace
from typing import Any

from trainyard.api.compute import OnlineEndpoint
from trainyard.api.deployment_status import Serving
from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.core.errors import TranslationError
from trainyard.core.serving.plan import EndpointPlan
from trainyard.core.serving.plans import digest_of
from trainyard.platforms import lacking, told
from trainyard.platforms.azureml import names, needs
from trainyard.platforms.base import Need
from trainyard.platforms.references import listed
from trainyard.platforms.serving import EndpointRequest

# The name of a model in the OpenAPI document of the service.
_MODEL = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,254}")
# Of Azure Resource Manager: "Tag resources, resource groups, and subscriptions".
MAX_TAG_VALUE = 256
# Tells that tags of the user's were changed or taken away; others than ours are put on by policies of the company's.
TAG_TAGS = "trainyard_tags"
AUTH_MODES = {"Token": "AADToken", "Key": "Key"}
# What MLflow's own server takes and gives ("Collect data from an MLflow model", Azure documentation).
COLLECTIONS = ("model_inputs", "model_outputs")
# The platform's own is 5 s, its most 180 s ("CLI (v2) managed online deployment YAML schema"); a smoke request may take
# 120 s.
REQUEST_TIMEOUT = "PT2M"


def model_name(name: str) -> str:
    """The registered name of a name in spec.models: the same, as the registry has no catalogs.

    Raises:
        TranslationError: no model of Azure ML can have it.
    """
    if not _MODEL.fullmatch(name):
        raise TranslationError(
            "spec.models[].model.name",
            f"{name!r}: names of models on Azure ML are letters, digits, - and _, and begin with a letter or digit; "
            "the registry of a workspace has no catalogs and schemas",
        )
    return name


def translate_endpoint(
    plan: EndpointPlan, workspace: MLWorkspaceSpec | None, kept: frozenset[str] = frozenset()
) -> EndpointRequest:
    """The plan as bodies: `endpoint`, and `deployments` by their names, without location.

    What is kept has no machines in it: `serving_steps.as_seen` puts in what is seen.

    Raises:
        TranslationError: naming the field: UnsupportedOnPlatform, ComputeClassUnknown, InvalidSpec.
    """
    made = replace(plan, served=tuple(each for each in plan.served if each.served not in kept))
    shapes: dict[str, OnlineEndpoint] = {}
    if workspace is not None:
        lacking.refuse_endpoint("azureml", made, workspace)
        shapes = {each.served: _shape(each, workspace) for each in made.served}
    told.refuse_our_tags(plan.tags, "spec.tags")
    ours = _ownership(plan)
    body = {
        "endpoint": {
            "tags": {**plan.tags, **ours, TAG_TAGS: digest_of(dict(plan.tags))[-16:]},
            "identity": {"type": "SystemAssigned"},
            "properties": {"authMode": AUTH_MODES[plan.auth]},
        },
        "deployments": {each.served: _deployment(each, shapes.get(each.served), plan, ours) for each in plan.served},
    }
    return EndpointRequest(plan, body, _needs(made, {name: each.instance_type for name, each in shapes.items()}), kept)


def _ownership(plan: EndpointPlan) -> dict[str, str]:
    owner = plan.owner
    tags = {
        names.TAG_CLUSTER: owner.cluster,
        names.TAG_NAMESPACE: owner.namespace,
        names.TAG_NAME: owner.name,
        names.TAG_UID: owner.uid,
    }
    return {key: value[:MAX_TAG_VALUE] for key, value in tags.items() if value}


def _deployment(
    served: Serving, shape: OnlineEndpoint | None, plan: EndpointPlan, ours: dict[str, str]
) -> dict[str, Any]:
    """One model version. `model` is a path below the workspace, which `serving_steps` completes."""
    requests: dict[str, Any] = {"requestTimeout": REQUEST_TIMEOUT}
    if shape is not None and shape.concurrent_requests is not None:
        requests["maxConcurrentRequestsPerInstance"] = shape.concurrent_requests
    properties: dict[str, Any] = {
        "endpointComputeType": "Managed",
        "model": f"/models/{served.model}/versions/{served.version}",
        **({"instanceType": shape.instance_type} if shape is not None else {}),
        "environmentVariables": dict(served.env),
        "scaleSettings": {"scaleType": "Default"},
        "appInsightsEnabled": False,
        "requestSettings": requests,
    }
    if plan.request_logging is not None:
        rate = (plan.request_logging.sampling_percent or 100) / 100
        collected = {"dataCollectionMode": "Enabled", "samplingRate": rate}
        properties["dataCollector"] = {
            "collections": {name: dict(collected) for name in COLLECTIONS},
            "rollingRate": "Hour",
        }
    return {"tags": dict(ours), "sku": {"name": "Default", "capacity": served.min_replicas}, "properties": properties}


def _shape(served: Serving, workspace: MLWorkspaceSpec) -> OnlineEndpoint:
    field = f"spec.models[{served.name}].compute.class"
    shape = workspace.compute_classes.get(served.compute_class)
    if shape is None:
        raise TranslationError(
            field,
            f"{served.compute_class!r} is not a compute class of the workspace, which has "
            f"{listed(workspace.compute_classes)}",
            reason="ComputeClassUnknown",
        )
    if shape.online_endpoint is None:
        raise TranslationError(
            field,
            f"{served.compute_class!r} is no compute class for served models on Azure ML: name one with "
            "onlineEndpoint, or have it added to the workspace",
            reason=lacking.REASON,
        )
    return shape.online_endpoint


def _needs(plan: EndpointPlan, sizes: dict[str, str]) -> tuple[Need, ...]:
    """What serving takes of whoever the operator is there, in the order in which a person would grant it."""
    found = [
        Need(needs.WORKSPACE, needs.THIS, action, "", "spec.workspaceRef")
        for action in (needs.ENDPOINTS_READ, needs.ENDPOINTS_WRITE, needs.DEPLOYMENTS_WRITE, needs.ENDPOINTS_DELETE)
    ]
    asking = needs.ENDPOINTS_KEYS if plan.auth == "Key" else needs.ENDPOINTS_SCORE
    found.append(Need(needs.WORKSPACE, needs.THIS, asking, "", "spec.auth"))
    for each in plan.served:
        name = f"{each.model}:{each.version}"
        found.append(Need(needs.SERVED_MODEL, name, needs.SERVABLE, "", f"spec.models[{each.name}].model"))
    machines: Counter[str] = Counter()
    fields: dict[str, str] = {}
    for each in plan.served:
        machines[sizes[each.served]] += needs.reserved(each.min_replicas)
        fields.setdefault(sizes[each.served], f"spec.models[{each.name}].compute.class")
    for size, count in machines.items():
        # Answers are remembered by need: one about two machines is none about four.
        right = f"{needs.QUOTA} for {count} machines"
        found.append(Need(needs.SERVING_QUOTA, size, right, "", fields[size]))
    return tuple(dict.fromkeys(found))
