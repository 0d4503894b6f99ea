"""Jobs 2.2, the part about jobs that live on the platform: create, get, list, delete, run-now.

The routes only: shapes are in jobs_shapes.py, refusals in jobs_submit.py; a run of a job is made in
engine/triggering.py.

Read in: databricks-sdk `service/jobs.py` JobsAPI (docstrings of create, get, list, delete, run_now), Job, BaseJob;
`errors/overrides.py` ("Job ... does not exist" with 400).
"""

from __future__ import annotations

import base64
from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.auth import caller
from trainyard_sandbox.compute.rights import give
from trainyard_sandbox.databricks import jobs_shapes as shapes
from trainyard_sandbox.databricks.jobs import known_run
from trainyard_sandbox.databricks.jobs_submit import check_job
from trainyard_sandbox.engine.saved_jobs import Job, may, require
from trainyard_sandbox.engine.triggering import trigger
from trainyard_sandbox.errors import invalid_parameter
from trainyard_sandbox.schema import json_body, query
from trainyard_sandbox.state import SandboxState, sandbox_state

DEFAULT_PAGE = 20
_OF_THE_RUN: tuple[str, ...] = ("idempotency_token", "queue", "performance_target")
_NOT_A_SETTING = ("access_control_list", "run_as")
_ONLY_WHEN_EXPANDED = ("tasks", "job_clusters", "environments", "parameters")


async def create(request: Request) -> Response:
    """POST /api/2.2/jobs/create: its creator owns it."""
    state, principal = sandbox_state(request), caller(request).principal
    body = await json_body(request, shapes.CREATE_JOB)
    run_as = check_job(state, principal, body)
    settings = {"name": "Untitled", "max_concurrent_runs": 1, "format": "MULTI_TASK"}
    settings |= {name: value for name, value in body.items() if name not in _NOT_A_SETTING}
    job = state.jobs.create(settings, principal.application_id, run_as)
    give(principal, f"jobs/{job.job_id}", "IS_OWNER")
    _give_as_asked(state, job, body)
    return JSONResponse({"job_id": job.job_id})


def _give_as_asked(state: SandboxState, job: Job, body: dict[str, Any]) -> None:
    for entry in body.get("access_control_list", []):
        name = entry.get("service_principal_name") or entry.get("user_name") or entry.get("group_name")
        identity = state.directory.identity(name)
        if identity is not None:
            identity.grants.setdefault(f"jobs/{job.job_id}", set()).add(entry["permission_level"])


async def get(request: Request) -> Response:
    """GET /api/2.2/jobs/get."""
    state, principal = sandbox_state(request), caller(request).principal
    job = state.jobs.get(query(request, shapes.GET_JOB)["job_id"])
    require(principal, job.job_id, "View")
    return JSONResponse(_shown(job, expanded=True) | {"run_as_user_name": job.run_as})


async def list_jobs(request: Request) -> Response:
    """GET /api/2.2/jobs/list: those that the caller may view, newest first."""
    state, principal = sandbox_state(request), caller(request).principal
    wanted = query(request, shapes.LIST_JOBS)
    if "offset" in wanted and "page_token" in wanted:
        raise invalid_parameter("offset and page_token cannot be combined.")
    limit, start = wanted.get("limit", DEFAULT_PAGE), _start(wanted)
    name = wanted.get("name")
    selected = (
        job
        for job in state.jobs.newest_first()
        if (name is None or job.name.lower() == name.lower()) and may(principal, job.job_id, "View")
    )
    page = list(islice(selected, start, start + limit + 1))
    answer: dict[str, Any] = {"has_more": len(page) > limit}
    if page:
        answer["jobs"] = [_shown(job, wanted.get("expand_tasks", False)) for job in page[:limit]]
    if answer["has_more"]:
        answer["next_page_token"] = _token(start + limit)
    if start:
        answer["prev_page_token"] = _token(max(0, start - limit))
    return JSONResponse(answer)


def _token(start: int) -> str:
    return base64.urlsafe_b64encode(f"jobs:{start}".encode()).decode()


def _start(wanted: dict[str, Any]) -> int:
    if "page_token" not in wanted:
        return int(wanted.get("offset", 0))
    try:
        kind, _, start = base64.urlsafe_b64decode(wanted["page_token"]).decode().partition(":")
        if kind == "jobs":
            return int(start)
    except ValueError:
        pass
    raise invalid_parameter("The page token is not valid.")


def _shown(job: Job, expanded: bool) -> dict[str, Any]:
    hidden = () if expanded else _ONLY_WHEN_EXPANDED
    return {
        "job_id": job.job_id,
        "creator_user_name": job.creator,
        "created_time": job.created_time,
        "settings": {name: value for name, value in job.settings.items() if name not in hidden},
    }


async def delete(request: Request) -> Response:
    """POST /api/2.2/jobs/delete: its runs stay."""
    state, principal = sandbox_state(request), caller(request).principal
    job = state.jobs.get((await json_body(request, shapes.ONE_JOB))["job_id"])
    require(principal, job.job_id, "Manage")
    state.jobs.delete(job)
    return JSONResponse({})


async def run_now(request: Request) -> Response:
    """POST /api/2.2/jobs/run-now."""
    state, principal = sandbox_state(request), caller(request).principal
    body = await json_body(request, shapes.RUN_NOW)
    for name in (*shapes.LEGACY_PARAMETERS, "only", "duration_target"):
        if name in body:
            raise invalid_parameter(f"{name} is not offered by this sandbox; use job_parameters.")
    known = known_run(state, body.get("idempotency_token"))
    if known is not None:
        return JSONResponse({"run_id": known, "number_in_job": known})
    options: dict[str, Any] = {name: body[name] for name in _OF_THE_RUN if name in body}
    run = trigger(state, principal, body["job_id"], body.get("job_parameters", {}), options=options)
    return JSONResponse({"run_id": run.run_id, "number_in_job": run.run_id})


def routes() -> list[Route]:
    """The routes of this module."""
    base = "/api/2.2/jobs"
    return [
        Route(f"{base}/create", create, methods=["POST"]),
        Route(f"{base}/get", get, methods=["GET"]),
        Route(f"{base}/list", list_jobs, methods=["GET"]),
        Route(f"{base}/delete", delete, methods=["POST"]),
        Route(f"{base}/run-now", run_now, methods=["POST"]),
    ]
