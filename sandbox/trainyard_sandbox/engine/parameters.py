"""What a task's parameters are once references such as `{{job.parameters.x}}` are replaced. Pure.

task_process.py asks it before a task's code starts, triggering.py before a child run does.

Read in: Databricks documentation, "What is a dynamic value reference?" (names and forms; a reference that does not
exist stays as it is) and "Configure job parameters" (job parameters are pushed down to tasks that take key-value
parameters, and win over task parameters of the same name).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from trainyard_sandbox.engine.runs import Run, TaskRun

_REFERENCE = re.compile(r"\{\{\s*([A-Za-z0-9_.\-]+)\s*\}\}")


def replaced(value: Any, run: Run, task: TaskRun) -> Any:
    """A string, list or map with the references in its strings replaced."""
    if isinstance(value, str):
        return _REFERENCE.sub(lambda found: _value(found, run, task), value)
    if isinstance(value, list):
        return [replaced(entry, run, task) for entry in value]
    if isinstance(value, dict):
        return {key: replaced(entry, run, task) for key, entry in value.items()}
    return value


def arguments(run: Run, task: TaskRun) -> list[str]:
    """The command-line arguments of a Python file or wheel."""
    spec = task.spec[task.kind]
    if task.kind == "python_wheel_task" and "parameters" not in spec:
        named: dict[str, str] = replaced(spec.get("named_parameters", {}), run, task) | run.job_parameters
        return [f"--{name}={value}" for name, value in named.items()]
    listed: list[str] = replaced(spec.get("parameters", []), run, task)
    return listed


def widgets(run: Run, task: TaskRun) -> dict[str, str]:
    """What a notebook reads with `dbutils.widgets.get`."""
    values: dict[str, str] = replaced(task.spec["notebook_task"].get("base_parameters", {}), run, task)
    return values | run.job_parameters


def _value(found: re.Match[str], run: Run, task: TaskRun) -> str:
    name = found.group(1)
    if name.startswith("job.parameters."):
        return run.job_parameters.get(name.removeprefix("job.parameters."), found.group(0))
    if name.startswith("tasks.") and name.endswith(".result_state"):
        return _result_of(name.removeprefix("tasks.").removesuffix(".result_state"), run) or found.group(0)
    started = datetime.fromtimestamp(run.progress.start_time / 1000, UTC)
    known = {
        "job.id": str(run.job_id),
        "job.name": run.name,
        "job.run_id": str(run.run_id),
        "job.repair_count": "0",
        "job.start_time.iso_date": started.date().isoformat(),
        "job.start_time.iso_datetime": started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "job.start_time.timestamp_ms": str(run.progress.start_time),
        "job.trigger.type": run.trigger.lower(),
        "task.name": task.task_key,
        "task.run_id": str(task.run_id),
        "task.execution_count": str(task.attempt_number + 1),
    }
    return known.get(name, found.group(0))


def _result_of(task_key: str, run: Run) -> str | None:
    """`tasks.[task_name].result_state`: success, failed, excluded, canceled, timedout, upstream_failed ..."""
    tasks = [task for task in run.latest_tasks() if task.task_key == task_key]
    outcome = tasks[0].progress.outcome if tasks else None
    return outcome.result_state.lower() if outcome and outcome.result_state else None
