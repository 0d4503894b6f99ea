"""What `runs/submit` and `jobs/create` refuse beyond the shape of the request, and whose permissions they ask for.

jobs.py and jobs_saved.py call it before a run or job is created. It changes nothing. Rules about single tasks are in
jobs_tasks.py.

Rules as in databricks-sdk `service/jobs.py` (docstrings of JobsAPI.submit and create, JobRunAs,
JobEnvironmentVariables) and `service/compute.py` (Environment); Databricks documentation, "Roles for managing service
principals" (servicePrincipal/user). Sentences marked (recalled) are the platform's as engineers remember them, without
a page to cite; the others are ours.
"""

from __future__ import annotations

import re
from typing import Any

from trainyard_sandbox.compute.cluster_spec import effective_spec
from trainyard_sandbox.databricks.jobs_shapes import NOT_OFFERED_OF_A_JOB
from trainyard_sandbox.databricks.jobs_tasks import check_task
from trainyard_sandbox.errors import invalid_parameter, not_found, permission_denied
from trainyard_sandbox.principals import Principal
from trainyard_sandbox.state import SandboxState

KNOWN_ENVIRONMENT_VERSIONS = ("1", "2", "3", "4", "5")
"""Databricks documentation, "Serverless environment versions"."""

_PARAMETER = re.compile(r"[A-Za-z0-9_.-]+")
"""JobParameterDefinition.name."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")


def check_submit(state: SandboxState, principal: Principal, request: dict[str, Any]) -> str:
    """Refuse what the platform would refuse; returns the application id that the code runs as."""
    if not request["tasks"]:
        raise invalid_parameter("The request must contain at least one task.")
    return _check(state, principal, request)


def check_job(state: SandboxState, principal: Principal, settings: dict[str, Any]) -> str:
    """The same for a job that is to be saved."""
    for name in NOT_OFFERED_OF_A_JOB:
        if name in settings:
            raise invalid_parameter(f"{name} is not offered by this sandbox.")
    parameters = [entry["name"] for entry in settings.get("parameters", [])]
    _unique(parameters, "parameter name")
    for name in parameters:
        if _PARAMETER.fullmatch(name) is None:
            raise invalid_parameter(f"The parameter name '{name}' may have only letters, digits, '_', '-' and '.'.")
    _unique([entry["job_cluster_key"] for entry in settings.get("job_clusters", [])], "job_cluster_key")
    for entry in settings.get("job_clusters", []):
        effective_spec(state.compute, principal, entry["new_cluster"], "job")
    if not settings.get("tasks"):
        # (recalled)
        raise invalid_parameter("Job settings must be specified with at least one task.")
    return _check(state, principal, settings)


def _check(state: SandboxState, principal: Principal, request: dict[str, Any]) -> str:
    if "git_source" in request:
        raise invalid_parameter("git_source is not offered by this sandbox.")
    if (request.get("performance_target") == "COST_OPTIMIZED") != ("duration_target" in request):
        raise invalid_parameter("duration_target belongs to performance_target COST_OPTIMIZED, and to it only.")
    for name in ("budget_policy_id", "usage_policy_id"):
        if name in request and request[name] not in state.compute.budget_policies:
            raise invalid_parameter(f"The budget policy {request[name]} does not exist.")
    _unique([entry["environment_key"] for entry in request.get("environments", [])], "environment_key")
    _check_environments(request)
    _check_variables(request)
    _unique([task["task_key"] for task in request["tasks"]], "task_key")
    run_as = _run_as(state, principal, request)
    for task in request["tasks"]:
        check_task(state, principal, run_as, request, task)
    _check_dependencies(request["tasks"])
    _check_access_control(state, request)
    return run_as.application_id


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


def _run_as(state: SandboxState, principal: Principal, request: dict[str, Any]) -> Principal:
    if "run_as" not in request:
        return principal
    kind, name = _one_name(request["run_as"], "run_as")
    if kind == "user_name" and principal.kind == "user" and name == principal.name:
        return principal
    if kind != "service_principal_name":
        # JobRunAs: "Non-admin users can only set this field to their own email"; a service principal has none.
        if not principal.is_admin:
            raise permission_denied(f"{principal.application_id} is not allowed to run jobs as {name}.")
        raise invalid_parameter(f"run_as {kind} of somebody else is not offered by this sandbox.")
    target = state.directory.require(name)
    if name != principal.application_id and name not in principal.usable_service_principals:
        raise permission_denied(
            f"{principal.application_id} is not allowed to run jobs as the service principal {name}: "
            "the role servicePrincipal/user is required."
        )
    return target
