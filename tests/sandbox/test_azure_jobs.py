"""Jobs of the Azure ML half through Azure Resource Manager: created, changed, listed, cancelled; pretended ones."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from trainyard_sandbox.client import ControlError, SandboxControl

from .azure_fixtures import Arm
from .azure_jobs import CANCEL, GET, PUT, Jobs, body, new_name
from .conftest import wait_until


@pytest.fixture
def jobs(arm: Arm, data_scientist: str, control: SandboxControl) -> Iterator[Jobs]:
    yield Jobs(arm, data_scientist)
    for job in control.azure_jobs():
        if job["active"]:
            control.delete_azure_job(job["name"])
    control.clear_azure_scripts()
    control.azure_compute_settings(no_serverless_limit=True, node_start_seconds=0)


@pytest.fixture
def held(control: SandboxControl) -> str:
    """Name of jobs that stay Running until somebody ends them, as a regular expression's prefix."""
    prefix = f"held-{uuid.uuid4().hex[:8]}"
    control.script_azure_job(name=f"{prefix}.*", states=[("Queued", 0), ("Running", 600)], cancel_seconds=0.05)
    return prefix


def test_a_job_is_shown_as_it_was_sent_with_what_the_service_adds(jobs: Jobs, held: str) -> None:
    sent = {
        "displayName": "nightly",
        "description": "every night",
        "tags": {"team": "a"},
        "experimentName": "iris",
        "environmentVariables": {"SEED": "1"},
        "resources": {"instanceCount": 2, "instanceType": "Standard_DS3_v2", "shmSize": "2g"},
        "limits": {"jobLimitsType": "Command", "timeout": "PT1H"},
    }
    created = jobs.put(held, **sent)
    assert created.status_code == 201
    shown = jobs.get(held)
    assert shown["id"].endswith(f"/workspaces/ws-sandbox/jobs/{held}")
    assert sent.items() <= shown["properties"].items()
    assert shown["properties"]["status"] in ("NotStarted", "Queued", "Running")
    assert shown["properties"]["services"]["Studio"]["endpoint"].startswith("https://127.0.0.1:")
    assert shown["properties"]["codeId"] is None
    assert shown["systemData"]["createdBy"] == "trainer"


def test_a_second_put_of_the_same_job_makes_no_second_job(jobs: Jobs, held: str, control: SandboxControl) -> None:
    before = control.azure_created_total()
    assert jobs.put(held, tags={"a": "1"}).status_code == 201
    again = jobs.put(held, tags={"a": "2"}, isArchived=True)
    assert again.status_code == 200
    assert again.json()["properties"]["tags"] == {"a": "2"}
    assert control.azure_created_total() == before + 1


def test_a_job_that_was_read_can_be_sent_back_with_only_its_archive_flag_changed(jobs: Jobs, held: str) -> None:
    jobs.put(held, resources={"instanceCount": 1})
    document = jobs.get(held)
    document["properties"]["isArchived"] = True
    assert jobs.put_body(held, document).status_code == 200
    assert held not in jobs.listed()
    assert held in jobs.listed(listViewType="ArchivedOnly")


def test_a_second_put_that_changes_the_command_is_refused_in_azures_words(jobs: Jobs, held: str) -> None:
    jobs.put(held)
    refused = jobs.put(held, command="python other.py", experimentName="other")
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (400, "UserError")
    assert "A job with this name already exists." in error["message"]
    assert "the existing job's Command,  ExperimentName cannot be changed." in error["message"]
    inner = next(entry["info"]["value"] for entry in error["additionalInfo"] if entry["type"] == "InnerError")
    assert inner == {"code": "Immutable", "innerError": {"code": "JobPropertyImmutable", "innerError": None}}


@pytest.mark.parametrize("name", ["-x", "a.b", "a b", "x" * 256])
def test_a_name_that_no_job_may_have_is_refused(jobs: Jobs, name: str) -> None:
    assert "Invalid job name" in jobs.put(name).json()["error"]["message"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"computeId": "nowhere"}, "is not a valid ARM resource id"),
        ({"computeId": "{ws}/computes/nowhere"}, "Unknown compute target 'nowhere'."),
        ({"environmentId": "{ws}/environments/e/versions/9"}, "No environment exists for name: e, version: 9"),
        ({"environmentId": "azureml:e:9"}, "No environment exists for name: e, version: 9"),
        ({"codeId": "{ws}/codes/c/versions/1"}, "Code asset c:1 was not found."),
        ({"codeId": "/subscriptions/other"}, "is not a valid ARM resource id of this workspace"),
        ({"identity": {"identityType": "UserIdentity"}}, "in the x-azureml-token header"),
        ({"resources": {"instanceType": "Standard_X"}}, "The VM size 'Standard_X' is not available"),
        ({"command": "python ${{inputs.x}}"}, "does not contain 'x'"),
        ({"jobType": "AutoML"}, "The jobType 'AutoML' is not supported by this sandbox"),
        (
            {
                "resources": {"instanceCount": 9},
                "distribution": {"distributionType": "Mpi", "processCountPerInstance": 2},
            },
            "at most 16 processes",
        ),
    ],
)
def test_a_job_that_cannot_run_is_refused_when_it_is_submitted(
    jobs: Jobs, control: SandboxControl, change: dict[str, Any], message: str
) -> None:
    scope = control.address.azure.workspace_scope
    change = {key: value.replace("{ws}", scope) if isinstance(value, str) else value for key, value in change.items()}
    before = control.azure_created_total()
    refused = jobs.put(new_name(), **change)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "UserError")
    assert message in refused.json()["error"]["message"]
    assert control.azure_created_total() == before


def test_a_job_may_run_as_its_submitter_when_that_ones_token_comes_along(
    arm: Arm, data_scientist: str, jobs: Jobs, held: str, control: SandboxControl
) -> None:
    headers = {"x-azureml-token": control.issue_azure_token(data_scientist, control.address.azure.ml_resource)}
    document = body(identity={"identityType": "UserIdentity"})
    answer = arm(data_scientist, "PUT", f"/jobs/{held}", version=PUT, json=document, headers=headers)
    assert (answer.status_code, answer.json()["properties"]["identity"]) == (201, {"identityType": "UserIdentity"})


def test_a_list_is_newest_first_in_pages_and_filters_by_tag_key_and_property(
    jobs: Jobs, control: SandboxControl
) -> None:
    key = f"k{uuid.uuid4().hex[:8]}"
    control.script_azure_job(tag=f"{key}=1", states=[("Running", 600)])
    names = [f"{key}-{number:02d}" for number in range(35)]
    for name in names:
        jobs.put(name, tags={key: "1"}, properties={key: name})
    assert jobs.listed(tag=key) == names[::-1]
    assert jobs.listed(tag=key, properties=f"{key}={names[3]}") == [names[3]]
    assert jobs.listed(tag=key, jobType="Sweep") == []
    assert jobs.listed(tag=f"{key}x") == []


def test_a_cancelled_job_is_cancel_requested_until_it_has_stopped(
    jobs: Jobs, control: SandboxControl, arm: Arm, data_scientist: str
) -> None:
    name = new_name()
    control.script_azure_job(name=name, states=[("Running", 600)], cancel_seconds=0.4)
    jobs.put(name)
    wait_until(lambda: jobs.status(name) == "Running")
    answer = jobs.cancel(name)
    assert answer.status_code == 202
    path = answer.headers["location"]
    poll = {"Authorization": answer.request.headers["Authorization"]}
    verify = str(control.address.ca_file)
    assert requests.get(path, headers=poll, verify=verify, timeout=10).status_code == 202
    assert jobs.status(name) == "CancelRequested"
    assert jobs.cancel(name).status_code == 202
    assert jobs.ended(name) == "Canceled"
    assert requests.get(path, headers=poll, verify=verify, timeout=10).status_code == 200


def test_a_job_that_has_ended_cannot_be_cancelled(jobs: Jobs, held: str, control: SandboxControl) -> None:
    jobs.put(held)
    wait_until(lambda: jobs.status(held) == "Running")
    control.complete_azure_job(held)
    assert jobs.ended(held) == "Completed"
    assert jobs.cancel(held).status_code == 400


def test_only_a_job_that_has_ended_can_be_deleted(jobs: Jobs, held: str, arm: Arm, data_scientist: str) -> None:
    def delete() -> requests.Response:
        return arm(data_scientist, "DELETE", f"/jobs/{held}", version=CANCEL)

    jobs.put(held)
    assert delete().status_code == 400
    jobs.cancel(held)
    assert jobs.ended(held) == "Canceled"
    assert delete().status_code == 202
    assert delete().status_code == 404


def test_an_unknown_job_is_not_found_in_azures_words(arm: Arm, data_scientist: str) -> None:
    answer = arm(data_scientist, "GET", "/jobs/nowhere", version=GET)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "UserError")
    assert answer.json()["error"]["message"] == "Job nowhere not found."


def test_a_reader_may_look_and_not_submit_or_cancel(control: SandboxControl, arm: Arm, jobs: Jobs, held: str) -> None:
    jobs.put(held)
    reader = control.add_application("reader", roles={"workspace": ["Reader"]})
    assert arm(reader, "GET", f"/jobs/{held}", version=GET).status_code == 200
    put = arm(reader, "PUT", f"/jobs/{new_name()}", version=PUT, json=body())
    cancel = arm(reader, "POST", f"/jobs/{held}/cancel", version=CANCEL)
    assert (put.status_code, cancel.status_code) == (403, 403)
    assert "workspaces/jobs/write'" in put.json()["error"]["message"]
    assert "workspaces/jobs/cancel/action'" in cancel.json()["error"]["message"]


def test_a_status_nobody_knows_is_shown_when_a_test_asks_for_it(jobs: Jobs, held: str, control: SandboxControl) -> None:
    jobs.put(held)
    control.set_azure_job_state(held, "Hibernating")
    assert jobs.status(held) == "Hibernating"
    control.set_azure_job_state(held, None)
    assert wait_until(lambda: jobs.status(held) == "Running")


def test_a_script_says_through_which_states_a_job_goes_and_how_it_ends(jobs: Jobs, control: SandboxControl) -> None:
    name = new_name()
    control.script_azure_job(
        name=name,
        states=[("Preparing", 0.02), ("Queued", 0.02), ("Running", 0.02), ("Finalizing", 0.02)],
        end={"status": "Failed", "code": "UserError", "message": "no data", "inner": ["StreamAccess"]},
        times=1,
    )
    jobs.put(name)
    assert jobs.ended(name) == "Failed"
    shown = control.azure_job(name)
    assert shown["history"] == ["NotStarted", "Preparing", "Queued", "Running", "Finalizing", "Failed"]
    assert shown["error"] == {"code": "UserError", "message": "no data", "inner": ["StreamAccess"]}
    assert shown["paid"]


def test_a_terminal_status_in_the_middle_of_a_script_is_refused(control: SandboxControl) -> None:
    with pytest.raises(ControlError, match="belongs in 'end'"):
        control.script_azure_job(name="x", states=[("Failed", 1)])


def test_a_job_beyond_the_quota_stays_queued_and_costs_nothing(jobs: Jobs, held: str, control: SandboxControl) -> None:
    first, second = f"{held}-1", f"{held}-2"
    control.azure_compute_settings(serverless_cores=4)
    for name in (first, second):
        jobs.put(name, resources={"instanceType": "Standard_DS3_v2"})
    wait_until(lambda: jobs.status(first) == "Running")
    assert (jobs.status(second), control.azure_job(second)["paid"]) == ("Queued", False)
    jobs.cancel(first)
    assert wait_until(lambda: jobs.status(second) == "Running")


def test_a_job_is_queued_while_its_machine_starts(jobs: Jobs, held: str, control: SandboxControl) -> None:
    control.azure_compute_settings(node_start_seconds=0.5)
    jobs.put(held)
    wait_until(lambda: jobs.status(held) == "Queued")
    assert not control.azure_job(held)["paid"]
    assert wait_until(lambda: jobs.status(held) == "Running")


def test_more_nodes_than_a_cluster_may_have_are_refused(jobs: Jobs, control: SandboxControl) -> None:
    control.add_azure_compute("two", scaleSettings={"maxNodeCount": 2})
    compute = f"{control.address.azure.workspace_scope}/computes/two"
    refused = jobs.put(new_name(), computeId=compute, resources={"instanceCount": 3})
    message = "Requested 3 nodes but AzureMLCompute cluster only has 2 maximum nodes."
    assert refused.json()["error"]["message"] == message


def test_an_instance_type_that_an_attached_cluster_has_not_is_refused(jobs: Jobs, control: SandboxControl) -> None:
    control.add_azure_compute("arc", "Kubernetes", instanceTypes={"gpu": {}})
    compute = f"{control.address.azure.workspace_scope}/computes/arc"
    refused = jobs.put(new_name(), computeId=compute, resources={"instanceType": "tpu"})
    assert "InstanceType tpu is not found" in refused.json()["error"]["message"]
    assert jobs.put(new_name(), computeId=compute, resources={"instanceType": "gpu"}).status_code == 201


def test_a_preempted_job_goes_back_to_the_queue_and_runs_again(jobs: Jobs, held: str, control: SandboxControl) -> None:
    jobs.put(held)
    wait_until(lambda: jobs.status(held) == "Running")
    control.preempt_azure_job(held)
    wait_until(lambda: jobs.status(held) == "Running")
    history = control.azure_job(held)["history"]
    assert history[-4:] in (["Queued", "Running", "Queued", "Running"], ["NotStarted", "Running", "Queued", "Running"])


def test_a_job_deleted_behind_our_back_is_gone_and_stays_counted(
    jobs: Jobs, held: str, control: SandboxControl
) -> None:
    jobs.put(held)
    wait_until(lambda: jobs.status(held) == "Running")
    before = control.azure_paid_total()
    control.delete_azure_job(held)
    assert held not in jobs.listed()
    assert control.azure_paid_total() == before
