"""The operator's workload identity on the wire: one file, both platforms, and nothing sent where it does not belong."""

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.azure_fixtures import AZURE_AUDIENCE
from tests.sandbox.issuer import TestIssuer
from tests.wire.azureml import cloud
from tests.wire.conftest import BOUNDS, Clock, Trail
from trainyard.api.workspace import ClusterMLWorkspaceSpec
from trainyard.audit.transport import Bounds
from trainyard.core.errors import IdentityError, TrainyardError, Unreachable
from trainyard.core.snapshot import Target
from trainyard.identity.azure_workload import AzureWorkload, WorkloadVariables
from trainyard.identity.base import TokenSource
from trainyard.identity.broker import Broker
from trainyard.identity.clouds import Cloud
from trainyard.identity.hosts import HostPolicy
from trainyard.platforms.azureml.connection import AzureMLConnection
from trainyard.platforms.databricks.connection import DatabricksConnection
from trainyard_sandbox.client import SandboxControl

__all__ = ["cloud"]

# The operator's own ServiceAccount, not one of a team.
OPERATOR = "system:serviceaccount:trainyard-system:trainyard"
LONG = Bounds(read=60.0, total=90.0)


@pytest.fixture
def application(control: SandboxControl, issuer: TestIssuer) -> str:
    """The operator's application: federated with its ServiceAccount, known to both platforms."""
    client_id = control.add_application("operator", roles={"workspace": ["AzureML Data Scientist"]})
    control.add_federated_credential(client_id, issuer.url, OPERATOR)
    control.add_principal("operator", application_id=client_id, entitlements=["workspace-access"])
    control.clear_requests()
    return client_id


@pytest.fixture
def file(tmp_path: Path, issuer: TestIssuer) -> Path:
    """The projected token."""
    found = tmp_path / "azure-identity-token"
    found.write_text(issuer.assertion(OPERATOR, AZURE_AUDIENCE, jti="projected-1"))
    return found


Lend = Callable[..., Broker]


@pytest.fixture
def lend(control: SandboxControl, cloud: Cloud, application: str, file: Path, audit: Trail, clock: Clock) -> Lend:
    """The operator's broker, whose webhook said this unless `changed`."""

    def build(**changed: str) -> Broker:
        said = {"client_id": application, "token_file": str(file), "authority": f"{cloud.authority}/", **changed}
        mode = AzureWorkload(WorkloadVariables(**said), audit.log, clock, BOUNDS)
        return Broker(HostPolicy([control.address.host.removeprefix("https://")]), {"azureWorkloadIdentity": mode})

    return build


def workspace(control: SandboxControl, platform: str) -> ClusterMLWorkspaceSpec:
    azure = control.address.azure
    entra = {"tenantId": azure.tenant_id, "cloud": "Sandbox"}
    described: dict[str, Any] = {
        "databricks": {
            "databricks": {"host": control.address.host},
            "identity": {"azureWorkloadIdentity": {"entra": entra}},
        },
        "azureml": {
            "azureML": {
                "subscriptionId": azure.subscription_id,
                "resourceGroup": azure.resource_group,
                "workspaceName": azure.workspace_name,
                **entra,
            },
            "identity": {"azureWorkloadIdentity": {}},
        },
    }[platform]
    return ClusterMLWorkspaceSpec.model_validate({**described, "computeClasses": {}, "allowedNamespaces": ["team-a"]})


def source(broker: Broker, target: Target) -> TokenSource:
    return broker.source(target, "team-a", "")


def failure(tokens: TokenSource) -> TrainyardError:
    with pytest.raises(TrainyardError) as raised:
        tokens.token()
    return raised.value


def sign_ins(control: SandboxControl) -> list[Any]:
    return control.requests(path=f"/{control.address.azure.tenant_id}/oauth2/v2.0/token")


def test_databricks_sees_the_operators_application(
    lend: Lend, control: SandboxControl, application: str, audit: Trail
) -> None:
    broker = lend()
    target = broker.target(workspace(control, "databricks"), "team-a")
    connection = DatabricksConnection(target, source(broker, target), audit.log, LONG)
    assert connection.whoami().principal == application == target.principal
    assert len(sign_ins(control)) == 1


def test_azure_ml_sees_the_operators_application_on_each_plane(
    lend: Lend, control: SandboxControl, cloud: Cloud, application: str, audit: Trail
) -> None:
    broker = lend()
    target = broker.target(workspace(control, "azureml"), "team-a")
    connection = AzureMLConnection(target, lambda scope: broker.source(target, "team-a", scope), audit.log, LONG)
    assert connection.whoami().principal == application
    assert broker.source(target, "team-a", cloud.ml_scope).token().value
    assert len(sign_ins(control)) == 2


def test_a_team_that_the_workspace_does_not_name_gets_nothing(lend: Lend, control: SandboxControl) -> None:
    with pytest.raises(IdentityError) as refused:
        lend().target(workspace(control, "databricks"), "team-b")
    assert refused.value.reason == "NamespaceNotAllowed"
    assert sign_ins(control) == []


def test_a_renewed_file_is_read_at_the_next_sign_in(
    lend: Lend, control: SandboxControl, file: Path, issuer: TestIssuer, audit: Trail, clock: Clock
) -> None:
    """The kubelet renews it long before its end, and the operator is not started anew."""
    broker = lend()
    tokens = source(broker, broker.target(workspace(control, "databricks"), "team-a"))
    assert tokens.token().assertion_jti == "projected-1"
    file.unlink()
    file.write_text(issuer.assertion(OPERATOR, AZURE_AUDIENCE, jti="projected-2"))
    assert tokens.token().assertion_jti == "projected-1"
    clock.ahead = timedelta(seconds=3599 * 0.85)
    assert tokens.token().assertion_jti == "projected-2"
    assert [each["assertion_jti"] for each in audit.records() if "assertion_jti" in each] == [
        "projected-1",
        "projected-2",
    ]


def test_a_live_token_outlasts_its_file(lend: Lend, control: SandboxControl, file: Path, clock: Clock) -> None:
    broker = lend()
    tokens = source(broker, broker.target(workspace(control, "databricks"), "team-a"))
    first = tokens.token()
    file.unlink()
    clock.ahead = timedelta(seconds=3599 * 0.85)
    assert tokens.token() == first
    clock.ahead = timedelta(seconds=3590)
    assert failure(tokens).reason == "WorkloadIdentityMissing"


NOT_SENT: list[tuple[dict[str, Any], str]] = [
    ({"audience": "https://kubernetes.default.svc"}, "AssertionUnusable"),
    ({"audience": AZURE_AUDIENCE, "exp": int(time.time()) - 60}, "AssertionUnusable"),
    ({"audience": AZURE_AUDIENCE, "nbf": int(time.time()) + 3600}, "ClockSkew"),
]


@pytest.mark.parametrize(("fields", "reason"), NOT_SENT)
def test_a_token_that_entra_should_not_have_does_not_leave(
    lend: Lend, control: SandboxControl, file: Path, issuer: TestIssuer, fields: dict[str, Any], reason: str
) -> None:
    claims = dict(fields)
    file.write_text(issuer.assertion(OPERATOR, claims.pop("audience"), 7200, **claims))
    broker = lend()
    tokens = source(broker, broker.target(workspace(control, "databricks"), "team-a"))
    assert failure(tokens).reason == reason
    assert sign_ins(control) == []


@pytest.mark.parametrize(
    "authority", ["https://login.microsoftonline.com/", "https://evil.example/", "http://127.0.0.1/", "nonsense"]
)
def test_an_authority_of_another_cloud_gets_no_token(
    lend: Lend, control: SandboxControl, cloud: Cloud, authority: str
) -> None:
    broker = lend(authority=authority)
    error = failure(source(broker, broker.target(workspace(control, "azureml"), "team-a")))
    assert error.reason == "AuthorityMismatch"
    for needed in (authority.strip("/"), cloud.authority, "Sandbox"):
        assert needed in error.message
    assert sign_ins(control) == []


def test_a_webhook_that_names_no_authority_leaves_the_clouds(lend: Lend, control: SandboxControl) -> None:
    broker = lend(authority="")
    assert source(broker, broker.target(workspace(control, "azureml"), "team-a")).token().value


def test_an_application_that_does_not_trust_the_operator_is_told_with_the_command(
    lend: Lend, control: SandboxControl, issuer: TestIssuer
) -> None:
    stranger = control.add_application("stranger")
    broker = lend(client_id=stranger)
    error = failure(source(broker, broker.target(workspace(control, "azureml"), "team-a")))
    assert isinstance(error, IdentityError)
    assert (error.reason, error.waiting) == ("TokenExchangeRefused", True)
    for needed in ("federated-credential create", OPERATOR, issuer.url):
        assert needed in error.message


def test_an_entra_that_hangs_is_given_up_in_bounded_time(lend: Lend, control: SandboxControl) -> None:
    control.add_fault("hang", r"/.*/oauth2/v2\.0/token")
    broker = lend()
    tokens = source(broker, broker.target(workspace(control, "databricks"), "team-a"))
    began = time.monotonic()
    assert isinstance(failure(tokens), Unreachable)
    assert time.monotonic() - began < 10


def test_no_record_or_refusal_has_the_token(lend: Lend, control: SandboxControl, file: Path, audit: Trail) -> None:
    broker = lend()
    got = source(broker, broker.target(workspace(control, "azureml"), "team-a")).token().value
    stranger = control.add_application("stranger")
    other = lend(client_id=stranger)
    error = failure(source(other, other.target(workspace(control, "azureml"), "team-a")))
    text = audit.stream.getvalue() + error.message + repr(error)
    for secret in (got, *file.read_text().split(".")[1:]):
        assert secret not in text
    told = [each for each in audit.records() if each["event"] == "request"]
    assert {each["mode"] for each in told} == {"azureWorkloadIdentity"}
    assert not any("service_account" in each for each in told)
