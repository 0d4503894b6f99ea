"""What Entra, or a proxy in its place, may answer to a sign-in beside a token: never taken for one, never told on."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from tests.wire.answering import Answering, Asked, Told, serve_answers
from tests.wire.azureml import entra_source
from tests.wire.conftest import Accounts, Clock, Trail
from trainyard.core.errors import IdentityError, Throttled, TrainyardError, Unreachable
from trainyard.identity import clouds
from trainyard.identity.base import AZURE_CLIENT_ID, TokenSource

JSON = {"Content-Type": "application/json; charset=utf-8"}


@pytest.fixture
def entra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Answering]:
    with serve_answers(tmp_path) as answering:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(answering.ca_file))
        yield answering


@pytest.fixture
def accounts(issuer: Any) -> Accounts:
    made = Accounts(issuer, "")
    made.noted = {AZURE_CLIENT_ID: "app"}
    return made


@pytest.fixture
def tokens(entra: Answering, accounts: Accounts, audit: Trail, clock: Clock) -> TokenSource:
    cloud = clouds.parse(
        {
            "name": "Answering",
            "resourceManager": "https://arm.example",
            "authority": entra.origin,
            "storageSuffix": "core.example.test",
            "mlResource": "https://ml.example",
            "dataHosts": ["*.api.example.test"],
        }
    )
    return entra_source(cloud, "contoso", cloud.arm_scope, "app", accounts, audit, clock)


def answer(entra: Answering, body: Any, status: int = 200, **headers: str) -> None:
    entra.answer = lambda _asked: Told(status, json.dumps(body).encode(), {**JSON, **headers})


def failure(tokens: TokenSource) -> TrainyardError:
    with pytest.raises(TrainyardError) as raised:
        tokens.token()
    return raised.value


def test_one_form_is_sent_to_the_tenants_own_endpoint(
    tokens: TokenSource, entra: Answering, accounts: Accounts
) -> None:
    answer(entra, {"access_token": "good", "expires_in": 3599, "token_type": "Bearer"})
    assert tokens.token().value == "good"
    [asked] = entra.asked
    assert (asked.method, asked.path) == ("POST", "/contoso/oauth2/v2.0/token")
    assert "Authorization" not in asked.headers
    assert dict(parse_qsl(asked.body.decode())) == {
        "grant_type": "client_credentials",
        "client_id": "app",
        "scope": "https://arm.example/.default",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": accounts.minted[0],
    }


NO_TOKENS: list[Any] = [
    {},
    [],
    "token",
    None,
    {"access_token": "secret-token-value"},
    {"access_token": "secret-token-value", "expires_in": -1},
    {"access_token": "secret-token-value", "expires_in": "soon"},
    {"access_token": "secret-token-value", "expires_in": None},
    {"access_token": "secret-token-value", "expires_in": 1e400},
    {"access_token": "secret-token-value", "expires_in": 10**18},
    {"access_token": "secret-token-value\r\nX-Evil: 1", "expires_in": 3599},
    {"access_token": "", "expires_in": 3599},
    {"access_token": 7, "expires_in": 3599},
    {"access_token": None, "expires_in": 3599},
    {"error": "server_error", "access_token": "secret-token-value"},
]


@pytest.mark.parametrize("body", NO_TOKENS)
def test_an_answer_that_holds_no_token_with_a_life_is_no_answer(
    tokens: TokenSource, entra: Answering, caplog: pytest.LogCaptureFixture, body: Any
) -> None:
    answer(entra, body)
    error = failure(tokens)
    assert isinstance(error, Unreachable)
    assert error.reason == "PlatformAnswerMalformed"
    assert "secret-token-value" not in str(error) + repr(error.__cause__) + caplog.text
    assert len(entra.asked) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 418])
@pytest.mark.parametrize("body", [b"", b"<html>sign in</html>", b"[]", b'{"error": {"code": "x"}}'])
def test_a_refusal_without_entras_words_is_still_one(
    tokens: TokenSource, entra: Answering, status: int, body: bytes
) -> None:
    entra.answer = lambda _asked: Told(status, body, {"Content-Type": "text/html"})
    error = failure(tokens)
    assert isinstance(error, IdentityError)
    assert (error.reason, error.waiting) == ("TokenExchangeRefused", False)
    assert len(entra.asked) == 1


def test_a_refusal_that_quotes_the_assertion_is_told_without_it(
    tokens: TokenSource, entra: Answering, accounts: Accounts, audit: Trail, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")

    def echo(asked: Asked) -> Told:
        sent = dict(parse_qsl(asked.body.decode()))["client_assertion"]
        words = f"AADSTS50027: JWT token {sent} is invalid; signature {sent.split('.')[2]}"
        return Told(400, json.dumps({"error": "invalid_request", "error_description": words}).encode(), JSON)

    entra.answer = echo
    error = failure(tokens)
    assert error.reason == "AssertionRefused"
    assert "[token]" in error.message
    for part in accounts.minted[0].split(".")[1:]:
        assert part not in error.message + audit.stream.getvalue() + caplog.text


def test_a_pause_that_entra_asks_for_is_kept_whoever_asks(tokens: TokenSource, entra: Answering, clock: Clock) -> None:
    """Entra answers overuse with 429, and asking on makes it last; the source is shared by all workspaces."""
    answer(entra, {"error": "too_many"}, 429, **{"Retry-After": "60"})
    for ahead, left in ((0, 60), (20, 40), (59, 1)):
        clock.ahead = timedelta(seconds=ahead)
        error = failure(tokens)
        assert isinstance(error, Throttled)
        assert error.retry_after == pytest.approx(left, abs=0.9)
    assert len(entra.asked) == 1
    clock.ahead = timedelta(seconds=61)
    failure(tokens)
    assert len(entra.asked) == 2


def test_a_redirect_is_not_followed(tokens: TokenSource, entra: Answering) -> None:
    entra.answer = lambda _asked: Told(307, b"", {"Location": f"{entra.origin}/evil/oauth2/v2.0/token"})
    error = failure(tokens)
    assert isinstance(error, IdentityError)
    assert error.reason == "RedirectRefused"
    assert len(entra.asked) == 1
