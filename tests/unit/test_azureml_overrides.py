"""spec.azureML: what is merged over a job of Azure ML, what it makes of it, and what the operator keeps to itself."""

from typing import Any

import pytest

from tests.unit.azureml_jobs import WS, properties, refusal, request
from trainyard.api.azureml_block import OWNED_FIELDS

SWEEP = {
    "jobType": "Sweep",
    "searchSpace": {"lr": ["uniform", [0.01, 0.1]]},
    "objective": {"goal": "Maximize", "primaryMetric": "accuracy"},
    "samplingAlgorithm": {"samplingAlgorithmType": "Random"},
}
NODE = {"type": "command", "componentId": "/c/1", "computeId": "$(trainyard.compute)"}


def below(path: str, value: Any) -> dict[str, Any]:
    block: Any = value
    for key in reversed(path.split(".")):
        block = {key: block}
    return dict(block)


@pytest.mark.parametrize("path", sorted(OWNED_FIELDS))
def test_a_field_that_the_operator_owns_is_refused_by_name(path: str) -> None:
    refused = refusal(azureML=below(path, "x"))
    assert (refused.field, refused.reason) == (f"spec.azureML.{path}", "OverrideForbidden")
    assert OWNED_FIELDS[path][1] in str(refused)


def test_no_job_of_a_graph_runs_as_somebody_that_runas_does_not_allow() -> None:
    node = {**NODE, "identity": {"type": "managed_identity", "client_id": "somebody"}}
    refused = refusal(azureML={"jobType": "Pipeline", "jobs": {"train": node}}, entrypoint=None)
    assert (refused.field, refused.reason) == ("spec.azureML.jobs.train.identity", "OverrideForbidden")
    assert "spec.runAs" in str(refused)


@pytest.mark.parametrize("path", ["environmentVariables", "inputs", "limits", "outputs", "tags"])
@pytest.mark.parametrize("value", [None, "x", []])
def test_what_ours_is_in_can_not_be_taken_away(path: str, value: Any) -> None:
    refused = refusal(azureML={path: value})
    assert (refused.field, refused.reason) == (f"spec.azureML.{path}", "OverrideForbidden")


@pytest.mark.parametrize(
    "path",
    ["tags.trainyard_token", "tags.Trainyard_x", "environmentVariables.TRAINYARD_NAME", "inputs.trainyard_code"],
)
def test_ours_can_neither_be_changed_nor_taken_away(path: str) -> None:
    for value in ("x", None):
        refused = refusal(azureML=below(path, value))
        assert (refused.field, refused.reason) == (f"spec.azureML.{path}", "OverrideForbidden")


def test_the_rest_is_merged_as_the_rfc_says() -> None:
    block = {
        "description": "weekly",
        "tags": {"stage": "trial"},
        "environmentVariables": {"OMP_NUM_THREADS": "4"},
        "resources": {"dockerArgs": "--ipc=host", "instanceType": None},
        "inputs": {"raw": {"mode": "Download"}},
        "somethingNew": [1],
    }
    sent = properties(inputs={"raw": {"uri": "data://raw"}}, azureML=block)
    assert sent["description"] == "weekly"
    assert sent["tags"]["stage"] == "trial"
    assert sent["tags"]["trainyard_name"] == "iris"
    assert sent["environmentVariables"]["OMP_NUM_THREADS"] == "4"
    assert sent["environmentVariables"]["TRAINYARD_NAME"] == "iris"
    assert sent["resources"] == {"instanceCount": 1, "dockerArgs": "--ipc=host"}
    assert sent["inputs"]["raw"]["mode"] == "Download"
    assert sent["inputs"]["raw"]["uri"] == "azureml://datastores/lake/paths/raw"
    assert sent["somethingNew"] == [1]


def test_what_azure_ml_cuts_from_tags_is_refused() -> None:
    assert refusal(azureML={"tags": {"a": "x" * 1001}}).field == "spec.azureML.tags.a"
    assert refusal(azureML={"tags": {f"t{number}": "" for number in range(60)}}).field == "spec.azureML.tags"


def test_a_block_that_is_nested_without_end_is_refused() -> None:
    deep: Any = "x"
    for _ in range(40):
        deep = [deep]
    assert refusal(azureML={"a": deep}).field == "spec.azureML"


def test_a_sweep_starts_the_entrypoint_as_its_trial() -> None:
    block = {**SWEEP, "limits": {"maxTotalTrials": 8}, "trial": {"environmentVariables": {"A": "b"}}}
    sent = properties(entrypoint={"args": ["$(params.lr)", "$(params.depth)"]}, params={"depth": "3"}, azureML=block)
    assert sent["jobType"] == "Sweep"
    assert sent["trial"]["command"] == 'python main.py "${{search_space.lr}}" 3'
    assert sent["trial"]["environmentVariables"]["A"] == "b"
    assert sent["trial"]["environmentVariables"]["TRAINYARD_NAME"] == "iris"
    assert sent["trial"]["codeId"].startswith(f"{WS}/codes/")
    assert sent["limits"] == {"jobLimitsType": "Sweep", "timeout": "PT600S", "maxTotalTrials": 8}
    assert not {"command", "codeId", "environmentId", "environmentVariables"} & set(sent)


@pytest.mark.parametrize("name", ["searchSpace", "objective", "samplingAlgorithm"])
def test_a_sweep_without_what_it_needs_is_refused(name: str) -> None:
    block = {key: value for key, value in SWEEP.items() if key != name}
    assert refusal(azureML=block).field == f"spec.azureML.{name}"


@pytest.mark.parametrize("value", ['a"b', "$(id)", "`id`", "a\\b", "a\nb"])
def test_a_trials_value_can_not_be_read_by_the_shell(value: str) -> None:
    refused = refusal(azureML={**SWEEP, "searchSpace": {"kind": ["choice", [["linear", value]]]}})
    assert refused.field == "spec.azureML.searchSpace.kind"


def test_what_a_sweep_has_in_its_trial_is_sent_there() -> None:
    assert refusal(azureML={**SWEEP, "resources": {"dockerArgs": "x"}}).field == "spec.azureML.resources"
    assert refusal(azureML={"trial": {"resources": {}}}).field == "spec.azureML.trial"


def test_a_pipeline_takes_what_the_operator_makes() -> None:
    block = {
        "jobType": "Pipeline",
        "jobs": {"train": {**NODE, "environmentId": "$(trainyard.environment)", "code": ["$(trainyard.code)/x"]}},
        "settings": {"continueOnStepFailure": False},
    }
    sent = request(
        compute={"class": "cluster"}, environment={"pip": ["a"]}, params={"day": "1"}, runAs="me", azureML=block
    )
    found = sent.body["properties"]
    assert sent.environment is not None
    assert found["jobs"]["train"] == {
        "type": "command",
        "componentId": "/c/1",
        "computeId": f"{WS}/computes/cpu-cluster",
        "environmentId": f"{WS}/environments/CliV2AnonymousEnvironment/versions/{sent.environment['version']}",
        "code": [f"{WS}/{sent.code_folder}/x"],
    }
    assert found["inputs"] == {"day": {"jobInputType": "literal", "value": "1"}}
    assert found["identity"] == {"identityType": "UserIdentity"}
    assert found["tags"]["trainyard_token"] == sent.submission_token
    assert sent.files == {"main.py": b"print('hello')"}
    assert not {"command", "limits", "environmentVariables"} & set(found)


def test_a_pipeline_that_uses_nothing_of_ours_uploads_nothing() -> None:
    block = {"jobType": "Pipeline", "jobs": {"a": {"type": "command", "componentId": "/c/1"}}}
    sent = request({}, code=None, compute=None, azureML=block)
    assert (sent.files, sent.environment) == ({}, None)
    assert {need.kind for need in sent.needs} == {"workspace"}


@pytest.mark.parametrize("name", ["code", "environment", "compute"])
def test_a_pipeline_can_not_use_what_the_spec_does_not_say(name: str) -> None:
    block = {"jobType": "Pipeline", "jobs": {"a": {"x": [f"$(trainyard.{name})"]}}}
    refused = refusal({}, code=None, compute=None, azureML=block)
    assert (refused.field, refused.reason) == ("spec.azureML.jobs.a.x[0]", "ReferenceUnknown")


def test_a_serverless_class_is_azure_mls_own_word_in_a_pipeline() -> None:
    sent = properties(azureML={"jobType": "Pipeline", "jobs": {"a": NODE}})
    assert sent["jobs"]["a"]["computeId"] == "serverless"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"azureML": {"jobType": "Pipeline"}}, "spec.azureML.jobs"),
        ({"azureML": {"jobs": {"a": {}}}}, "spec.azureML.jobs"),
        ({"azureML": {"jobType": "AutoML"}}, "spec.azureML.jobType"),
        ({"azureML": {"jobType": "Pipeline", "jobs": {}}, "entrypoint": {}}, "spec.entrypoint"),
        (
            {"azureML": {"jobType": "Pipeline", "jobs": {}}, "code": {"wheel": {"package": "a"}}},
            "spec.code",
        ),
        (
            {
                "azureML": {"jobType": "Pipeline", "jobs": {}},
                "params": {"raw": "1"},
                "inputs": {"raw": {"uri": "data://raw"}},
            },
            "spec.params[raw]",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(spec: dict[str, Any], field: str) -> None:
    assert refusal(**spec).field == field
