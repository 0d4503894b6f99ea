"""The part of the control API about served models of every platform: scripts, what there is, what befalls it.

The sandbox's control.py mounts it. Endpoints and hand edits of one platform are in that platform's own module.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.errors import not_found
from trainyard_sandbox.schema import Obj, Str, json_body, query
from trainyard_sandbox.serving.scripts import PLATFORMS, SCRIPT_SHAPE, parse_script
from trainyard_sandbox.serving.served_model import ServedModel
from trainyard_sandbox.state import sandbox_state

_WHICH = Obj({"platform": Str(choices=PLATFORMS), "endpoint": Str(), "served": Str()})


def routes() -> list[Route]:
    """The routes of this module."""
    return [
        Route("/serving/scripts", add_script, methods=["POST"]),
        Route("/serving/scripts", clear_scripts, methods=["DELETE"]),
        Route("/serving/models", list_models, methods=["GET"]),
        Route("/serving/scale-to-zero", scale_to_zero, methods=["POST"]),
        Route("/serving/crash", crash, methods=["POST"]),
    ]


async def add_script(request: Request) -> Response:
    """POST /serving/scripts: see `Behaviour`; a later one wins, field by field."""
    script = parse_script(await json_body(request, SCRIPT_SHAPE))
    sandbox_state(request).serving.add_script(script)
    return JSONResponse({})


async def clear_scripts(request: Request) -> Response:
    """DELETE /serving/scripts: what serves behaves as it is."""
    sandbox_state(request).serving.clear_scripts()
    return JSONResponse({})


async def list_models(request: Request) -> Response:
    """GET /serving/models: what is there, also what is on its way, oldest first."""
    wanted = query(request, _WHICH)
    return JSONResponse([_shown(model) for model in _matching(request, wanted)])


async def scale_to_zero(request: Request) -> Response:
    """POST /serving/scale-to-zero: as after the idle seconds; 404 when no such model serves."""
    models = _required(request, await json_body(request, _WHICH))
    for model in models:
        await model.scale_to_zero()
    return JSONResponse([_shown(model) for model in models])


async def crash(request: Request) -> Response:
    """POST /serving/crash: the models' processes are killed; they are started again by themselves."""
    models = _required(request, await json_body(request, _WHICH))
    for model in models:
        model.crash()
    return JSONResponse([_shown(model) for model in models])


def _required(request: Request, wanted: dict[str, str]) -> list[ServedModel]:
    found = _matching(request, wanted)
    if not found:
        raise not_found(f"No model is served so: {wanted}.")
    return found


def _matching(request: Request, wanted: dict[str, str]) -> list[ServedModel]:
    live = sandbox_state(request).serving.live(wanted.get("platform"), wanted.get("endpoint"))
    return [model for model in live if wanted.get("served") in (None, model.identity.served)]


def _shown(model: ServedModel) -> dict[str, Any]:
    return {
        "platform": model.identity.platform,
        "endpoint": model.identity.endpoint,
        "served": model.identity.served,
        "state": model.state,
        "message": model.message,
        "requests": model.metrics.total,
        "server_errors": model.metrics.count(status_class=5),
        "cold_starts": model.cold_starts,
        "log": model.log,
    }
