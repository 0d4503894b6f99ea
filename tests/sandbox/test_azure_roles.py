"""Azure roles: what each permits, where, and the sentence of a refusal."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import requests

from trainyard_sandbox.azure.roles import ROLES, RoleAssignment, permits
from trainyard_sandbox.client import ControlError, SandboxControl

Arm = Callable[..., requests.Response]
VERSION = "2023-04-01"
ML = "Microsoft.MachineLearningServices/workspaces"
WORKSPACE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"


@pytest.mark.parametrize(
    ("role", "action", "permitted"),
    [
        ("AzureML Data Scientist", f"{ML}/read", True),
        ("AzureML Data Scientist", f"{ML}/jobs/write", True),
        ("AzureML Data Scientist", f"{ML}/jobs/cancel/action", True),
        ("AzureML Data Scientist", f"{ML}/codes/versions/write", True),
        ("AzureML Data Scientist", f"{ML}/write", False),
        ("AzureML Data Scientist", f"{ML}/delete", False),
        ("AzureML Data Scientist", f"{ML}/computes/read", True),
        ("AzureML Data Scientist", f"{ML}/computes/write", False),
        ("AzureML Data Scientist", f"{ML}/computes/delete", False),
        ("AzureML Data Scientist", f"{ML}/computes/listKeys/action", False),
        ("AzureML Data Scientist", f"{ML}/listKeys/action", False),
        ("AzureML Data Scientist", "Microsoft.Storage/storageAccounts/read", False),
        ("AzureML Compute Operator", f"{ML}/computes/write", True),
        ("AzureML Compute Operator", f"{ML}/computes/read", True),
        ("AzureML Compute Operator", f"{ML}/jobs/read", False),
        ("AzureML Compute Operator", f"{ML}/read", False),
        ("Reader", f"{ML}/jobs/read", True),
        ("Reader", f"{ML}/jobs/write", False),
        ("Reader", f"{ML}/datastores/listsecrets/action", False),
        ("Contributor", f"{ML}/write", True),
        ("Contributor", "Microsoft.Authorization/roleAssignments/write", False),
        ("Owner", "Microsoft.Authorization/roleAssignments/write", True),
    ],
)
def test_a_built_in_role_permits_what_its_definition_says(role: str, action: str, permitted: bool) -> None:
    assert ROLES[role].permits(action) is permitted


def test_reading_blobs_takes_a_data_role_and_no_management_role() -> None:
    assert ROLES["Storage Blob Data Reader"].permits(f"{BLOBS}/read", data=True)
    assert not ROLES["Storage Blob Data Reader"].permits(f"{BLOBS}/write", data=True)
    assert ROLES["Storage Blob Data Contributor"].permits(f"{BLOBS}/write", data=True)
    assert not ROLES["Owner"].permits(f"{BLOBS}/read", data=True)


@pytest.mark.parametrize(
    ("scope", "reaches"),
    [
        ("/", True),
        ("/subscriptions/s", True),
        ("/subscriptions/S/resourcegroups/G", True),
        (WORKSPACE, True),
        (WORKSPACE + "/jobs/j", False),
        ("/subscriptions/s/resourceGroups/gg", False),
        ("/subscriptions/s/resourceGroups/other", False),
        ("/subscriptions/s/resource", False),
    ],
)
def test_a_role_reaches_everything_below_its_scope_and_nothing_beside(scope: str, reaches: bool) -> None:
    assert permits([RoleAssignment("Reader", scope)], f"{ML}/read", WORKSPACE) is reaches


def test_a_custom_role_permits_what_it_lists_and_tells_so(control: SandboxControl, arm: Arm) -> None:
    somebody = control.add_application("somebody")
    control.assign_custom_role(somebody, "Only reads", [f"{ML}/read", f"{ML}/*/read"], [f"{ML}/models/*/read"])
    assert arm(somebody, "GET", "", version=VERSION).status_code == 200
    assert arm(somebody, "GET", "/jobs", version=VERSION).status_code == 200
    assert arm(somebody, "GET", "/models/m/versions/1", version=VERSION).status_code == 403
    told = arm(somebody, "GET", "/providers/Microsoft.Authorization/permissions", version="2022-04-01").json()
    assert [role["notActions"] for role in told["value"]] == [[f"{ML}/models/*/read"]]
    with pytest.raises(ControlError, match="built in"):
        control.assign_custom_role(somebody, "Reader", [f"{ML}/read"])


def test_who_lacks_a_role_is_told_so_in_arms_sentence(control: SandboxControl, arm: Arm) -> None:
    nobody = control.add_application("nobody")
    object_id = next(found["object_id"] for found in control.applications() if found["client_id"] == nobody)
    answer = arm(nobody, "GET", "/models/m", version=VERSION)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "AuthorizationFailed")
    assert answer.json()["error"]["message"] == (
        f"The client '{nobody}' with object id '{object_id}' does not have authorization to perform action "
        f"'Microsoft.MachineLearningServices/workspaces/models/read' over scope "
        f"'{control.address.azure.workspace_scope}/models/m' or the scope is invalid. "
        "If access was recently granted, please refresh your credentials."
    )


@pytest.mark.parametrize("scope", ["workspace", "resource group", "subscription"])
def test_a_role_counts_from_the_next_request_until_it_is_taken_away(
    control: SandboxControl, arm: Arm, scope: str
) -> None:
    client_id = control.add_application("reader")
    assert arm(client_id, "GET", "", version=VERSION).status_code == 403
    control.assign_role(client_id, "Reader", scope)
    assert arm(client_id, "GET", "", version=VERSION).status_code == 200
    body = {"properties": {"dataType": "uri_file", "dataUri": "azureml://datastores/workspaceblobstore/paths/x"}}
    assert arm(client_id, "PUT", "/data/d/versions/1", version=VERSION, json=body).status_code == 403
    control.remove_role(client_id, "Reader", scope)
    assert arm(client_id, "GET", "", version=VERSION).status_code == 403


def test_a_role_or_scope_that_azure_has_not_is_refused(control: SandboxControl) -> None:
    client_id = control.add_application("x")
    with pytest.raises(ControlError, match="Gardener"):
        control.assign_role(client_id, "Gardener")
    with pytest.raises(ControlError, match="neither a resource id"):
        control.assign_role(client_id, "Reader", "garden")
    with pytest.raises(ControlError, match="has no Reader"):
        control.remove_role(client_id, "Reader")


def test_a_reader_cannot_have_a_datastores_secrets(control: SandboxControl, arm: Arm) -> None:
    client_id = control.add_application("reader", roles={"workspace": ["Reader"]})
    assert arm(client_id, "GET", "/datastores/workspaceblobstore", version=VERSION).status_code == 200
    answer = arm(client_id, "POST", "/datastores/workspaceblobstore/listSecrets", version=VERSION)
    assert (answer.status_code, "listsecrets/action" in answer.json()["error"]["message"]) == (403, True)


def test_anybody_is_told_what_he_may_do_here(control: SandboxControl, arm: Arm, data_scientist: str) -> None:
    def told(client_id: str) -> list[dict[str, list[str]]]:
        answer = arm(client_id, "GET", "/providers/Microsoft.Authorization/permissions", version="2022-04-01")
        assert answer.status_code == 200
        rows: list[dict[str, list[str]]] = answer.json()["value"]
        return rows

    assert told(control.add_application("nobody")) == []
    control.assign_role(data_scientist, "Reader", "subscription")
    control.assign_role(data_scientist, "Owner", "storage account")
    science, reading = told(data_scientist)
    assert f"{ML}/*/write" in science["actions"]
    assert f"{ML}/computes/*/write" in science["notActions"]
    assert reading["actions"] == ["*/read"]
