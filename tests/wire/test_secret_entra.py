"""The mode secretRef at Entra on the wire: client secrets and certificates by unmodified azure-identity and MSAL."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.pem import certificate_pem, key_pem, rsa_key
from tests.vault import Vault
from tests.wire.azureml import cloud
from tests.wire.conftest import BOUNDS, Clock, Trail
from trainyard.api.identity import SECRET_REF, Identity
from trainyard.audit.transport import Bounds
from trainyard.core.errors import IdentityError, Throttled, TrainyardError, Unreachable
from trainyard.core.snapshot import Target
from trainyard.identity.base import TokenSource
from trainyard.identity.clouds import Cloud
from trainyard.identity.hosts import HostPolicy
from trainyard.identity.secret_ref import SecretMode
from trainyard.identity.signing_in import DATABRICKS_SCOPE
from trainyard.platforms.azureml.connection import AzureMLConnection
from trainyard.platforms.databricks.connection import DatabricksConnection
from trainyard_sandbox.client import SandboxControl

__all__ = ["cloud"]

SECRET, CERTIFICATE = "EntraClientSecret", "EntraCertificate"
WAITS_FOR_MLFLOW = Bounds(read=60.0, total=90.0)
Source = Callable[..., TokenSource]


@pytest.fixture
def application(control: SandboxControl) -> str:
    """An application with the role AzureML Data Scientist, whom nothing federates."""
    return control.add_application("trainer", roles={"workspace": ["AzureML Data Scientist"]})


@pytest.fixture
def secret(control: SandboxControl, application: str) -> Vault:
    return Vault(SECRET, client_id=application, client_secret=control.add_client_secret(application) + "\n")


@pytest.fixture
def certificate(control: SandboxControl, application: str) -> Vault:
    """As cert-manager makes it."""
    pem = certificate_pem()
    control.add_certificate(application, pem)
    vault = Vault(CERTIFICATE, client_id=application)
    vault.data |= {"tls.crt": pem.encode(), "tls.key": key_pem().encode()}
    return vault


@pytest.fixture(params=[SECRET, CERTIFICATE])
def vault(request: pytest.FixtureRequest, secret: Vault, certificate: Vault) -> Vault:
    return secret if request.param == SECRET else certificate


def target(control: SandboxControl, vault: Vault, principal: str, *, databricks: bool = False) -> Target:
    azure = control.address.azure
    given: dict[str, Any] = {"name": "kept", "type": vault.annotations["trainyard.dev/identity"]}
    if not databricks:
        identity = Identity.model_validate({SECRET_REF: given})
        return Target("azureml", azure.workspace_url, principal, SECRET_REF, "", azure.tenant_id, identity)
    given["entra"] = {"tenantId": azure.tenant_id, "cloud": "Sandbox"}
    identity = Identity.model_validate({SECRET_REF: given})
    return Target("databricks", control.address.host, principal, SECRET_REF, "", azure.tenant_id, identity)


@pytest.fixture
def mode(control: SandboxControl, audit: Trail, clock: Clock) -> Callable[[Vault], SecretMode]:
    hosts = HostPolicy([control.address.host.removeprefix("https://")])
    return lambda vault: SecretMode(vault, hosts, audit.log, clock, BOUNDS)


@pytest.fixture
def source(control: SandboxControl, cloud: Cloud, mode: Callable[[Vault], SecretMode], application: str) -> Source:
    """A token source of the application for Azure Resource Manager."""
    control.clear_requests()

    def build(vault: Vault, principal: str = application, scope: str = cloud.arm_scope) -> TokenSource:
        return mode(vault).source(target(control, vault, principal), "team-a", scope)

    return build


@pytest.fixture
def endpoint(control: SandboxControl) -> str:
    return f"/{control.address.azure.tenant_id}/oauth2/v2.0/token"


def failure(tokens: TokenSource) -> TrainyardError:
    with pytest.raises(TrainyardError) as raised:
        tokens.token()
    return raised.value


def parts_of(vault: Vault) -> list[str]:
    """What must stand nowhere: a secret whole, of a key any line."""
    private = [line for name in ("tls.key", "certificate") for line in vault.data.get(name, b"").decode().split("\n")]
    lines = [line for line in private if len(line) > 40 and not line.startswith("-----")]
    return [vault.data.get("client-secret", b"").decode().strip() or "none at all", *lines]


def test_it_signs_the_application_in_to_azure_ml(
    control: SandboxControl,
    cloud: Cloud,
    mode: Callable[[Vault], SecretMode],
    vault: Vault,
    application: str,
    audit: Trail,
) -> None:
    made, pinned = mode(vault), target(control, vault, application)
    sources = {scope: made.source(pinned, "team-a", scope) for scope in (cloud.arm_scope, cloud.ml_scope)}
    connection = AzureMLConnection(pinned, lambda scope: sources[scope], audit.log, WAITS_FOR_MLFLOW)
    assert connection.whoami().principal == application
    values = {scope: tokens.token().value for scope, tokens in sources.items()}
    issued = {token["value"]: token for token in control.azure_tokens()}
    for scope, resource in ((cloud.arm_scope, cloud.resource_manager), (cloud.ml_scope, cloud.ml_resource)):
        token = issued[values[scope]]
        assert (token["client_id"], token["audience"]) == (application, resource)


def test_it_signs_the_application_in_to_azure_databricks(
    control: SandboxControl,
    cloud: Cloud,
    mode: Callable[[Vault], SecretMode],
    vault: Vault,
    application: str,
    audit: Trail,
) -> None:
    control.add_principal("trainer", application_id=application, entitlements=["workspace-access"])
    pinned = target(control, vault, application, databricks=True)
    tokens = mode(vault).source(pinned, "team-a", DATABRICKS_SCOPE)
    assert DatabricksConnection(pinned, tokens, audit.log, WAITS_FOR_MLFLOW).whoami().principal == application


def test_a_token_is_kept_and_the_secret_read_for_the_next_alone(
    source: Source, vault: Vault, control: SandboxControl, endpoint: str, clock: Clock
) -> None:
    tokens = source(vault)
    first = tokens.token()
    assert tokens.token() == first
    assert (len(vault.read), len(control.requests(path=endpoint))) == (1, 1)
    clock.ahead = timedelta(seconds=3599 * 0.85)
    assert tokens.token() != first
    assert len(vault.read) == 2


def test_a_rotated_secret_is_used_at_the_next_mint(
    source: Source, secret: Vault, control: SandboxControl, application: str, clock: Clock
) -> None:
    secret.put(client_secret="wrong~once.but-not-for-ever_0123456789")
    tokens = source(secret)
    assert failure(tokens).reason == "ClientSecretWrong"
    secret.put(client_secret=control.add_client_secret(application))
    clock.ahead = timedelta(seconds=6)
    assert tokens.token().value


def test_a_rotated_certificate_is_used_after_a_401(
    control: SandboxControl,
    cloud: Cloud,
    mode: Callable[[Vault], SecretMode],
    certificate: Vault,
    application: str,
    audit: Trail,
) -> None:
    made, pinned = mode(certificate), target(control, certificate, application)
    sources = {scope: made.source(pinned, "team-a", scope) for scope in (cloud.arm_scope, cloud.ml_scope)}
    connection = AzureMLConnection(pinned, lambda scope: sources[scope], audit.log, WAITS_FOR_MLFLOW)
    connection.whoami()
    read = len(certificate.read)
    renewed = certificate_pem(rsa_key("renewed"))
    control.add_certificate(application, renewed)
    certificate.data |= {"tls.crt": renewed.encode(), "tls.key": key_pem(rsa_key("renewed")).encode()}
    control.expire_azure_tokens(application)
    assert connection.whoami().principal == application
    assert len(certificate.read) > read


def test_a_wrong_secret_is_told_with_what_mends_it(source: Source, secret: Vault, application: str) -> None:
    secret.put(client_secret="wrong~secret.0123456789-abcdefghijklm")
    error = failure(source(secret))
    assert isinstance(error, IdentityError)
    assert (error.reason, error.waiting) == ("ClientSecretWrong", False)
    assert "key client-secret of Secret team-a/kept" in error.message
    assert f"az ad app credential reset --id {application} --append" in error.message
    assert "wrong~secret" not in error.message + repr(error)


def test_an_expired_secret_is_told_as_that(
    source: Source, secret: Vault, control: SandboxControl, application: str
) -> None:
    secret.put(client_secret=control.add_client_secret(application, lifetime_seconds=1e-6))
    error = failure(source(secret))
    assert error.reason == "ClientSecretExpired"
    assert "key client-secret of Secret team-a/kept" in error.message


def test_a_certificate_that_the_application_does_not_have_is_told_with_the_command(
    source: Source, certificate: Vault, application: str
) -> None:
    other = certificate_pem(rsa_key("unknown"))
    certificate.data |= {"tls.crt": other.encode(), "tls.key": key_pem(rsa_key("unknown")).encode()}
    error = failure(source(certificate))
    assert error.reason == "CertificateUnknown"
    assert "key tls.crt of Secret team-a/kept" in error.message
    assert f"az ad app credential reset --id {application} --append --cert @certificate.pem" in error.message


def test_nothing_is_sent_for_a_certificate_that_has_ended_or_has_another_key(
    source: Source, certificate: Vault, control: SandboxControl, clock: Clock
) -> None:
    ended = certificate_pem(begins=clock() - timedelta(days=2), ends=clock() - timedelta(days=1))
    certificate.data["tls.crt"] = ended.encode()
    assert failure(source(certificate)).reason == "CertificateExpired"
    certificate.data["tls.crt"] = certificate_pem(rsa_key("unknown")).encode()
    assert failure(source(certificate)).reason == "CertificateKeyMismatch"
    assert control.requests() == []


def test_a_certificate_that_has_ended_by_entras_clock_alone_is_told_with_both_ways_out(
    source: Source, certificate: Vault, control: SandboxControl, application: str, clock: Clock
) -> None:
    soon = certificate_pem(ends=clock() + timedelta(hours=1))
    certificate.data["tls.crt"] = soon.encode()
    control.add_certificate(application, soon)
    control.settings(clock_offset_seconds=7200.0)
    error = failure(source(certificate))
    assert error.reason == "CertificateExpired"
    assert "clock" in error.message
    assert f"az ad app credential reset --id {application} --append --cert @certificate.pem" in error.message


def test_a_clock_that_is_wrong_is_told_in_words_that_stay(
    source: Source, certificate: Vault, control: SandboxControl, clock: Clock
) -> None:
    control.settings(clock_offset_seconds=3600.0)
    tokens = source(certificate)
    first = failure(tokens)
    assert first.reason == "AssertionRefused"
    assert "clock" in first.message
    clock.ahead = timedelta(seconds=6)
    assert failure(tokens).message == first.message


def test_an_unknown_application_is_told_by_where_its_id_comes_from(source: Source, vault: Vault) -> None:
    unknown = "00000000-0000-0000-0000-00000000dead"
    vault.put(client_id=unknown)
    error = failure(source(vault, unknown))
    assert error.reason == "ServicePrincipalUnknown"
    assert "of Secret team-a/kept" in error.message


def test_an_unknown_tenant_is_told(
    control: SandboxControl, cloud: Cloud, mode: Callable[[Vault], SecretMode], vault: Vault, application: str
) -> None:
    """MSAL looks the tenant up before it signs in."""
    pinned = target(control, vault, application)
    elsewhere = Target(pinned.platform, pinned.host, application, SECRET_REF, "", "nowhere.example", pinned.identity)
    assert failure(mode(vault).source(elsewhere, "team-a", cloud.arm_scope)).reason == "TenantUnknown"


FAULTS: list[tuple[str, dict[str, Any], type[TrainyardError]]] = [
    ("hang", {}, Unreachable),
    ("slow_body", {"seconds": 30.0}, Unreachable),
    ("malformed_json", {}, Unreachable),
    ("status", {"status": 429, "retry_after": "3"}, Throttled),
    ("status", {"status": 503}, Unreachable),
    ("reset", {}, Unreachable),
    ("redirect", {"location": "https://evil.example/"}, IdentityError),
]


@pytest.mark.parametrize("path", ["/{tenant}/oauth2/v2.0/token", "/{tenant}/v2.0/.well-known/openid-configuration"])
@pytest.mark.parametrize(("kind", "fields", "error"), FAULTS)
def test_a_broken_entra_is_asked_once_and_in_bounded_time(
    source: Source,
    secret: Vault,
    control: SandboxControl,
    path: str,
    kind: str,
    fields: dict[str, Any],
    error: type[TrainyardError],
) -> None:
    path = path.replace("{tenant}", control.address.azure.tenant_id)
    control.add_fault(kind, path, **fields)
    assert type(failure(source(secret))) is error
    assert len(secret.read) == 1
    control.clear_faults()
    # Each request of this test met the fault; one of an earlier test may be noted as late as here.
    assert len([each for each in control.requests(path=path) if each["fault"]]) <= 1


def test_a_token_endpoint_on_another_host_is_sent_nothing(
    source: Source, secret: Vault, control: SandboxControl, audit: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MSAL would follow the tenant's document, and a variable, to any host."""
    monkeypatch.setattr(
        "msal.authority.tenant_discovery",
        lambda *_: {
            "token_endpoint": "https://evil.example/t/oauth2/v2.0/token",
            "authorization_endpoint": "https://evil.example/t/oauth2/v2.0/authorize",
            "issuer": "https://evil.example",
        },
    )
    error = failure(source(secret))
    assert error.reason == "TokenEndpointNotAllowed"
    assert "evil.example" in error.message
    assert [record for record in audit.records() if record.get("host") == "evil.example"] == []
    assert control.requests() == []


def test_the_environment_chooses_neither_authority_nor_identity(
    source: Source, secret: Vault, audit: Trail, control: SandboxControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AZURE_AUTHORITY_HOST": "https://evil.example",
        "AZURE_TENANT_ID": "evil",
        "AZURE_CLIENT_ID": "evil",
        "AZURE_CLIENT_SECRET": "evil",
    }.items():
        monkeypatch.setenv(name, value)
    assert source(secret).token().value
    hosts = {record["host"] for record in audit.records() if record["event"] == "request"}
    assert hosts == {control.address.azure.authority.removeprefix("https://")}


def test_a_sign_in_is_on_record_by_the_secrets_name_and_without_what_it_holds(
    source: Source, vault: Vault, application: str, audit: Trail, endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = source(vault).token()
    kept = parts_of(vault)
    wrong = {"client-secret": b"wrong~secret.0123456789-abcdefghijklm"} if "client-secret" in vault.data else {}
    vault.data |= wrong or {name: value.encode() for name, value in unknown().items()}
    refused = failure(source(vault))
    requests = [record for record in audit.records() if record["event"] == "request"]
    assert [record["path"] for record in requests].count(endpoint) == 2
    for record in requests:
        assert (record["principal"], record["mode"], record["secret"]) == (application, "secretRef", "team-a/kept")
    told = audit.stream.getvalue() + caplog.text + repr(token) + str(refused) + repr(refused)
    assert len(told) > 500
    for part in [*kept, *parts_of(vault), token.value]:
        assert part[:40] not in told


def unknown() -> dict[str, str]:
    return {"tls.crt": certificate_pem(rsa_key("unknown")), "tls.key": key_pem(rsa_key("unknown"))}
