"""Blob storage over HTTP: block blobs of the workspace's account at `/blob/{account}/{container}/{blob}`.

Requests come with a shared access signature, or with a token for Azure Storage whose principal has a data role. What
the sandbox does not serve (page and append blobs, leases, snapshots, tiers, shared keys) is refused.

Azure Storage REST reference: "Put Blob", "Put Block", "Put Block List", "Get Blob", "Get Blob Properties", "Set Blob
Metadata", "Delete Blob", "List Blobs", "Specifying conditional headers for Blob Storage operations", "Specifying the
range header for Blob Storage operations", "Blob Storage error codes".
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trainyard_sandbox.azure.arm import authenticated
from trainyard_sandbox.azure.blob_listing import LIST_PARAMETERS, list_blobs
from trainyard_sandbox.azure.blob_sas import SAS_FIELDS, Need
from trainyard_sandbox.azure.blob_store import AzureBlobs, BlobInfo, Description
from trainyard_sandbox.azure.errors import StorageError, http_time
from trainyard_sandbox.azure.state import STORAGE_RESOURCE, AzureState
from trainyard_sandbox.state import sandbox_state

MAX_PUT_BYTES = 5000 * 2**20
_CONTENT_HEADERS = {
    "x-ms-blob-content-encoding": "content-encoding",
    "x-ms-blob-content-language": "content-language",
    "x-ms-blob-content-disposition": "content-disposition",
    "x-ms-blob-cache-control": "cache-control",
    "x-ms-blob-content-md5": "content-md5",
}
_KNOWN_HEADERS = {
    "x-ms-version",
    "x-ms-date",
    "x-ms-client-request-id",
    "x-ms-return-client-request-id",
    "x-ms-blob-type",
    "x-ms-blob-content-type",
    "x-ms-blob-content-length",
    "x-ms-range",
    "x-ms-range-get-content-md5",
    "x-ms-delete-snapshots",
    *_CONTENT_HEADERS,
}
_REFUSED_CONDITIONS = ("if-modified-since", "if-unmodified-since", "x-ms-if-tags")
_BLOB_ACTION = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"


@dataclass(frozen=True)
class BlobCall:
    """One request for a container (`name` is empty) or a blob, let through."""

    request: Request
    azure: AzureState
    container: str
    name: str

    @property
    def blobs(self) -> AzureBlobs:
        """The account."""
        return self.azure.blobs


@dataclass(frozen=True)
class _Operation:
    handler: Callable[[BlobCall], Awaitable[Response]]
    permissions: str
    action: str
    parameters: frozenset[str] = frozenset()


def routes() -> list[Route]:
    """Mounted by server.py."""
    methods = ["GET", "HEAD", "PUT", "DELETE", "POST"]
    return [
        Route("/blob/{account}/{container}", endpoint, methods=methods),
        Route("/blob/{account}/{container}/{name:path}", endpoint, methods=methods),
    ]


async def endpoint(request: Request) -> Response:
    """Every request to the account: which operation, whether it is permitted, and its answer."""
    azure = sandbox_state(request).azure
    container, name = request.path_params["container"], request.path_params.get("name", "")
    if request.path_params["account"] != azure.storage_account:
        raise StorageError(404, "ResourceNotFound", "The specified resource does not exist.")
    operation = _operation(request, name)
    _permitted(request, azure, operation, Need(operation.permissions, container, name or None))
    _known_only(request, operation)
    azure.blobs.require_container(container)
    response = await operation.handler(BlobCall(request, azure, container, name))
    response.headers["x-ms-version"] = request.headers.get("x-ms-version", "2021-08-06")
    return response


def _operation(request: Request, name: str) -> _Operation:
    query = request.query_params
    key = (request.method, query.get("restype", ""), query.get("comp", ""))
    found = (BLOB_OPERATIONS if name else CONTAINER_OPERATIONS).get(key)
    if found is None:
        raise StorageError(
            400, "UnsupportedQueryParameter", "One of the query parameters specified in the request is not supported."
        )
    return found


def _permitted(request: Request, azure: AzureState, operation: _Operation, need: Need) -> None:
    scheme = request.headers.get("authorization", "").partition(" ")[0].lower()
    if scheme == "bearer":
        principal, _ = authenticated(request, {STORAGE_RESOURCE, STORAGE_RESOURCE + "/"}, StorageError)
        if not principal.may(f"{_BLOB_ACTION}/{operation.action}", azure.storage_scope, data=True):
            message = "This request is not authorized to perform this operation using this permission."
            raise StorageError(403, "AuthorizationPermissionMismatch", message)
    elif scheme:
        message = "Key based authentication is not permitted on this storage account."
        raise StorageError(403, "KeyBasedAuthenticationNotPermitted", message)
    elif "sig" not in request.query_params:
        message = "Public access is not permitted on this storage account."
        raise StorageError(409, "PublicAccessNotPermitted", message)
    else:
        azure.signatures().check(request.query_params, need)


def _known_only(request: Request, operation: _Operation) -> None:
    for name in request.query_params:
        if name not in SAS_FIELDS | {"restype", "comp", "timeout"} | operation.parameters:
            message = "One of the query parameters specified in the request is not supported."
            raise StorageError(400, "UnsupportedQueryParameter", message, detail=name)
    for name in request.headers:
        known = name in _KNOWN_HEADERS or name.startswith("x-ms-meta-") or not name.startswith("x-ms-")
        if not known or name in _REFUSED_CONDITIONS:
            message = "One of the HTTP headers specified in the request is not supported."
            raise StorageError(400, "UnsupportedHeader", message, detail=name)


async def put_blob(call: BlobCall) -> Response:
    """Put Blob: the whole of a block blob."""
    if call.request.headers.get("x-ms-blob-type") != "BlockBlob":
        message = "The value for one of the HTTP headers is not in the correct format."
        raise StorageError(400, "InvalidHeaderValue", message, detail="x-ms-blob-type")
    data = await _content(call.request)
    _check_conditions(call, writing=True)
    kept = call.blobs.write(call.container, call.name, data, _described(call.request))
    headers = {"content-md5": _md5(data), "x-ms-request-server-encrypted": "true"}
    return Response(status_code=201, headers=headers | _tag(kept))


async def put_block(call: BlobCall) -> Response:
    """Put Block: kept until a block list names it."""
    block_id = call.request.query_params.get("blockid", "")
    try:
        base64.b64decode(block_id, validate=True)
    except ValueError:
        block_id = ""
    if not block_id or len(block_id) > 88:
        raise StorageError(400, "InvalidBlockId", "The specified block ID is invalid.")
    data = await _content(call.request)
    call.blobs.stage_block(call.container, call.name, block_id, data)
    return Response(status_code=201, headers={"content-md5": _md5(data), "x-ms-request-server-encrypted": "true"})


async def put_block_list(call: BlobCall) -> Response:
    """Put Block List: a blob out of staged blocks."""
    try:
        root = ET.fromstring(await _content(call.request))  # noqa: S314 - expat without external entities
    except ET.ParseError:
        raise StorageError(400, "InvalidXmlDocument", "XML specified is not syntactically valid.") from None
    if root.tag != "BlockList" or any(entry.tag not in ("Committed", "Uncommitted", "Latest") for entry in root):
        raise StorageError(400, "InvalidXmlDocument", "XML specified is not syntactically valid.")
    _check_conditions(call, writing=True)
    wanted = [(entry.tag, entry.text or "") for entry in root]
    kept = call.blobs.commit(call.container, call.name, wanted, _described(call.request))
    return Response(status_code=201, headers=_tag(kept) | {"x-ms-request-server-encrypted": "true"})


async def set_metadata(call: BlobCall) -> Response:
    """Set Blob Metadata: replaces all of it."""
    call.blobs.info(call.container, call.name)
    _check_conditions(call, writing=True)
    return Response(headers=_tag(call.blobs.set_metadata(call.container, call.name, _metadata(call.request))))


async def delete_blob(call: BlobCall) -> Response:
    """Delete Blob."""
    call.blobs.info(call.container, call.name)
    _check_conditions(call, writing=True)
    call.blobs.delete(call.container, call.name)
    return Response(status_code=202, headers={"x-ms-delete-type-permanent": "true"})


async def get_blob(call: BlobCall) -> Response:
    """Get Blob and Get Blob Properties: all, or the range asked for."""
    info = call.blobs.info(call.container, call.name)
    unchanged = _check_conditions(call, writing=False)
    headers = _properties(info)
    if unchanged:
        return Response(status_code=304, headers=_tag(info))
    size = call.blobs.size(call.container, call.name)
    if call.request.method == "HEAD":
        return Response(headers=headers | {"content-length": str(size)})
    data = call.blobs.read(call.container, call.name)
    asked = call.request.headers.get("x-ms-range") or call.request.headers.get("range")
    if asked is None:
        return Response(data, headers=headers)
    begin, end = _range(asked, size)
    if "content-md5" in headers:
        headers["x-ms-blob-content-md5"] = headers.pop("content-md5")
    headers["content-range"] = f"bytes {begin}-{end - 1}/{size}"
    return Response(data[begin:end], 206, headers)


async def container_properties(call: BlobCall) -> Response:
    """Get Container Properties."""
    made = call.blobs.containers[call.container]
    headers = {"last-modified": http_time(made), "etag": '"0x8D0000000000000"', "x-ms-lease-status": "unlocked"}
    return Response(headers=headers | {"x-ms-lease-state": "available", "x-ms-has-legal-hold": "false"})


async def listing(call: BlobCall) -> Response:
    """List Blobs."""
    endpoint_url = f"{call.azure.url}/blob/{call.azure.storage_account}/"
    text = list_blobs(call.blobs, call.container, dict(call.request.query_params), endpoint_url)
    return Response(text, media_type="application/xml")


CONTAINER_OPERATIONS = {
    ("GET", "container", "list"): _Operation(listing, "l", "read", LIST_PARAMETERS),
    ("GET", "container", ""): _Operation(container_properties, "r", "read"),
    ("HEAD", "container", ""): _Operation(container_properties, "r", "read"),
}
BLOB_OPERATIONS = {
    ("GET", "", ""): _Operation(get_blob, "r", "read"),
    ("HEAD", "", ""): _Operation(get_blob, "r", "read"),
    ("PUT", "", ""): _Operation(put_blob, "wc", "write"),
    ("PUT", "", "block"): _Operation(put_block, "wc", "write", frozenset({"blockid"})),
    ("PUT", "", "blocklist"): _Operation(put_block_list, "wc", "write"),
    ("PUT", "", "metadata"): _Operation(set_metadata, "w", "write"),
    ("DELETE", "", ""): _Operation(delete_blob, "d", "delete"),
}


async def _content(request: Request) -> bytes:
    data = await request.body()
    if len(data) > MAX_PUT_BYTES:
        raise StorageError(413, "RequestBodyTooLarge", "The request body is too large and exceeds the maximum limit.")
    given = request.headers.get("content-md5")
    if given is not None and given != _md5(data):
        message = "The MD5 value specified in the request did not match with the MD5 value calculated by the server."
        raise StorageError(400, "Md5Mismatch", message)
    return data


def _check_conditions(call: BlobCall, *, writing: bool) -> bool:
    """Whether a read may answer 304.

    Raises:
        StorageError: 412 ConditionNotMet; 409 BlobAlreadyExists for a write with `If-None-Match: *`.
    """
    match, none_match = call.request.headers.get("if-match"), call.request.headers.get("if-none-match")
    there = call.blobs.exists(call.container, call.name)
    etag = call.blobs.info(call.container, call.name).etag if there else None
    if writing and none_match == "*" and there:
        raise StorageError(409, "BlobAlreadyExists", "The specified blob already exists.")
    unmet = (match is not None and match not in ("*", etag)) or (match == "*" and not there)
    same = none_match is not None and none_match == etag
    if unmet or (writing and same):
        message = "The condition specified using HTTP conditional header(s) is not met."
        raise StorageError(412, "ConditionNotMet", message)
    return same


def _range(text: str, size: int) -> tuple[int, int]:
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", text)
    begin = int(found[1]) if found else 0
    end = min(size, int(found[2]) + 1) if found and found[2] else size
    if not found or begin >= end:
        message = "The range specified is invalid for the current size of the resource."
        raise StorageError(416, "InvalidRange", message, {"content-range": f"bytes */{size}"})
    return begin, end


def _metadata(request: Request) -> dict[str, str]:
    return {
        name.removeprefix("x-ms-meta-"): value
        for name, value in request.headers.items()
        if name.startswith("x-ms-meta-")
    }


def _described(request: Request) -> Description:
    given = {kept: request.headers[name] for name, kept in _CONTENT_HEADERS.items() if name in request.headers}
    kind = request.headers.get("x-ms-blob-content-type") or "application/octet-stream"
    return Description(_metadata(request), kind, given)


def _properties(info: BlobInfo) -> dict[str, str]:
    headers = {f"x-ms-meta-{name}": value for name, value in info.metadata.items()} | info.headers | _tag(info)
    return headers | {
        "content-type": info.content_type,
        "accept-ranges": "bytes",
        "x-ms-blob-type": "BlockBlob",
        "x-ms-creation-time": http_time(info.created),
        "x-ms-lease-status": "unlocked",
        "x-ms-lease-state": "available",
        "x-ms-server-encrypted": "true",
        "x-ms-access-tier": "Hot",
        "x-ms-access-tier-inferred": "true",
    }


def _tag(info: BlobInfo) -> dict[str, str]:
    return {"etag": info.etag, "last-modified": http_time(info.modified)}


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
