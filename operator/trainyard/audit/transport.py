"""The one way out: a `requests` adapter that records every request to a platform and bounds it in time and size.

Mounted by `identity` on its own session and by `platforms` on the vendor SDK's. Whatever goes wrong leaves as an error
of `core.errors`, so that no SDK above recognises something to retry by itself. Never follows a redirect: a token must
not go where nobody checked.
"""

import base64
import io
import json
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote, unquote_to_bytes, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from trainyard.audit.context import current
from trainyard.audit.log import AuditLog
from trainyard.core.errors import Refused, Throttled, TrainyardError, Unreachable

# What clouds call their own id of a request; the first that is there is recorded.
REQUEST_ID_HEADERS = ("x-request-id", "x-databricks-request-id", "x-ms-request-id", "x-ms-correlation-request-id")
# A Retry-After beyond this is taken for a mistake, or an attack: the SDK would honour days.
LONGEST_RETRY_AFTER = 3600.0
DEFAULT_RETRY_AFTER = 5.0
# 0, or a date that has passed, would have a refused request repeated at once, for ever.
SHORTEST_RETRY_AFTER = 1.0
CHUNK = 64 * 1024
# What a file's content is sent as; every other answer has to be JSON, or a sign-in page would pass for one.
FILE = "application/octet-stream"
# The signature of a shared access signature, which opens what the URL names (Azure Storage: "Create a service SAS").
_SIGNATURE = re.compile(r"\bsig=([^&\s\"']+)")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of one request: seconds to connect, between two reads, and in all; bytes of the answer's body."""

    connect: float = 3.0
    read: float = 10.0
    total: float = 30.0
    body: int = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """A platform's answer, read to its end."""

    method: str
    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    sent: bytes

    @property
    def path(self) -> str:
        """The path that was asked, without its query."""
        return urlsplit(self.url).path

    def json(self) -> Any:
        """The body as JSON, or None when it is not JSON, or nested deeper than anything is meant to be."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


class Dialect(Protocol):
    """What one platform's answers mean."""

    def error(self, answer: Answer) -> TrainyardError | None:
        """The error that a 4xx answer stands for; None lets the caller read the answer itself."""

    def remote_id(self, answer: Answer) -> str | None:
        """The run that the request was about or that the answer made, for the audit log."""


class AuditedAdapter(HTTPAdapter):
    """Sends requests of one principal to one platform.

    Args:
        log: where the records go. A request that can not be recorded is not sent.
        dialect: what the platform's errors mean.
        facts: principal, mode, service_account and assertion_jti for the records, asked at each request.
        bounds: limits of each request.
        documents: whether every answer has to be JSON; storage answers in whatever was put there.
        judged: whether an answer that is no success becomes an error. A model behind an endpoint may answer anything,
            which its caller reads; a redirect is an error all the same.
    """

    def __init__(
        self,
        log: AuditLog,
        dialect: Dialect,
        facts: Callable[[], Mapping[str, Any]],
        bounds: Bounds,
        *,
        documents: bool = True,
        judged: bool = True,
    ) -> None:
        super().__init__(pool_connections=2, pool_maxsize=8, max_retries=0)
        self._documents = documents
        self._judged = judged
        self._log = log
        self._dialect = dialect
        self._facts = facts
        self._bounds = bounds

    def send(  # type: ignore[override]  # the stubs type what requests passes by keyword more narrowly than requests does
        self, request: requests.PreparedRequest, **options: Any
    ) -> requests.Response:
        """Sends one request and reads the whole answer.

        Raises:
            Unreachable, Throttled: no usable answer.
            Refused: the platform redirects.
            TrainyardError: what the dialect makes of a 4xx answer.
        """
        record_id = uuid.uuid4().hex
        self._record_request(record_id, request)
        began = time.monotonic()
        outcome: dict[str, Any] = {}
        try:
            response, answer = self._exchange(request, options, began + self._bounds.total)
            outcome |= self._facts_of(answer)
            self._judge(answer)
        except TrainyardError as error:
            outcome["error"] = f"{type(error).__name__}/{error.reason}"
            raise
        finally:
            elapsed = round((time.monotonic() - began) * 1000)
            self._write({"event": "response", "id": record_id, **outcome, "duration_ms": elapsed})
        return response

    def _exchange(
        self, request: requests.PreparedRequest, options: Mapping[str, Any], deadline: float
    ) -> tuple[requests.Response, Answer]:
        host = urlsplit(request.url or "").netloc
        try:
            response = super().send(
                request,
                **{**options, "stream": True, "timeout": (self._bounds.connect, self._bounds.read)},
            )
            body = self._read(response, deadline, host, has_body=request.method != "HEAD")
        except requests.Timeout as error:
            raise Unreachable(f"{host} did not answer within {self._bounds.read:g} s") from error
        except (requests.RequestException, HTTPError, OSError) as error:
            raise Unreachable(f"no usable answer from {host}: {_cause(error)}") from error
        sent = request.body if isinstance(request.body, bytes) else str(request.body or "").encode()
        good, kind = response.status_code < 300, response.headers.get("Content-Type")
        secrets = _secrets(request, sent, SHORTEST_IN_GOOD if good else 1)
        # What storage gives back is nobody's words; a name or sentence in a document may end in a status.
        if not good or (self._documents and kind != FILE):
            body = _without(secrets, body)
        for name, value in response.headers.items():
            response.headers[name] = _without(secrets, value.encode("latin-1", "replace")).decode("latin-1")
        # What reads the response later (requests, the SDK) finds the body in memory and touches no socket.
        response.raw = _Body(body)
        response.headers.pop("Content-Encoding", None)
        answer = Answer(request.method or "", request.url or "", response.status_code, response.headers, body, sent)
        return response, answer

    def _read(self, response: requests.Response, deadline: float, host: str, *, has_body: bool) -> bytes:
        # read1 returns what has come; read(n) would wait for n bytes and let a trickle outlast any deadline.
        parts: list[bytes] = []
        size = 0
        while part := response.raw.read1(CHUNK, decode_content=True):
            parts.append(part)
            size += len(part)
            if size > self._bounds.body:
                response.close()
                raise Unreachable(f"{host} sent more than {self._bounds.body} bytes", reason="AnswerTooLarge")
            if time.monotonic() > deadline:
                response.close()
                raise Unreachable(f"{host} did not finish its answer within {self._bounds.total:g} s")
        expected = response.headers.get("Content-Length")
        whole = not has_body or "Content-Encoding" in response.headers
        if expected and expected.isdigit() and not whole and size < int(expected):
            raise Unreachable(f"{host} broke off its answer")
        response.raw.release_conn()
        return b"".join(parts)

    def _judge(self, answer: Answer) -> None:
        host = urlsplit(answer.url).netloc
        if 300 <= answer.status < 400:
            target = _netloc(answer.headers.get("Location", "")) or "another page"
            raise Refused(
                f"{host} redirects to {target}; redirects are never followed. Use the workspace's own URL.",
                reason="RedirectRefused",
            )
        if not self._judged:
            return
        if answer.status == 429:
            raise Throttled(f"{host} asks for fewer requests", retry_after=retry_after(answer.headers))
        if answer.status >= 500:
            raise Unreachable(f"{host} answered {answer.status}")
        if answer.status >= 400:
            error = self._dialect.error(answer)
            if error is not None:
                raise error
        elif not self._documents or answer.headers.get("Content-Type") == FILE:
            return
        elif answer.body and answer.json() is None and answer.body.strip() != b"null":
            raise Unreachable(f"{host} answered with something else than JSON", reason="PlatformAnswerMalformed")

    def _facts_of(self, answer: Answer) -> dict[str, Any]:
        request_id = next((answer.headers[name] for name in REQUEST_ID_HEADERS if name in answer.headers), None)
        return {
            "status": answer.status,
            "request_id": None if request_id is None else request_id[:128],
            "remote_id": self._dialect.remote_id(answer),
        }

    def _record_request(self, record_id: str, request: requests.PreparedRequest) -> None:
        url = urlsplit(request.url or "")
        names = sorted({name for name, _ in parse_qsl(url.query, keep_blank_values=True)})
        self._write(
            {
                "event": "request",
                "id": record_id,
                "method": request.method,
                "host": url.netloc,
                "path": url.path,
                "query": names or None,
                **current(),
                **self._facts(),
            }
        )

    def _write(self, record: Mapping[str, Any]) -> None:
        try:
            self._log.write(record)
        except OSError as error:
            raise Unreachable(f"the audit log can not be written: {error.strerror}", reason="AuditFailed") from error


class _Body(io.BytesIO):
    """An answer's body in memory. azure-core notes on it how it wants it read (`enforce_content_length`)."""


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a Retry-After header asks for (RFC 9110, 10.2.3: seconds or a date), within sane limits."""
    text = headers.get("Retry-After", "")
    try:
        seconds = float(text)
    except ValueError:
        seconds = _seconds_until(text)
    if not 0 <= seconds < float("inf"):
        seconds = DEFAULT_RETRY_AFTER
    return min(max(seconds, SHORTEST_RETRY_AFTER), LONGEST_RETRY_AFTER)


def _seconds_until(date: str) -> float:
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return DEFAULT_RETRY_AFTER
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


# Characters. A shorter part between dots need not be a secret, and may well stand in an answer by itself.
SHORTEST_PART = 16
# The same of a whole secret in an answer that is to be used: a word that a person chose may be one of the answer's.
SHORTEST_IN_GOOD = 16


def _secrets(request: requests.PreparedRequest, sent: bytes, shortest: int) -> list[bytes]:
    """The tokens and secrets that the request carried: a platform or proxy may echo them, whatever it answers."""
    secrets = [
        secret
        for name, value in request.headers.items()
        # Azure ML takes a token in a header of its own beside it (x-azureml-token).
        if name.lower() == "authorization" or name.lower().endswith("-token")
        for secret in _secrets_of(str(value))
    ]
    if request.headers.get("Content-Type") == "application/x-www-form-urlencoded":
        secrets += [value for name, value in parse_qsl(sent) if name.endswith((b"_token", b"_assertion", b"_secret"))]
    # Whole first, then what makes a JWT a secret: an answer may quote only its signature.
    parts = [part for secret in secrets for part in secret.split(b".")[1:] if len(part) >= SHORTEST_PART]
    for signature in _SIGNATURE.findall(urlsplit(request.url or "").query):
        secrets += [signature.encode(), unquote(signature).encode()]
    return [secret for secret in (*secrets, *parts) if len(secret) >= shortest]


def _without(secrets: Iterable[bytes], text: bytes) -> bytes:
    for secret in secrets:
        text = text.replace(secret, b"[token]")
    return text


def _netloc(url: str) -> str:
    try:
        return urlsplit(url).netloc[:255]
    except ValueError:
        return ""


def _secrets_of(header: str) -> list[bytes]:
    """What a header proves its sender by: a token, or a secret as it is sent and as it is (RFC 6749, 2.3.1)."""
    if not header.startswith("Basic "):
        return [header.removeprefix("Bearer ").encode()]
    encoded = header.removeprefix("Basic ")
    _, _, secret = base64.b64decode(encoded).partition(b":")
    return [encoded.encode(), secret, unquote_to_bytes(secret.replace(b"+", b" "))]


def _cause(error: BaseException) -> str:
    """The innermost cause's words. Outer ones repeat the whole URL, whose query may be long."""
    seen = error
    while (inner := seen.__cause__ or seen.__context__) is not None:
        seen = inner
    words = getattr(seen, "strerror", None) or str(seen) or type(seen).__name__
    return _SIGNATURE.sub("sig=[token]", " ".join(str(words).split()))[:200]
