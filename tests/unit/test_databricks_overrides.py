"""spec.databricks and tasks[].databricks: what they add to which task, and what they are refused."""

from typing import Any

import pytest

from tests.unit.translations import refusal, request, step, tasks
from trainyard.platforms.databricks.overrides import OWNED

NOTIFY = {"email_notifications": {"on_failure": ["ml@example.com"]}}


def test_the_run_s_block_merges_into_every_task_and_the_task_s_own_after_it() -> None:
    made = tasks(
        compute={"class": "cluster"},
        databricks={"task": {**NOTIFY, "new_cluster": {"spark_conf": {"a": "1", "b": "1"}}}},
        tasks=[
            step("fit", entrypoint={}, databricks={"new_cluster": {"spark_conf": {"b": "2"}}, "description": "fits"}),
            step("score", entrypoint={}, dependsOn=["fit"], databricks={"email_notifications": None}),
        ],
    )
    assert made["fit"]["new_cluster"]["spark_conf"] == {"a": "1", "b": "2"}
    assert made["score"]["new_cluster"]["spark_conf"] == {"a": "1", "b": "1"}
    assert made["fit"]["description"] == "fits"
    assert made["fit"]["email_notifications"] == NOTIFY["email_notifications"]
    assert "email_notifications" not in made["score"]
    assert made["fit"]["new_cluster"]["custom_tags"]["trainyard-name"] == "iris"


def test_a_job_takes_what_concerns_every_task_but_no_compute() -> None:
    made = tasks(
        compute={"class": "cluster"},
        databricks={"task": {**NOTIFY, "libraries": [{"pypi": {"package": "x"}}], "new_cluster": {"spark_conf": {}}}},
        tasks=[step("fit"), step("publish", jobRef={"id": "7"}, dependsOn=["fit"])],
    )
    assert made["publish"]["email_notifications"] == NOTIFY["email_notifications"]
    assert not {"libraries", "new_cluster"} & set(made["publish"])
    assert made["fit"]["libraries"] == [{"pypi": {"package": "x"}}]


def test_a_task_of_the_platform_s_is_as_its_block_makes_it() -> None:
    sql = {"sql_task": {"warehouse_id": "w", "query": {"query_id": "q"}}, "description": "asks"}
    made = tasks(databricks={"task": NOTIFY}, tasks=[step("fit"), step("ask", dependsOn=["fit"], databricks=sql)])[
        "ask"
    ]
    assert made == {
        "task_key": "ask",
        "max_retries": 0,
        "retry_on_timeout": False,
        "depends_on": [{"task_key": "fit"}],
        **sql,
    }


def test_null_removes_what_the_operator_put_there() -> None:
    made = tasks(
        compute={"class": "cluster"},
        environment={"pip": ["pandas"]},
        tasks=[
            step(
                "fit",
                entrypoint={},
                databricks={"libraries": None, "new_cluster": {"node_type_id": None, "policy_id": "p"}},
            )
        ],
    )["fit"]
    assert "libraries" not in made
    assert "node_type_id" not in made["new_cluster"]
    assert made["new_cluster"]["policy_id"] == "p"


TASK_FIELDS = sorted(path.removeprefix("task.") for path in OWNED if path.startswith("task."))


@pytest.mark.parametrize("name", [*TASK_FIELDS, "sql_task", "pipeline_task"])
@pytest.mark.parametrize("value", [None, "x"])
def test_what_the_operator_owns_in_a_task_is_refused_by_its_name(name: str, value: Any) -> None:
    error = refusal(tasks=[step("a"), step("fit", entrypoint={}, databricks={name: value})])
    assert (error.field, error.reason) == (f"spec.tasks[fit].databricks.{name}", "OverrideForbidden")


@pytest.mark.parametrize("name", [name for name in TASK_FIELDS if not name.endswith("_task")])
def test_a_task_of_the_platform_s_may_not_set_it_either(name: str) -> None:
    error = refusal(tasks=[step("ask", databricks={"sql_task": {}, name: 1})])
    assert (error.field, error.reason) == (f"spec.tasks[ask].databricks.{name}", "OverrideForbidden")


@pytest.mark.parametrize("name", ["max_retries", "retry_on_timeout", "disable_auto_optimization"])
def test_the_task_of_a_loop_is_not_started_again_either(name: str) -> None:
    loop = {"for_each_task": {"inputs": "[1]", "task": {"task_key": "x", "sql_task": {}, name: 1}}}
    error = refusal(tasks=[step("loop", databricks=loop)])
    assert error.field == f"spec.tasks[loop].databricks.for_each_task.task.{name}"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"new_cluster": None}, "new_cluster"),
    ({"new_cluster": {"custom_tags": None}}, "new_cluster.custom_tags"),
    ({"new_cluster": {"spark_env_vars": "x"}}, "new_cluster.spark_env_vars"),
    ({"new_cluster": {"spark_env_vars": {"TRAINYARD_TASK": "x"}}}, "new_cluster.spark_env_vars.TRAINYARD_TASK"),
    ({"new_cluster": {"spark_env_vars": {"MLFLOW_RUN_ID": None}}}, "new_cluster.spark_env_vars.MLFLOW_RUN_ID"),
    ({"new_cluster": {"custom_tags": {"Trainyard-uid": "x"}}}, "new_cluster.custom_tags.Trainyard-uid"),
]


@pytest.mark.parametrize(("block", "path"), REFUSED)
def test_our_tags_and_variables_stay_in_every_task(block: dict[str, Any], path: str) -> None:
    error = refusal(compute={"class": "cluster"}, tasks=[step("fit", entrypoint={}, databricks=block)])
    assert (error.field, error.reason) == (f"spec.tasks[fit].databricks.{path}", "OverrideForbidden")


def test_the_whole_request_takes_what_stands_beside_task() -> None:
    body = request(databricks={"queue": {"enabled": False}, "webhook_notifications": {}, "task": NOTIFY}).body
    assert (body["queue"], body["webhook_notifications"]) == ({"enabled": False}, {})
    assert "task" not in body
