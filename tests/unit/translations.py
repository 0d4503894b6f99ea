"""Attempts of every shape, translated in a line; used by the tests of the Databricks translator."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from tests.wire.jobs import SERVERLESS, SINGLE_NODE, job
from trainyard.core.errors import TranslationError
from trainyard.core.tokens import code_digest
from trainyard.platforms.base import Job, Request
from trainyard.platforms.databricks.learned import with_variables
from trainyard.platforms.databricks.translate import translate

MLFLOW = {"MLFLOW_RUN_ID": "r1", "MLFLOW_EXPERIMENT_ID": "e1"}
SHARED_CLUSTER = {"existingCluster": {"clusterId": "0123-456789-abc"}}
CLASSES = {"small": SERVERLESS, "cluster": SINGLE_NODE, "shared": SHARED_CLUSTER}
NOTEBOOK = b"# Databricks notebook source\nprint(1)\n"


def attempt(
    files: dict[str, bytes] | None = None,
    *,
    done: Iterable[str] = (),
    workspace: dict[str, Any] | None = None,
    facts: dict[str, Any] | None = None,
    **spec: Any,
) -> Job:
    """An attempt. `facts` are further fields of the Job, such as its commit."""
    files = {"main.py": b"print('hello')"} if files is None else files
    made = job(workspace={"computeClasses": CLASSES, **(workspace or {})}, **spec)
    return replace(made, files=files, code_digest=code_digest(files), done_tasks=frozenset(done), **(facts or {}))


def request(*args: Any, **kwargs: Any) -> Request:
    return translate(attempt(*args, **kwargs))


def tasks(*args: Any, **kwargs: Any) -> dict[str, dict[str, Any]]:
    """The tasks of the request, by key, with the ids of the MLflow run put in."""
    body = with_variables(request(*args, **kwargs).body, MLFLOW)
    return {task["task_key"]: task for task in body["tasks"]}


def only_task(*args: Any, **kwargs: Any) -> dict[str, Any]:
    [task] = tasks(*args, **kwargs).values()
    return task


def refusal(*args: Any, **kwargs: Any) -> TranslationError:
    with pytest.raises(TranslationError) as raised:
        request(*args, **kwargs)
    return raised.value


def step(name: str, **fields: Any) -> dict[str, Any]:
    """One entry of spec.tasks, which runs main.py unless told otherwise."""
    what = {"entrypoint", "jobRef", "databricks"} & set(fields)
    return {"name": name, **({} if what else {"entrypoint": {}}), **fields}
