"""The commands and statements in messages mean the same to a shell and to SQL, whatever a team wrote into its names."""

import json
import subprocess

import pytest

from trainyard.platforms.azureml import remedies as azure
from trainyard.platforms.databricks import remedies

HOSTILE = ["x$(id)", "x;id", "x'; id; '", 'x" or "', "x`id`", "x y", "x\\", "x|id"]


def read_by_a_shell(command: str) -> list[str]:
    said = subprocess.run(
        ["/bin/sh", "-c", f"set -- {command}\nprintf '%s\\0' \"$@\""], capture_output=True, text=True, check=True
    )
    return said.stdout.split("\0")[:-1]


@pytest.mark.parametrize("name", [*HOSTILE, "trainer-app", "ada@example.com"])
def test_a_command_in_a_message_has_each_name_as_one_word(name: str) -> None:
    words = read_by_a_shell(remedies.level("clusters", name, name, "CAN_RESTART"))
    assert words[:5] == ["databricks", "permissions", "update", "clusters", name]
    [entry] = json.loads(words[6])["access_control_list"]
    assert name in entry.values()
    secrets = ["databricks", "secrets"]
    assert read_by_a_shell(remedies.secret_acl("scope", name)) == [*secrets, "put-acl", "scope", name, "READ"]
    assert read_by_a_shell(remedies.secret("scope", name)) == [*secrets, "put-secret", "scope", name]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_statement_has_each_name_between_its_own_quotes(name: str) -> None:
    said = remedies.grant("SELECT", "table", f"main.wine.{name}", name)
    inside = name.replace("`", "``")
    assert said == f"GRANT SELECT ON TABLE `main`.`wine`.`{inside}` TO `{inside}`"


def test_plain_names_need_no_quotes() -> None:
    assert remedies.secret_acl("wine", "3f25-app") == "databricks secrets put-acl wine 3f25-app READ"
    assert remedies.level("clusters", "1123-x", "ada@example.com", "CAN_RESTART") == (
        'databricks permissions update clusters 1123-x --json \'{"access_control_list": '
        '[{"user_name": "ada@example.com", "permission_level": "CAN_RESTART"}]}\''
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_a_role_is_assigned_to_one_holder_on_one_scope(name: str) -> None:
    words = read_by_a_shell(azure.assignment("Reader", name, f"/subscriptions/s/resourceGroups/{name}"))
    assert words[:6] == ["az", "role", "assignment", "create", "--assignee", name]
    assert words[6:] == ["--role", "Reader", "--scope", f"/subscriptions/s/resourceGroups/{name}"]
