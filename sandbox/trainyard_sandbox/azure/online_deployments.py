"""Managed online deployments in Azure Resource Manager: their PUT, PATCH, GET, list, DELETE, logs and sizes.

Paths and versions: azure-ai-ml `_restclient/arm_ml_service/operations/_operations.py`, OnlineDeploymentsOperations,
and `operations/_online_deployment_operations.py` (what the SDK sends, with 2023-04-01-preview). Published bodies: see
online_shapes.py. One change of an endpoint or of any of its deployments at a time; a deployment that has traffic
cannot be deleted, one that failed at first can only be deleted.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.arm import PROVIDER, Action, AzureCall, arm_route
from trainyard_sandbox.azure.assets import Author
from trainyard_sandbox.azure.assets_api import page_response
from trainyard_sandbox.azure.errors import user_error
from trainyard_sandbox.azure.job_operations import operation_headers
from trainyard_sandbox.azure.online_endpoints import began_headers, found_endpoint, no_such
from trainyard_sandbox.azure.online_models import check_model
from trainyard_sandbox.azure.online_provisioning import Provisioning, container_log
from trainyard_sandbox.azure.online_rules import (
    check_change,
    check_deployment,
    check_idle,
    check_location,
    check_name,
    check_quota,
    check_secret_stores,
    check_usable,
    validation_error,
)
from trainyard_sandbox.azure.online_shapes import (
    COLLECTING_VERSIONS,
    DEPLOYMENT,
    LOGS,
    MAX_INSTANCES,
    PATCH_DEPLOYMENT,
    READ_ONLY_DEPLOYMENT,
    VERSIONS,
)
from trainyard_sandbox.azure.online_store import MOVING, OnlineDeployment, OnlineEndpoint, OnlineStore
from trainyard_sandbox.azure.online_view import deployment_body

_DEFAULT_LINES = 100
_MODEL_READ = "workspaces/models/versions/read"


async def list_deployments(call: AzureCall) -> Response:
    """GET .../deployments: a page, oldest first."""
    if call.query.get("$orderBy"):
        raise user_error("This sandbox lists deployments in one order only.", "BadArgument", target="$orderBy")
    found = found_endpoint(call).deployments.values()
    return page_response(call, [deployment_body(call.azure, one) for one in found])


async def get_deployment(call: AzureCall) -> Response:
    """GET .../deployments/{deployment}."""
    return JSONResponse(deployment_body(call.azure, _found(call)[1]))


async def put_deployment(call: AzureCall) -> Response:
    """PUT .../deployments/{deployment}: 201 for a new one, 200 for one that exists; both go on for a while."""
    endpoint, name = found_endpoint(call), call.path["deployment"]
    check_name("deployment", name)
    body = await call.body(DEPLOYMENT)
    check_location(call.azure, body["location"])
    properties = _properties(call, body)
    known = endpoint.deployment(name)
    check_idle(_store(call), endpoint, f"Cannot {'create' if known is None else 'update'} a deployment in")
    check_usable(endpoint)
    check_deployment(properties)
    call.require(_MODEL_READ)
    check_model(call.azure, properties, pretended=_changes(call).pretends(endpoint.name, name))
    check_secret_stores(call, endpoint.properties, endpoint.identity)
    if known is None:
        return _create(call, endpoint, name, body, properties)
    check_change(known, properties)
    check_quota(call.azure, known.instance_type, body["sku"].get("capacity", 1), known)
    known.tags, known.sku, known.modified_at = body.get("tags", {}), body["sku"], _store(call).now()
    _changes(call).update(endpoint, known, properties)
    return _began(call, known, 200)


def _create(
    call: AzureCall, endpoint: OnlineEndpoint, name: str, body: dict[str, Any], properties: dict[str, Any]
) -> Response:
    store = _store(call)
    if len(endpoint.deployments) >= store.deployment_limit:
        message = f"Deployment Quota reached for endpoint {endpoint.name}.Current usage/limit: "
        raise validation_error({"": [f"{message}{len(endpoint.deployments)}/{store.deployment_limit}."]})
    check_quota(call.azure, properties["instanceType"], body["sku"].get("capacity", 1))
    now = store.now()
    deployment = OnlineDeployment(
        endpoint=endpoint.name,
        name=name,
        location=call.azure.region,
        properties=properties,
        sku=body["sku"],
        author=Author.of(call.principal),
        created_at=now,
        modified_at=now,
        tags=body.get("tags", {}),
    )
    endpoint.deployments[name] = deployment
    _changes(call).deploy(endpoint, deployment)
    return _began(call, deployment, 201)


def _properties(call: AzureCall, body: dict[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in body["properties"].items() if key not in READ_ONLY_DEPLOYMENT}
    if "dataCollector" in given and call.api_version not in COLLECTING_VERSIONS:
        message = f"Could not find member 'dataCollector' in api-version {call.api_version}. Use one of "
        raise user_error(message + f"{', '.join(COLLECTING_VERSIONS)}.", "BadArgument", target="dataCollector")
    if given.get("properties"):
        kept = {key: value for key, value in given["properties"].items() if key != "AzureAsyncOperationUri"}
        given["properties"] = kept
    return given


def _began(call: AzureCall, deployment: OnlineDeployment, status: int) -> Response:
    name = f"od:{deployment.endpoint}:{deployment.name}"
    headers = began_headers(call, name, deployment, lambda: deployment.state not in MOVING)
    return JSONResponse(deployment_body(call.azure, deployment), status, headers)


async def patch_deployment(call: AzureCall) -> Response:
    """PATCH .../deployments/{deployment}: tags, and how many instances."""
    endpoint, deployment = _found(call)
    body = await call.body(PATCH_DEPLOYMENT)
    check_idle(_store(call), endpoint, "Cannot update a deployment in")
    check_usable(endpoint)
    check_change(deployment, deployment.properties)
    sku = deployment.sku | body.get("sku", {})
    check_quota(call.azure, deployment.instance_type, sku.get("capacity", 1), deployment)
    deployment.tags, deployment.sku = body.get("tags", deployment.tags), sku
    deployment.modified_at = _store(call).now()
    _changes(call).update(endpoint, deployment, deployment.properties)
    return _began(call, deployment, 202)


async def delete_deployment(call: AzureCall) -> Response:
    """DELETE .../deployments/{deployment}: 204 if there is none; refused while it has traffic."""
    endpoint = found_endpoint(call)
    deployment = endpoint.deployment(call.path["deployment"])
    if deployment is None:
        return Response(status_code=204)
    check_idle(_store(call), endpoint, "Cannot delete a deployment in")
    if endpoint.traffic.get(deployment.name) or endpoint.mirror.get(deployment.name):
        message = (
            f"Can't delete deployment [{deployment.name}] with non-zero traffic weight. Please remove the traffic "
        )
        raise validation_error({"": [message + "weight and try again."]})
    _changes(call).delete_deployment(endpoint, deployment)
    name = f"od:{endpoint.name}:{deployment.name}"
    headers = operation_headers(call, name, lambda: endpoint.deployments.get(deployment.name) is not deployment)
    return Response(status_code=202, headers=headers)


async def get_logs(call: AzureCall) -> Response:
    """POST .../deployments/{deployment}/getLogs: the last lines of a container."""
    _, deployment = _found(call)
    asked = await call.body(LOGS)
    text = container_log(deployment, asked.get("containerType", "InferenceServer"), _store(call).now())
    lines = text.splitlines(keepends=True)
    return JSONResponse({"content": "".join(lines[-asked.get("tail", _DEFAULT_LINES) :])})


async def list_skus(call: AzureCall) -> Response:
    """GET .../deployments/{deployment}/skus: how many instances it may have."""
    _, deployment = _found(call)
    capacity = {"minimum": 1, "maximum": MAX_INSTANCES, "default": 1, "scaleType": "Manual"}
    sku = {"name": deployment.sku.get("name", "Default"), "tier": "Standard"}
    kind = f"{PROVIDER}/workspaces/onlineEndpoints/deployments"
    return JSONResponse({"value": [{"resourceType": kind, "sku": sku, "capacity": capacity}]})


def _found(call: AzureCall) -> tuple[OnlineEndpoint, OnlineDeployment]:
    endpoint, name = found_endpoint(call), call.path["deployment"]
    deployment = endpoint.deployment(name)
    if deployment is None:
        raise no_such(call, f"onlineEndpoints/{endpoint.name}/deployments/{name}")
    return endpoint, deployment


def _store(call: AzureCall) -> OnlineStore:
    store: OnlineStore = call.azure.online
    return store


def _changes(call: AzureCall) -> Provisioning:
    changes: Provisioning = call.azure.online_changes
    return changes


def routes() -> list[Route]:
    """The routes of this module."""
    kind = "workspaces/onlineEndpoints/deployments"
    below = "/onlineEndpoints/{endpoint}/deployments"
    one = f"{below}/{{deployment}}"
    listed = Action(list_deployments, f"{kind}/read", VERSIONS, ("$orderBy", "$top", "$skip"))
    return [
        arm_route(below, {"GET": listed}),
        arm_route(
            one,
            {
                "GET": Action(get_deployment, f"{kind}/read", VERSIONS),
                "PUT": Action(put_deployment, f"{kind}/write", VERSIONS),
                "PATCH": Action(patch_deployment, f"{kind}/write", VERSIONS),
                "DELETE": Action(delete_deployment, f"{kind}/delete", VERSIONS),
            },
        ),
        arm_route(f"{one}/getLogs", {"POST": Action(get_logs, f"{kind}/getLogs/action", VERSIONS)}),
        arm_route(f"{one}/skus", {"GET": Action(list_skus, f"{kind}/read", VERSIONS, ("count", "$skip"))}),
    ]
