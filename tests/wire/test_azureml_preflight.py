"""What is looked at before an Azure ML job is started, through azure-ai-ml's own reads."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.wire.azureml import (
    accounts,
    cloud,
    connect,
    connection,
    data_scientist,
    ended,
    request_for,
    target,
    tokens_for,
)
from trainyard.core.errors import Unreachable
from trainyard.core.remote import Finding
from trainyard.platforms.azureml import needs
from trainyard.platforms.azureml.connection import AzureMLConnection
from trainyard.platforms.base import Need, Request
from trainyard_sandbox.client import SandboxControl

__all__ = ["accounts", "cloud", "connect", "connection", "data_scientist", "request_for", "target", "tokens_for"]

Look = Callable[..., Finding]


@pytest.fixture
def look(connection: AzureMLConnection, request_for: Callable[..., Request], data_scientist: str) -> Look:
    """What one need meets: `look(needs.COMPUTE, "cpu-cluster")`."""
    request = request_for()

    def ask(kind: str, name: str, right: str = needs.EXISTS, **properties: Any) -> Finding:
        need = Need(kind, name, right, data_scientist, "spec.x")
        body = {"properties": {**request.body["properties"], **properties}}
        (found,) = connection.preflight(replace(request, needs=(need,), body=body))
        return found

    return ask


def test_a_request_that_lacks_nothing_passes_every_check(
    connection: AzureMLConnection, request_for: Callable[..., Request], control: SandboxControl, data_scientist: str
) -> None:
    control.assign_role(data_scientist, "Reader", "subscription")
    request = request_for(model={"name": "wine"}, environment={"pip": ["scikit-learn"]})
    created = control.azure_created_total()
    control.clear_requests()
    found = connection.preflight(request)
    assert [(each.name, each.message) for each in found if each.outcome != "Passed"] == []
    assert len(found) == len(request.needs) > 4
    assert {row["method"] for row in control.requests(path="/subscriptions/.*")} == {"GET"}
    assert control.azure_created_total() == created


def test_an_action_that_no_role_permits_is_missing_with_the_command(
    look: Look, control: SandboxControl, data_scientist: str
) -> None:
    control.remove_role(data_scientist, "AzureML Data Scientist")
    control.assign_role(data_scientist, "Reader")
    found = look(needs.WORKSPACE, needs.THIS, needs.JOBS_WRITE)
    assert (found.outcome, found.name) == ("Missing", needs.JOBS_WRITE)
    scope = control.address.azure.workspace_scope
    command = f'az role assignment create --assignee {data_scientist} --role "AzureML Data Scientist" --scope {scope}'
    assert command in found.message
    assert look(needs.WORKSPACE, needs.THIS, needs.JOBS_READ).outcome == "Passed"


def test_machines_are_looked_at(look: Look, control: SandboxControl) -> None:
    control.add_azure_compute("four-nodes")
    fits = look(needs.COMPUTE, "four-nodes", resources={"instanceCount": 4})
    assert (fits.outcome, fits.message) == ("Passed", "amlcompute of Standard_DS3_v2, up to 4 machines")
    too_many = look(needs.COMPUTE, "four-nodes", resources={"instanceCount": 5})
    assert too_many.outcome == "Missing"
    assert "--max-instances 5" in too_many.message
    absent = look(needs.COMPUTE, "no-such-cluster")
    assert (absent.outcome, "az ml compute create --name no-such-cluster" in absent.message) == ("Missing", True)
    control.set_azure_compute_state("four-nodes", "Failed", code="QuotaExceeded", message="no cores")
    broken = look(needs.COMPUTE, "four-nodes")
    assert (broken.outcome, "is Failed" in broken.message) == ("Missing", True)


def test_a_size_that_the_region_has_not_is_missing_to_whoever_may_see_the_region(
    look: Look, control: SandboxControl, data_scientist: str
) -> None:
    assert look(needs.VM_SIZE, "Standard_Imaginary_v9").outcome == "Unknown"
    control.assign_role(data_scientist, "Reader", "subscription")
    there = look(needs.VM_SIZE, "Standard_DS3_v2")
    assert (there.outcome, there.message) == ("Passed", "the region has it (4 vCPUs)")
    assert look(needs.VM_SIZE, "Standard_Imaginary_v9").outcome == "Missing"


def test_assets_and_datastores_are_looked_at(look: Look, control: SandboxControl) -> None:
    control.add_azure_asset(
        "data", "sales", "3", dataUri="azureml://datastores/workspaceblobstore/paths/s", dataType="uri_folder"
    )
    assert look(needs.DATA, "sales:3").message == "version 3"
    assert look(needs.DATA, "sales:4").outcome == "Missing"
    assert look(needs.ENVIRONMENT, "no-such-environment:1").outcome == "Missing"
    assert look(needs.ENVIRONMENT, "azureml://registries/azureml/environments/x/versions/1").outcome == "Unknown"
    assert look(needs.DATASTORE, "workspaceblobstore", needs.WRITE).outcome == "Passed"
    assert look(needs.DATASTORE, "nowhere", needs.READ).outcome == "Missing"
    assert look(needs.MODEL, "no-such-model:1").outcome == "Missing"


def test_a_job_that_is_copied_is_looked_at(
    look: Look, connection: AzureMLConnection, request_for: Callable[..., Request]
) -> None:
    remote = ended(connection, connection.submit(request_for()).remote_id)
    assert look(needs.JOB, remote.remote_id).outcome == "Passed"
    assert look(needs.JOB, "no-such-job").outcome == "Missing"


def test_what_this_identity_may_not_see_is_unknown_and_holds_nothing_up(look: Look, control: SandboxControl) -> None:
    control.add_fault("status", ".*/computes/.*", status=403)
    assert look(needs.COMPUTE, "cpu-cluster").outcome == "Unknown"
    control.add_fault("status", ".*/providers/Microsoft.Authorization/permissions", status=403)
    assert look(needs.WORKSPACE, needs.THIS, needs.JOBS_WRITE).outcome == "Unknown"


def test_a_platform_that_does_not_answer_finds_nothing_out(look: Look, control: SandboxControl) -> None:
    control.add_fault("status", ".*/computes/.*", status=503)
    with pytest.raises(Unreachable):
        look(needs.COMPUTE, "cpu-cluster")


def test_a_managed_identity_has_to_be_the_computes_own(look: Look, control: SandboxControl) -> None:
    control.add_azure_compute("with-none")
    control.add_azure_compute("with-one", identities={"reader": "11111111-2222-3333-4444-555555555555"})
    computes = f"{control.address.azure.workspace_scope}/computes"

    def assigned(client_id: str = "11111111-2222-3333-4444-555555555555", **properties: str) -> Finding:
        return look(needs.MANAGED_IDENTITY, client_id, needs.ASSIGNED, **properties)

    assert assigned().outcome == "Unknown"
    found = assigned(computeId=f"{computes}/with-none")
    assert found.outcome == "Missing"
    assert "az ml compute update --name with-none --identity-type UserAssigned" in found.message
    assert assigned(computeId=f"{computes}/with-one").outcome == "Passed"
    assert assigned("22222222-2222-3333-4444-555555555555", computeId=f"{computes}/with-one").outcome == "Missing"
