"""Azure Databricks through a token of Entra: mode federated, the client id from the ServiceAccount's annotation."""

import jwt
import pytest

from tests.sandbox.azure_fixtures import AZURE_SUBJECT, data_scientist
from tests.sandbox.conftest import AUDIENCE
from tests.sandbox.issuer import TestIssuer
from tests.wire.azureml import cloud
from tests.wire.conftest import ACCOUNT, BOUNDS, Accounts, Clock, Trail
from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.audit.transport import Bounds
from trainyard.core.errors import Denied, IdentityError, TrainyardError
from trainyard.core.snapshot import Target
from trainyard.identity import clouds
from trainyard.identity.base import AZURE_CLIENT_ID, AZURE_WORKLOAD_CLIENT_ID, DATABRICKS_CLIENT_ID, TokenSource
from trainyard.identity.broker import Broker
from trainyard.identity.clouds import Cloud
from trainyard.identity.federated import Federated
from trainyard.identity.hosts import HostPolicy
from trainyard.identity.signing_in import DATABRICKS_SCOPE, cloud_and_tenant
from trainyard.platforms.databricks.connection import DatabricksConnection
from trainyard_sandbox.client import SandboxControl

__all__ = ["cloud", "data_scientist"]

LONG = Bounds(read=60.0, total=90.0)


@pytest.fixture
def application(control: SandboxControl, data_scientist: str) -> str:
    """An application of Entra that is a principal of the Databricks workspace too."""
    control.add_principal("by-entra", application_id=data_scientist, entitlements=["workspace-access"])
    control.clear_requests()
    return data_scientist


@pytest.fixture
def accounts(issuer: TestIssuer, application: str) -> Accounts:
    made = Accounts(issuer, "")
    made.noted = {AZURE_CLIENT_ID: application}
    return made


@pytest.fixture
def broker(control: SandboxControl, cloud: Cloud, accounts: Accounts, audit: Trail, clock: Clock) -> Broker:
    hosts = HostPolicy([control.address.host.removeprefix("https://")])
    return Broker(hosts, {"federated": Federated(accounts, hosts, AUDIENCE, audit.log, clock, BOUNDS)})


def workspace(control: SandboxControl, cloud: str | None = "Sandbox", tenant: str = "") -> MLWorkspaceSpec:
    entra = {"tenantId": tenant or control.address.azure.tenant_id, **({} if cloud is None else {"cloud": cloud})}
    return MLWorkspaceSpec.model_validate(
        {
            "databricks": {"host": control.address.host},
            "identity": {"federated": {"serviceAccountName": ACCOUNT.name, "entra": entra}},
            "computeClasses": {},
        }
    )


@pytest.fixture
def target(broker: Broker, control: SandboxControl) -> Target:
    return broker.target(workspace(control), ACCOUNT.namespace)


@pytest.fixture
def connection(broker: Broker, target: Target, audit: Trail) -> DatabricksConnection:
    return DatabricksConnection(target, broker.source(target, ACCOUNT.namespace, ""), audit.log, LONG)


def failure(tokens: TokenSource) -> TrainyardError:
    with pytest.raises(TrainyardError) as raised:
        tokens.token()
    return raised.value


def test_a_workspace_takes_the_token_of_entra_and_no_exchange_of_its_own_is_asked(
    connection: DatabricksConnection, control: SandboxControl, application: str, accounts: Accounts
) -> None:
    assert connection.whoami().principal == application
    assert control.requests(path="/oidc/v1/token") == []
    assert len(control.requests(path=f"/{control.address.azure.tenant_id}/oauth2/v2.0/token")) == 1
    [assertion] = accounts.minted
    [issued] = [token for token in control.azure_tokens() if token["client_id"] == application]
    assert issued["audience"] == DATABRICKS_SCOPE.removesuffix("/.default")
    assert jwt.decode(assertion, options={"verify_signature": False})["aud"] == ["api://AzureADTokenExchange"]


def test_azures_own_annotation_opts_in_as_well(
    broker: Broker, control: SandboxControl, accounts: Accounts, application: str, audit: Trail
) -> None:
    accounts.noted = {AZURE_WORKLOAD_CLIENT_ID: application}
    target = broker.target(workspace(control), ACCOUNT.namespace)
    source = broker.source(target, ACCOUNT.namespace, "")
    assert DatabricksConnection(target, source, audit.log, LONG).whoami().principal == application


def test_the_annotation_for_databricks_own_exchange_opts_in_to_nothing_of_entra(
    broker: Broker, control: SandboxControl, accounts: Accounts, application: str
) -> None:
    accounts.noted = {DATABRICKS_CLIENT_ID: application}
    with pytest.raises(IdentityError) as refused:
        broker.target(workspace(control), ACCOUNT.namespace)
    assert refused.value.reason == "ServiceAccountNotOptedIn"
    assert AZURE_CLIENT_ID in refused.value.message


def test_consent_that_is_taken_back_ends_the_sign_ins(
    broker: Broker, target: Target, accounts: Accounts, control: SandboxControl
) -> None:
    accounts.noted = {AZURE_CLIENT_ID: "somebody-else"}
    assert failure(broker.source(target, ACCOUNT.namespace, "")).reason == "ClientIdMismatch"
    assert accounts.minted == []


def test_an_application_without_a_federated_credential_is_told_the_command(
    broker: Broker, control: SandboxControl, accounts: Accounts, issuer: TestIssuer
) -> None:
    accounts.noted = {AZURE_CLIENT_ID: control.add_application("lonely")}
    target = broker.target(workspace(control), ACCOUNT.namespace)
    error = failure(broker.source(target, ACCOUNT.namespace, ""))
    assert isinstance(error, IdentityError)
    assert (error.reason, error.waiting) == ("TokenExchangeRefused", True)
    for needed in ("federated-credential create", AZURE_SUBJECT, issuer.url, "api://AzureADTokenExchange"):
        assert needed in error.message


def test_an_application_that_the_workspace_does_not_know_is_denied(
    broker: Broker, control: SandboxControl, accounts: Accounts, issuer: TestIssuer, audit: Trail
) -> None:
    stranger = control.add_application("stranger")
    control.add_federated_credential(stranger, issuer.url, AZURE_SUBJECT)
    accounts.noted = {AZURE_CLIENT_ID: stranger}
    target = broker.target(workspace(control), ACCOUNT.namespace)
    connection = DatabricksConnection(target, broker.source(target, ACCOUNT.namespace, ""), audit.log, LONG)
    with pytest.raises(Denied):
        connection.whoami()


def test_a_token_that_is_over_for_databricks_is_asked_for_anew(
    connection: DatabricksConnection, control: SandboxControl, application: str, accounts: Accounts
) -> None:
    connection.whoami()
    control.expire_azure_tokens(application)
    assert connection.whoami().principal == application
    assert len(accounts.minted) == 2


def test_a_cloud_that_the_operator_does_not_know_is_told_before_anything_is_asked(
    broker: Broker, control: SandboxControl, accounts: Accounts
) -> None:
    for ask in (broker.check_host, lambda spec: broker.target(spec, ACCOUNT.namespace)):
        with pytest.raises(IdentityError) as refused:
            ask(workspace(control, "Contoso"))
        assert refused.value.reason == "HostNotAllowed"
        for needed in ("identity.*.entra.cloud Contoso", "--azure-cloud"):
            assert needed in refused.value.message
    assert accounts.minted == []


def test_without_a_cloud_it_is_azures_public_one(control: SandboxControl, application: str) -> None:
    identity = workspace(control, None).identity
    pinned = Target("databricks", control.address.host, application, "federated", "trainer", "t", identity)
    assert cloud_and_tenant(pinned) == (clouds.AZURE_PUBLIC, control.address.azure.tenant_id)


def test_a_tenant_that_entra_does_not_know_is_told_by_its_field(broker: Broker, control: SandboxControl) -> None:
    target = broker.target(workspace(control, tenant="nobody.example"), ACCOUNT.namespace)
    error = failure(broker.source(target, ACCOUNT.namespace, ""))
    assert error.reason == "TenantUnknown"
    assert "identity.*.entra.tenantId" in error.message
    assert "azureML" not in error.message
