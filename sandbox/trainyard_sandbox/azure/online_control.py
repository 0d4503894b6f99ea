"""The control API's part about online endpoints: what there is, limits and delays, and what happens behind the
operator's back.

server.py mounts it; `trainyard_sandbox.azure_serving_client` is its client. How models behave (slow or failing
provisioning, pretended predictions, errors, latencies) is scripted for both platforms alike, see serving/scripts.py.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.assets import Author
from trainyard_sandbox.azure.online_endpoints import begin_change
from trainyard_sandbox.azure.online_provisioning import Provisioning
from trainyard_sandbox.azure.online_store import OnlineDeployment, OnlineEndpoint, OnlineStore
from trainyard_sandbox.azure.state import AzureState
from trainyard_sandbox.errors import invalid_parameter, not_found
from trainyard_sandbox.schema import Int, ListOf, MapOf, Number, Obj, Str, json_body
from trainyard_sandbox.state import sandbox_state

_SETTINGS = Obj(
    {
        "endpoint_limit": Int(minimum=0),
        "deployment_limit": Int(minimum=0),
        "endpoint_seconds": Number(),
        "delete_seconds": Number(),
        "metric_delay_seconds": Number(),
        "busy_status": Int(minimum=400, maximum=409),
        "endpoint_failure": Str(),
        "taken_names": ListOf(Str(min_length=1)),
        "secrets": MapOf(Str()),
    }
)
_ENDPOINT_EDIT = Obj(
    {
        "traffic": MapOf(Int(minimum=0, maximum=100)),
        "tags": MapOf(Str()),
        "auth_mode": Str(("AMLToken", "Key", "AADToken")),
        "properties": MapOf(Str()),
        "creator": Str(min_length=1),
    }
)
_DEPLOYMENT_EDIT = Obj(
    {"capacity": Int(minimum=0), "tags": MapOf(Str()), "model": Str(min_length=1), "environment": MapOf(Str())}
)
_FAILURE = Obj({"code": Str(min_length=1), "message": Str(min_length=1)})


async def list_endpoints(request: Request) -> Response:
    """GET /azure/online-endpoints: what there is, oldest first."""
    return JSONResponse([_shown(one) for one in _store(request).all()])


async def edit_endpoint(request: Request) -> Response:
    """PUT /azure/online-endpoints/{endpoint}: changed at once, as by somebody else's hand, whatever it is doing."""
    endpoint = _endpoint(request)
    given = await json_body(request, _ENDPOINT_EDIT)
    if "traffic" in given:
        unknown = sorted(name for name in given["traffic"] if endpoint.deployment(name) is None)
        if unknown:
            raise invalid_parameter(f"The endpoint has no deployment {unknown[0]}.")
        endpoint.split.change(given["traffic"])
    endpoint.tags = given.get("tags", endpoint.tags)
    if "creator" in given:
        endpoint.author = Author(given["creator"])
    if "auth_mode" in given:
        endpoint.properties = endpoint.properties | {"authMode": given["auth_mode"]}
    if "properties" in given:
        endpoint.properties = endpoint.properties | {"properties": given["properties"]}
    endpoint.modified_at = _store(request).now()
    return JSONResponse({})


async def delete_endpoint(request: Request) -> Response:
    """DELETE /azure/online-endpoints/{endpoint}: gone behind our back, busy or not."""
    _changes(request).delete_endpoint(_endpoint(request))
    return JSONResponse({})


async def roll_back(request: Request) -> Response:
    """POST /azure/online-endpoints/{endpoint}/rollback: the service silently goes back to what was before the last
    change of the endpoint."""
    endpoint = _endpoint(request)
    if endpoint.before is None:
        raise invalid_parameter("The endpoint was never changed.")
    before = endpoint.before
    properties = before["properties"] | {"traffic": before["traffic"]}
    begin_change(_changes(request), endpoint, properties, before["tags"], _store(request).now())
    return JSONResponse({})


async def edit_deployment(request: Request) -> Response:
    """PUT /azure/online-endpoints/{endpoint}/deployments/{deployment}: changed as by somebody else's hand; another
    model or environment takes as long as an update does."""
    endpoint, deployment = _deployment(request)
    given = await json_body(request, _DEPLOYMENT_EDIT)
    if "capacity" in given:
        deployment.sku = deployment.sku | {"capacity": given["capacity"]}
    deployment.tags = given.get("tags", deployment.tags)
    names = {"model": "model", "environment": "environmentVariables"}
    changed = {names[key]: given[key] for key in names if key in given}
    if changed:
        _changes(request).update(endpoint, deployment, deployment.properties | changed)
    return JSONResponse({})


async def fail_deployment(request: Request) -> Response:
    """POST /azure/online-endpoints/{endpoint}/deployments/{deployment}/failure: its machines are lost, and it answers
    no more."""
    _, deployment = _deployment(request)
    given = await json_body(request, _FAILURE)
    message = given.get("message", "ResourceNotReady: User container has crashed or terminated.")
    server, deployment.server = deployment.server, None
    deployment.state, deployment.failure = "Failed", (given.get("code", "ResourceNotReady"), message)
    deployment.note(f"{message}\n")
    if server is not None:
        sandbox_state(request).serving.run(server.retire())
    return JSONResponse({})


async def delete_deployment(request: Request) -> Response:
    """DELETE /azure/online-endpoints/{endpoint}/deployments/{deployment}: gone behind our back, with its traffic."""
    endpoint, deployment = _deployment(request)
    endpoint.split.change({name: share for name, share in endpoint.traffic.items() if name != deployment.name})
    _changes(request).delete_deployment(endpoint, deployment)
    return JSONResponse({})


async def settings(request: Request) -> Response:
    """PUT /azure/online-settings: limits, delays, names that others have, secrets; what is absent stays, {} resets
    all."""
    store, given = _store(request), await json_body(request, _SETTINGS)
    if not given:
        store.reset()
        store.taken = set()
    if "taken_names" in given:
        store.taken = {name.lower() for name in given.pop("taken_names")}
    for name, value in given.items():
        setattr(store, name, value)
    return JSONResponse({})


def _shown(endpoint: OnlineEndpoint) -> dict[str, Any]:
    return {
        "name": endpoint.name,
        "state": endpoint.shown_state,
        "auth_mode": endpoint.properties["authMode"],
        "traffic": endpoint.traffic,
        "tags": endpoint.tags,
        "creator": endpoint.author.name,
        "requests": len(endpoint.samples),
        "keys": [*endpoint.keys.values(), *endpoint.aml_tokens],
        "deployments": [_shown_deployment(endpoint, one) for one in endpoint.deployments.values()],
    }


def _shown_deployment(endpoint: OnlineEndpoint, deployment: OnlineDeployment) -> dict[str, Any]:
    statuses: dict[str, int] = {}
    for sample in endpoint.samples:
        if sample.deployment == deployment.name:
            statuses[str(sample.status)] = statuses.get(str(sample.status), 0) + 1
    return {
        "name": deployment.name,
        "state": deployment.state,
        "model": deployment.properties.get("model"),
        "instance_type": deployment.instance_type,
        "capacity": deployment.instances,
        "reserved_cores": deployment.reserved_cores,
        "environment": deployment.properties.get("environmentVariables") or {},
        "data_collector": deployment.properties.get("dataCollector") or {},
        "tags": deployment.tags,
        "traffic": endpoint.traffic.get(deployment.name, 0),
        "answers": deployment.answers,
        "failure": list(deployment.failure) if deployment.failure else None,
        "statuses": statuses,
    }


def _azure(request: Request) -> AzureState:
    return sandbox_state(request).azure


def _store(request: Request) -> OnlineStore:
    store: OnlineStore = _azure(request).online
    return store


def _changes(request: Request) -> Provisioning:
    changes: Provisioning = _azure(request).online_changes
    return changes


def _endpoint(request: Request) -> OnlineEndpoint:
    name = request.path_params["endpoint"]
    found = _store(request).get(name)
    if found is None:
        raise not_found(f"There is no online endpoint {name}.")
    return found


def _deployment(request: Request) -> tuple[OnlineEndpoint, OnlineDeployment]:
    endpoint, name = _endpoint(request), request.path_params["deployment"]
    found = endpoint.deployment(name)
    if found is None:
        raise not_found(f"The endpoint {endpoint.name} has no deployment {name}.")
    return endpoint, found


def control_routes() -> list[Route]:
    """What this module adds to the control API."""
    one = "/azure/online-endpoints/{endpoint}"
    deployment = f"{one}/deployments/{{deployment}}"
    return [
        Route("/azure/online-endpoints", list_endpoints, methods=["GET"]),
        Route(one, edit_endpoint, methods=["PUT"]),
        Route(one, delete_endpoint, methods=["DELETE"]),
        Route(f"{one}/rollback", roll_back, methods=["POST"]),
        Route(deployment, edit_deployment, methods=["PUT"]),
        Route(deployment, delete_deployment, methods=["DELETE"]),
        Route(f"{deployment}/failure", fail_deployment, methods=["POST"]),
        Route("/azure/online-settings", settings, methods=["PUT"]),
    ]
