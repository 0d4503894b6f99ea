"""Uploads a run's source as a code asset of Azure ML, once per content, and registers the environment that it needs.

Called by `connection` in a lane's thread. The asset is named by the content (`names.code_folder`) and registered last,
so that one which is there is whole. Each step may be repeated: a blob that exists was written by an attempt before, a
blob appears whole or not at all, and the last one to register an asset finds it there. Azure ML gives a place and a
signed URL for the upload itself (azure-ai-ml `_utils/_asset_utils.py`, get_storage_info_for_non_registry_asset), so
that the identity needs no role on the storage account.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from trainyard.core.errors import Missing, Refused, Unreachable
from trainyard.platforms.azureml.answers import ALREADY_EXISTS
from trainyard.platforms.azureml.client import AzureMLClient
from trainyard.platforms.base import Request
from trainyard.platforms.parallel import each

CODE_VERSION = "2023-04-01"
ENVIRONMENT_VERSION = "2023-04-01-preview"
# A code asset that is never registered, to ask for a place with; and a blob that is never there.
PROBE = "/codes/trainyard-doctor/versions/1"
PROBE_BLOB = "trainyard-doctor"
NO_BLOB = "BlobNotFound"  # code of Blob storage ("Blob service error codes")


class Uploads:
    """Uploads through one client."""

    def __init__(self, client: AzureMLClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock

    def code(self, request: Request, deadline: float) -> None:
        """Has every file of the request in the code asset that it names.

        Args:
            deadline: of the clock; nothing more is sent after it.

        Raises:
            Unreachable: the deadline has passed; the next call begins anew.
            Denied: storage refuses; says why, for people.
        """
        path = f"/{request.code_folder}"
        if self._is_there(path):
            return
        blob_uri, signed = self._begun(path)

        def put(name: str) -> None:
            self._in_time(deadline)
            self._put(signed, name, request.files[name])

        each(sorted(request.files), put)
        self._in_time(deadline)
        self._register(path, {"codeUri": blob_uri, "isAnonymous": True, "description": "uploaded by Trainyard"})

    def environment(self, environment: Mapping[str, Any]) -> None:
        """Has the environment registered: name, version (made of its content) and properties."""
        path = f"/environments/{environment['name']}/versions/{environment['version']}"
        body = {"properties": dict(environment["properties"])}
        try:
            self._client.do("PUT", path, ENVIRONMENT_VERSION, body=body)
        except Refused as error:
            if error.reason != ALREADY_EXISTS:
                raise

    def reach(self) -> str:
        """Asks for a place as an upload does, always the same one, and looks for a blob there with its signature.

        Registers nothing and writes nothing: the place that Azure ML may make for it stays empty. Returns what was
        found, without the signature.

        Raises:
            PlatformError: what the workspace or its storage answered, or that it did not.
        """
        blob_uri, signed = self._begun(PROBE)
        try:
            self._client.in_container(signed, lambda container: container.get_blob_client(PROBE_BLOB).exists())
        except Missing as error:
            if NO_BLOB not in error.message:  # who says this has judged the signature; anything else is somebody else
                raise
        return f"storage account {urlsplit(blob_uri).hostname} takes the signature that uploads use"

    def _begun(self, path: str) -> tuple[str, str]:
        """Where the code of an asset belongs, and the signed URL of its container."""
        body = {"pendingUploadType": "TemporaryBlobReference"}
        return _place(self._client.do("POST", f"{path}/startPendingUpload", CODE_VERSION, body=body))

    def _is_there(self, path: str) -> bool:
        try:
            self._client.do("GET", path, CODE_VERSION)
        except Missing:
            return False
        return True

    def _put(self, signed: str, name: str, content: bytes) -> None:
        try:
            # Without overwriting: two attempts of one source may upload at the same time.
            self._client.in_container(signed, lambda container: container.upload_blob(name, content, overwrite=False))
        except Refused as error:
            if error.reason != ALREADY_EXISTS:
                raise

    def _register(self, path: str, properties: Mapping[str, Any]) -> None:
        try:
            self._client.do("PUT", path, CODE_VERSION, body={"properties": dict(properties)})
        except Refused as error:
            # Another attempt of the same source was quicker, with another place.
            if error.reason != ALREADY_EXISTS or not self._is_there(path):
                raise

    def _in_time(self, deadline: float) -> None:
        if self._clock() > deadline:
            raise Unreachable("uploading the source takes too long; nothing was started")


def _place(answer: Mapping[str, Any]) -> tuple[str, str]:
    """Where the code belongs, and the signed URL of its container (PendingUploadResponseDto)."""
    reference = answer.get("blobReferenceForConsumption") or {}
    credential = reference.get("credential") or {}
    blob_uri, signed = reference.get("blobUri"), credential.get("sasUri")
    if not isinstance(blob_uri, str) or not isinstance(signed, str):
        raise Unreachable("startPendingUpload answered without a place", reason="PlatformAnswerMalformed")
    return blob_uri, signed
