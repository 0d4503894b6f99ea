"""Answers that no library expects: each is an error of ours, which is told and waited with, and none escapes a lane."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
import requests

from tests.unit.test_oidc import identity_with
from trainyard.audit.log import AuditLog
from trainyard.core.errors import IdentityError, Unreachable
from trainyard.core.snapshot import Target
from trainyard.identity import clocks, imds, oauth, oidc_provider, secret_age, whoami
from trainyard.identity.base import AccessToken
from trainyard.identity.client_secret import KeptToken
from trainyard.identity.hosts import HostPolicy
from trainyard.identity.oidc_claims import assertion_of
from trainyard.identity.oidc_client import ClientProof
from trainyard.identity.oidc_issuers import IssuerPolicy
from trainyard.platforms.base import Account
from trainyard.platforms.databricks.client import DatabricksClient
from trainyard.platforms.databricks.connection import DatabricksConnection

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
HOST = "https://adb-1.2.azuredatabricks.net"
ISSUER = "https://id.example.com"


class Saying(requests.Session):
    """Gets that body as the answer to everything."""

    def __init__(self, body: bytes, status: int = 200) -> None:
        super().__init__()
        self.answer = requests.Response()
        self.answer.status_code, self.answer._content = status, body
        self.answer.headers["Content-Type"] = "application/octet-stream"  # which the transport takes for a file

    def request(self, *_: Any, **__: Any) -> requests.Response:
        return self.answer


READERS: dict[str, Callable[[Saying], object]] = {
    "discovery": lambda session: oauth.token_endpoint(session, HOST, HostPolicy()),
    "exchange": lambda session: oauth.access_token(session.answer, NOW),
    "whoami": lambda session: whoami.principal_of(session, HOST, AccessToken("t", NOW)),
    "provider": lambda session: oidc_provider.discovered(session, ISSUER, IssuerPolicy([ISSUER])),
    "provider's token": lambda session: oidc_provider.token(session, ISSUER, identity_with(), ClientProof()),
    "metadata service": lambda session: imds._token(session.answer, NOW),
}


@pytest.mark.parametrize("body", [b"", b"<html>", b"[" * 100_000, b"\xff\xfe{", b'{"a": ' + b"9" * 5000 + b"}"])
@pytest.mark.parametrize("reader", READERS)
def test_an_answer_that_is_no_document_is_unreachable(reader: str, body: bytes) -> None:
    with pytest.raises(Unreachable) as caught:
        READERS[reader](Saying(body))
    assert caught.value.reason == "PlatformAnswerMalformed"


@pytest.mark.parametrize("body", [b"<html>", b"[" * 100_000])
def test_a_refusal_in_no_form_is_told_by_its_status(body: bytes) -> None:
    assert oauth.error_of(Saying(body, 400).answer) == ("", "status 400")
    assert oidc_provider.refusal(Saying(body, 400).answer, identity_with()).reason == "ProviderRefusedRequest"


@pytest.mark.parametrize(
    "token",
    [
        b'{"access_token": "t", "expires_in": Infinity}',
        b'{"access_token": "t", "expires_in": 1e300}',
        b'{"access_token": "t", "expires_in": 10000000000000}',
        b'{"access_token": "t\\r\\nX-Header: y", "expires_in": 3600}',
        b'{"access_token": "t\\u0142", "expires_in": 3600}',
    ],
)
def test_a_token_that_no_header_or_calendar_can_hold_is_none(token: bytes) -> None:
    with pytest.raises(Unreachable, match="holds no token"):
        oauth.access_token(Saying(token).answer, NOW)


@pytest.mark.parametrize("times", [{"exp": float("-inf")}, {"nbf": float("inf")}, {"iat": float("inf")}])
def test_times_without_end_in_a_providers_token_are_refused(times: dict[str, float]) -> None:
    claims = {"iss": ISSUER, "sub": "app", "aud": "databricks", "exp": NOW.timestamp() + 600, **times}
    token = jwt.encode(claims, "k" * 32, algorithm="HS256", headers={"alg": "HS256"})
    token = ".".join([jwt.utils.base64url_encode(b'{"alg":"RS256"}').decode(), *token.split(".")[1:]])
    with pytest.raises(IdentityError, match="no numbers"):
        assertion_of(token, ISSUER, None, NOW, for_entra=False)


def test_a_providers_token_that_is_nested_without_end_is_no_jwt() -> None:
    token = jwt.utils.base64url_encode(b"[" * 20_000).decode()
    with pytest.raises(IdentityError, match="is no JWT"):
        assertion_of(f"{token}.{token}.c2ln", ISSUER, None, NOW, for_entra=False)


def test_a_date_that_is_off_any_calendar_tells_no_time() -> None:
    assert clocks.told_now({"Date": "Mon, 01 Jan 2024 00:00:00 +99999999999999999999"}) is None


def test_an_annotation_off_any_calendar_is_no_time() -> None:
    with pytest.raises(ValueError, match="range"):
        secret_age.changed_at(NOW, {secret_age.CHANGED_AT: "0001-01-01T00:00:00+23:59"})


@pytest.mark.parametrize("told", [{}, [], {"userName": "a" * 256}, {"userName": 7}, {"userName": ""}])
def test_a_name_that_no_status_could_hold_is_none(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unreachable, match="does not say who we are"):
        connection_that_is_told(told, monkeypatch).whoami()
    with pytest.raises(Unreachable, match="does not say whose"):
        whoami.principal_of(Saying(json.dumps(told).encode()), HOST, AccessToken("t", NOW))


@pytest.mark.parametrize(("told", "workspace_id"), [("1" * 64, "1" * 64), ("1" * 65, None), (None, None)])
def test_a_workspaces_id_that_no_status_could_hold_is_left_out(
    told: str | None, workspace_id: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"userName": "ada", "x-databricks-org-id": told}
    assert connection_that_is_told(answer, monkeypatch).whoami() == Account("ada", workspace_id)


def connection_that_is_told(answer: Any, monkeypatch: pytest.MonkeyPatch) -> DatabricksConnection:
    monkeypatch.setattr(DatabricksClient, "call", lambda *_: answer)
    target = Target("databricks", HOST, "app", "federated", "trainer")
    return DatabricksConnection(
        target, KeptToken({"principal": "app"}, lambda: AccessToken("t", NOW)), AuditLog(io.StringIO())
    )
