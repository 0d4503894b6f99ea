"""The operator's own connection, with the unmodified databricks-sdk, against a served sandbox."""

import io
import json
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.sandbox.conftest import AUDIENCE, SUBJECT, control, issuer, principal, sandbox, serve
from tests.sandbox.issuer import TestIssuer
from trainyard.audit.log import AuditLog
from trainyard.audit.transport import Bounds
from trainyard.core.errors import IdentityError
from trainyard.core.snapshot import Target
from trainyard.identity.base import DATABRICKS_CLIENT_ID, ServiceAccountRef, TokenSource
from trainyard.identity.federated import Federated
from trainyard.identity.hosts import HostPolicy
from trainyard.platforms.databricks.connection import DatabricksConnection
from trainyard_sandbox.client import SandboxControl

__all__ = ["control", "issuer", "principal", "sandbox", "serve"]

ACCOUNT = ServiceAccountRef("team-a", "trainer")
# Short, so that a test of a hang is over soon.
BOUNDS = Bounds(connect=2.0, read=1.5, total=2.5)


class Accounts:
    """ServiceAccounts of a cluster whose issuer is the test's. Counts what it mints."""

    def __init__(self, issuer: TestIssuer, client_id: str) -> None:
        self.noted: dict[str, str] = {DATABRICKS_CLIENT_ID: client_id}
        self.minted: list[str] = []
        self.gone = False
        self.lock = threading.Lock()
        self._issuer = issuer

    def annotations(self, account: ServiceAccountRef) -> Mapping[str, str]:
        if self.gone:
            raise IdentityError("no such ServiceAccount", reason="ServiceAccountMissing", waiting=True)
        return self.noted

    def request_token(self, account: ServiceAccountRef, audience: str, seconds: int) -> str:
        token = self._issuer.assertion(SUBJECT, audience, seconds, jti=f"jti-{len(self.minted)}")
        with self.lock:
            self.minted.append(token)
        return token


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def accounts(issuer: TestIssuer, principal: str) -> Accounts:
    return Accounts(issuer, principal)


@pytest.fixture
def audit() -> "Trail":
    return Trail()


class Trail:
    """An audit log in memory."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.log = AuditLog(self.stream)

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(
    control: SandboxControl,
    principal: str,
    accounts: Accounts,
    audit: Trail,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> TokenSource:
    """The principal's token source, for the sandbox's host."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(control.address.ca_file))
    hosts = HostPolicy([control.address.host.removeprefix("https://")])
    target = Target("databricks", control.address.host, principal, "federated", ACCOUNT.name)
    return Federated(accounts, hosts, AUDIENCE, audit.log, clock, BOUNDS).source(target, ACCOUNT.namespace, "")


@pytest.fixture
def connect(
    control: SandboxControl, principal: str, tokens: TokenSource, audit: Trail
) -> Callable[[Bounds], DatabricksConnection]:
    """The operator's connection to the session's sandbox as `principal`, with the bounds given."""
    target = Target("databricks", control.address.host, principal, "federated", "trainer")
    return lambda bounds: DatabricksConnection(target, tokens, audit.log, bounds)


@pytest.fixture
def connection(connect: Callable[[Bounds], DatabricksConnection]) -> DatabricksConnection:
    # The sandbox's MLflow server takes its time to start; the first request to it waits.
    return connect(Bounds(read=60.0, total=90.0))


@pytest.fixture
def hasty(connect: Callable[[Bounds], DatabricksConnection]) -> DatabricksConnection:
    return connect(BOUNDS)
