"""The token exchange on the wire: what is minted when, and what never leaves."""

import threading
from datetime import timedelta
from typing import Any

import pytest

from tests.wire.conftest import ACCOUNT, AUDIENCE, Accounts, Clock, Trail
from trainyard.core.errors import IdentityError, Throttled, TrainyardError, Unreachable
from trainyard.core.snapshot import Target
from trainyard.identity.base import DATABRICKS_CLIENT_ID, TokenSource
from trainyard.identity.federated import Federated
from trainyard.identity.hosts import HostPolicy
from trainyard_sandbox.client import SandboxControl

TOKEN = "/oidc/v1/token"


def failure(tokens: TokenSource) -> TrainyardError:
    with pytest.raises(TrainyardError) as raised:
        tokens.token()
    return raised.value


def test_many_cold_threads_make_one_exchange(tokens: TokenSource, accounts: Accounts, control: SandboxControl) -> None:
    control.clear_requests()
    values: list[str] = []
    threads = [threading.Thread(target=lambda: values.append(tokens.token().value)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(values)) == 1
    assert len(values) == 16
    assert len(accounts.minted) == 1
    assert len(control.requests(path=TOKEN)) == 1


def test_a_token_is_renewed_ahead_of_its_end(tokens: TokenSource, accounts: Accounts, clock: Clock) -> None:
    first = tokens.token()
    clock.ahead = timedelta(seconds=400)
    assert tokens.token() == first
    clock.ahead = timedelta(seconds=500)
    assert tokens.token() != first
    assert len(accounts.minted) == 2


def test_a_live_token_outlasts_its_service_account(tokens: TokenSource, accounts: Accounts, clock: Clock) -> None:
    first = tokens.token()
    accounts.gone = True
    clock.ahead = timedelta(seconds=500)
    assert tokens.token() == first
    clock.ahead = timedelta(seconds=580)
    assert failure(tokens).reason == "ServiceAccountMissing"


def test_a_failed_exchange_is_not_repeated_at_each_request(
    tokens: TokenSource, accounts: Accounts, clock: Clock
) -> None:
    accounts.noted = {}
    assert failure(tokens).reason == failure(tokens).reason == "ServiceAccountNotOptedIn"
    accounts.noted = {DATABRICKS_CLIENT_ID: "somebody-else"}
    assert failure(tokens).reason == "ServiceAccountNotOptedIn"
    clock.ahead = timedelta(seconds=6)
    assert failure(tokens).reason == "ClientIdMismatch"
    assert accounts.minted == []


def test_a_missing_policy_is_waited_for_and_told_with_what_it_needs(
    tokens: TokenSource, control: SandboxControl, principal: str
) -> None:
    control.remove_principal(principal)
    assert failure(tokens).reason == "ServicePrincipalUnknown"


def test_a_policy_of_another_subject_is_waited_for(
    control: SandboxControl, issuer: Any, accounts: Accounts, audit: Trail, tokens: TokenSource
) -> None:
    lonely = control.add_principal("lonely", entitlements=["workspace-access"])
    accounts.noted = {DATABRICKS_CLIENT_ID: lonely}
    target = Target("databricks", control.address.host, lonely, "federated", ACCOUNT.name)
    source = Federated(
        accounts, HostPolicy([control.address.host.removeprefix("https://")]), AUDIENCE, audit.log
    ).source(target, ACCOUNT.namespace, "")
    error = failure(source)
    assert isinstance(error, IdentityError)
    assert (error.reason, error.waiting) == ("TokenExchangeRefused", True)
    for needed in (issuer.url, "system:serviceaccount:team-a:trainer", AUDIENCE):
        assert needed in error.message


HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"oidc": {"token_endpoint": "https://evil.example/token"}}, "TokenEndpointNotAllowed"),
    ({"oidc": {"token_endpoint": "http://127.0.0.1/token"}}, "TokenEndpointNotAllowed"),
    ({"metadata": {"oidc_endpoint": "https://evil.example/oidc"}}, "TokenEndpointNotAllowed"),
]


@pytest.mark.parametrize(("discovery", "reason"), HOSTILE)
def test_a_hostile_host_gets_no_assertion(
    tokens: TokenSource, accounts: Accounts, control: SandboxControl, discovery: dict[str, Any], reason: str
) -> None:
    control.override_discovery(**discovery)
    assert failure(tokens).reason == reason
    assert accounts.minted == []


@pytest.mark.parametrize("path", ["/.well-known/databricks-config", "/oidc/.well-known/oauth-authorization-server"])
def test_a_redirected_discovery_gets_no_assertion(
    tokens: TokenSource, accounts: Accounts, control: SandboxControl, path: str
) -> None:
    control.add_fault("redirect", path, location="https://evil.example/")
    assert failure(tokens).reason == "RedirectRefused"
    assert accounts.minted == []


def test_a_redirected_exchange_is_not_followed(tokens: TokenSource, control: SandboxControl) -> None:
    control.add_fault("redirect", TOKEN, location="https://evil.example/")
    assert failure(tokens).reason == "RedirectRefused"


def test_a_host_off_the_allow_list_gets_nothing(
    control: SandboxControl, accounts: Accounts, audit: Trail, principal: str
) -> None:
    target = Target("databricks", control.address.host, principal, "federated", ACCOUNT.name)
    source = Federated(accounts, HostPolicy(), AUDIENCE, audit.log).source(target, ACCOUNT.namespace, "")
    assert failure(source).reason == "HostNotAllowed"
    assert accounts.minted == []
    assert audit.records() == []


FAULTS: list[tuple[str, dict[str, Any], type[TrainyardError]]] = [
    ("hang", {}, Unreachable),
    ("slow_body", {"seconds": 30.0}, Unreachable),
    ("malformed_json", {}, Unreachable),
    ("status", {"status": 429, "retry_after": "3"}, Throttled),
    ("status", {"status": 503}, Unreachable),
    ("reset", {}, Unreachable),
]


@pytest.mark.parametrize(("kind", "fields", "error"), FAULTS)
def test_a_broken_token_endpoint_is_unreachable_in_bounded_time(
    tokens: TokenSource, control: SandboxControl, kind: str, fields: dict[str, Any], error: type[TrainyardError]
) -> None:
    control.add_fault(kind, TOKEN, **fields)
    assert type(failure(tokens)) is error


def test_a_minted_token_for_another_audience_is_never_sent(
    tokens: TokenSource, accounts: Accounts, issuer: Any, control: SandboxControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    control.clear_requests()
    monkeypatch.setattr(accounts, "request_token", lambda *_: issuer.assertion("sub", "https://kubernetes.default.svc"))
    assert failure(tokens).reason == "AssertionUnusable"
    assert control.requests(path=TOKEN) == []
