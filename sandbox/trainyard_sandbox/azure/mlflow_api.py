"""MLflow's tracking API as an Azure ML workspace serves it, below `/mlflow/v1.0{workspace}/api/2.0/mlflow`.

azure_app.py mounts `routes()`. A call that is not here is not there: see mlflow_unserved.py. A run's own token reaches
its experiment only.

Read in: mlflow 2.22 `protos/service.proto` (fields); Azure Machine Learning documentation, "Query & compare experiments
and runs with MLflow" and "Manage access to Azure Machine Learning workspaces" (operations that MLflow needs). That
runs cannot be deleted, and experiments neither deleted nor renamed, is our narrowing: what the service does then is not
published. The pattern of experiment names is (recalled).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure import history_shapes
from trainyard_sandbox.azure.arm import Action, AzureCall, Handler, data_plane_route
from trainyard_sandbox.azure.mlflow_errors import (
    MlflowError,
    denied,
    experiment_not_found,
    invalid,
)
from trainyard_sandbox.azure.mlflow_tracking import PREFIX, AzureTracking
from trainyard_sandbox.errors import ApiError
from trainyard_sandbox.mlflow_shapes import (
    DATASET_INPUT,
    METRIC_FIELDS,
    RUN_STATUS,
    SEARCH_EXPERIMENTS,
    SEARCH_RUNS,
    TAG,
)
from trainyard_sandbox.schema import Int, ListOf, Obj, Shape, Str
from trainyard_sandbox.state import SandboxState

MLFLOW_PREFIX = "/mlflow/v1.0"
API = "/api/2.0/mlflow"
EXPERIMENT_READ, EXPERIMENT_WRITE = "workspaces/experiments/read", "workspaces/experiments/write"
RUN_READ, RUN_WRITE = "workspaces/experiments/runs/read", "workspaces/experiments/runs/write"

_EXPERIMENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
_NAME_IN_FILTER = re.compile(
    r"(\b(?:attributes?\.)?name\s*(?:=|!=|I?LIKE)\s*)(?:'([^']*)'|\"([^\"]*)\")", re.IGNORECASE
)


@dataclass(frozen=True)
class RunCall:
    """One call on one run that is passed to the MLflow server."""

    method: Literal["GET", "POST"]
    path: str
    fields: Obj


def _on_run(method: Literal["GET", "POST"], path: str, **fields: Shape) -> RunCall:
    """`run_uuid` is the old name of `run_id` and the client sends both (mlflow `service.proto`)."""
    return RunCall(method, path, Obj({"run_id": Str(), "run_uuid": Str(), **fields}, required=["run_id"]))


RUN_CALLS = (
    _on_run("POST", "/runs/log-metric", **METRIC_FIELDS),
    _on_run("POST", "/runs/log-parameter", key=Str(), value=Str()),
    _on_run("POST", "/runs/log-model", model_json=Str()),
    _on_run("POST", "/runs/log-inputs", datasets=ListOf(DATASET_INPUT)),
    _on_run("GET", "/metrics/get-history", metric_key=Str(), max_results=Int(0, 25_000), page_token=Str()),
)
GET_RUN = Obj({"run_id": Str(), "run_uuid": Str()}, required=["run_id"])
UPDATE_RUN = Obj(
    {"run_id": Str(), "run_uuid": Str(), "status": RUN_STATUS, "end_time": Int(), "run_name": Str()},
    required=["run_id"],
)
SET_TAG = Obj(
    {"run_id": Str(), "run_uuid": Str(), "key": Str(min_length=1), "value": Str()}, required=["run_id", "key"]
)
DELETE_TAG = Obj({"run_id": Str(), "key": Str()}, required=["run_id", "key"])
LOG_BATCH = Obj(
    {
        "run_id": Str(),
        "metrics": ListOf(Obj(METRIC_FIELDS, required=["key", "value", "timestamp"]), maximum=1000),
        "params": ListOf(TAG, maximum=100),
        "tags": ListOf(TAG, maximum=100),
    },
    required=["run_id"],
)
CREATE_RUN = Obj(
    {"experiment_id": Str(), "run_name": Str(), "start_time": Int(), "tags": ListOf(TAG), "user_id": Str()},
    required=["experiment_id"],
)
CREATE_EXPERIMENT = Obj({"name": Str(min_length=1), "artifact_location": Str(), "tags": ListOf(TAG)}, required=["name"])
BY_NAME = Obj({"experiment_name": Str()}, required=["experiment_name"])
BY_ID = Obj({"experiment_id": Str()}, required=["experiment_id"])
EXPERIMENT_TAG = Obj({"experiment_id": Str(), "key": Str(), "value": Str()}, required=["experiment_id", "key"])


def attach(state: SandboxState) -> None:
    """Hang the workspace's tracking store on the state; the server itself belongs to the Databricks half."""
    state.azure.mlflow = AzureTracking(state)


def routes() -> list[Route]:
    """The routes of this module."""
    own = [
        served("/experiments/create", POST=(create_experiment, EXPERIMENT_WRITE)),
        served("/experiments/get", GET=(get_experiment, EXPERIMENT_READ, BY_ID)),
        served("/experiments/get-by-name", GET=(experiment_by_name, EXPERIMENT_READ, BY_NAME)),
        served("/experiments/search", POST=(search_experiments, EXPERIMENT_READ)),
        served("/experiments/set-experiment-tag", POST=(set_experiment_tag, EXPERIMENT_WRITE)),
        served("/runs/create", POST=(create_run, RUN_WRITE)),
        served("/runs/get", GET=(get_run, RUN_READ, GET_RUN)),
        served("/runs/update", POST=(update_run, RUN_WRITE)),
        served("/runs/set-tag", POST=(set_tag, RUN_WRITE)),
        served("/runs/delete-tag", POST=(delete_tag, RUN_WRITE)),
        served("/runs/log-batch", POST=(log_batch, RUN_WRITE)),
        served("/runs/search", POST=(search_runs, RUN_READ)),
    ]
    for call in RUN_CALLS:
        if call.method == "GET":
            own.append(served(call.path, GET=(_passed_on(call), RUN_READ, call.fields)))
        else:
            own.append(served(call.path, POST=(_passed_on(call), RUN_WRITE)))
    return own


def served(path: str, **methods: tuple[Handler, str] | tuple[Handler, str, Obj]) -> Route:
    """The route of one call: by HTTP method the handler, the operation and, of a GET, the shape of its query."""
    actions = {}
    for method, (handler, action, *shape) in methods.items():
        names = tuple(shape[0].fields) if shape else ()
        actions[method] = Action(handler, action, query=names, run_token=True)
    return data_plane_route(MLFLOW_PREFIX, API + path, actions)


def tracking_of(call: AzureCall) -> AzureTracking:
    """The tracking store of the workspace."""
    found: AzureTracking = call.azure.mlflow
    return found


async def body_of(call: AzureCall, shape: Obj) -> dict[str, Any]:
    """The JSON body as the shape lets it through.

    Raises:
        MlflowError: 400.
    """
    try:
        value = json.loads(await call.request.body() or b"{}")
    except ValueError:
        raise MlflowError(400, "MALFORMED_REQUEST", "The body is not JSON.") from None
    return _checked(shape, value)


def query_of(call: AzureCall, shape: Obj) -> dict[str, Any]:
    """The query as the shape lets it through.

    Raises:
        MlflowError: 400.
    """
    try:
        return shape.parse_pairs(list(call.query.items()))
    except ApiError as error:
        raise MlflowError(error.status, error.error_code, error.message) from error


def _checked(shape: Obj, value: Any) -> dict[str, Any]:
    try:
        return shape.check(value, "")
    except ApiError as error:
        raise MlflowError(error.status, error.error_code, error.message) from error


def require_experiment(call: AzureCall, name: str) -> None:
    """Keep a run's own token in the experiment of its job.

    Raises:
        MlflowError: 403.
    """
    if call.token.purpose == "run":
        job = tracking_of(call).job(call.token.job or "")
        if job is None or job.experiment != name:
            raise denied(f"The token of run {call.token.job} does not permit access to experiment {name}.")


async def allowed_run(call: AzureCall, run_id: str) -> str:
    """The MLflow server's id of a run that the caller may touch.

    Raises:
        MlflowError: 404, 403.
    """
    tracking = tracking_of(call)
    backend_id = await tracking.backend_run(run_id)
    require_experiment(call, await tracking.experiment_of(run_id))
    return backend_id


def _passed_on(spec: RunCall) -> Handler:
    async def handler(call: AzureCall) -> Response:
        payload = query_of(call, spec.fields) if spec.method == "GET" else await body_of(call, spec.fields)
        payload.pop("run_uuid", None)
        payload["run_id"] = await allowed_run(call, payload["run_id"])
        return JSONResponse(await tracking_of(call).call(spec.method, spec.path, payload))

    return handler


async def get_run(call: AzureCall) -> Response:
    """GetRun."""
    backend_id = await allowed_run(call, query_of(call, GET_RUN)["run_id"])
    tracking = tracking_of(call)
    answer = await tracking.call("GET", "/runs/get", {"run_id": backend_id})
    return JSONResponse({"run": tracking.shown_run(answer["run"])})


async def create_run(call: AzureCall) -> Response:
    """CreateRun: a run that is no job; the workspace says who made it."""
    body = await body_of(call, CREATE_RUN)
    tracking = tracking_of(call)
    experiment = await tracking.backend_experiment(body["experiment_id"])
    require_experiment(call, await tracking.experiment_name(experiment, body["experiment_id"]))
    tags = [tag for tag in body.get("tags", []) if tag.get("key") != "mlflow.user"]
    tags.append({"key": "mlflow.user", "value": call.principal.client_id})
    body |= {"experiment_id": experiment, "user_id": call.principal.object_id, "tags": tags}
    answer = await tracking.call("POST", "/runs/create", body)
    return JSONResponse({"run": tracking.shown_run(answer["run"])})


async def update_run(call: AzureCall) -> Response:
    """UpdateRun: of a job only the name changes, since its state is the service's business."""
    body = await body_of(call, UPDATE_RUN)
    body.pop("run_uuid", None)
    tracking = tracking_of(call)
    run_id = body["run_id"]
    body["run_id"] = await allowed_run(call, run_id)
    job = tracking.job(run_id)
    if job is not None:
        job.display_name = body.get("run_name") or job.display_name
        body = {"run_id": body["run_id"], "run_name": job.display_name}
    answer = await tracking.call("POST", "/runs/update", body)
    shown = await tracking.call("GET", "/runs/get", {"run_id": body["run_id"]}) if job else None
    info = tracking.shown_run(shown["run"] if shown else {"info": answer["run_info"]})["info"]
    return JSONResponse({"run_info": info})


async def set_tag(call: AzureCall) -> Response:
    """SetTag: a tag of a job's run is a tag of the job."""
    body = await body_of(call, SET_TAG)
    await _tag(call, body["run_id"], {body["key"]: body.get("value", "")})
    return JSONResponse({})


async def delete_tag(call: AzureCall) -> Response:
    """DeleteTag."""
    body = await body_of(call, DELETE_TAG)
    backend_id, job = await allowed_run(call, body["run_id"]), tracking_of(call).job(body["run_id"])
    if job is None:
        return JSONResponse(await tracking_of(call).call("POST", "/runs/delete-tag", body | {"run_id": backend_id}))
    if job.tags.pop(body["key"], None) is None:
        message = f"No tag with name: {body['key']} in run with id {job.name}"
        raise MlflowError(404, "RESOURCE_DOES_NOT_EXIST", message)
    return JSONResponse({})


async def log_batch(call: AzureCall) -> Response:
    """LogBatch."""
    body = await body_of(call, LOG_BATCH)
    tags = body.pop("tags", [])
    if any("key" not in tag for tag in tags):
        raise invalid("Missing required field: tags.key")
    run_id = body["run_id"]
    body["run_id"] = await allowed_run(call, run_id)
    answer = await tracking_of(call).call("POST", "/runs/log-batch", body)
    if tags:
        await _tag(call, run_id, {tag["key"]: tag.get("value", "") for tag in tags})
    return JSONResponse(answer)


async def _tag(call: AzureCall, run_id: str, tags: dict[str, str]) -> None:
    tracking = tracking_of(call)
    backend_id, job = await allowed_run(call, run_id), tracking.job(run_id)
    if job is not None:
        job.tags |= tags
        return
    listed = [{"key": key, "value": value} for key, value in tags.items()]
    await tracking.call("POST", "/runs/log-batch", {"run_id": backend_id, "tags": listed})


async def search_runs(call: AzureCall) -> Response:
    """SearchRuns: in experiments of the workspace, jobs in their present state."""
    body = await body_of(call, SEARCH_RUNS)
    tracking = tracking_of(call)
    experiments = []
    for experiment_id in body["experiment_ids"]:
        backend_id = await tracking.backend_experiment(experiment_id)
        name = await tracking.experiment_name(backend_id, experiment_id)
        require_experiment(call, name)
        await tracking.sync(name)
        experiments.append(backend_id)
    body |= {"experiment_ids": experiments, "filter": tracking.backend_filter(body.get("filter", ""))}
    answer = await tracking.call("POST", "/runs/search", body)
    runs = [tracking.shown_run(run) for run in answer.get("runs", []) if not tracking.is_gone(run)]
    return JSONResponse(answer | {"runs": runs})


async def create_experiment(call: AzureCall) -> Response:
    """CreateExperiment."""
    body = await body_of(call, CREATE_EXPERIMENT)
    name = body["name"]
    if _EXPERIMENT_NAME.fullmatch(name) is None:
        raise invalid(
            f"Invalid experiment name '{name}': 1 to 255 letters, digits, '_', '-' and '.', beginning with a letter or "
            "digit."
        )
    if body.get("artifact_location"):
        raise invalid("An experiment's artifacts are in the workspace's own storage: leave out artifact_location.")
    require_experiment(call, name)
    tracking = tracking_of(call)
    if tracking.has_experiment(name):
        raise MlflowError(400, "RESOURCE_ALREADY_EXISTS", f"Experiment '{name}' already exists.")
    backend_id = await tracking.make_experiment(name)
    for tag in body.get("tags", []):
        await tracking.call("POST", "/experiments/set-experiment-tag", {"experiment_id": backend_id, **tag})
    return JSONResponse({"experiment_id": history_shapes.experiment_id(call.azure, name)})


async def get_experiment(call: AzureCall) -> Response:
    """GetExperiment."""
    return await _experiment(call, query_of(call, BY_ID)["experiment_id"])


async def experiment_by_name(call: AzureCall) -> Response:
    """GetExperimentByName."""
    name = query_of(call, BY_NAME)["experiment_name"]
    if not tracking_of(call).has_experiment(name):
        raise experiment_not_found(f"Could not find experiment with name '{name}'")
    return await _experiment(call, history_shapes.experiment_id(call.azure, name))


async def set_experiment_tag(call: AzureCall) -> Response:
    """SetExperimentTag."""
    body = await body_of(call, EXPERIMENT_TAG)
    tracking = tracking_of(call)
    backend_id = await tracking.backend_experiment(body["experiment_id"])
    require_experiment(call, await tracking.experiment_name(backend_id, body["experiment_id"]))
    path = "/experiments/set-experiment-tag"
    return JSONResponse(await tracking.call("POST", path, body | {"experiment_id": backend_id}))


async def search_experiments(call: AzureCall) -> Response:
    """SearchExperiments."""
    body = await body_of(call, SEARCH_EXPERIMENTS)
    tracking = tracking_of(call)
    await tracking.make_all_experiments()
    given = _NAME_IN_FILTER.sub(
        lambda found: f"{found[1]}'{PREFIX}{found[2] or found[3] or ''}'", body.get("filter", "")
    )
    clauses = [f"name LIKE '{PREFIX}%'", *([given] if given else [])]
    answer = await tracking.call(
        "POST", "/experiments/search", {"max_results": 1000, **body, "filter": " AND ".join(clauses)}
    )
    shown = [tracking.shown_experiment(experiment) for experiment in answer.get("experiments", [])]
    return JSONResponse(answer | {"experiments": shown})


async def _experiment(call: AzureCall, experiment_id: str) -> Response:
    tracking = tracking_of(call)
    backend_id = await tracking.backend_experiment(experiment_id)
    require_experiment(call, await tracking.experiment_name(backend_id, experiment_id))
    answer = await tracking.call("GET", "/experiments/get", {"experiment_id": backend_id})
    return JSONResponse({"experiment": tracking.shown_experiment(answer["experiment"])})
