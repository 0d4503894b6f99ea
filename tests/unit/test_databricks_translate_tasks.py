"""Runs of several tasks, and of jobs that live on the platform."""

from typing import Any

import pytest

from tests.unit.translations import MLFLOW, NOTEBOOK, attempt, refusal, request, step, tasks
from trainyard.platforms.databricks.learned import with_variables
from trainyard.platforms.databricks.translate import wanted


def test_tasks_depend_on_each_other_as_the_spec_says() -> None:
    made = tasks(
        tasks=[
            step("prepare", timeoutSeconds=60),
            step("fit", dependsOn=["prepare"]),
            step("report", dependsOn=["prepare", "fit"], runIf="AllDone"),
        ]
    )
    assert "depends_on" not in made["prepare"]
    assert made["prepare"]["timeout_seconds"] == 60
    assert made["fit"]["depends_on"] == [{"task_key": "prepare"}]
    assert "run_if" not in made["fit"]
    assert made["report"]["depends_on"] == [{"task_key": "prepare"}, {"task_key": "fit"}]
    assert made["report"]["run_if"] == "ALL_DONE"


RUN_IFS = [
    ("AllSucceeded", "ALL_SUCCESS"),
    ("AllDone", "ALL_DONE"),
    ("NoneFailed", "NONE_FAILED"),
    ("AtLeastOneSucceeded", "AT_LEAST_ONE_SUCCESS"),
    ("AtLeastOneFailed", "AT_LEAST_ONE_FAILED"),
    ("AllFailed", "ALL_FAILED"),
]


@pytest.mark.parametrize(("ours", "theirs"), RUN_IFS)
def test_every_condition_has_its_word_on_the_platform(ours: str, theirs: str) -> None:
    assert tasks(tasks=[step("a"), step("b", dependsOn=["a"], runIf=ours)])["b"]["run_if"] == theirs


def test_no_task_is_started_again_by_the_platform() -> None:
    made = tasks(
        {"main.py": b"", "n.py": NOTEBOOK},
        tasks=[
            step("file"),
            step("notebook", entrypoint={"notebook": "n.py"}),
            step("job", jobRef={"id": "7"}),
            step("sql", databricks={"sql_task": {"warehouse_id": "w"}}),
            step("loop", databricks={"for_each_task": {"inputs": "[1]", "task": {"task_key": "x", "sql_task": {}}}}),
            step("check", databricks={"condition_task": {"left": "1", "op": "EQUAL_TO", "right": "1"}}),
        ],
    )
    for name in ("file", "notebook", "job", "sql", "loop"):
        assert (made[name]["max_retries"], made[name]["retry_on_timeout"]) == (0, False)
    assert all(made[name]["disable_auto_optimization"] is True for name in ("file", "notebook"))
    assert "disable_auto_optimization" not in made["job"]
    assert made["loop"]["for_each_task"]["task"]["max_retries"] == 0
    assert "max_retries" not in made["check"]


def test_each_task_knows_its_name_and_has_its_own_compute_and_software() -> None:
    made = request(
        workspace={"runtimes": {"sk": {"pip": ["scikit-learn==1.9.1"]}}},
        environment={"pip": ["pandas"]},
        tasks=[
            step("prepare"),
            step("fit", compute={"class": "cluster"}, environment={"runtime": "sk"}),
            step("look", environment={"pip": ["pandas"]}),
            step("shared", compute={"class": "shared"}),
        ],
    ).body
    prepare, fit, look, shared = made["tasks"]
    assert fit["new_cluster"]["spark_env_vars"]["TRAINYARD_TASK"] == "fit"
    assert fit["libraries"] == [{"pypi": {"package": "scikit-learn==1.9.1"}}]
    assert shared["spark_python_task"]["parameters"][6:8] == ["--set", "TRAINYARD_TASK=shared"]
    assert prepare["environment_key"] == look["environment_key"] == "trainyard"
    assert [entry["spec"]["dependencies"] for entry in made["environments"]] == [["pandas"]]
    by_key = {each["environment_variables_key"]: each["spec"]["variables"] for each in made["environment_variables"]}
    assert by_key[prepare["environment_variables_key"]]["TRAINYARD_TASK"] == "prepare"
    assert by_key[look["environment_variables_key"]]["TRAINYARD_TASK"] == "look"


def test_a_run_of_one_task_is_not_told_a_name() -> None:
    assert "TRAINYARD_TASK" not in str(request().body)


def test_more_serverless_tasks_than_sets_of_variables_are_told_their_names_with_the_code() -> None:
    many = [step(f"fit-{index}", entrypoint={"args": ["x"]}) for index in range(11)]
    asked = request({"main.py": b"", "n.py": NOTEBOOK}, tasks=[*many, step("look", entrypoint={"notebook": "n.py"})])
    assert len(asked.body["environment_variables"]) == 1
    assert "TRAINYARD_TASK" not in asked.body["environment_variables"][0]["spec"]["variables"]
    last, look = asked.body["tasks"][10], asked.body["tasks"][11]
    assert last["spark_python_task"]["parameters"][:2] == ["--set", "TRAINYARD_TASK=fit-10"]
    assert look["notebook_task"]["base_parameters"] == {"TRAINYARD_TASK": "look"}
    # What submit learns goes into the set, and is not handed over twice.
    told = with_variables(asked.body, MLFLOW)
    assert told["environment_variables"][0]["spec"]["variables"]["MLFLOW_RUN_ID"] == "r1"
    assert "MLFLOW_RUN_ID" not in str(told["tasks"])


def test_more_sets_of_packages_than_the_platform_takes_are_refused_naming_the_task() -> None:
    many = [step(f"t{index}", environment={"pip": [f"p=={index}"]}) for index in range(11)]
    error = refusal(tasks=many)
    assert (error.field, error.reason) == ("spec.tasks[t10].environment", "TooManyEnvironments")
    assert len(request(tasks=many[:10]).body["environments"]) == 10


def test_a_later_attempt_leaves_out_what_is_done() -> None:
    graph = [
        step("a"),
        step("b"),
        step("c", dependsOn=["a", "b"]),
        step("d", dependsOn=["a", "b"], runIf="AtLeastOneSucceeded"),
        step("e", dependsOn=["a"], runIf="AllDone"),
    ]
    made = tasks(tasks=graph, done=["a"])
    assert set(made) == {"b", "c", "d", "e"}
    assert made["c"]["depends_on"] == [{"task_key": "b"}]
    # a has succeeded, so that d has only to wait for b.
    assert (made["d"]["depends_on"], made["d"]["run_if"]) == ([{"task_key": "b"}], "ALL_DONE")
    assert not {"depends_on", "run_if"} & set(made["e"])
    assert wanted(attempt(tasks=graph, done=["a"])).tasks == ("b", "c", "d", "e")
    assert wanted(attempt()).tasks == ()


REFUSED: list[tuple[list[dict[str, Any]], str, str]] = [
    ([step("a", dependsOn=["z"])], "spec.tasks[a].dependsOn", "'z' is not a task of the run, which has a"),
    ([step("a", dependsOn=["a"])], "spec.tasks[a].dependsOn", "a -> a;"),
    (
        [step("x"), step("c", dependsOn=["a", "x"]), step("a", dependsOn=["b"]), step("b", dependsOn=["c"])],
        "spec.tasks[a].dependsOn",
        "a -> b -> c -> a;",
    ),
    (
        [step("d", dependsOn=["a"]), step("a", dependsOn=["b"]), step("b", dependsOn=["a"])],
        "spec.tasks[a].dependsOn",
        "a -> b -> a;",
    ),
    ([step("a", databricks={"sql_task": {}, "dbt_task": {}})], "spec.tasks[a].databricks", "dbt_task, sql_task"),
    ([step("a", databricks={"libraries": []})], "spec.tasks[a].databricks", "has none"),
    ([step("a", entrypoint={"pythonFile": "no.py"})], "spec.tasks[a].entrypoint.pythonFile", "main.py"),
    ([step("a", entrypoint={"args": ["$(params.x)"]})], "spec.tasks[a].entrypoint.args[0]", "none"),
    ([step("a", compute={"class": "huge"})], "spec.tasks[a].compute.class", "cluster, shared, small"),
    ([step("a", environment={"runtime": "x"})], "spec.tasks[a].environment.runtime", "none"),
]


@pytest.mark.parametrize(("graph", "field", "words"), REFUSED)
def test_a_graph_that_can_not_run_is_refused_naming_where(graph: Any, field: str, words: str) -> None:
    error = refusal(tasks=graph)
    assert error.field == field
    assert words in error.message


def test_a_cycle_is_refused_also_when_an_earlier_attempt_has_done_part_of_it() -> None:
    assert "a -> b -> a" in refusal(tasks=[step("a", dependsOn=["b"]), step("b", dependsOn=["a"])], done=["a"]).message


# Jobs that live on the platform.

JOB_ONLY: dict[str, Any] = {"code": None, "compute": None}


def test_a_job_runs_inside_a_run_of_ours() -> None:
    asked = request(
        {}, jobRef={"id": "9007199254740993", "parameters": {"day": "$(params.day)"}}, params={"day": "1"}, **JOB_ONLY
    )
    [task] = asked.body["tasks"]
    assert task["task_key"] == "train"
    assert task["run_job_task"] == {"job_id": 9007199254740993, "job_parameters": {"day": "1"}}
    assert asked.body["idempotency_token"] == asked.submission_token
    assert (asked.files, asked.experiment, asked.jobs) == ({}, None, {})


def test_the_id_of_a_named_job_is_looked_up_by_submit() -> None:
    asked = request({}, jobRef={"name": "nightly"}, **JOB_ONLY)
    assert asked.jobs == {"train": "nightly"}
    assert asked.body["tasks"][0]["run_job_task"] == {}
    both = request(tasks=[step("a"), step("b", jobRef={"name": "nightly"}, dependsOn=["a"])])
    assert both.jobs == {"b": "nightly"}


def test_a_job_that_is_told_of_the_mlflow_run_has_one() -> None:
    parameters = {"run": "$(mlflow.runId)", "both": "$(mlflow.experimentId)/$(mlflow.runId)", "n": "$(run.name)"}
    asked = request({}, jobRef={"id": "7", "parameters": parameters}, **JOB_ONLY)
    assert asked.experiment == "/Users/app-id/team-a"
    sent = with_variables(asked.body, MLFLOW)["tasks"][0]["run_job_task"]["job_parameters"]
    assert sent == {"run": "r1", "both": "e1/r1", "n": "iris"}


def test_what_a_parameter_says_is_never_taken_for_a_reference() -> None:
    parameters = {
        "a": "$(params.sly)",
        "b": "$$(mlflow.runId)",
        "c": "$$(params.sly)",
        "d": "$(params.slier)",
        "e": "$(mlflow.runId)$$(x)",
    }
    sly = {"sly": "$(mlflow.runId)", "slier": "$$(mlflow.runId)"}
    asked = request({}, jobRef={"id": "7", "parameters": parameters}, params=sly, **JOB_ONLY)
    assert with_variables(asked.body, MLFLOW)["tasks"][0]["run_job_task"]["job_parameters"] == {
        "a": "$(mlflow.runId)",
        "b": "$(mlflow.runId)",
        "c": "$(params.sly)",
        "d": "$$(mlflow.runId)",
        "e": "r1$(x)",
    }


def test_a_model_of_a_job_that_is_not_told_of_the_mlflow_run_could_not_be_found() -> None:
    error = refusal({}, jobRef={"id": "7"}, model={"name": "m"}, **JOB_ONLY)
    assert error.field == "spec.model"
    assert "$(mlflow.runId)" in error.message


def test_an_unknown_reference_in_a_job_parameter_is_refused() -> None:
    error = refusal({}, jobRef={"id": "7", "parameters": {"x": "$(mlflow.run)"}}, **JOB_ONLY)
    assert (error.field, error.reason) == ("spec.jobRef.parameters[x]", "ReferenceUnknown")
    assert "experimentId, runId" in error.message


# Tasks that only the platform has.


def test_a_task_of_the_platform_that_runs_code_gets_the_compute_of_the_run() -> None:
    jar = {"spark_jar_task": {"main_class_name": "acme.Train"}, "libraries": [{"jar": "/Volumes/a/b/c/x.jar"}]}
    made = tasks(compute={"class": "cluster"}, tasks=[step("jar", databricks=jar)])["jar"]
    assert made["new_cluster"]["custom_tags"]["trainyard-name"] == "iris"
    assert made["new_cluster"]["spark_env_vars"]["MLFLOW_RUN_ID"] == "r1"
    assert made["libraries"] == jar["libraries"]


def test_a_task_of_the_platform_with_a_cluster_of_its_own_is_known_as_ours() -> None:
    own = {"spark_jar_task": {}, "new_cluster": {"spark_version": "v", "num_workers": 1, "custom_tags": {"floor": "3"}}}
    made = tasks(compute=None, tasks=[step("jar", databricks=own)])["jar"]["new_cluster"]
    assert (made["spark_version"], made["custom_tags"]["floor"]) == ("v", "3")
    assert made["custom_tags"]["trainyard-uid"]
    assert made["spark_env_vars"]["TRAINYARD_TASK"] == "jar"


def test_a_run_in_which_no_code_of_ours_runs_has_no_mlflow_run() -> None:
    sql = step("sql", databricks={"sql_task": {"warehouse_id": "w"}})
    assert request({}, tasks=[sql, step("job", jobRef={"id": "7"})], **JOB_ONLY).experiment is None
    assert request(tasks=[sql, step("fit")]).experiment is not None
