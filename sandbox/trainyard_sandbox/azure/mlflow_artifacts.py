"""Artifacts of runs, behind MLflow's own artifact protocol: `/api/2.0/mlflow-artifacts/artifacts/...`.

azure_app.py mounts `routes()`. The files are blobs of the workspace's storage account, container `azureml`, below
`ExperimentRun/dcid.<run id>/`, where the service keeps them and the logs too. It must never reach another run's files
than the path names, nor any other blob.

There a run's `artifact_uri` begins with `azureml://`, which only the package azureml-mlflow understands; that package
counts as part of the sandbox, so a run's uri here is one that MLflow's own client understands.

Read in: mlflow 2.22 `store/artifact/http_artifact_repo.py` and `mlflow_artifacts_repo.py` (paths, methods, answers).
"""

from __future__ import annotations

import mimetypes
import posixpath

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.arm import Action, AzureCall, data_plane_route
from trainyard_sandbox.azure.blob_store import AzureBlobs
from trainyard_sandbox.azure.engine.logs import LOG_CONTAINER
from trainyard_sandbox.azure.mlflow_api import MLFLOW_PREFIX, RUN_READ, RUN_WRITE, allowed_run
from trainyard_sandbox.azure.mlflow_errors import MlflowError, invalid
from trainyard_sandbox.azure.mlflow_tracking import ARTIFACT_ROOT

_BASE = "/api/2.0/mlflow-artifacts/artifacts"


def routes() -> list[Route]:
    """The routes of this module."""
    actions = {
        "GET": Action(download, RUN_READ, run_token=True),
        "PUT": Action(upload, RUN_WRITE, run_token=True),
        "DELETE": Action(delete, RUN_WRITE, run_token=True),
    }
    listing = {"GET": Action(list_artifacts, RUN_READ, query=("path",), run_token=True)}
    return [
        data_plane_route(MLFLOW_PREFIX, _BASE, listing),
        data_plane_route(MLFLOW_PREFIX, f"{_BASE}/{{path:path}}", actions),
    ]


async def download(call: AzureCall) -> Response:
    """One artifact's bytes."""
    blob = await _blob(call, call.path["path"])
    if not call.azure.blobs.exists(LOG_CONTAINER, blob):
        raise MlflowError(404, "RESOURCE_DOES_NOT_EXIST", f"No such artifact: '{call.path['path']}'")
    data = await run_in_threadpool(call.azure.blobs.read, LOG_CONTAINER, blob)
    return Response(data, media_type=mimetypes.guess_type(blob)[0] or "application/octet-stream")


async def upload(call: AzureCall) -> Response:
    """Write one artifact, in place of an earlier one."""
    blob = await _blob(call, call.path["path"])
    data = await call.request.body()
    await run_in_threadpool(call.azure.blobs.write, LOG_CONTAINER, blob, data)
    return JSONResponse({})


async def delete(call: AzureCall) -> Response:
    """Delete one artifact, or all below a folder."""
    blob = await _blob(call, call.path["path"])
    if call.azure.blobs.exists(LOG_CONTAINER, blob):
        call.azure.blobs.delete(LOG_CONTAINER, blob)
    else:
        call.azure.blobs.delete_below(LOG_CONTAINER, blob)
    return JSONResponse({})


async def list_artifacts(call: AzureCall) -> Response:
    """One folder: its files with their sizes in bytes, and its folders."""
    prefix = f"{await _blob(call, call.query.get('path', ''))}/"
    blobs: AzureBlobs = call.azure.blobs
    files: dict[str, dict[str, object]] = {}
    for blob in blobs.list(LOG_CONTAINER, prefix):
        first, slash, _ = blob.name.removeprefix(prefix).partition("/")
        files[first] = {"path": first, "is_dir": bool(slash)} | ({} if slash else {"file_size": blob.size})
    return JSONResponse({"files": [files[name] for name in sorted(files)]})


async def _blob(call: AzureCall, path: str) -> str:
    """The blob's path, if the caller may touch the run that it belongs to.

    Raises:
        MlflowError: 400 a path that is none of a run's, 404 no such run, 403.
    """
    text = path.strip("/")
    if text != posixpath.normpath(text) or not text.startswith(ARTIFACT_ROOT):
        raise invalid(f"Invalid path '{path}': artifacts are below {ARTIFACT_ROOT}<run id>.")
    await allowed_run(call, text.removeprefix(ARTIFACT_ROOT).split("/")[0])
    return text
