"""`spec.databricks`: an RFC 7396 merge over the translated request. Pure.

RFC 7396 replaces lists as a whole, and the request's one task stands in a list. So the block shows it as an object:
`spec.databricks.task` merges into the task, and `tasks` itself is the operator's. Everything else is merged where
`jobs/runs/submit` has it; fields that this version does not know go to the platform, which judges them.
"""

from collections.abc import Mapping
from typing import Any

from trainyard.core.errors import TranslationError
from trainyard.platforms.databricks.names import MLFLOW_VARIABLES, OUR_TAGS, OUR_VARIABLES

# What exactly-once, the deadlines and the identity stand on.
OWNED = frozenset(
    {
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
        "task.retry_on_timeout",
        "task.spark_python_task",
        "task.task_key",
        "task.timeout_seconds",
        "tasks",
        "timeout_seconds",
    }
)
# Objects that may be added to but not taken away, because our tags and variables are in them.
_KEPT = ("task", "task.new_cluster", "task.new_cluster.custom_tags", "task.new_cluster.spark_env_vars")

_INSTEAD = {
    "tasks": "use task, which merges into the one task of the request",
    "timeout_seconds": "use spec.attemptTimeoutSeconds",
    "task.timeout_seconds": "use spec.attemptTimeoutSeconds",
    "task.max_retries": "use spec.retry",
    "task.spark_python_task": "use spec.entrypoint",
    "task.existing_cluster_id": "use spec.compute.class",
    "environments": "use spec.environment",
}


def merged(body: Mapping[str, Any], block: Mapping[str, Any] | None) -> dict[str, Any]:
    """The request with the run's `spec.databricks` merged over it.

    Raises:
        TranslationError: OverrideForbidden, naming the field.
    """
    if not block:
        return dict(body)
    _refuse_owned(block)
    document = {key: value for key, value in body.items() if key != "tasks"} | {"task": body["tasks"][0]}
    result = merge_patch(document, block)
    task = result.pop("task")
    return {**result, "tasks": [task]}


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def _refuse_owned(block: Mapping[str, Any]) -> None:
    for path in sorted(OWNED):
        found, _ = _look(block, path)
        if found:
            raise _forbidden(path, _INSTEAD.get(path, "the operator owns it"))
    for path in _KEPT:
        found, value = _look(block, path)
        if found and not isinstance(value, Mapping):
            raise _forbidden(path, "must be an object: what the operator puts there stays")
    _, variables = _look(block, "task.new_cluster.spark_env_vars")
    for name in variables or ():
        if name in MLFLOW_VARIABLES or name.startswith(OUR_VARIABLES):
            raise _forbidden(f"task.new_cluster.spark_env_vars.{name}", "the operator owns it")
    _, tags = _look(block, "task.new_cluster.custom_tags")
    for name in tags or ():
        if name.lower().startswith(OUR_TAGS):
            raise _forbidden(f"task.new_cluster.custom_tags.{name}", "the operator owns it")


def _look(block: Mapping[str, Any], path: str) -> tuple[bool, Any]:
    value: Any = block
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return False, None
        value = value[key]
    return True, value


def _forbidden(path: str, why: str) -> TranslationError:
    return TranslationError(f"spec.databricks.{path}", why, reason="OverrideForbidden")
