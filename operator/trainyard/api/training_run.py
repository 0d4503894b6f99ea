"""MLTrainingRun: one training, run to completion on the workspace it names, exactly once."""

from typing import Annotated, Any, Literal

from pydantic import Field

from trainyard.api import azureml_block
from trainyard.api.base import ApiModel, Name, Seconds, rules
from trainyard.api.code import Code, ConfigMapCode, Entrypoint, GitCode, GitSecret, WheelCode
from trainyard.api.data import DataName, EnvironmentName, Input, Output, StoredSecret, named_as_variables
from trainyard.api.databricks_block import block_schema
from trainyard.api.run_rules import immutable_except
from trainyard.api.run_status import (
    Attempt,
    Check,
    Cleanup,
    MLTrainingRunStatus,
    Phase,
    Plan,
    RegisteredModel,
    RemoteIdentity,
    Stop,
    TaskStatus,
    WrittenOutput,
)
from trainyard.api.tasks import MOST_TASKS, Compute, Environment, JobRef, RunIf, Task, TaskRetry

__all__ = [
    "MUTABLE_FIELDS",
    "Attempt",
    "Check",
    "Cleanup",
    "Code",
    "Compute",
    "ConfigMapCode",
    "Entrypoint",
    "Environment",
    "GitCode",
    "GitSecret",
    "Input",
    "JobRef",
    "MLTrainingRunSpec",
    "MLTrainingRunStatus",
    "Model",
    "Output",
    "Phase",
    "Plan",
    "RegisteredModel",
    "RemoteIdentity",
    "Retry",
    "RunIf",
    "Stop",
    "StoredSecret",
    "Task",
    "TaskRetry",
    "TaskStatus",
    "WheelCode",
    "WorkspaceRef",
    "WrittenOutput",
]

ParamName = Annotated[str, Field(min_length=1, max_length=63)]
TagKey = Annotated[str, Field(min_length=1, max_length=63)]
TagValue = Annotated[str, Field(max_length=255)]


class WorkspaceRef(ApiModel):
    """The workspace that a run goes to."""

    kind: Annotated[
        Literal["MLWorkspace", "ClusterMLWorkspace"],
        Field(
            default="MLWorkspace",
            description="MLWorkspace (of the run's own namespace; what absence means) or ClusterMLWorkspace.",
        ),
    ] = "MLWorkspace"
    name: Annotated[Name, Field(description="Name of the workspace.")]


class Model(ApiModel):
    """The registered model that the run makes. The code registers it under the name in TRAINYARD_MODEL_NAME."""

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=127,
            pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$",
            description="Short name; the workspace's modelPrefix goes before it.",
        ),
    ]
    alias: Annotated[
        str | None,
        Field(
            default=None,
            min_length=1,
            max_length=127,
            pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$",
            description="Alias that the new version gets, for example challenger. Absent: none.",
            json_schema_extra=rules(
                (
                    "!self.matches('^([vV][0-9]+|[lL][aA][tT][eE][sS][tT])$')",
                    "alias must not be latest or look like a version (v1), which MLflow keeps: choose another",
                )
            ),
        ),
    ] = None
    tags: Annotated[
        dict[TagKey, TagValue],
        Field(default_factory=dict, max_length=16, description="Tags that the new version gets. Absent: none."),
    ]


class Retry(ApiModel):
    """What happens when an attempt fails."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "(has(self.backoffSeconds) ? self.backoffSeconds : 30) <= "
                "(has(self.maxBackoffSeconds) ? self.maxBackoffSeconds : 600)",
                "backoffSeconds (30 when absent) must not exceed maxBackoffSeconds (600 when absent): raise "
                "maxBackoffSeconds or lower backoffSeconds",
            )
        )
    }

    limit: Annotated[
        int, Field(default=2, ge=0, le=20, description="Number of attempts after the first. Absent: 2. May be changed.")
    ] = 2
    when: Annotated[
        Literal["Infrastructure", "Any"],
        Field(
            default="Infrastructure",
            description="Infrastructure retries what is not the code's doing (cloud, cluster, platform; what absence "
            "means); Any also retries failed code, lack of memory or packages, and timed-out attempts.",
        ),
    ] = "Infrastructure"
    backoff_seconds: Annotated[
        Seconds,
        Field(default=30, description="Seconds before the second attempt; doubled for each later one. Absent: 30."),
    ] = 30
    max_backoff_seconds: Annotated[
        Seconds, Field(default=600, description="Seconds that the doubling stops at. Absent: 600.")
    ] = 600


# Fields that may change after creation, beside retry.limit.
MUTABLE_FIELDS = frozenset({"cancel", "deletion_policy", "suspend", "ttl_seconds_after_finished"})


class MLTrainingRunSpec(ApiModel):
    """What to run. Immutable but for suspend, cancel, ttlSecondsAfterFinished, deletionPolicy and retry.limit.

    Either code with an entrypoint, or several tasks, or a jobRef.
    """

    model_config = ApiModel.model_config | {"json_schema_extra": immutable_except(MUTABLE_FIELDS)}

    workspace_ref: Annotated[WorkspaceRef, Field(description="Where it runs.")]
    code: Annotated[
        Code | None,
        Field(
            default=None,
            description="Where the source comes from: exactly one of inline, configMap, git, path and wheel. Absent "
            "only if nothing but jobs is run.",
        ),
    ] = None
    entrypoint: Annotated[
        Entrypoint | None,
        Field(
            default=None,
            description="What is started: a Python file, a module, a console script or a notebook. Absent: main.py "
            "without arguments, unless tasks or jobRef is given.",
        ),
    ] = None
    tasks: Annotated[
        list[Task],
        Field(
            default_factory=list,
            max_length=MOST_TASKS,
            description="Steps of a run of several, in any order; dependsOn says which waits for which. Absent: the "
            "run is one step, entrypoint or jobRef.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ]
    job_ref: Annotated[
        JobRef | None,
        Field(default=None, description="A job that lives on the platform, run in place of code. Absent: code is run."),
    ] = None
    environment: Annotated[
        Environment | None,
        Field(default=None, description="Software that the code needs. Absent: what the compute has."),
    ] = None
    compute: Annotated[
        Compute | None,
        Field(default=None, description="The machines it gets. Absent only if every task names its own, or is a job."),
    ] = None
    params: Annotated[
        dict[ParamName, Annotated[str, Field(max_length=1024)]],
        Field(
            default_factory=dict,
            max_length=64,
            description="Parameters of the run: $(params.NAME) in args stands for them, and notebooks get them as "
            "widgets. Absent: none.",
        ),
    ]
    inputs: Annotated[
        dict[DataName, Input],
        Field(
            default_factory=dict,
            max_length=16,
            description="Data that the code reads, by name. The code finds each as $(inputs.NAME) in its args and in "
            "the environment as TRAINYARD_INPUT_NAME, in upper case. Absent: none.",
            json_schema_extra=named_as_variables("names of inputs"),
        ),
    ]
    outputs: Annotated[
        dict[DataName, Output],
        Field(
            default_factory=dict,
            max_length=16,
            description="Data that the code writes, by name. The code finds each as $(outputs.NAME) in its args and in "
            "the environment as TRAINYARD_OUTPUT_NAME, in upper case; status.outputs tells what was written. "
            "Absent: none.",
            json_schema_extra=named_as_variables("names of outputs"),
        ),
    ]
    secrets: Annotated[
        dict[EnvironmentName, StoredSecret],
        Field(
            default_factory=dict,
            max_length=16,
            description="Environment variables, by name, that the platform itself fills from its secret store. The "
            "values never pass through Kubernetes. Absent: none.",
            json_schema_extra=named_as_variables("names of secrets"),
        ),
    ]
    run_as: Annotated[
        str | None,
        Field(
            default=None,
            min_length=1,
            max_length=63,
            description="Identity that the code runs as, apart from the one that submits: a short name from the "
            "workspace's runAs.identities. Absent: the workspace's runAs.default, or else the submitter.",
        ),
    ] = None
    experiment: Annotated[
        str | None,
        Field(
            default=None,
            min_length=1,
            max_length=127,
            pattern=r"^[A-Za-z0-9_][A-Za-z0-9_. -]*$",
            description="Short name of the MLflow experiment, made below the workspace's experimentRoot if missing. "
            "Absent: the namespace's name.",
        ),
    ] = None
    model: Annotated[
        Model | None,
        Field(default=None, description="The registered model that the run makes. Absent: none is expected."),
    ] = None
    tags: Annotated[
        dict[TagKey, TagValue],
        Field(
            default_factory=dict,
            max_length=16,
            description="Owner labels put on everything that is started (team, cost centre, contact), beside "
            "Trainyard's own. "
            "Absent: none.",
        ),
    ]
    retry: Annotated[
        Retry | None,
        Field(
            default=None,
            description="What happens when an attempt fails. Absent: 2 retries of infrastructure failures.",
        ),
    ] = None
    timeout_seconds: Annotated[
        Seconds | None,
        Field(
            default=None,
            description="Seconds from the operator's first sight of the run to its end, retries included. "
            "Absent: none.",
        ),
    ] = None
    attempt_timeout_seconds: Annotated[
        Seconds | None,
        Field(
            default=None,
            description="Seconds that one attempt may take once it is submitted; the platform gets it as its own "
            "timeout. Absent: 24 hours.",
        ),
    ] = None
    queue_timeout_seconds: Annotated[
        Seconds | None,
        Field(
            default=None,
            description="Seconds that an attempt may wait on the platform before its code starts; the build of an "
            "image on Azure ML does not count. Absent: no limit but the attempt's own.",
        ),
    ] = None
    suspend: Annotated[
        bool | None,
        Field(
            default=None,
            description="True starts nothing and stops what runs; false again starts a new attempt, which does not "
            "count against retry.limit. The deadline of timeoutSeconds begins anew. Absent: false.",
        ),
    ] = None
    cancel: Annotated[
        bool | None,
        Field(
            default=None,
            description="True stops the run for good; it can not be taken back. Absent: false.",
        ),
    ] = None
    deletion_policy: Annotated[
        Literal["Cancel", "Orphan"] | None,
        Field(
            default=None,
            description="What deleting the resource does to a live remote run: Cancel stops it (what absence means), "
            "Orphan leaves it.",
        ),
    ] = None
    ttl_seconds_after_finished: Annotated[
        int | None,
        Field(
            default=None,
            ge=0,
            le=31_536_000,
            description="Seconds after the end at which this resource is deleted and what was uploaded for it removed. "
            "A resource that Argo CD or Flux tracks stays; only its uploads go. Absent: it is kept.",
        ),
    ] = None
    plan_only: Annotated[
        bool | None,
        Field(
            default=None,
            description="True starts nothing: the run ends as soon as status.plan shows what would be sent and what "
            "every check found. Absent: false.",
        ),
    ] = None
    submission_key: Annotated[
        str | None,
        Field(
            default=None,
            min_length=8,
            max_length=63,
            pattern=r"^[A-Za-z0-9_-]+$",
            description="Stands, with the namespace and the name, for the resource's uid in the submission token, so "
            "that the run made again in a restored or rebuilt cluster finds its old remote run instead of starting "
            "another. Absent: the uid.",
        ),
    ] = None
    databricks: Annotated[
        dict[str, Any] | None,
        Field(
            default=None,
            description="Merged (RFC 7396) over the translated request of Databricks' jobs/runs/submit, for what only "
            "Databricks has. Fields that the operator owns are refused by name. A null takes a field away; kubectl "
            "apply sends it only with --server-side. Absent: nothing is changed.",
            json_schema_extra=block_schema(),
        ),
    ] = None
    azure_ml: Annotated[
        dict[str, Any] | None,
        Field(
            alias="azureML",
            default=None,
            description="Merged (RFC 7396) over the properties of the translated job of Azure ML, for what only Azure "
            "ML has, among it sweeps and pipelines (jobType). Fields that the operator owns are refused by name. "
            "Absent: nothing is changed.",
            json_schema_extra=azureml_block.block_schema(),
        ),
    ] = None
