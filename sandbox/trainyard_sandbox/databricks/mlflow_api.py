"""MLflow tracking API 2.0: what Databricks offers of it, authenticated, then handed to the real MLflow server.

server.py mounts `routes()`. A call that is not in `CALLS` is not there, as on the platform. It must never pass a field
that it does not know, nor a call whose experiment the principal may not touch.

Read in: databricks-sdk `service/ml.py` (ExperimentsAPI); mlflow 2.22 `protos/service.proto` (fields); Databricks
documentation, "Organize training runs with MLflow experiments" and "Access control lists", "MLflow experiment ACLs".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.auth import caller
from trainyard_sandbox.errors import ApiError, already_exists, invalid_parameter, not_found
from trainyard_sandbox.mlflow_backend import MlflowBackend
from trainyard_sandbox.mlflow_shapes import (
    DATASET_INPUT,
    METRIC_FIELDS,
    RUN_STATUS,
    SEARCH_EXPERIMENTS,
    SEARCH_RUNS,
    TAG,
)
from trainyard_sandbox.principals import Principal
from trainyard_sandbox.schema import Int, ListOf, Obj, Shape, Str, json_body, query
from trainyard_sandbox.state import SandboxState, sandbox_state
from trainyard_sandbox.stores.blobs import BlobStore
from trainyard_sandbox.stores.tracking import MLFLOW, Tracking, is_workspace_experiment, tracking_of
from trainyard_sandbox.stores.workspace_tree import Access, WorkspaceTree, parent_of


@dataclass(frozen=True)
class Call:
    """One call that is passed on: whose permission it needs, named by which field, and its fields."""

    method: Literal["GET", "POST"]
    path: str
    subject: Literal["run", "experiment"]
    access: Access
    fields: Obj


def _run_call(method: Literal["GET", "POST"], path: str, access: Access, **fields: Shape) -> Call:
    """A call on a run; `run_uuid` is the old name of `run_id` and the client sends both (mlflow `service.proto`)."""
    return Call(method, path, "run", access, Obj({"run_id": Str(), "run_uuid": Str(), **fields}, required=["run_id"]))


def _experiment_call(method: Literal["GET", "POST"], path: str, access: Access, **fields: Shape) -> Call:
    return Call(method, path, "experiment", access, Obj({"experiment_id": Str(), **fields}, required=["experiment_id"]))


CALLS = (
    _experiment_call("GET", "/experiments/get", "View"),
    _experiment_call("POST", "/experiments/delete", "Edit"),
    _experiment_call("POST", "/experiments/restore", "Edit"),
    _experiment_call("POST", "/experiments/set-experiment-tag", "Edit", key=Str(), value=Str()),
    _run_call("GET", "/runs/get", "View"),
    _run_call("POST", "/runs/update", "Edit", status=RUN_STATUS, end_time=Int(), run_name=Str()),
    _run_call("POST", "/runs/log-metric", "Edit", **METRIC_FIELDS),
    _run_call("POST", "/runs/log-parameter", "Edit", key=Str(), value=Str()),
    _run_call("POST", "/runs/set-tag", "Edit", key=Str(), value=Str()),
    _run_call("POST", "/runs/delete-tag", "Edit", key=Str()),
    _run_call("POST", "/runs/delete", "Edit"),
    _run_call("POST", "/runs/restore", "Edit"),
    _run_call("POST", "/runs/log-model", "Edit", model_json=Str()),
    _run_call("POST", "/runs/log-inputs", "Edit", datasets=ListOf(DATASET_INPUT)),
    _run_call(
        "POST",
        "/runs/log-batch",
        "Edit",
        metrics=ListOf(Obj(METRIC_FIELDS, required=["key", "value", "timestamp"]), maximum=1000),
        params=ListOf(TAG, maximum=100),
        tags=ListOf(TAG, maximum=100),
    ),
    _run_call("GET", "/metrics/get-history", "View", metric_key=Str(), max_results=Int(0, 25_000), page_token=Str()),
)
"""The limits of log-batch: docstring of ExperimentsAPI.log_batch."""

CREATE_EXPERIMENT = Obj({"name": Str(min_length=1), "artifact_location": Str(), "tags": ListOf(TAG)}, required=["name"])
UPDATE_EXPERIMENT = Obj({"experiment_id": Str(), "new_name": Str()}, required=["experiment_id"])
BY_NAME = Obj({"experiment_name": Str()}, required=["experiment_name"])
CREATE_RUN = Obj(
    {"experiment_id": Str(), "run_name": Str(), "start_time": Int(), "tags": ListOf(TAG), "user_id": Str()}
)


def attach(state: SandboxState) -> None:
    """Hang the tracking store on the state and start its server with the sandbox."""
    if not isinstance(state.files, WorkspaceTree):
        state.files = WorkspaceTree(state.now)
    backend = MlflowBackend(state.data_dir.resolve() / "mlflow")
    blobs = BlobStore(state.data_dir.resolve() / "storage", state.now, lambda: state.base_url)
    state.mlflow = Tracking(backend, state.files, blobs)
    state.on_startup.append(backend.start)
    state.on_shutdown.append(backend.stop)


def routes() -> list[Route]:
    """The routes of this module."""
    own = [
        Route(f"{MLFLOW}/experiments/create", create_experiment, methods=["POST"]),
        Route(f"{MLFLOW}/experiments/update", update_experiment, methods=["POST"]),
        Route(f"{MLFLOW}/experiments/get-by-name", experiment_by_name, methods=["GET"]),
        Route(f"{MLFLOW}/experiments/search", search_experiments, methods=["POST", "GET"]),
        Route(f"{MLFLOW}/runs/create", create_run, methods=["POST"]),
        Route(f"{MLFLOW}/runs/search", search_runs, methods=["POST"]),
    ]
    return own + [Route(MLFLOW + call.path, _passed_on(call), methods=[call.method]) for call in CALLS]


def _passed_on(call: Call) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        principal = caller(request).principal
        payload = query(request, call.fields) if call.method == "GET" else await json_body(request, call.fields)
        tracking = tracking_of(request)
        if call.subject == "run":
            await tracking.require_run(payload["run_id"], principal, call.access)
        else:
            await tracking.require_experiment(payload["experiment_id"], principal, call.access)
        return _answer(request, await tracking.call(call.method, call.path, payload))

    return endpoint


async def create_experiment(request: Request) -> Response:
    """ExperimentsAPI.create_experiment: the folder must exist, the name must be free in the workspace."""
    principal = caller(request).principal
    body = await json_body(request, CREATE_EXPERIMENT)
    if body.get("artifact_location"):
        raise invalid_parameter("The sandbox keeps artifacts in the workspace's own location only.")
    tracking = tracking_of(request)
    name = _free_name(tracking, body["name"], principal)
    tags = [tag for tag in body.get("tags", []) if not tag["key"].startswith("mlflow.owner")]
    tags += [
        {"key": "mlflow.ownerId", "value": principal.scim_id},
        {"key": "mlflow.ownerEmail", "value": principal.application_id},
        {"key": "mlflow.experiment.sourceName", "value": name},
        {"key": "mlflow.experimentType", "value": "MLFLOW_EXPERIMENT"},
    ]
    try:
        answer = await tracking.call("POST", "/experiments/create", {"name": name, "tags": tags})
    except ApiError as error:
        if error.error_code == "RESOURCE_ALREADY_EXISTS":
            raise _name_taken(name) from None
        raise
    return _answer(request, answer)


async def update_experiment(request: Request) -> Response:
    """ExperimentsAPI.update_experiment: rename only."""
    principal = caller(request).principal
    body = await json_body(request, UPDATE_EXPERIMENT)
    tracking = tracking_of(request)
    await tracking.require_experiment(body["experiment_id"], principal, "Edit")
    if "new_name" in body:
        body["new_name"] = _free_name(tracking, body["new_name"], principal)
    old = await tracking.experiment_name(body["experiment_id"])
    answer = await tracking.call("POST", "/experiments/update", body)
    tracking.renamed(body["experiment_id"])
    if "new_name" in body:
        sandbox_state(request).directory.move_grants(old, body["new_name"])
    return _answer(request, answer)


async def experiment_by_name(request: Request) -> Response:
    """ExperimentsAPI.get_by_name."""
    principal = caller(request).principal
    tracking = tracking_of(request)
    name = tracking.experiment_path(query(request, BY_NAME)["experiment_name"])
    tracking.require(name, principal, "View")
    answer = await tracking.call("GET", "/experiments/get-by-name", {"experiment_name": name})
    return _answer(request, answer)


async def search_experiments(request: Request) -> Response:
    """ExperimentsAPI.search_experiments: only what the principal may see; a page may hold fewer than asked for."""
    principal = caller(request).principal
    is_get = request.method == "GET"
    asked = query(request, SEARCH_EXPERIMENTS) if is_get else await json_body(request, SEARCH_EXPERIMENTS)
    tracking = tracking_of(request)
    answer = await tracking.call("POST", "/experiments/search", {"max_results": 1000, **asked})
    visible = [
        experiment
        for experiment in answer.get("experiments", [])
        if is_workspace_experiment(experiment) and tracking.tree.may(principal, experiment["name"], "View")
    ]
    return _answer(request, answer | {"experiments": visible})


async def create_run(request: Request) -> Response:
    """ExperimentsAPI.create_run: the workspace, not the client, says who made it."""
    principal = caller(request).principal
    body = await json_body(request, CREATE_RUN)
    tracking = tracking_of(request)
    await tracking.require_experiment(body.get("experiment_id", ""), principal, "Edit")
    tags = [tag for tag in body.get("tags", []) if tag.get("key") != "mlflow.user"]
    body["tags"] = [*tags, {"key": "mlflow.user", "value": principal.application_id}]
    body["user_id"] = principal.application_id
    body.setdefault("start_time", int(sandbox_state(request).now() * 1000))
    return _answer(request, await tracking.call("POST", "/runs/create", body))


async def search_runs(request: Request) -> Response:
    """ExperimentsAPI.search_runs."""
    principal = caller(request).principal
    body = await json_body(request, SEARCH_RUNS)
    tracking = tracking_of(request)
    for experiment_id in body["experiment_ids"]:
        await tracking.require_experiment(experiment_id, principal, "View")
    return _answer(request, await tracking.call("POST", "/runs/search", body))


def _free_name(tracking: Tracking, name: str, principal: Principal) -> str:
    """The normalized name, if its folder is there, may be added to and nothing else lies there.

    A missing folder's sentence: seen in public as "RESOURCE_DOES_NOT_EXIST: Parent directory ... does not exist."
    """
    path = tracking.experiment_path(name)
    tracking.require(path, principal, "Manage")
    if not tracking.tree.is_folder(parent_of(path), principal):
        raise not_found(f"Parent directory {parent_of(path)} does not exist.")
    if tracking.tree.exists(path):
        raise _name_taken(path)
    return path


def _name_taken(path: str) -> ApiError:
    return already_exists(f"Node named '{path.rpartition('/')[2]}' already exists")


def _answer(request: Request, body: dict[str, Any]) -> Response:
    """The answer with the header from which the client learns the workspace of a run (mlflow `rest_store.py`)."""
    return JSONResponse(body, headers={"x-databricks-org-id": sandbox_state(request).workspace_id})
