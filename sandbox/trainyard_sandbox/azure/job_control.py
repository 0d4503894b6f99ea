"""The control API's part about Azure ML jobs: what was submitted and paid for, scripts, and what happens behind the
operator's back; images, computes and quotas.

server.py mounts it. See control.py for the rules and azure_jobs_client.py for the client.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.compute_store import AzureCompute, ComputeStore
from trainyard_sandbox.azure.computes import parse_compute, settle
from trainyard_sandbox.azure.engine.dispatch import AzureEngine
from trainyard_sandbox.azure.engine.images import Images
from trainyard_sandbox.azure.engine.scripts import END_SHAPE, SCRIPT_SHAPE, parse_end, parse_script
from trainyard_sandbox.azure.errors import ArmError
from trainyard_sandbox.azure.job_store import AzureJob, AzureJobStore
from trainyard_sandbox.azure.state import AzureState
from trainyard_sandbox.errors import invalid_parameter, not_found
from trainyard_sandbox.schema import AnyJson, Bool, Int, MapOf, Number, Obj, Str, json_body
from trainyard_sandbox.state import sandbox_state

_COMPUTE = Obj({"name": Str(min_length=1), "properties": AnyJson(), "identities": MapOf(Str())}, ("name", "properties"))
_COMPUTE_CHANGE = Obj(
    {"provisioning_state": Str(("Succeeded", "Failed", "Creating", "Updating")), "code": Str(), "message": Str()},
    ("provisioning_state",),
)
_SETTINGS = Obj(
    {
        "provisioning_seconds": Number(),
        "node_start_seconds": Number(),
        "serverless_cores": Int(minimum=0),
        "no_serverless_limit": Bool(),
        "family_cores": MapOf(Int(minimum=0)),
        "build_seconds": Number(),
        "fail_builds": Str(),
    }
)


async def list_jobs(request: Request) -> Response:
    """GET /azure/jobs: those that exist, oldest first, and how many were ever created and paid for."""
    store: AzureJobStore = _azure(request).jobs
    jobs = [_shown(job) for job in store.newest_first()]
    return JSONResponse({"created_total": store.created_total, "paid_total": store.paid_total, "jobs": jobs[::-1]})


async def delete_job(request: Request) -> Response:
    """DELETE /azure/jobs/{name}: it is gone behind our back, active or not."""
    azure, job = _job(request)
    azure.engine.forget(job)
    azure.jobs.delete(job)
    return JSONResponse({})


async def show_status(request: Request) -> Response:
    """PUT /azure/jobs/{name}/shown-status: show this status, known or not; without one, the truth again."""
    _, job = _job(request)
    job.shown_status = (await json_body(request, Obj({"status": Str(min_length=1)}))).get("status")
    return JSONResponse({})


async def end_job(request: Request) -> Response:
    """POST /azure/jobs/{name}/end: the service ends it so."""
    azure, job = _job(request)
    end = parse_end(await json_body(request, END_SHAPE))
    if not job.active:
        raise invalid_parameter("The job has ended already.")
    azure.engine.end(job, end)
    return JSONResponse({})


async def preempt_job(request: Request) -> Response:
    """POST /azure/jobs/{name}/preempt: its machines are taken away, and it goes back to the queue."""
    azure, job = _job(request)
    if not azure.engine.preempt(job):
        raise invalid_parameter(f"The job is {job.status}; only a running one can be preempted.")
    return JSONResponse({})


async def add_script(request: Request) -> Response:
    """POST /azure/scripts: jobs that match are pretended; one for all jobs becomes the default of `pretend`."""
    engine: AzureEngine = _azure(request).engine
    script = parse_script(await json_body(request, SCRIPT_SHAPE))
    if script.general:
        engine.default_script = script
    else:
        engine.scripts.append(script)
    return JSONResponse({})


async def clear_scripts(request: Request) -> Response:
    """DELETE /azure/scripts: none but the built-in default."""
    _azure(request).engine.reset_scripts()
    return JSONResponse({})


async def add_compute(request: Request) -> Response:
    """POST /azure/computes: as a PUT of Azure Resource Manager, by the sandbox's owner."""
    azure = _azure(request)
    body = await json_body(request, _COMPUTE)
    try:
        compute = parse_compute(azure.region, azure.computes, body["name"], body["properties"])
    except ArmError as error:
        raise invalid_parameter(error.message) from error
    if body.get("identities"):
        compute.identity = _assigned(azure, body["identities"])
    settle(azure.computes, compute)
    return JSONResponse({})


def _assigned(azure: AzureState, identities: Mapping[str, str]) -> dict[str, Any]:
    """Managed identities by name, as a compute shows those that are assigned to it."""
    group = f"/subscriptions/{azure.subscription_id}/resourceGroups/{azure.resource_group}"
    provider = f"{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
    shown = {
        f"{provider}/{name}": {"clientId": client_id, "principalId": str(uuid.uuid5(uuid.NAMESPACE_URL, client_id))}
        for name, client_id in identities.items()
    }
    return {"type": "UserAssigned", "userAssignedIdentities": shown}


async def change_compute(request: Request) -> Response:
    """PUT /azure/computes/{name}: bring it into a provisioning state, for Failed with an error."""
    azure = _azure(request)
    compute: AzureCompute | None = azure.computes.get(request.path_params["name"])
    if compute is None:
        raise not_found(f"There is no compute {request.path_params['name']}.")
    body = await json_body(request, _COMPUTE_CHANGE)
    settled = body["provisioning_state"] in ("Succeeded", "Failed")
    compute.settled_at = azure.now() if settled else float("inf")
    compute.settles_to = body["provisioning_state"] if settled else "Succeeded"
    compute.until_settled = "Creating" if settled else body["provisioning_state"]
    compute.errors = [(body.get("code", "ClusterError"), body.get("message", ""))] if "code" in body else []
    azure.computes.serve()
    return JSONResponse({})


async def delete_compute(request: Request) -> Response:
    """DELETE /azure/computes/{name}: gone; its jobs go on and find that out."""
    _azure(request).computes.delete(request.path_params["name"])
    return JSONResponse({})


async def settings(request: Request) -> Response:
    """PUT /azure/compute-settings: delays, quotas of vCPUs, image builds ("" lets them succeed again)."""
    azure = _azure(request)
    body = await json_body(request, _SETTINGS)
    computes: ComputeStore = azure.computes
    images: Images = azure.images
    for name in ("provisioning_seconds", "node_start_seconds"):
        setattr(computes, name, float(body.get(name, getattr(computes, name))))
    if "serverless_cores" in body or body.get("no_serverless_limit"):
        computes.serverless_cores = body.get("serverless_cores")
        computes.serve()
    computes.family_cores = body.get("family_cores", computes.family_cores)
    images.build_seconds = float(body.get("build_seconds", images.build_seconds))
    if "fail_builds" in body:
        images.fail_with = body["fail_builds"] or None
    return JSONResponse({"builds": len(images.builds)})


def _azure(request: Request) -> AzureState:
    return sandbox_state(request).azure


def _job(request: Request) -> tuple[AzureState, AzureJob]:
    azure = _azure(request)
    job: AzureJob | None = azure.jobs.get(request.path_params["name"])
    if job is None:
        raise not_found(f"Job {request.path_params['name']} does not exist.")
    return azure, job


def _shown(job: AzureJob) -> dict[str, Any]:
    error = job.error
    return {
        "name": job.name,
        "job_type": job.job_type,
        "display_name": job.display_name,
        "experiment": job.experiment,
        "creator": job.creator,
        "parent": job.parent,
        "children": list(job.children),
        "paid": job.paid,
        "active": job.active,
        "cancel_requested": job.cancel_requested,
        "status": job.status,
        "history": [status for status, _ in job.history],
        "error": None if error is None else {"code": error.code, "message": error.message, "inner": list(error.inner)},
        "tags": dict(job.tags),
        "is_archived": job.is_archived,
        "properties": dict(job.properties),
        "definition": job.definition,
        "log_files": sorted(job.log_files),
    }


def control_routes() -> list[Route]:
    """What this module adds to the control API."""
    return [
        Route("/azure/jobs", list_jobs, methods=["GET"]),
        Route("/azure/jobs/{name}", delete_job, methods=["DELETE"]),
        Route("/azure/jobs/{name}/shown-status", show_status, methods=["PUT"]),
        Route("/azure/jobs/{name}/end", end_job, methods=["POST"]),
        Route("/azure/jobs/{name}/preempt", preempt_job, methods=["POST"]),
        Route("/azure/scripts", add_script, methods=["POST"]),
        Route("/azure/scripts", clear_scripts, methods=["DELETE"]),
        Route("/azure/computes", add_compute, methods=["POST"]),
        Route("/azure/computes/{name}", change_compute, methods=["PUT"]),
        Route("/azure/computes/{name}", delete_compute, methods=["DELETE"]),
        Route("/azure/compute-settings", settings, methods=["PUT"]),
    ]
