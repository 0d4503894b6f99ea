"""A clock that is wrong is told as such, whosever it is; where it can be known here, nothing is sent at all."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from tests.sandbox.issuer import TestIssuer
from tests.wire.azureml import cloud, data_scientist, entra_source
from tests.wire.conftest import Accounts, Clock, Trail
from trainyard.core.errors import IdentityError
from trainyard.identity.base import AZURE_CLIENT_ID, TokenSource
from trainyard.identity.clouds import Cloud
from trainyard_sandbox.client import SandboxControl

__all__ = ["cloud", "data_scientist"]

TOKEN_ENDPOINTS = "/oidc/v1/token|/[^/]+/oauth2/v2.0/token"
PLATFORMS = ["Databricks", "Entra"]


@pytest.fixture
def source(
    control: SandboxControl,
    tokens: TokenSource,
    cloud: Cloud,
    issuer: TestIssuer,
    data_scientist: str,
    audit: Trail,
    clock: Clock,
) -> Callable[[str], TokenSource]:
    """A token source of either platform."""
    accounts = Accounts(issuer, "")
    accounts.noted = {AZURE_CLIENT_ID: data_scientist}
    tenant = control.address.azure.tenant_id
    entra = entra_source(cloud, tenant, cloud.arm_scope, data_scientist, accounts, audit, clock)
    return {"Databricks": tokens, "Entra": entra}.__getitem__


def failure(tokens: TokenSource) -> IdentityError:
    with pytest.raises(IdentityError) as raised:
        tokens.token()
    return raised.value


OURS = [
    (timedelta(minutes=20), "the API server's clock is about 20 minutes behind the operator's"),
    (-timedelta(minutes=20), "the API server's clock is about 20 minutes ahead of the operator's"),
]


@pytest.mark.parametrize(("ahead", "told"), OURS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_an_operators_clock_that_is_wrong_is_told_before_anything_is_sent(
    source: Callable[[str], TokenSource],
    control: SandboxControl,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    platform: str,
    ahead: timedelta,
    told: str,
) -> None:
    control.clear_requests()
    with monkeypatch.context() as patched:
        patched.setattr("trainyard.identity.assertion.utc_now", lambda: datetime.now(UTC) + ahead)
        error = failure(source(platform))
    assert error.reason == "ClockSkew"
    assert told in error.message
    assert control.requests(path=TOKEN_ENDPOINTS) == []
    clock.ahead = timedelta(seconds=6)
    assert source(platform).token().value


@pytest.mark.parametrize("ahead", [timedelta(hours=1), -timedelta(hours=1)])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_platforms_clock_that_is_wrong_is_told_by_its_date(
    source: Callable[[str], TokenSource],
    control: SandboxControl,
    clock: Clock,
    platform: str,
    ahead: timedelta,
) -> None:
    control.settings(clock_offset_seconds=ahead.total_seconds())
    error = failure(source(platform))
    assert (error.reason, error.waiting) == ("ClockSkew", False)
    way = "ahead of" if ahead > timedelta() else "behind"
    assert f"the clock of {platform} is about 60 minutes {way} the operator's" in error.message
    assert "the API server's clock agrees with the operator's" in error.message
    control.settings(clock_offset_seconds=0)
    clock.ahead = timedelta(seconds=6)
    assert source(platform).token().value
