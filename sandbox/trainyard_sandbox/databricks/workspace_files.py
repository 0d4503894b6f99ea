"""Workspace API 2.0: mkdirs, import, export, get-status, list, delete over `WorkspaceTree`.

server.py mounts `routes()`. It must never decide who may do what: the tree does.

Read in: databricks-sdk `service/workspace.py` (fields and docstrings of WorkspaceAPI, ObjectInfo, ImportFormat).
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.auth import caller
from trainyard_sandbox.errors import invalid_parameter
from trainyard_sandbox.schema import Bool, Int, Obj, Str, json_body, query
from trainyard_sandbox.state import SandboxState, sandbox_state
from trainyard_sandbox.stores.notebook_text import as_ipynb, as_source, ipynb_language
from trainyard_sandbox.stores.workspace_tree import NOTEBOOK_HEADER, WorkspaceObject, WorkspaceTree, tree_of

IMPORT_FORMATS = ("AUTO", "DBC", "HTML", "JUPYTER", "RAW", "R_MARKDOWN", "SOURCE")
EXPORT_FORMATS = ("AUTO", "DBC", "HTML", "JUPYTER", "RAW", "R_MARKDOWN", "SOURCE")
LANGUAGES = ("PYTHON", "R", "SCALA", "SQL")

MKDIRS = Obj({"path": Str()}, required=["path"])
IMPORT = Obj(
    {
        "path": Str(),
        "content": Str(),
        "format": Str(choices=IMPORT_FORMATS),
        "language": Str(choices=LANGUAGES),
        "overwrite": Bool(),
    },
    required=["path"],
)
DELETE = Obj({"path": Str(), "recursive": Bool()}, required=["path"])
STATUS = Obj({"path": Str()}, required=["path"])
LIST = Obj({"path": Str(), "notebooks_modified_after": Int()}, required=["path"])
EXPORT = Obj({"path": Str(), "format": Str(choices=EXPORT_FORMATS), "direct_download": Bool()}, required=["path"])


def attach(state: SandboxState) -> None:
    """Hang an empty tree on the state."""
    if state.files is None:
        state.files = WorkspaceTree(state.now)


def routes() -> list[Route]:
    """The routes of this API, for server.py."""
    base = "/api/2.0/workspace"
    return [
        Route(f"{base}/mkdirs", mkdirs, methods=["POST"]),
        Route(f"{base}/import", import_object, methods=["POST"]),
        Route(f"{base}/export", export_object, methods=["GET"]),
        Route(f"{base}/get-status", get_status, methods=["GET"]),
        Route(f"{base}/list", list_objects, methods=["GET"]),
        Route(f"{base}/delete", delete_object, methods=["POST"]),
    ]


async def mkdirs(request: Request) -> Response:
    """WorkspaceAPI.mkdirs."""
    principal = caller(request).principal
    body = await json_body(request, MKDIRS)
    _tree(request).mkdirs(body["path"], principal)
    return JSONResponse({})


async def import_object(request: Request) -> Response:
    """WorkspaceAPI.import_ with base64 content (the multipart form of `upload()` is not offered)."""
    principal = caller(request).principal
    body = await json_body(request, IMPORT)
    content = _decoded(body.get("content"))
    path, object_type, language = _import_target(body, content)
    overwrite = body.get("overwrite", False)
    stored = _tree(request).put_content(path, object_type, content, language, overwrite=overwrite, principal=principal)
    return JSONResponse({"object_id": stored.object_id})


async def export_object(request: Request) -> Response:
    """WorkspaceAPI.export of one file, or of one notebook as source or ipynb."""
    principal = caller(request).principal
    asked = query(request, EXPORT)
    found = _tree(request).get(asked["path"], principal)
    content, file_type = _exported(found, asked.get("format", "SOURCE"))
    if asked.get("direct_download", False):
        return Response(content, media_type="application/octet-stream")
    return JSONResponse({"content": base64.b64encode(content).decode("ascii"), "file_type": file_type})


def _exported(found: WorkspaceObject, format_name: str) -> tuple[bytes, str]:
    """Content and file type of an export."""
    if found.content is None:
        raise invalid_parameter(f"The sandbox exports single files and notebooks only: {found.path}")
    if found.object_type == "FILE" and format_name in ("SOURCE", "AUTO", "RAW"):
        name = found.path.rpartition("/")[2]
        return found.content, name.rpartition(".")[2] if "." in name else "file"
    if found.object_type == "NOTEBOOK" and format_name == "JUPYTER":
        return as_ipynb(found.content), "ipynb"
    if found.object_type == "NOTEBOOK" and format_name in ("SOURCE", "AUTO"):
        return as_source(found.content), "py" if found.language == "PYTHON" else (found.language or "").lower()
    raise invalid_parameter(f"{found.path} is a {found.object_type.lower()}, which is not exported as {format_name}.")


async def get_status(request: Request) -> Response:
    """WorkspaceAPI.get_status."""
    principal = caller(request).principal
    return JSONResponse(_object_info(_tree(request).get(query(request, STATUS)["path"], principal)))


async def list_objects(request: Request) -> Response:
    """WorkspaceAPI.list; an empty folder has no `objects` field, as in protobuf JSON."""
    principal = caller(request).principal
    asked = query(request, LIST)
    since = asked.get("notebooks_modified_after", 0)
    children = [
        child
        for child in _tree(request).children(asked["path"], principal)
        if child.object_type != "NOTEBOOK" or child.modified_at > since
    ]
    return JSONResponse({"objects": [_object_info(child) for child in children]} if children else {})


async def delete_object(request: Request) -> Response:
    """WorkspaceAPI.delete."""
    principal = caller(request).principal
    body = await json_body(request, DELETE)
    _tree(request).delete(body["path"], principal, recursive=body.get("recursive", False))
    return JSONResponse({})


def _tree(request: Request) -> WorkspaceTree:
    return tree_of(sandbox_state(request))


def _decoded(content: str | None) -> bytes:
    if content is None:
        raise invalid_parameter("Missing required field: content")
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error:
        raise invalid_parameter("The field 'content' is not base64-encoded.") from None


def _import_target(body: dict[str, Any], content: bytes) -> tuple[str, Literal["FILE", "NOTEBOOK"], str | None]:
    """Path, type and language of what an import makes (docstring of WorkspaceAPI.import_, `format` and `language`).

    Only AUTO removes a notebook's extension from the path (SDK docstring of ImportFormat).
    """
    path: str = body["path"]
    format_name: str = body.get("format", "SOURCE")
    language: str | None = body.get("language")
    if format_name == "RAW":
        return path, "FILE", None
    if format_name == "AUTO":
        if path.endswith(".py") and content.startswith(NOTEBOOK_HEADER):
            return path.removesuffix(".py"), "NOTEBOOK", "PYTHON"
        if path.endswith(".ipynb"):
            return path.removesuffix(".ipynb"), "NOTEBOOK", ipynb_language(content)
        return path, "FILE", None
    if format_name == "JUPYTER":
        return path, "NOTEBOOK", ipynb_language(content)
    if format_name == "SOURCE":
        if language is None:
            raise invalid_parameter("The language field must be set to import a single file as SOURCE.")
        return path, "NOTEBOOK", language
    raise invalid_parameter(f"The sandbox imports AUTO, JUPYTER, RAW and SOURCE only, not {format_name}.")


def _object_info(found: WorkspaceObject) -> dict[str, Any]:
    info: dict[str, Any] = {
        "path": found.path,
        "object_type": found.object_type,
        "object_id": found.object_id,
        "resource_id": str(found.object_id),
    }
    if found.object_type == "FILE":
        info |= {"created_at": found.created_at, "modified_at": found.modified_at, "size": len(found.content or b"")}
    if found.object_type == "NOTEBOOK":
        info |= {"language": found.language, "modified_at": found.modified_at}
    return info
