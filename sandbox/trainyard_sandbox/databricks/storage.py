"""Cloud storage as the MLflow client meets it: GET, PUT and DELETE on presigned URLs, errors in S3's XML.

server.py mounts `routes()`; the bytes and the signatures are `BlobStore`'s. It knows no principals: the signature is
all.

Read in: Amazon S3 API reference, "Error responses" and "Authenticating requests: using query parameters" (an
Authorization header beside a presigned query is refused); mlflow `databricks_artifact_repo.py` (an ETag for each part).
"""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from xml.sax.saxutils import escape

import anyio
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from trainyard_sandbox.stores.blobs import STORAGE_PATH
from trainyard_sandbox.stores.tracking import tracking_of


def routes() -> list[Route]:
    """The routes of this module."""
    return [Route(STORAGE_PATH + "{key:path}", storage_object, methods=["GET", "PUT", "DELETE"])]


async def storage_object(request: Request) -> Response:
    """One object of the storage."""
    key: str = request.path_params["key"]
    method = "GET" if request.method == "HEAD" else request.method
    blobs = tracking_of(request).blobs
    if "authorization" in request.headers:
        return _storage_error(400, "InvalidArgument", "Only one auth mechanism allowed")
    asked = request.query_params
    refusal = blobs.refusal(method, key, asked.get("expires", ""), asked.get("signature", ""))
    if refusal is not None:
        return _storage_error(403, "AccessDenied", refusal)
    file = blobs.file(key)
    if method == "PUT":
        return Response(status_code=200, headers={"ETag": await _receive(request, file)})
    if method == "DELETE":
        blobs.delete_tree(key)
        return Response(status_code=204)
    if not file.is_file():
        return _storage_error(404, "NoSuchKey", "The specified key does not exist.")
    return FileResponse(file, media_type="application/octet-stream")


async def _receive(request: Request, file: Path) -> str:
    """Write the body beside its place and move it there, so that a broken upload leaves nothing; returns the ETag."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    digest = hashlib.md5(usedforsecurity=False)
    try:
        async with await anyio.open_file(partial, "wb") as sink:
            async for chunk in request.stream():
                digest.update(chunk)
                await sink.write(chunk)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return f'"{digest.hexdigest()}"'


def _storage_error(status: int, code: str, message: str) -> Response:
    body = (
        f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    )
    return Response(body, status_code=status, media_type="application/xml")
