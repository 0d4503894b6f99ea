"""Whatever JSON stands in a platform block: a request, or a refusal that names the field; never a crash."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.translations import MLFLOW, attempt, refusal, request, step, tasks
from trainyard.core.errors import TranslationError
from trainyard.platforms.databricks.named_jobs import with_job_ids
from trainyard.platforms.databricks.translate import translate, with_variables

CLUSTER_FIELDS = ["custom_tags", "spark_env_vars", "policy_id", "instance_pool_id", "node_type_id", "spark_version"]
KEYS = [
    "task",
    "new_cluster",
    *CLUSTER_FIELDS,
    *("notebook_task", "base_parameters", "run_job_task", "job_id", "job_parameters", "for_each_task", "inputs"),
    *("spark_python_task", "python_file", "parameters", "sql_task", "condition_task", "libraries", "queue"),
]
NAMES = st.sampled_from(KEYS) | st.text(max_size=4)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
LEAVES |= st.sampled_from(["$(mlflow.runId)", "_trainyard_launcher_x.py", "7"])
ANY = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


def fixed(**fields: Any) -> st.SearchStrategy[dict[str, Any]]:
    # Built, or one of the many kinds of ANY would be chosen nearly always.
    anything = st.builds(lambda value: value, ANY)
    return st.fixed_dictionaries({}, optional={name: each | anything for name, each in fields.items()})


TEXTS = st.dictionaries(st.text(max_size=4), LEAVES, max_size=2)
CLUSTER = fixed(**dict.fromkeys(CLUSTER_FIELDS[:2], TEXTS), **dict.fromkeys(CLUSTER_FIELDS[2:], st.text(max_size=3)))
INNER = {
    "new_cluster": CLUSTER,
    "notebook_task": fixed(base_parameters=TEXTS),
    "run_job_task": fixed(job_id=LEAVES, job_parameters=TEXTS),
    "spark_python_task": fixed(python_file=LEAVES, parameters=st.lists(LEAVES, max_size=2)),
}
TASK = st.one_of(*(fixed(**{name: each}) for name, each in INNER.items()), fixed(**INNER))
TASK |= st.builds(lambda task: {"for_each_task": {"inputs": "[1]", "task": task}}, TASK)
# As the API server hands it over: an object.
BLOCK = st.dictionaries(NAMES, ANY, max_size=4) | TASK
CLASS = st.sampled_from(["small", "cluster", "shared"])
MANY = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def submitted(**fields: Any) -> None:
    """Everything that is done to a block until it is sent."""
    try:
        made = translate(attempt(**fields))
    except TranslationError as error:
        assert error.field.startswith("spec.")  # noqa: PT017 - a refusal is one of two good outcomes
        return
    body = with_job_ids(made.body, dict.fromkeys(made.jobs, "7"))
    json.dumps(with_variables(body, MLFLOW))
    assert all(isinstance(need.name, str) and len(need.name) <= 512 for need in made.needs)


@given(BLOCK | st.builds(lambda task: {"task": task}, fixed(new_cluster=CLUSTER, libraries=ANY)), CLASS)
@MANY
def test_any_block_of_a_run_is_translated_or_refused(block: dict[str, Any], where: str) -> None:
    submitted(databricks=block, compute={"class": where})


@given(BLOCK, CLASS, st.booleans())
@MANY
def test_any_block_of_a_task_is_translated_or_refused(block: dict[str, Any], where: str, ours: bool) -> None:
    made = step("x", databricks=block, **({"entrypoint": {}} if ours else {}))
    submitted(tasks=[step("fit"), made, step("job", jobRef={"name": "j"})], compute={"class": where})


CRASHED = [
    ({"new_cluster": {"policy_id": {"a": 1}}, "sql_task": {}}, "new_cluster.policy_id"),
    ({"run_job_task": {"job_parameters": {"n": 3}}}, "run_job_task.job_parameters.n"),
    ({"run_job_task": {"job_id": {"a": 1}}}, "run_job_task.job_id"),
    ({"notebook_task": "x"}, "notebook_task"),
    ({"notebook_task": {"base_parameters": ["x"]}}, "notebook_task.base_parameters"),
    ({"for_each_task": {"task": "x"}}, "for_each_task.task"),
    ({"for_each_task": {"task": {"for_each_task": {}}}}, "for_each_task.task.for_each_task"),
    ({"spark_python_task": {"python_file": 1}}, "spark_python_task.python_file"),
]


@pytest.mark.parametrize(("block", "path"), CRASHED)
def test_a_value_of_the_wrong_type_is_refused_by_its_name(block: dict[str, Any], path: str) -> None:
    error = refusal(tasks=[step("fit"), step("x", databricks=block)])
    assert (error.field, error.reason) == (f"spec.tasks[x].databricks.{path}", "InvalidSpec")


@pytest.mark.parametrize("depth", [40, 5000])
def test_a_bottomless_block_is_refused(depth: int) -> None:
    block: dict[str, Any] = {}
    for _ in range(depth):
        block = {"a": block}
    assert refusal(databricks=block).field == "spec.databricks"
    assert refusal(tasks=[step("x", databricks={"sql_task": block})]).field == "spec.tasks[x].databricks"


LOOPED = [
    ({"existing_cluster_id": "c"}, "existing_cluster_id"),
    ({"new_cluster": {"spark_env_vars": {"TRAINYARD_NAME": "x"}}}, "new_cluster.spark_env_vars.TRAINYARD_NAME"),
    ({"new_cluster": {"custom_tags": {"trainyard-uid": "x"}}}, "new_cluster.custom_tags.trainyard-uid"),
    ({"depends_on": []}, "depends_on"),
    ({"environment_key": "x"}, "environment_key"),
]


@pytest.mark.parametrize(("task", "path"), LOOPED)
def test_what_the_operator_owns_is_refused_in_a_loop_as_well(task: dict[str, Any], path: str) -> None:
    loop = {"inputs": "[1]", "task": {"task_key": "x", "notebook_task": {"notebook_path": "/a"}, **task}}
    error = refusal(tasks=[step("fit"), step("loop", databricks={"for_each_task": loop})])
    field = f"spec.tasks[loop].databricks.for_each_task.task.{path}"
    assert (error.field, error.reason) == (field, "OverrideForbidden")


def test_a_cluster_in_a_loop_says_whose_it_is_and_is_asked_for() -> None:
    cluster = {"policy_id": "p-1", "spark_env_vars": {"A": "b"}}
    task = {"task_key": "x", "notebook_task": {"notebook_path": "/a"}, "new_cluster": cluster}
    graph = [step("loop", databricks={"for_each_task": {"inputs": "[1]", "task": task}})]
    made = tasks(tasks=graph)["loop"]["for_each_task"]["task"]["new_cluster"]
    assert made["custom_tags"]["trainyard-name"] == "iris"
    assert made["spark_env_vars"].items() >= {"A": "b", "TRAINYARD_NAME": "iris", **MLFLOW}.items()
    assert ("cluster-policy", "p-1") in {(need.kind, need.name) for need in request(tasks=graph).needs}


LONG: list[tuple[dict[str, Any], str]] = [
    ({"outputs": {"x": {"table": "data://sales/" + "t" * 200}}}, "spec.outputs[x].table"),
    ({"inputs": {"x": {"table": "data://sales/" + "t" * 200}}}, "spec.inputs[x].table"),
    ({"outputs": {"x": {"uri": "s3://b/" + "$(params.p)" * 3}}, "params": {"p": "v" * 400}}, "spec.outputs[x].uri"),
]


@pytest.mark.parametrize(("fields", "field"), LONG)
def test_a_place_that_becomes_longer_than_the_status_takes_is_refused(fields: dict[str, Any], field: str) -> None:
    roots = {"dataRoots": {"sales": {"path": "/Volumes/main/sales/raw", "schema": "main." + "s" * 100}}}
    error = refusal(workspace=roots, **fields)
    assert (error.field, "longer than" in str(error)) == (field, True)
