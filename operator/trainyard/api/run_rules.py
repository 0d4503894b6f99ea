"""CEL rules of MLTrainingRun.spec: what may change after creation, and which times fit into which.

Used by training_run.py when its JSON schema is made. Rules that name a field by hand belong beside that field instead.
"""

from collections.abc import Callable
from typing import Any

from pydantic.alias_generators import to_camel

from trainyard.api.base import Rule, unchanged

_NEW_RUN = "can not be changed once the run exists: create a run with another name"

# Each field of retry that is fixed, with a value of its type that it never has and that stands for its absence.
# retry.limit is the one that may change, so retry can not be compared as a whole.
_FIXED_IN_RETRY = {"when": "''", "backoffSeconds": "0", "maxBackoffSeconds": "0"}


def immutable_except(mutable: frozenset[str]) -> Callable[[dict[str, Any], type], None]:
    """A `json_schema_extra` that adds one rule per field outside `mutable` (names as in Python) and outside retry.

    The fields are read from the schema, so that one added later can not be forgotten.
    """
    changeable = {to_camel(name) for name in mutable} | {"retry"}

    def add_rules(schema: dict[str, Any], _model: type) -> None:
        fixed = [
            unchanged(name, _NEW_RUN, optional=name not in schema["required"])
            for name in schema["properties"]
            if name not in changeable
        ]
        retry = [_retry_unchanged(name, none) for name, none in _FIXED_IN_RETRY.items()]
        times = [_within_timeout("attemptTimeoutSeconds"), _within_timeout("queueTimeoutSeconds")]
        schema.setdefault("x-kubernetes-validations", []).extend([*fixed, *retry, *times, _CANCEL_IS_LATCHED, *_SHAPE])

    return add_rules


def _retry_unchanged(name: str, none: str) -> Rule:
    """Holds a field of retry to what it was, whether or not retry itself was there."""
    now = f"(has(self.retry) && has(self.retry.{name}) ? self.retry.{name} : {none})"
    return {
        "rule": f"{now} == {now.replace('self', 'oldSelf')}",
        "message": f"retry.{name} {_NEW_RUN} (only retry.limit may change)",
        "fieldPath": ".retry",
        "reason": "FieldValueForbidden",
    }


def _within_timeout(name: str) -> Rule:
    return {
        "rule": f"!has(self.{name}) || !has(self.timeoutSeconds) || self.{name} <= self.timeoutSeconds",
        "message": f"{name} must not exceed timeoutSeconds, which covers all attempts: lower {name} or raise "
        "timeoutSeconds",
        "fieldPath": f".{name}",
    }


_CANCEL_IS_LATCHED: Rule = {
    "rule": "!(has(oldSelf.cancel) && oldSelf.cancel) || (has(self.cancel) && self.cancel)",
    "message": "cancel can not be taken back: create a run with another name",
    "fieldPath": ".cancel",
    "reason": "FieldValueForbidden",
}


def _shape(rule: str, message: str, field: str | None = None) -> Rule:
    return {"rule": rule, "message": message} | ({"fieldPath": f".{field}"} if field else {})


# An empty list of tasks is none, as its absence is; clients that fill in what is absent write it so.
_TASKS = "(has(self.tasks) && self.tasks.size() > 0)"
# A pipeline of Azure ML brings its own steps; they may use code and compute, or nothing of either.
_GRAPH = "(has(self.azureML) && has(self.azureML.jobs))"
_SCRIPT = "has(e.entrypoint) && has(e.entrypoint.consoleScript)"
_INSTALLED = "has(e.entrypoint) && (has(e.entrypoint.consoleScript) || has(e.entrypoint.module))"

# Which fields go together: code with an entrypoint, or tasks, or a jobRef.
_SHAPE: tuple[Rule, ...] = (
    _shape(
        f"!has(self.jobRef) || !(has(self.code) || has(self.entrypoint) || {_TASKS})",
        "jobRef runs a job that has its own code: remove code, entrypoint and tasks, or use a task with a jobRef",
        "jobRef",
    ),
    _shape(
        f"has(self.jobRef) || has(self.code) || {_GRAPH} || ({_TASKS} && self.tasks.all(t, !has(t.entrypoint)))",
        "code is missing: give one of inline, configMap, git, path or wheel, or run a job with jobRef",
        "code",
    ),
    _shape(
        f"!{_TASKS} || !has(self.entrypoint)",
        "entrypoint and tasks can not stand together: give each task its own entrypoint",
        "entrypoint",
    ),
    _shape(
        f"has(self.compute) || has(self.jobRef) || {_GRAPH} || ({_TASKS} && "
        "self.tasks.all(t, has(t.compute) || !has(t.entrypoint)))",
        "compute is missing: name a class of the workspace's computeClasses, here or in every task",
        "compute",
    ),
    _shape(
        f"!{_TASKS} || self.tasks.all(t, [has(t.entrypoint), has(t.jobRef)].filter(x, x).size() <= 1 && "
        "(has(t.entrypoint) || has(t.jobRef) || has(t.databricks)))",
        "each task needs exactly one of entrypoint and jobRef, or a task of the platform's in databricks",
        "tasks",
    ),
    _shape(
        f"!{_TASKS} || self.tasks.all(t, !has(t.dependsOn) || t.dependsOn.all(d, self.tasks.exists(o, o.name == d)))",
        "dependsOn names a task that is not there: correct the name, or add the task",
        "tasks",
    ),
    _shape(
        "(has(self.code) && has(self.code.wheel)) || "
        f"!([self].exists(e, {_SCRIPT}) || ({_TASKS} && self.tasks.exists(e, {_SCRIPT})))",
        "consoleScript needs code.wheel: a console script is installed by a wheel",
        "code",
    ),
    _shape(
        "!has(self.code) || !has(self.code.wheel) || "
        f"({_TASKS} ? self.tasks.all(e, !has(e.entrypoint) || {_INSTALLED}) : [self].all(e, {_INSTALLED}))",
        "code.wheel has no files to start: name a consoleScript or a module in the entrypoint",
        "code",
    ),
)
