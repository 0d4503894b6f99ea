"""The audit log and the transport that feeds it, against small servers that misbehave in their own way."""

import base64
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from trainyard.audit.context import ResourceRef, audit_context, current
from trainyard.audit.log import AuditLog
from trainyard.audit.transport import AuditedAdapter, Bounds, retry_after
from trainyard.core.errors import Denied, Missing, Refused, Throttled, TrainyardError, Unauthenticated, Unreachable
from trainyard.platforms.databricks.answers import DatabricksDialect
from trainyard.platforms.limits import QuotaReached

BOUNDS = Bounds(connect=1.0, read=0.5, total=1.0, body=10_000)
SECRET = "s3cret-access-token"


class Server:
    """Answers each connection with the bytes it is given, piece by piece."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.host = self.url.removeprefix("http://")
        self.pieces: list[bytes] = []
        self.pause = 0.0
        self.served = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def answer(self, status: str, body: bytes = b"", *headers: str) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
        self.pieces = ["\r\n".join(lines).encode() + body]

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                self.served += 1
                try:
                    for piece in self.pieces:
                        connection.sendall(piece)
                        self._closing.wait(self.pause)
                except OSError:
                    continue

    def close(self) -> None:
        self._closing.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def ask(server: Server, stream: io.StringIO) -> Iterator[Callable[..., requests.Response]]:
    with requests.Session() as session:
        facts = {"principal": "app-id", "mode": "federated", "service_account": "team-a/trainer"}
        session.mount("http://", AuditedAdapter(AuditLog(stream), DatabricksDialect(), lambda: facts, BOUNDS))
        session.headers["Authorization"] = f"Bearer {SECRET}"
        yield lambda path="/x", **options: session.request(options.pop("method", "GET"), server.url + path, **options)


def records(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def error_of(call: Callable[[], object]) -> TrainyardError:
    with pytest.raises(TrainyardError) as raised:
        call()
    return raised.value


def test_a_request_is_recorded_before_and_after_with_what_an_auditor_joins(
    server: Server, ask: Callable[..., requests.Response], stream: io.StringIO
) -> None:
    server.answer("200 OK", b'{"run_id": 7}', "X-Request-Id: req-1")
    with (
        audit_context(resource=ResourceRef("MLTrainingRun", "team-a", "iris", "uid-1"), action="submit"),
        audit_context(attempt=2),
    ):
        response = ask("/api/2.2/jobs/runs/submit?verbose=hush", method="POST", json={"secret": "hush"})
    assert response.json() == {"run_id": 7}
    before, after = records(stream)
    assert before["event"] == "request"
    assert {key: before[key] for key in ("method", "host", "path", "query")} == {
        "method": "POST",
        "host": server.host,
        "path": "/api/2.2/jobs/runs/submit",
        "query": ["verbose"],
    }
    assert before["resource"] == {"kind": "MLTrainingRun", "namespace": "team-a", "name": "iris", "uid": "uid-1"}
    assert (before["action"], before["attempt"], before["principal"]) == ("submit", 2, "app-id")
    assert (after["event"], after["id"]) == ("response", before["id"])
    assert (after["status"], after["request_id"], after["remote_id"]) == (200, "req-1", "7")
    assert after["duration_ms"] >= 0
    assert "hush" not in stream.getvalue()
    assert SECRET not in stream.getvalue()
    assert current() == {}


def test_a_request_that_can_not_be_recorded_is_not_sent(server: Server) -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(28, "No space left on device")

    with requests.Session() as session:
        session.mount("http://", AuditedAdapter(AuditLog(Full()), DatabricksDialect(), dict, BOUNDS))
        error = error_of(lambda: session.get(server.url))
    assert (type(error), error.reason) == (Unreachable, "AuditFailed")
    assert server.served == 0


def test_the_record_before_is_there_when_the_process_dies_in_between(
    server: Server, ask: Callable[..., requests.Response], stream: io.StringIO
) -> None:
    server.pieces, server.pause = [b""], 0.3
    caller = threading.Thread(target=lambda: error_of(ask))
    caller.start()
    deadline = time.monotonic() + 5
    while not stream.getvalue() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [record["event"] for record in records(stream)] == ["request"]
    caller.join(10)


def error_body(code: str, message: str = "words") -> bytes:
    return json.dumps({"error_code": code, "message": message}).encode()


GATEWAY_TOKEN = b'{"error_code": 403, "message": "Invalid access token. [ReqId: 0-1]"}'
# What an API gateway says of a path that it does not know.
GATEWAY = b'{"statusCode": 404, "message": "Resource not found"}'
GET_RUN = "/api/2.2/jobs/runs/get?run_id=1"
ANSWERS: list[tuple[str, str, bytes, type[TrainyardError], str]] = [
    ("/x", "401 Unauthorized", error_body("UNAUTHENTICATED"), Unauthenticated, "Unauthenticated"),
    ("/x", "401 Unauthorized", b"<html>", Unauthenticated, "Unauthenticated"),
    ("/x", "403 Forbidden", error_body("PERMISSION_DENIED"), Denied, "PermissionDenied"),
    ("/x", "400 Bad Request", error_body("PERMISSION_DENIED"), Denied, "PermissionDenied"),
    ("/x", "403 Forbidden", b"<html>blocked</html>", Denied, "PermissionDenied"),
    # What the gateway says of a token that has ended or was revoked; an API's own word for a right is another one.
    ("/x", "403 Forbidden", GATEWAY_TOKEN, Unauthenticated, "Unauthenticated"),
    (
        "/x",
        "403 Forbidden",
        b'{"error_code": 403, "message": "Token is expiring."}',
        Unauthenticated,
        "Unauthenticated",
    ),
    (
        "/x",
        "403 Forbidden\r\nX-Databricks-Reason-Phrase: Invalid access token.",
        b"",
        Unauthenticated,
        "Unauthenticated",
    ),
    ("/x", "403 Forbidden", b'{"error_code": 403, "message": "Unauthorized"}', Denied, "PermissionDenied"),
    ("/x", "403 Forbidden", error_body("PERMISSION_DENIED", "Invalid access token of git"), Denied, "PermissionDenied"),
    ("/x", "400 Bad Request", error_body("X", "Invalid access token"), Refused, "RequestRefused"),
    ("/x", "404 Not Found", error_body("RESOURCE_DOES_NOT_EXIST"), Missing, "NotFound"),
    ("/x", "404 Not Found", error_body("CATALOG_DOES_NOT_EXIST"), Missing, "NotFound"),
    ("/x", "404 Not Found", error_body("ENDPOINT_NOT_FOUND"), Refused, "EndpointNotFound"),
    ("/x", "404 Not Found", b"<html>", Unreachable, "PlatformAnswerMalformed"),
    (GET_RUN, "400 Bad Request", error_body("INVALID_PARAMETER_VALUE", "Run 1 does not exist."), Missing, "NotFound"),
    (
        "/x",
        "400 Bad Request",
        error_body("INVALID_PARAMETER_VALUE", "Run 1 does not exist."),
        Refused,
        "RequestRefused",
    ),
    ("/x", "400 Bad Request", error_body("INVALID_PARAMETER_VALUE"), Refused, "RequestRefused"),
    ("/x", "400 Bad Request", error_body("RESOURCE_ALREADY_EXISTS"), Refused, "AlreadyExists"),
    ("/x", "409 Conflict", error_body("RESOURCE_ALREADY_EXISTS"), Refused, "AlreadyExists"),
    ("/x", "409 Conflict", error_body("ABORTED"), Unreachable, "PlatformUnreachable"),
    (GET_RUN, "404 Not Found", error_body("RESOURCE_DOES_NOT_EXIST"), Missing, "NotFound"),
    (GET_RUN, "404 Not Found", GATEWAY, Unreachable, "PlatformAnswerMalformed"),
    ("/x", "404 Not Found", GATEWAY, Unreachable, "PlatformAnswerMalformed"),
    ("/x", "405 Method Not Allowed", GATEWAY, Unreachable, "PlatformAnswerMalformed"),
    (GET_RUN, "404 Not Found", error_body("FEATURE_DISABLED"), Refused, "RequestRefused"),
    (
        GET_RUN,
        "400 Bad Request",
        error_body("INVALID_PARAMETER_VALUE", "Run as user does not exist."),
        Refused,
        "RequestRefused",
    ),
    ("/x", "400 Bad Request", error_body("QUOTA_EXCEEDED"), QuotaReached, "PlatformThrottled"),
    ("/x", "400 Bad Request", error_body("REQUEST_LIMIT_EXCEEDED"), Throttled, "PlatformThrottled"),
    ("/x", "429 Too Many Requests", b"", Throttled, "PlatformThrottled"),
    ("/x", "408 Request Timeout", error_body("X"), Unreachable, "PlatformUnreachable"),
    ("/x", "500 Internal Server Error", b"{}", Unreachable, "PlatformUnreachable"),
    ("/x", "503 Service Unavailable", b"{}", Unreachable, "PlatformUnreachable"),
    ("/x", "302 Found", b"", Refused, "RedirectRefused"),
    ("/x", "307 Temporary Redirect", b"", Refused, "RedirectRefused"),
    ("/x", "200 OK", b"<html>sign in</html>", Unreachable, "PlatformAnswerMalformed"),
    ("/x", "200 OK", b'{"cut": ', Unreachable, "PlatformAnswerMalformed"),
    ("/x", "200 OK", b'{"a": "' + b"a" * 20_000 + b'"}', Unreachable, "AnswerTooLarge"),
]


@pytest.mark.parametrize(("path", "status", "body", "error", "reason"), ANSWERS)
def test_each_answer_is_its_own_error(
    server: Server,
    ask: Callable[..., requests.Response],
    stream: io.StringIO,
    path: str,
    status: str,
    body: bytes,
    error: type[TrainyardError],
    reason: str,
) -> None:
    server.answer(status, body, "Location: http://127.0.0.1:1/")
    raised = error_of(lambda: ask(path))
    assert (type(raised), raised.reason) == (error, reason)
    assert server.served == 1
    assert records(stream)[1]["error"] == f"{error.__name__}/{reason}"


def test_what_differs_from_answer_to_answer_is_left_out(server: Server, ask: Callable[..., requests.Response]) -> None:
    server.answer("403 Forbidden", GATEWAY_TOKEN)
    assert error_of(ask).message == "Invalid access token."


@pytest.mark.parametrize("code", ["PERMISSION_DENIED", "403"])
def test_who_may_not_use_the_workspace_is_told_what_gives_it(
    server: Server, ask: Callable[..., requests.Response], code: str
) -> None:
    server.answer("403 Forbidden", error_body(code, "Unauthorized access to Org: 1"))
    told = error_of(lambda: ask("/api/2.0/preview/scim/v2/Me")).message
    assert told.startswith("Unauthorized access to Org: 1 ")
    assert "databricks account workspace-assignment update WORKSPACE_ID" in told
    assert "workspace-access" in told
    assert error_of(lambda: ask("/api/2.0/jobs")).message == "Unauthorized access to Org: 1"


def test_answers_with_nan_or_nothing_are_fine(server: Server, ask: Callable[..., requests.Response]) -> None:
    server.answer("200 OK", b'{"value": NaN}')
    assert ask().json()["value"] != 0
    server.answer("200 OK", b"")
    assert ask().content == b""


BROKEN: list[tuple[list[bytes], float]] = [
    ([b""], 0.0),
    ([b"HTTP/1."], 0.0),
    ([b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}"], 0.0),
    ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n{}"], 0.0),
    ([b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", *[b"{"] * 100], 0.1),
    ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n", *[b"{"] * 100], 0.1),
    ([b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"{", b"}"], 3.0),
]


@pytest.mark.parametrize(("pieces", "pause"), BROKEN)
def test_a_broken_or_trickling_answer_is_unreachable_in_bounded_time(
    server: Server, ask: Callable[..., requests.Response], pieces: list[bytes], pause: float
) -> None:
    server.pieces, server.pause = pieces, pause
    began = time.monotonic()
    assert type(error_of(ask)) is Unreachable
    assert time.monotonic() - began < 2


def test_nobody_listening_is_unreachable(server: Server, ask: Callable[..., requests.Response]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with requests.Session() as session:
        session.mount("http://", AuditedAdapter(AuditLog(io.StringIO()), DatabricksDialect(), dict, BOUNDS))
        error = error_of(lambda: session.get(f"http://127.0.0.1:{port}/x?secret=hush"))
    assert type(error) is Unreachable
    assert "Connection refused" in error.message
    assert "hush" not in error.message


def test_a_platform_that_echoes_the_token_does_not_get_it_into_an_error(
    server: Server, ask: Callable[..., requests.Response], stream: io.StringIO
) -> None:
    server.answer("400 Bad Request", error_body("INVALID_PARAMETER_VALUE", f"bad token {SECRET} in header"))
    error = error_of(ask)
    assert "bad token [token] in header" in error.message
    assert SECRET not in repr(error) + stream.getvalue()


def test_a_token_in_a_header_of_its_own_does_not_get_into_an_error(
    server: Server, ask: Callable[..., requests.Response]
) -> None:
    server.answer("400 Bad Request", error_body("INVALID_PARAMETER_VALUE", "bad header handed-on-token-1234"))
    error = error_of(lambda: ask(headers={"x-azureml-token": "handed-on-token-1234"}))
    assert error.message == "bad header [token]"


def test_a_platform_that_quotes_only_a_part_of_the_token_does_not_get_it_into_an_error(server: Server) -> None:
    payload, signature = "eyJzdWIiOiJ0cmFpbmVyIn0", "c2lnbmF0dXJlLXNpZ25hdHVyZQ"
    server.answer("400 Bad Request", error_body("INVALID_PARAMETER_VALUE", f"signature {signature} of {payload}"))
    headers = {"Authorization": f"Bearer eyJhbGciOiJFUzI1NiJ9.{payload}.{signature}"}
    with requests.Session() as session:
        session.mount("http://", AuditedAdapter(AuditLog(io.StringIO()), DatabricksDialect(), dict, BOUNDS))
        error = error_of(lambda: session.get(f"{server.url}/api/2.2/jobs/runs/get", headers=headers))
    assert error.message == "signature [token] of [token]"


def test_a_provider_that_echoes_a_clients_secret_does_not_get_it_into_an_error(server: Server) -> None:
    """As it was sent (form-encoded, RFC 6749 2.3.1), as it is, and with the client's id in Base64."""
    header = "Basic " + base64.b64encode(b"client:s%2Bcret+words").decode()
    server.answer("400 Bad Request", error_body("X", f"s+cret words, s%2Bcret+words, {header}, and hidden-form"))
    with requests.Session() as session:
        session.mount("http://", AuditedAdapter(AuditLog(io.StringIO()), DatabricksDialect(), dict, BOUNDS))
        data = {"client_secret": "hidden-form"}
        url = f"{server.url}/api/2.2/jobs/runs/get"
        error = error_of(lambda: session.post(url, data=data, headers={"Authorization": header}))
    assert error.message == "[token], [token], Basic [token], and [token]"


def test_a_platform_that_echoes_a_shared_access_signature_does_not_get_it_into_an_error(
    server: Server, ask: Callable[..., requests.Response], stream: io.StringIO
) -> None:
    said = "signature a/b+c1234567890== did not match a%2Fb%2Bc1234567890%3D%3D"
    server.answer("400 Bad Request", error_body("INVALID_PARAMETER_VALUE", said))
    error = error_of(lambda: ask("/box/blob?se=2030&sig=a%2Fb%2Bc1234567890%3D%3D&sp=r"))
    assert error.message == "signature [token] did not match [token]"
    assert "1234567890" not in stream.getvalue()


@pytest.mark.parametrize("documents", [True, False])
def test_storage_may_answer_with_what_was_put_there_and_nobody_else(server: Server, documents: bool) -> None:
    server.answer("200 OK", b"epoch 1\n", "Content-Type: text/plain")
    adapter = AuditedAdapter(AuditLog(io.StringIO()), DatabricksDialect(), dict, BOUNDS, documents=documents)
    with requests.Session() as session:
        session.mount("http://", adapter)
        if documents:
            assert error_of(lambda: session.get(server.url)).reason == "PlatformAnswerMalformed"
        else:
            assert session.get(server.url).text == "epoch 1\n"


RETRY_AFTER = [("7", 7), ("0", 1), ("0.2", 1), ("1e9", 3600), ("nan", 5), ("-3", 5), ("soon", 5), ("", 5)]
OFF_ANY_CALENDAR = "Mon, 01 Jan 2024 00:00:00 +99999999999999999999"


@pytest.mark.parametrize(("text", "seconds"), [*RETRY_AFTER, (OFF_ANY_CALENDAR, 5)])
def test_a_pause_is_within_sane_limits(text: str, seconds: float) -> None:
    assert retry_after({"Retry-After": text}) == seconds


def test_a_pause_may_be_a_date() -> None:
    assert retry_after({"Retry-After": "Thu, 01 Jan 2015 00:00:00 GMT"}) == 1
    assert retry_after({"Retry-After": "Thu, 01 Jan 2170 00:00:00 GMT"}) == 3600


def test_lines_of_many_threads_do_not_mix_and_survive_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog.to_file(path)
    threads = [
        threading.Thread(target=lambda: [log.write({"event": "request", "path": "x" * 500}) for _ in range(50)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 400
    assert path.stat().st_mode & 0o007 == 0
    log.close()


def test_a_record_has_its_time_and_no_empty_fields() -> None:
    stream = io.StringIO()
    AuditLog(stream, now=lambda: datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)).write({"event": "x", "gone": None})
    assert records(stream) == [{"time": "2026-01-02T03:04:05.678Z", "event": "x"}]


@pytest.mark.parametrize("status", ["424 Failed Dependency", "429 Too Many Requests", "503 Service Unavailable"])
def test_an_adapter_that_does_not_judge_hands_on_any_answer(server: Server, stream: io.StringIO, status: str) -> None:
    server.answer(status, f"<p>your {SECRET}</p>".encode())
    with requests.Session() as session:
        adapter = AuditedAdapter(AuditLog(stream), DatabricksDialect(), dict, BOUNDS, documents=False, judged=False)
        session.mount("http://", adapter)
        answer = session.get(server.url, headers={"Authorization": f"Bearer {SECRET}"})
        assert (answer.status_code, answer.text) == (int(status[:3]), "<p>your [token]</p>")
        server.answer("302 Found", b"", "Location: http://127.0.0.1:1/elsewhere")
        with pytest.raises(Refused):
            session.get(server.url, allow_redirects=False)
    assert [row["status"] for row in records(stream) if row["event"] == "response"] == [int(status[:3]), 302]
