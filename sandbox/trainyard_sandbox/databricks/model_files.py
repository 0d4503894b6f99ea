"""The part of the Files API that moves the files of model versions, under /Models, by presigned URLs.

server.py mounts `routes()`; what MLflow's `PresignedUrlArtifactRepository` calls. For volumes, which files_api.py
serves, presigned URLs are off. It must never sign a write into a version that is finalized, nor a read of one that is
not.

Read in: mlflow 2.22 `store/artifact/presigned_url_artifact_repo.py` and `protos/databricks_filesystem_service.proto`;
"Only model versions in READY status can be loaded" (databricks-sdk, ModelVersionsAPI.update, `status`).
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.auth import caller
from trainyard_sandbox.errors import ApiError, invalid_parameter, not_found
from trainyard_sandbox.principals import Principal
from trainyard_sandbox.schema import Obj, Str, json_body, query
from trainyard_sandbox.stores.model_catalog import ModelVersion, RegisteredModel, catalog_of
from trainyard_sandbox.stores.tracking import tracking_of

PATH = Obj({"path": Str()}, required=["path"])
PAGE = Obj({"page_token": Str()})


def routes() -> list[Route]:
    """The routes of this module."""
    return [
        Route("/api/2.0/fs/create-upload-url", create_upload_url, methods=["POST"]),
        Route("/api/2.0/fs/create-download-url", create_download_url, methods=["POST"]),
        Route("/api/2.0/fs/directories/{path:path}", list_directory, methods=["GET"]),
    ]


async def create_upload_url(request: Request) -> Response:
    """CreateUploadUrl: only while the version is being registered."""
    principal = caller(request).principal
    body = await json_body(request, PATH)
    model, version, rest = _located(request, body["path"], principal, "CREATE MODEL VERSION")
    if version.status != "PENDING_REGISTRATION":
        raise ApiError(400, "INVALID_STATE", f"Model version {version.version} is {version.status}, not writable.")
    url = tracking_of(request).blobs.signed_url("PUT", f"{model.storage_key(version)}/{rest}")
    return JSONResponse({"url": url, "headers": []})


async def create_download_url(request: Request) -> Response:
    """CreateDownloadUrl: only of a file of a READY version. For volumes the SDK asks in the query, and is refused."""
    principal = caller(request).principal
    if request.query_params.get("path", "").startswith("/Volumes/"):
        message = "Presigned URLs API is not enabled in this workspace."
        raise ApiError(403, "PERMISSION_DENIED", message, reason="FILES_API_API_IS_NOT_ENABLED")
    body = await json_body(request, PATH)
    model, version, rest = _located(request, body["path"], principal, "EXECUTE")
    if version.status != "READY":
        raise ApiError(400, "INVALID_STATE", f"Model version {version.version} is {version.status}, not READY.")
    blobs = tracking_of(request).blobs
    key = f"{model.storage_key(version)}/{rest}"
    if not blobs.file(key).is_file():
        raise ApiError(404, "NOT_FOUND", f"The file {body['path']} does not exist.")
    return JSONResponse({"url": blobs.signed_url("GET", key), "headers": []})


async def list_directory(request: Request) -> Response:
    """ListDirectory of a folder of a version."""
    principal = caller(request).principal
    query(request, PAGE)
    path = "/" + request.path_params["path"].rstrip("/")
    model, version, rest = _located(request, path, principal, "EXECUTE")
    key = model.storage_key(version)
    blobs = tracking_of(request).blobs
    folder = f"{key}/{rest}" if rest else key
    if not blobs.file(folder).is_dir():
        raise ApiError(404, "NOT_FOUND", f"The directory {path} does not exist.")
    contents = [
        {
            "path": f"{path}/{entry.name}",
            "name": entry.name,
            "is_directory": entry.size is None,
            "last_modified": entry.modified_at,
            **({} if entry.size is None else {"file_size": entry.size}),
        }
        for entry in blobs.entries(folder)
    ]
    return JSONResponse({"contents": contents})


def _located(
    request: Request, path: str, principal: Principal, privilege: str
) -> tuple[RegisteredModel, ModelVersion, str]:
    """The version that a path names, and the rest of the path."""
    segments = path.split("/")
    if len(segments) < 6 or segments[:2] != ["", "Models"]:
        raise not_found(f"The sandbox keeps files of model versions only, not {path}.")
    if not segments[5].isascii() or not segments[5].isdigit():
        raise invalid_parameter(f"Invalid model version: {segments[5]}")
    full_name = ".".join(segments[2:5])
    model, version = catalog_of(request).version(principal, full_name, int(segments[5]), privilege)
    return model, version, "/".join(segments[6:])
