"""Jobs of the Azure ML half without a server: states, costs, bodies, bindings."""

from __future__ import annotations

from typing import Any

import pytest

from trainyard_sandbox.azure.errors import ArmError
from trainyard_sandbox.azure.job_bindings import check_references, substituted
from trainyard_sandbox.azure.job_shapes import COMMAND_JOB, duration_seconds, parse_properties
from trainyard_sandbox.azure.job_store import AzureJob, AzureJobStore, JobEnd, JobError

COMMAND = {"jobType": "Command", "command": "python train.py", "environmentId": "azureml:env:1"}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def store() -> AzureJobStore:
    return AzureJobStore(Clock())


def make(store: AzureJobStore, name: str = "job-1", **properties: Any) -> AzureJob:
    return store.create(name, COMMAND | properties, "client", "object")


def test_a_job_is_paid_for_once_it_had_machines_and_not_for_its_image_or_its_place_in_the_queue(
    store: AzureJobStore,
) -> None:
    queued, ran = make(store, "queued"), make(store, "ran")
    for status in ("Starting", "Preparing", "Queued"):
        store.move(queued, status)
    store.move(queued, "CancelRequested")
    store.finish(queued, JobEnd("Canceled"))
    for status in ("Queued", "Running", "Queued", "Running", "Finalizing"):
        store.move(ran, status)
    store.finish(ran, JobEnd())
    assert (queued.paid, ran.paid, store.paid_total) == (False, True, 1)


def test_a_sweep_itself_costs_nothing(store: AzureJobStore) -> None:
    sweep = make(store, jobType="Sweep")
    store.move(sweep, "Running")
    assert (sweep.paid, store.paid_total) == (False, 0)


def test_a_job_that_has_ended_keeps_its_end(store: AzureJobStore) -> None:
    job, told = make(store), []
    job.when_ended.append(lambda: told.append(job.status))
    store.finish(job, JobEnd("Failed", JobError("UserError", "no")))
    store.finish(job, JobEnd())
    store.move(job, "Running")
    assert (job.status, job.error, told) == ("Failed", JobError("UserError", "no"), ["Failed"])


def test_a_change_keeps_what_the_service_set_and_takes_tags_as_they_are_sent(store: AzureJobStore) -> None:
    job = make(store, tags={"a": "1", "b": "2"}, properties={"mine": "1"})
    job.properties["_azureml.set"] = "yes"
    store.change(job, {"tags": {"b": "3"}, "isArchived": True, "properties": {"more": "2"}})
    assert (job.tags, job.is_archived) == ({"b": "3"}, True)
    assert job.properties == {"mine": "1", "_azureml.set": "yes", "more": "2"}


def test_a_deleted_job_takes_its_children_along_and_frees_its_name(store: AzureJobStore) -> None:
    parent = make(store, "parent")
    child = store.create("child", COMMAND, "client", "object", parent=parent)
    ended: list[str] = []
    child.when_ended.append(lambda: ended.append("child"))
    store.delete(parent)
    assert (store.get("child"), ended, child.active) == (None, ["child"], False)
    assert make(store, "parent").number == 3


def test_no_two_jobs_have_one_name(store: AzureJobStore) -> None:
    make(store)
    with pytest.raises(ValueError, match="job-1"):
        make(store)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"command": ""}, "properties.command"),
        ({"comand": "x"}, "properties.comand"),
        ({"environmentId": None}, "environmentId"),
        ({"limits": {"jobLimitsType": "Command", "timeout": "3600"}}, "limits.timeout"),
        ({"limits": {"timeout": "PT1H"}}, "limits.jobLimitsType"),
        ({"inputs": {"x": {"jobInputType": "literal", "uri": "y"}}}, "inputs.x.uri"),
        ({"inputs": {"a-b": {"jobInputType": "literal", "value": "y"}}}, "a-b"),
        ({"outputs": {"x": {"jobOutputType": "folder"}}}, "outputs.x.jobOutputType"),
        ({"outputs": {"x": {"jobOutputType": "uri_folder", "mode": "Download"}}}, "outputs.x.mode"),
        ({"distribution": {"distributionType": "Ray"}}, "distribution.distributionType"),
        ({"resources": {"instanceCount": 0}}, "resources.instanceCount"),
        ({"resources": {"shmSize": "2 GB"}}, "resources.shmSize"),
        ({"environmentVariables": {"A": 1}}, "environmentVariables.A"),
        ({"queueSettings": {"jobTier": "spot"}}, "queueSettings.jobTier"),
    ],
)
def test_a_body_is_refused_by_the_name_of_the_field_that_is_wrong(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ArmError) as refused:
        parse_properties({"properties": COMMAND | change}, COMMAND_JOB)
    assert (refused.value.status, refused.value.code) == (400, "UserError")
    assert named in refused.value.message


def test_what_is_null_empty_or_read_only_counts_as_not_sent() -> None:
    sent = COMMAND | {"inputs": {}, "tags": {}, "identity": None, "status": "Running", "parameters": {}}
    assert parse_properties({"properties": sent}, COMMAND_JOB) == COMMAND


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("PT1H30M", 5400), ("P1DT1S", 86401), ("PT0.5S", 0.5), ("P", 0), ("PT", 0), ("1h", 0), ("PT5M ", 0)],
)
def test_a_time_limit_is_an_iso_8601_duration(text: str, seconds: float) -> None:
    assert duration_seconds(text) == seconds


def test_expressions_in_a_command_become_values_and_paths() -> None:
    command = "train --lr ${{inputs.lr}} --out ${{ outputs.model }} $[[--seed ${{inputs.seed}}]] $[[--n ${{inputs.n}}]]"
    found = substituted(command, {"lr": "0.1", "n": "3"}, {"model": "/tmp/m"})
    assert found == "train --lr 0.1 --out /tmp/m  --n 3"


def test_a_command_that_names_an_input_which_the_job_has_not_is_refused() -> None:
    check_references("a ${{inputs.x}} $[[${{inputs.y}}]]", {"x": 1}, {})
    with pytest.raises(ArmError, match="Inputs to job does not contain 'y' referenced in command"):
        check_references("a ${{inputs.y}}", {"x": 1}, {})
