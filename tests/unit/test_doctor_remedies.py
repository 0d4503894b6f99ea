"""Commands that are printed for people to paste: exact, whatever a value holds, and nothing is run by a value."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from trainyard.client.doctor import remedies
from trainyard.client.doctor.cluster import Right
from trainyard.client.doctor.results import Remedy
from trainyard.identity.assertion import Assertion
from trainyard.identity.base import SecretRef, ServiceAccountRef

# Annotations are written by a namespace's people, and the commands are pasted by administrators.
HOSTILE = [
    "x$(touch pwned)",
    "x`touch pwned`",
    "x'; touch pwned; '",
    'x"; touch pwned; "',
    "x\ntouch pwned",
    "x && touch pwned",
]
STUB = """#!/usr/bin/env python3
import json, os, sys
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + chr(10))
print('[{"id": "4711"}]' if "list" in sys.argv else '{"secret": "s"}')
"""
ASSERTION = Assertion("never-shown", "https://issuer.example/id/1", "system:serviceaccount:a:trainer", "aud", None)
ACCOUNT = ServiceAccountRef("team-a", "trainer")
Made = Callable[[str], Remedy]

MAKERS: dict[str, Made] = {
    "annotate": lambda value: remedies.annotate(ACCOUNT, "trainyard.dev/azure-client-id", value),
    "policy": lambda value: remedies.policy(ASSERTION, value, of_account=False),
    "policy of the account": lambda value: remedies.policy(
        Assertion("x", f"https://{value}", value, value, None), "app", of_account=True
    ),
    "credential of an application": lambda value: remedies.credentials(ASSERTION, value)[0],
    "credential of an identity": lambda value: remedies.credentials(ASSERTION, value)[1],
    "service principal": remedies.create_service_principal,
    "workspace": lambda value: remedies.assign_workspace(value, "1"),
    "role": lambda value: remedies.assign_role("AzureML Data Scientist", value, "/subscriptions/1"),
    "policies": remedies.list_policies_by_hand,
    "permit": lambda value: remedies.permit(Right("get", "secrets", "team-a", "kept"), value),
    "namespace": lambda value: remedies.allow_namespace("shared", value, first=True),
    "operator": lambda value: remedies.in_operator(ServiceAccountRef("system", "trainyard"), ["doctor", value]),
    "entra secret": lambda value: remedies.new_secret(SecretRef("team-a", "kept"), "EntraClientSecret", value),
    "databricks secret": lambda value: remedies.new_secret(SecretRef("team-a", "kept"), "DatabricksOAuthSecret", value),
    "compute": lambda value: remedies.create_compute(value, "Standard_DS3_v2", 4, "rg", "ws"),
}


@pytest.fixture
def pasted(tmp_path: Path) -> Callable[[str], list[list[str]]]:
    """What a command runs when a shell reads it: the words of each program, none of which is the real one."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("az", "databricks", "kubectl"):
        (programs / name).write_text(STUB)
        (programs / name).chmod(0o755)

    def run(command: str) -> list[list[str]]:
        calls = tmp_path / "calls"
        calls.write_text("")
        environment = {"PATH": f"{programs}:/usr/bin:/bin", "CALLS": str(calls)}
        ran = subprocess.run(["/bin/sh", "-c", command], env=environment, cwd=tmp_path, capture_output=True, timeout=30)
        assert ran.returncode == 0, (command, ran.stderr)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "calls"], command
        return [json.loads(line) for line in calls.read_text().splitlines()]

    return run


@pytest.mark.parametrize("made", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_is_a_word_and_never_a_command(
    made: Made, value: str, pasted: Callable[[str], list[list[str]]]
) -> None:
    command = made(value).command
    assert pasted(command)


def test_the_policy_has_what_the_token_has_and_finds_the_principals_number(
    pasted: Callable[[str], list[list[str]]],
) -> None:
    listed, created = pasted(remedies.policy(ASSERTION, "app-1", of_account=False).command)
    assert listed[1:4] == ["account", "service-principals", "list"]
    assert 'applicationId eq "app-1"' in listed
    assert created[1:5] == ["account", "service-principal-federation-policy", "create", "4711"]
    trusted = {"issuer": ASSERTION.issuer, "audiences": ["aud"], "subject": ASSERTION.subject}
    assert json.loads(created[-1]) == {"oidc_policy": trusted}
    known = remedies.policy(ASSERTION, "app-1", of_account=False, known_id="12").command
    assert [call[4] for call in pasted(known)] == ["12"]


def test_the_credential_has_what_the_token_has(pasted: Callable[[str], list[list[str]]]) -> None:
    application, identity = (each.command for each in remedies.credentials(ASSERTION, "client-1"))
    (call,) = pasted(application)
    given = json.loads(call[call.index("--parameters") + 1])
    assert call[:5] == ["az", "ad", "app", "federated-credential", "create"]
    assert (given["issuer"], given["subject"], given["audiences"]) == (ASSERTION.issuer, ASSERTION.subject, ["aud"])
    *looked_up, created = pasted(identity)
    assert [call[call.index("--query") + 1] for call in looked_up] == [
        "[?clientId=='client-1'].name | [0]",
        "[?clientId=='client-1'].resourceGroup | [0]",
    ]
    assert created[created.index("--subject") + 1] == ASSERTION.subject


def test_a_new_secret_goes_from_the_cloud_into_the_secret_and_opts_in(
    pasted: Callable[[str], list[list[str]]],
) -> None:
    calls = pasted(remedies.new_secret(SecretRef("team-a", "kept"), "EntraClientSecret", "client-1").command)
    by_verb = {tuple(call[:2]): call for call in calls}
    assert "--append" in by_verb["az", "ad"]  # the one in use goes on working
    assert "--from-literal=client-id=client-1" in by_verb["kubectl", "create"]
    assert by_verb["kubectl", "annotate"][-1] == "trainyard.dev/identity=EntraClientSecret"
    assert ("kubectl", "apply") in by_verb


@pytest.mark.parametrize(
    ("user", "subject"),
    [("ada@example.com", "--user=ada@example.com"), ("system:serviceaccount:a:b", "--serviceaccount=a:b")],
)
def test_a_right_is_given_in_its_namespace_to_whoever_lacks_it(
    user: str, subject: str, pasted: Callable[[str], list[list[str]]]
) -> None:
    role, binding = pasted(remedies.permit(Right("create", "serviceaccounts/token", "a", "trainer"), user).command)
    assert role[:3] == ["kubectl", "create", "role"]
    assert {"--verb=create", "--resource=serviceaccounts/token", "--resource-name=trainer"} <= set(role)
    assert subject in binding
    assert f"--role={role[3]}" in binding


def test_a_right_of_the_cluster_is_given_in_the_cluster(pasted: Callable[[str], list[list[str]]]) -> None:
    right = Right("get", "clustermlworkspaces", "", "shared", group="trainyard.dev")
    role, binding = pasted(remedies.permit(right, "ada").command)
    assert (role[2], binding[2]) == ("clusterrole", "clusterrolebinding")
    assert "--resource=clustermlworkspaces.trainyard.dev" in role


@pytest.mark.parametrize(
    ("sentence", "command"),
    [
        (
            "x lacks it. Its owner can run: GRANT USE SCHEMA ON SCHEMA `a`.`b` TO `x`",
            "GRANT USE SCHEMA ON SCHEMA `a`.`b` TO `x`",
        ),
        (
            "Who manages it can run: databricks permissions update clusters 1 --json '{\"a\": [{}]}' and more",
            "databricks permissions update clusters 1 --json '{\"a\": [{}]}'",
        ),
        ("Create it: databricks secrets create-scope kept", "databricks secrets create-scope kept"),
        ("Settings > Identity and access: switch it on", ""),
    ],
)
def test_what_a_check_wrote_into_its_sentence_is_found(sentence: str, command: str) -> None:
    assert remedies.written(sentence).command == command


@pytest.mark.parametrize(
    ("sentence", "left"),
    [
        (
            "none has it; a new one takes minutes. For an application: az ad app federated-credential create x",
            "none has it; a new one takes minutes.",
        ),
        ("trusts nobody. databricks account service-principal-federation-policy create 1", "trusts nobody."),
        ("see databricks workspace 1 and az, and kubectl", "see databricks workspace 1 and az, and kubectl"),
    ],
)
def test_a_sentence_is_told_without_the_commands_that_stand_below_it(sentence: str, left: str) -> None:
    assert remedies.without_commands(sentence) == left
