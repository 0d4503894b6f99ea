"""Mode oidc and providers that answer with anything else than they should: what is told, and what never leaves."""

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.wire.answering import Answering, Asked, Told, serve_answers
from tests.wire.conftest import Clock
from trainyard.api.identity import OidcIdentity
from trainyard.audit.log import AuditLog
from trainyard.audit.transport import Bounds
from trainyard.core.errors import IdentityError, Throttled, TrainyardError, Unreachable
from trainyard.identity.base import SecretData, SecretRef
from trainyard.identity.oidc import ProviderClient
from trainyard.identity.oidc_issuers import IssuerPolicy

BOUNDS = Bounds(connect=2.0, read=1.0, total=1.5, body=64 * 1024)
SECRET_VALUE = "client-secret+0123456789"
OPENID, RFC8414 = "/oauth2/a/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/oauth2/a"
TOKEN = "/oauth2/a/v1/token"
KEY = rsa.generate_private_key(65537, 2048)


class Kept:
    """A Secret that counts how often it is read."""

    def __init__(self) -> None:
        self.read = 0

    def secret_data(self, _: SecretRef) -> SecretData:
        self.read += 1
        data = {"client-secret": SECRET_VALUE.encode()}
        return SecretData({"trainyard.dev/identity": "oidc"}, data, datetime(2026, 1, 1, tzinfo=UTC))


class Scene:
    """A provider that answers as `routes` say, a client of it, and what was written of it."""

    def __init__(self, server: Answering, audit: io.StringIO) -> None:
        self.server, self.audit, self.kept, self.clock = server, audit, Kept(), Clock()
        self.issuer = f"{server.origin}/oauth2/a"
        self.routes: dict[str, Callable[[Asked], Told] | Told] = {
            OPENID: document({"issuer": self.issuer, "token_endpoint": self.issuer + "/v1/token"}),
            TOKEN: lambda _: document({"access_token": self.token(), "token_type": "Bearer", "expires_in": 600}),
        }
        server.answer = self._answer

    def token(self) -> str:
        now = datetime.now(UTC)
        claims = {"iss": self.issuer, "sub": "app", "aud": "databricks", "iat": now, "exp": now + timedelta(minutes=10)}
        return jwt.encode(claims, KEY, algorithm="RS256")

    def client(self, token_hosts: tuple[str, ...] = (), **fields: Any) -> ProviderClient:
        named = {"clientId": "app", "secretName": "okta", "authentication": "ClientSecretBasic", "principal": "p"}
        return ProviderClient(
            OidcIdentity.model_validate({"issuer": self.issuer, **named, **fields}),
            SecretRef("team", "okta"),
            {"principal": "p", "mode": "oidc", "secret": "team/okta"},
            secrets=self.kept,
            issuers=IssuerPolicy([self.issuer], token_hosts),
            for_entra=False,
            log=AuditLog(self.audit),
            now=self.clock,
            bounds=BOUNDS,
        )

    def failure(self, client: ProviderClient | None = None) -> TrainyardError:
        with pytest.raises(TrainyardError) as raised:
            (client or self.client()).assertion()
        told = raised.value.message + repr(raised.value) + self.audit.getvalue()
        assert SECRET_VALUE not in told
        return raised.value

    def paths(self) -> list[str]:
        return [asked.path for asked in self.server.asked]

    def _answer(self, asked: Asked) -> Told:
        route = self.routes.get(asked.path, Told(404))
        return route if isinstance(route, Told) else route(asked)


def document(content: Any, status: int = 200, **headers: str) -> Told:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return Told(status, json.dumps(content).encode(), {"Content-Type": "application/json", **given})


def html(status: int = 200) -> Told:
    return Told(status, b"<html><body>Sign in</body></html>", {"Content-Type": "text/html"})


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    with serve_answers(tmp_path) as server:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.ca_file))
        yield Scene(server, io.StringIO())


def test_a_client_sends_its_secret_once_and_nowhere_but_to_the_token_endpoint(scene: Scene) -> None:
    assert scene.client(scope="train").assertion().subject == "app"
    assert scene.paths() == [OPENID, TOKEN]
    discovery, request = scene.server.asked
    assert "Authorization" not in discovery.headers
    header = request.headers["Authorization"].removeprefix("Basic ")
    assert base64.b64decode(header) == b"app:client-secret%2B0123456789"
    assert request.body == b"grant_type=client_credentials&scope=train"


def test_a_provider_of_rfc_8414_is_found_where_that_says(scene: Scene) -> None:
    scene.routes[RFC8414] = scene.routes.pop(OPENID)
    assert scene.client().assertion().subject == "app"
    assert scene.paths() == [OPENID, RFC8414, TOKEN]


HOSTILE: list[tuple[Any, str]] = [
    (Told(404), "DiscoveryFailed"),
    (document({}, status=403), "DiscoveryFailed"),
    (document({"issuer": "{issuer}"}), "DiscoveryFailed"),
    (document({"issuer": "{issuer}", "token_endpoint": 7}), "DiscoveryFailed"),
    (document({"issuer": "{issuer}/", "token_endpoint": "{issuer}/v1/token"}), "DiscoveryFailed"),
    (document({"issuer": "https://evil.example", "token_endpoint": "{issuer}/v1/token"}), "DiscoveryFailed"),
    (document({"issuer": "{issuer}", "token_endpoint": "https://evil.example/"}), "TokenEndpointNotAllowed"),
    (document({"issuer": "{issuer}", "token_endpoint": "http://localhost/"}), "TokenEndpointNotAllowed"),
    (document({"issuer": "{issuer}", "token_endpoint": "https://localhost/"}), "TokenEndpointNotAllowed"),
    (document({}, status=302, Location="https://evil.example/"), "RedirectRefused"),
    (html(), "PlatformAnswerMalformed"),
    (document([]), "PlatformAnswerMalformed"),
    (document({}, status=503), "PlatformUnreachable"),
    (document("x" * BOUNDS.body), "AnswerTooLarge"),
]


@pytest.mark.parametrize(("answer", "reason"), HOSTILE)
def test_a_provider_that_does_not_say_who_it_is_is_sent_no_secret(scene: Scene, answer: Told, reason: str) -> None:
    body = answer.body.replace(b"{issuer}", scene.issuer.encode())
    scene.routes[OPENID] = Told(answer.status, body, answer.headers)
    assert scene.failure().reason == reason
    assert scene.kept.read == 0
    assert TOKEN not in scene.paths()


def test_a_token_endpoint_elsewhere_is_asked_where_an_administrator_allows_it(scene: Scene, tmp_path: Path) -> None:
    elsewhere = scene.issuer.replace("localhost", "127.0.0.1") + "/v1/token"
    scene.routes[OPENID] = document({"issuer": scene.issuer, "token_endpoint": elsewhere})
    assert scene.failure().reason == "TokenEndpointNotAllowed"
    allowed = scene.client(token_hosts=(f"127.0.0.1:{scene.server.port}",))
    # The certificate is of localhost alone: the request was about to leave, and did not for that reason only.
    assert "127.0.0.1" in scene.failure(allowed).message
    assert scene.kept.read == 1


RUBBISH: list[tuple[Any, str, type[TrainyardError]]] = [
    (html(), "PlatformAnswerMalformed", Unreachable),
    (html(401), "ProviderRefusedClient", IdentityError),
    (html(400), "ProviderRefusedRequest", IdentityError),
    (Told(200), "PlatformAnswerMalformed", Unreachable),
    (Told(204), "PlatformAnswerMalformed", Unreachable),
    (document(None), "PlatformAnswerMalformed", Unreachable),
    (document([]), "PlatformAnswerMalformed", Unreachable),
    (document({}), "PlatformAnswerMalformed", Unreachable),
    (document({"access_token": 7}), "PlatformAnswerMalformed", Unreachable),
    (document({"access_token": "é"}), "PlatformAnswerMalformed", Unreachable),
    (document({"access_token": "opaque"}), "AssertionUnusable", IdentityError),
    (document({"access_token": "x" * BOUNDS.body}), "AnswerTooLarge", Unreachable),
    (document({}, status=307, Location="https://evil.example/"), "RedirectRefused", IdentityError),
    (document({}, status=500), "PlatformUnreachable", Unreachable),
    (document({"error": "invalid_client"}, status=401), "ProviderRefusedClient", IdentityError),
    (document({"error": ["x"], "error_description": {}}, status=400), "ProviderRefusedRequest", IdentityError),
    (document({"errorCode": "E0000004", "errorSummary": "words"}, status=401), "ProviderRefusedRequest", IdentityError),
    (document({}, status=429, Retry_After="7"), "PlatformThrottled", Throttled),
]


@pytest.mark.parametrize(("answer", "reason", "kind"), RUBBISH)
def test_a_token_endpoint_that_gives_no_token_is_told_and_asked_once(
    scene: Scene, answer: Told, reason: str, kind: type[TrainyardError]
) -> None:
    scene.routes[TOKEN] = answer
    error = scene.failure()
    assert (type(error), error.reason) == (kind, reason)
    assert scene.paths().count(TOKEN) == 1
    if isinstance(error, Throttled):
        assert error.retry_after == 7


def test_a_token_endpoint_that_hangs_is_left_in_bounded_time(scene: Scene) -> None:
    release = threading.Event()

    def hang(_: Asked) -> Told:
        release.wait(30)
        return Told(200)

    scene.routes[TOKEN] = hang
    try:
        assert type(scene.failure()) is Unreachable
    finally:
        release.set()


@pytest.mark.parametrize("form", ["as it is", "as it was sent", "in its header"])
def test_a_provider_that_echoes_the_secret_does_not_get_it_into_an_error(scene: Scene, form: str) -> None:
    def echo(asked: Asked) -> Told:
        header = asked.headers["Authorization"]
        sent = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")[2]
        said = {"as it is": SECRET_VALUE, "as it was sent": sent, "in its header": header}[form]
        return document({"error": "invalid_client", "error_description": f"no client has {said}"}, status=401)

    scene.routes[TOKEN] = echo
    message = scene.failure().message
    assert "no client has" in message
    assert "[token]" in message


def test_after_a_failure_the_provider_is_asked_anew_where_its_tokens_are(scene: Scene) -> None:
    client = scene.client()
    working, scene.routes[TOKEN] = scene.routes[TOKEN], Told(404)
    scene.failure(client)
    scene.routes[TOKEN] = working
    assert client.assertion().subject == "app"
    assert client.assertion().subject == "app"
    assert scene.paths() == [OPENID, TOKEN, OPENID, TOKEN, TOKEN]
