"""Azure stops taking a token in the middle of its life: one new one per audience, and each call made again."""

import threading
from collections import Counter
from collections.abc import Callable

import pytest

from tests.wire.azureml import (
    accounts,
    cloud,
    connect,
    connection,
    data_scientist,
    ended,
    request_for,
    target,
    tokens_for,
)
from tests.wire.refused_tokens import CALLS, is_refused
from trainyard.core.errors import Denied, IdentityError
from trainyard.core.remote import RemoteRun
from trainyard.identity.clouds import Cloud
from trainyard.platforms.azureml.connection import AzureMLConnection
from trainyard.platforms.base import Request
from trainyard_sandbox.client import SandboxControl

__all__ = ["accounts", "cloud", "connect", "connection", "data_scientist", "request_for", "target", "tokens_for"]

ARM, DATA = "/subscriptions/.*", "/(history|mlflow)/.*"
SIGN_IN = "/[^/]+/oauth2/v2.0/token"
# The audiences that a call asks: Azure Resource Manager, and the workspace's own services.
BOTH = {"collect", "retire"}


@pytest.fixture
def done(connection: AzureMLConnection, request_for: Callable[..., Request]) -> RemoteRun:
    """A job that has ended and whose results were read, with the tokens that are then refused."""
    job = ended(connection, connection.submit(request_for()).remote_id)
    CALLS["collect"](connection, request_for(), job)
    return job


@pytest.fixture
def fresh(request_for: Callable[..., Request]) -> Request:
    """An attempt that has not been submitted, with code of its own."""
    return request_for("print('fresh')")


def signed_in(control: SandboxControl, since: int) -> Counter[str]:
    """Sign-ins by audience, after that many."""
    return Counter(token["audience"] for token in control.azure_tokens()[since:] if token["purpose"] == "sign-in")


def sign_ins(control: SandboxControl) -> int:
    return len(control.requests(path=SIGN_IN))


@pytest.mark.parametrize("name", CALLS)
def test_a_revoked_token_is_replaced_once_in_every_kind_of_call(
    connection: AzureMLConnection,
    control: SandboxControl,
    cloud: Cloud,
    data_scientist: str,
    done: RemoteRun,
    fresh: Request,
    name: str,
) -> None:
    before, paid = len(control.azure_tokens()), control.azure_paid_total()
    control.clear_requests()
    control.expire_azure_tokens(data_scientist)
    CALLS[name](connection, fresh, done)
    minted = signed_in(control, before)
    assert set(minted) <= {cloud.resource_manager, cloud.ml_resource}
    assert set(minted.values()) == {1}
    assert len(minted) == sign_ins(control)
    if name not in BOTH:
        assert set(minted) == {cloud.resource_manager}
    assert control.azure_paid_total() == paid + (name == "submit")


@pytest.mark.parametrize("name", CALLS)
def test_a_fresh_token_that_is_refused_as_well_is_told_after_one_mint(
    connection: AzureMLConnection, control: SandboxControl, done: RemoteRun, fresh: Request, name: str
) -> None:
    before, paid = len(control.azure_tokens()), control.azure_paid_total()
    control.clear_requests()
    for path in (ARM, DATA):
        control.add_fault("status", path, status=401, times=0)
    assert is_refused(lambda: CALLS[name](connection, fresh, done))
    assert list(signed_in(control, before).values()) == [1]
    assert sign_ins(control) == 1
    assert len(control.requests(path=f"{ARM}|{DATA}")) == 2
    assert control.azure_paid_total() == paid


def test_a_submission_whose_token_is_refused_after_its_effect_starts_one_job(
    connection: AzureMLConnection, control: SandboxControl, fresh: Request
) -> None:
    connection.whoami()
    paid = control.azure_paid_total()
    control.add_fault("status", "/subscriptions/.*/jobs/[^/]+", method="PUT", status=401, after_effect=True)
    assert connection.submit(fresh).remote_id == fresh.submission_token
    assert control.azure_paid_total() == paid + 1


def test_many_calls_with_a_revoked_token_lead_to_one_sign_in(
    connection: AzureMLConnection, control: SandboxControl, data_scientist: str, done: RemoteRun
) -> None:
    control.clear_requests()
    control.expire_azure_tokens(data_scientist)
    told: list[str] = []
    threads = [threading.Thread(target=lambda: told.append(connection.get(done.remote_id).state)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == ["Completed"] * 8
    assert sign_ins(control) == 1


def test_what_can_not_be_had_instead_of_a_refused_token_is_told(
    connection: AzureMLConnection, control: SandboxControl, data_scientist: str
) -> None:
    connection.whoami()
    control.remove_application(data_scientist)
    with pytest.raises(IdentityError) as raised:
        connection.whoami()
    assert raised.value.reason == "ServicePrincipalUnknown"


def test_a_role_that_is_taken_away_is_no_reason_to_mint(
    connection: AzureMLConnection, control: SandboxControl, data_scientist: str
) -> None:
    connection.whoami()
    control.clear_requests()
    control.remove_role(data_scientist, "AzureML Data Scientist")
    with pytest.raises(Denied) as raised:
        connection.whoami()
    assert "az role assignment create" in raised.value.message
    assert sign_ins(control) == 0
