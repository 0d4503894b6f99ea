"""The schema of spec.databricks: free in form, but for the fields that the operator owns, which are refused by name.

Used by training_run.py when its JSON schema is made. The translator (platforms/databricks) refuses the same names once
more, and also what no schema can see (tags and variables of ours); a test holds the two lists together.
"""

from typing import Any

from trainyard.api.base import Rule

# Each owned field, as a path below spec.databricks: its type in jobs/runs/submit, and what to write instead.
OWNED_FIELDS: dict[str, tuple[str, str]] = {
    "access_control_list": ("array", "use defaultPermissions of the workspace"),
    "environment_variables": ("object", "the operator sets them"),
    "environments": ("array", "use spec.environment"),
    "git_source": ("object", "use spec.code"),
    "idempotency_token": ("string", "the operator sets it; see spec.submissionKey"),
    "run_as": ("object", "use spec.runAs"),
    "run_name": ("string", "the operator sets it, and finds the run by it"),
    "task.depends_on": ("array", "use dependsOn of spec.tasks"),
    "task.disable_auto_optimization": ("boolean", "use spec.retry"),
    "task.environment_key": ("string", "use spec.environment"),
    "task.environment_variables_key": ("string", "the operator sets it"),
    "task.existing_cluster_id": ("string", "use spec.compute.class"),
    "task.job_cluster_key": ("string", "use spec.compute.class"),
    "task.max_retries": ("integer", "use spec.retry"),
    "task.min_retry_interval_millis": ("integer", "use spec.retry"),
    "task.notebook_task": ("object", "use spec.entrypoint"),
    "task.python_wheel_task": ("object", "use spec.entrypoint"),
    "task.retry_on_timeout": ("boolean", "use spec.retry"),
    "task.run_if": ("string", "use runIf of spec.tasks"),
    "task.run_job_task": ("object", "use spec.jobRef"),
    "task.spark_python_task": ("object", "use spec.entrypoint"),
    "task.task_key": ("string", "the operator sets it"),
    "task.timeout_seconds": ("integer", "use spec.attemptTimeoutSeconds"),
    "tasks": ("array", "use spec.tasks, or task, an object that is merged into every task"),
    "timeout_seconds": ("integer", "use spec.attemptTimeoutSeconds"),
}

_FREE = {"x-kubernetes-preserve-unknown-fields": True}
_TASK = (
    "Merged into every task that the operator makes, for example new_cluster or libraries; a job is not given what "
    "belongs to compute. Absent: the tasks stay as the operator makes them."
)


def block_schema() -> dict[str, Any]:
    """A `json_schema_extra` for the field: each owned field declared, so that CEL can see it, and a rule against it."""
    top: dict[str, Any] = {}
    task: dict[str, Any] = {}
    for path, (kind, instead) in OWNED_FIELDS.items():
        fields = task if path.startswith("task.") else top
        fields[path.removeprefix("task.")] = _declared(kind) | {"description": f"Refused: {instead}. Leave it absent."}
    top["task"] = {"type": "object", "description": _TASK, "properties": task} | _FREE
    return _FREE | {
        "properties": top,
        "x-kubernetes-validations": [_refused(path, instead) for path, (_, instead) in OWNED_FIELDS.items()],
    }


def _declared(kind: str) -> dict[str, Any]:
    if kind == "object":
        return {"type": kind} | _FREE
    if kind == "array":
        return {"type": kind, "items": {"type": "object"} | _FREE, "maxItems": 100}
    return {"type": kind} | ({"maxLength": 4096} if kind == "string" else {})


def _refused(path: str, instead: str) -> Rule:
    absent = f"!has(self.{path})"
    return {
        "rule": f"!has(self.task) || {absent}" if path.startswith("task.") else absent,
        "message": f"{path} can not be set here ({instead}): remove it",
        "fieldPath": f".{path}",
        "reason": "FieldValueForbidden",
    }
