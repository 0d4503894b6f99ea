"""Who may use which identity mode where, and which token sources there are."""

import io
from typing import Any

import pytest

from trainyard.api.identity import FEDERATED, MANAGED_IDENTITY, Identity
from trainyard.api.workspace import ClusterMLWorkspaceSpec, DatabricksTarget, MLWorkspaceSpec
from trainyard.audit.log import AuditLog
from trainyard.core.errors import IdentityError
from trainyard.core.snapshot import Target
from trainyard.identity import clouds
from trainyard.identity.base import AZURE_CLIENT_ID, DATABRICKS_CLIENT_ID, ServiceAccountRef, Speaker, TokenSource
from trainyard.identity.broker import Broker
from trainyard.identity.federated import Federated
from trainyard.identity.hosts import HostPolicy
from trainyard.identity.signing_in import DATABRICKS_SCOPE, check_taken

HOST = "https://adb-1.2.azuredatabricks.net"
AZURE = {
    "subscriptionId": "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
    "resourceGroup": "ml",
    "workspaceName": "wine",
    "tenantId": "contoso.com",
}
NOTED = {DATABRICKS_CLIENT_ID: "dbx-app", AZURE_CLIENT_ID: "azure-app"}


class Accounts:
    """ServiceAccounts that opt in for both platforms, and no tokens."""

    def annotations(self, _account: ServiceAccountRef) -> dict[str, str]:
        return NOTED

    def request_token(self, _account: ServiceAccountRef, _audience: str, _seconds: int) -> str:
        raise AssertionError("nothing here mints a token")


class Lent:
    """A mode that counts how often it is asked whom it speaks for."""

    def __init__(self) -> None:
        self.asked = 0

    def speaker(self, _identity: Identity, _namespace: str, _platform: str) -> Speaker:
        self.asked += 1
        return Speaker("operator-identity")

    def source(self, _target: Target, _namespace: str, _scope: str) -> TokenSource:
        raise AssertionError("nothing here asks for tokens")


def broker(lent: Lent | None = None, **options: Any) -> Broker:
    federated = Federated(Accounts(), HostPolicy(), "trainyard-databricks", AuditLog(io.StringIO()))
    return Broker(HostPolicy(), {FEDERATED: federated, MANAGED_IDENTITY: lent or Lent()}, **options)


def workspace(identity: dict[str, Any], **more: Any) -> MLWorkspaceSpec:
    model = ClusterMLWorkspaceSpec if "allowedNamespaces" in more else MLWorkspaceSpec
    where = more if {"databricks", "azureML"} & more.keys() else {"databricks": {"host": HOST}, **more}
    return model.model_validate({"identity": identity, "computeClasses": {}, **where})


def azure(principal: str = "app", namespace_account: str = "trainer", tenant: str = "contoso.com") -> Target:
    url = clouds.workspace_at(workspace({"federated": {"serviceAccountName": "x"}}, azureML=AZURE).azure_ml).url  # type: ignore[arg-type]
    return Target("azureml", url, principal, "federated", namespace_account, tenant)


def test_a_plain_federated_attempt_pins_its_service_account_and_no_more() -> None:
    target = broker().target(workspace({"federated": {"serviceAccountName": "trainer"}}), "team")
    assert target == Target("databricks", HOST, "dbx-app", "federated", "trainer")


def test_a_sign_in_at_entra_speaks_for_the_azure_principal_and_pins_where() -> None:
    entra = {"tenantId": "contoso.com", "cloud": "AzurePublic"}
    target = broker().target(workspace({"federated": {"serviceAccountName": "trainer", "entra": entra}}), "team")
    assert (target.principal, target.tenant) == ("azure-app", "contoso.com")
    assert target.identity is not None
    assert target.identity.entra is not None
    assert target.identity.entra.cloud == "AzurePublic"


@pytest.mark.parametrize("mode", ["managedIdentity", "azureWorkloadIdentity"])
def test_the_operators_own_identity_is_lent_by_no_workspace_of_a_namespace(mode: str) -> None:
    lent = Lent()
    made = Broker(HostPolicy(), {mode: lent})
    with pytest.raises(IdentityError) as refused:
        made.target(workspace({mode: {"entra": {"tenantId": "contoso.com"}}}), "team")
    assert refused.value.reason == "ModeNotAllowed"
    assert lent.asked == 0


def test_the_operators_own_identity_is_lent_only_to_the_namespaces_that_are_named() -> None:
    lent = Lent()
    shared = workspace({"managedIdentity": {"entra": {"tenantId": "contoso.com"}}}, allowedNamespaces=["team"])
    made = broker(lent)
    assert made.target(shared, "team").principal == "operator-identity"
    with pytest.raises(IdentityError) as refused:
        made.target(shared, "other")
    assert refused.value.reason == "NamespaceNotAllowed"
    assert lent.asked == 1


def test_a_mode_that_the_operator_does_not_have_is_told_by_its_name() -> None:
    with pytest.raises(IdentityError, match="federated") as refused:
        Broker(HostPolicy(), {FEDERATED: Lent()}).target(workspace({}), "team")
    assert refused.value.reason == "ModeNotAllowed"


@pytest.mark.parametrize("pinned", [None, {"federated": {"serviceAccountName": "trainer"}}])
def test_a_pin_that_lacks_what_its_mode_needs_is_told(pinned: dict[str, Any] | None) -> None:
    """A status that an older CRD has taken a field out of, or that somebody else has written."""
    identity = None if pinned is None else Identity.model_validate(pinned)
    with pytest.raises(IdentityError, match="pins no identity of the mode managedIdentity") as caught:
        broker().source(Target("databricks", HOST, "app", MANAGED_IDENTITY, "", "", identity), "team", "")
    assert caught.value.reason == "InvalidSpec"


def test_a_source_is_one_per_target_namespace_and_scope() -> None:
    made, cloud = broker(), clouds.AZURE_PUBLIC
    first = made.source(azure(), "team", cloud.arm_scope)
    assert made.source(azure(), "team", cloud.arm_scope) is first
    others = [
        made.source(azure(), "team", cloud.ml_scope),
        made.source(azure(), "other", cloud.arm_scope),
        made.source(azure(principal="app-2"), "team", cloud.arm_scope),
        made.source(azure(namespace_account="x"), "team", cloud.arm_scope),
        made.source(azure(tenant="fabrikam.com"), "team", cloud.arm_scope),
    ]
    assert len({id(each) for each in [first, *others]}) == 6


def test_sources_are_bounded() -> None:
    made, cloud = broker(bound=2), clouds.AZURE_PUBLIC
    first = made.source(azure("a"), "team", cloud.arm_scope)
    for principal in "bc":
        made.source(azure(principal), "team", cloud.arm_scope)
    assert made.source(azure("a"), "team", cloud.arm_scope) is not first


def test_no_scope_but_the_targets_own_is_asked_for() -> None:
    made = broker()
    with pytest.raises(ValueError, match="graph"):
        made.source(azure(), "team", "https://graph.microsoft.com/.default")
    with pytest.raises(ValueError, match="arm"):
        made.source(Target("databricks", HOST, "app", "federated", "trainer"), "team", "https://arm.example/.default")


@pytest.mark.parametrize(
    ("host", "cloud"),
    [
        ("https://dbc-1.cloud.databricks.com", None),
        ("https://1.2.gcp.databricks.com", "AzurePublic"),
        (HOST, "AzureChina"),
        ("https://adb-1.2.databricks.azure.us", None),
    ],
)
def test_a_token_of_entra_is_for_no_workspace_of_another_cloud(host: str, cloud: str | None) -> None:
    entra = {"tenantId": "contoso.com", **({} if cloud is None else {"cloud": cloud})}
    named = workspace({"federated": {"serviceAccountName": "trainer", "entra": entra}})
    elsewhere = named.model_copy(update={"databricks": DatabricksTarget(host=host)})
    pinned = Target("databricks", host, "app", "federated", "trainer", "contoso.com", named.identity)
    for refused in (
        lambda: broker().target(elsewhere, "team"),
        lambda: broker().source(pinned, "team", ""),
    ):
        with pytest.raises(IdentityError, match="does not take tokens of") as caught:
            refused()
        assert caught.value.reason == "InvalidSpec"


def test_a_token_of_entra_is_for_its_own_cloud_and_for_hosts_that_an_administrator_allowed() -> None:
    for name, host in (("AzureUSGovernment", "adb-1.2.databricks.azure.us"), ("AzurePublic", "private.example.com")):
        check_taken(clouds.named(name), f"https://{host}")


def test_databricks_is_asked_for_its_own_kind_of_token() -> None:
    made = broker()
    plain = Target("databricks", HOST, "app", "federated", "trainer")
    by_entra = made.target(
        workspace({"federated": {"serviceAccountName": "trainer", "entra": {"tenantId": "contoso.com"}}}), "team"
    )
    assert made.source(plain, "team", "").describe()["principal"] == "app"
    assert made.source(by_entra, "team", "") is made.source(by_entra, "team", DATABRICKS_SCOPE)
