"""The cloud storage behind artifacts and model files: bytes under keys, reached by presigned URLs.

databricks/storage.py serves the URLs; the artifact, registry and files modules sign them. It must never serve a key for
which no live signature was shown, nor a path outside its root.

Modelled on presigned S3 URLs, which an AWS workspace hands to the MLflow client (mlflow `databricks_artifact_repo.py`,
`ArtifactCredentialType.AWS_PRESIGNED_URL`).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

from trainyard_sandbox.errors import invalid_parameter

URL_LIFETIME_SECONDS = 900
STORAGE_PATH = "/sandbox-storage/"


@dataclass(frozen=True)
class Entry:
    """One name directly under a key prefix; `size` in bytes, None for a folder. `modified_at` in milliseconds."""

    name: str
    size: int | None
    modified_at: int


class BlobStore:
    """Files of one sandbox.

    Args:
        root: where they lie; made if missing.
        now: the sandbox's clock, Unix seconds.
        base_url: called when signing, since the URL is known only once the port is bound.
    """

    def __init__(self, root: Path, now: Callable[[], float], base_url: Callable[[], str]) -> None:
        self._root = root
        self._now = now
        self._base_url = base_url
        self._secret = secrets.token_bytes(32)

    def signed_url(self, method: str, key: str) -> str:
        """A URL that allows one method on one key for `URL_LIFETIME_SECONDS`."""
        self.file(key)
        expires = int(self._now()) + URL_LIFETIME_SECONDS
        query = urlencode({"expires": expires, "signature": self._signature(method, key, expires)})
        return f"{self._base_url()}{STORAGE_PATH}{quote(key)}?{query}"

    def refusal(self, method: str, key: str, expires: str, signature: str) -> str | None:
        """Why the signature does not allow the method on the key now; None when it does."""
        if not expires.isascii() or not expires.isdigit():
            return "Query-string authentication requires the expires and signature parameters"
        if not hmac.compare_digest(self._signature(method, key, int(expires)), signature):
            return "The request signature we calculated does not match the signature you provided"
        return "Request has expired" if int(expires) <= self._now() else None

    def file(self, key: str) -> Path:
        """Where the bytes of a key lie.

        Raises:
            ApiError: 400 for a key with empty, `.` or `..` segments.
        """
        segments = key.split("/")
        if any(segment in ("", ".", "..") or "\x00" in segment for segment in segments):
            raise invalid_parameter(f"Invalid path: {key}")
        return self._root.joinpath(*segments)

    def entries(self, prefix: str) -> list[Entry]:
        """What lies directly under a key prefix, by name; nothing when there is no such folder."""
        folder = self.file(prefix)
        if not folder.is_dir():
            return []
        found = [(child, child.stat()) for child in folder.iterdir()]
        return sorted(
            (Entry(c.name, None if c.is_dir() else s.st_size, int(s.st_mtime * 1000)) for c, s in found),
            key=lambda entry: entry.name,
        )

    def delete_tree(self, prefix: str) -> None:
        """Remove everything under a key prefix."""
        folder = self.file(prefix)
        if folder.exists():
            shutil.rmtree(folder)

    def _signature(self, method: str, key: str, expires: int) -> str:
        message = f"{method}\n{key}\n{expires}".encode()
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()
