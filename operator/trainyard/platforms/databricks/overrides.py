"""`spec.databricks` and `spec.tasks[].databricks`: an RFC 7396 merge over the translated request. Pure.

RFC 7396 replaces lists as a whole, and the request's tasks stand in a list. So the block shows a task as an object:
`spec.databricks.task` merges into every task that the operator makes, and `spec.tasks[].databricks` then into that one;
`tasks` itself is the operator's. Everything else is merged where `jobs/runs/submit` has it; fields that this version
does not know go to the platform, which judges them.
"""

from collections.abc import Mapping
from typing import Any

from trainyard.core.errors import TranslationError
from trainyard.platforms.databricks import shapes
from trainyard.platforms.databricks.names import MLFLOW_VARIABLES
from trainyard.platforms.databricks.steps import Step
from trainyard.platforms.merging import check_depth, forbidden, look, merge_patch
from trainyard.platforms.told import OUR_TAGS, OUR_VARIABLES

# What exactly-once, the deadlines and the identity stand on.
OWNED = frozenset(
    {
        "access_control_list",
        "environment_variables",
        "environments",
        "git_source",
        "idempotency_token",
        "run_as",
        "run_name",
        "task.depends_on",
        "task.disable_auto_optimization",
        "task.environment_key",
        "task.environment_variables_key",
        "task.existing_cluster_id",
        "task.job_cluster_key",
        "task.max_retries",
        "task.min_retry_interval_millis",
        "task.notebook_task",
        "task.python_wheel_task",
        "task.retry_on_timeout",
        "task.run_if",
        "task.run_job_task",
        "task.spark_python_task",
        "task.task_key",
        "task.timeout_seconds",
        "tasks",
        "timeout_seconds",
    }
)
# Objects of a task that may be added to but not taken away, because our tags and variables are in them.
_KEPT = ("new_cluster", "new_cluster.custom_tags", "new_cluster.spark_env_vars")
# What belongs to code, and not to a job that brings its own.
_COMPUTE = frozenset({"compute", "libraries", "new_cluster"})
# What a loop's task has for itself.
_LOOPED = frozenset({"task_key"})

_INSTEAD = {
    "access_control_list": "defaultPermissions of the workspace say who may see and manage its runs",
    "environments": "use spec.environment",
    "run_as": "use spec.runAs",
    "task.depends_on": "use dependsOn of spec.tasks",
    "task.existing_cluster_id": "use spec.compute.class",
    "task.max_retries": "use spec.retry",
    "task.notebook_task": "use spec.entrypoint",
    "task.python_wheel_task": "use spec.entrypoint",
    "task.run_if": "use runIf of spec.tasks",
    "task.run_job_task": "use spec.jobRef",
    "task.spark_python_task": "use spec.entrypoint",
    "task.timeout_seconds": "use spec.attemptTimeoutSeconds, or timeoutSeconds of spec.tasks",
    "tasks": "use spec.tasks, and task, which merges into every task",
    "timeout_seconds": "use spec.attemptTimeoutSeconds",
}


def refuse_owned(block: Mapping[str, Any] | None) -> None:
    """Checks the run's `spec.databricks`, before anything is merged.

    Raises:
        TranslationError: OverrideForbidden or InvalidSpec, naming the field.
    """
    if not block:
        return
    check_depth(block, "spec.databricks", "Databricks'")
    for path in sorted(OWNED):
        if look(block, path)[0]:
            raise forbidden(f"spec.databricks.{path}", _INSTEAD.get(path, "the operator owns it"))
    if "task" in block:
        _check_task(block["task"], "spec.databricks.task", makes_task=False)


def merged(body: Mapping[str, Any], block: Mapping[str, Any] | None) -> dict[str, Any]:
    """The request with the run's `spec.databricks` merged over it, but for `task`, which `merged_task` takes."""
    result: dict[str, Any] = merge_patch(body, {key: value for key, value in (block or {}).items() if key != "task"})
    return result


def merged_task(task: Mapping[str, Any], step: Step, block: Mapping[str, Any] | None) -> dict[str, Any]:
    """One task with what the run's block says of every task, and then what the step's own says.

    Raises:
        TranslationError: OverrideForbidden or InvalidSpec, naming the field.
    """
    for_all = (block or {}).get("task", {})
    result: dict[str, Any] = merge_patch(
        task, {key: value for key, value in for_all.items() if not step.job or key not in _COMPUTE}
    )
    if step.block:
        _check_step(step)
        result = merge_patch(result, step.block)
    if "for_each_task" in result:
        result["for_each_task"] = _once_each(result["for_each_task"])
    return result


def kind_of(step: Step) -> str:
    """The kind of a task that the step's block makes.

    Raises:
        TranslationError: it names none, or several, or says of the task what it may not.
    """
    _check_step(step)
    kinds = sorted(key for key, value in (step.block or {}).items() if key.endswith("_task") and value is not None)
    if len(kinds) != 1:
        raise TranslationError(
            f"{step.field}.databricks",
            f"a task without entrypoint and jobRef needs exactly one field that ends with _task, and has "
            f"{', '.join(kinds) or 'none'}",
        )
    return kinds[0]


def _check_step(step: Step) -> None:
    """What one entry of spec.tasks says of its own task."""
    field, block = f"{step.field}.databricks", step.block or {}
    check_depth(block, field, "Databricks'")
    _check_task(block, field, makes_task=not step.ours)
    loop = block.get("for_each_task")
    if loop is None:
        return
    field = f"{field}.for_each_task.task"
    if not isinstance(loop.get("task"), Mapping):
        raise TranslationError(field, "must be an object: the task that is done for each input")
    if "for_each_task" in loop["task"]:
        raise TranslationError(f"{field}.for_each_task", "Databricks takes no loop in a loop")
    _check_task(loop["task"], field, makes_task=True, allowed=_LOOPED)


def _check_task(block: Any, field: str, *, makes_task: bool, allowed: frozenset[str] = frozenset()) -> None:
    """Refuses what the operator owns in a task, and its kind, unless it is the block that makes it."""
    if not isinstance(block, Mapping):
        raise forbidden(field, "must be an object: what the operator puts there stays")
    for name in sorted(set(block) - allowed):
        is_kind = name.endswith("_task")
        if (is_kind and not makes_task) or (not is_kind and f"task.{name}" in OWNED):
            raise forbidden(f"{field}.{name}", _INSTEAD.get(f"task.{name}", "the operator owns it"))
    for path in _KEPT:
        found, value = look(block, path)
        if found and not isinstance(value, Mapping):
            raise forbidden(f"{field}.{path}", "must be an object: what the operator puts there stays")
    shapes.check_task(block, field)
    for name in look(block, "new_cluster.spark_env_vars")[1] or ():
        if name in MLFLOW_VARIABLES or name.startswith(OUR_VARIABLES):
            raise forbidden(f"{field}.new_cluster.spark_env_vars.{name}", "the operator owns it")
    for name in look(block, "new_cluster.custom_tags")[1] or ():
        if name.lower().startswith(OUR_TAGS):
            raise forbidden(f"{field}.new_cluster.custom_tags.{name}", "the operator owns it")


def _once_each(loop: Mapping[str, Any]) -> dict[str, Any]:
    """A loop whose task the platform does not start again by itself."""
    once = {"max_retries": 0, "retry_on_timeout": False, "disable_auto_optimization": True}
    return {**loop, "task": {**loop["task"], **once}}
