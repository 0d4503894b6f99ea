"""Run history: what Azure ML knows of a job's run, with the URLs of its logs.

azure_app.py mounts `routes()`. A job's name is its run id; runs that code starts beside its job are only in MLflow.
Whoever has a log's URL may read it until the signature expires.

Paths, query parameters and bodies: azure-ai-ml `_restclient/runhistory/operations/_operations.py` (RunsOperations);
`jobs.archive` and `jobs.update` of azure-ai-ml 1.35 go through the PATCH here (`operations/_job_operations.py`), with
a token for the resource manager (`_azure_environments.py`, `credential_scopes`).
"Run ... was not found" with the code UserError: Azure/AutoML-vNext-Preview#3.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure import history_shapes
from trainyard_sandbox.azure.arm import Action, AzureCall, data_plane_route
from trainyard_sandbox.azure.errors import DataPlaneError
from trainyard_sandbox.azure.history_logs import log_urls
from trainyard_sandbox.azure.job_store import AzureJob
from trainyard_sandbox.errors import ApiError
from trainyard_sandbox.schema import Bool, MapOf, Obj, Str

PREFIX = "/history/v1.0"
VERSION = "v1.0"
READ, WRITE = "workspaces/experiments/runs/read", "workspaces/experiments/runs/write"
PAGE = 100

_CHANGE = Obj(
    {
        "runId": Str(),
        "displayName": Str(),
        "description": Str(),
        "tags": MapOf(Str()),
        "properties": MapOf(Str()),
        "hidden": Bool(),
    }
)
"""Of what a run may be given (CreateRun), what is not the service's own business."""

_RUN_DATA = Obj(
    {"runId": Str(), "selectRunMetadata": Bool(), "selectRunDefinition": Bool(), "selectJobSpecification": Bool()},
    required=["runId"],
)
_CHILDREN_QUERY = ("api-version", "$top", "$continuationtoken")


def routes() -> list[Route]:
    """The routes of this module: by run, and by experiment and run."""
    version = ("api-version",)
    declared = [_route("/rundata", {"POST": Action(run_data, READ, query=version)})]
    for place in ("/runs/{run}", "/experiments/{experiment}/runs/{run}", "/experimentids/{experiment_id}/runs/{run}"):
        actions = {"GET": Action(get_run, READ, query=version), "PATCH": Action(change_run, WRITE, query=version)}
        declared += [
            _route(place, actions),
            _route(f"{place}/details", {"GET": Action(get_details, READ, query=version)}),
            _route(f"{place}/children", {"GET": Action(get_children, READ, query=_CHILDREN_QUERY)}),
        ]
    return declared


def _route(path: str, actions: dict[str, Action]) -> Route:
    """Both kinds of tokens are good here: azure-ai-ml asks run history with the resource manager's."""
    return data_plane_route(PREFIX, path, actions, arm_tokens=True)


async def get_run(call: AzureCall) -> Response:
    """Get a run."""
    return JSONResponse(history_shapes.run(call.azure, found(call)))


async def get_details(call: AzureCall) -> Response:
    """Get details: with the URLs of the logs that are there so far."""
    job = found(call)
    return JSONResponse(history_shapes.run_details(call.azure, job, log_urls(call.azure, job)))


async def get_children(call: AzureCall) -> Response:
    """Get the runs that a sweep's or pipeline's run has started, oldest first."""
    job = found(call)
    children = call.azure.jobs.children(job)
    begin, size = _number(call, "$continuationtoken", 0), _number(call, "$top", PAGE) or PAGE
    page = [history_shapes.run(call.azure, child) for child in children[begin : begin + size]]
    token = str(begin + size) if begin + size < len(children) else None
    link = str(call.request.url.include_query_params(**{"$continuationtoken": token})) if token else None
    return JSONResponse({"value": page, "continuationToken": token, "nextLink": link})


async def run_data(call: AzureCall) -> Response:
    """Get parts of what is known of a run; a part that is not asked for is null."""
    body = await _body(call, _RUN_DATA)
    job = _job(call, body["runId"])
    answer = {
        "runMetadata": history_shapes.run(call.azure, job) if body.get("selectRunMetadata") else None,
        "runDefinition": history_shapes.run_definition(job) if body.get("selectRunDefinition") else None,
        "jobSpecification": None,
    }
    return JSONResponse(answer)


async def change_run(call: AzureCall) -> Response:
    """Add or modify a run: what is given replaces, tags and properties are added to; there must be such a run."""
    body = await _body(call, _CHANGE)
    job = found(call)
    given = body.get("properties", {})
    changed = [key for key, value in given.items() if job.properties.get(key, value) != value]
    if changed:
        raise _refused(400, f"The property {changed[0]} of run {job.name} is immutable.", "BadArgument", "Immutable")
    job.display_name = body.get("displayName", job.display_name)
    job.description = body.get("description", job.description)
    job.is_archived = body.get("hidden", job.is_archived)
    job.tags |= body.get("tags", {})
    job.properties |= given
    job.modified_at = call.state.now()
    return JSONResponse(history_shapes.run(call.azure, job))


def found(call: AzureCall) -> AzureJob:
    """The job whose run the path names, in the experiment that it names.

    Raises:
        DataPlaneError: 404.
    """
    job = _job(call, call.path["run"])
    asked = call.path.get("experiment_id", history_shapes.experiment_id(call.azure, job.experiment))
    right = asked == history_shapes.experiment_id(call.azure, job.experiment)
    if not right or call.path.get("experiment", job.experiment) != job.experiment:
        raise _not_found(job.name)
    return job


def _job(call: AzureCall, run_id: str) -> AzureJob:
    if call.query.get("api-version", VERSION) != VERSION:
        raise _refused(400, f"The api-version {call.query['api-version']} is not supported.", "BadArgument")
    job: AzureJob | None = call.azure.jobs.get(run_id)
    if job is None:
        raise _not_found(run_id)
    return job


async def _body(call: AzureCall, shape: Obj) -> dict[str, Any]:
    value = await call.body()
    try:
        return shape.check(value, "")
    except ApiError as error:
        raise _refused(400, error.message, "BadArgument") from error


def _number(call: AzureCall, name: str, default: int) -> int:
    text = call.query.get(name, str(default))
    if not text.isascii() or not text.isdigit():
        raise _refused(400, f"The query parameter {name} must be a number, got '{text}'.", "BadArgument")
    return int(text)


def _not_found(run_id: str) -> DataPlaneError:
    return _refused(404, f"Run {run_id} was not found", "NotFound", "RunNotFound")


def _refused(status: int, message: str, *inner: str) -> DataPlaneError:
    return DataPlaneError(status, "UserError", message, inner=inner)
