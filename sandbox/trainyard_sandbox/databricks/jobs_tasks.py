"""What a task may be, in a submission and in a saved job alike: refusals beyond the shape of the request.

jobs_submit.py calls `check_task`. It changes nothing.

Rules as in databricks-sdk `service/jobs.py` (docstrings of SubmitTask, NotebookTask, PythonWheelTask, RunJobTask,
SparkPythonTask) and `service/compute.py` (Library). Sentences marked (recalled) are the platform's as engineers
remember them, without a page to cite; the others are ours.
"""

from __future__ import annotations

import json
import re
from typing import Any

from trainyard_sandbox.compute.cluster_spec import effective_spec
from trainyard_sandbox.databricks.jobs_shapes import LEGACY_PARAMETERS
from trainyard_sandbox.databricks.jobs_shapes import TASK_TYPES as ALL_TASK_TYPES
from trainyard_sandbox.engine.runs import TASK_TYPES
from trainyard_sandbox.engine.saved_jobs import require
from trainyard_sandbox.errors import invalid_parameter
from trainyard_sandbox.principals import Principal
from trainyard_sandbox.state import SandboxState

VARIABLES_FROM_VERSION = 5
"""SDK docstring of SubmitTask.environment_variables_key."""

MAX_BASE_PARAMETERS_BYTES = 1024 * 1024
"""NotebookTask.base_parameters: "The JSON representation of this field cannot exceed 1MB"."""

CLUSTER_FIELDS = ("new_cluster", "existing_cluster_id", "job_cluster_key")

_TASK_KEY = re.compile(r"[A-Za-z0-9_-]+")


def check_task(
    state: SandboxState, principal: Principal, run_as: Principal, request: dict[str, Any], task: dict[str, Any]
) -> None:
    """Refuse a task that the platform would refuse.

    Args:
        principal: who submits it, and whose clusters are created.
        run_as: whom it runs as, and who must be able to use existing clusters and other jobs.
        request: the submission, or the job's settings, that the task is in.
    """
    key = task["task_key"]
    if _TASK_KEY.fullmatch(key) is None:
        raise invalid_parameter(f"The task key '{key}' may have only letters, digits, dashes and underscores.")
    kinds = [name for name in ALL_TASK_TYPES if name in task]
    if len(kinds) != 1:
        raise invalid_parameter(f"Task '{key}': exactly one task type must be specified, got {kinds or 'none'}.")
    kind = kinds[0]
    if kind not in TASK_TYPES:
        raise invalid_parameter(f"Task '{key}': {kind} is not offered by this sandbox.")
    _check_kind(state, run_as, key, kind, task[kind])
    _check_compute(state, principal, run_as, request, task, kind)


def _check_kind(state: SandboxState, run_as: Principal, key: str, kind: str, spec: dict[str, Any]) -> None:
    if spec.get("source") == "GIT":
        raise invalid_parameter(f"Task '{key}': source GIT needs a git_source.")
    if kind == "spark_python_task" and not spec["python_file"].startswith("/"):
        raise invalid_parameter(
            "For python files stored in the workspace, the path must be absolute and begin with '/'."
        )
    if kind == "notebook_task":
        _check_notebook(key, spec)
    if kind == "python_wheel_task" and "parameters" in spec and "named_parameters" in spec:
        raise invalid_parameter(f"Task '{key}': only one of parameters and named_parameters may be specified.")
    if kind == "run_job_task":
        _check_run_job(state, run_as, key, spec)


def _check_notebook(key: str, spec: dict[str, Any]) -> None:
    if not spec["notebook_path"].startswith("/"):
        # (recalled)
        raise invalid_parameter("Only absolute paths are currently supported. Paths must begin with '/'.")
    if "warehouse_id" in spec:
        raise invalid_parameter(f"Task '{key}': warehouse_id is not offered by this sandbox.")
    if len(json.dumps(spec.get("base_parameters", {}))) > MAX_BASE_PARAMETERS_BYTES:
        raise invalid_parameter(f"Task '{key}': base_parameters cannot exceed 1MB.")


def _check_run_job(state: SandboxState, run_as: Principal, key: str, spec: dict[str, Any]) -> None:
    for name in LEGACY_PARAMETERS:
        if name in spec:
            raise invalid_parameter(f"Task '{key}': {name} is not offered by this sandbox; use job_parameters.")
    job = state.jobs.get(spec["job_id"])
    require(run_as, job.job_id, "Manage Run")
    job.values(spec.get("job_parameters", {}))


def _check_compute(
    state: SandboxState,
    principal: Principal,
    run_as: Principal,
    request: dict[str, Any],
    task: dict[str, Any],
    kind: str,
) -> None:
    key = task["task_key"]
    named = [name for name in (*CLUSTER_FIELDS, "environment_key") if name in task]
    if kind == "run_job_task":
        if named or "libraries" in task:
            raise invalid_parameter(f"Task '{key}': a run_job_task takes no compute and no libraries.")
        return
    # NotebookTask on serverless: "if the environment_key is not specified, the notebook environment will be used".
    if len(named) != 1 and not (kind == "notebook_task" and not named):
        raise invalid_parameter(
            f"Task '{key}': exactly one of new_cluster, existing_cluster_id or environment_key must be specified."
        )
    if set(CLUSTER_FIELDS) & set(named):
        _check_cluster(state, principal, run_as, request, task)
    else:
        _check_serverless(request, task)


def _check_cluster(
    state: SandboxState, principal: Principal, run_as: Principal, request: dict[str, Any], task: dict[str, Any]
) -> None:
    key = task["task_key"]
    if "environment_variables_key" in task:
        raise invalid_parameter(f"Task '{key}': environment_variables_key is for serverless tasks only.")
    if "new_cluster" in task:
        effective_spec(state.compute, principal, task["new_cluster"], "job")
    elif "existing_cluster_id" in task:
        state.compute.clusters.attachable(task["existing_cluster_id"], run_as)
    elif task["job_cluster_key"] not in {one["job_cluster_key"] for one in request.get("job_clusters", [])}:
        raise invalid_parameter(f"Task '{key}' refers to the job cluster '{task['job_cluster_key']}', not defined.")
    for library in task.get("libraries", []):
        _check_library(key, library)


def _check_library(key: str, library: dict[str, Any]) -> None:
    if len(library) != 1:
        raise invalid_parameter(f"Task '{key}': each library has exactly one of pypi, whl, requirements and the like.")
    [kind] = library
    if kind not in ("pypi", "whl", "requirements"):
        raise invalid_parameter(f"Task '{key}': libraries of the kind {kind} are not offered by this sandbox.")
    suffix = {"whl": ".whl", "requirements": ".txt"}.get(kind)
    if suffix is not None and not (library[kind].startswith("/") and library[kind].endswith(suffix)):
        # Library.whl: "Supported URIs include Workspace paths, Unity Catalog Volumes paths, and S3 URIs"; no S3 here.
        raise invalid_parameter(
            f"Task '{key}': {kind} must be an absolute workspace or volume path to a {suffix} file."
        )


def _check_serverless(request: dict[str, Any], task: dict[str, Any]) -> None:
    key, wanted = task["task_key"], task.get("environment_key")
    environments = {entry["environment_key"]: entry.get("spec", {}) for entry in request.get("environments", [])}
    if wanted is not None and wanted not in environments:
        raise invalid_parameter(f"Task '{key}' refers to the environment '{wanted}', which is not defined.")
    if "libraries" in task:
        # (recalled)
        raise invalid_parameter(
            "Libraries field is not supported for serverless task, please specify libraries in environment."
        )
    variables = task.get("environment_variables_key")
    if variables is None:
        return
    version = environments.get(wanted or "", {}).get("environment_version", "0")
    if int(version) < VARIABLES_FROM_VERSION:
        raise invalid_parameter(
            f"Task '{key}': environment variables need environment version {VARIABLES_FROM_VERSION} or later."
        )
    if variables not in {entry["environment_variables_key"] for entry in request.get("environment_variables", [])}:
        raise invalid_parameter(f"Task '{key}' refers to the variables '{variables}', which are not defined.")
