"""From portable terms to the body of an Azure ML job: what is sent, and what is refused by name."""

import re
import uuid
from typing import Any

import pytest
import yaml

from tests.unit.azureml_jobs import UID, WS, attempt, properties, refusal, request
from trainyard.platforms.azureml.platform import AzureML
from trainyard.platforms.azureml.software import pinned, unpinned
from trainyard.platforms.azureml.translate import wanted
from trainyard.platforms.base import RunsAs

# jobs/{name} in the OpenAPI document of Microsoft.MachineLearningServices.
JOB_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,254}")
RUNTIMES = {
    "sklearn": {"pip": ["scikit-learn==1.9.1", "azureml-mlflow"]},
    "conda": {"pip": ["a==1"], "azureML": {"image": "acme.azurecr.io/base:1", "conda": ["libgomp=14"]}},
    "image": {"azureML": {"image": "acme.azurecr.io/full:1"}},
    "team": {"pip": ["of-databricks"], "azureML": {"environment": "azureml:team-env:7"}},
    "newest": {"azureML": {"environment": "team-env@latest"}},
    "registry": {"azureML": {"environment": "azureml://registries/azureml/environments/sklearn/versions/4"}},
    "curated": {"azureML": {"environment": "AzureML-sklearn-1.0:3"}},
}


def software(name: str, **fields: Any) -> Any:
    return request(workspace={"runtimes": RUNTIMES}, environment={"runtime": name}, **fields)


def conda(found: Any) -> Any:
    return yaml.safe_load(found.environment["properties"]["condaFile"])


def test_the_token_is_the_name_of_the_job_so_that_a_second_put_meets_the_first() -> None:
    sent = request()
    assert sent.label == sent.submission_token == f"ty-{UID}-1"
    assert AzureML().label("team-a", "iris", 1, sent.submission_token) == sent.label
    assert JOB_NAME.fullmatch(sent.label)
    assert sent.body["properties"]["tags"]["trainyard_token"] == sent.label


def test_the_job_says_whose_it_is_and_whose_else_the_run_names() -> None:
    facts = {"cluster": "prod", "commit": "c0ffee", "requested_by": "ada@example.com"}
    sent = properties(facts=facts, tags={"cost": "42"}, experiment="irises")
    assert (sent["displayName"], sent["experimentName"]) == ("team-a/iris", "irises")
    assert sent["tags"] == {
        "cost": "42",
        "trainyard_cluster": "prod",
        "trainyard_namespace": "team-a",
        "trainyard_name": "iris",
        "trainyard_uid": UID,
        "trainyard_attempt": "1",
        "trainyard_token": f"ty-{UID}-1",
        "trainyard_commit": "c0ffee",
        "trainyard_requested_by": "ada@example.com",
    }
    assert properties()["experimentName"] == "team-a"


def test_a_long_name_is_cut_to_what_azure_ml_shows() -> None:
    assert len(properties(facts={"name": "n" * 253, "namespace": "s" * 63})["displayName"]) == 256


def test_a_tag_that_looks_like_ours_is_refused() -> None:
    assert refusal(tags={"Trainyard_token": "mine"}).field == "spec.tags"


def test_the_attempts_timeout_is_the_platforms_own() -> None:
    assert properties()["limits"] == {"jobLimitsType": "Command", "timeout": "PT600S"}


def test_the_code_is_an_asset_that_is_named_after_its_content() -> None:
    sent = request()
    assert sent.body["properties"]["codeId"] == f"{WS}/{sent.code_folder}"
    kind, name, _, version = sent.code_folder.split("/")
    assert (kind, str(uuid.UUID(name)), version) == ("codes", name, "1")
    assert sent.code_folder == AzureML().code_folder("app-id", "", attempt().code_digest)
    assert sent.files == {"main.py": b"print('hello')"}
    assert sent.code_folder != request(files={"main.py": b"print('other')"}).code_folder
    assert sent.code_folder != AzureML().code_folder("another", "", attempt().code_digest)


def test_packages_become_an_environment_that_is_named_after_them() -> None:
    sent = software("sklearn")
    again = request(
        workspace={"runtimes": RUNTIMES}, environment={"runtime": "sklearn", "pip": ["scikit-learn==1.9.1"]}
    )
    assert sent.environment["name"] == "CliV2AnonymousEnvironment"
    assert sent.environment["properties"]["isAnonymous"] is True
    assert conda(sent)["dependencies"] == ["python=3.11", "pip", {"pip": ["scikit-learn==1.9.1", "azureml-mlflow"]}]
    version = sent.environment["version"]
    assert sent.body["properties"]["environmentId"] == f"{WS}/environments/CliV2AnonymousEnvironment/versions/{version}"
    assert software("sklearn").environment == sent.environment
    assert again.environment is not None
    assert again.environment["version"] != version


def test_packages_of_the_run_come_after_those_of_the_runtime() -> None:
    sent = request(workspace={"runtimes": RUNTIMES}, environment={"runtime": "conda", "pip": ["b: not a map", "c #1"]})
    assert conda(sent)["dependencies"] == [
        "python=3.11",
        "libgomp=14",
        "pip",
        {"pip": ["a==1", "b: not a map", "c #1"]},
    ]
    assert sent.environment is not None
    assert sent.environment["properties"]["image"] == "acme.azurecr.io/base:1"


def test_an_image_alone_is_used_as_it_is() -> None:
    sent = software("image")
    assert "condaFile" not in sent.environment["properties"]


@pytest.mark.parametrize(
    ("runtime", "found"),
    [
        ("team", f"{WS}/environments/team-env/versions/7"),
        ("newest", f"{WS}/environments/team-env/labels/latest"),
        ("registry", "azureml://registries/azureml/environments/sklearn/versions/4"),
        ("curated", "azureml:AzureML-sklearn-1.0:3"),
    ],
)
def test_a_named_environment_is_not_made_again(runtime: str, found: str) -> None:
    sent = software(runtime)
    assert sent.environment is None
    assert sent.body["properties"]["environmentId"] == found


def test_nothing_is_added_to_an_environment_that_is_used_as_it_is() -> None:
    refused = refusal(workspace={"runtimes": RUNTIMES}, environment={"runtime": "team", "pip": ["b"]})
    assert (refused.field, refused.reason) == ("spec.environment.pip", "InvalidSpec")


def test_an_unknown_runtime_is_refused_with_those_that_there_are() -> None:
    refused = refusal(workspace={"runtimes": RUNTIMES}, environment={"runtime": "torch"})
    assert (refused.field, refused.reason) == ("spec.environment.runtime", "RuntimeUnknown")
    assert "sklearn" in str(refused)


def test_the_code_is_told_which_attempt_it_is_and_what_to_call_the_model() -> None:
    sent = properties(model={"name": "iris", "alias": "challenger"})
    assert sent["environmentVariables"] == {
        "TRAINYARD_NAMESPACE": "team-a",
        "TRAINYARD_NAME": "iris",
        "TRAINYARD_ATTEMPT": "1",
        "TRAINYARD_MODEL_NAME": "iris",
    }
    assert "TRAINYARD_MODEL_NAME" not in properties()["environmentVariables"]


def test_the_model_is_wanted_with_its_alias_and_tags() -> None:
    found = wanted(attempt(model={"name": "iris", "alias": "challenger", "tags": {"stage": "trial"}})).model
    assert found is not None
    assert (found.full_name, found.alias) == ("iris", "challenger")
    assert found.tags == {
        "stage": "trial",
        "trainyard_namespace": "team-a",
        "trainyard_name": "iris",
        "trainyard_uid": UID,
    }


@pytest.mark.parametrize(
    ("model", "field"),
    [
        ({"name": "iris", "tags": {"alias": "champion"}}, "spec.model.tags"),
        ({"name": "iris", "tags": {"trainyard_uid": "x"}}, "spec.model.tags"),
        ({"name": "_iris"}, "spec.model.name"),
    ],
)
def test_what_azure_mls_registry_can_not_hold_is_refused(model: dict[str, Any], field: str) -> None:
    assert refusal(model=model).field == field


def test_the_code_has_a_token_of_its_run_unless_an_identity_is_named() -> None:
    assert "identity" not in properties()
    sent = request(runAs="trainer")
    assert sent.body["properties"]["identity"] == {
        "identityType": "Managed",
        "clientId": "11111111-2222-3333-4444-555555555555",
    }
    assert sent.runs_as == RunsAs("managed_identity", "11111111-2222-3333-4444-555555555555")
    sent = request(runAs="me")
    assert sent.body["properties"]["identity"] == {"identityType": "UserIdentity"}
    assert sent.runs_as == RunsAs("submitted_user", "app-id")


def test_a_workspace_that_requires_another_identity_takes_no_submitter() -> None:
    identities = {"trainer": {"managedIdentity": "11111111-2222-3333-4444-555555555555"}, "me": {"submittedUser": True}}
    workspace = {"runAs": {"identities": identities, "required": True}}
    assert refusal(workspace=workspace).reason == refusal(workspace=workspace, runAs="me").reason == "RunAsRequired"
    assert request(workspace=workspace, runAs="trainer").runs_as is not None


def test_the_block_of_the_other_platform_is_passed_over() -> None:
    assert properties(databricks={"tasks": "nonsense"}) == properties()


def test_what_is_wanted_of_a_run_does_not_depend_on_what_its_workspace_has_become() -> None:
    later = attempt(
        workspace={"computeClasses": {}, "logDestination": {"volume": "/Volumes/a/b/c"}},
        outputs={"report": {"uri": "abfss://out@acme.dfs.core.windows.net/$(run.name)"}},
    )
    assert wanted(later).outputs == {"report": ("abfss://out@acme.dfs.core.windows.net/iris", None)}


def test_the_newest_environment_is_sent_by_its_version_once_that_is_known() -> None:
    body = software("newest").body
    assert unpinned(body) == "team-env"
    assert pinned(body, "team-env", "9")["properties"]["environmentId"] == f"{WS}/environments/team-env/versions/9"
    graph = {"jobType": "Pipeline", "jobs": {"a": {"use": ["$(trainyard.environment)", 1]}}}
    assert pinned(software("newest", azureML=graph).body, "team-env", "9")["properties"]["jobs"] == {
        "a": {"use": [f"{WS}/environments/team-env/versions/9", 1]}
    }


def test_a_version_that_is_named_stays() -> None:
    labelled = "azureml://registries/azureml/environments/sklearn/labels/latest"
    for body in (software("team").body, software("registry").body, request().body, {"a": labelled}):
        assert unpinned(body) is None
        assert pinned(body, "team-env", "9") == body
