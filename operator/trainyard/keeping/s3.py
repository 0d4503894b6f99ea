"""Logs in a folder of an S3 bucket, written with a role that trusts the namespace's ServiceAccount.

Made by the controllers from a workspace's `logDestination.s3`, called in threads. Never uses a stored key.

Read in: Amazon S3 API Reference (PutObject, GetObject, DeleteObject, ListObjectsV2, "Error responses").
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote, unquote_plus

import requests

from trainyard.audit.log import AuditLog
from trainyard.audit.transport import Answer, Bounds
from trainyard.core.errors import Denied, Missing, Refused, TrainyardError, Unauthenticated
from trainyard.keeping.base import Allow, Assertions, below, checked_key
from trainyard.keeping.renewal import sent, utc_now
from trainyard.keeping.role import AssumedRole
from trainyard.keeping.signature import Credentials, quoted, signed
from trainyard.keeping.transport import STORE_BOUNDS, code_of, element, elements, session, words_of

# Pages of 1000 objects that one deletion goes through; a run's logs are a handful.
_PAGES = 20
# What the service says of credentials that new ones may replace.
_STALE = ("ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "TokenRefreshRequired")
_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class S3Place:
    """A folder of a bucket, and the role that may write it.

    `endpoint` and `sts_endpoint` are for what speaks S3 elsewhere; None is AWS's own of that region.
    """

    bucket: str
    prefix: str | None
    region: str
    role_arn: str
    endpoint: str | None = None
    sts_endpoint: str | None = None

    def __post_init__(self) -> None:
        # Parts of a host name that assertions go to.
        if not _REGION.fullmatch(self.region) or not _BUCKET.fullmatch(self.bucket):
            raise Refused(
                f"logDestination.s3: {self.bucket!a} in {self.region!a} is no bucket of a region, like logs in "
                "eu-west-1: correct it.",
                reason="InvalidSpec",
            )

    @property
    def url(self) -> str:
        """Where the bucket is asked. A name with dots fits no wildcard certificate, so it goes into the path."""
        if self.endpoint is not None:
            return f"{self.endpoint.rstrip('/')}/{self.bucket}"
        if "." in self.bucket:
            return f"https://s3.{self._domain}/{self.bucket}"
        return f"https://{self.bucket}.s3.{self._domain}"

    @property
    def sts(self) -> str:
        """Where the role is assumed: in the bucket's region, so that another region's trouble is not ours."""
        return (self.sts_endpoint or f"https://sts.{self._domain}").rstrip("/")

    @property
    def _domain(self) -> str:
        return f"{self.region}.amazonaws.com" + (".cn" if self.region.startswith("cn-") else "")


class S3LogStore:
    """A LogStore in S3.

    Args:
        place: the folder and the role.
        session_name: who writes, for CloudTrail.
        assertion: mints an assertion for an audience; called only once `allow` has let STS and the bucket's host pass.
        allow: raises IdentityError for a host that nothing may be sent to.
        log: the audit log.
        bounds: of each request.
    """

    def __init__(
        self,
        place: S3Place,
        session_name: str,
        *,
        assertion: Assertions,
        allow: Allow,
        log: AuditLog,
        bounds: Bounds = STORE_BOUNDS,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._place = place
        self._allow = allow
        self._now = now
        self._role = AssumedRole(
            place.role_arn, place.sts, session_name, assertion=assertion, allow=allow, log=log, now=now
        )
        self._session = session(log, _Dialect(place), self._role.describe, bounds)

    def put(self, key: str, data: bytes, content_type: str) -> str:
        """See LogStore."""
        path = below(self._place.prefix, key)
        self._send("PUT", path, {"Content-Type": content_type}, data)
        return f"s3://{self._place.bucket}/{path}"

    def get(self, key: str) -> bytes | None:
        """See LogStore."""
        answered = self._send("GET", below(self._place.prefix, key))
        return None if answered.status_code == 404 else answered.content

    def delete(self, prefix: str) -> None:
        """See LogStore."""
        folder = below(self._place.prefix, checked_key(prefix)) + "/"
        for _ in range(_PAGES):
            # Asked anew rather than paged: what was listed is gone by then.
            listed = self._send("GET", "", query=f"?encoding-type=url&list-type=2&prefix={quote(folder, safe='')}")
            for key in elements(listed.content, "Key"):
                self._send("DELETE", unquote_plus(key))
            if element(listed.content, "IsTruncated") != "true":
                return

    def _send(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"", query: str = ""
    ) -> requests.Response:
        self._allow(self._place.url)
        url = f"{self._place.url}/{quoted(path)}{query}"

        def send(credentials: Credentials) -> requests.Response:
            given = signed(credentials, self._place.region, method, url, headers or {}, body, self._now())
            return self._session.request(method, url, data=body, headers=given, allow_redirects=False)

        return sent(self._role.credentials, self._role.forget, send)


class _Dialect:
    """What S3's errors mean."""

    def __init__(self, place: S3Place) -> None:
        self._place = place

    def error(self, answer: Answer) -> TrainyardError | None:
        """The error of a 3xx or 4xx answer; None where an object is not there, which the caller tells."""
        place, code, said = self._place, code_of(answer), words_of(answer)
        if code == "NoSuchBucket":
            return Missing(f"logDestination.s3.bucket: {place.bucket} does not exist: create it, or correct the name.")
        if code == "NoSuchKey":
            return None
        if code in _STALE:
            return Unauthenticated(f"S3 does not accept the credentials of {place.role_arn}: {said}.")
        if code in (
            "PermanentRedirect",
            "TemporaryRedirect",
            "AuthorizationHeaderMalformed",
            "IllegalLocationConstraintException",
        ):
            region = answer.headers.get("x-amz-bucket-region") or element(answer.body, "Region") or "another region"
            return Refused(
                f"logDestination.s3.region: the bucket {place.bucket} is not in {place.region} but in {region[:64]}: "
                "correct it."
            )
        if code == "RequestTimeTooSkewed":
            return Refused(f"S3 refuses the operator's clock: {said}. Have the node's time set.", reason="ClockSkewed")
        if answer.status == 403:
            return self._denied(said)
        return Refused(f"S3 refused to keep logs in {place.bucket}: {said}.")

    def remote_id(self, answer: Answer) -> str | None:  # noqa: ARG002 - the protocol's signature
        """Nothing; no run is asked about."""
        return None

    def _denied(self, said: str) -> Denied:
        place = self._place
        partition = place.role_arn.split(":")[1]
        folder = f"{place.prefix.strip('/')}/" if place.prefix else ""
        return Denied(
            f"logDestination.s3: role {place.role_arn} lacks a right ({said}): grant it s3:PutObject, s3:GetObject and "
            f"s3:DeleteObject on arn:{partition}:s3:::{place.bucket}/{folder}*, and s3:ListBucket on "
            f"arn:{partition}:s3:::{place.bucket}; a key of the bucket's encryption needs kms:GenerateDataKey and "
            "kms:Decrypt as well."
        )
