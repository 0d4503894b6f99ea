"""Databricks' account-wide federation policies on the wire: no client id is sent, and nobody else's token is used."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.sandbox.conftest import AUDIENCE
from tests.sandbox.issuer import TestIssuer
from tests.wire.conftest import ACCOUNT, BOUNDS, Accounts, Clock, Trail
from trainyard.api.identity import Identity
from trainyard.audit.transport import Bounds
from trainyard.core.errors import IdentityError, TrainyardError, Unreachable
from trainyard.core.snapshot import Target
from trainyard.identity.base import DATABRICKS_CLIENT_ID, ServiceAccountRef, TokenSource
from trainyard.identity.federated import Federated
from trainyard.identity.hosts import HostPolicy
from trainyard.identity.whoami import ME
from trainyard.platforms.databricks.connection import DatabricksConnection
from trainyard_sandbox.client import SandboxControl

TOKEN = "/oidc/v1/token"
IDENTITY = Identity.model_validate({"federated": {"serviceAccountName": ACCOUNT.name, "policy": "Account"}})
Source = Callable[[str], TokenSource]


class Claiming(Accounts):
    """A cluster whose tokens carry the claim by which the account's policy finds a principal."""

    def __init__(self, issuer: TestIssuer, client_id: str, found: str) -> None:
        super().__init__(issuer, client_id)
        self.found = found
        self.issuer = issuer

    def request_token(self, account: ServiceAccountRef, audience: str, seconds: int) -> str:
        self.minted.append(super().request_token(account, audience, seconds))
        return self.issuer.assertion("system:serviceaccount:team-a:trainer", audience, seconds, application=self.found)


@pytest.fixture
def principal(control: SandboxControl) -> str:
    """A service principal without a federation policy of its own."""
    return control.add_principal("trainer", entitlements=["workspace-access", "allow-cluster-create"])


@pytest.fixture
def accounts(issuer: TestIssuer, principal: str) -> Claiming:
    return Claiming(issuer, principal, principal)


@pytest.fixture(autouse=True)
def _policy(control: SandboxControl, issuer: TestIssuer) -> Iterator[None]:
    made = control.add_policy(None, issuer.url, None, [AUDIENCE], subject_claim="application")
    yield
    control.remove_policy(made)


def target(control: SandboxControl, principal: str) -> Target:
    return Target("databricks", control.address.host, principal, "federated", ACCOUNT.name, identity=IDENTITY)


@pytest.fixture
def source(
    control: SandboxControl, accounts: Claiming, audit: Trail, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> Source:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(control.address.ca_file))
    hosts = HostPolicy([control.address.host.removeprefix("https://")])
    mode = Federated(accounts, hosts, AUDIENCE, audit.log, clock, BOUNDS)
    control.clear_requests()
    return lambda principal: mode.source(target(control, principal), ACCOUNT.namespace, "")


def failure(source: TokenSource) -> TrainyardError:
    with pytest.raises(TrainyardError) as raised:
        source.token()
    return raised.value


def test_the_account_finds_the_principal_and_is_told_none(
    source: Source, control: SandboxControl, principal: str
) -> None:
    """With a client id it would look for a policy of that principal's own, and there is none."""
    assert source(principal).token().value
    assert len(control.requests(path=TOKEN)) == len(control.requests(path=ME)) == 1


def test_a_connection_works_as_the_principal_that_was_named(
    source: Source, control: SandboxControl, principal: str, audit: Trail
) -> None:
    connection = DatabricksConnection(target(control, principal), source(principal), audit.log, Bounds(read=60.0))
    assert connection.whoami().principal == principal


def test_a_token_of_somebody_else_is_never_used(
    source: Source, control: SandboxControl, accounts: Claiming, principal: str, audit: Trail
) -> None:
    """A connection would ask, submit and stop as whomever the account's policy found."""
    somebody = control.add_principal("somebody", entitlements=["workspace-access"])
    accounts.found = somebody
    tokens = source(principal)
    connection = DatabricksConnection(target(control, principal), tokens, audit.log)
    with pytest.raises(IdentityError) as refused:
        connection.get("1")
    assert refused.value.reason == "ClientIdMismatch"
    assert somebody in refused.value.message
    assert principal in refused.value.message
    assert [each["path"] for each in control.requests() if each["path"].startswith("/api/")] == [ME]


def test_each_new_token_is_looked_at(
    source: Source, control: SandboxControl, accounts: Claiming, principal: str
) -> None:
    tokens = source(principal)
    first = tokens.token()
    accounts.found = control.add_principal("somebody", entitlements=["workspace-access"])
    tokens.forget()
    assert failure(tokens).reason == "ClientIdMismatch"
    assert first.value


def test_the_principal_is_asked_for_once_in_a_tokens_life(
    source: Source, control: SandboxControl, principal: str
) -> None:
    tokens = source(principal)
    assert len({tokens.token().value for _ in range(20)}) == 1
    assert len(control.requests(path=ME)) == 1


def test_one_letter_of_a_principal_in_another_case_is_no_other(
    source: Source, accounts: Claiming, principal: str
) -> None:
    accounts.noted = {DATABRICKS_CLIENT_ID: principal.upper()}
    assert source(principal.upper()).token().value


def test_a_workspace_that_does_not_know_the_principal_gets_no_request(
    source: Source, control: SandboxControl, principal: str
) -> None:
    control.change_principal(principal, workspace_access=False)
    error = failure(source(principal))
    assert error.reason == "PrincipalNotTold"
    assert principal in error.message


UNCLEAR: list[tuple[str, dict[str, Any]]] = [
    ("hang", {}),
    ("malformed_json", {}),
    ("status", {"status": 503}),
]


@pytest.mark.parametrize(("kind", "fields"), UNCLEAR)
def test_a_token_whose_principal_is_not_known_is_not_used(
    source: Source, control: SandboxControl, principal: str, kind: str, fields: dict[str, Any]
) -> None:
    control.add_fault(kind, ME, **fields)
    assert isinstance(failure(source(principal)), Unreachable)


def test_a_policy_of_the_account_that_does_not_fit_is_told_with_what_it_needs(
    source: Source, accounts: Claiming, principal: str
) -> None:
    accounts.found = "nobody"
    error = failure(source(principal))
    assert isinstance(error, IdentityError)
    assert (error.reason, error.waiting) == ("TokenExchangeRefused", True)
