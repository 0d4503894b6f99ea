"""Signing in at Entra with the unmodified azure-identity: what is minted when, what is kept, and what never leaves."""

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from tests.sandbox.azure_fixtures import AZURE_SUBJECT, data_scientist
from tests.sandbox.issuer import TestIssuer
from tests.wire.azureml import entra_source
from tests.wire.conftest import Accounts, Clock, Trail
from trainyard.core.errors import IdentityError, Throttled, TrainyardError, Unreachable
from trainyard.identity import clouds
from trainyard.identity.base import AZURE_CLIENT_ID, AZURE_WORKLOAD_CLIENT_ID, TokenSource
from trainyard.identity.clouds import Cloud
from trainyard.identity.entra import AUDIENCE
from trainyard_sandbox.client import SandboxControl

__all__ = ["data_scientist"]

Source = Callable[..., TokenSource]


@pytest.fixture
def cloud(control: SandboxControl, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(control.address.ca_file))
    azure = control.address.azure
    return clouds.parse(
        {
            "name": "Sandbox",
            "resourceManager": azure.resource_manager,
            "authority": azure.authority,
            "storageSuffix": azure.storage_suffix,
            "mlResource": azure.ml_resource,
            "dataHosts": list(azure.data_hosts),
        }
    )


@pytest.fixture
def accounts(issuer: TestIssuer, data_scientist: str) -> Accounts:
    made = Accounts(issuer, "")
    made.noted = {AZURE_CLIENT_ID: data_scientist}
    return made


@pytest.fixture
def source(
    control: SandboxControl, cloud: Cloud, accounts: Accounts, data_scientist: str, audit: Trail, clock: Clock
) -> Source:
    """A token source of the application, for Azure Resource Manager unless `scope` says otherwise."""
    control.clear_requests()

    def build(client_id: str = data_scientist, scope: str = cloud.arm_scope, tenant: str = "") -> TokenSource:
        tenant = tenant or control.address.azure.tenant_id
        return entra_source(cloud, tenant, scope, client_id, accounts, audit, clock)

    return build


@pytest.fixture
def endpoint(control: SandboxControl) -> str:
    return f"/{control.address.azure.tenant_id}/oauth2/v2.0/token"


def failure(source: TokenSource) -> TrainyardError:
    with pytest.raises(TrainyardError) as raised:
        source.token()
    return raised.value


def issued(control: SandboxControl, value: str) -> dict[str, Any]:
    return next(token for token in control.azure_tokens() if token["value"] == value)


def test_a_service_account_signs_its_application_in_for_each_plane(
    source: Source, cloud: Cloud, control: SandboxControl, accounts: Accounts, data_scientist: str
) -> None:
    arm, ml = source(), source(scope=cloud.ml_scope)
    values = [arm.token().value, ml.token().value, arm.token().value]
    assert values[0] == values[2] != values[1]
    assert issued(control, values[0])["audience"] == cloud.resource_manager
    assert issued(control, values[1])["audience"] == cloud.ml_resource
    assert {issued(control, value)["client_id"] for value in values} == {data_scientist}
    assert len(accounts.minted) == 2


def test_many_cold_threads_make_one_sign_in(
    source: Source, accounts: Accounts, control: SandboxControl, endpoint: str
) -> None:
    tokens = source()
    values: list[str] = []
    threads = [threading.Thread(target=lambda: values.append(tokens.token().value)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(values)) == 1
    assert len(values) == 16
    assert len(accounts.minted) == 1
    assert len(control.requests(path=endpoint)) == 1


def test_a_token_lives_as_long_as_entra_says_and_is_renewed_ahead(
    source: Source, accounts: Accounts, clock: Clock
) -> None:
    tokens = source()
    first = tokens.token()
    assert timedelta(seconds=3590) < first.expires_at - clock() <= timedelta(seconds=3599)
    clock.ahead = timedelta(seconds=3599 * 0.65)
    assert tokens.token() == first
    clock.ahead = timedelta(seconds=3599 * 0.85)
    assert tokens.token() != first
    assert len(accounts.minted) == 2


def test_a_live_token_outlasts_its_service_account(source: Source, accounts: Accounts, clock: Clock) -> None:
    """What was started must be stopped also when its namespace is going."""
    tokens = source()
    first = tokens.token()
    accounts.gone = True
    clock.ahead = timedelta(seconds=3500)
    assert tokens.token() == first
    clock.ahead = timedelta(seconds=3580)
    assert failure(tokens).reason == "ServiceAccountMissing"


def test_a_forgotten_token_is_asked_for_anew(source: Source, accounts: Accounts) -> None:
    """The SDK's own cache would give the refused one again."""
    tokens = source()
    first = tokens.token()
    tokens.forget()
    assert tokens.token().value != first.value
    assert len(accounts.minted) == 2


def test_a_failed_sign_in_is_not_repeated_at_each_request(source: Source, accounts: Accounts, clock: Clock) -> None:
    tokens = source()
    accounts.noted = {}
    assert failure(tokens).reason == failure(tokens).reason == "ServiceAccountNotOptedIn"
    accounts.noted = {AZURE_CLIENT_ID: "somebody-else"}
    assert failure(tokens).reason == "ServiceAccountNotOptedIn"
    clock.ahead = timedelta(seconds=6)
    assert failure(tokens).reason == "ClientIdMismatch"
    assert accounts.minted == []


@pytest.mark.parametrize(
    ("noted", "works"),
    [
        ({AZURE_WORKLOAD_CLIENT_ID: "{id}"}, True),
        ({AZURE_CLIENT_ID: "{id}", AZURE_WORKLOAD_CLIENT_ID: "another"}, True),
        ({AZURE_CLIENT_ID: "another", AZURE_WORKLOAD_CLIENT_ID: "{id}"}, False),
        ({AZURE_CLIENT_ID: "", AZURE_WORKLOAD_CLIENT_ID: "{id}"}, False),
        ({"trainyard.dev/databricks-client-id": "{id}"}, False),
    ],
)
def test_azures_own_annotation_opts_in_where_ours_is_not_there(
    source: Source, accounts: Accounts, data_scientist: str, noted: Mapping[str, str], works: bool
) -> None:
    accounts.noted = {name: value.replace("{id}", data_scientist) for name, value in noted.items()}
    if works:
        assert source().token().value
        return
    assert failure(source()).reason in ("ServiceAccountNotOptedIn", "ClientIdMismatch")
    assert accounts.minted == []


def test_a_missing_credential_is_waited_for_and_told_with_the_command_that_adds_it(
    source: Source, control: SandboxControl, accounts: Accounts, issuer: TestIssuer
) -> None:
    lonely = control.add_application("lonely")
    accounts.noted = {AZURE_CLIENT_ID: lonely}
    error = failure(source(lonely))
    assert isinstance(error, IdentityError)
    assert (error.reason, error.waiting) == ("TokenExchangeRefused", True)
    for needed in (issuer.url, AZURE_SUBJECT, AUDIENCE, f"az ad app federated-credential create --id {lonely}"):
        assert needed in error.message
    assert "az identity federated-credential create" in error.message


WRONG = [
    ("subject", "SubjectNotTrusted"),
    ("issuer", "IssuerNotTrusted"),
    ("audience", "AudienceNotAccepted"),
    ("case", "SubjectNotTrusted"),
]


@pytest.mark.parametrize(("wrong", "reason"), WRONG)
def test_a_credential_of_somebody_else_is_told_in_words_that_stay(
    source: Source,
    control: SandboxControl,
    accounts: Accounts,
    issuer: TestIssuer,
    clock: Clock,
    wrong: str,
    reason: str,
) -> None:
    """They go into a status, which is written whenever they change: no id of one request, no time."""
    other = control.add_application("other")
    accounts.noted = {AZURE_CLIENT_ID: other}
    control.add_federated_credential(
        other,
        issuer.url + "/x" if wrong == "issuer" else issuer.url,
        {"subject": "somebody", "case": AZURE_SUBJECT.title()}.get(wrong, AZURE_SUBJECT),
        ["another"] if wrong == "audience" else [AUDIENCE],
    )
    tokens = source(other)
    first = failure(tokens)
    clock.ahead = timedelta(seconds=6)
    assert failure(tokens).message == first.message
    assert isinstance(first, IdentityError)
    assert (first.reason, first.waiting) == (reason, True)
    assert len(accounts.minted) == 2


def test_a_credential_works_once_entra_knows_it(
    source: Source, control: SandboxControl, accounts: Accounts, issuer: TestIssuer, clock: Clock
) -> None:
    late = control.add_application("late")
    accounts.noted = {AZURE_CLIENT_ID: late}
    tokens = source(late)
    assert failure(tokens).reason == "TokenExchangeRefused"
    control.add_federated_credential(late, issuer.url, AZURE_SUBJECT)
    clock.ahead = timedelta(seconds=6)
    assert tokens.token().value


def test_an_unknown_application_is_told_with_its_tenant(
    source: Source, control: SandboxControl, accounts: Accounts
) -> None:
    unknown = "00000000-0000-0000-0000-00000000dead"
    accounts.noted = {AZURE_CLIENT_ID: unknown}
    error = failure(source(unknown))
    assert error.reason == "ServicePrincipalUnknown"
    assert unknown in error.message
    assert control.address.azure.tenant_id in error.message


@pytest.mark.parametrize("tenant", ["00000000-0000-0000-0000-00000000dead", "nowhere.example", "nonsense"])
def test_an_unknown_tenant_is_told(source: Source, tenant: str) -> None:
    error = failure(source(tenant=tenant))
    assert error.reason == "TenantUnknown"
    assert tenant in error.message


@pytest.mark.parametrize("tenant", ["../evil", "a/b", "a?b", "a#b", "a@evil.example", "", "a b", "a\n", "-a", "%2e"])
def test_nothing_is_minted_for_what_can_be_no_tenant(
    cloud: Cloud, accounts: Accounts, audit: Trail, tenant: str
) -> None:
    with pytest.raises(IdentityError) as raised:
        entra_source(cloud, tenant, cloud.arm_scope, "app", accounts, audit, Clock())
    assert raised.value.reason == "TenantUnknown"
    assert accounts.minted == []


def test_an_assertion_that_entra_finds_expired_is_told(source: Source, control: SandboxControl) -> None:
    control.settings(clock_offset_seconds=3600.0)
    error = failure(source())
    assert error.reason == "ClockSkew"
    assert "the clock of Entra is about 60 minutes ahead of the operator's" in error.message


def test_an_assertion_with_another_key_is_told(
    source: Source, accounts: Accounts, issuer: TestIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, other = issuer.assertion(AZURE_SUBJECT, AUDIENCE), issuer.assertion("somebody else", AUDIENCE)
    forged = ".".join([*good.split(".")[:2], other.split(".")[2]])
    monkeypatch.setattr(accounts, "request_token", lambda *_: forged)
    error = failure(source())
    assert error.reason == "SignatureRefused"
    assert forged.split(".")[2] not in error.message


FAULTS: list[tuple[str, dict[str, Any], type[TrainyardError]]] = [
    ("hang", {}, Unreachable),
    ("slow_body", {"seconds": 30.0}, Unreachable),
    ("malformed_json", {}, Unreachable),
    ("status", {"status": 429, "retry_after": "3"}, Throttled),
    ("status", {"status": 503}, Unreachable),
    ("reset", {}, Unreachable),
    ("redirect", {"location": "https://evil.example/"}, IdentityError),
]


@pytest.mark.parametrize(("kind", "fields", "error"), FAULTS)
def test_a_broken_token_endpoint_is_asked_once_and_in_bounded_time(
    source: Source,
    control: SandboxControl,
    accounts: Accounts,
    endpoint: str,
    kind: str,
    fields: dict[str, Any],
    error: type[TrainyardError],
) -> None:
    control.add_fault(kind, endpoint, **fields)
    assert type(failure(source())) is error
    assert len(accounts.minted) == 1
    control.clear_faults()
    assert len(control.requests(path=endpoint)) <= 1


def test_a_token_for_another_audience_is_never_sent(
    source: Source,
    accounts: Accounts,
    issuer: TestIssuer,
    control: SandboxControl,
    endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accounts, "request_token", lambda *_: issuer.assertion("sub", "https://kubernetes.default.svc"))
    assert failure(source()).reason == "AssertionUnusable"
    assert control.requests(path=endpoint) == []


def test_the_environment_chooses_neither_authority_nor_identity(
    source: Source, monkeypatch: pytest.MonkeyPatch, audit: Trail, control: SandboxControl
) -> None:
    for name, value in {
        "AZURE_AUTHORITY_HOST": "https://evil.example",
        "AZURE_TENANT_ID": "evil",
        "AZURE_CLIENT_ID": "evil",
        "AZURE_CLIENT_SECRET": "evil",
    }.items():
        monkeypatch.setenv(name, value)
    assert source().token().value
    hosts = {record["host"] for record in audit.records() if record["event"] == "request"}
    assert hosts == {control.address.azure.authority.removeprefix("https://")}


def test_a_sign_in_is_on_record_with_the_assertions_id_and_without_a_secret(
    source: Source,
    accounts: Accounts,
    audit: Trail,
    data_scientist: str,
    endpoint: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    token = source().token()
    accounts.noted = {AZURE_CLIENT_ID: "unknown"}
    refused = failure(source("unknown"))
    request, response, *_ = audit.records()
    assert (request["method"], request["path"], request["principal"]) == ("POST", endpoint, data_scientist)
    assert request["service_account"] == "team-a/trainer"
    assert (request["assertion_jti"], token.assertion_jti) == ("jti-0", "jti-0")
    assert response["status"] == 200
    assert response["request_id"]
    told = audit.stream.getvalue() + caplog.text + repr(token) + str(refused) + repr(refused)
    assert len(accounts.minted) == 2
    for secret in [token.value, *accounts.minted]:
        for part in secret.split("."):
            assert part not in told.replace("[token]", "") or len(part) < 16
            assert part[:40] not in told
