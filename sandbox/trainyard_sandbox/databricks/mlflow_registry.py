"""The calls of MLflow's `databricks-uc` registry (/api/2.0/mlflow/unity-catalog) over `ModelCatalog`.

server.py mounts `routes()`. The same store as unity_catalog.py serves, so a version is the same in both views. A
version's files go to the metastore's default storage by presigned URLs (model_files.py); no cloud credentials are
handed out.

Read in: mlflow 2.22 `protos/databricks_uc_registry_{messages,service}.proto` (fields, methods) and
`store/_unity_catalog/registry/rest_store.py` (create, upload, finalize; a missing signature is refused by the client,
`_validate_model_signature`); tags need APPLY TAG (databricks-sdk, docstring of RegisteredModelsAPI).
"""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.auth import caller
from trainyard_sandbox.errors import ApiError, invalid_parameter, not_found
from trainyard_sandbox.schema import Int, ListOf, Obj, Str, json_body, query
from trainyard_sandbox.state import sandbox_state
from trainyard_sandbox.stores.blobs import URL_LIFETIME_SECONDS
from trainyard_sandbox.stores.model_catalog import ModelVersion, RegisteredModel, catalog_of
from trainyard_sandbox.stores.tracking import tracking_of

TAG = Obj({"key": Str(min_length=1), "value": Str()}, required=["key"])
DEPENDENCY = Obj({"type": Str(), "name": Str()})
NAME = Obj({"name": Str()}, required=["name"])
VERSION = Obj({"name": Str(), "version": Int(1)}, required=["name", "version"])
CREATE_MODEL = Obj({"name": Str(), "description": Str(), "tags": ListOf(TAG)}, required=["name"])
UPDATE_MODEL = Obj({"name": Str(), "description": Str(), "new_name": Str()}, required=["name"])
PAGE = Obj({"max_results": Int(0, 1000), "page_token": Str()})
SEARCH_VERSIONS = Obj({"filter": Str(), "max_results": Int(0, 10_000), "page_token": Str()})
CREATE_VERSION = Obj(
    {
        "name": Str(),
        "source": Str(),
        "run_id": Str(),
        "description": Str(),
        "run_tracking_server_id": Str(),
        "feature_deps": Str(),
        "tags": ListOf(TAG),
        "model_version_dependencies": ListOf(DEPENDENCY),
    },
    required=["name", "source"],
)
UPDATE_VERSION = Obj({"name": Str(), "version": Int(1), "description": Str()}, required=["name", "version"])
CREDENTIALS = Obj(
    {
        "name": Str(),
        "version": Int(1),
        "operation": Str(choices=("MODEL_VERSION_OPERATION_READ", "MODEL_VERSION_OPERATION_READ_WRITE")),
    },
    required=["name", "version", "operation"],
)
SET_ALIAS = Obj({"name": Str(), "alias": Str(), "version": Int(1)}, required=["name", "alias", "version"])
ALIAS = Obj({"name": Str(), "alias": Str()}, required=["name", "alias"])
SET_MODEL_TAG = Obj({"name": Str(), "key": Str(min_length=1), "value": Str()}, required=["name", "key"])
DELETE_MODEL_TAG = Obj({"name": Str(), "key": Str()}, required=["name", "key"])
SET_VERSION_TAG = Obj(
    {"name": Str(), "version": Int(1), "key": Str(min_length=1), "value": Str()}, required=["name", "version", "key"]
)
DELETE_VERSION_TAG = Obj({"name": Str(), "version": Int(1), "key": Str()}, required=["name", "version", "key"])
NOTHING = Obj({})

FILTER = re.compile(r"\s*(name|run_id)\s*=\s*(?:'([^']*)'|\"([^\"]*)\")\s*")
"""Of search_model_versions: "Currently supports a single filter condition" (mlflow `rest_store.py`)."""


def routes() -> list[Route]:
    """The routes of this module."""
    base = "/api/2.0/mlflow/unity-catalog"
    models, versions = f"{base}/registered-models", f"{base}/model-versions"
    return [
        Route(f"{models}:is-databricks-sdk-models-artifact-repository-enabled", sdk_repository, methods=["GET"]),
        Route(f"{models}/create", create_model, methods=["POST"]),
        Route(f"{models}/update", update_model, methods=["PATCH"]),
        Route(f"{models}/delete", delete_model, methods=["DELETE"]),
        Route(f"{models}/get", get_model, methods=["GET"]),
        Route(f"{models}/search", search_models, methods=["GET"]),
        Route(f"{models}/alias", set_alias, methods=["POST"]),
        Route(f"{models}/alias", delete_alias, methods=["DELETE"]),
        Route(f"{models}/alias", version_by_alias, methods=["GET"]),
        Route(f"{models}/set-tag", set_model_tag, methods=["POST"]),
        Route(f"{models}/delete-tag", delete_model_tag, methods=["DELETE"]),
        Route(f"{versions}/create", create_version, methods=["POST"]),
        Route(f"{versions}/update", update_version, methods=["PATCH"]),
        Route(f"{versions}/delete", delete_version, methods=["DELETE"]),
        Route(f"{versions}/get", get_version, methods=["GET"]),
        Route(f"{versions}/search", search_versions, methods=["GET"]),
        Route(f"{versions}/generate-temporary-credentials", temporary_credentials, methods=["POST"]),
        Route(f"{versions}/get-download-uri", download_uri, methods=["GET"]),
        Route(f"{versions}/finalize", finalize_version, methods=["POST"]),
        Route(f"{versions}/set-tag", set_version_tag, methods=["POST"]),
        Route(f"{versions}/delete-tag", delete_version_tag, methods=["DELETE"]),
    ]


async def sdk_repository(request: Request) -> Response:
    """Whether the client should move files with the SDK's Files API; it does not here, presigned URLs serve."""
    caller(request)
    query(request, NOTHING)
    return JSONResponse({"is_databricks_sdk_models_artifact_repository_enabled": False})


async def create_model(request: Request) -> Response:
    """CreateRegisteredModel."""
    principal = caller(request).principal
    body = await json_body(request, CREATE_MODEL)
    model = catalog_of(request).create_model(principal, body["name"], body.get("description"))
    model.tags = _tag_map(body)
    return _model_answer(model)


async def update_model(request: Request) -> Response:
    """UpdateRegisteredModel."""
    principal = caller(request).principal
    body = await json_body(request, UPDATE_MODEL)
    catalog = catalog_of(request)
    model = catalog.model(principal, body["name"])
    if "description" in body:
        model.comment = body["description"]
        catalog.touch(principal, model)
    if "new_name" in body:
        catalog.rename_model(principal, model, body["new_name"])
    return _model_answer(model)


async def delete_model(request: Request) -> Response:
    """DeleteRegisteredModel."""
    principal = caller(request).principal
    body = await json_body(request, NAME)
    model = catalog_of(request).delete_model(principal, body["name"])
    tracking_of(request).blobs.delete_tree(model.storage_key())
    return JSONResponse({})


async def get_model(request: Request) -> Response:
    """GetRegisteredModel."""
    principal = caller(request).principal
    return _model_answer(catalog_of(request).model(principal, query(request, NAME)["name"], "EXECUTE"))


async def search_models(request: Request) -> Response:
    """SearchRegisteredModels: all the principal may execute."""
    principal = caller(request).principal
    asked = query(request, PAGE)
    begin, end = _window(asked, 100)
    found = catalog_of(request).models(principal)
    answer: dict[str, Any] = {"registered_models": [_model(model) for model in found[begin:end]]}
    return JSONResponse(answer | ({"next_page_token": str(end)} if end < len(found) else {}))


async def create_version(request: Request) -> Response:
    """CreateModelVersion: PENDING_REGISTRATION until it is finalized."""
    principal = caller(request).principal
    body = await json_body(request, CREATE_VERSION)
    workspace = body.get("run_tracking_server_id", "")
    model, version = catalog_of(request).create_version(
        principal, body["name"], body["source"], body.get("run_id"), int(workspace) if workspace.isdigit() else None
    )
    version.comment = body.get("description")
    version.tags = _tag_map(body)
    return _version_answer(model, version)


async def update_version(request: Request) -> Response:
    """UpdateModelVersion."""
    principal = caller(request).principal
    body = await json_body(request, UPDATE_VERSION)
    catalog = catalog_of(request)
    model, version = catalog.version(principal, body["name"], body["version"])
    version.comment = body.get("description")
    catalog.touch(principal, version)
    return _version_answer(model, version)


async def delete_version(request: Request) -> Response:
    """DeleteModelVersion."""
    principal = caller(request).principal
    body = await json_body(request, VERSION)
    model, version = catalog_of(request).delete_version(principal, body["name"], body["version"])
    tracking_of(request).blobs.delete_tree(model.storage_key(version))
    return JSONResponse({})


async def get_version(request: Request) -> Response:
    """GetModelVersion."""
    principal = caller(request).principal
    asked = query(request, VERSION)
    return _version_answer(*catalog_of(request).version(principal, asked["name"], asked["version"], "EXECUTE"))


async def search_versions(request: Request) -> Response:
    """SearchModelVersions: by name or by run id, newest first, without aliases and tags."""
    principal = caller(request).principal
    asked = query(request, SEARCH_VERSIONS)
    condition = FILTER.fullmatch(asked.get("filter", ""))
    if condition is None:
        raise invalid_parameter(f"Invalid filter: {asked.get('filter', '')}. Use name = '...' or run_id = '...'.")
    wanted = condition[2] or condition[3] or ""
    catalog = catalog_of(request)
    by_name = condition[1] == "name"
    models = [catalog.model(principal, wanted, "EXECUTE")] if by_name else catalog.models(principal)
    found = [
        _version(model, model.versions[number])
        for model in models
        for number in sorted(model.versions, reverse=True)
        if by_name or model.versions[number].run_id == wanted
    ]
    begin, end = _window(asked, 100)
    page = [
        {name: value for name, value in item.items() if name not in ("aliases", "tags")} for item in found[begin:end]
    ]
    answer: dict[str, Any] = {"model_versions": page}
    return JSONResponse(answer | ({"next_page_token": str(end)} if end < len(found) else {}))


async def temporary_credentials(request: Request) -> Response:
    """GenerateTemporaryModelVersionCredentials: default storage, so the client takes presigned URLs instead."""
    principal = caller(request).principal
    body = await json_body(request, CREDENTIALS)
    writes = body["operation"] == "MODEL_VERSION_OPERATION_READ_WRITE"
    needed = "CREATE MODEL VERSION" if writes else "EXECUTE"
    _, version = catalog_of(request).version(principal, body["name"], body["version"], needed)
    if writes and version.status != "PENDING_REGISTRATION":
        raise ApiError(400, "INVALID_STATE", f"Model version {version.version} is {version.status}, not writable.")
    expires = int((sandbox_state(request).now() + URL_LIFETIME_SECONDS) * 1000)
    return JSONResponse({"credentials": {"expiration_time": expires, "storage_mode": "DEFAULT_STORAGE"}})


async def download_uri(request: Request) -> Response:
    """GetModelVersionDownloadUri."""
    principal = caller(request).principal
    asked = query(request, VERSION)
    model, version = catalog_of(request).version(principal, asked["name"], asked["version"], "EXECUTE")
    return JSONResponse({"artifact_uri": model.storage_location(version)})


async def finalize_version(request: Request) -> Response:
    """FinalizeModelVersion: READY."""
    principal = caller(request).principal
    body = await json_body(request, VERSION)
    return _version_answer(*catalog_of(request).finalize_version(principal, body["name"], body["version"]))


async def set_alias(request: Request) -> Response:
    """SetRegisteredModelAlias."""
    principal = caller(request).principal
    body = await json_body(request, SET_ALIAS)
    catalog_of(request).set_alias(principal, body["name"], body["alias"], body["version"])
    return JSONResponse({})


async def delete_alias(request: Request) -> Response:
    """DeleteRegisteredModelAlias."""
    principal = caller(request).principal
    body = await json_body(request, ALIAS)
    catalog_of(request).delete_alias(principal, body["name"], body["alias"])
    return JSONResponse({})


async def version_by_alias(request: Request) -> Response:
    """GetModelVersionByAlias."""
    principal = caller(request).principal
    asked = query(request, ALIAS)
    return _version_answer(*catalog_of(request).version_by_alias(principal, asked["name"], asked["alias"]))


async def set_model_tag(request: Request) -> Response:
    """SetRegisteredModelTag."""
    principal = caller(request).principal
    body = await json_body(request, SET_MODEL_TAG)
    model = catalog_of(request).model(principal, body["name"], "APPLY TAG")
    model.tags[body["key"]] = body.get("value", "")
    return JSONResponse({})


async def delete_model_tag(request: Request) -> Response:
    """DeleteRegisteredModelTag."""
    principal = caller(request).principal
    body = await json_body(request, DELETE_MODEL_TAG)
    model = catalog_of(request).model(principal, body["name"], "APPLY TAG")
    _remove_tag(model.tags, body["key"])
    return JSONResponse({})


async def set_version_tag(request: Request) -> Response:
    """SetModelVersionTag."""
    principal = caller(request).principal
    body = await json_body(request, SET_VERSION_TAG)
    _, version = catalog_of(request).version(principal, body["name"], body["version"], "APPLY TAG")
    version.tags[body["key"]] = body.get("value", "")
    return JSONResponse({})


async def delete_version_tag(request: Request) -> Response:
    """DeleteModelVersionTag."""
    principal = caller(request).principal
    body = await json_body(request, DELETE_VERSION_TAG)
    _, version = catalog_of(request).version(principal, body["name"], body["version"], "APPLY TAG")
    _remove_tag(version.tags, body["key"])
    return JSONResponse({})


def _remove_tag(tags: dict[str, str], key: str) -> None:
    if key not in tags:
        raise not_found(f"No tag with key '{key}'.")
    del tags[key]


def _tag_map(body: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag.get("value", "") for tag in body.get("tags", [])}


def _tags(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


def _window(asked: dict[str, Any], default: int) -> tuple[int, int]:
    """First and last index of the page that is asked for."""
    token = asked.get("page_token", "0")
    if not token.isascii() or not token.isdigit():
        raise invalid_parameter("Invalid page token.")
    begin = int(token)
    return begin, begin + (asked.get("max_results", 0) or default)


def _model_answer(model: RegisteredModel) -> Response:
    return JSONResponse({"registered_model": _model(model)})


def _version_answer(model: RegisteredModel, version: ModelVersion) -> Response:
    return JSONResponse({"model_version": _version(model, version)})


def _model(model: RegisteredModel) -> dict[str, Any]:
    return {
        "name": model.full_name,
        "creation_timestamp": model.created_at,
        "last_updated_timestamp": model.updated_at,
        "user_id": model.owner,
        "description": model.comment or "",
        "aliases": [{"alias": alias, "version": str(number)} for alias, number in model.aliases.items()],
        "tags": _tags(model.tags),
    }


def _version(model: RegisteredModel, version: ModelVersion) -> dict[str, Any]:
    info: dict[str, Any] = {
        "name": model.full_name,
        "version": str(version.version),
        "creation_timestamp": version.created_at,
        "last_updated_timestamp": version.updated_at,
        "user_id": version.created_by,
        "description": version.comment or "",
        "source": version.source,
        "status": version.status,
        "storage_location": model.storage_location(version),
        "aliases": [
            {"alias": alias, "version": str(number)}
            for alias, number in model.aliases.items()
            if number == version.version
        ],
        "tags": _tags(version.tags),
    }
    if version.run_id is not None:
        info["run_id"] = version.run_id
    if version.run_workspace_id is not None:
        info["run_tracking_server_id"] = str(version.run_workspace_id)
    return info
