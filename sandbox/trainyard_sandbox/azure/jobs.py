"""Jobs in Azure Resource Manager: create, change, read, list, cancel, delete; and the engine that runs them.

Paths, parameters and status codes: azure-ai-ml `_restclient/arm_ml_service/operations/_operations.py`, JobsOperations;
api-versions as azure-ai-ml 1.35 sends them. That a list filters by tag, type and properties but not by status, and that
`ActiveOnly` means not archived, is in the published API description of Jobs_List. That a job which has ended, or is
Finalizing, cannot be cancelled: Azure/azureml-assets#2496. The order (newest first) and that jobs started by others are
left out is (recalled); so is the length of a page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure import job_rules
from trainyard_sandbox.azure.arm import Action, AzureCall, arm_route
from trainyard_sandbox.azure.engine.command import CommandJobs
from trainyard_sandbox.azure.engine.dispatch import AzureEngine
from trainyard_sandbox.azure.engine.images import Images
from trainyard_sandbox.azure.engine.live import JobType
from trainyard_sandbox.azure.engine.logs import JobLogs
from trainyard_sandbox.azure.errors import not_found, user_error
from trainyard_sandbox.azure.job_operations import accepted
from trainyard_sandbox.azure.job_shapes import parse_properties
from trainyard_sandbox.azure.job_store import TERMINAL_STATUSES, AzureJob, AzureJobStore
from trainyard_sandbox.azure.job_view import rendered
from trainyard_sandbox.state import SandboxState

VERSIONS = (
    "2022-05-01",
    "2022-10-01",
    "2023-02-01-preview",
    "2023-04-01",
    "2023-04-01-preview",
    "2023-06-01-preview",
    "2023-08-01-preview",
    "2023-10-01",
    "2024-01-01-preview",
    "2024-04-01",
    "2024-10-01",
    "2024-10-01-preview",
    "2025-01-01-preview",
)
PAGE = 30
LIST_VIEWS = ("ActiveOnly", "ArchivedOnly", "All")
_LIST_QUERY = ("$skip", "jobType", "tag", "listViewType", "properties")


async def put_job(call: AzureCall) -> Response:
    """PUT /jobs/{name}: 201 for a new job, 200 when one was changed."""
    name = call.path["name"]
    job_rules.check_name(name)
    body = await call.body()
    job_type = _job_type(call, body)
    properties = parse_properties(body, job_type.shape)
    store: AzureJobStore = call.azure.jobs
    job = store.get(name)
    if job is not None:
        job_rules.check_change(job, properties)
        store.change(job, properties)
        return JSONResponse(rendered(call.azure, job), 200)
    job_type.check(call, properties)
    job_rules.check_identity(call, properties)
    job = store.create(name, properties, call.principal.client_id, call.principal.object_id)
    call.azure.engine.submit(job)
    return JSONResponse(rendered(call.azure, job), 201)


async def get_job(call: AzureCall) -> Response:
    """GET /jobs/{name}."""
    return JSONResponse(rendered(call.azure, found(call)))


async def list_jobs(call: AzureCall) -> Response:
    """GET /jobs: newest first, pages by `nextLink`."""
    skip = call.query.get("$skip", "0")
    if not (skip.isascii() and skip.isdigit()):
        raise user_error(f"The continuation token '{skip}' is not valid.")
    begin = int(skip)
    page = list(islice(_listed(call), begin, begin + PAGE + 1))
    answer: dict[str, Any] = {"value": [rendered(call.azure, job) for job in page[:PAGE]]}
    if len(page) > PAGE:
        url = call.request.url.include_query_params(**{"$skip": str(begin + PAGE)})
        answer["nextLink"] = str(url)
    return JSONResponse(answer)


async def cancel_job(call: AzureCall) -> Response:
    """POST /jobs/{name}/cancel: 202, and the operation's result is there when the job has ended."""
    job = found(call)
    if job.status in (*TERMINAL_STATUSES, "Finalizing"):
        message = f"Job {job.name} is in status {job.status} and cannot be canceled."
        raise user_error(message, "BadArgument", "InvalidJobStatus")
    call.azure.engine.cancel(job)
    return accepted(call, f"cancel:{job.name}", lambda: not job.active)


async def delete_job(call: AzureCall) -> Response:
    """DELETE /jobs/{name}: of one that has ended. That an active one is refused is our reading."""
    job = found(call)
    if job.active:
        message = f"Job {job.name} is in status {job.status}. Only a job that has ended can be deleted."
        raise user_error(message, "BadArgument", "InvalidJobStatus")
    call.azure.engine.forget(job)
    call.azure.jobs.delete(job)
    return accepted(call, f"delete:{job.name}", lambda: True)


def found(call: AzureCall) -> AzureJob:
    """The job that the path names.

    Raises:
        ArmError: 404 UserError.
    """
    job: AzureJob | None = call.azure.jobs.get(call.path["name"])
    if job is None:
        # Sentence seen in Azure/azureml-previews#267.
        raise not_found(f"Job {call.path['name']} not found.")
    return job


def _job_type(call: AzureCall, body: Any) -> JobType:
    properties = body.get("properties") if isinstance(body, dict) else None
    if not isinstance(properties, dict):
        raise user_error("The request is invalid: the body needs an object 'properties'.")
    unknown = sorted(set(body) - {"properties", "id", "name", "type", "systemData"})
    if unknown:
        raise user_error(f"The request is invalid: unknown field '{unknown[0]}'.")
    kind = properties.get("jobType")
    job_type: JobType | None = call.azure.job_types.get(kind) if isinstance(kind, str) else None
    if job_type is None:
        known = ", ".join(sorted(call.azure.job_types))
        raise user_error(f"The jobType '{kind}' is not supported by this sandbox. Supported: {known}.")
    return job_type


def _listed(call: AzureCall) -> Iterator[AzureJob]:
    view = call.query.get("listViewType", "ActiveOnly")
    if view not in LIST_VIEWS:
        message = f"Invalid value '{view}' for listViewType. Valid values: {', '.join(LIST_VIEWS)}."
        raise user_error(message, "BadArgument")
    wanted = [_view_filter(view)]
    if "tag" in call.query:
        tag = call.query["tag"]
        wanted.append(lambda job: tag in job.tags)
    if "jobType" in call.query:
        kind = call.query["jobType"].lower()
        wanted.append(lambda job: job.job_type.lower() == kind)
    for entry in filter(None, call.query.get("properties", "").split(",")):
        wanted.append(_property_filter(entry))
    jobs: AzureJobStore = call.azure.jobs
    return (job for job in jobs.newest_first() if job.parent is None and all(fits(job) for fits in wanted))


def _view_filter(view: str) -> Callable[[AzureJob], bool]:
    return lambda job: view == "All" or job.is_archived == (view == "ArchivedOnly")


def _property_filter(entry: str) -> Callable[[AzureJob], bool]:
    """`name`, or `name=value` (published description of the parameter `properties`)."""
    name, equals, value = entry.partition("=")
    return lambda job: name in job.properties and (not equals or job.properties[name] == value)


def attach(state: SandboxState) -> None:
    """Give the sandbox a store of jobs and the engine that runs them."""
    azure = state.azure
    azure.jobs = AzureJobStore(state.now)
    azure.images = Images(state.data_dir / "azure-images")
    azure.logs = JobLogs(azure)
    azure.engine = AzureEngine(state, state.engine.kind)
    azure.job_types["Command"] = CommandJobs(state)
    state.on_shutdown.append(azure.engine.stop)


def routes() -> list[Route]:
    """The routes of this module."""
    jobs = "workspaces/jobs"
    return [
        arm_route("/jobs", {"GET": Action(list_jobs, f"{jobs}/read", VERSIONS, _LIST_QUERY)}),
        arm_route(
            "/jobs/{name}",
            {
                "GET": Action(get_job, f"{jobs}/read", VERSIONS),
                "PUT": Action(put_job, f"{jobs}/write", VERSIONS),
                "DELETE": Action(delete_job, f"{jobs}/delete", VERSIONS),
            },
        ),
        arm_route("/jobs/{name}/cancel", {"POST": Action(cancel_job, f"{jobs}/cancel/action", VERSIONS)}),
    ]
