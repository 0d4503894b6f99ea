"""The part of the control API about runs: what was started and paid for, scripts, and what happens behind our back.

control.py mounts it. See there for the rules.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.engine.runs import Run
from trainyard_sandbox.engine.scripts import OUTCOME_SHAPE, SCRIPT_SHAPE, parse_outcome, parse_script
from trainyard_sandbox.errors import invalid_parameter, not_found
from trainyard_sandbox.schema import Obj, Str, json_body
from trainyard_sandbox.state import SandboxState, sandbox_state


def _run(request: Request) -> tuple[SandboxState, Run]:
    state = sandbox_state(request)
    text = request.path_params["run_id"]
    run = state.runs.get(int(text)) if text.isascii() and text.isdigit() else None
    if run is None:
        raise not_found(f"Run {text} does not exist.")
    return state, run


def _shown(run: Run) -> dict[str, Any]:
    outcome = run.progress.outcome
    return {
        "run_id": str(run.run_id),
        "run_name": run.name,
        "creator": run.creator,
        "run_as": run.run_as,
        "paid": run.paid,
        "active": run.active,
        "cancel_requested": run.cancel_requested,
        "life_cycle_state": run.progress.life_cycle_state,
        "result_state": outcome.result_state if outcome else None,
        "message": run.progress.message,
        "idempotency_token": run.request.get("idempotency_token"),
        "request": run.request,
    }


async def list_runs(request: Request) -> Response:
    """GET /runs: those that exist, oldest first, and how many were ever paid for (deleted ones included)."""
    state = sandbox_state(request)
    runs = [_shown(run) for run in state.runs.newest_first()]
    return JSONResponse({"paid_total": state.runs.paid_total, "runs": runs[::-1]})


async def delete_run(request: Request) -> Response:
    """DELETE /runs/{run_id}: it is gone behind our back, active or not."""
    state, run = _run(request)
    state.engine.forget(run)
    state.runs.delete(run)
    return JSONResponse({})


async def show_state(request: Request) -> Response:
    """PUT /runs/{run_id}/shown-state: show this life-cycle state, known or not; without one, the truth again."""
    _, run = _run(request)
    run.shown_state = (await json_body(request, Obj({"life_cycle_state": Str(min_length=1)}))).get("life_cycle_state")
    return JSONResponse({})


async def end_run(request: Request) -> Response:
    """POST /runs/{run_id}/end: the platform ends it with this outcome."""
    state, run = _run(request)
    outcome = parse_outcome(await json_body(request, OUTCOME_SHAPE))
    if not run.active:
        raise invalid_parameter("The run has ended already.")
    state.engine.end(run, outcome)
    return JSONResponse({})


async def add_script(request: Request) -> Response:
    """POST /scripts: runs that match are pretended; without run_name and tag it becomes the default of `pretend`."""
    engine = sandbox_state(request).engine
    script = parse_script(await json_body(request, SCRIPT_SHAPE))
    if script.run_name is None and script.tag is None and script.times is None:
        engine.default_script = script
    else:
        engine.scripts.append(script)
    return JSONResponse({})


async def clear_scripts(request: Request) -> Response:
    """DELETE /scripts: none but the built-in default."""
    engine = sandbox_state(request).engine
    engine.reset_scripts()
    return JSONResponse({})


def routes() -> list[Route]:
    """The routes of this module."""
    return [
        Route("/runs", list_runs, methods=["GET"]),
        Route("/runs/{run_id}", delete_run, methods=["DELETE"]),
        Route("/runs/{run_id}/shown-state", show_state, methods=["PUT"]),
        Route("/runs/{run_id}/end", end_run, methods=["POST"]),
        Route("/scripts", add_script, methods=["POST"]),
        Route("/scripts", clear_scripts, methods=["DELETE"]),
    ]
