"""MLTrainingRun.status: what happened to the run. A contract for people, kstatus, Argo CD, Airflow and scripts.

Imported through training_run.py. Never holds a token, a secret or a token's expiry.
"""

from typing import Annotated, Literal

from pydantic import Field

from trainyard.api.base import ApiModel, Condition, Time
from trainyard.api.identity import Identity

Phase = Literal[
    "Pending",
    "Stalled",
    "Submitting",
    "Queued",
    "BuildingEnvironment",
    "Running",
    "Cancelling",
    "Suspended",
    "Succeeded",
    "Failed",
    "TimedOut",
    "Cancelled",
]


class RemoteIdentity(ApiModel):
    """Who the platform saw."""

    submitted_as: Annotated[
        str | None, Field(default=None, max_length=255, description="Principal that submitted.")
    ] = None
    ran_as: Annotated[
        str | None, Field(default=None, max_length=255, description="Principal that the code ran as.")
    ] = None
    mode: Annotated[
        str | None, Field(default=None, max_length=32, description="Identity mode, for example federated.")
    ] = None
    service_account: Annotated[
        str | None, Field(default=None, max_length=512, description="namespace/name of the ServiceAccount behind it.")
    ] = None


class TaskStatus(ApiModel):
    """One task of an attempt."""

    name: Annotated[str, Field(max_length=63, description="Name of the task.")]
    state: Annotated[
        str,
        Field(
            max_length=64, description="Pending, Running, Skipped, or how it ended: Succeeded or the word for why not."
        ),
    ]
    attempt: Annotated[
        int | None,
        Field(default=None, ge=1, description="The earlier attempt that it succeeded in; absent if it is of this one."),
    ] = None
    failures: Annotated[
        int | None, Field(default=None, ge=1, description="How often it has failed so far. Absent: never.")
    ] = None
    remote_id: Annotated[
        str | None, Field(default=None, max_length=128, description="The platform's id of the task's run.")
    ] = None
    started_at: Annotated[Time | None, Field(default=None, description="When it started.")] = None
    ended_at: Annotated[Time | None, Field(default=None, description="When it ended.")] = None
    message: Annotated[str | None, Field(default=None, max_length=512, description="Why it failed, for people.")] = None


class Attempt(ApiModel):
    """One submission to the platform."""

    number: Annotated[int, Field(ge=1, description="1 for the first attempt.")]
    submission_token: Annotated[
        str, Field(max_length=64, description="What makes the submission exactly-once on the platform.")
    ]
    platform: Annotated[str, Field(max_length=32, description="Kind of platform: databricks or azureml.")]
    host: Annotated[
        str,
        Field(max_length=512, description="Where it was submitted: a workspace's host, or its URL in Azure's API."),
    ]
    tenant: Annotated[
        str | None, Field(default=None, max_length=64, description="Entra tenant of the identity, where it has one.")
    ] = None
    principal: Annotated[str, Field(max_length=255, description="Identity that submitted it.")]
    mode: Annotated[str, Field(max_length=32, description="Identity mode.")]
    service_account: Annotated[
        str | None,
        Field(default=None, max_length=253, description="ServiceAccount of the run's namespace, if the mode has one."),
    ] = None
    identity: Annotated[
        Identity | None,
        Field(
            default=None,
            description="The workspace's identity as it was then. Absent: federated, by the ServiceAccount alone.",
        ),
    ] = None
    spec_digest: Annotated[str, Field(max_length=80, description="Digest of the spec that the attempt was made from.")]
    code_digest: Annotated[str, Field(max_length=80, description="Digest of the source files.")]
    commit: Annotated[
        str | None, Field(default=None, max_length=64, description="Commit of the source, when it comes from git.")
    ] = None
    run_as: Annotated[
        str | None, Field(default=None, max_length=255, description="Identity that the code was asked to run as.")
    ] = None
    intended_at: Annotated[Time, Field(description="When the intent was written, before the platform was asked.")]
    remote_id: Annotated[
        str | None, Field(default=None, max_length=128, description="The platform's id of the run, as a string.")
    ] = None
    url: Annotated[str | None, Field(default=None, max_length=1024, description="The run's page on the platform.")] = (
        None
    )
    mlflow_run_id: Annotated[
        str | None, Field(default=None, max_length=128, description="MLflow run that the code logs to.")
    ] = None
    remote_state: Annotated[
        str | None, Field(default=None, max_length=64, description="State as the platform words it.")
    ] = None
    submitted_at: Annotated[Time | None, Field(default=None, description="When the platform accepted it.")] = None
    queued_at: Annotated[
        Time | None,
        Field(default=None, description="When its environment was built and it began to wait for machines, if it did."),
    ] = None
    started_at: Annotated[Time | None, Field(default=None, description="When the code was first seen running.")] = None
    ended_at: Annotated[Time | None, Field(default=None, description="When it was seen to have ended.")] = None
    reason: Annotated[str | None, Field(default=None, max_length=128, description="Why it ended, as one word.")] = None
    message: Annotated[str | None, Field(default=None, max_length=1024, description="Why it ended, for people.")] = None
    adopted: Annotated[
        bool | None,
        Field(
            default=None,
            description="True if the remote run was there before this resource, found by its submission token.",
        ),
    ] = None
    tasks: Annotated[
        list[TaskStatus],
        Field(default_factory=list, max_length=32, description="The tasks of a run of several, as far as known."),
    ]
    logs_uri: Annotated[
        str | None,
        Field(default=None, max_length=1024, description="Where the workspace keeps the attempt's whole logs."),
    ] = None


class RegisteredModel(ApiModel):
    """The model version that the run made."""

    name: Annotated[str, Field(max_length=512, description="Full name on the platform.")]
    version: Annotated[str, Field(max_length=64, description="Version, as a string.")]
    uri: Annotated[str, Field(max_length=1024, description="MLflow URI of the version.")]
    alias: Annotated[str | None, Field(default=None, max_length=127, description="Alias that it was given.")] = None


class WrittenOutput(ApiModel):
    """What was found at an output when the run had succeeded."""

    uri: Annotated[str | None, Field(default=None, max_length=1024, description="Where it lies.")] = None
    table: Annotated[str | None, Field(default=None, max_length=255, description="Full name of the table.")] = None
    size_bytes: Annotated[
        int | None, Field(default=None, ge=0, description="Size; absent where the platform does not tell it.")
    ] = None
    files: Annotated[
        int | None, Field(default=None, ge=0, description="Number of files; absent where the platform does not tell.")
    ] = None
    message: Annotated[
        str | None, Field(default=None, max_length=512, description="What kept it from being measured, if anything.")
    ] = None


class Check(ApiModel):
    """One thing that was looked at before anything is started."""

    name: Annotated[str, Field(max_length=512, description="What was checked, for example CREATE MODEL on main.ml.")]
    field: Annotated[
        str | None, Field(default=None, max_length=128, description="The field of the spec that asks for it.")
    ] = None
    outcome: Annotated[
        Literal["Passed", "Missing", "Unknown"],
        Field(description="Passed; Missing; or Unknown, where the platform does not let this identity find out."),
    ]
    message: Annotated[
        str, Field(max_length=1024, description="What was found, and the command or page that mends it.")
    ]


class Plan(ApiModel):
    """What would be sent to the platform."""

    request: Annotated[
        str, Field(max_length=131_072, description="The request as JSON, after mappings and merges, without secrets.")
    ]
    checks: Annotated[
        list[Check], Field(default_factory=list, max_length=200, description="Every check and what it found.")
    ]


class Cleanup(ApiModel):
    """What was done when ttlSecondsAfterFinished had passed to a resource that is kept."""

    at: Annotated[Time, Field(description="When it was done.")]
    reason: Annotated[str, Field(max_length=128, description="UploadsRemoved or UploadsLeft.")]
    message: Annotated[str, Field(max_length=1024, description="What was removed, and why the resource is kept.")]


class Stop(ApiModel):
    """A decision to end the live attempt that has not been carried through yet, or that ended the run."""

    reason: Annotated[
        str, Field(max_length=64, description="Cancelled, Suspended, TimedOut, AttemptTimedOut or QueueTimedOut.")
    ]
    at: Annotated[Time, Field(description="When it was decided.")]


class MLTrainingRunStatus(ApiModel):
    """What happened to the run; a field is absent until it is known. Written by the operator only; holds no secret."""

    observed_generation: Annotated[
        int | None, Field(default=None, ge=0, description="The generation of the spec that this status speaks of.")
    ] = None
    phase: Annotated[
        Phase | None,
        Field(
            default=None,
            description="One word for where the run is. Succeeded, Failed, TimedOut and Cancelled are final.",
        ),
    ] = None
    conditions: Annotated[
        list[Condition],
        Field(
            default_factory=list,
            max_length=8,
            description="Ready, Reconciling, Stalled, Complete and Failed, computed from the phase.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ]
    attempt: Annotated[int | None, Field(default=None, ge=1, description="Number of the newest attempt.")] = None
    attempts: Annotated[
        list[Attempt],
        Field(default_factory=list, max_length=24, description="The newest attempts, oldest of them first."),
    ]
    retries: Annotated[
        int | None, Field(default=None, ge=0, description="Failed attempts that count against retry.limit.")
    ] = None
    retry_at: Annotated[
        Time | None, Field(default=None, description="When the next attempt is made; absent unless one is waited for.")
    ] = None
    resumed_at: Annotated[
        Time | None, Field(default=None, description="When it was last resumed; timeoutSeconds counts from then.")
    ] = None
    stop: Annotated[
        Stop | None, Field(default=None, description="Why the operator stops, or stopped, the live attempt.")
    ] = None
    identity: Annotated[RemoteIdentity | None, Field(default=None, description="Who the platform saw.")] = None
    model: Annotated[RegisteredModel | None, Field(default=None, description="The model version made.")] = None
    metrics: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=250)], Annotated[str, Field(max_length=32)]],
        Field(
            default_factory=dict,
            max_length=100,
            description="Last value of each metric, as a string so that NaN and Infinity survive; at most 100.",
        ),
    ]
    params: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=250)], Annotated[str, Field(max_length=500)]],
        Field(
            default_factory=dict, max_length=100, description="Parameters that the code logged to MLflow; at most 100."
        ),
    ]
    mlflow_url: Annotated[
        str | None, Field(default=None, max_length=1024, description="The page of the newest attempt's MLflow run.")
    ] = None
    outputs: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=63)], WrittenOutput],
        Field(
            default_factory=dict, max_length=16, description="What was found at each output; of a run that succeeded."
        ),
    ]
    plan: Annotated[
        Plan | None,
        Field(
            default=None,
            description="What would be sent to the platform, and what every check found; only of a run with planOnly.",
        ),
    ] = None
    cleanup: Annotated[
        Cleanup | None,
        Field(default=None, description="What ttlSecondsAfterFinished did to a resource that is kept."),
    ] = None
    started_at: Annotated[Time | None, Field(default=None, description="When the operator first saw the run.")] = None
    ended_at: Annotated[Time | None, Field(default=None, description="When the run ended.")] = None
    duration: Annotated[
        str | None, Field(default=None, max_length=32, description="From first sight to the end, for example 2m13s.")
    ] = None
    remote_id: Annotated[
        str | None, Field(default=None, max_length=128, description="The newest attempt's id on the platform.")
    ] = None
    url: Annotated[str | None, Field(default=None, max_length=1024, description="The newest attempt's page.")] = None

    def condition(self, kind: str) -> Condition | None:
        """The condition of that type, if it has been written."""
        return next((c for c in self.conditions if c.type == kind), None)
