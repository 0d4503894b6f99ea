"""What a platform or proxy echoes of the tokens that it was sent is shown nowhere, wherever in its answer it is."""

import base64
import io
import json
from collections.abc import Iterator

import pytest
import requests

from tests.unit.test_audit import BOUNDS, Server, error_of
from trainyard.audit.log import AuditLog
from trainyard.audit.transport import AuditedAdapter
from trainyard.core.errors import TrainyardError
from trainyard.platforms.databricks.answers import DatabricksDialect


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.mark.parametrize(
    ("status", "header"),
    [("200 OK", "x-request-id: "), ("302 Found", "Location: https://"), ("429 Slow", "x-request-id: ")],
)
def test_what_a_platform_echoes_in_a_good_answer_or_a_header_shows_no_token(
    server: Server, status: str, header: str
) -> None:
    """A name that it tells may end in a status, a redirect's host in a message, a request's id in the audit log."""
    stream = io.StringIO()
    token = "dapi0123456789abcdef0123456789abcdef"
    server.answer(status, json.dumps({"userName": token}).encode(), f"{header}{token}.example")
    with requests.Session() as session:
        session.mount("http://", AuditedAdapter(AuditLog(stream), DatabricksDialect(), dict, BOUNDS))
        try:
            told = session.get(server.url, headers={"Authorization": f"Bearer {token}"}, allow_redirects=False).text
        except TrainyardError as error:
            told = error.message
    assert token not in told + stream.getvalue()
    assert "[token]" in told + stream.getvalue() or "another page" in told


def test_a_short_secret_does_not_spoil_an_answer_that_is_used(server: Server) -> None:
    server.answer("200 OK", b'{"expires_in": 3600}')
    with requests.Session() as session:
        session.mount("http://", AuditedAdapter(AuditLog(io.StringIO()), DatabricksDialect(), dict, BOUNDS))
        header = "Basic " + base64.b64encode(b"client:expires_in").decode()
        assert session.get(server.url, headers={"Authorization": header}).json() == {"expires_in": 3600}


def test_an_answer_that_is_nested_without_end_is_malformed(server: Server) -> None:
    server.answer("200 OK", b"[" * 9_000)
    with requests.Session() as session:
        session.mount("http://", AuditedAdapter(AuditLog(io.StringIO()), DatabricksDialect(), dict, BOUNDS))
        assert error_of(lambda: session.get(server.url)).reason == "PlatformAnswerMalformed"
