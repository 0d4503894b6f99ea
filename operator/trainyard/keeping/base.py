"""What every place for logs has in common. Called by the controllers, in threads.

Stores speak their service's REST interface through the audited transport instead of the vendors' SDKs: each request is
on record, bounded in time and never redirected, no SDK looks for credentials of this machine, and boto3 can not be
installed beside the Kubernetes client that the operator uses (they need different versions of python-dateutil).
"""

import base64
import json
from collections.abc import Callable
from typing import Protocol

from trainyard.core.errors import Refused

# A fresh assertion (JWT) for exactly that audience. Raises IdentityError.
Assertions = Callable[[str], str]
# Raises IdentityError unless that URL's host may be sent assertions and data; `HostPolicy.check` is one.
Allow = Callable[[str], object]

_LONGEST_KEY = 1024  # bytes, with the destination's prefix: what S3 and Azure take


class LogStore(Protocol):
    """Keeps texts under keys like `team-a/churn-7f3/attempt-1/train.log`. Thread-safe, bounded in time.

    Everything here raises IdentityError (no token can be had) or a PlatformError, whose message says what to grant.
    """

    def put(self, key: str, data: bytes, content_type: str) -> str:
        """Keeps the data, over what was there, and gives its URI."""

    def get(self, key: str) -> bytes | None:
        """The data, or None when there is none."""

    def delete(self, prefix: str) -> None:
        """Deletes all that is in that folder. That it is already gone is no error."""


def checked_key(key: str) -> str:
    """The key, if it means the same everywhere.

    Raises:
        Refused: it does not, or is too long.
    """
    parts = key.split("/")
    if not key.isprintable() or "\\" in key or any(part in ("", ".", "..") for part in parts):
        raise Refused(f"logDestination: {key[:200]!a} is no plain relative key", reason="InvalidSpec")
    if len(key.encode()) > _LONGEST_KEY:
        raise Refused(
            f"logDestination: the key {key[:80]!a}... is longer than {_LONGEST_KEY} bytes: use a shorter prefix",
            reason="InvalidSpec",
        )
    return key


def below(prefix: str | None, key: str) -> str:
    """The key in the folder of a destination."""
    folder = (prefix or "").strip("/")
    return checked_key(f"{folder}/{key}" if folder else key)


def trust_of(assertion: str) -> str:
    """Issuer, subject and audience of an assertion of ours, for a message that says what to trust."""
    try:
        payload = assertion.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        issuer, subject, audience = claims["iss"], claims["sub"], claims["aud"]
    except (IndexError, KeyError, TypeError, ValueError):
        return "the operator's assertion, which could not be read"
    return f"issuer {issuer}, subject {subject} and audience {audience[0] if isinstance(audience, list) else audience}"
