"""From portable terms to the request of jobs/runs/submit: what is sent, and what is refused by name."""

from dataclasses import replace
from typing import Any

import pytest
from databricks.sdk.service import compute, jobs

from tests.wire.jobs import job
from trainyard.core.errors import TranslationError
from trainyard.platforms.databricks.overrides import OWNED
from trainyard.platforms.databricks.platform import Databricks
from trainyard.platforms.databricks.translate import translate, with_variables
from trainyard.platforms.databricks.translate import wanted as what_is_wanted
from trainyard.platforms.merging import merge_patch

MULTI_NODE = {
    "jobCluster": {
        "nodeTypeId": "i3.xlarge",
        "numWorkers": 2,
        "dataSecurityMode": "USER_ISOLATION",
        "policyId": "policy-1",
    }
}


def body(**fields: Any) -> dict[str, Any]:
    return dict(translate(job(**fields)).body)


def task(**fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = body(**fields)["tasks"][0]
    return found


def refusal(**fields: Any) -> TranslationError:
    with pytest.raises(TranslationError) as raised:
        translate(job(**fields))
    return raised.value


def test_the_platform_never_retries_by_itself() -> None:
    sent = task()
    assert (sent["max_retries"], sent["retry_on_timeout"], sent["disable_auto_optimization"]) == (0, False, True)


def test_the_submission_carries_its_token_its_timeout_and_a_label_of_its_own() -> None:
    first, second = translate(job()), translate(job(attempt=2))
    assert first.body["idempotency_token"] == first.submission_token == "ty-6a5ee04b-6d47-44e5-8b2f-4fcd20e6b5d0-1"
    assert first.body["timeout_seconds"] == 600
    assert first.body["run_name"] == first.label
    assert first.label.startswith("team-a/iris attempt 1 [")
    assert first.label != second.label
    assert first.label != translate(job(uid="another")).label
    assert Databricks().label("team-a", "iris", 1, first.submission_token) == first.label


def test_code_lies_under_its_digest_as_a_workspace_file() -> None:
    request = translate(job())
    assert request.code_folder == Databricks().code_folder("app-id", "", job().code_digest)
    assert request.code_folder.startswith("/Users/app-id/.trainyard/code/")
    assert request.code_folder.endswith(job().code_digest.removeprefix("sha256:"))
    assert request.body["tasks"][0]["spark_python_task"] == {
        "python_file": f"/Workspace{request.code_folder}/main.py",
        "parameters": [],
        "source": "WORKSPACE",
    }
    assert translate(job(source="other")).code_folder != request.code_folder


def test_serverless_takes_packages_and_variables_through_environments() -> None:
    sent = body(
        workspace={"runtimes": {"sk": {"pip": ["mlflow==2.22.5"]}}},
        environment={"runtime": "sk", "pip": ["scikit-learn==1.9.1"]},
    )
    assert sent["environments"] == [
        {
            "environment_key": "trainyard",
            "spec": {"environment_version": "5", "dependencies": ["mlflow==2.22.5", "scikit-learn==1.9.1"]},
        }
    ]
    [variables] = sent["environment_variables"]
    assert variables["spec"]["variables"] == {
        "TRAINYARD_NAMESPACE": "team-a",
        "TRAINYARD_NAME": "iris",
        "TRAINYARD_ATTEMPT": "1",
    }
    assert sent["tasks"][0]["environment_variables_key"] == variables["environment_variables_key"]
    assert "new_cluster" not in sent["tasks"][0]


def test_a_job_cluster_without_workers_is_a_single_node() -> None:
    cluster = task(compute={"class": "cluster"})["new_cluster"]
    assert (cluster["is_single_node"], cluster["kind"]) == (True, "CLASSIC_PREVIEW")
    assert "num_workers" not in cluster
    assert cluster["data_security_mode"] == "SINGLE_USER"
    assert cluster["spark_version"] == "16.4.x-scala2.13"


def test_a_job_cluster_with_workers_takes_its_version_from_the_runtime() -> None:
    sent = task(
        workspace={"computeClasses": {"big": MULTI_NODE}, "runtimes": {"ml": {"sparkVersion": "16.4.x-cpu-ml"}}},
        compute={"class": "big"},
        environment={"runtime": "ml", "pip": ["lightgbm"]},
        tags={"example.com/team": "a&b", "owner": "me"},
    )
    cluster = sent["new_cluster"]
    assert (cluster["num_workers"], cluster["spark_version"], cluster["policy_id"]) == (2, "16.4.x-cpu-ml", "policy-1")
    assert "kind" not in cluster
    assert sent["libraries"] == [{"pypi": {"package": "lightgbm"}}]
    assert cluster["custom_tags"] == {
        "example.com_team": "a_b",
        "owner": "me",
        "trainyard-namespace": "team-a",
        "trainyard-name": "iris",
        "trainyard-uid": "6a5ee04b-6d47-44e5-8b2f-4fcd20e6b5d0",
        "trainyard-attempt": "1",
    }


def test_the_mlflow_run_carries_owner_labels_and_ours() -> None:
    tags = translate(job(tags={"example.com/team": "wine"})).tags
    assert tags["example.com/team"] == "wine"
    assert tags["trainyard.dev/submission-token"] == job().submission_token
    assert tags["trainyard.dev/uid"] == job().uid


@pytest.mark.parametrize("where", ["small", "cluster"])
def test_what_submit_learns_reaches_the_code_on_every_compute(where: str) -> None:
    before = translate(job(compute={"class": where})).body
    after = with_variables(before, {"MLFLOW_RUN_ID": "r1"})
    variables = (
        after["environment_variables"][0]["spec"]["variables"]
        if where == "small"
        else after["tasks"][0]["new_cluster"]["spark_env_vars"]
    )
    assert variables["MLFLOW_RUN_ID"] == "r1"
    assert variables["TRAINYARD_NAME"] == "iris"
    assert "MLFLOW_RUN_ID" not in str(before)


def test_the_sdk_understands_every_field_that_is_sent() -> None:
    sent = body(
        workspace={
            "computeClasses": {"big": MULTI_NODE},
            "runtimes": {"ml": {"sparkVersion": "v"}},
            "defaultPermissions": [{"group": "users", "level": "CAN_VIEW"}],
        },
        compute={"class": "big"},
        environment={"runtime": "ml", "pip": ["x"]},
        entrypoint={"args": ["1"]},
    )
    read = jobs.SubmitTask.from_dict(sent["tasks"][0])
    assert read.as_dict() == sent["tasks"][0]
    [access] = sent["access_control_list"]
    assert jobs.JobAccessControlRequest.from_dict(access).as_dict() == access
    serverless = body()
    kinds: list[tuple[str, Any]] = [
        ("environments", jobs.JobEnvironment),
        ("environment_variables", jobs.JobEnvironmentVariables),
    ]
    for entry, kind in kinds:
        assert kind.from_dict(serverless[entry][0]).as_dict() == {
            **serverless[entry][0],
            **({"spec": {"environment_version": "5"}} if entry == "environments" else {}),
        }
    single = task(compute={"class": "cluster"})["new_cluster"]
    assert compute.ClusterSpec.from_dict(single).as_dict() == single


PERMISSIONS = [
    ({"group": "ml"}, {"group_name": "ml"}),
    ({"user": "me@example.com"}, {"user_name": "me@example.com"}),
    ({"servicePrincipal": "sp"}, {"service_principal_name": "sp"}),
]


@pytest.mark.parametrize(("grant", "sent"), PERMISSIONS)
def test_default_permissions_reach_the_run(grant: dict[str, str], sent: dict[str, str]) -> None:
    access = body(workspace={"defaultPermissions": [{**grant, "level": "CAN_MANAGE_RUN"}]})["access_control_list"]
    assert access == [{**sent, "permission_level": "CAN_MANAGE_RUN"}]


ARGUMENTS = [
    ("--depth=$(params.depth)", "--depth=4"),
    ("$(params.depth)$(params.name)", "4$(params.depth)"),
    ("$$(params.depth)", "$(params.depth)"),
    ("$(HOME)", "$(HOME)"),
    ("$5", "$5"),
]


@pytest.mark.parametrize(("arg", "sent"), ARGUMENTS)
def test_parameters_are_put_into_arguments_once(arg: str, sent: str) -> None:
    params = {"depth": "4", "name": "$(params.depth)"}
    assert task(entrypoint={"args": [arg]}, params=params)["spark_python_task"]["parameters"] == [sent]


def test_the_model_has_its_full_name_in_the_code_and_in_what_is_wanted() -> None:
    wanted = what_is_wanted(job(model={"name": "iris", "alias": "champion", "tags": {"a": "b"}})).model
    assert wanted is not None
    assert (wanted.full_name, wanted.alias) == ("main.ml.iris", "champion")
    variables = body(model={"name": "iris"})["environment_variables"][0]["spec"]["variables"]
    assert variables["TRAINYARD_MODEL_NAME"] == "main.ml.iris"
    assert variables["MLFLOW_REGISTRY_URI"] == "databricks-uc"
    assert what_is_wanted(job()).model is None


EXPERIMENTS = [
    ({}, {}, "/Users/app-id/team-a"),
    ({"experiment": "wine"}, {}, "/Users/app-id/wine"),
    ({"experiment": "wine"}, {"experimentRoot": "/Shared/ml"}, "/Shared/ml/wine"),
    ({"experiment": "wine"}, {"experimentRoot": "/Workspace/Shared/ml"}, "/Shared/ml/wine"),
]


@pytest.mark.parametrize(("spec", "workspace", "path"), EXPERIMENTS)
def test_an_experiment_lies_below_the_root(spec: Any, workspace: Any, path: str) -> None:
    assert translate(job(workspace=workspace, **spec)).experiment == path


REFUSED: list[tuple[dict[str, Any], str, str, str]] = [
    ({"compute": {"class": "huge"}}, "spec.compute.class", "ComputeClassUnknown", "cluster, small"),
    ({"environment": {"runtime": "x"}}, "spec.environment.runtime", "RuntimeUnknown", "none"),
    ({"model": {"name": "m"}, "workspace": {"modelPrefix": None}}, "spec.model", "ModelPrefixMissing", "modelPrefix"),
    ({"entrypoint": {"pythonFile": "train.py"}}, "spec.entrypoint.pythonFile", "EntrypointMissing", "main.py"),
    ({"entrypoint": {"args": ["a", "$(params.x)"]}}, "spec.entrypoint.args[1]", "ParameterUnknown", "none"),
    (
        {"workspace": {"computeClasses": {"big": MULTI_NODE}}, "compute": {"class": "big"}},
        "spec.environment.runtime",
        "SparkVersionMissing",
        "sparkVersion",
    ),
    ({"tags": {"trainyard.dev/name": "x"}}, "spec.tags", "InvalidSpec", "operator's"),
    (
        {"tags": {"a/b": "1", "a_b": "2"}, "compute": {"class": "cluster"}},
        "spec.tags",
        "InvalidSpec",
        "already there",
    ),
]


@pytest.mark.parametrize(("fields", "field", "reason", "words"), REFUSED)
def test_what_has_no_meaning_is_refused_naming_the_field_and_what_there_is(
    fields: dict[str, Any], field: str, reason: str, words: str
) -> None:
    error = refusal(**fields)
    assert (error.field, error.reason) == (field, reason)
    assert words in error.message


# RFC 7396, appendix A.
MERGES: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "result"), MERGES)
def test_the_merge_is_that_of_the_rfc(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result


def test_the_databricks_block_merges_into_the_request_and_its_task() -> None:
    sent = body(
        compute={"class": "cluster"},
        databricks={
            "budget_policy_id": "b-1",
            "field_of_tomorrow": {"x": 1},
            "task": {"new_cluster": {"spark_conf": {"spark.x": "1"}, "custom_tags": {"floor": "3"}}},
        },
    )
    assert (sent["budget_policy_id"], sent["field_of_tomorrow"]) == ("b-1", {"x": 1})
    cluster = sent["tasks"][0]["new_cluster"]
    assert cluster["spark_conf"] == {"spark.x": "1"}
    assert (cluster["custom_tags"]["floor"], cluster["custom_tags"]["trainyard-name"]) == ("3", "iris")
    assert sent["tasks"][0]["max_retries"] == 0
    assert "task" not in sent


def nested(path: str, value: Any) -> dict[str, Any]:
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)


@pytest.mark.parametrize("path", sorted(Databricks().forbidden_overrides()))
@pytest.mark.parametrize("value", [None, "x"])
def test_what_the_operator_owns_can_not_be_overridden(path: str, value: Any) -> None:
    error = refusal(databricks=nested(path, value))
    assert (error.field, error.reason) == (f"spec.databricks.{path}", "OverrideForbidden")


OURS: list[tuple[str, Any]] = [
    ("task", None),
    ("task", "x"),
    ("task.new_cluster", None),
    ("task.new_cluster.custom_tags", None),
    ("task.new_cluster.spark_env_vars", []),
    ("task.new_cluster.spark_env_vars.MLFLOW_RUN_ID", "x"),
    ("task.new_cluster.spark_env_vars.TRAINYARD_NAME", None),
    ("task.new_cluster.custom_tags.trainyard-uid", "x"),
]


@pytest.mark.parametrize(("path", "value"), OURS)
def test_our_tags_and_variables_can_not_be_taken_away(path: str, value: Any) -> None:
    assert refusal(compute={"class": "cluster"}, databricks=nested(path, value)).reason == "OverrideForbidden"


def test_everything_that_makes_a_run_exactly_once_is_owned() -> None:
    assert {"idempotency_token", "run_name", "run_as", "timeout_seconds", "tasks", "task.max_retries"} <= OWNED


def test_translation_leaves_the_job_as_it_was() -> None:
    one = job(databricks={"queue": {"enabled": False}}, compute={"class": "cluster"})
    assert translate(one) == translate(replace(one))
