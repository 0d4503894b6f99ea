"""The part of the control API about Model Serving's endpoints: what there is, hand edits, limits.

server.py mounts `control_routes()`. A hand edit is what somebody with the right to it would do in the workspace; who
that is does not matter, so that it asks for no rights but the creator's own.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.databricks import serving_shapes as shapes
from trainyard_sandbox.databricks import serving_view as view
from trainyard_sandbox.databricks.serving import store_of
from trainyard_sandbox.databricks.serving_endpoints import Endpoint
from trainyard_sandbox.schema import Int, MapOf, Number, Obj, Str, json_body
from trainyard_sandbox.state import sandbox_state

_EDIT = Obj({"config": shapes.CONFIG, "tags": MapOf(Str()), "traffic": MapOf(Int(0, 100)), "creator": Str()})
_LIMITS = Obj({"endpoints": Int(0), "concurrency": Int(0), "update_seconds": Number()})


def control_routes() -> list[Route]:
    """The routes of this module, on the control API."""
    return [
        Route("/databricks/endpoints", list_endpoints, methods=["GET"]),
        Route("/databricks/endpoints/{name}", edit, methods=["PATCH"]),
        Route("/databricks/endpoints/{name}", delete, methods=["DELETE"]),
        Route("/databricks/endpoints/{name}/cancel-update", cancel_update, methods=["POST"]),
        Route("/databricks/serving-limits", limits, methods=["PUT"]),
    ]


async def list_endpoints(request: Request) -> Response:
    """GET /databricks/endpoints: with states, shares and tags, by name."""
    return JSONResponse([_shown(endpoint) for endpoint in store_of(request).all()])


async def edit(request: Request) -> Response:
    """PATCH /databricks/endpoints/{name}: a hand edit.

    `config` as in an update; `traffic`, percentages at once, without an update; `tags` replaces all; `creator` shows
    another one.
    """
    store = store_of(request)
    given = await json_body(request, _EDIT)
    endpoint = store.get(request.path_params["name"])
    if "config" in given:
        store.change(endpoint, shapes.checked_config(given["config"]))
    if "traffic" in given and endpoint.config is not None:
        endpoint.config.traffic = dict.fromkeys(endpoint.config.traffic, 0) | given["traffic"]
        endpoint.split.change(endpoint.config.traffic)
    endpoint.tags = dict(given.get("tags", endpoint.tags))
    endpoint.creator = given.get("creator", endpoint.creator)
    return JSONResponse(_shown(endpoint))


async def delete(request: Request) -> Response:
    """DELETE /databricks/endpoints/{name}: behind everyone's back."""
    store = store_of(request)
    store.delete(store.get(request.path_params["name"]))
    return JSONResponse({})


async def cancel_update(request: Request) -> Response:
    """POST /databricks/endpoints/{name}/cancel-update: the platform gives an update up."""
    store = store_of(request)
    endpoint = store.get(request.path_params["name"])
    store.cancel(endpoint)
    return JSONResponse(_shown(endpoint))


async def limits(request: Request) -> Response:
    """PUT /databricks/serving-limits: of endpoints, of provisioned concurrency; how long an update takes at least."""
    store = store_of(request)
    for name, value in (await json_body(request, _LIMITS)).items():
        setattr(store.limits, name, value)
    return JSONResponse({"now": sandbox_state(request).now()})


def _shown(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "name": endpoint.name,
        "id": endpoint.id,
        "creator": endpoint.creator,
        "ready": endpoint.is_ready,
        "config_update": endpoint.update,
        "config_version": endpoint.config.version if endpoint.config else None,
        "tags": dict(endpoint.tags),
        "traffic": dict(endpoint.config.traffic) if endpoint.config else {},
        "served": {name: view.DEPLOYMENTS[model.state][0] for name, model in endpoint.models.items()},
        "pending": {name: view.DEPLOYMENTS[model.state][0] for name, model in endpoint.coming.items()},
    }
