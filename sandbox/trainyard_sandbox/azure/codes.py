"""Code assets: an upload area with a signature, and versions that point to what was uploaded.

A client asks for versions with the content's hash, and only if there is none begins an upload, writes blobs and makes
the version (azure-ai-ml `_code_operations.py`, `_asset_utils.py`).

Bodies: Azure/azure-rest-api-specs, examples `Workspace/CodeVersion/*`, `createOrGetStartPendingUpload`. Uploads go to
a container of their own, as the URIs of code in Azure ML show (`https://<account>.blob.../<workspace id>-<random>`).
"""

from __future__ import annotations

import secrets
from urllib.parse import unquote, urlsplit

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.arm import Action, AzureCall, arm_route
from trainyard_sandbox.azure.assets import AssetStore, Author
from trainyard_sandbox.azure.assets_api import (
    LIST_QUERY,
    VERSIONS,
    asset_routes,
    check_name,
    listed_versions,
    put_properties,
    put_shape,
    put_version,
    version_body,
)
from trainyard_sandbox.azure.errors import user_error
from trainyard_sandbox.azure.state import AzureState
from trainyard_sandbox.schema import Obj, Str
from trainyard_sandbox.state import SandboxState

UPLOAD_SECONDS = 24 * 3600.0
_PUT = put_shape({"codeUri": Str(min_length=1)}, required=("codeUri",))
_PENDING = Obj(
    {
        "pendingUploadType": Str(choices=("TemporaryBlobReference", "None")),
        "pendingUploadId": Str(),
    },
    required=("pendingUploadType",),
)


def attach(state: SandboxState) -> None:
    """Hang the code assets on the state."""
    state.azure.codes = AssetStore("codes", state.azure.now)


def routes() -> list[Route]:
    """Mounted by server.py."""
    query = (*LIST_QUERY, "hash", "hashVersion")
    listed = Action(list_versions, "workspaces/codes/versions/read", VERSIONS, query)
    upload = Action(start_upload, "workspaces/codes/versions/write", VERSIONS)
    return [
        *asset_routes("codes", listed, PUT=put_code, DELETE=delete_version),
        arm_route("/codes/{name}/versions/{version}/startPendingUpload", {"POST": upload}),
    ]


async def list_versions(call: AzureCall) -> Response:
    """Versions of a name; asked for a hash, those of any name with it: a client makes up a name for code that it is
    about to upload, and takes over the name of what it finds (azure-ai-ml `_get_existing_asset_name_and_version`)."""
    store: AssetStore = call.azure.codes
    names = list(store.containers) if "hash" in call.query else [call.path["name"]]
    found = [version for name in names for version in store.versions(name)]
    for asked, kept in (("hash", "hash_sha256"), ("hashVersion", "hash_version")):
        if asked in call.query:
            found = [v for v in found if v.properties.get("properties", {}).get(kept) == call.query[asked]]
    return listed_versions(call, store, found)


async def put_code(call: AzureCall) -> Response:
    """Make a version of what lies at `codeUri`."""
    properties = await put_properties(call, _PUT)
    container, prefix = _located(call.azure, properties["codeUri"])
    if not call.azure.blobs.list(container, f"{prefix}/" if prefix else ""):
        raise user_error(f"No code was found at {properties['codeUri']}.", "NotFound", target="codeUri")
    version, made = put_version(call, call.azure.codes, properties, "codeUri")
    version.container, version.prefix = container, prefix
    return JSONResponse(version_body(call, call.azure.codes, version), 201 if made else 200)


async def delete_version(call: AzureCall) -> Response:
    """Delete a version; its files stay."""
    call.azure.codes.delete(call.path["name"], call.path["version"])
    return Response(status_code=200)


async def start_upload(call: AzureCall) -> Response:
    """A fresh container to upload to, and a signature for it."""
    asked = await call.body(_PENDING)
    check_name(call.path["name"], call.path["version"])
    if asked["pendingUploadType"] != "TemporaryBlobReference":
        raise user_error("pendingUploadType must be TemporaryBlobReference.", "BadArgument")
    azure = call.azure
    azure.codes.ensure_container(call.path["name"], Author.of(call.principal))
    container = f"{azure.workspace_guid[:8]}-{secrets.token_hex(14)}"
    azure.blobs.create_container(container)
    signatures = azure.signatures()
    return JSONResponse(
        {
            "blobReferenceForConsumption": {
                "blobUri": signatures.url(container),
                "storageAccountArmId": azure.storage_scope,
                "credential": {
                    "credentialType": "SAS",
                    "sasUri": signatures.signed_url(container, None, "rcwl", UPLOAD_SECONDS),
                },
            },
            "pendingUploadId": asked.get("pendingUploadId"),
            "pendingUploadType": "TemporaryBlobReference",
        }
    )


def _located(azure: AzureState, uri: str) -> tuple[str, str]:
    """Container and prefix of the URI of uploaded code."""
    base = f"/blob/{azure.storage_account}/"
    found = urlsplit(uri)
    if f"{found.scheme}://{found.netloc}" != azure.url or not found.path.startswith(base):
        raise user_error(f"codeUri {uri} is not in the workspace's storage account.", "BadArgument", target="codeUri")
    container, _, prefix = unquote(found.path.removeprefix(base)).partition("/")
    if container not in azure.blobs.containers:
        raise user_error(f"codeUri {uri} names a container that is not there.", "NotFound", target="codeUri")
    return container, prefix.strip("/")
