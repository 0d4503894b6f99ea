"""The ways out to Azure: what leaves, with which token, and where nothing ever goes."""

import io
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from trainyard.audit.log import AuditLog
from trainyard.audit.transport import AuditedAdapter, Bounds
from trainyard.core.errors import IdentityError, Refused, Unauthenticated, Unreachable
from trainyard.core.snapshot import Target
from trainyard.identity.base import AccessToken
from trainyard.platforms.azureml.client import AzureMLClient
from trainyard.platforms.limits import BesideUnreachable

WS = (
    "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/g"
    "/providers/Microsoft.MachineLearningServices/workspaces/ws1"
)
ARM = "https://management.azure.com"
DATA = "https://westeurope.api.azureml.ms"
BLOB = "https://acc.blob.core.windows.net/box/blob?sp=r&sig=secret"
TARGET = Target("azureml", ARM + WS, "app", "federated", "team-a/trainer", "tenant")


class Tokens:
    """One scope's tokens, numbered."""

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.minted = 1

    def token(self) -> AccessToken:
        return AccessToken(f"{self.scope}#{self.minted}", datetime.now(UTC) + timedelta(hours=1), f"jti-{self.minted}")

    def describe(self) -> Mapping[str, str]:
        return {"principal": "app", "mode": "federated", "service_account": "team-a/trainer"}

    def forget(self) -> None:
        self.minted += 1


class Wire:
    """What has left, and what is answered to it."""

    def __init__(self) -> None:
        self.sent: list[requests.PreparedRequest] = []
        self.answers: list[tuple[int, bytes]] = []

    def send(self, request: requests.PreparedRequest) -> requests.Response:
        self.sent.append(request)
        status, body = self.answers.pop(0) if self.answers else (200, b"{}")
        response = requests.Response()
        response.status_code, response.url, response.request = status, request.url or "", request
        response.headers["Content-Type"] = "application/json"
        response.raw = _Raw(body)
        return response

    def tokens(self) -> list[str | None]:
        return [request.headers.get("Authorization") for request in self.sent]


class _Raw(io.BytesIO):
    def read1(self, amount: int | None = -1, decode_content: bool = False) -> bytes:
        return super().read1(-1 if amount is None else amount)

    def release_conn(self) -> None:
        """Nothing to give back."""


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    made = Wire()
    monkeypatch.setattr(HTTPAdapter, "send", lambda _self, request, **_: made.send(request))
    return made


@pytest.fixture
def trail() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def client(wire: Wire, trail: io.StringIO) -> AzureMLClient:
    return AzureMLClient(TARGET, Tokens, AuditLog(trail), Bounds())


def test_each_plane_has_the_token_of_its_audience_and_storage_has_none(client: AzureMLClient, wire: Wire) -> None:
    client.do("GET", "/jobs/x", "2024-01-01-preview")
    client.data("GET", f"{DATA}/history/v1.0/x")
    client.open_document(f"{DATA}/discovery")
    wire.answers = [(404, b"")]
    with pytest.raises(Exception):  # noqa: B017 - what the SDK makes of it is not the point here
        client.in_blob(BLOB, lambda blob: blob.get_blob_properties())
    assert wire.tokens() == [f"Bearer {ARM}/.default#1", "Bearer https://ml.azure.com/.default#1", None, None]
    assert (wire.sent[0].url or "").startswith(f"{ARM}{WS}/jobs/x?")


ASTRAY: list[tuple[str, Callable[[AzureMLClient], object]]] = [
    ("data of another host", lambda client: client.data("GET", "https://evil.example/history")),
    ("data of ARM", lambda client: client.data("GET", f"{ARM}/x")),
    ("data of storage", lambda client: client.data("GET", BLOB)),
    ("data without TLS", lambda client: client.data("GET", "http://westeurope.api.azureml.ms/x")),
    ("data of a look-alike", lambda client: client.data("GET", "https://api.azureml.ms.evil.example/x")),
    ("data behind a user name", lambda client: client.data("GET", "https://x.api.azureml.ms@evil.example/x")),
    ("an open document elsewhere", lambda client: client.open_document("https://evil.example/discovery")),
    ("a blob elsewhere", lambda client: client.in_blob("https://evil.example/c/b?sig=x", lambda blob: None)),
    (
        "a blob of a look-alike",
        lambda client: client.in_blob("https://a.blob.core.windows.net.evil/c/b", print),
    ),
    ("a container elsewhere", lambda client: client.in_container("https://evil.example/c?sig=x", lambda c: None)),
]


@pytest.mark.parametrize("go", [go for _, go in ASTRAY], ids=[name for name, _ in ASTRAY])
def test_nothing_is_sent_to_a_host_that_is_not_the_clouds_own_for_that(
    client: AzureMLClient, wire: Wire, trail: io.StringIO, go: Callable[[AzureMLClient], object]
) -> None:
    with pytest.raises((Refused, Unreachable)):
        go(client)
    assert wire.sent == []
    assert trail.getvalue() == ""


def test_an_sdk_that_follows_a_blobs_own_url_elsewhere_is_stopped_as_well(client: AzureMLClient, wire: Wire) -> None:
    def astray(_blob: Any) -> None:
        client._storage._session.get("https://evil.example/c/b")

    with pytest.raises(Refused) as raised:
        client.in_blob(BLOB, astray)
    assert raised.value.reason == "HostNotAllowed"
    assert wire.sent == []


def test_a_refused_token_is_replaced_once(client: AzureMLClient, wire: Wire) -> None:
    refused = (401, b'{"error": {"code": "ExpiredAuthenticationToken", "message": "expired"}}')
    wire.answers = [refused]
    client.do("GET", "/jobs/x", "v")
    assert wire.tokens() == [f"Bearer {ARM}/.default#1", f"Bearer {ARM}/.default#2"]
    wire.answers = [refused, refused]
    with pytest.raises(Unauthenticated):
        client.do("GET", "/jobs/x", "v")
    assert len(wire.sent) == 4


def test_the_link_to_a_next_page_leads_nowhere_else(client: AzureMLClient, wire: Wire) -> None:
    first = b'{"value": [{"name": "a"}], "nextLink": "https://evil.example/jobs?api-version=v&$skipToken=a%2Bb%3D%26c&tag=t"}'
    wire.answers = [(200, first), (200, b'{"value": [{"name": "b"}]}')]
    pages = list(client.pages("/jobs", "v", query={"tag": "t"}))
    assert [row["name"] for page in pages for row in page] == ["a", "b"]
    assert wire.sent[1].url == f"{ARM}{WS}/jobs?api-version=v&%24skipToken=a%2Bb%3D%26c&tag=t"


def test_what_a_query_holds_can_not_become_another_query(client: AzureMLClient, wire: Wire) -> None:
    client.data("GET", f"{DATA}/mlflow", query={"filter": "name='a&b#c+d'"})
    assert wire.sent[0].url == f"{DATA}/mlflow?filter=name%3D%27a%26b%23c%2Bd%27"


@pytest.mark.parametrize("body", [b"[]", b"7", b"<html>"])
def test_an_answer_that_can_not_be_read_is_no_verdict(client: AzureMLClient, wire: Wire, body: bytes) -> None:
    wire.answers = [(200, body)]
    with pytest.raises(Unreachable) as raised:
        client.do("GET", "/jobs/x", "v")
    assert raised.value.reason == "PlatformAnswerMalformed"


def test_an_empty_answer_is_an_empty_document(client: AzureMLClient, wire: Wire) -> None:
    wire.answers = [(202, b"")]
    assert client.do("POST", "/jobs/x/cancel", "v") == {}


def test_a_password_in_netrc_is_not_sent(
    client: AzureMLClient, wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login root password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    client.do("GET", "/jobs/x", "v")
    client.open_document(f"{DATA}/discovery")
    assert wire.tokens() == [f"Bearer {ARM}/.default#1", None]


def test_a_typed_read_leaves_with_the_sessions_token_and_not_with_the_sdks(client: AzureMLClient, wire: Wire) -> None:
    wire.answers = [(200, b'{"id": "/x/computes/cpu", "name": "cpu", "properties": {"computeType": "AmlCompute"}}')]
    with pytest.raises(Unreachable):
        client.typed(lambda ml: ml.compute.get("cpu"))
    assert wire.tokens() == [f"Bearer {ARM}/.default#1"]


@pytest.mark.parametrize("url", ["https://evil.example?sig=secret", "https://user:secret@evil.example/c?sig=x"])
def test_a_url_that_is_refused_is_told_by_its_host_alone(client: AzureMLClient, url: str) -> None:
    with pytest.raises(Refused) as raised:
        client.in_container(url, lambda container: None)
    assert "evil.example" in raised.value.message
    assert "secret" not in raised.value.message


def test_a_list_whose_next_page_is_the_same_page_is_not_read_for_ever(client: AzureMLClient, wire: Wire) -> None:
    page = b'{"value": [], "nextLink": "https://evil.example/x?api-version=1&$skip=again"}'
    wire.answers = [(200, page)] * 5
    with pytest.raises(Unreachable):
        list(client.pages("/jobs", "2024-01-01-preview"))
    assert len(wire.sent) == 2
    assert (wire.sent[1].url or "").startswith(f"{ARM}{WS}/jobs?")


def test_only_the_api_itself_counts_as_the_platform_that_does_not_answer(client: AzureMLClient, wire: Wire) -> None:
    beside: list[Callable[[], object]] = [
        lambda: client.in_blob(BLOB, lambda blob: blob.get_blob_properties()),
        lambda: client.data("GET", f"{DATA}/history/v1.0/x"),
        lambda: client.open_document(f"{DATA}/discovery"),
    ]
    for ask in beside:
        wire.answers = [(503, b"")]
        with pytest.raises(BesideUnreachable):
            ask()
    wire.answers = [(503, b"")]
    with pytest.raises(Unreachable) as raised:
        client.do("GET", "/jobs/x", "2024-01-01-preview")
    assert not isinstance(raised.value, BesideUnreachable)


def test_a_token_that_an_sdk_puts_on_a_request_is_taken_off_it(client: AzureMLClient, wire: Wire) -> None:
    client._open._session.get(f"{DATA}/discovery", headers={"Authorization": "Bearer of-the-sdk"})
    assert wire.tokens() == [None]


def test_every_connection_of_azure_sdks_goes_through_the_audited_transport(client: AzureMLClient) -> None:
    for plane in (client._arm, client._data, client._open, client._storage):
        adapters = plane._session.adapters
        assert list(adapters) == ["https://"]
        assert isinstance(adapters["https://"], AuditedAdapter)


def test_a_workspace_of_a_cloud_that_is_not_known_is_refused() -> None:
    target = Target("azureml", f"https://management.evil.example{WS}", "app", "federated", "team-a/trainer", "tenant")
    with pytest.raises(IdentityError) as raised:
        AzureMLClient(target, Tokens, AuditLog(io.StringIO()), Bounds())
    assert raised.value.reason == "HostNotAllowed"


def test_the_sdks_log_nothing_of_what_they_do(
    client: AzureMLClient, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(Unreachable):
        client.typed(lambda ml: ml.compute.get("cpu"))
    wire.answers = [(404, b"")]
    with pytest.raises(Exception):  # noqa: B017 - as above
        client.in_blob(BLOB, lambda blob: blob.get_blob_properties())
    assert [record.name for record in caplog.records if record.name.startswith("azure")] == []
