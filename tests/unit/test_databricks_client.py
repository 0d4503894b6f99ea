"""The SDK client that is ours to bound: what it must not read, load, or do by itself. Pins the parts of it we use."""

import io
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from databricks.sdk import retries
from databricks.sdk._base_client import _BaseClient

from trainyard.audit.log import AuditLog
from trainyard.audit.transport import AuditedAdapter, Bounds
from trainyard.core.errors import Refused, Throttled, Unauthenticated, Unreachable
from trainyard.core.snapshot import Target
from trainyard.core.tokens import code_digest
from trainyard.identity.base import AccessToken
from trainyard.platforms.databricks.answers import DatabricksDialect
from trainyard.platforms.databricks.client import DatabricksClient, build
from trainyard.platforms.databricks.connection import DatabricksConnection
from trainyard.platforms.databricks.names import code_folder, is_code_folder


class Tokens:
    def __init__(self) -> None:
        self.made = 0
        self.forgotten = 0

    def token(self) -> AccessToken:
        self.made += 1
        return AccessToken(f"token-{self.forgotten}", datetime.now(UTC))

    def describe(self) -> Mapping[str, str]:
        return {"principal": "app"}

    def forget(self) -> None:
        self.forgotten += 1


@pytest.fixture
def adapter() -> AuditedAdapter:
    return AuditedAdapter(AuditLog(io.StringIO()), DatabricksDialect(), dict, Bounds(connect=0.2, read=0.2))


def test_the_surroundings_do_not_decide_who_or_where_the_client_is(
    adapter: AuditedAdapter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".databrickscfg").write_text("[DEFAULT]\nhost = https://evil.example\ntoken = x\naccount_id = y\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in {
        "HOST": "https://evil.example",
        "TOKEN": "dapi0123",
        "CONFIG_PROFILE": "missing",
        "CLIENT_SECRET": "x",
        "ACCOUNT_ID": "y",
    }.items():
        monkeypatch.setenv(f"DATABRICKS_{name}", value)
    config = build("https://127.0.0.1:1", dict, adapter).config
    assert config.host == "https://127.0.0.1:1"
    assert (config.token, config.client_secret, config.account_id, config.profile) == (None, None, None, None)


def test_the_client_has_one_way_out_and_it_is_ours(adapter: AuditedAdapter) -> None:
    session: Any = build("https://127.0.0.1:1", dict, adapter).api_client._api_client._session
    assert list(session.adapters.values()) == [adapter]
    with pytest.raises(requests.exceptions.InvalidSchema):
        session.get("http://127.0.0.1:1/")


@pytest.mark.parametrize("error", [Unreachable("x"), Throttled("x", retry_after=1), Unauthenticated("x")])
def test_the_sdk_does_not_take_our_errors_for_its_own(error: Exception) -> None:
    assert _BaseClient._is_retryable(error) is None
    # What its retry loop reads on any error to decide how long to wait.
    assert "retry_after_secs" in Path(str(retries.__file__)).read_text()
    assert not hasattr(error, "retry_after_secs")


class Late(Tokens):
    """A token takes a minute from the time that it is forgotten for the given time."""

    def __init__(self, when: int) -> None:
        super().__init__()
        self.now, self._when = 0.0, when

    def token(self) -> AccessToken:
        if self.forgotten == self._when:
            self.now += 60
        return super().token()


@pytest.mark.parametrize("late", [0, 1])
def test_a_request_does_not_leave_after_its_deadline_however_long_its_token_took(
    late: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, sent = Late(late), []

    def refuse(self: AuditedAdapter, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        sent.append(request.headers["Authorization"])
        raise Unauthenticated("no")

    monkeypatch.setattr(AuditedAdapter, "send", refuse)
    client = DatabricksClient(
        "https://127.0.0.1:1", tokens, AuditLog(io.StringIO()), Bounds(), clock=lambda: tokens.now
    )
    with pytest.raises(Unreachable, match="not sent"):
        client.do("POST", "/api/2.2/jobs/runs/submit", body={}, until=59.0)
    assert sent == ["Bearer token-0"][:late]
    # Only that request has a deadline.
    with pytest.raises(Unauthenticated):
        client.do("GET", "/api/2.2/jobs/runs/get")


def test_a_refused_token_is_replaced_once_and_not_again() -> None:
    tokens = Tokens()
    client = DatabricksClient("https://127.0.0.1:1", tokens, AuditLog(io.StringIO()), Bounds())
    asked = []

    def refuse(_: object) -> None:
        asked.append(tokens.forgotten)
        raise Unauthenticated("no")

    with pytest.raises(Unauthenticated):
        client.call(refuse)
    assert asked == [0, 1]


OURS = f"/Users/app/.trainyard/code/0123abcd/{'a1' * 32}"
OTHERS = [
    ("app", "/Users/app"),
    ("app", "/Users/app/.trainyard/code/0123abcd"),
    ("app", "/Users/app/.trainyard/code/0123abcd/"),
    ("app", f"{OURS}/"),
    ("app", f"{OURS}/.."),
    ("app", f"{OURS}\n"),
    ("app", OURS.upper()),
    ("app", f"/Users/app/.trainyard/code/0123abcd/../{'a1' * 32}"),
    ("app", f"/Workspace{OURS}"),
    ("other", OURS),
    ("ap.", OURS),
    ("../app", OURS.replace("/app/", "/../app/")),
    ("..", OURS.replace("/app/", "/../")),
]


@pytest.mark.parametrize(("principal", "folder"), OTHERS)
def test_nothing_is_removed_but_a_folder_of_uploaded_code(principal: str, folder: str) -> None:
    assert is_code_folder(OURS, "app")
    assert code_folder("app", "a cluster", code_digest({})).startswith("/Users/app/.trainyard/code/")
    assert is_code_folder(code_folder("app", "a cluster", code_digest({})), "app")
    tokens = Tokens()
    target = Target("databricks", "https://127.0.0.1:1", principal, "federated", "trainer")
    with pytest.raises(Refused):
        DatabricksConnection(target, tokens, AuditLog(io.StringIO())).clean(folder)
    assert tokens.made == 0


def test_an_answer_that_the_sdk_can_not_read_is_no_answer() -> None:
    client = DatabricksClient("https://127.0.0.1:1", Tokens(), AuditLog(io.StringIO()), Bounds())
    with pytest.raises(Unreachable) as raised:
        client.call(lambda _: {}["run_id"])
    assert raised.value.reason == "PlatformAnswerMalformed"


def test_the_vendors_sdk_is_loaded_only_when_a_workspace_is_asked() -> None:
    program = (
        "import sys, trainyard, trainyard.platforms.lane, trainyard.identity.federated\n"
        "from trainyard.platforms.registry import platform_named\n"
        "platform_named('databricks').forbidden_overrides()\n"
        "print([name for name in sys.modules if name.startswith(('databricks', 'azure'))])\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
