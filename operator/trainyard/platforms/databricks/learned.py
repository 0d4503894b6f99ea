"""The ids of the MLflow run, which are only learned while a submission is prepared, put into the request. Pure.

Called by connection.py right before runs/submit, with the body that `translate` has made.
"""

from collections.abc import Mapping
from typing import Any

from trainyard.platforms.databricks.entry import is_launched
from trainyard.platforms.databricks.references import filled_in


def with_variables(body: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    """The request with more environment variables for the code, by whichever way its compute takes them.

    Job clusters and serverless environments set them; where neither is there, a notebook finds them among its
    parameters, and the launcher sets them for all else. $(mlflow.*) in job parameters is replaced.
    """
    if not variables:
        return dict(body)
    result = {**body, "tasks": [_told(task, variables) for task in body["tasks"]]}
    if "environment_variables" in body:
        result["environment_variables"] = [_entry(each, variables) for each in body["environment_variables"]]
    return result


def _told(task: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    if "new_cluster" in task:
        cluster = task["new_cluster"]
        return {
            **task,
            "new_cluster": {**cluster, "spark_env_vars": {**cluster.get("spark_env_vars", {}), **variables}},
        }
    if "for_each_task" in task:
        loop = task["for_each_task"]
        return {**task, "for_each_task": {**loop, "task": _told(loop["task"], variables)}}
    if "run_job_task" in task:
        return {**task, "run_job_task": _filled_in(task["run_job_task"], variables)}
    if "environment_variables_key" in task:
        return dict(task)
    if is_launched(task):
        python = task["spark_python_task"]
        settings = [part for name, value in variables.items() for part in ("--set", f"{name}={value}")]
        return {**task, "spark_python_task": {**python, "parameters": [*settings, *python.get("parameters", ())]}}
    if "notebook_task" in task:
        notebook = task["notebook_task"]
        parameters = {**notebook.get("base_parameters", {}), **variables}
        return {**task, "notebook_task": {**notebook, "base_parameters": parameters}}
    return dict(task)


def _filled_in(run_job: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    if "job_parameters" not in run_job:
        return dict(run_job)
    parameters = {name: filled_in(value, variables) for name, value in run_job["job_parameters"].items()}
    return {**run_job, "job_parameters": parameters}


def _entry(entry: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    spec = entry["spec"]
    return {**entry, "spec": {**spec, "variables": {**spec.get("variables", {}), **variables}}}
