"""Databricks stops taking a token in the middle of its life: one new one, and each call made again."""

import threading
from typing import Any

import pytest

from tests.wire.conftest import Accounts
from tests.wire.refused_tokens import CALLS, is_refused
from tests.wire.test_databricks_connection import ended, request_for
from trainyard.core.errors import Denied, IdentityError, Unauthenticated
from trainyard.core.remote import RemoteRun
from trainyard.platforms.base import Request
from trainyard.platforms.databricks.connection import DatabricksConnection
from trainyard_sandbox.client import SandboxControl

__all__ = ["request_for"]

TOKEN = "/oidc/v1/token"
# What carries a token; the first answer of each call comes from here.
APIS = "/api/.*"
# Runs vanish by themselves, so that there is nothing to ask.
ASKED = [name for name in CALLS if name != "retire"]
# The two ways in which the platform says so: its APIs, and the gateway before them.
API: dict[str, Any] = {"status": 401}
GATEWAY = {"status": 403, "error_code": "403", "message": "Invalid access token. [ReqId: 0-1]"}
REFUSED = [*((name, API) for name in ASKED), ("get", GATEWAY), ("collect", GATEWAY), ("submit", GATEWAY)]


@pytest.fixture
def done(connection: DatabricksConnection, request_for: Any) -> RemoteRun:
    """A run that has ended, made with the token that is then refused."""
    return ended(connection, connection.submit(request_for()).remote_id)


@pytest.fixture
def fresh(request_for: Any) -> Request:
    """An attempt that has not been submitted, with code of its own, which needs a right."""
    made: Request = request_for("print('fresh')", model={"name": "m"})
    assert made.needs
    return made


def exchanges(control: SandboxControl) -> int:
    return len(control.requests(path=TOKEN))


@pytest.mark.parametrize("name", ASKED)
def test_a_revoked_token_is_replaced_once_in_every_kind_of_call(
    connection: DatabricksConnection,
    control: SandboxControl,
    accounts: Accounts,
    principal: str,
    done: RemoteRun,
    fresh: Request,
    name: str,
) -> None:
    paid = control.paid_runs()
    control.clear_requests()
    assert control.expire_tokens(principal, "federation") == 1
    CALLS[name](connection, fresh, done)
    refused = [entry for entry in control.requests(path=APIS) if entry["status"] == 401]
    assert len(refused) == 1
    assert exchanges(control) == 1
    assert len(accounts.minted) == 2
    assert control.paid_runs() == paid + (name == "submit")


@pytest.mark.parametrize(("name", "refusal"), REFUSED, ids=[f"{name} {told['status']}" for name, told in REFUSED])
def test_a_fresh_token_that_is_refused_as_well_is_told_after_one_mint(
    connection: DatabricksConnection,
    control: SandboxControl,
    done: RemoteRun,
    fresh: Request,
    name: str,
    refusal: dict[str, Any],
) -> None:
    paid = control.paid_runs()
    control.clear_requests()
    control.add_fault("status", APIS, times=0, **refusal)
    assert is_refused(lambda: CALLS[name](connection, fresh, done))
    assert exchanges(control) == 1
    assert len(control.requests(path=APIS)) == 2
    assert control.paid_runs() == paid


def test_a_submission_whose_token_is_refused_after_its_effect_starts_one_run(
    connection: DatabricksConnection, control: SandboxControl, fresh: Request
) -> None:
    connection.whoami()
    paid = control.paid_runs()
    control.add_fault("status", "/api/2.2/jobs/runs/submit", status=401, after_effect=True)
    connection.submit(fresh)
    assert control.paid_runs() == paid + 1


def test_many_calls_with_a_revoked_token_lead_to_one_exchange(
    connection: DatabricksConnection, control: SandboxControl, principal: str
) -> None:
    connection.whoami()
    control.clear_requests()
    control.expire_tokens(principal)
    told: list[str] = []
    threads = [threading.Thread(target=lambda: told.append(connection.whoami().principal)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == [principal] * 8
    assert exchanges(control) == 1


def test_what_can_not_be_had_instead_of_a_refused_token_is_told(
    connection: DatabricksConnection, control: SandboxControl, principal: str
) -> None:
    """The principal was deleted: the platform says 401, and the token endpoint why."""
    connection.whoami()
    control.remove_principal(principal)
    with pytest.raises(IdentityError) as raised:
        connection.whoami()
    assert raised.value.reason == "ServicePrincipalUnknown"


@pytest.mark.parametrize("lost", [{"workspace_access": False}, {"entitlements": []}])
def test_a_right_that_is_taken_away_is_no_reason_to_mint(
    connection: DatabricksConnection, control: SandboxControl, principal: str, lost: dict[str, Any]
) -> None:
    connection.whoami()
    control.clear_requests()
    control.change_principal(principal, **lost)
    with pytest.raises(Denied) as raised:
        connection.whoami()
    assert "databricks account workspace-assignment update" in raised.value.message
    assert "entitlement workspace-access" in raised.value.message
    assert exchanges(control) == 0


def test_a_refused_token_is_not_told_on(connection: DatabricksConnection, control: SandboxControl) -> None:
    control.add_fault("status", APIS, status=401, times=0)
    with pytest.raises(Unauthenticated) as raised:
        connection.whoami()
    for token in control.tokens():
        assert token["value"] not in raised.value.message
