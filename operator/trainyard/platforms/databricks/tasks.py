"""The tasks of a request, with the serverless environments and variables that they share. Pure.

Called by translate.py. Field names and limits are those of databricks-sdk service/jobs.py (SubmitTask, RunJobTask,
JobEnvironment, JobEnvironmentVariablesSpec).
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainyard.api.training_run import JobRef
from trainyard.core.errors import TranslationError
from trainyard.platforms.base import Job
from trainyard.platforms.databricks import names, overrides
from trainyard.platforms.databricks.computing import (
    Computing,
    compute_class,
    new_cluster,
    owned_by,
    packages_of,
    request_wide,
)
from trainyard.platforms.databricks.entry import Source, entry_of
from trainyard.platforms.databricks.references import References
from trainyard.platforms.databricks.steps import Step

# JobEnvironmentVariablesSpec: at most 20 entries, values of at most 512 characters. Kept on other compute as well, so
# that a run does not depend on its compute class. JobsAPI.submit: at most 10 entries of each kind.
MAX_VARIABLES = 20
MAX_VARIABLE_LENGTH = 512
MAX_ENTRIES = 10

# Kinds of task that run code on compute of ours to choose; the others bring their own, or need none.
RUNS_CODE = frozenset(
    {"dbt_task", "notebook_task", "python_wheel_task", "spark_jar_task", "spark_python_task", "spark_submit_task"}
)
_RUN_IF = {
    "AllSucceeded": "ALL_SUCCESS",
    "AllDone": "ALL_DONE",
    "NoneFailed": "NONE_FAILED",
    "AtLeastOneSucceeded": "AT_LEAST_ONE_SUCCESS",
    "AtLeastOneFailed": "AT_LEAST_ONE_FAILED",
    "AllFailed": "ALL_FAILED",
}


def with_looped(tasks: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The tasks, each followed by the one that it does in a loop, if it is one."""
    for task in tasks:
        yield task
        if "for_each_task" in task:
            yield task["for_each_task"]["task"]


@dataclass(frozen=True, slots=True)
class Wanting:
    """What all steps of an attempt share: variables for the code, and secrets, by variable, as (scope, key)."""

    job: Job
    source: Source
    references: References
    variables: Mapping[str, str]
    secrets: Mapping[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Made:
    """The tasks, and the fields of the request that go with them. `jobs` holds the names of jobs, by task."""

    tasks: list[dict[str, Any]]
    shared: dict[str, Any]
    jobs: dict[str, str]


def tasks_of(wanting: Wanting, steps: Sequence[Step]) -> Made:
    """The tasks of the request, overrides included.

    Raises:
        TranslationError: naming the field; see translate.translate.
    """
    _check_variables(wanting)
    maker = _Maker(wanting, steps)
    tasks = [maker.task(step) for step in steps]
    shared = {**maker.entries.shared(), **request_wide(maker.used)}
    jobs = {step.name: step.job.name for step in steps if step.job is not None and step.job.name is not None}
    return Made(tasks, shared, jobs)


class _Entries:
    """Serverless environments and sets of variables, each kept once."""

    def __init__(self) -> None:
        self._environments: dict[str, tuple[str, dict[str, Any]]] = {}
        self._variables: dict[str, tuple[str, dict[str, Any]]] = {}

    def environment(self, spec: dict[str, Any], step: Step) -> str:
        return _entry(self._environments, spec, step, "different sets of packages and environment versions")

    def variables(self, variables: Mapping[str, str], step: Step) -> str:
        return _entry(self._variables, {"variables": dict(variables)}, step, "different sets of environment variables")

    def shared(self) -> dict[str, Any]:
        if not self._environments:
            return {}
        return {
            "environments": [{"environment_key": key, "spec": spec} for key, spec in self._environments.values()],
            "environment_variables": [
                {"environment_variables_key": key, "spec": spec} for key, spec in self._variables.values()
            ],
        }


def _entry(entries: dict[str, tuple[str, dict[str, Any]]], spec: dict[str, Any], step: Step, what: str) -> str:
    """The key of an entry with that content, made if there is none."""
    content = json.dumps(spec, sort_keys=True)
    if content not in entries:
        if len(entries) == MAX_ENTRIES:
            raise TranslationError(
                step.environment_field,
                f"with task {step.name!r} the run has more than {MAX_ENTRIES} {what} on serverless compute, which "
                "is all that Databricks takes; let tasks share them, or use a job cluster",
                reason="TooManyEnvironments",
            )
        key = names.ENVIRONMENT_KEY if not entries else f"{names.ENVIRONMENT_KEY}-{len(entries) + 1}"
        entries[content] = (key, spec)
    return entries[content][0]


class _Maker:
    """Makes one task after the other, and keeps what they share."""

    def __init__(self, wanting: Wanting, steps: Sequence[Step]) -> None:
        self._wanting = wanting
        self.entries = _Entries()
        self.used: list[tuple[Step, Computing]] = []
        on_serverless = [step for step in steps if step.compute and self._compute(step).shape.serverless]
        # Each serverless task would need an entry of its own, just for its name; beyond the limit the name goes another
        # way, with the code.
        self._crowded = len(on_serverless) > MAX_ENTRIES

    def task(self, step: Step) -> dict[str, Any]:
        if not step.ours:
            return self._foreign(step)
        task: dict[str, Any] = {"task_key": step.name}
        if step.job is not None:
            task |= _run_job(step, step.job, self._wanting.references) | _never_again("run_job_task") | _graph(step)
            return overrides.merged_task(task, step, self._wanting.job.spec.databricks)
        assert step.entrypoint is not None  # noqa: S101  (ours without a job is code)
        compute = self._compute(step)
        variables, settings = self._told(step, compute)
        what = entry_of(step, step.entrypoint, self._wanting.source, self._wanting.references, settings)
        task |= what | _never_again(next(iter(what))) | self._computed(step, compute, variables) | _graph(step)
        return overrides.merged_task(task, step, self._wanting.job.spec.databricks)

    def _foreign(self, step: Step) -> dict[str, Any]:
        """A task that tasks[].databricks makes; compute is given to those that run code."""
        kind = overrides.kind_of(step)
        task = {"task_key": step.name, **_never_again(kind)}
        block = step.block or {}
        if kind in RUNS_CODE and step.compute is not None:
            compute = self._compute(step)
            variables, _ = self._told(step, compute)
            task |= self._computed(step, compute, variables)
        elif kind in RUNS_CODE and "new_cluster" in block:
            task["new_cluster"] = owned_by(self._wanting.job, self._own_variables(step))
        elif kind == "for_each_task" and "new_cluster" in block[kind]["task"]:
            task[kind] = {"task": {"new_cluster": owned_by(self._wanting.job, self._own_variables(step))}}
        return overrides.merged_task(task | _graph(step), step, None)

    def _compute(self, step: Step) -> Computing:
        return compute_class(step.compute, step.compute_field, self._wanting.job.workspace)

    def _own_variables(self, step: Step) -> dict[str, str]:
        named = {} if step.alone else {names.TASK_VARIABLE: step.name}
        return {**self._wanting.variables, **named}

    def _told(self, step: Step, compute: Computing) -> tuple[dict[str, str], dict[str, str] | None]:
        """The variables that the compute sets, and those that it can not set."""
        variables = self._own_variables(step)
        if not compute.takes_variables:
            return {}, variables
        if not self._crowded or compute.shape.serverless is None:
            return variables, None
        name = variables.pop(names.TASK_VARIABLE)
        return variables, {names.TASK_VARIABLE: name}

    def _computed(self, step: Step, compute: Computing, variables: dict[str, str]) -> dict[str, Any]:
        """The compute of a task, with the packages that it needs."""
        self.used.append((step, compute))
        shape, wheel = compute.shape, self._wanting.source.wheel if step.entrypoint is not None else None
        packages = packages_of(step, self._wanting.job.workspace)
        if shape.serverless is not None:
            _refuse_secrets(self._wanting.secrets, compute, "serverless compute, where Databricks gives none to code")
            spec = {
                "environment_version": shape.serverless.environment_version,
                "dependencies": [*packages, *([wheel.dependency] if wheel else [])],
            }
            accelerator = shape.serverless.accelerator
            return {
                "environment_key": self.entries.environment(spec, step),
                "environment_variables_key": self.entries.variables(variables, step),
                **({"compute": {"hardware_accelerator": accelerator}} if accelerator else {}),
            }
        libraries: list[dict[str, Any]] = [{"pypi": {"package": package}} for package in packages]
        libraries += [wheel.library] if wheel else []
        installed = {"libraries": libraries} if libraries else {}
        if shape.existing_cluster is not None:
            _refuse_secrets(self._wanting.secrets, compute, "a cluster that runs already, whose variables are fixed")
            return {"existing_cluster_id": shape.existing_cluster.cluster_id, **installed}
        secret = {name: f"{{{{secrets/{scope}/{key}}}}}" for name, (scope, key) in self._wanting.secrets.items()}
        return {"new_cluster": new_cluster(self._wanting.job, step, compute, {**variables, **secret}), **installed}


def _run_job(step: Step, job: JobRef, references: References) -> dict[str, Any]:
    """A job that lives on the platform, as a task of our own run: its token, label, timeout and cancel stay ours."""
    field = f"{step.field}.jobRef.parameters"
    parameters = {
        name: references.in_job_parameter(value, f"{field}[{name}]") for name, value in job.parameters.items()
    }
    return {
        "run_job_task": {
            **({"job_id": int(job.id)} if job.id is not None else {}),
            **({"job_parameters": parameters} if parameters else {}),
        }
    }


def _never_again(kind: str) -> dict[str, Any]:
    """The platform must never start a second, paid attempt behind the operator's back.

    Serverless auto-optimization does just that unless told not to. A condition costs nothing and knows no retries.
    """
    if kind == "condition_task":
        return {}
    once = {"max_retries": 0, "retry_on_timeout": False}
    return {**once, "disable_auto_optimization": True} if kind in RUNS_CODE else once


def _graph(step: Step) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if step.depends_on:
        found["depends_on"] = [{"task_key": name} for name in step.depends_on]
        if step.run_if is not None:
            found["run_if"] = _RUN_IF[step.run_if]
    if step.timeout_seconds is not None:
        found["timeout_seconds"] = step.timeout_seconds
    return found


def _refuse_secrets(secrets: Mapping[str, tuple[str, str]], compute: Computing, why: str) -> None:
    if secrets:
        scope, key = next(iter(secrets.values()))
        raise TranslationError(
            "spec.secrets",
            f"compute class {compute.name!r} is {why}; use a class with a job cluster, or leave spec.secrets out and "
            f"read the secret in the code: dbutils.secrets.get({scope!r}, {key!r})",
            reason="SecretsNeedJobCluster",
        )


def _check_variables(wanting: Wanting) -> None:
    for name, value in wanting.variables.items():
        if len(value) > MAX_VARIABLE_LENGTH:
            raise TranslationError("spec", f"variable {name} is longer than {MAX_VARIABLE_LENGTH} characters")
    # Those of the MLflow run come later, and a run of several tasks tells each its name.
    count = len(wanting.variables) + len(wanting.secrets) + len(names.MLFLOW_VARIABLES) + bool(wanting.job.spec.tasks)
    if count > MAX_VARIABLES:
        raise TranslationError(
            "spec",
            f"{count} environment variables, of which Databricks takes {MAX_VARIABLES}; name fewer inputs, outputs and "
            "secrets",
        )
