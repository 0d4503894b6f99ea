"""The sandbox's pure rules, as tables: task graphs, cluster policies, notebooks taken apart, retries, references."""

from __future__ import annotations

from typing import Any

import pytest

from trainyard_sandbox.compute.policies import Rules, applied
from trainyard_sandbox.engine import dag, parameters, retries
from trainyard_sandbox.engine.notebooks import Cell, NotReadable, cells
from trainyard_sandbox.engine.runs import Outcome, Run, RunStore, TaskRun
from trainyard_sandbox.errors import ApiError

ENDS = {
    "S": Outcome(),
    "F": Outcome(result_state="FAILED"),
    "T": Outcome(result_state="TIMEDOUT"),
    "C": Outcome(result_state="CANCELED"),
    "U": Outcome(result_state="UPSTREAM_FAILED"),
    "V": Outcome(result_state="UPSTREAM_CANCELED"),
    "E": Outcome("SKIPPED", "EXCLUDED"),
    "D": Outcome("SKIPPED", "DISABLED"),
}


def a_run(*tasks: dict[str, Any]) -> Run:
    specs = [{"spark_python_task": {}, "depends_on": []} | task for task in tasks]
    return RunStore(lambda: 1_795_000_000.0).create("graph", "me", "me", {"tasks": specs})


def ended(ends: str, *further: dict[str, Any]) -> Run:
    """A run whose tasks t0, t1, ... have ended so, with further tasks that have not."""
    run = a_run(*({"task_key": f"t{index}"} for index in range(len(ends))), *further)
    for task, end in zip(run.tasks, ends, strict=False):
        task.progress.outcome = ENDS[end]
    return run


RUNS = "runs"


@pytest.mark.parametrize(
    ("ends", "condition", "expected"),
    [
        ("SS", "ALL_SUCCESS", RUNS),
        ("SF", "ALL_SUCCESS", "UPSTREAM_FAILED"),
        ("SU", "ALL_SUCCESS", "UPSTREAM_FAILED"),
        ("ST", "ALL_SUCCESS", "UPSTREAM_FAILED"),
        ("SC", "ALL_SUCCESS", "UPSTREAM_CANCELED"),
        ("SV", "ALL_SUCCESS", "UPSTREAM_CANCELED"),
        ("CF", "ALL_SUCCESS", "UPSTREAM_FAILED"),
        ("SE", "ALL_SUCCESS", RUNS),
        ("SD", "ALL_SUCCESS", RUNS),
        ("D", "ALL_SUCCESS", RUNS),
        ("SF", "AT_LEAST_ONE_SUCCESS", RUNS),
        ("FF", "AT_LEAST_ONE_SUCCESS", "UPSTREAM_FAILED"),
        ("SE", "NONE_FAILED", RUNS),
        ("SF", "NONE_FAILED", "UPSTREAM_FAILED"),
        ("FC", "ALL_DONE", RUNS),
        ("SF", "AT_LEAST_ONE_FAILED", RUNS),
        ("SC", "AT_LEAST_ONE_FAILED", RUNS),
        ("SS", "AT_LEAST_ONE_FAILED", "EXCLUDED"),
        ("FT", "ALL_FAILED", RUNS),
        ("FS", "ALL_FAILED", "EXCLUDED"),
        ("EE", "ALL_DONE", "EXCLUDED"),
        ("EE", "ALL_SUCCESS", "EXCLUDED"),
    ],
)
def test_whether_a_task_runs_follows_from_its_condition(ends: str, condition: str, expected: str) -> None:
    needs = [{"task_key": f"t{index}"} for index in range(len(ends))]
    run = ended(ends, {"task_key": "last", "depends_on": needs, "run_if": condition})
    outcome = dag.not_run(run, run.tasks[-1])
    assert (outcome.result_state if outcome else RUNS) == expected


@pytest.mark.parametrize(
    ("inner", "leaf", "expected"),
    [
        ("S", "S", "SUCCESS"),
        ("F", "S", "SUCCESS_WITH_FAILURES"),
        ("S", "F", "FAILED"),
        ("F", "U", "FAILED"),
        ("S", "T", "TIMEDOUT"),
        ("T", "U", "TIMEDOUT"),
        ("F", "E", "SUCCESS_WITH_FAILURES"),
        ("C", "V", "CANCELED"),
        ("C", "S", "SUCCESS"),
        ("S", "D", "SUCCESS"),
    ],
)
def test_a_runs_result_follows_from_its_leaf_tasks(inner: str, leaf: str, expected: str) -> None:
    run = a_run({"task_key": "inner"}, {"task_key": "leaf", "depends_on": [{"task_key": "inner"}]})
    for task, end in zip(run.tasks, inner + leaf, strict=True):
        task.progress.outcome = ENDS[end]
    assert dag.overall(run).result_state == expected


@pytest.mark.parametrize(
    ("spec", "attempt", "end", "expected"),
    [
        ({"new_cluster": {}}, 0, "F", False),
        ({"new_cluster": {}, "max_retries": 1}, 0, "F", True),
        ({"new_cluster": {}, "max_retries": 1}, 1, "F", False),
        ({"new_cluster": {}, "max_retries": -1}, 99, "F", True),
        ({"new_cluster": {}, "max_retries": 1}, 0, "S", False),
        ({"new_cluster": {}, "max_retries": 1}, 0, "C", False),
        ({"new_cluster": {}, "max_retries": 1}, 0, "T", False),
        ({"new_cluster": {}, "max_retries": 1, "retry_on_timeout": True}, 0, "T", True),
        ({"environment_key": "e", "max_retries": 0}, 0, "F", True),
        ({"environment_key": "e", "max_retries": 0}, 1, "F", False),
        ({"environment_key": "e", "disable_auto_optimization": True}, 0, "F", False),
        ({"environment_key": "e", "disable_auto_optimization": True, "max_retries": 1}, 0, "F", True),
    ],
)
def test_whether_the_platform_tries_again(spec: dict[str, Any], attempt: int, end: str, expected: bool) -> None:
    task = TaskRun(1, "a", {"spark_python_task": {}} | spec, attempt_number=attempt)
    assert retries.again(task, ENDS[end]) is expected


POLICY: Rules = {
    "spark_conf.spark.a.b": {"type": "fixed", "value": "1"},
    "aws_attributes.availability": {"type": "allowlist", "values": ["SPOT_WITH_FALLBACK"], "isOptional": True},
    "autoscale.max_workers": {"type": "range", "maxValue": 4, "defaultValue": 2},
    "num_workers": {"type": "forbidden"},
    "custom_tags.team": {"type": "unlimited"},
    "instance_pool_id": {"type": "forbidden", "hidden": True},
    "runtime_engine": {"type": "unlimited", "defaultValue": "STANDARD", "isOptional": True},
    "node_type_id": {"type": "regex", "pattern": r"i3\..*"},
    "cluster_type": {"type": "fixed", "value": "job"},
}
SPEC: dict[str, Any] = {
    "node_type_id": "i3.xlarge",
    "autoscale": {"min_workers": 1, "max_workers": 3},
    "custom_tags": {"team": "wine"},
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"spark_conf": {"spark.a.b": "2"}}, r"spark_conf.spark.a.b, the value must be 1 "),
        ({"aws_attributes": {"availability": "SPOT"}}, "must be one of SPOT_WITH_FALLBACK"),
        ({"autoscale": {"min_workers": 1, "max_workers": 5}}, "must be at most 4"),
        ({"num_workers": 1}, "num_workers, the value cannot be present"),
        ({"custom_tags": {}}, "custom_tags.team, the value must be present"),
        ({"node_type_id": "m5d.large"}, "must match"),
        ({"autoscale": {"min_workers": 1}}, "autoscale.max_workers, the value must be present"),
    ],
)
def test_a_specification_that_breaks_a_rule_is_told_which(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ApiError, match=said):
        applied(POLICY, SPEC | change, "job")


def test_a_policy_fills_in_fixed_values_and_defaults_only_when_asked() -> None:
    plain = applied(POLICY, SPEC, "job")
    assert plain["spark_conf"] == {"spark.a.b": "1"}
    assert "runtime_engine" not in plain
    assert "spark_conf" not in SPEC, "the specification given is left alone"
    wishes = SPEC | {"apply_policy_default_values": True, "autoscale": {"min_workers": 1}}
    filled = applied(POLICY, wishes, "job")
    assert filled["runtime_engine"] == "STANDARD"
    assert filled["autoscale"] == {"min_workers": 1, "max_workers": 2}
    with pytest.raises(ApiError, match="cluster_type"):
        applied(POLICY, SPEC, "all-purpose")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# Databricks notebook source\nx = 1\n", [Cell("python", "x = 1\n")]),
        ("# Databricks notebook source\n# MAGIC %md\n# MAGIC hello\n", []),
        ("x = 1\n\n# COMMAND ----------\n\ny = 2\n", [Cell("python", "x = 1\n"), Cell("python", "y = 2\n")]),
        ("# MAGIC %pip install a 'b>=1'\n", [Cell("pip", "a 'b>=1'")]),
        ("# MAGIC %python\n# MAGIC if 1:\n# MAGIC     x = 2\n", [Cell("python", "if 1:\n    x = 2\n")]),
        ("# MAGIC %sql\n# MAGIC select 1\n", [Cell("unsupported", "%sql")]),
        ("# MAGIC %run ./other\n", [Cell("unsupported", "%run ./other")]),
        ("", []),
    ],
)
def test_a_source_notebook_is_taken_apart(text: str, expected: list[Cell]) -> None:
    assert cells(text.encode()) == expected


def test_what_is_no_notebook_is_told() -> None:
    with pytest.raises(NotReadable, match="not valid ipynb"):
        cells(b'{"cells": 3}')


def test_references_are_replaced_and_unknown_ones_left() -> None:
    run = a_run({"task_key": "a"}, {"task_key": "b", "depends_on": [{"task_key": "a"}]})
    run.job_parameters = {"trees": "7"}
    run.tasks[0].progress.outcome = ENDS["F"]
    text = "{{job.parameters.trees}} {{ task.name }} {{tasks.a.result_state}} {{job.run_id}} {{job.parameters.absent}}"
    expected = f"7 b failed {run.run_id} {{{{job.parameters.absent}}}}"
    assert parameters.replaced({"x": [text]}, run, run.tasks[1]) == {"x": [expected]}
