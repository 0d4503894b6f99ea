"""`trainyard doctor` with identities that are no ServiceAccount's: Secrets, another provider, the operator's own."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stand import OPERATOR_NAMESPACE, Stand
from tests.controlplane.cli import person
from tests.e2e.examination import Doctor, Found
from tests.platforms import drivers
from tests.providers.oidc.provider import Provider, secret_client
from tests.wire.oidc import provider_process
from trainyard.identity import clouds

__all__ = ["provider_process"]

OPERATOR = f"system:serviceaccount:{OPERATOR_NAMESPACE}:trainyard"
CLIENT, CLIENT_SECRET, AUDIENCE = "service-app", "s3cret-of-the-client-0123456789", "https://trainyard.test/oidc"
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def clouds_as_before() -> Iterator[None]:
    yield
    clouds.install([])


@pytest.fixture
def namespace(pretending: Stand) -> Iterator[str]:
    name = f"doctor-modes-{next(_numbers)}"
    pretending.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    pretending.cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def doctor(pretending: Stand, tmp_path: Path) -> Doctor:
    return Doctor(pretending, tmp_path / "doctor")


@pytest.fixture
def in_operator(doctor: Doctor, pretending: Stand, tmp_path: Path) -> Doctor:
    """The command as it runs in the operator's pod."""
    own = pretending.cluster.service_account_kubeconfig(OPERATOR_NAMESPACE, "trainyard", tmp_path / "operator")
    return replace(doctor, kubeconfig=own)


def unwell(found: Found) -> list[dict[str, Any]]:
    return [
        link for link in found.document["links"] if link["outcome"] != "Passed" and link["reason"] != "NotApplicable"
    ]


def let_operator_read(doctor: Doctor, found: Found) -> None:
    """The operator may read no Secret that nobody has let it read; the printed command does, for this one."""
    assert (found.code, found.reason("speaker")) == (1, "OperatorForbidden")
    assert "get secrets kept" in found["speaker"]["message"]
    doctor.paste(found.commands("speaker")[0])


def keep(stand: Stand, namespace: str, kind: str, annotations: dict[str, str] | None = None, **data: str) -> None:
    """The Secret `kept`, opted in."""
    noted = {"trainyard.dev/identity": kind, **(annotations or {})}
    metadata = {"name": "kept", "namespace": namespace, "annotations": noted}
    stand.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data})


def databricks(stand: Stand, namespace: str, **identity: Any) -> None:
    """A workspace `databricks` of the team with that identity."""
    made = drivers(stand)["databricks"].workspace(namespace)
    made["spec"]["identity"] = identity
    stand.apply(made)


def lent(stand: Stand, namespace: str, **identity: Any) -> str:
    """A ClusterMLWorkspace at Azure ML that lends an identity of the operator's to the namespace; its name."""
    made = drivers(stand)["azureml"].workspace(namespace)
    spec = {**made["spec"], "identity": identity, "allowedNamespaces": [namespace]}
    stand.apply({**made, "kind": "ClusterMLWorkspace", "metadata": {"name": namespace}, "spec": spec})
    return namespace


def principal(stand: Stand) -> str:
    return stand.control.add_principal(
        "trainer",
        entitlements=["workspace-access", "allow-cluster-create"],
        grants={"main": ["USE CATALOG"], "main.ml": ["USE SCHEMA", "CREATE MODEL"]},
    )


def test_a_secret_is_looked_at_and_one_that_is_too_old_is_replaced_by_the_printed_command(
    doctor: Doctor, namespace: str, pretending: Stand
) -> None:
    who = principal(pretending)
    first = pretending.control.add_oauth_secret(who)
    given = {"name": "kept", "type": "DatabricksOAuthSecret", "clientId": who}
    databricks(pretending, namespace, secretRef=given)
    found = doctor(namespace, "databricks")
    assert (found.code, found.reason("speaker")) == (1, "SecretNotFound")
    long_ago = {"trainyard.dev/changed-at": "2020-01-01T00:00:00Z"}
    keep(pretending, namespace, "DatabricksOAuthSecret", long_ago, **{"client-id": who, "client-secret": first.value})
    found = doctor(namespace, "databricks")
    assert (found.code, found.reason("speaker")) == (1, "SecretTooOld")
    assert set(found.outcomes("token", "sign-in")) == {"Skipped"}
    pretending.cluster.kubectl("delete", "secret", "kept", "-n", namespace)
    doctor.paste(found.commands("speaker")[0])
    let_operator_read(doctor, doctor(namespace, "databricks"))
    found = doctor(namespace, "databricks")
    assert (found.code, unwell(found)) == (0, [])
    assert found["speaker"]["facts"]["secret"] == f"{namespace}/kept"
    assert found.outcomes("token", "issuer", "credentials") == ["Skipped"] * 3
    values = [first.value, *(row["value"] for row in pretending.control.tokens())]
    assert not [value for value in values if value in doctor.seen]


def test_a_secret_that_has_not_opted_in_is_told_and_opts_in_by_the_printed_command(
    doctor: Doctor, namespace: str, pretending: Stand
) -> None:
    team = drivers(pretending)["azureml"].team(namespace)
    pretending.control.assign_role(team.principal, "Reader", "subscription")
    secret = pretending.control.add_client_secret(team.principal)
    keep(pretending, namespace, "oidc", **{"client-id": team.principal, "client-secret": secret})
    made = drivers(pretending)["azureml"].workspace(namespace)
    made["spec"]["identity"] = {"secretRef": {"name": "kept", "type": "EntraClientSecret"}}
    pretending.cluster.kubectl("delete", "mlworkspace", "azureml", "-n", namespace)
    pretending.apply(made)
    found = doctor(namespace, "azureml")
    assert (found.code, found.reason("speaker")) == (1, "SecretNotOptedIn")
    doctor.paste(found.commands("speaker")[0])
    let_operator_read(doctor, doctor(namespace, "azureml"))
    found = doctor(namespace, "azureml")
    assert (found.code, unwell(found)) == (0, [])
    assert secret not in doctor.seen


def test_a_personal_access_token_is_a_warning_and_whose_it_is_is_told(
    doctor: Doctor, namespace: str, pretending: Stand
) -> None:
    who = principal(pretending)
    token = pretending.control.add_personal_access_token(who).value
    keep(pretending, namespace, "PersonalAccessToken", token=token)
    given = {"name": "kept", "type": "PersonalAccessToken", "allowPersonalAccessToken": True}
    databricks(pretending, namespace, secretRef=given)
    let_operator_read(doctor, doctor(namespace, "databricks"))
    found = doctor(namespace, "databricks")
    assert (found.code, found.outcomes("speaker")) == (0, ["Warning"])
    assert found.reason("speaker") == "PersonalAccessTokenInUse"
    assert found["principal"]["facts"]["principal"] == who
    assert token not in doctor.seen


def test_a_secret_that_a_person_may_not_read_is_not_seen(
    doctor: Doctor, namespace: str, pretending: Stand, tmp_path: Path
) -> None:
    who = principal(pretending)
    secret = pretending.control.add_oauth_secret(who).value
    keep(pretending, namespace, "DatabricksOAuthSecret", **{"client-id": who, "client-secret": secret})
    databricks(pretending, namespace, secretRef={"name": "kept", "type": "DatabricksOAuthSecret"})
    rule = {"apiGroups": ["trainyard.dev"], "resources": ["mlworkspaces"], "verbs": ["get"]}
    viewer = replace(doctor, kubeconfig=person(pretending.cluster, namespace, tmp_path / "viewer", [rule]))
    found = viewer(namespace, "databricks")
    assert (found.code, found.reason("speaker")) == (3, "NotPermitted")
    doctor.paste(found.commands("speaker")[1])
    found = viewer(namespace, "databricks")
    assert found.outcomes("speaker", "sign-in", "workspace") == ["Passed"] * 3


def test_the_operators_workload_identity_is_looked_at_in_its_pod_and_trusted_by_the_printed_command(
    doctor: Doctor, in_operator: Doctor, namespace: str, pretending: Stand, tmp_path: Path
) -> None:
    roles = {"workspace": ["AzureML Data Scientist"], "subscription": ["Reader"]}
    client_id = pretending.control.add_application("operator", roles=roles)
    token = pretending.cluster.kubectl(
        *("create", "token", "trainyard", "-n", OPERATOR_NAMESPACE, "--audience", "api://AzureADTokenExchange")
    ).stdout
    file = tmp_path / "token"
    file.write_text(token)
    file.chmod(0o600)
    webhook = {
        "AZURE_CLIENT_ID": client_id,
        "AZURE_TENANT_ID": pretending.address.azure.tenant_id,
        "AZURE_FEDERATED_TOKEN_FILE": str(file),
        "AZURE_AUTHORITY_HOST": pretending.address.azure.resource_manager,
    }
    name = lent(pretending, namespace, azureWorkloadIdentity={})
    assert doctor(namespace, name, "--cluster").reason("speaker") == "OnlyInOperator"
    pod = replace(in_operator, further=webhook)
    found = pod(namespace, name, "--cluster")
    assert found.outcomes("speaker", "token", "issuer", "sign-in") == ["Passed", "Passed", "Passed", "Failed"]
    assert found["token"]["facts"]["subject"] == OPERATOR
    doctor.paste(found.commands("sign-in")[0])
    found = pod(namespace, name, "--cluster")
    assert (found.code, unwell(found)) == (0, [])
    assert token.strip() not in pod.seen
    missing = replace(in_operator, further={})(namespace, name, "--cluster")
    assert (missing.code, missing.reason("speaker")) == (1, "WorkloadIdentityMissing")


def test_a_managed_identity_is_looked_at_by_way_of_the_machine(
    in_operator: Doctor, namespace: str, pretending: Stand
) -> None:
    roles = {"workspace": ["AzureML Data Scientist"], "subscription": ["Reader"]}
    made = pretending.control.add_managed_identity(f"lent-{namespace}", roles=roles)
    name = lent(pretending, namespace, managedIdentity={"clientId": made.client_id})
    flags = ("--cluster", "--imds-endpoint", pretending.address.imds)
    found = in_operator(namespace, name, *flags)
    assert (found.code, unwell(found)) == (0, [])
    assert found.outcomes("token", "issuer", "credentials") == ["Skipped"] * 3
    assert found["principal"]["facts"]["principal"] == made.client_id
    pretending.control.assign_managed_identity(made.client_id, assigned=False)
    found = in_operator(namespace, name, *flags)
    assert (found.code, found.reason("sign-in")) == (1, "ManagedIdentityNotFound")


def test_another_providers_token_is_looked_at_and_trusted_by_the_printed_command(
    pretending: Stand, namespace: str, tmp_path: Path, provider_process: Provider
) -> None:
    provider_process.configure(clients=[secret_client(CLIENT, CLIENT_SECRET)], audience=AUDIENCE)
    issuer, who = provider_process.issuer, principal(pretending)
    pretending.control.trust_issuer(issuer, provider_process.ca_file)
    given = {"issuer": issuer, "clientId": CLIENT, "secretName": "kept", "authentication": "ClientSecretBasic"}
    databricks(pretending, namespace, oidc={**given, "principal": who})
    keep(pretending, namespace, "oidc", **{"client-secret": CLIENT_SECRET})
    doctor = Doctor(pretending, tmp_path / "oidc", authorities=(provider_process.ca_file,))
    found = doctor(namespace, "databricks")
    assert (found.code, found.reason("speaker")) == (3, "IssuerNotAllowed")
    let_operator_read(doctor, doctor(namespace, "databricks", "--allowed-issuer", issuer))
    found = doctor(namespace, "databricks", "--allowed-issuer", issuer)
    assert found.outcomes("speaker", "token", "issuer", "sign-in") == ["Passed", "Passed", "Passed", "Failed"]
    assert found["token"]["facts"]["issuer"] == issuer
    doctor.paste(found.commands("sign-in")[0])
    found = doctor(namespace, "databricks", "--allowed-issuer", issuer)
    assert (found.code, unwell(found)) == (0, [])
    assert CLIENT_SECRET not in doctor.seen


def test_azure_databricks_through_entra_is_looked_at_and_trusted_by_the_printed_command(
    doctor: Doctor, namespace: str, pretending: Stand
) -> None:
    client_id = pretending.control.add_application("trainer")
    fields: dict[str, Any] = {"entitlements": ["workspace-access", "allow-cluster-create"]}
    fields |= {"grants": {"main": ["USE CATALOG"], "main.ml": ["USE SCHEMA", "CREATE MODEL"]}}
    pretending.control.add_principal("trainer", application_id=client_id, **fields)
    noted = {"trainyard.dev/azure-client-id": client_id}
    account = {"name": "trainer", "namespace": namespace, "annotations": noted}
    pretending.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
    entra = {"tenantId": pretending.address.azure.tenant_id, "cloud": "Sandbox"}
    databricks(pretending, namespace, federated={"serviceAccountName": "trainer", "entra": entra})
    found = doctor(namespace, "databricks")
    assert found.outcomes("token", "issuer", "sign-in") == ["Passed", "Passed", "Failed"]
    doctor.paste(found.commands("sign-in")[0])
    found = doctor(namespace, "databricks")
    assert (found.code, unwell(found)) == (0, [])
