"""Each link of the chain made to fail, and mended by the very command that the doctor prints. No operator is needed."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stand import AUDIENCE, OPERATOR_NAMESPACE, Stand, Team
from tests.controlplane.cli import person
from tests.e2e.examination import LINKS, Doctor, Found
from tests.platforms import drivers, on_every_platform
from tests.platforms.base import PlatformDriver
from trainyard.identity import clouds

GROUP = "trainyard.dev"
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def as_before(pretending: Stand) -> Iterator[None]:
    """No fault and no cloud of a test is left to the next one."""
    yield
    pretending.control.clear_faults()
    pretending.control.azure_compute_settings(family_cores={})
    clouds.install([])


@pytest.fixture
def doctor(pretending: Stand, tmp_path: Path) -> Doctor:
    return Doctor(pretending, tmp_path / "doctor")


@pytest.fixture
def platform_name() -> str:
    return "databricks"


@pytest.fixture
def driver(pretending: Stand, platform_name: str) -> PlatformDriver:
    return drivers(pretending)[platform_name]


@pytest.fixture
def namespace(pretending: Stand) -> Iterator[str]:
    """A namespace that nobody has used; deleted after the test."""
    name = f"doctor-{next(_numbers)}"
    pretending.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    pretending.cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def team(driver: PlatformDriver, namespace: str, pretending: Stand) -> Team:
    """A right set-up."""
    made = driver.team(namespace)
    if driver.name == "azureml":
        pretending.control.assign_role(made.principal, "Reader", "subscription")
    return made


def all_is_well(found: Found) -> bool:
    """Whether every link that the mode and the platform have holds."""
    return found.code == 0 and all(
        link["outcome"] == "Passed" or link["reason"] == "NotApplicable" for link in found.document["links"]
    )


def annotate(stand: Stand, team: Team, annotation: str, value: str | None) -> None:
    words = f"{annotation}={value}" if value is not None else f"{annotation}-"
    stand.cluster.kubectl(
        "annotate", "serviceaccount", team.service_account, "-n", team.namespace, words, "--overwrite"
    )


def workspace_with(driver: PlatformDriver, team: Team, **spec: Any) -> dict[str, Any]:
    """The team's workspace with some of its spec replaced."""
    return driver.workspace(team.namespace, **spec)


@on_every_platform
def test_in_a_right_set_up_every_link_passes_and_no_token_is_shown(
    doctor: Doctor, team: Team, pretending: Stand
) -> None:
    found = doctor(team.namespace, team.workspace)
    assert all_is_well(found), [link for link in found.document["links"] if link["outcome"] != "Passed"]
    assert [link["name"] for link in found.document["links"]] == list(LINKS)
    assert found["token"]["facts"]["subject"] == f"system:serviceaccount:{team.namespace}:trainer"
    assert found["principal"]["facts"]["principal"] == team.principal
    assert found["credentials"]["facts"] == {"used": 1, "limit": 20}
    code, out, err = doctor.text("-n", team.namespace, team.workspace)
    assert code == 0
    assert re.findall(r"^ +\d+  .{24}(\S+)", out, re.MULTILINE).count("pass") >= 10
    assert "\x1b" not in out + err
    tokens = [*pretending.control.tokens(), *pretending.control.azure_tokens()]
    assert tokens
    assert not [row for row in tokens if row["value"] in doctor.seen]
    assert "eyJ" not in doctor.seen  # how a JWT begins


@on_every_platform
def test_nothing_is_started_or_changed_on_the_platform(doctor: Doctor, team: Team, pretending: Stand) -> None:
    pretending.control.clear_requests()
    doctor(team.namespace, team.workspace)
    wrote = {
        row["path"].rpartition("/")[2]
        for row in pretending.control.requests()
        if row["method"] not in ("GET", "HEAD") and not row["path"].startswith("/control")
    }
    assert wrote <= {"token", "startPendingUpload"}


def test_a_workspace_that_is_not_there_is_told_and_what_depends_on_it_is_skipped(
    doctor: Doctor, namespace: str
) -> None:
    found = doctor(namespace, "databricks")
    assert (found.code, found.reason("spec")) == (1, "WorkspaceNotFound")
    assert set(found.outcomes(*LINKS[1:])) == {"Skipped"}
    assert "--cluster" in found["spec"]["message"]


@on_every_platform
def test_a_service_account_that_is_not_there_is_made_by_the_printed_commands(
    doctor: Doctor, team: Team, pretending: Stand
) -> None:
    pretending.cluster.kubectl("delete", "serviceaccount", team.service_account, "-n", team.namespace)
    found = doctor(team.namespace, team.workspace)
    assert (found.code, found.reason("speaker")) == (1, "ServiceAccountNotFound")
    create, opt_in = found.commands("speaker")
    doctor.paste(create)
    found = doctor(team.namespace, team.workspace)
    assert found.reason("speaker") == "ServiceAccountNotOptedIn"
    assert found.commands("speaker") == [opt_in]
    doctor.paste(re.sub(r"APPLICATION_ID|CLIENT_ID", team.principal, opt_in))
    assert all_is_well(doctor(team.namespace, team.workspace))


@on_every_platform
def test_an_annotation_that_names_nobody_is_told_and_mended(
    doctor: Doctor, team: Team, pretending: Stand, driver: PlatformDriver
) -> None:
    annotate(pretending, team, driver.annotation(), "00000000-0000-0000-0000-00000000dead")
    found = doctor(team.namespace, team.workspace)
    assert (found.code, found.reason("sign-in")) == (1, "ServicePrincipalUnknown")
    assert set(found.outcomes("principal", "workspace", "storage", "permissions", "quota")) == {"Skipped"}
    doctor.paste(re.sub(r"APPLICATION_ID|CLIENT_ID", team.principal, found.commands("sign-in")[0]))
    assert all_is_well(doctor(team.namespace, team.workspace))


def distrust(stand: Stand, team: Team) -> None:
    """The principal trusts another ServiceAccount of the same issuer, and not this one."""
    control, issuer = stand.control, stand.cluster.issuer
    other = "system:serviceaccount:elsewhere:trainer"
    if team.workspace == "databricks":
        control.remove_policy(team.policy)
        control.add_policy(team.principal, issuer, other, [AUDIENCE])
    else:
        control.remove_federated_credential(team.principal, team.policy)
        control.add_federated_credential(team.principal, issuer, other)


@on_every_platform
def test_a_platform_that_does_not_trust_the_subject_does_after_the_printed_command(
    doctor: Doctor, team: Team, pretending: Stand
) -> None:
    distrust(pretending, team)
    found = doctor(team.namespace, team.workspace)
    assert found.code == 1
    assert found.outcomes("token", "issuer", "sign-in") == ["Passed", "Passed", "Failed"]
    assert "none of them has the token's issuer" in found["credentials"]["message"]
    doctor.paste(found.commands("sign-in")[0])
    assert all_is_well(doctor(team.namespace, team.workspace))


def test_a_policy_of_another_audience_is_told_and_mended(doctor: Doctor, team: Team, pretending: Stand) -> None:
    subject = f"system:serviceaccount:{team.namespace}:trainer"
    pretending.control.remove_policy(team.policy)
    pretending.control.add_policy(team.principal, pretending.cluster.issuer, subject, ["somebody-else"])
    found = doctor(team.namespace, team.workspace)
    assert found.code == 1
    assert found.reason("sign-in") in ("AudienceNotAccepted", "TokenExchangeRefused")
    doctor.paste(found.commands("sign-in")[0])
    assert doctor(team.namespace, team.workspace).outcomes("sign-in") == ["Passed"]


def test_a_policy_of_the_account_is_looked_at_as_such(
    doctor: Doctor, team: Team, pretending: Stand, driver: PlatformDriver
) -> None:
    federated = {"serviceAccountName": "trainer", "policy": "Account"}
    subject = f"system:serviceaccount:{team.namespace}:trainer"
    other = pretending.control.add_principal("found by its subject", application_id=subject)
    annotate(pretending, team, driver.annotation(), other)
    pretending.apply(workspace_with(driver, team, identity={"federated": federated}))
    before = {row["policy_id"] for row in pretending.control.call("GET", "/policies")}
    found = doctor(team.namespace, team.workspace)
    assert found.outcomes("sign-in") == ["Failed"]
    (command,) = found.commands("sign-in")
    assert "federation-policy create --json" in command
    doctor.paste(command)
    try:
        found = doctor(team.namespace, team.workspace)
        assert found.outcomes("sign-in", "principal") == ["Passed", "Passed"]
        assert "of the account" in found["credentials"]["message"]
    finally:
        for row in pretending.control.call("GET", "/policies"):
            if row["policy_id"] not in before:
                pretending.control.remove_policy(row["policy_id"])


@on_every_platform
def test_a_right_that_is_missing_is_given_by_the_printed_command(
    doctor: Doctor, team: Team, pretending: Stand, driver: PlatformDriver
) -> None:
    if driver.name == "databricks":
        pretending.control.revoke(team.principal, "main.ml", "CREATE MODEL")
    else:
        pretending.control.remove_role(team.principal, "AzureML Data Scientist")
    found = doctor(team.namespace, team.workspace)
    assert (found.code, found.reason("permissions")) == (1, "PermissionMissing")
    assert found.outcomes("sign-in", "principal") == ["Passed", "Passed"]
    (command,) = found.commands("permissions")
    if driver.name == "databricks":
        right, where, whom = re.fullmatch(r"GRANT (.+) ON SCHEMA `main`.`(ml)` TO `(.+)`", command).groups()  # type: ignore[union-attr]
        pretending.control.grant(whom, f"main.{where}", right)
    else:
        doctor.paste(command)
    assert all_is_well(doctor(team.namespace, team.workspace))


def test_a_principal_that_may_not_even_see_the_workspace_is_told_the_role(
    doctor: Doctor, namespace: str, pretending: Stand
) -> None:
    team = drivers(pretending)["azureml"].team(namespace)
    pretending.control.remove_role(team.principal, "AzureML Data Scientist")
    found = doctor(namespace, "azureml")
    assert found.outcomes("principal", "workspace", "storage") == ["Passed", "Failed", "Skipped"]
    doctor.paste(found.commands("workspace")[0])
    assert doctor(namespace, "azureml").outcomes("workspace", "storage") == ["Passed", "Passed"]


def test_databricks_that_does_not_let_the_principal_in_is_told(doctor: Doctor, team: Team, pretending: Stand) -> None:
    pretending.control.add_fault("status", "/api/2.0/preview/scim/v2/Me", status=403, times=0)
    found = doctor(team.namespace, team.workspace)
    assert found.outcomes("sign-in", "principal", "workspace") == ["Passed", "Failed", "Skipped"]
    assert "workspace-assignment update" in found.commands("principal")[0]


@on_every_platform
def test_a_compute_that_is_missing_is_told(
    doctor: Doctor, team: Team, pretending: Stand, driver: PlatformDriver
) -> None:
    absent = driver.absent_compute()
    pretending.apply(workspace_with(driver, team, computeClasses={"small": driver.present_compute(), "gone": absent}))
    found = doctor(team.namespace, team.workspace)
    assert (found.code, found.reason("compute")) == (1, "ComputeMissing")
    assert found.outcomes("permissions") == ["Passed"]
    if driver.name == "azureml":
        doctor.paste(found.commands("compute")[0])
        try:
            assert all_is_well(doctor(team.namespace, team.workspace))
        finally:
            pretending.control.delete_azure_compute("not-there")


@on_every_platform
def test_a_workspace_without_compute_classes_is_told(
    doctor: Doctor, team: Team, pretending: Stand, driver: PlatformDriver
) -> None:
    pretending.apply(workspace_with(driver, team, computeClasses={}))
    assert doctor(team.namespace, team.workspace).reason("compute") == "NoComputeClass"


def test_a_class_that_no_run_can_be_made_with_is_told_by_its_name(
    doctor: Doctor, team: Team, pretending: Stand, driver: PlatformDriver
) -> None:
    cluster = driver.workspace(team.namespace)["spec"]["computeClasses"]["cluster"]
    pretending.apply(workspace_with(driver, team, computeClasses={"bare": cluster}, runtimes={}))
    found = doctor(team.namespace, team.workspace)
    assert found.reason("compute") == "SparkVersionMissing"
    assert "bare" in found["compute"]["message"]


def test_a_quota_that_is_too_small_is_told_at_its_own_link(doctor: Doctor, namespace: str, pretending: Stand) -> None:
    team = drivers(pretending)["azureml"].team(namespace)
    unseen = doctor(namespace, "azureml")
    assert (unseen.code, unseen.outcomes("compute", "quota")) == (3, ["NotSeen", "NotSeen"])
    doctor.paste(unseen.commands("quota")[0])
    assert all_is_well(doctor(namespace, team.workspace))
    pretending.control.azure_compute_settings(family_cores={"standardDSv2Family": 2})
    found = doctor(namespace, "azureml")
    assert (found.code, found.outcomes("compute"), found.reason("quota")) == (1, ["Passed"], "QuotaTooSmall")
    assert "2 vCPUs and the run asks for 4" in found["quota"]["message"]


def test_storage_that_does_not_answer_is_told_and_the_rest_is_looked_at(
    doctor: Doctor, namespace: str, pretending: Stand
) -> None:
    drivers(pretending)["azureml"].team(namespace)
    pretending.control.add_fault("reset", "/blob/.*", times=0)
    found = doctor(namespace, "azureml")
    assert (found.code, found.reason("storage")) == (1, "StorageUnreachable")
    assert found.outcomes("permissions") == ["Passed"]


@on_every_platform
def test_a_token_endpoint_that_hangs_costs_its_own_link(
    doctor: Doctor, team: Team, pretending: Stand, driver: PlatformDriver
) -> None:
    driver.fault("hang", "token", times=0, seconds=60)
    found = doctor(team.namespace, team.workspace, "--timeout", "40")
    assert found["sign-in"]["outcome"] == "Failed"
    assert found["sign-in"]["seconds"] < 30
    assert found.outcomes("credentials") == ["Passed"]


@on_every_platform
def test_a_host_that_this_command_does_not_know_is_sent_nothing_and_not_called_wrong(
    doctor: Doctor, team: Team, pretending: Stand
) -> None:
    pretending.control.clear_requests()
    found = doctor(team.namespace, team.workspace, flags=False)
    assert (found.code, found.outcomes("spec"), found.reason("spec")) == (3, ["NotSeen"], "HostNotAllowed")
    again = f"trainyard doctor -n {team.namespace} {team.workspace}"
    assert found.commands("spec") == [f"kubectl exec -n {OPERATOR_NAMESPACE} deploy/trainyard -- {again}"]
    assert not pretending.control.requests()


def test_a_person_with_few_rights_is_told_what_is_not_seen_and_how_to_see_it(
    doctor: Doctor, team: Team, pretending: Stand, tmp_path: Path
) -> None:
    rule = {"apiGroups": [GROUP], "resources": ["mlworkspaces"], "verbs": ["get"]}
    kubeconfig = person(pretending.cluster, team.namespace, tmp_path / "viewer", [rule])
    viewer = replace(doctor, kubeconfig=kubeconfig)
    found = viewer(team.namespace, team.workspace)
    assert found.document["seenAs"] == f"system:serviceaccount:{team.namespace}:viewer"
    assert (found.code, found.outcomes("spec", "speaker")) == (3, ["Passed", "NotSeen"])
    in_operator, permit = found.commands("speaker")
    assert in_operator.startswith("kubectl exec -n trainyard-system deploy/trainyard -- trainyard doctor")
    doctor.paste(permit)
    found = viewer(team.namespace, team.workspace)
    assert (found.code, found.outcomes("speaker", "token")) == (3, ["Passed", "NotSeen"])
    assert set(found.outcomes("issuer", "sign-in", "workspace")) == {"Skipped"}
    doctor.paste(found.commands("token")[1])
    assert all_is_well(viewer(team.namespace, team.workspace))


def test_whoever_may_not_see_the_workspace_is_told_so(
    doctor: Doctor, team: Team, pretending: Stand, tmp_path: Path
) -> None:
    nobody = replace(doctor, kubeconfig=person(pretending.cluster, team.namespace, tmp_path / "nobody", []))
    found = nobody(team.namespace, team.workspace)
    assert (found.code, found.reason("spec")) == (3, "NotPermitted")
    doctor.paste(found.commands("spec")[1])
    assert nobody(team.namespace, team.workspace).outcomes("spec") == ["Passed"]


def test_rights_that_the_operator_lacks_are_told_and_given(doctor: Doctor, team: Team) -> None:
    arguments = ("--operator", f"{team.namespace}/another-operator")
    found = doctor(team.namespace, team.workspace, *arguments)
    assert (found.code, found.reason("speaker")) == (1, "OperatorForbidden")
    assert found.outcomes("token", "sign-in", "workspace") == ["Passed"] * 3  # whoever asks may
    doctor.paste(found.commands("speaker")[0])
    found = doctor(team.namespace, team.workspace, *arguments)
    assert "serviceaccounts/token" in found["speaker"]["message"]
    doctor.paste(found.commands("speaker")[0])
    assert all_is_well(doctor(team.namespace, team.workspace, *arguments))


@on_every_platform
def test_the_operators_own_rights_are_enough(doctor: Doctor, team: Team, pretending: Stand, tmp_path: Path) -> None:
    own = pretending.cluster.service_account_kubeconfig(OPERATOR_NAMESPACE, "trainyard", tmp_path / "operator")
    assert all_is_well(replace(doctor, kubeconfig=own)(team.namespace, team.workspace))


def test_without_the_clouds_command_lines_the_count_alone_is_not_seen(doctor: Doctor, team: Team) -> None:
    found = replace(doctor, with_clis=False)(team.namespace, team.workspace)
    assert found.code == 3
    assert [link["name"] for link in found.document["links"] if link["outcome"] == "NotSeen"] == ["credentials"]
    (command,) = found.commands("credentials")
    assert f'"uid": "{team.policy}"' in doctor.paste(command)


@on_every_platform
def test_nearly_all_credentials_used_is_a_warning_and_no_failure(doctor: Doctor, team: Team, pretending: Stand) -> None:
    for number in range(17):
        subject = f"system:serviceaccount:other-{number}:trainer"
        if team.workspace == "databricks":
            pretending.control.add_policy(team.principal, pretending.cluster.issuer, subject, [AUDIENCE])
        else:
            pretending.control.add_federated_credential(team.principal, pretending.cluster.issuer, subject)
    found = doctor(team.namespace, team.workspace)
    assert (found.code, found.reason("credentials")) == (0, "CredentialsNearlyUsed")
    assert found["credentials"]["facts"] == {"used": 18, "limit": 20}


def shared(driver: PlatformDriver, namespace: str, allowed: list[str], **spec: Any) -> dict[str, Any]:
    """A ClusterMLWorkspace named as the namespace."""
    made = driver.workspace(namespace, **spec)
    made["metadata"] = {"name": namespace}
    return {**made, "kind": "ClusterMLWorkspace", "spec": {**made["spec"], "allowedNamespaces": allowed}}


@on_every_platform
def test_a_cluster_workspace_is_looked_at_for_a_namespace_that_it_allows(
    doctor: Doctor, team: Team, pretending: Stand, driver: PlatformDriver
) -> None:
    pretending.apply(shared(driver, team.namespace, []))
    found = doctor(team.namespace, team.namespace, "--cluster")
    assert (found.code, found.reason("speaker")) == (1, "NamespaceNotAllowed")
    doctor.paste(found.commands("speaker")[0])
    assert all_is_well(doctor(team.namespace, team.namespace, "--cluster"))


def test_an_identity_of_the_operators_own_is_seen_in_its_pod_alone(
    doctor: Doctor, namespace: str, pretending: Stand
) -> None:
    driver = drivers(pretending)["azureml"]
    pretending.apply(shared(driver, namespace, [namespace], identity={"managedIdentity": {}}))
    found = doctor(namespace, namespace, "--cluster")
    assert (found.code, found.reason("speaker")) == (3, "OnlyInOperator")
    assert found.commands("speaker")[0].endswith(f"-- trainyard doctor -n {namespace} --cluster {namespace}")


def test_an_api_server_that_does_not_answer_ends_it(doctor: Doctor, tmp_path: Path) -> None:
    config = doctor.stand.cluster.kubeconfig.read_text()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(re.sub(r"https://127.0.0.1:\d+", "https://127.0.0.1:1", config))
    code, out, err = replace(doctor, kubeconfig=elsewhere).text("-n", "any", "databricks")
    assert (code, out) == (6, "")
    assert "can not be reached" in err


def test_nonsense_for_the_operator_is_wrong_usage(doctor: Doctor) -> None:
    code, _, err = doctor.text("--operator", "nowhere", "databricks")
    assert code == 2
    assert "NAMESPACE/NAME" in err
