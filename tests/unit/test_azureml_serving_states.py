"""What Azure ML says about an endpoint, in the core's words, and the commands that give rights on it."""

import shlex

import pytest

from tests.unit.azureml_endpoints import UID, WS, desired, permission, seen, serving
from trainyard.core.serving.seen import ServedState
from trainyard.platforms.azureml.serving_states import endpoint_of, operation_of, permission_status, reason_of
from trainyard.platforms.azureml.serving_steps import Seen

OLD, NEW = serving("champion-aaaaaaaa"), serving("champion-bbbbbbbb", "2")
ONE = desired(OLD)

CASES: list[tuple[str, ServedState, bool]] = [
    ("Creating", "Creating", True),
    ("Updating", "Updating", True),
    ("Scaling", "Updating", True),
    ("Succeeded", "Ready", False),
    ("Failed", "Failed", False),
    ("Canceled", "Failed", False),
    ("Deleting", "Deleting", True),
    ("Hibernating", "Unknown", True),
    ("", "Unknown", True),
]


@pytest.mark.parametrize(("said", "state", "busy"), CASES)
def test_every_state_of_a_deployment_has_its_word_and_a_new_one_is_never_ready(
    said: str, state: ServedState, busy: bool
) -> None:
    found = endpoint_of(seen(ONE, {OLD.served: said}, {OLD.served: 100}), UID)
    assert found is not None
    (served,) = found.served
    assert (served.state, found.busy) == (state, busy)
    assert (served.model, served.version, served.traffic) == ("wine", "1", 100)
    assert served.replicas == (1 if state == "Ready" else None)


@pytest.mark.parametrize(
    ("said", "busy", "failed"),
    [
        ("Succeeded", False, False),
        ("Failed", False, True),
        ("Canceled", False, True),
        ("Updating", True, False),
        ("Asleep", True, False),
    ],
)
def test_every_state_of_an_endpoint_says_whether_it_takes_a_change(said: str, busy: bool, failed: bool) -> None:
    found = endpoint_of(seen(ONE, state=said), UID)
    assert found is not None
    assert (found.busy, bool(found.failed), found.state) == (busy, failed, said)


def test_no_endpoint_is_none() -> None:
    assert endpoint_of(Seen(None), UID) is None


def test_an_endpoint_tells_where_it_is_asked_and_who_made_it() -> None:
    there = seen(
        ONE,
        scoringUri="https://e.westeurope.inference.ml.azure.com/score",
        endpoint={"systemData": {"createdBy": "Ada"}},
    )
    found = endpoint_of(there, UID)
    assert found is not None
    assert (found.url, found.creator, found.ours) == ("https://e.westeurope.inference.ml.azure.com/score", "Ada", True)
    anothers = endpoint_of(there, "another")
    assert anothers is not None
    assert not anothers.ours


def test_an_endpoint_without_tags_is_nobodys() -> None:
    found = endpoint_of(seen(ONE, endpoint={"tags": None}), "")
    assert found is not None
    assert not found.ours


def test_a_failure_says_why_as_far_as_it_is_known() -> None:
    there = seen(desired(OLD, NEW), {OLD.served: "Failed", NEW.served: "Failed"}, state="Failed")
    found = endpoint_of(there, UID, why={"": "NoRoom: full", NEW.served: "OutOfQuota: 4 of 4"})
    assert found is not None
    assert found.failed.endswith("NoRoom: full")
    assert [each.message for each in found.served] == [
        "its provisioning failed",
        "its provisioning failed: OutOfQuota: 4 of 4",
    ]


def test_the_reason_of_an_operation_is_read_from_its_error() -> None:
    said = {"status": "Failed", "error": {"code": "ResourceNotReady", "message": "User container has\n crashed"}}
    assert reason_of(said) == "ResourceNotReady: User container has crashed"
    assert reason_of({"status": "Succeeded"}) == ""
    assert operation_of({"properties": {"properties": {"AzureAsyncOperationUri": "https://x"}}}) == "https://x"
    assert operation_of({"properties": {"properties": None}}) == ""


SCOPE = f"{WS}/onlineEndpoints/team-a-wine"


def test_rights_are_never_granted_but_told_with_the_command() -> None:
    found = permission_status(permission(user="ada@example.com", level="CAN_QUERY"), SCOPE)
    assert (found.who, found.level, found.granted) == ("user:ada@example.com", "CAN_QUERY", False)
    assert found.command is not None
    assert shlex.split(found.command)[:4] == ["az", "role", "assignment", "create"]
    assert shlex.split(found.command)[4:] == [
        "--assignee",
        "ada@example.com",
        "--role",
        "AzureML Data Scientist",
        "--scope",
        SCOPE,
    ]


def test_a_name_can_not_become_a_command() -> None:
    hostile = "x'; rm -rf / #$(id)`id`\"&&"
    for kind in ("group", "user", "servicePrincipal"):
        short = hostile[:60]
        found = permission_status(permission(**{kind: short, "level": "CAN_VIEW"}), SCOPE)
        assert found.command is not None
        assert shlex.quote(short) in found.command
        # Without the quoted name nothing of it is left.
        assert "rm -rf" not in found.command.replace(shlex.quote(short), "")
        assert "--role Reader" in found.command


def test_a_group_is_looked_up_by_its_name() -> None:
    found = permission_status(permission(group="analysts of wine", level="CAN_MANAGE"), SCOPE)
    assert found.command is not None
    lookup = "\"$(az ad group show --group 'analysts of wine' --query id -o tsv)\""
    assert f"--assignee-object-id {lookup} --assignee-principal-type Group" in found.command


def test_a_command_that_has_no_room_in_the_status_leaves_the_lookup_to_its_reader() -> None:
    told = permission_status(permission(group="'" * 255, level="CAN_QUERY"), f"{WS}/onlineEndpoints/wine")
    assert told.command is not None
    assert "--assignee-object-id OBJECT_ID_OF_THE_GROUP --role" in told.command
    assert told.command.endswith(f"--scope {WS}/onlineEndpoints/wine")
    user = permission_status(permission(user="o'neil" * 40, level="CAN_VIEW"), f"{WS}/{'x' * 900}")
    assert len(user.command or "") <= 1024
