"""A preflight says what the platform then does: what it calls missing is refused, and its remedy mends it."""

import re
import time
from collections.abc import Sequence

import pytest

from trainyard.core.remote import Finding
from trainyard.platforms.base import Need
from trainyard.platforms.databricks import needs, preflight
from trainyard.platforms.databricks.connection import DatabricksConnection
from trainyard_sandbox.client import SandboxControl

GRANT = re.compile(r"GRANT ([A-Z ]+) ON [A-Z ]+ (\S+) TO `([^`]+)`")
LEVEL = re.compile(
    r"databricks permissions update (\S+) (\S+) --json "
    r"'\{\"access_control_list\": \[\{\"\w+\": \"([^\"]+)\", \"permission_level\": \"(\w+)\"\}\]\}'"
)
ACL = re.compile(r"databricks secrets put-acl (\S+) (\S+) READ")


def mend(control: SandboxControl, finding: Finding) -> None:
    """Does what the finding says."""
    if found := GRANT.search(finding.message):
        control.grant(found[3], found[2].replace("`", ""), found[1])
    elif found := LEVEL.search(finding.message):
        control.grant(found[3], f"{found[1]}/{found[2]}", found[4])
    else:
        raise AssertionError(f"no command in: {finding.message}")


@pytest.fixture
def schema(control: SandboxControl) -> str:
    """A schema of its own, in a catalog of its own, with nothing granted on either."""
    name = f"c{time.time_ns()}.ml"
    control.change_owner(name, "admins")
    return name


def check(connection: DatabricksConnection, wanted: Sequence[Need]) -> tuple[Finding, ...]:
    return preflight.findings(connection._client, connection._principal, wanted)


def outcomes(found: Sequence[Finding]) -> list[str]:
    return [each.outcome for each in found]


def unity(schema: str, holder: str) -> list[Need]:
    catalog = schema.partition(".")[0]
    return [
        Need(needs.CATALOG, catalog, needs.USE_CATALOG, holder, "spec.model"),
        Need(needs.SCHEMA, schema, needs.USE_SCHEMA, holder, "spec.model"),
        Need(needs.MODEL, f"{schema}.iris", needs.REGISTER, holder, "spec.model"),
        Need(needs.TABLE, f"{schema}.t", needs.SELECT, holder, "spec.inputs[t].table"),
        Need(needs.TABLE, f"{schema}.new", needs.WRITE, holder, "spec.outputs[new].table"),
        Need(needs.VOLUME, f"{schema}.raw", needs.WRITE_VOLUME, holder, "spec.outputs[raw].uri"),
    ]


def test_each_missing_right_of_unity_catalog_is_mended_by_its_own_statement(
    connection: DatabricksConnection, control: SandboxControl, principal: str, schema: str
) -> None:
    control.add_table(f"{schema}.t", {"x": "int"})
    control.add_volume(f"{schema}.raw")
    wanted = unity(schema, principal)
    found = check(connection, wanted)
    assert outcomes(found) == ["Missing"] * len(wanted)
    for index, finding in enumerate(found):
        mend(control, finding)
        assert outcomes(check(connection, wanted)) == ["Passed"] * (index + 1) + ["Missing"] * (len(wanted) - index - 1)
    # And what passes now is really allowed.
    body = {"name": "iris", "catalog_name": schema.partition(".")[0], "schema_name": schema.partition(".")[2]}
    connection._client.do("POST", "/api/2.1/unity-catalog/models", body=body)
    connection.files.put(f"/Volumes/{schema.replace('.', '/')}/raw/x", b"1")


def test_a_right_that_a_group_or_the_owner_holds_is_held(
    connection: DatabricksConnection, control: SandboxControl, principal: str, schema: str
) -> None:
    group = f"data{time.time_ns()}"
    control.change_group(group)
    control.change_principal(principal, groups=[group])
    control.grant(group, schema.partition(".")[0], "USE_CATALOG")
    control.change_owner(schema, principal)
    assert outcomes(check(connection, unity(schema, principal)[:3])) == ["Passed"] * 3


def test_what_is_not_there_is_its_own_message(connection: DatabricksConnection, principal: str) -> None:
    found = check(connection, unity("nowhere.ml", principal))
    assert outcomes(found) == ["Missing"] * 6
    assert "catalog nowhere does not exist" in found[0].message
    assert "schema nowhere.ml does not exist" in found[2].message


def test_rights_of_another_identity_are_unknown_to_who_manages_nothing(
    connection: DatabricksConnection, control: SandboxControl, schema: str
) -> None:
    runner = control.add_principal("runner")
    wanted = unity(schema, runner)[:3]
    assert outcomes(check(connection, wanted)) == ["Unknown"] * 3
    catalog = schema.partition(".")[0]
    control.change_owner(catalog, connection._principal)
    control.grant(runner, catalog, "USE_CATALOG")
    # Granted is granted; that something is not granted can be said only of whose groups are known.
    assert outcomes(check(connection, wanted)) == ["Passed", "Unknown", "Unknown"]


def test_an_existing_model_asks_for_other_rights_than_a_new_one(
    connection: DatabricksConnection, control: SandboxControl, principal: str, schema: str
) -> None:
    model = f"{schema}.iris"
    wanted = [
        Need(needs.MODEL, model, right, principal, "spec.model")
        for right in (needs.REGISTER, needs.SET_TAGS, needs.SET_ALIAS)
    ]
    for name, right in ((schema.partition(".")[0], "USE_CATALOG"), (schema, "USE_SCHEMA"), (schema, "CREATE_MODEL")):
        control.grant(principal, name, right)
    assert outcomes(check(connection, wanted)) == ["Passed"] * 3
    catalog, name = schema.split(".")
    body = {"name": "iris", "catalog_name": catalog, "schema_name": name}
    connection._client.do("POST", "/api/2.1/unity-catalog/models", body=body)
    assert outcomes(check(connection, wanted)) == ["Passed"] * 3
    control.change_owner(model, "admins")
    found = check(connection, wanted)
    assert outcomes(found) == ["Missing"] * 3
    for finding in found:
        mend(control, finding)
    assert outcomes(check(connection, wanted)) == ["Passed"] * 3


def test_what_the_workspace_has_is_looked_at(
    connection: DatabricksConnection, control: SandboxControl, principal: str
) -> None:
    def need(kind: str, name: str, right: str) -> Need:
        return Need(kind, name, right, principal, "spec.compute.class")

    wanted = [
        need(needs.WORKSPACE, needs.THIS, needs.ALLOW_CLUSTER_CREATE),
        need(needs.NODE_TYPE, "i3.xlarge", needs.EXISTS),
        need(needs.NODE_TYPE, "i3.enormous", needs.EXISTS),
        need(needs.SPARK_VERSION, "16.4.x-scala2.13", needs.EXISTS),
        need(needs.SPARK_VERSION, "1.0.x-scala2.9", needs.EXISTS),
        need(needs.CLUSTER, "0000-000000-nothing1", needs.CAN_ATTACH_TO),
        need(needs.POOL, "no-such-pool", needs.CAN_ATTACH_TO),
        need(needs.POLICY, "NOSUCHPOLICY0000", needs.CAN_USE),
        need(needs.JOB, "123", needs.CAN_MANAGE_RUN),
        need(needs.JOB_NAME, "no such job", needs.CAN_MANAGE_RUN),
        need(needs.SECRET, "no-such-scope/key", needs.READ),
        need(needs.WORKSPACE_PATH, f"/Workspace/Users/{principal}", needs.CAN_READ),
        need(needs.WORKSPACE_PATH, "/Workspace/Shared/no/such/folder", needs.CAN_READ),
        need(needs.USER, "ada@example.com", needs.WORKSPACE_ADMIN),
    ]
    there = {each.name for each in check(connection, wanted) if each.outcome == "Passed"}
    assert {each.name for each in wanted if any(each.name in name for name in there)} == {
        needs.THIS,
        "i3.xlarge",
        "16.4.x-scala2.13",
        f"/Workspace/Users/{principal}",
    }
    assert "Unknown" not in outcomes(check(connection, wanted))
    control.change_principal(principal, entitlements=["workspace-access"])
    (lost,) = check(connection, wanted[:1])
    assert lost.outcome != "Passed"
    assert "Unrestricted cluster creation" in lost.message


def test_secrets_are_looked_for_without_being_read(
    connection: DatabricksConnection, control: SandboxControl, principal: str
) -> None:
    scope, other = f"s{time.time_ns()}", f"t{time.time_ns()}"
    for name in (scope, other):
        connection._client.do("POST", "/api/2.0/secrets/scopes/create", body={"scope": name})
    body = {"scope": scope, "key": "key", "string_value": "not to be seen"}
    connection._client.do("POST", "/api/2.0/secrets/put", body=body)
    runner = control.add_principal("runner")
    wanted = [
        Need(needs.SECRET, f"{scope}/key", needs.READ, principal, "spec.secrets[A]"),
        Need(needs.SECRET, f"{other}/key", needs.READ, principal, "spec.secrets[B]"),
        Need(needs.SECRET, f"{scope}/key", needs.READ, runner, "spec.secrets[A]"),
    ]
    control.clear_requests()
    found = check(connection, wanted)
    assert outcomes(found) == ["Passed", "Missing", "Unknown"]
    assert f"databricks secrets put-secret {other} key" in found[1].message
    assert not control.requests(path="/api/2.0/secrets/get")
    given = ACL.search(found[2].message)
    assert given is not None
    body = {"scope": given[1], "principal": given[2], "permission": "READ"}
    connection._client.do("POST", "/api/2.0/secrets/acls/put", body=body)
    assert outcomes(check(connection, wanted))[2] == "Passed"


def test_who_may_run_as_a_service_principal_is_known_to_its_managers(
    connection: DatabricksConnection, control: SandboxControl, principal: str
) -> None:
    runner = control.add_principal("runner")
    wanted = [Need(needs.SERVICE_PRINCIPAL, runner, needs.PRINCIPAL_USER, principal, "spec.runAs")]
    assert outcomes(check(connection, wanted)) == ["Unknown"]
    control.grant(principal, f"servicePrincipals/{runner}", "roles/servicePrincipal.manager")
    (found,) = check(connection, wanted)
    assert (found.outcome, runner in found.message, principal in found.message) == ("Missing", True, True)
    control.grant(principal, f"servicePrincipals/{runner}", "roles/servicePrincipal.user")
    assert outcomes(check(connection, wanted)) == ["Passed"]


def test_a_preflight_changes_nothing(
    connection: DatabricksConnection, control: SandboxControl, principal: str, schema: str
) -> None:
    connection.whoami()  # signs in
    control.clear_requests()
    check(connection, unity(schema, principal))
    assert {each["method"] for each in control.requests()} <= {"GET", "HEAD"}
