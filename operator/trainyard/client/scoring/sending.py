"""One bounded request to a platform with the caller's credential. Used by this package only.

Never follows a redirect, never repeats, reads no more than an answer may hold, and takes the credential out of whatever
is told. `.netrc` is not looked at: the credential is what was decided here.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError

from trainyard.client.errors import Unreachable

CONNECT_SECONDS = 5.0
LARGEST_ANSWER = 64 * 1024 * 1024
CHUNK = 64 * 1024
# Characters of an answer that are told when it is an error.
TOLD = 1000


@dataclass(frozen=True, slots=True)
class Answer:
    """A platform's answer, read to its end; `seconds` is how long it took."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float
    secrets: tuple[bytes, ...]

    def json(self) -> Any:
        """The body as JSON, or None when it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    def words(self) -> str:
        """What it says, in one line, without the credential."""
        body = self.body
        for secret in self.secrets:
            body = body.replace(secret, b"[token]")
        said = _message(body)
        return " ".join(said.split())[:TOLD]


class _Credential(AuthBase):
    """Sets the credential's headers; given as auth, it keeps requests from looking for another in .netrc."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(self._headers)
        return request


def send(
    method: str,
    url: str,
    credential: Mapping[str, str],
    seconds: float,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Answer:
    """Sends the request and reads the answer within so many seconds. Raises Unreachable where there is none."""
    host = urlsplit(url).netloc
    began = time.monotonic()
    try:
        with (
            requests.Session() as session,
            session.request(
                method,
                url,
                data=body,
                headers=dict(headers or {}),
                auth=_Credential(credential),
                timeout=(min(CONNECT_SECONDS, seconds), seconds),
                allow_redirects=False,
                stream=True,
            ) as response,
        ):
            read = _read(response, began + seconds, host)
    except requests.Timeout as error:
        raise Unreachable(f"{host} did not answer within {seconds:g} s") from error
    except (requests.RequestException, HTTPError, OSError) as error:
        raise Unreachable(f"no usable answer from {host}: {_cause(error)}") from error
    if 300 <= response.status_code < 400:
        raise Unreachable(f"{host} redirects, which is never followed: status.endpoint.url is not what answers there")
    return Answer(response.status_code, response.headers, read, time.monotonic() - began, _secrets(credential))


def _read(response: requests.Response, deadline: float, host: str) -> bytes:
    # read1 returns what has come; read(n) would wait for n bytes and let a trickle outlast any deadline.
    parts: list[bytes] = []
    size = 0
    while part := response.raw.read1(CHUNK, decode_content=True):
        parts.append(part)
        size += len(part)
        if size > LARGEST_ANSWER:
            raise Unreachable(f"{host} sent more than {LARGEST_ANSWER} bytes: score fewer rows at a time")
        if time.monotonic() > deadline:
            raise Unreachable(f"{host} did not finish its answer in time: score fewer rows, or give --timeout")
    return b"".join(parts)


def _secrets(credential: Mapping[str, str]) -> tuple[bytes, ...]:
    values = [value.removeprefix("Bearer ").strip().encode() for value in credential.values()]
    return tuple(value for value in values if len(value) >= 8)


def _message(body: bytes) -> str:
    """The sentence in an error of Databricks, of Azure or of MLflow, or the text as it is."""
    text = body.decode(errors="replace")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(found, dict):
        inner = found.get("error")
        for part in (found, inner if isinstance(inner, dict) else {}):
            said = part.get("message")
            if isinstance(said, str):
                code = part.get("error_code") or part.get("code")
                return f"{code}: {said}" if code else said
    return text


def _cause(error: BaseException) -> str:
    """The innermost cause's words; outer ones repeat the whole URL."""
    seen = error
    while (inner := seen.__cause__ or seen.__context__) is not None:
        seen = inner
    return " ".join(str(getattr(seen, "strerror", None) or seen or type(seen).__name__).split())[:200]
