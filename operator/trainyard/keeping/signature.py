"""AWS Signature Version 4 for S3. Pure.

Called by `keeping.s3`. Read in: Amazon S3 API Reference, "Authenticating Requests (AWS Signature Version 4)", whose
worked examples are this module's tests. The key never leaves this process; a signature is good for one request.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, urlsplit


@dataclass(frozen=True, slots=True)
class Credentials:
    """Temporary credentials of an assumed role. No secret shows in a repr."""

    key_id: str
    secret: str = field(repr=False)
    token: str = field(repr=False)
    expires_at: datetime


def signed(
    credentials: Credentials, region: str, method: str, url: str, headers: Mapping[str, str], body: bytes, now: datetime
) -> dict[str, str]:
    """The headers to send: those given, and what makes the request the role's. `url` is as it is sent."""
    moment = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    sent = {**headers, "x-amz-date": moment, "x-amz-content-sha256": digest}
    if credentials.token:
        sent["x-amz-security-token"] = credentials.token
    split = urlsplit(url)
    named = {name.lower(): " ".join(value.split()) for name, value in {**sent, "host": split.netloc}.items()}
    names = ";".join(sorted(named))
    canonical = "\n".join(
        [
            method,
            split.path or "/",
            _query(split.query),
            *(f"{name}:{named[name]}" for name in sorted(named)),
            "",
            names,
            digest,
        ]
    )
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{credentials.secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    sent["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.key_id}/{scope},SignedHeaders={names},Signature={signature}"
    )
    return sent


def quoted(path: str) -> str:
    """A path as S3 wants it in the URL and in the signature: all but RFC 3986's unreserved characters and slashes."""
    return quote(path, safe="/-_.~")


def _query(query: str) -> str:
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in parse_qsl(query, True))
    return "&".join(f"{name}={value}" for name, value in pairs)
