"""Logs in Azure storage, against what the Blob service's and Entra's references say of requests and answers."""

import io
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

from tests.wire.answering import Answering, Asked, Told, serve_answers
from tests.wire.test_log_s3 import ASSERTION, Clock, Minter, refusal
from trainyard.audit.log import AuditLog
from trainyard.core.errors import Denied, IdentityError, Missing, Refused, Throttled, Unauthenticated, Unreachable
from trainyard.identity.hosts import HostPolicy
from trainyard.keeping.adls import AdlsLogStore, AdlsPlace

TENANT, CLIENT = "11111111-2222-3333-4444-555555555555", "99999999-8888-7777-6666-555555555555"


class Azure:
    """Entra and one storage container, strict about what a request has to carry."""

    def __init__(self) -> None:
        self.blobs: dict[str, tuple[bytes, str]] = {}
        self.tokens: list[str] = []
        self.refused: Told | None = None
        self.refused_token: Told | None = None

    def __call__(self, asked: Asked) -> Told:
        path, _, query = asked.path.partition("?")
        if path.endswith("/oauth2/v2.0/token"):
            return self.refused_token or self._token(path, parse_qs(asked.body.decode()))
        if self.refused is not None:
            return self.refused
        if asked.headers.get("Authorization") != f"Bearer {self.tokens[-1]}":
            return Told(401, b"", {"x-ms-error-code": "InvalidAuthenticationInfo"})
        if not asked.headers.get("x-ms-version"):
            return Told(400, b"", {"x-ms-error-code": "MissingRequiredHeader"})
        return self._blob(asked, unquote(path).removeprefix("/logs/"), query)

    def _token(self, path: str, form: dict[str, list[str]]) -> Told:
        assert path == f"/{TENANT}/oauth2/v2.0/token"
        assert form == {
            "grant_type": ["client_credentials"],
            "client_id": [CLIENT],
            "scope": ["https://storage.azure.com/.default"],
            "client_assertion_type": ["urn:ietf:params:oauth:client-assertion-type:jwt-bearer"],
            "client_assertion": [ASSERTION],
        }
        self.tokens.append(f"access-token-{len(self.tokens)}")
        answer = {"token_type": "Bearer", "expires_in": 3599, "access_token": self.tokens[-1]}
        return Told(200, json.dumps(answer).encode())

    def _blob(self, asked: Asked, name: str, query: str) -> Told:
        if asked.method == "PUT":
            if asked.headers.get("x-ms-blob-type") != "BlockBlob":
                return Told(400, b"", {"x-ms-error-code": "InvalidHeaderValue"})
            self.blobs[name] = (asked.body, asked.headers.get("Content-Type") or "")
            return Told(201)
        if query:
            return self._list(parse_qs(query))
        if name not in self.blobs:
            return Told(404, b"", {"x-ms-error-code": "BlobNotFound"})
        if asked.method == "GET":
            return Told(200, self.blobs[name][0])
        if any(other.startswith(name + "/") for other in self.blobs):
            return Told(409, b"", {"x-ms-error-code": "DirectoryIsNotEmpty"})
        del self.blobs[name]
        return Told(202)

    def _list(self, query: dict[str, list[str]]) -> Told:
        assert (query["restype"], query["comp"]) == (["container"], ["list"])
        names = sorted(name for name in self.blobs if name.startswith(query["prefix"][0]))
        listed = "".join(f"<Blob><Name>{escape(name)}</Name></Blob>" for name in names)
        return Told(200, f"<EnumerationResults><Blobs>{listed}</Blobs><NextMarker /></EnumerationResults>".encode())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answering]:
    with serve_answers(tmp_path_factory.mktemp("azure")) as server:
        yield server


@pytest.fixture
def azure(server: Answering, monkeypatch: pytest.MonkeyPatch) -> Azure:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.ca_file))
    azure = Azure()
    server.asked.clear()
    server.answer = azure
    return azure


@pytest.fixture
def minter() -> Minter:
    return Minter()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def trail() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def storing(
    server: Answering, azure: Azure, minter: Minter, clock: Clock, trail: io.StringIO
) -> Callable[..., AdlsLogStore]:
    def make(allowed: str | None = None, **changes: Any) -> AdlsLogStore:
        place: dict[str, Any] = {
            "account": "teamlogs",
            "container": "logs",
            "prefix": "runs/eu",
            "tenant_id": TENANT,
            "client_id": CLIENT,
            "authority": server.origin,
            "endpoint": server.origin,
        }
        return AdlsLogStore(
            AdlsPlace(**(place | changes)),
            assertion=minter,
            allow=HostPolicy([allowed or urlsplit(server.origin).netloc], ()).check,
            log=AuditLog(trail),
            now=clock,
        )

    return make


@pytest.fixture
def store(storing: Callable[..., AdlsLogStore]) -> AdlsLogStore:
    return storing()


def test_what_is_put_is_what_is_kept_and_got(
    store: AdlsLogStore, azure: Azure, minter: Minter, server: Answering
) -> None:
    uri = store.put("team-a/churn/1/train step+1=ü&.log", b"epoch 1\n", "text/plain")
    assert uri == f"{server.origin}/logs/runs/eu/team-a/churn/1/train%20step%2B1%3D%C3%BC%26.log"
    assert azure.blobs == {"runs/eu/team-a/churn/1/train step+1=ü&.log": (b"epoch 1\n", "text/plain")}
    assert store.get("team-a/churn/1/train step+1=ü&.log") == b"epoch 1\n"
    assert store.get("team-a/other") is None
    assert minter.audiences == ["api://AzureADTokenExchange"]


def test_deleting_takes_the_folder_and_nothing_beside_it(store: AdlsLogStore, azure: Azure) -> None:
    for key in ("run/1/a&b.log", "run/2/x", "run2/x"):
        store.put(key, b"1", "text/plain")
    azure.blobs |= {"runs/eu/run": (b"", ""), "runs/eu/run/1": (b"", "")}  # folders of a hierarchical namespace
    store.delete("run")
    store.delete("run")
    assert set(azure.blobs) == {"runs/eu/run2/x"}


def test_a_token_is_used_while_it_lives_and_renewed_before_it_ends(
    store: AdlsLogStore, azure: Azure, minter: Minter, clock: Clock
) -> None:
    store.put("a", b"1", "text/plain")
    store.get("a")
    assert len(minter.audiences) == 1
    clock.ahead = timedelta(minutes=56)
    store.get("a")
    assert len(minter.audiences) == 2
    azure.tokens.append("the service no longer takes the one before")
    assert store.get("a") == b"1"
    assert len(minter.audiences) == 3


def coded(status: int, code: str) -> Told:
    body = f"<Error><Code>{code}</Code><Message>words</Message></Error>".encode()
    return Told(status, body, {"x-ms-error-code": code})


REFUSALS = [
    (coded(404, "ContainerNotFound"), Missing, "container: logs does not exist"),
    (coded(403, "AuthorizationPermissionMismatch"), Denied, "Storage Blob Data Contributor"),
    (coded(403, "AuthorizationFailure"), Denied, "network rules"),
    (coded(401, "InvalidAuthenticationInfo"), Unauthenticated, "teamlogs"),
    (coded(404, "BlobNotFound"), Refused, "BlobNotFound"),
    (coded(409, "BlobImmutableDueToPolicy"), Refused, "BlobImmutableDueToPolicy"),
    (Told(302, b"", {"Location": "https://evil.example/"}), Refused, "refused"),
    (coded(503, "ServerBusy"), Throttled, "fewer requests"),
    (coded(500, "InternalError"), Unreachable, "500"),
]


@pytest.mark.parametrize(("told", "kind", "words"), REFUSALS)
def test_each_refusal_of_the_service_is_its_own_error(
    store: AdlsLogStore, azure: Azure, told: Told, kind: type[Exception], words: str
) -> None:
    azure.refused = told
    error = refusal(lambda: store.put("a", b"1", "text/plain"))
    assert type(error) is kind
    assert words in str(error)


ENTRA = [
    ("AADSTS700213: No matching federated identity record found for presented assertion subject", True),
    ("AADSTS70021: No matching federated identity record found", True),
    ("AADSTS700016: Application was not found in the directory", False),
    ("AADSTS90002: Tenant not found", False),
    (f"AADSTS50027: {ASSERTION} is malformed", False),
]


@pytest.mark.parametrize(("said", "waiting"), ENTRA)
def test_what_entra_refuses_says_what_to_mend(store: AdlsLogStore, azure: Azure, said: str, waiting: bool) -> None:
    words = f"{said} Trace ID: 0000-1111 Correlation ID: 2222\r\nTimestamp: 2026-01-01"
    azure.refused_token = Told(401, json.dumps({"error": "invalid_client", "error_description": words}).encode())
    error = refusal(lambda: store.get("a"))
    assert isinstance(error, IdentityError)
    assert error.waiting is waiting
    assert CLIENT in str(error)
    assert "0000-1111" not in str(error)
    if waiting:
        assert "subject system:serviceaccount:team-a:trainer" in str(error)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"access_token": "x"}', b'{"expires_in": 9}'])
def test_an_answer_without_a_token_is_no_answer(store: AdlsLogStore, azure: Azure, body: bytes) -> None:
    azure.refused_token = Told(200, body)
    assert isinstance(refusal(lambda: store.get("a")), Unreachable)


@pytest.mark.parametrize(
    "changes",
    [
        {"allowed": "*.blob.core.windows.net"},
        {"authority": "https://login.evil.example"},
        {"endpoint": None},
    ],
)
def test_no_assertion_is_minted_for_a_host_that_is_not_allowed(
    storing: Callable[..., AdlsLogStore], minter: Minter, trail: io.StringIO, changes: dict[str, Any]
) -> None:
    error = refusal(lambda: storing(**changes).get("a"))
    assert error.reason == "HostNotAllowed"
    assert minter.audiences == []
    assert trail.getvalue() == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"account": "a.evil.example/"},
        {"container": "a/b"},
        {"container": "a--b"},
        {"tenant_id": "a/b"},
        {"account": "A"},
    ],
)
def test_a_place_that_would_lead_elsewhere_is_refused(
    storing: Callable[..., AdlsLogStore], changes: dict[str, Any]
) -> None:
    with pytest.raises(Refused):
        storing(**changes)


def test_every_request_is_on_record_and_none_has_a_secret(
    store: AdlsLogStore, azure: Azure, trail: io.StringIO
) -> None:
    store.put("a", b"what was printed", "text/plain")
    records = [json.loads(line) for line in trail.getvalue().splitlines()]
    assert [(r["method"], r["path"], r["principal"]) for r in records if r["event"] == "request"] == [
        ("POST", f"/{TENANT}/oauth2/v2.0/token", CLIENT),
        ("PUT", "/logs/runs/eu/a", CLIENT),
    ]
    for secret in (ASSERTION, azure.tokens[0], "what was printed"):
        assert secret not in trail.getvalue()
