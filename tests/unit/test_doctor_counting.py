"""How many credentials are used, by the clouds' own command lines: what they print, and when they do not."""

import json
import os
import stat
import time
from pathlib import Path
from typing import Any, cast

import pytest

from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.client.doctor import counting
from trainyard.client.doctor.case import Case, Means, Subject
from trainyard.client.doctor.results import Result
from trainyard.client.doctor.tools import ToolError, Tools
from trainyard.core.snapshot import Target
from trainyard.identity.assertion import Assertion
from trainyard.identity.base import ServiceAccountRef

SUBJECT = "system:serviceaccount:team-a:trainer"
ISSUER = "https://issuer.example"
DATABRICKS: dict[str, Any] = {"databricks": {"host": "https://adb-1.azuredatabricks.net"}}
AZURE: dict[str, Any] = {
    "azureML": {
        "tenantId": "t",
        "subscriptionId": "00000000-0000-0000-0000-000000000001",
        "resourceGroup": "rg",
        "workspaceName": "wine",
    }
}


class Clis:
    """Executables that print what they are told."""

    def __init__(self, directory: Path) -> None:
        self.dir = directory
        self.tools = Tools({"PATH": f"{directory}:/usr/bin:/bin"}, seconds=10)

    def says(self, name: str, script: str) -> None:
        path = self.dir / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def prints(self, name: str, document: Any, when: str = "*") -> None:
        self.says(name, f"case \"$*\" in\n{when}) cat <<'END'\n{json.dumps(document)}\nEND\n;;\n*) exit 3;;\nesac")


@pytest.fixture
def clis(tmp_path: Path) -> Clis:
    return Clis(tmp_path)


def look(clis: Clis, where: dict[str, Any], *, policy: str | None = None, **identity: Any) -> Result:
    federated = {"serviceAccountName": "trainer", **({"policy": policy} if policy else {})}
    means = Means(*cast(Any, (None,) * 3), clis.tools, ServiceAccountRef("system", "trainyard"), "ada")
    case = Case(Subject("MLWorkspace", "w", "team-a"), means)
    case.found_workspace = MLWorkspaceSpec.model_validate(
        {**where, "identity": identity or {"federated": federated}, "computeClasses": {}}
    )
    case.found_target = Target("databricks", "https://x", "client-1", "federated", "trainer")
    case.assertion = Assertion("never-shown", ISSUER, SUBJECT, "aud", None)
    return counting.look(case)


def credential(number: int, subject: str = SUBJECT) -> dict[str, Any]:
    return {"name": f"c{number}", "issuer": ISSUER, "subject": subject, "audiences": ["aud"]}


@pytest.mark.parametrize(("used", "outcome"), [(0, "Passed"), (17, "Passed"), (18, "Warning"), (20, "Warning")])
def test_it_warns_from_eighteen_of_twenty(clis: Clis, used: int, outcome: str) -> None:
    clis.prints("az", [credential(n) for n in range(used)])
    found = look(clis, AZURE)
    assert (found.outcome.value, dict(found.facts)) == (outcome, {"used": used, "limit": 20})
    assert f"{used} of 20" in found.message


def test_it_says_whether_one_of_them_has_what_the_token_has(clis: Clis) -> None:
    clis.prints("az", [credential(1)])
    assert "one of them has" in look(clis, AZURE).message
    clis.prints("az", [credential(1, "system:serviceaccount:team-b:trainer")])
    assert "none of them has" in look(clis, AZURE).message


def test_a_managed_identity_is_found_where_there_is_no_application(clis: Clis) -> None:
    clis.says(
        "az",
        """case "$*" in
"identity list --query [?clientId=='client-1'] -o json") echo '[{"name": "trainer", "resourceGroup": "ml"}]';;
"identity federated-credential list --identity-name trainer --resource-group ml -o json") echo '[{}, {}]';;
*) echo 'Resource does not exist' >&2; exit 3;;
esac""",
    )
    found = look(clis, AZURE)
    assert found.facts["used"] == 2
    assert "of the identity" in found.message


def test_policies_are_those_of_the_service_principal_that_has_the_application_id(clis: Clis) -> None:
    clis.says(
        "databricks",
        """case "$*" in
'account service-principals list --filter applicationId eq "client-1" -o json') echo '[{"id": "4711"}]';;
"account service-principal-federation-policy list 4711 -o json") echo '{"policies": [{"oidc_policy": {}}]}';;
*) exit 3;;
esac""",
    )
    assert look(clis, DATABRICKS).facts == {"used": 1, "limit": 20}


def test_policies_of_the_account_are_counted_without_a_limit(clis: Clis) -> None:
    policies = [{"oidc_policy": {"issuer": ISSUER, "audiences": ["aud"], "subject_claim": "sub"}}] * 19
    clis.prints("databricks", policies, when="'account federation-policy list -o json'")
    found = look(clis, DATABRICKS, policy="Account")
    assert (found.outcome.value, dict(found.facts)) == ("Passed", {"used": 19})
    assert "one of them has" in found.message


@pytest.mark.parametrize("script", ["exit 1", "echo nonsense", "echo '\"text\"'", "echo SECRET >&2; exit 2"])
def test_a_command_line_that_does_not_answer_is_not_seen_and_not_quoted(clis: Clis, script: str) -> None:
    clis.says("az", script)
    found = look(clis, AZURE)
    assert (found.outcome.value, found.word) == ("NotSeen", "NotListed")
    assert "SECRET" not in found.message
    assert found.remedies[0].command.startswith("az ad app federated-credential list --id client-1")


def test_a_command_line_that_is_not_there_is_not_seen(clis: Clis) -> None:
    assert "az is not installed here" in look(clis, AZURE).message
    assert "databricks is not installed here" in look(clis, DATABRICKS).message


def test_a_command_line_that_hangs_is_ended_with_what_it_has_started(tmp_path: Path) -> None:
    clis = Clis(tmp_path)
    clis.says("az", f"sleep 600 & echo $! > {tmp_path / 'child'}; wait")
    began = time.monotonic()
    with pytest.raises(ToolError, match="did not answer"):
        Tools({"PATH": f"{tmp_path}:/usr/bin:/bin"}, seconds=0.5).rows(["az", "list"])
    assert time.monotonic() - began < 10
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 10
    while _alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


@pytest.mark.parametrize("identity", [{"secretRef": {"name": "kept", "type": "DatabricksOAuthSecret"}}])
def test_modes_without_trust_have_no_count(clis: Clis, identity: dict[str, Any]) -> None:
    assert look(clis, DATABRICKS, **identity).word == "NotApplicable"
