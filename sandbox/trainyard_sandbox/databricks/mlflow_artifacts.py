"""Artifacts of runs: presigned URLs for reading and writing, multipart uploads, listing.

server.py mounts `routes()`; what the MLflow client's `DatabricksArtifactRepository` calls for a run whose artifacts
lie in `dbfs:/databricks/mlflow-tracking/<experiment>/<run>/artifacts`. It must never sign a path outside that run's
root.

Read in: mlflow 2.22 `protos/databricks_artifacts.proto` (fields) and `store/artifact/databricks_artifact_repo.py`
(order of calls, what the client does with each credential type); databricks-sdk `service/ml.py`
(ExperimentsAPI.list_artifacts).
"""

from __future__ import annotations

import shutil
import uuid
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.auth import caller
from trainyard_sandbox.errors import invalid_parameter, not_found
from trainyard_sandbox.schema import Int, ListOf, Obj, Str, json_body, query
from trainyard_sandbox.stores.blobs import BlobStore
from trainyard_sandbox.stores.tracking import MLFLOW, artifact_key, tracking_of
from trainyard_sandbox.stores.workspace_tree import Access

MAX_PATHS = 2000
"""Artifact paths in one credentials request (mlflow `_MAX_CREDENTIALS_REQUEST_SIZE`)."""

MAX_PARTS = 10_000
"""Parts of one upload (Amazon S3, "Multipart upload limits")."""

CREDENTIALS = Obj(
    {"run_id": Str(), "path": ListOf(Str(), maximum=MAX_PATHS), "page_token": Str()}, required=["run_id", "path"]
)
LIST = Obj({"run_id": Str(), "run_uuid": Str(), "path": Str(), "page_token": Str()}, required=["run_id"])
CREATE_UPLOAD = Obj(
    {"run_id": Str(), "path": Str(), "num_parts": Int(1, MAX_PARTS)}, required=["run_id", "path", "num_parts"]
)
PART_URL = Obj(
    {"run_id": Str(), "path": Str(), "upload_id": Str(), "part_number": Int(1, MAX_PARTS)},
    required=["run_id", "path", "upload_id", "part_number"],
)
PART_ETAG = Obj({"part_number": Int(1, MAX_PARTS), "etag": Str()}, required=["part_number", "etag"])
COMPLETE_UPLOAD = Obj(
    {"run_id": Str(), "path": Str(), "upload_id": Str(), "part_etags": ListOf(PART_ETAG)},
    required=["run_id", "path", "upload_id", "part_etags"],
)


def routes() -> list[Route]:
    """The routes of this module."""
    base = f"{MLFLOW}/artifacts"
    return [
        Route(f"{base}/credentials-for-write", credentials_for_write, methods=["POST"]),
        Route(f"{base}/credentials-for-read", credentials_for_read, methods=["POST"]),
        Route(f"{base}/list", list_artifacts, methods=["GET"]),
        Route(f"{base}/create-multipart-upload", create_multipart_upload, methods=["POST"]),
        Route(f"{base}/get-presigned-upload-part-url", presigned_upload_part_url, methods=["GET"]),
        Route(f"{base}/complete-multipart-upload", complete_multipart_upload, methods=["POST"]),
    ]


async def credentials_for_write(request: Request) -> Response:
    """GetCredentialsForWrite."""
    return await _credentials(request, "PUT", "Edit")


async def credentials_for_read(request: Request) -> Response:
    """GetCredentialsForRead."""
    return await _credentials(request, "GET", "View")


async def _credentials(request: Request, method: str, access: Access) -> Response:
    principal = caller(request).principal
    body = await json_body(request, CREDENTIALS)
    tracking = tracking_of(request)
    run = await tracking.run(body["run_id"], principal, access)
    infos = [_credential(tracking.blobs, run, path, method, artifact_key(run, path)) for path in body["path"]]
    return JSONResponse({"credential_infos": infos})


async def list_artifacts(request: Request) -> Response:
    """ExperimentsAPI.list_artifacts: one folder; a path that is a file lists itself."""
    principal = caller(request).principal
    asked = query(request, LIST)
    tracking = tracking_of(request)
    run = await tracking.run(asked["run_id"], principal, "View")
    path = asked.get("path", "").strip("/")
    key = artifact_key(run, path)
    file = tracking.blobs.file(key)
    if path and file.is_file():
        files = [{"path": path, "is_dir": False, "file_size": file.stat().st_size}]
    else:
        prefix = f"{path}/" if path else ""
        files = [
            {"path": prefix + entry.name, "is_dir": True}
            if entry.size is None
            else {"path": prefix + entry.name, "is_dir": False, "file_size": entry.size}
            for entry in tracking.blobs.entries(key)
        ]
    return JSONResponse({"root_uri": run["info"]["artifact_uri"], "files": files})


async def create_multipart_upload(request: Request) -> Response:
    """CreateMultipartUpload: a URL for each part, and one to give up."""
    principal = caller(request).principal
    body = await json_body(request, CREATE_UPLOAD)
    tracking = tracking_of(request)
    run = await tracking.run(body["run_id"], principal, "Edit")
    tracking.blobs.file(artifact_key(run, body["path"]))
    upload_id = uuid.uuid4().hex
    parts = [
        _credential(tracking.blobs, run, body["path"], "PUT", _part_key(run, upload_id, number))
        for number in range(1, body["num_parts"] + 1)
    ]
    abort = _credential(tracking.blobs, run, body["path"], "DELETE", _upload_key(run, upload_id))
    return JSONResponse({"upload_id": upload_id, "upload_credential_infos": parts, "abort_credential_info": abort})


async def presigned_upload_part_url(request: Request) -> Response:
    """GetPresignedUploadPartUrl, for a part whose first URL expired."""
    principal = caller(request).principal
    asked = query(request, PART_URL)
    tracking = tracking_of(request)
    run = await tracking.run(asked["run_id"], principal, "Edit")
    key = _part_key(run, asked["upload_id"], asked["part_number"])
    return JSONResponse({"upload_credential_info": _credential(tracking.blobs, run, asked["path"], "PUT", key)})


async def complete_multipart_upload(request: Request) -> Response:
    """CompleteMultipartUpload: the parts, in order of their numbers, become the artifact."""
    principal = caller(request).principal
    body = await json_body(request, COMPLETE_UPLOAD)
    tracking = tracking_of(request)
    run = await tracking.run(body["run_id"], principal, "Edit")
    numbers = [part["part_number"] for part in body["part_etags"]]
    if not numbers or numbers != sorted(set(numbers)):
        raise invalid_parameter("part_etags must name each part once, in ascending order.")
    parts = [_part_key(run, body["upload_id"], number) for number in numbers]
    await run_in_threadpool(_join, tracking.blobs, parts, artifact_key(run, body["path"]))
    tracking.blobs.delete_tree(_upload_key(run, body["upload_id"]))
    return JSONResponse({})


def _join(blobs: BlobStore, parts: list[str], key: str) -> None:
    files = [blobs.file(part) for part in parts]
    if not all(file.is_file() for file in files):
        raise not_found("One or more of the specified parts could not be found.")
    target = blobs.file(key)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as sink:
        for file in files:
            with file.open("rb") as source:
                shutil.copyfileobj(source, sink)


def _upload_key(run: dict[str, Any], upload_id: str) -> str:
    if not upload_id.isalnum():
        raise invalid_parameter(f"Invalid upload_id: {upload_id}")
    return f"multipart-uploads/{run['info']['run_id']}/{upload_id}"


def _part_key(run: dict[str, Any], upload_id: str, number: int) -> str:
    return f"{_upload_key(run, upload_id)}/{number}"


def _credential(blobs: BlobStore, run: dict[str, Any], path: str, method: str, key: str) -> dict[str, Any]:
    return {
        "run_id": run["info"]["run_id"],
        "path": path,
        "signed_uri": blobs.signed_url(method, key),
        "headers": [],
        "type": "AWS_PRESIGNED_URL",
    }
