"""MLflow's model registry as an Azure ML workspace serves it: the workspace's own models, without aliases.

azure_app.py mounts `routes()`. What Azure ML does not serve (aliases, renaming, deleting a registered model) falls to
mlflow_unserved.py.

Read in: mlflow 2.22 `protos/model_registry.proto` (fields, methods); Azure Machine Learning documentation, "Manage
models registry in Azure Machine Learning with MLflow" (stages, limitations). The pattern of names is Azure Resource
Manager's. A search in another order than the newest first is refused.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure import mlflow_models
from trainyard_sandbox.azure.arm import AzureCall
from trainyard_sandbox.azure.assets import AssetContainer, AssetStore, AssetVersion, Author
from trainyard_sandbox.azure.assets_api import check_name
from trainyard_sandbox.azure.errors import ArmError
from trainyard_sandbox.azure.mlflow_api import allowed_run, body_of, query_of, served
from trainyard_sandbox.azure.mlflow_errors import MlflowError, invalid
from trainyard_sandbox.azure.mlflow_filters import parse
from trainyard_sandbox.azure.models import artifact_uri
from trainyard_sandbox.mlflow_shapes import TAG
from trainyard_sandbox.schema import Bool, Int, ListOf, Obj, Shape, Str, page

READ, WRITE, DELETE = "workspaces/models/read", "workspaces/models/write", "workspaces/models/delete"

_NAME: dict[str, Shape] = {"name": Str(min_length=1)}
_VERSION: dict[str, Shape] = _NAME | {"version": Str(min_length=1)}
_TAG: dict[str, Shape] = {"key": Str(min_length=1), "value": Str()}
NAME = Obj(_NAME, required=["name"])
VERSION = Obj(_VERSION, required=["name", "version"])
CREATE_MODEL = Obj({"name": Str(min_length=1), "tags": ListOf(TAG), "description": Str()}, required=["name"])
UPDATE_MODEL = Obj({"name": Str(min_length=1), "description": Str()}, required=["name"])
LATEST = Obj({"name": Str(min_length=1), "stages": ListOf(Str())}, required=["name"])
SEARCH = Obj({"filter": Str(), "max_results": Int(0, 200_000), "order_by": ListOf(Str()), "page_token": Str()})
CREATE_VERSION = Obj(
    {
        "name": Str(min_length=1),
        "source": Str(min_length=1),
        "run_id": Str(),
        "run_link": Str(),
        "description": Str(),
        "tags": ListOf(TAG),
    },
    required=["name", "source"],
)
UPDATE_VERSION = Obj(_VERSION | {"description": Str()}, required=["name", "version"])
STAGE = Obj(_VERSION | {"stage": Str(), "archive_existing_versions": Bool()}, required=["name", "version", "stage"])
MODEL_TAG = Obj(_NAME | _TAG, required=["name", "key"])
VERSION_TAG = Obj(_VERSION | _TAG, required=["name", "version", "key"])


def routes() -> list[Route]:
    """The routes of this module."""
    models, versions = "/registered-models", "/model-versions"
    return [
        served(f"{models}/create", POST=(create_model, WRITE)),
        served(f"{models}/update", PATCH=(update_model, WRITE)),
        served(f"{models}/get", GET=(get_model, READ, NAME)),
        served(f"{models}/search", GET=(search_models, READ, SEARCH)),
        served(f"{models}/get-latest-versions", POST=(latest_versions, READ)),
        served(f"{models}/set-tag", POST=(set_model_tag, WRITE)),
        served(f"{models}/delete-tag", DELETE=(delete_model_tag, WRITE)),
        served(f"{versions}/create", POST=(create_version, WRITE)),
        served(f"{versions}/update", PATCH=(update_version, WRITE)),
        served(f"{versions}/delete", DELETE=(delete_version, DELETE)),
        served(f"{versions}/get", GET=(get_version, READ, VERSION)),
        served(f"{versions}/search", GET=(search_versions, READ, SEARCH)),
        served(f"{versions}/get-download-uri", GET=(download_uri, READ, VERSION)),
        served(f"{versions}/transition-stage", POST=(transition_stage, WRITE)),
        served(f"{versions}/set-tag", POST=(set_version_tag, WRITE)),
        served(f"{versions}/delete-tag", DELETE=(delete_version_tag, WRITE)),
    ]


async def create_model(call: AzureCall) -> Response:
    """CreateRegisteredModel."""
    body = await body_of(call, CREATE_MODEL)
    _check_name(body["name"])
    models = _models(call)
    if models.container(body["name"]) is not None:
        message = f"Registered Model (name={body['name']}) already exists."
        raise MlflowError(400, "RESOURCE_ALREADY_EXISTS", message)
    container = models.ensure_container(body["name"], Author.of(call.principal))
    container.properties |= {"description": body.get("description"), "tags": _tag_map(body)}
    return _model_answer(container)


async def update_model(call: AzureCall) -> Response:
    """UpdateRegisteredModel."""
    body = await body_of(call, UPDATE_MODEL)
    container = _model(call, body["name"])
    container.properties["description"] = body.get("description", container.properties.get("description"))
    return _model_answer(container)


async def get_model(call: AzureCall) -> Response:
    """GetRegisteredModel."""
    return _model_answer(_model(call, query_of(call, NAME)["name"]))


async def search_models(call: AzureCall) -> Response:
    """SearchRegisteredModels: by name."""
    asked = _search(call)
    clauses = parse(asked.get("filter", ""), ("name",))
    found = [
        container
        for _, container in sorted(_models(call).containers.items())
        if all(clause.holds(mlflow_models.model_fields(container)) for clause in clauses)
    ]
    shown, following = page(found, asked, 100, 1000)
    listed = [mlflow_models.shown_model(container) for container in shown]
    return JSONResponse({"registered_models": listed} | following)


async def latest_versions(call: AzureCall) -> Response:
    """GetLatestVersions: the newest of each stage asked for."""
    body = await body_of(call, LATEST)
    newest: dict[str, AssetVersion] = {}
    for version in reversed(_models(call).versions(_model(call, body["name"]).name)):
        newest[mlflow_models.stage_of(version)] = version
    wanted = body.get("stages") or list(newest)
    return _versions_answer([newest[stage] for stage in wanted if stage in newest])


async def set_model_tag(call: AzureCall) -> Response:
    """SetRegisteredModelTag."""
    body = await body_of(call, MODEL_TAG)
    _model(call, body["name"]).properties.setdefault("tags", {})[body["key"]] = body.get("value", "")
    return JSONResponse({})


async def delete_model_tag(call: AzureCall) -> Response:
    """DeleteRegisteredModelTag."""
    body = await body_of(call, MODEL_TAG)
    _model(call, body["name"]).properties.get("tags", {}).pop(body["key"], None)
    return JSONResponse({})


async def create_version(call: AzureCall) -> Response:
    """CreateModelVersion: of what a run has logged; its model is made if it is not there."""
    body = await body_of(call, CREATE_VERSION)
    _check_name(body["name"])
    run_id, path = mlflow_models.located(body["source"], body.get("run_id", ""))
    await allowed_run(call, run_id)
    models, author = _models(call), Author.of(call.principal)
    properties = {
        "description": body.get("description"),
        "tags": _tag_map(body),
        "properties": {},
        "isArchived": False,
        "isAnonymous": False,
        "flavors": mlflow_models.flavors(call.azure, run_id, path),
        "jobName": run_id,
        "modelType": "mlflow_model",
        "modelUri": artifact_uri(call.azure, run_id, path),
    }
    number = models.ensure_container(body["name"], author).next_version
    return _version_answer(models.put(body["name"], number, properties, author))


async def update_version(call: AzureCall) -> Response:
    """UpdateModelVersion."""
    body = await body_of(call, UPDATE_VERSION)
    version = _version(call, body)
    return _version_answer(_changed(call, version, description=body.get("description")))


async def delete_version(call: AzureCall) -> Response:
    """DeleteModelVersion."""
    version = _version(call, await body_of(call, VERSION))
    _models(call).delete(version.name, version.version)
    return JSONResponse({})


async def get_version(call: AzureCall) -> Response:
    """GetModelVersion."""
    return _version_answer(_version(call, query_of(call, VERSION)))


async def search_versions(call: AzureCall) -> Response:
    """SearchModelVersions: by name, run id and tags; the newest first."""
    asked = _search(call)
    clauses = parse(asked.get("filter", ""), ("name", "run_id", "source"))
    found = [
        version
        for container in _models(call).containers.values()
        for version in container.versions.values()
        if all(clause.holds(mlflow_models.version_fields(version)) for clause in clauses)
    ]
    found.sort(key=lambda version: version.created_at, reverse=True)
    shown, following = page(found, asked, 10_000, 200_000)
    return _versions_answer(list(shown), following)


async def download_uri(call: AzureCall) -> Response:
    """GetModelVersionDownloadUri."""
    version = _version(call, query_of(call, VERSION))
    return JSONResponse({"artifact_uri": mlflow_models.source_of(version)})


async def transition_stage(call: AzureCall) -> Response:
    """TransitionModelVersionStage."""
    body = await body_of(call, STAGE)
    stages = {stage.lower(): stage for stage in mlflow_models.STAGES}
    stage = stages.get(body["stage"].lower())
    if stage is None:
        valid = ", ".join(mlflow_models.STAGES)
        raise invalid(f"Invalid Model Version stage: {body['stage']}. Value must be one of {valid}.")
    version = _version(call, body)
    if body.get("archive_existing_versions"):
        for other in _models(call).versions(version.name):
            if other is not version and mlflow_models.stage_of(other) == stage:
                _changed(call, other, stage="Archived")
    return _version_answer(_changed(call, version, stage=None if stage == "None" else stage))


async def set_version_tag(call: AzureCall) -> Response:
    """SetModelVersionTag."""
    body = await body_of(call, VERSION_TAG)
    version = _version(call, body)
    tags = dict(version.properties.get("tags") or {}) | {body["key"]: body.get("value", "")}
    _changed(call, version, tags=tags)
    return JSONResponse({})


async def delete_version_tag(call: AzureCall) -> Response:
    """DeleteModelVersionTag."""
    body = await body_of(call, VERSION_TAG)
    version = _version(call, body)
    kept = {key: value for key, value in (version.properties.get("tags") or {}).items() if key != body["key"]}
    _changed(call, version, tags=kept)
    return JSONResponse({})


def _models(call: AzureCall) -> AssetStore:
    found: AssetStore = call.azure.models
    return found


def _model(call: AzureCall, name: str) -> AssetContainer:
    container = _models(call).container(name)
    if container is None:
        raise MlflowError(404, "RESOURCE_DOES_NOT_EXIST", f"Registered Model with name={name} not found")
    return container


def _version(call: AzureCall, named: dict[str, Any]) -> AssetVersion:
    version = _models(call).get(named["name"], named["version"])
    if version is None:
        message = f"Model Version (name={named['name']}, version={named['version']}) not found"
        raise MlflowError(404, "RESOURCE_DOES_NOT_EXIST", message)
    return version


def _changed(call: AzureCall, version: AssetVersion, **properties: Any) -> AssetVersion:
    return _models(call).put(version.name, version.version, version.properties | properties)


def _check_name(name: str) -> None:
    try:
        check_name(name, "1")
    except ArmError as error:
        raise invalid(error.message) from error


def _search(call: AzureCall) -> dict[str, Any]:
    asked = query_of(call, SEARCH)
    if asked.pop("order_by", None):
        raise invalid("This sandbox lists models in one order only: leave out order_by.")
    if not asked.get("page_token", "0").isdigit():
        raise invalid("Invalid page token, could not be decoded.")
    return asked


def _tag_map(body: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag.get("value", "") for tag in body.get("tags", []) if "key" in tag}


def _model_answer(container: AssetContainer) -> Response:
    return JSONResponse({"registered_model": mlflow_models.shown_model(container)})


def _version_answer(version: AssetVersion) -> Response:
    return JSONResponse({"model_version": mlflow_models.shown_version(version)})


def _versions_answer(versions: list[AssetVersion], following: dict[str, str] | None = None) -> Response:
    shown = [mlflow_models.shown_version(version) for version in versions]
    return JSONResponse({"model_versions": shown} | (following or {}))
