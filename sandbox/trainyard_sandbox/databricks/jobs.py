"""Jobs 2.2, the part about runs: submit, get, list, cancel, get-output, delete.

The routes only; those of saved jobs are in jobs_saved.py. Shapes are in jobs_shapes.py, refusals in jobs_submit.py,
rendering in jobs_view.py; what a run then does is the engine's business.

Read in: databricks-sdk `service/jobs.py` JobsAPI (docstrings of submit, get_run, list_runs, cancel_run,
cancel_all_runs, get_run_output, delete_run); Databricks knowledge base, "Ensure idempotency for jobs" (every request
with a token answers 200 and the same run id); databricks-sdk `errors/overrides.py` ("Run ... does not exist" with 400);
databricks-sdk-py issues 375 and 997 (get-output of a parent run).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.auth import caller
from trainyard_sandbox.databricks import jobs_shapes as shapes
from trainyard_sandbox.databricks import jobs_view as view
from trainyard_sandbox.databricks.jobs_submit import check_submit
from trainyard_sandbox.engine.runs import Run
from trainyard_sandbox.errors import ApiError, invalid_parameter
from trainyard_sandbox.principals import Principal
from trainyard_sandbox.schema import json_body, query
from trainyard_sandbox.state import SandboxState, sandbox_state

DEFAULT_PAGE = 20
MAX_PAGE = 25


async def submit(request: Request) -> Response:
    """POST /api/2.2/jobs/runs/submit."""
    state, principal = sandbox_state(request), caller(request).principal
    body = await json_body(request, shapes.SUBMIT_RUN)
    token = body.get("idempotency_token")
    known = known_run(state, token)
    if known is not None:
        return JSONResponse({"run_id": known})
    run_as = check_submit(state, principal, body)
    run = state.runs.create(body.get("run_name", "Untitled"), principal.application_id, run_as, body)
    state.engine.submit(run)
    return JSONResponse({"run_id": run.run_id})


def known_run(state: SandboxState, token: str | None) -> int | None:
    """The run that an idempotency token has made already.

    Raises:
        ApiError: 400 when that run was deleted.
    """
    known = state.runs.run_id_of_token(token) if token else None
    if known is not None and state.runs.get(known) is None:
        raise invalid_parameter(f"The run with the idempotency token '{token}' has been deleted.")
    return known


async def get(request: Request) -> Response:
    """GET /api/2.2/jobs/runs/get: of a run, or of one task's run."""
    state, principal = sandbox_state(request), caller(request).principal
    run_id = query(request, shapes.GET_RUN)["run_id"]
    run = state.runs.get(run_id)
    if run is not None:
        view.require(principal, run, "View")
        return JSONResponse(view.render_run(state, run))
    found = state.runs.get_task(run_id)
    if found is None:
        raise _no_such_run(run_id)
    view.require(principal, found[0], "View")
    return JSONResponse(view.render_task_run(state, *found))


async def list_runs(request: Request) -> Response:
    """GET /api/2.2/jobs/runs/list: newest first, 25 at most a page."""
    state, principal = sandbox_state(request), caller(request).principal
    wanted = query(request, shapes.LIST_RUNS)
    if wanted.get("active_only") and wanted.get("completed_only"):
        raise invalid_parameter("active_only and completed_only cannot both be true.")
    if "offset" in wanted and "page_token" in wanted:
        raise invalid_parameter("offset and page_token cannot be combined.")
    limit = wanted.get("limit", DEFAULT_PAGE) or MAX_PAGE
    page, newer, older = _page(_selected(state, principal, wanted), wanted, limit)
    answer: dict[str, Any] = {"has_more": older}
    if page:
        with_tasks = wanted.get("expand_tasks", False)
        answer["runs"] = [view.render_run(state, run, with_tasks) for run in page]
        if older:
            answer["next_page_token"] = _token("before", page[-1])
        if newer:
            answer["prev_page_token"] = _token("after", page[0])
    return JSONResponse(answer)


def _selected(state: SandboxState, principal: Principal, wanted: dict[str, Any]) -> Iterator[Run]:
    for run in state.runs.newest_first():
        started = run.progress.start_time
        if (
            (not wanted.get("active_only") or run.active)
            and (not wanted.get("completed_only") or not run.active)
            and wanted.get("job_id") in (None, run.job_id)
            and wanted.get("run_type") in (None, run.run_type)
            and started >= wanted.get("start_time_from", 0)
            and started <= wanted.get("start_time_to", started)
            and view.may(principal, run, "View")
        ):
            yield run


def _page(runs: Iterator[Run], wanted: dict[str, Any], limit: int) -> tuple[list[Run], bool, bool]:
    """(the page, whether there are newer runs, whether there are older ones)."""
    direction, sequence = _read_token(wanted.get("page_token"))
    if direction == "after":
        newer = [run for run in runs if run.sequence > sequence]
        return newer[-limit:], len(newer) > limit, True
    skipped = wanted.get("offset", 0)
    page = list(islice((run for run in runs if run.sequence < sequence), skipped, skipped + limit + 1))
    return page[:limit], bool(skipped) or "page_token" in wanted, len(page) > limit


def _token(direction: str, run: Run) -> str:
    return base64.urlsafe_b64encode(json.dumps([direction, run.sequence]).encode()).decode()


def _read_token(token: str | None) -> tuple[str, int]:
    if token is None:
        return "before", 2**63
    try:
        direction, sequence = json.loads(base64.urlsafe_b64decode(token))
    except (ValueError, TypeError):
        raise invalid_parameter("The page token is not valid.") from None
    if direction not in ("before", "after") or not isinstance(sequence, int):
        raise invalid_parameter("The page token is not valid.")
    return direction, sequence


async def cancel(request: Request) -> Response:
    """POST /api/2.2/jobs/runs/cancel: of a run or of one task; asynchronous; 200 also when it has ended."""
    state, principal = sandbox_state(request), caller(request).principal
    run_id = (await json_body(request, shapes.ONE_RUN))["run_id"]
    run = _required(state, run_id)
    view.require(principal, run, "Manage Run")
    found = state.runs.get_task(run_id)
    if found is None:
        state.engine.cancel(run, principal.application_id)
    else:
        state.engine.cancel_task(*found, principal.application_id)
    return JSONResponse({})


async def cancel_all(request: Request) -> Response:
    """POST /api/2.2/jobs/runs/cancel-all: of a job, or all queued ones."""
    state, principal = sandbox_state(request), caller(request).principal
    wanted = await json_body(request, shapes.CANCEL_ALL)
    if "job_id" not in wanted and not wanted.get("all_queued_runs"):
        raise invalid_parameter("Either job_id or all_queued_runs must be specified.")
    for run in list(state.runs.newest_first()):
        queued = run.progress.life_cycle_state == "QUEUED" or not wanted.get("all_queued_runs")
        if queued and wanted.get("job_id") in (None, run.job_id) and view.may(principal, run, "Manage Run"):
            state.engine.cancel(run, principal.application_id)
    return JSONResponse({})


async def get_output(request: Request) -> Response:
    """GET /api/2.2/jobs/runs/get-output: of a task's run; a parent run is refused, also one with a single task."""
    state, principal = sandbox_state(request), caller(request).principal
    run_id = query(request, shapes.ONE_RUN)["run_id"]
    if state.runs.get(run_id) is not None:
        raise invalid_parameter(
            "Retrieving the output of runs with multiple tasks is not supported. "
            "Please retrieve the output of each individual task run instead."
        )
    found = state.runs.get_task(run_id)
    if found is None:
        raise _no_such_run(run_id)
    view.require(principal, found[0], "View")
    return JSONResponse(view.render_output(state, *found))


async def delete(request: Request) -> Response:
    """POST /api/2.2/jobs/runs/delete: of a run that has ended."""
    state, principal = sandbox_state(request), caller(request).principal
    run = _required(state, (await json_body(request, shapes.ONE_RUN))["run_id"])
    view.require(principal, run, "Manage")
    if run.active:
        raise ApiError(400, "INVALID_STATE", f"Run {run.run_id} is active and cannot be deleted. Cancel it first.")
    state.runs.delete(run)
    return JSONResponse({})


def _required(state: SandboxState, run_id: int) -> Run:
    run = state.runs.get(run_id)
    if run is None:
        found = state.runs.get_task(run_id)
        if found is None:
            raise _no_such_run(run_id)
        run = found[0]
    return run


def _no_such_run(run_id: int) -> ApiError:
    return invalid_parameter(f"Run {run_id} does not exist.")


def routes() -> list[Route]:
    """The routes of this module."""
    base = "/api/2.2/jobs/runs"
    return [
        Route(f"{base}/submit", submit, methods=["POST"]),
        Route(f"{base}/get", get, methods=["GET"]),
        Route(f"{base}/list", list_runs, methods=["GET"]),
        Route(f"{base}/cancel", cancel, methods=["POST"]),
        Route(f"{base}/cancel-all", cancel_all, methods=["POST"]),
        Route(f"{base}/get-output", get_output, methods=["GET"]),
        Route(f"{base}/delete", delete, methods=["POST"]),
    ]
