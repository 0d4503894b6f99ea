"""What `runs/submit` refuses beyond the shape of the request, and whose permissions it asks for.

jobs.py calls `check_submit` before a run is created. It changes nothing.

Rules as in databricks-sdk `service/jobs.py` (docstrings of JobsAPI.submit, SubmitTask, JobRunAs,
JobEnvironmentVariables) and `service/compute.py` (Environment, ClusterSpec); Databricks documentation, "Manage
entitlements" (unrestricted cluster creation; with a policy, permission on the policy) and "Roles for managing service
principals" (servicePrincipal/user). Sentences marked (recalled) are the platform's as engineers remember them, without
a page to cite; the others are ours.
"""

from __future__ import annotations

import re
from typing import Any

from trainyard_sandbox.databricks.jobs_shapes import TASK_TYPES
from trainyard_sandbox.errors import invalid_parameter, not_found, permission_denied
from trainyard_sandbox.principals import Principal
from trainyard_sandbox.state import SandboxState

KNOWN_ENVIRONMENT_VERSIONS = ("1", "2", "3", "4", "5")
"""Databricks documentation, "Serverless environment versions"."""

VARIABLES_FROM_VERSION = 5
"""SDK docstring of SubmitTask.environment_variables_key."""

_TASK_KEY = re.compile(r"[A-Za-z0-9_-]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")


def check_submit(state: SandboxState, principal: Principal, request: dict[str, Any]) -> str:
    """Refuse what the platform would refuse; returns the application id that the code runs as."""
    if not request["tasks"]:
        raise invalid_parameter("The request must contain at least one task.")
    if "git_source" in request:
        raise invalid_parameter("git_source is not offered by this sandbox.")
    if (request.get("performance_target") == "COST_OPTIMIZED") != ("duration_target" in request):
        raise invalid_parameter("duration_target belongs to performance_target COST_OPTIMIZED, and to it only.")
    _unique([entry["environment_key"] for entry in request.get("environments", [])], "environment_key")
    _check_environments(request)
    _check_variables(request)
    keys = [task["task_key"] for task in request["tasks"]]
    _unique(keys, "task_key")
    for task in request["tasks"]:
        _check_task(principal, request, task)
    _check_dependencies(request["tasks"])
    _check_access_control(state, request)
    return _run_as(state, principal, request)


def _unique(values: list[str], name: str) -> None:
    for value in values:
        if values.count(value) > 1:
            raise invalid_parameter(f"The {name} '{value}' is used more than once.")


def _check_environments(request: dict[str, Any]) -> None:
    for entry in request.get("environments", []):
        spec, key = entry.get("spec", {}), entry["environment_key"]
        given = [name for name in ("environment_version", "base_environment", "client") if name in spec]
        if len(given) != 1:
            raise invalid_parameter(
                f"Environment '{key}': either environment_version or base_environment needs to be provided."
            )
        version = spec.get("environment_version") or spec.get("client")
        if version is not None and version not in KNOWN_ENVIRONMENT_VERSIONS:
            raise invalid_parameter(f"Environment '{key}': environment version '{version}' is not supported.")


def _check_variables(request: dict[str, Any]) -> None:
    entries = request.get("environment_variables", [])
    _unique([entry["environment_variables_key"] for entry in entries], "environment_variables_key")
    for entry in entries:
        if entry.get("spec", {}).get("files"):
            raise invalid_parameter("environment_variables files are not offered by this sandbox.")
        for name in entry.get("spec", {}).get("variables", {}):
            if _VARIABLE.fullmatch(name) is None:
                raise invalid_parameter(f"'{name}' is not a valid name of an environment variable.")


def _check_task(principal: Principal, request: dict[str, Any], task: dict[str, Any]) -> None:
    key = task["task_key"]
    if _TASK_KEY.fullmatch(key) is None:
        raise invalid_parameter(f"The task key '{key}' may have only letters, digits, dashes and underscores.")
    kinds = [name for name in TASK_TYPES if name in task]
    if len(kinds) != 1:
        raise invalid_parameter(f"Task '{key}': exactly one task type must be specified, got {kinds or 'none'}.")
    if kinds != ["spark_python_task"]:
        raise invalid_parameter(f"Task '{key}': {kinds[0]} is not offered by this sandbox.")
    _check_python_file(task)
    compute = [name for name in ("new_cluster", "existing_cluster_id", "environment_key") if name in task]
    if len(compute) != 1:
        raise invalid_parameter(
            f"Task '{key}': exactly one of new_cluster, existing_cluster_id or environment_key must be specified."
        )
    if "existing_cluster_id" in task:
        raise invalid_parameter(f"Cluster {task['existing_cluster_id']} does not exist")
    if "new_cluster" in task:
        _check_cluster(principal, key, task)
    else:
        _check_serverless(request, task)


def _check_python_file(task: dict[str, Any]) -> None:
    python = task["spark_python_task"]
    if python.get("source") == "GIT":
        raise invalid_parameter(f"Task '{task['task_key']}': source GIT needs a git_source.")
    if not python["python_file"].startswith("/"):
        raise invalid_parameter(
            "For python files stored in the workspace, the path must be absolute and begin with '/'."
        )


def _check_cluster(principal: Principal, key: str, task: dict[str, Any]) -> None:
    cluster = task["new_cluster"]
    policy = cluster.get("policy_id")
    if policy is not None and "CAN_USE" not in principal.grants.get(f"cluster-policies/{policy}", ()):
        raise permission_denied(f"{principal.application_id} is not authorized to use policy {policy}.")
    if policy is None and not principal.is_admin and "allow-cluster-create" not in principal.entitlements:
        # (recalled)
        raise permission_denied("You are not authorized to create clusters. Please contact your administrator.")
    if "node_type_id" not in cluster and "instance_pool_id" not in cluster:
        raise invalid_parameter(f"Task '{key}': one of node_type_id or instance_pool_id is required in new_cluster.")
    sizes = [name for name in ("num_workers", "autoscale") if name in cluster]
    if len(sizes) > 1 or (not sizes and not cluster.get("is_single_node")):
        raise invalid_parameter(f"Task '{key}': exactly one of num_workers or autoscale is required in new_cluster.")
    if "environment_variables_key" in task:
        raise invalid_parameter(f"Task '{key}': environment_variables_key is for serverless tasks only.")


def _check_serverless(request: dict[str, Any], task: dict[str, Any]) -> None:
    key, wanted = task["task_key"], task["environment_key"]
    environments = {entry["environment_key"]: entry.get("spec", {}) for entry in request.get("environments", [])}
    if wanted not in environments:
        raise invalid_parameter(f"Task '{key}' refers to the environment '{wanted}', which is not defined.")
    if "libraries" in task:
        # (recalled)
        raise invalid_parameter(
            "Libraries field is not supported for serverless task, please specify libraries in environment."
        )
    variables = task.get("environment_variables_key")
    if variables is None:
        return
    version = environments[wanted].get("environment_version", "0")
    if int(version) < VARIABLES_FROM_VERSION:
        raise invalid_parameter(
            f"Task '{key}': environment variables need environment version {VARIABLES_FROM_VERSION} or later."
        )
    if variables not in {entry["environment_variables_key"] for entry in request.get("environment_variables", [])}:
        raise invalid_parameter(f"Task '{key}' refers to the variables '{variables}', which are not defined.")


def _check_dependencies(tasks: list[dict[str, Any]]) -> None:
    waits = {task["task_key"]: {entry["task_key"] for entry in task.get("depends_on", [])} for task in tasks}
    for key, needed in waits.items():
        unknown = sorted(needed - set(waits))
        if unknown:
            raise invalid_parameter(f"Task '{key}' depends on the task '{unknown[0]}', which is not defined.")
    settled: set[str] = set()
    while len(settled) < len(waits):
        ready = {key for key, needed in waits.items() if key not in settled and needed <= settled}
        if not ready:
            raise invalid_parameter("The dependencies of the tasks have a cycle.")
        settled |= ready


def _one_name(entry: dict[str, Any], where: str) -> tuple[str, str]:
    names = [name for name in ("user_name", "group_name", "service_principal_name") if name in entry]
    if len(names) != 1:
        raise invalid_parameter(f"{where}: exactly one of user_name, group_name, service_principal_name is required.")
    return names[0], entry[names[0]]


def _check_access_control(state: SandboxState, request: dict[str, Any]) -> None:
    for entry in request.get("access_control_list", []):
        kind, name = _one_name(entry, "access_control_list")
        if "permission_level" not in entry:
            raise invalid_parameter("Missing required field: access_control_list.permission_level")
        known = {
            "user_name": name in state.directory.users,
            "group_name": name in state.directory.groups,
            "service_principal_name": state.directory.get(name) is not None,
        }
        if not known[kind]:
            # (recalled)
            label = {"user_name": "UserName", "group_name": "GroupName"}.get(kind, "ServicePrincipalName")
            raise not_found(f"Principal: {label}({name}) does not exist")


def _run_as(state: SandboxState, principal: Principal, request: dict[str, Any]) -> str:
    if "run_as" not in request:
        return principal.application_id
    kind, name = _one_name(request["run_as"], "run_as")
    if kind != "service_principal_name":
        raise permission_denied(f"{principal.application_id} is not allowed to run jobs as {name}.")
    target = state.directory.require(name)
    if name != principal.application_id and name not in principal.usable_service_principals:
        raise permission_denied(
            f"{principal.application_id} is not allowed to run jobs as the service principal {name}: "
            "the role servicePrincipal/user is required."
        )
    return target.application_id
