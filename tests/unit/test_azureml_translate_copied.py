"""spec.jobRef on Azure ML: a job that is there, started once more under a name of ours."""

from typing import Any

from tests.unit.azureml_jobs import UID, WS, refusal, request
from trainyard.platforms.azureml.copying import copied_body

ARTIFACTS = "azureml://datastores/workspaceartifactstore/ExperimentRun/dcid.weekly"
OLD: dict[str, Any] = {
    "name": "weekly",
    "properties": {
        "jobType": "Command",
        "status": "Completed",
        "isArchived": True,
        "displayName": "weekly training",
        "experimentName": "weeklies",
        "description": "trains",
        "tags": {"team": "wine", "trainyard_token": "another", "trainyard_namespace": "team-b"},
        "properties": {"_azureml.ComputeTargetType": "amlctrain"},
        "services": {"Studio": {"endpoint": "https://ml.azure.com/runs/weekly"}},
        "parameters": {},
        "componentId": None,
        "codeId": f"{WS}/codes/c/versions/1",
        "command": "python train.py ${{inputs.day}}",
        "environmentId": f"{WS}/environments/e/versions/1",
        "computeId": f"{WS}/computes/cpu",
        "environmentVariables": {"A": "b", "TRAINYARD_NAME": "another"},
        "identity": {"identityType": "Managed", "clientId": "m"},
        "limits": {"jobLimitsType": "Command", "timeout": "PT5H"},
        "resources": {"instanceCount": 2, "instanceType": None},
        "inputs": {
            "day": {"jobInputType": "literal", "value": "1"},
            "raw": {"jobInputType": "uri_folder", "uri": "azureml://datastores/lake/paths/raw"},
        },
        "outputs": {
            "default": {"jobOutputType": "uri_folder", "uri": ARTIFACTS, "mode": "ReadWriteMount"},
            "own": {"jobOutputType": "uri_folder", "uri": "azureml://datastores/blob/paths/azureml/weekly/own/"},
            "fixed": {"jobOutputType": "uri_folder", "uri": "azureml://datastores/lake/paths/fixed"},
        },
    },
}


def copied(old: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    sent = request({}, **{"code": None, "compute": None, "jobRef": {"name": "weekly"}, **spec})
    assert sent.copied == "weekly"
    found: dict[str, Any] = copied_body(old or OLD, sent.body)["properties"]
    return found


def test_the_definition_is_taken_and_what_belongs_to_the_old_run_is_not() -> None:
    found = copied()
    old = OLD["properties"]
    for name in ("jobType", "description", "codeId", "command", "environmentId", "computeId", "inputs"):
        assert found[name] == old[name], name
    assert not {"status", "isArchived", "properties", "services", "parameters", "componentId"} & set(found)
    assert found["outputs"] == {"own": {"jobOutputType": "uri_folder"}, "fixed": old["outputs"]["fixed"]}


def test_it_says_whose_it_is_now_and_ends_in_time() -> None:
    found = copied()
    assert found["tags"]["team"] == "wine"
    assert found["tags"]["trainyard_token"] == f"ty-{UID}-1"
    assert found["tags"]["trainyard_namespace"] == "team-a"
    assert (found["displayName"], found["experimentName"]) == ("team-a/iris", "team-a")
    assert found["limits"] == {"jobLimitsType": "Command", "timeout": "PT600S"}
    assert found["environmentVariables"]["A"] == "b"
    assert found["environmentVariables"]["TRAINYARD_NAME"] == "iris"


def test_parameters_become_literal_inputs() -> None:
    found = copied(
        jobRef={"name": "weekly", "parameters": {"day": "$(params.day)", "run": "$(mlflow.runId)"}}, params={"day": "2"}
    )
    assert found["inputs"]["day"] == {"jobInputType": "literal", "value": "2"}
    retyped = copied(jobRef={"name": "weekly", "parameters": {"raw": "text"}})
    assert retyped["inputs"]["raw"] == {"jobInputType": "literal", "value": "text"}
    assert found["inputs"]["run"]["value"] == f"ty-{UID}-1"
    assert found["inputs"]["raw"] == OLD["properties"]["inputs"]["raw"]


def test_an_id_that_azure_ml_does_not_tell_before_is_refused() -> None:
    refused = refusal({}, code=None, compute=None, jobRef={"name": "a", "parameters": {"x": "$(mlflow.experimentId)"}})
    assert (refused.field, refused.reason) == ("spec.jobRef.parameters[x]", "ReferenceUnknown")


def test_the_code_runs_as_whom_the_workspace_names_and_never_as_whom_it_ran_before() -> None:
    assert "identity" not in copied()
    assert copied(runAs="me")["identity"] == {"identityType": "UserIdentity"}


def test_the_block_is_merged_over_it() -> None:
    found = copied(azureML={"resources": {"instanceCount": 1}, "tags": {"team": None}, "description": None})
    assert found["resources"] == {"instanceCount": 1}
    assert "description" not in found
    assert "team" not in found["tags"]


def test_a_sweep_keeps_its_trial_and_a_pipeline_its_graph() -> None:
    sweep = {
        "name": "weekly",
        "properties": {
            "jobType": "Sweep",
            "trial": {"command": "c", "environmentVariables": {"A": "b"}},
            "limits": {"jobLimitsType": "Sweep", "maxTotalTrials": 3},
        },
    }
    found = copied(sweep)
    assert found["trial"]["command"] == "c"
    assert found["trial"]["environmentVariables"]["A"] == "b"
    assert found["trial"]["environmentVariables"]["TRAINYARD_NAME"] == "iris"
    assert found["limits"] == {"jobLimitsType": "Sweep", "maxTotalTrials": 3, "timeout": "PT600S"}
    assert "environmentVariables" not in found
    pipeline = copied({"name": "weekly", "properties": {"jobType": "Pipeline", "jobs": {"a": {"type": "command"}}}})
    assert pipeline["jobs"] == {"a": {"type": "command"}}
    node = {"type": "command", "identity": {"type": "user_identity"}, "inputs": {"identity": "x"}}
    pipeline = copied({"name": "weekly", "properties": {"jobType": "Pipeline", "jobs": {"a": node}}})
    assert pipeline["jobs"] == {"a": {"type": "command", "inputs": {"identity": "x"}}}
    assert not {"limits", "environmentVariables"} & set(pipeline)


def test_the_old_definition_stays_as_it_was() -> None:
    before = repr(OLD)
    copied(tags={"a": "b"})
    assert repr(OLD) == before
