"""What an Azure ML job needs: each right and thing once, of whom, and for which field."""

from typing import Any

from tests.unit.azureml_jobs import request
from trainyard.platforms.azureml import needs
from trainyard.platforms.base import Need

ACTIONS = {
    (needs.JOBS_READ, "spec.workspaceRef"),
    (needs.JOBS_WRITE, "spec.workspaceRef"),
    (needs.JOBS_CANCEL, "spec.workspaceRef"),
}
MANAGED = "11111111-2222-3333-4444-555555555555"


def actions(found: tuple[Need, ...]) -> set[tuple[str, str]]:
    return {(need.right, need.field) for need in found if need.kind == needs.WORKSPACE}


def things(*args: Any, **kwargs: Any) -> list[tuple[str, str, str, str, str]]:
    return [
        (need.kind, need.name, need.right, need.holder, need.field)
        for need in request(*args, **kwargs).needs
        if need.kind != needs.WORKSPACE
    ]


def test_a_job_needs_what_its_parts_need() -> None:
    found = request(model={"name": "iris"}).needs
    assert actions(found) == ACTIONS | {
        (needs.CODE_WRITE, "spec.code"),
        (needs.ENVIRONMENT_WRITE, "spec.environment"),
        (needs.MODEL_WRITE, "spec.model"),
    }
    assert {need.holder for need in found} == {"app-id"}
    assert len(found) == len(set(found))


def test_what_is_there_already_needs_no_right_to_make_it() -> None:
    runtimes = {"team": {"azureML": {"environment": "team-env@latest"}}}
    found = request(
        {},
        workspace={"runtimes": runtimes},
        environment={"runtime": "team"},
        code={"path": "data://raw/code"},
        compute={"class": "cluster"},
    ).needs
    assert actions(found) == ACTIONS
    assert {(need.kind, need.name, need.right, need.field) for need in found if need.kind != needs.WORKSPACE} == {
        (needs.COMPUTE, "cpu-cluster", needs.EXISTS, "spec.compute.class"),
        (needs.ENVIRONMENT, "team-env@latest", needs.EXISTS, "spec.environment.runtime"),
        (needs.DATASTORE, "lake", needs.READ, "spec.code.path"),
    }


def test_serverless_machines_have_to_be_offered() -> None:
    assert things() == [(needs.VM_SIZE, "Standard_DS3_v2", needs.EXISTS, "app-id", "spec.compute.class")]


def test_data_is_read_and_written_by_whoever_the_code_runs_as() -> None:
    found = things(
        runAs="trainer",
        inputs={
            "raw": {"uri": "data://raw"},
            "asset": {"uri": "azureml:wine:1"},
            "model": {"uri": "azureml:churn:3", "form": "MLflowModel"},
            "elsewhere": {"uri": "abfss://raw@acme.dfs.core.windows.net/a"},
        },
        outputs={"made": {"uri": "data://raw/made"}},
    )
    assert found[1:] == [
        (needs.MANAGED_IDENTITY, MANAGED, needs.ASSIGNED, "app-id", "spec.runAs"),
        (needs.DATASTORE, "lake", needs.READ, MANAGED, "spec.inputs[raw].uri"),
        (needs.DATA, "wine:1", needs.EXISTS, "app-id", "spec.inputs[asset].uri"),
        (needs.MODEL, "churn:3", needs.EXISTS, "app-id", "spec.inputs[model].uri"),
        (needs.DATASTORE, "lake", needs.WRITE, MANAGED, "spec.outputs[made].uri"),
    ]


def test_a_job_that_is_copied_has_to_be_there() -> None:
    assert things({}, code=None, compute=None, jobRef={"name": "weekly"}) == [
        (needs.JOB, "weekly", needs.EXISTS, "app-id", "spec.jobRef.name")
    ]


def test_what_was_found_about_one_machine_is_not_said_of_many() -> None:
    def needed(**fields: Any) -> Need:
        return next(
            need for need in request(compute={"class": "cluster"}, **fields).needs if need.kind == needs.COMPUTE
        )

    one, many = needed(), needed(azureML={"resources": {"instanceCount": 8}})
    assert one.name == many.name
    assert one != many
    assert "8 machines" in many.right
