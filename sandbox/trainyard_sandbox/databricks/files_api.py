"""Files API 2.0 for volumes: files and directories under /Volumes over `VolumeStore`.

server.py mounts `routes()`; model_files.py serves /Models. It must never decide who may do what: the store does.

Read in: databricks-sdk `service/files.py` (FilesAPI) and `mixins/files.py` (what its client does with large files: it
asks for presigned URLs and, refused with FILES_API_API_IS_NOT_ENABLED, uploads in one request). This is a workspace
where presigned URLs for volumes are off.
"""

from __future__ import annotations

import uuid
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path

import anyio
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.auth import caller
from trainyard_sandbox.errors import ApiError, invalid_parameter
from trainyard_sandbox.schema import AnyJson, Bool, Int, Obj, Str, json_body, page, query
from trainyard_sandbox.stores.volumes import MAX_FILE_BYTES, ROOT, FileEntry, volumes_of

NOTHING = Obj({})
UPLOAD = Obj({"overwrite": Bool()})
BEGIN = Obj({"action": Str(choices=("initiate-upload",)), "overwrite": Bool()}, required=("action",))
LIST = Obj({"page_size": Int(0), "page_token": Str()})
MAX_PAGE = 1000
"""FilesAPI.list_directory_contents: "The maximum value is 1000"."""


def routes() -> list[Route]:
    """The routes of this module."""
    file = f"/api/2.0/fs/files{ROOT}/{{path:path}}"
    directory = f"/api/2.0/fs/directories{ROOT}/{{path:path}}"
    presigned = ("create-upload-part-urls", "create-abort-upload-url", "create-resumable-upload-url")
    return [
        Route(file, download, methods=["GET"]),  # and HEAD
        Route(file, upload, methods=["PUT"]),
        Route(file, begin_upload, methods=["POST"]),
        Route(file, delete_file, methods=["DELETE"]),
        Route(directory, directory_contents, methods=["GET"]),  # and HEAD
        Route(directory, create_directory, methods=["PUT"]),
        Route(directory, delete_directory, methods=["DELETE"]),
        *(Route(f"/api/2.0/fs/{name}", presigned_url, methods=["POST"]) for name in presigned),
    ]


def _path(request: Request) -> str:
    return f"{ROOT}/{request.path_params['path']}"


async def download(request: Request) -> Response:
    """FilesAPI.download with Range and If-Unmodified-Since, and FilesAPI.get_metadata."""
    principal = caller(request).principal
    query(request, NOTHING)
    file = volumes_of(request).existing_file(_path(request), principal)
    modified = int(file.stat().st_mtime)
    unmodified_since = request.headers.get("if-unmodified-since")
    if unmodified_since and parsedate_to_datetime(unmodified_since).timestamp() < modified:
        raise ApiError(412, "FAILED_PRECONDITION", f"The file was modified: {_path(request)}")
    headers = {"last-modified": formatdate(modified, usegmt=True)}
    return FileResponse(file, media_type="application/octet-stream", headers=headers)


async def upload(request: Request) -> Response:
    """FilesAPI.upload: the body is the file; without `overwrite` an existing one is replaced."""
    principal = caller(request).principal
    overwrite = query(request, UPLOAD).get("overwrite", True)
    await _receive(request, volumes_of(request).target(_path(request), principal, overwrite=overwrite))
    return Response(status_code=204)


async def _receive(request: Request, file: Path) -> None:
    """Write the body beside its place and move it there, so that a broken upload leaves nothing."""
    partial = file.with_name(f".part-{uuid.uuid4().hex}")
    size = 0
    try:
        async with await anyio.open_file(partial, "wb") as sink:
            async for chunk in request.stream():
                size += len(chunk)
                if size > MAX_FILE_BYTES:
                    raise invalid_parameter("A file may have at most 5 GiB.")
                await sink.write(chunk)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


async def begin_upload(request: Request) -> Response:
    """The SDK's multipart upload begins here; it goes no further (`presigned_url`)."""
    principal = caller(request).principal
    overwrite = query(request, BEGIN).get("overwrite", True)
    volumes_of(request).target(_path(request), principal, overwrite=overwrite)
    return JSONResponse({"multipart_upload": {"session_token": uuid.uuid4().hex}})


async def presigned_url(request: Request) -> Response:
    """Refused: presigned URLs are off in this workspace."""
    caller(request)
    fields = ("path", "session_token", "start_part_number", "count", "expire_time")
    await json_body(request, Obj({name: AnyJson() for name in fields}, required=("path",)))
    message = "Presigned URLs API is not enabled in this workspace."
    raise ApiError(403, "PERMISSION_DENIED", message, reason="FILES_API_API_IS_NOT_ENABLED")


async def delete_file(request: Request) -> Response:
    """FilesAPI.delete."""
    principal = caller(request).principal
    query(request, NOTHING)
    volumes_of(request).existing_file(_path(request), principal, "WRITE VOLUME").unlink()
    return Response(status_code=204)


async def create_directory(request: Request) -> Response:
    """FilesAPI.create_directory."""
    principal = caller(request).principal
    query(request, NOTHING)
    volumes_of(request).make_folder(_path(request), principal)
    return Response(status_code=204)


async def delete_directory(request: Request) -> Response:
    """FilesAPI.delete_directory: an empty one."""
    principal = caller(request).principal
    query(request, NOTHING)
    volumes_of(request).delete_folder(_path(request), principal)
    return Response(status_code=204)


async def directory_contents(request: Request) -> Response:
    """FilesAPI.list_directory_contents, and FilesAPI.get_directory_metadata by HEAD."""
    principal = caller(request).principal
    volumes = volumes_of(request)
    if request.method == "HEAD":
        query(request, NOTHING)
        volumes.existing_folder(_path(request), principal)
        return Response(status_code=200)
    asked = query(request, LIST)
    entries = volumes.entries(_path(request), principal)
    length = {"max_results": asked.get("page_size", 0), "page_token": asked.get("page_token", "0")}
    shown, following = page(entries, length, MAX_PAGE, MAX_PAGE)
    return JSONResponse({"contents": [_content(entry) for entry in shown]} | following if shown else {})


def _content(entry: FileEntry) -> dict[str, object]:
    info: dict[str, object] = {
        "path": entry.path,
        "name": entry.path.rpartition("/")[2],
        "is_directory": entry.size is None,
        "last_modified": entry.modified_at,
    }
    return info if entry.size is None else info | {"file_size": entry.size}
