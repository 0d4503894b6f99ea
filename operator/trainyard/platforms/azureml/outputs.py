"""What a job left at its outputs: files and bytes below a path of a datastore. Only looks, never writes.

Called by `outcome` for a job that succeeded. Storage is looked into with a signature that the workspace gives for an
hour (listSecrets with an expirable secret; azure-ai-ml `_datastore_operations.py`), never with an account's key. An
output that can not be measured is told in its message; it does not make the run a failure.
"""

import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from trainyard.core.errors import Denied, Missing, PlatformError, Refused, Unreachable
from trainyard.core.remote import Written
from trainyard.platforms.azureml.client import AzureMLClient

DATASTORE_VERSION = "2024-10-01-preview"
DEFAULT_DATASTORE = "workspaceblobstore"
MOST_ENTRIES = 1000
MAX_MESSAGE = 512
LATE = "not measured in time"
_DATASTORE_PATH = re.compile(
    r"azureml://(?:subscriptions/[^/]+/resource[gG]roups/[^/]+/workspaces/[^/]+/)?datastores/([^/]+)/paths/(.*)"
)


class Outputs:
    """Looks through one client."""

    def __init__(self, client: AzureMLClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock

    def found(self, job: str, wanted: Mapping[str, tuple[str | None, str | None]], until: float) -> dict[str, Written]:
        """What lies at each output, by its name. After `until`, of the clock, nothing more is looked at."""
        return {name: self._at(uri or default_uri(job, name), until) for name, (uri, _) in wanted.items()}

    def _at(self, uri: str, until: float) -> Written:
        uri = uri.replace("${{name}}", "")
        if self._clock() > until:
            return Written(uri, message=LATE)
        place = datastore_path(uri)
        if place is None:
            return Written(uri, message="is not measured: only paths of the workspace's datastores are looked at")
        try:
            signed = signed_container(self._client, place[0])
            if not signed:
                return Written(uri, message=f"is not measured: datastore {place[0]} gives no signature to look with")
            size, files, more = self._client.in_container(signed, lambda container: _counted(container, place[1]))
        except (Denied, Missing, Refused, Unreachable) as error:
            # Storage that this network can not reach (a private endpoint) drops requests rather than refuse them.
            return Written(uri, message=_unread(error))
        if not files:
            return Written(uri, size_bytes=0, files=0, message="nothing is there")
        message = f"more than {MOST_ENTRIES} files: only the first were counted" if more else ""
        return Written(uri, size_bytes=size, files=files, message=message)


def signed_container(client: AzureMLClient, datastore: str) -> str:
    """The signed URL of the datastore's container; empty where it gives no signature."""
    path = f"/datastores/{quote(datastore, safe='')}"
    store = client.do("GET", path, DATASTORE_VERSION).get("properties") or {}
    account, container = store.get("accountName"), store.get("containerName")
    if not account or not container:
        return ""
    body = {"expirableSecret": True, "expireAfterHours": 1}
    secrets = client.do("POST", f"{path}/listSecrets", DATASTORE_VERSION, body=body)
    token = str(secrets.get("sasToken") or "")
    if not token:
        return ""
    endpoint = store.get("endpoint") or client.cloud.storage_suffix
    host = f"https://{account}.blob.{endpoint}"
    return f"{host}/{quote(str(container), safe='')}?{token.removeprefix('?')}"


def datastore_path(uri: str) -> tuple[str, str] | None:
    """The datastore of the workspace and the path in it that a URI names; None for any other URI."""
    found = _DATASTORE_PATH.fullmatch(uri)
    return (found[1], found[2]) if found is not None else None


def default_uri(job: str, name: str) -> str:
    """Where an output without a place of its own goes (Azure documentation, "Access data in a job")."""
    return f"azureml://datastores/{DEFAULT_DATASTORE}/paths/azureml/{job}/{name}/"


def _counted(container: Any, path: str) -> tuple[int, int, bool]:
    """Bytes and files at a path, which is a folder, a file or the whole container, and whether there are more.

    Only what lies below it is listed: what has its name as a beginning may be without end.
    """
    size = files = 0
    prefix = path.strip("/")
    for blob in container.list_blobs(name_starts_with=f"{prefix}/" if prefix else None):
        if files == MOST_ENTRIES:
            return size, files, True
        size += int(blob.size or 0)
        files += 1
    # Names come in order: if it is a file, then it is the first one that begins so.
    first = next(iter(container.list_blobs(name_starts_with=prefix)), None) if prefix and not files else None
    if first is not None and first.name == prefix:
        return int(first.size or 0), 1, False
    return size, files, False


def _unread(error: PlatformError) -> str:
    what = "is not there" if isinstance(error, Missing) else "can not be looked at"
    return f"{what}: {error.message}"[:MAX_MESSAGE]
