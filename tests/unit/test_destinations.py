"""Who may be sent an assertion for logs, and on whose behalf."""

import base64
import json
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from tests.unit.test_code_finder import run
from trainyard.api.identity import Identity
from trainyard.api.training_run import Attempt
from trainyard.api.workspace import LogDestination
from trainyard.audit.log import AuditLog
from trainyard.controllers.destinations import Destinations, _Key
from trainyard.controllers.settings import StorageEndpoints
from trainyard.core.errors import IdentityError
from trainyard.identity.base import AZURE_CLIENT_ID, DATABRICKS_CLIENT_ID, ServiceAccountRef

S3 = LogDestination.model_validate(
    {"s3": {"bucket": "logs", "region": "eu-west-1", "roleArn": "arn:aws:iam::123456789012:role/logs"}}
)
RUN = run({"inline": "x"}, commit="a" * 40)


class Accounts:
    """ServiceAccounts; remembers which tokens were asked for."""

    def __init__(self, client_id: str = "p") -> None:
        self.client_id = client_id
        self.minted: list[tuple[ServiceAccountRef, str]] = []

    def annotations(self, _account: ServiceAccountRef) -> Mapping[str, str]:
        return {DATABRICKS_CLIENT_ID: self.client_id} if self.client_id else {}

    def request_token(self, account: ServiceAccountRef, audience: str, _seconds: int) -> str:
        self.minted.append((account, audience))
        claims = {"iss": "https://issuer", "sub": "trainer", "aud": [audience]}
        return f"h.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.s"


def destinations(accounts: Accounts, **endpoints: Any) -> Destinations:
    return Destinations(accounts, AuditLog(sys.stderr), StorageEndpoints(**endpoints))


def attempt() -> Attempt:
    return RUN.status.attempts[0]


def test_an_assertion_is_the_attempts_own_service_accounts() -> None:
    accounts = Accounts()
    mint = destinations(accounts)._assertions(
        _Key(ServiceAccountRef("team", "trainer"), "databricks", "https://dbc-1", "p", "{}")
    )
    assert mint("sts.amazonaws.com")
    assert accounts.minted == [(ServiceAccountRef("team", "trainer"), "sts.amazonaws.com")]


@pytest.mark.parametrize("client_id", ["", "another"])
def test_a_service_account_that_does_not_opt_in_to_that_principal_is_not_used_for_logs(client_id: str) -> None:
    accounts = Accounts(client_id)
    keeping = destinations(accounts).keeping(RUN, attempt(), S3, None)
    assert keeping is not None
    with pytest.raises(IdentityError):
        keeping("train", "text")
    assert accounts.minted == []


def test_an_attempt_that_signed_in_at_entra_has_its_logs_kept_by_that_consent() -> None:
    """Its principal is the one of Azure's annotation, whichever platform it ran on."""
    by_entra = {"federated": {"serviceAccountName": "trainer", "entra": {"tenantId": "contoso.com"}}}
    accounts = Accounts()
    accounts.annotations = lambda _account: {DATABRICKS_CLIENT_ID: "p", AZURE_CLIENT_ID: "azure-app"}  # type: ignore[method-assign]
    for identity, principal in ((None, "p"), (Identity.model_validate(by_entra), "azure-app")):
        pinned = {"identity": identity, "principal": principal, "service_account": "trainer"}
        keeping = destinations(accounts).keeping(RUN, attempt().model_copy(update=pinned), S3, None)
        assert keeping is not None
        assert destinations(accounts)._assertions(keeping._at)("sts.amazonaws.com")


def test_a_resource_can_not_widen_where_assertions_go() -> None:
    policy = destinations(Accounts())._policy
    for url in ("https://sts.eu-west-1.amazonaws.com", "https://logs.blob.core.windows.net"):
        policy.check(url)
    for url in ("https://amazonaws.com.evil.example", "https://blob.core.windows.net.evil", "https://evil.example"):
        with pytest.raises(IdentityError):
            policy.check(url)


def test_an_administrators_own_endpoints_may_be_asked() -> None:
    made = destinations(Accounts(), s3="https://s3.internal:9000", sts="https://sts.internal")
    assert made._policy.check("https://s3.internal:9000")
    assert made._policy.check("https://sts.internal")


def test_an_endpoint_that_makes_no_sense_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="not HOST"):
        destinations(Accounts(), s3="http://s3.internal/path")


def test_stores_are_kept_per_identity_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainyard.controllers.destinations.MOST_STORES", 2)
    made = destinations(Accounts())
    for number in range(4):
        keep = made.keeping(RUN, attempt().model_copy(update={"service_account": f"sa-{number}"}), S3, None)
        assert keep is not None
        assert keep._store() is not None
    assert [key.account.name for key in made._stores] == ["sa-2", "sa-3"]


def test_a_workspace_without_a_destination_keeps_none() -> None:
    assert destinations(Accounts()).keeping(RUN, attempt(), None, None) is None
