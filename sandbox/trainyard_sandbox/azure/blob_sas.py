"""Shared access signatures of the storage account: made for those who may have one, checked on every request.

Asset modules, run history and the job engine make them; blobs_api.py checks them. The string that is signed is that of
service SAS version 2020-12-06 and later, so that what azure-storage-blob signs with the account key is good here too.

Azure Storage documentation, "Create a service SAS" (fields, string-to-sign, permissions per operation); error codes:
"Blob Storage error codes".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from trainyard_sandbox.azure.blob_store import AzureBlobs
from trainyard_sandbox.azure.errors import StorageError, http_time

SAS_VERSION = "2021-08-06"
_SIGNED = ("si", "sip", "spr", "sv", "sr", "snapshot", "ses", "rscc", "rscd", "rsce", "rscl", "rsct")
SAS_FIELDS = frozenset({"sp", "st", "se", "sig", *_SIGNED})
_PERMISSION_ORDER = "racwdxyltmeopi"
_TIME = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?Z)?")


@dataclass(frozen=True)
class Need:
    """What an operation needs of a signature: one of these permissions, and for the container itself or a blob."""

    permissions: str
    container: str
    blob: str | None


class Signatures:
    """Makes and checks signatures with the account's key.

    Args:
        blobs: the account.
        base_url: URL of the account without a slash at the end, asked when a URL is made.
        now: the sandbox's clock, Unix seconds.
    """

    def __init__(self, blobs: AzureBlobs, base_url: str, now: float) -> None:
        self._blobs = blobs
        self._base_url = base_url
        self._now = now

    def url(self, container: str, blob: str | None = None) -> str:
        """The plain URL of a container or a blob."""
        parts = [self._base_url, container] + ([] if blob is None else [quote(blob, safe="/~")])
        return "/".join(parts)

    def token(self, container: str, blob: str | None, permissions: str, lifetime_seconds: float) -> str:
        """A query string that permits `permissions` (letters such as "rl") for a while."""
        fields = {
            "sv": SAS_VERSION,
            "spr": "https",
            "st": _iso(self._now - 600),
            "se": _iso(self._now + lifetime_seconds),
            "sr": "c" if blob is None else "b",
            "sp": "".join(sorted(permissions, key=_PERMISSION_ORDER.index)),
        }
        return urlencode(fields | {"sig": self._sign(fields, container, blob)})

    def signed_url(
        self, container: str, blob: str | None = None, permissions: str = "r", lifetime_seconds: float = 3600
    ) -> str:
        """The URL of a container or a blob with its signature."""
        return f"{self.url(container, blob)}?{self.token(container, blob, permissions, lifetime_seconds)}"

    def check(self, query: Mapping[str, str], need: Need) -> None:
        """Whether the signature in a query permits what is needed.

        Raises:
            StorageError: 403 AuthenticationFailed or AuthorizationPermissionMismatch.
        """
        kind, permissions = query.get("sr", ""), query.get("sp", "")
        if kind not in ("b", "c") or not query.get("se") or not query.get("sv"):
            raise _unauthentic("sr, sp, se and sv are mandatory. Cannot be empty")
        if kind == "b" and need.blob is None:
            raise _mismatch()
        expected = self._sign(query, need.container, need.blob if kind == "b" else None)
        if not hmac.compare_digest(expected, query.get("sig", "")):
            raise _unauthentic("Signature did not match.")
        self._check_times(query)
        if not set(permissions) & set(need.permissions):
            raise _mismatch()

    def _check_times(self, query: Mapping[str, str]) -> None:
        start, end = query.get("st", ""), query["se"]
        if any(text and not _TIME.fullmatch(text) for text in (start, end)):
            raise _unauthentic("st or se is not a time in UTC")
        begins = _seconds(start) if start else 0.0
        if not begins <= self._now < _seconds(end):
            frame = f"Start [{http_time(begins)}] - Expiry [{http_time(_seconds(end))}]"
            raise _unauthentic(
                f"Signature not valid in the specified time frame: {frame} - Current [{http_time(self._now)}]"
            )

    def _sign(self, fields: Mapping[str, str], container: str, blob: str | None) -> str:
        resource = f"/blob/{self._blobs.account}/{container}" + ("" if blob is None else f"/{blob}")
        first = [fields.get("sp", ""), fields.get("st", ""), fields.get("se", ""), resource]
        text = "\n".join(first + [fields.get(name, "") for name in _SIGNED])
        digest = hmac.new(base64.b64decode(self._blobs.key), text.encode(), hashlib.sha256).digest()
        return base64.b64encode(digest).decode()


def _unauthentic(detail: str) -> StorageError:
    message = (
        "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly "
        "including the signature."
    )
    return StorageError(403, "AuthenticationFailed", message, detail=detail)


def _mismatch() -> StorageError:
    message = "This request is not authorized to perform this operation using this permission."
    return StorageError(403, "AuthorizationPermissionMismatch", message)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
