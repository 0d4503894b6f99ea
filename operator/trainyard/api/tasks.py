"""A run of several tasks, or of a job that lives on the platform: spec.tasks and spec.jobRef.

Imported through training_run.py.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from trainyard.api.base import ApiModel, Seconds
from trainyard.api.code import Entrypoint, Requirement, one_of

MOST_TASKS = 32

RunIf = Literal["AllSucceeded", "AllDone", "NoneFailed", "AtLeastOneSucceeded", "AtLeastOneFailed", "AllFailed"]
TaskName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class Environment(ApiModel):
    """Software that the code needs, in names that hold on every platform."""

    runtime: Annotated[
        str | None,
        Field(
            default=None,
            min_length=1,
            max_length=63,
            description="A short name from the workspace's runtimes. Absent: none.",
        ),
    ] = None
    pip: Annotated[
        list[Requirement],
        Field(
            default_factory=list,
            max_length=64,
            description="Requirement specifiers (PEP 508), for example scikit-learn==1.9.1. "
            "Options of pip are refused. Absent: only what the runtime brings.",
        ),
    ]


class Compute(ApiModel):
    """What to compute on, in names that hold on every platform."""

    class_: Annotated[
        str,
        Field(
            alias="class", min_length=1, max_length=63, description="A short name from the workspace's computeClasses."
        ),
    ]


class JobRef(ApiModel):
    """A job that lives on the platform. Exactly one way to name it."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": one_of(
            ("id", "name"), "jobRef needs exactly one of id or name: add the one that you use, or remove the other"
        )
    }

    id: Annotated[
        str | None,
        Field(
            default=None,
            max_length=19,
            pattern=r"^[1-9][0-9]*$",
            description="The platform's id of the job, as a string. Absent when name is given.",
        ),
    ] = None
    name: Annotated[
        str | None,
        Field(
            default=None,
            min_length=1,
            max_length=512,
            description="The job's name, which just one job may have. Absent when id is given.",
        ),
    ] = None
    parameters: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=128)], Annotated[str, Field(max_length=2048)]],
        Field(
            default_factory=dict,
            max_length=64,
            description="Job parameters. What is replaced in entrypoint.args is replaced here too, and "
            "$(mlflow.runId) and $(mlflow.experimentId) stand for the attempt's MLflow run. Absent: the job's own.",
        ),
    ]


class TaskRetry(ApiModel):
    """What happens when this task fails. What is absent is as in spec.retry."""

    limit: Annotated[
        int | None,
        Field(
            default=None, ge=0, le=20, description="Number of times that it is tried again. Absent: as in spec.retry."
        ),
    ] = None
    when: Annotated[
        Literal["Infrastructure", "Any"] | None,
        Field(default=None, description="Which failures are retried. Absent: as spec.retry.when says."),
    ] = None


class Task(ApiModel):
    """One step of a run of several. Exactly one of entrypoint and jobRef, or a task of the platform's in databricks."""

    name: Annotated[TaskName, Field(description="Name of the task, unique in the run.")]
    entrypoint: Annotated[
        Entrypoint | None,
        Field(
            default=None, description="What is started, from spec.code. Absent for a jobRef or a task in databricks."
        ),
    ] = None
    job_ref: Annotated[
        JobRef | None,
        Field(default=None, description="A job that lives on the platform. Absent when entrypoint is given."),
    ] = None
    compute: Annotated[
        Compute | None, Field(default=None, description="What it computes on. Absent: spec.compute.")
    ] = None
    environment: Annotated[
        Environment | None, Field(default=None, description="Software that it needs. Absent: spec.environment.")
    ] = None
    depends_on: Annotated[
        list[TaskName],
        Field(
            default_factory=list,
            max_length=MOST_TASKS,
            description="Names of the tasks that have to end before this one. Absent: it starts at once.",
        ),
    ]
    run_if: Annotated[
        RunIf | None,
        Field(
            default=None,
            description="How the tasks it depends on must have ended for it to run: AllDone is however they did, "
            "NoneFailed lets some be skipped. Absent: AllSucceeded.",
        ),
    ] = None
    timeout_seconds: Annotated[
        Seconds | None,
        Field(default=None, description="Seconds that the task may take. Absent: no limit but the attempt's."),
    ] = None
    retry: Annotated[
        TaskRetry | None,
        Field(
            default=None,
            description="What happens when this task fails. A retry makes a new attempt of the tasks that have not "
            "succeeded and of those that depend on them. Absent: as spec.retry says.",
        ),
    ] = None
    databricks: Annotated[
        dict[str, Any] | None,
        Field(
            default=None,
            description="Merged (RFC 7396) over this task of the Databricks request, after spec.databricks.task. "
            "Fields that the operator owns are refused by name. Absent: nothing is changed.",
            json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
        ),
    ] = None
