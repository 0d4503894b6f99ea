"""MLTrainingRun: one training, run to completion on the workspace it names, exactly once."""

from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.alias_generators import to_camel

from trainyard.api.base import ApiModel, Condition, Name, Seconds, Time, rules, unchanged

ParamName = Annotated[str, Field(min_length=1, max_length=63)]
FileName = Annotated[str, Field(min_length=4, max_length=128, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\.py$")]
TagKey = Annotated[str, Field(min_length=1, max_length=63)]
TagValue = Annotated[str, Field(max_length=255)]

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


class ConfigMapCode(ApiModel):
    """Source files kept in a ConfigMap of the run's namespace; each key is a file in one folder."""

    name: Annotated[Name, Field(description="Name of the ConfigMap.")]


class Code(ApiModel):
    """Where the source comes from. Exactly one way."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "has(self.inline) != has(self.configMap)",
                "code needs exactly one of inline or configMap: add the one that you use, or remove the other",
            )
        )
    }

    inline: Annotated[
        str | None,
        Field(
            default=None,
            min_length=1,
            max_length=65536,
            description="Source text of the entrypoint's Python file, at most 65,536 characters. "
            "Absent when configMap is given.",
        ),
    ] = None
    config_map: Annotated[
        ConfigMapCode | None,
        Field(
            default=None,
            description="Source files from a ConfigMap of the same namespace; each key is a file. Absent when inline "
            "is given.",
        ),
    ] = None


class Entrypoint(ApiModel):
    """What is started."""

    python_file: Annotated[
        FileName,
        Field(
            default="main.py",
            description="The Python file to run: a key of the ConfigMap, or the name given to the inline source. "
            "Absent: main.py.",
        ),
    ] = "main.py"
    args: Annotated[
        list[Annotated[str, Field(max_length=2048)]],
        Field(
            default_factory=list,
            max_length=64,
            description="Command-line arguments. $(params.NAME) is replaced by that parameter; $$( stands for $( . "
            "Absent: none.",
        ),
    ]


Requirement = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^-\s]")]


class Environment(ApiModel):
    """Software that the code needs, in names that hold on every platform."""

    runtime: Annotated[
        str | None,
        Field(
            default=None,
            min_length=1,
            max_length=63,
            description="A short name from the workspace's runtimes. Absent: nothing but spec.environment.pip.",
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
    on: Annotated[
        Literal["Infrastructure", "Any"],
        Field(
            default="Infrastructure",
            description="Infrastructure retries what is not the code's doing (cloud, cluster, platform; what absence "
            "means); Any also retries failed code and timed-out attempts.",
        ),
    ] = "Infrastructure"
    backoff_seconds: Annotated[
        Seconds,
        Field(default=30, description="Seconds before the second attempt; doubled for each later one. Absent: 30."),
    ] = 30
    max_backoff_seconds: Annotated[
        Seconds, Field(default=600, description="Seconds that the doubling stops at. Absent: 600.")
    ] = 600


# Fields that may change after creation; everything else is compared with the object as it was. retry is half of each:
# its limit may change, see _RETRY_FIXED.
MUTABLE_FIELDS = frozenset({"cancel", "deletion_policy"})

_NEW_RUN = "can not be changed once the run exists: create a run with another name"
_RETRY_FIXED = {"on": "''", "backoffSeconds": "0", "maxBackoffSeconds": "0"}


def _immutable(schema: dict[str, Any], _model: type) -> None:
    """Adds one rule per field that may not change, so that a field added later can not be forgotten."""
    changeable = {to_camel(name) for name in MUTABLE_FIELDS} | {"retry"}
    required = schema["required"]
    fixed = [
        unchanged(name, _NEW_RUN, optional=name not in required)
        for name in schema["properties"]
        if name not in changeable
    ]
    validations = schema.setdefault("x-kubernetes-validations", [])
    validations += fixed + [_retry_unchanged(name, none) for name, none in _RETRY_FIXED.items()] + _SPEC_RULES


def _retry_unchanged(name: str, none: str) -> dict[str, str]:
    """Holds a field of retry to what it was, whether or not retry itself was there; `none` is a value it never has."""
    now = f"(has(self.retry) && has(self.retry.{name}) ? self.retry.{name} : {none})"
    return {
        "rule": f"{now} == {now.replace('self', 'oldSelf')}",
        "message": f"retry.{name} {_NEW_RUN} (only retry.limit may change)",
        "fieldPath": ".retry",
        "reason": "FieldValueForbidden",
    }


def _within_timeout(name: str) -> dict[str, str]:
    return {
        "rule": f"!has(self.{name}) || !has(self.timeoutSeconds) || self.{name} <= self.timeoutSeconds",
        "message": f"{name} must not exceed timeoutSeconds, which covers all attempts: lower {name} or raise "
        "timeoutSeconds",
        "fieldPath": f".{name}",
    }


_SPEC_RULES = [
    _within_timeout("attemptTimeoutSeconds"),
    _within_timeout("queueTimeoutSeconds"),
    {
        "rule": "!(has(oldSelf.cancel) && oldSelf.cancel) || (has(self.cancel) && self.cancel)",
        "message": "cancel can not be taken back: create a run with another name",
        "fieldPath": ".cancel",
        "reason": "FieldValueForbidden",
    },
]


class MLTrainingRunSpec(ApiModel):
    """What to run. Immutable from creation, except cancel, deletionPolicy and retry.limit."""

    model_config = ApiModel.model_config | {"json_schema_extra": _immutable}

    workspace_ref: Annotated[WorkspaceRef, Field(description="Where it runs.")]
    code: Annotated[Code, Field(description="Where the source comes from.")]
    entrypoint: Annotated[
        Entrypoint | None, Field(default=None, description="What is started. Absent: main.py without arguments.")
    ] = None
    environment: Annotated[
        Environment | None, Field(default=None, description="Software that the code needs. Absent: the platform's own.")
    ] = None
    compute: Annotated[Compute, Field(description="What it computes on.")]
    params: Annotated[
        dict[ParamName, Annotated[str, Field(max_length=1024)]],
        Field(
            default_factory=dict, max_length=64, description="Parameters, used in args as $(params.NAME). Absent: none."
        ),
    ]
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
            description="Owner labels put on everything that is started (team, cost centre, contact), beside ours. "
            "Absent: none.",
        ),
    ]
    retry: Annotated[Retry | None, Field(default=None, description="Absent: 2 retries of infrastructure failures.")] = (
        None
    )
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
            description="Seconds that an attempt may wait on the platform before its code starts. Absent: no limit "
            "but the attempt's own.",
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
    submission_key: Annotated[
        str | None,
        Field(
            default=None,
            min_length=8,
            max_length=63,
            pattern=r"^[A-Za-z0-9_-]+$",
            description="Stands for the resource's uid in the submission token, so that a restored or rebuilt cluster "
            "finds the old remote run instead of starting another. Must be unique in the platform's workspace. "
            "Absent: the uid.",
        ),
    ] = None
    databricks: Annotated[
        dict[str, Any] | None,
        Field(
            default=None,
            description="Merged (RFC 7396) over the translated request of Databricks' jobs/runs/submit, for what only "
            "Databricks has. Fields that the operator owns are refused by name. Absent: nothing is changed.",
            json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
        ),
    ] = None


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


class Attempt(ApiModel):
    """One submission to the platform."""

    number: Annotated[int, Field(ge=1, description="1 for the first attempt.")]
    submission_token: Annotated[
        str, Field(max_length=64, description="What makes the submission exactly-once on the platform.")
    ]
    platform: Annotated[str, Field(max_length=32, description="Kind of platform: databricks.")]
    host: Annotated[str, Field(max_length=255, description="Host that it was submitted to.")]
    principal: Annotated[str, Field(max_length=255, description="Identity that submitted it.")]
    mode: Annotated[str, Field(max_length=32, description="Identity mode.")]
    service_account: Annotated[str, Field(max_length=253, description="ServiceAccount of the run's namespace.")]
    spec_digest: Annotated[str, Field(max_length=80, description="Digest of the spec that the attempt was made from.")]
    code_digest: Annotated[str, Field(max_length=80, description="Digest of the source files.")]
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
    started_at: Annotated[Time | None, Field(default=None, description="When the code was first seen running.")] = None
    ended_at: Annotated[Time | None, Field(default=None, description="When it was seen to have ended.")] = None
    reason: Annotated[str | None, Field(default=None, max_length=128, description="Why it ended, as one word.")] = None
    message: Annotated[str | None, Field(default=None, max_length=1024, description="Why it ended, for people.")] = None


class RegisteredModel(ApiModel):
    """The model version that the run made."""

    name: Annotated[str, Field(max_length=512, description="Full name on the platform.")]
    version: Annotated[str, Field(max_length=64, description="Version, as a string.")]
    uri: Annotated[str, Field(max_length=1024, description="MLflow URI of the version.")]
    alias: Annotated[str | None, Field(default=None, max_length=127, description="Alias that it was given.")] = None


class Stop(ApiModel):
    """A decision to end the live attempt that has not been carried through yet, or that ended the run."""

    reason: Annotated[str, Field(max_length=64, description="Cancelled, TimedOut, AttemptTimedOut or QueueTimedOut.")]
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
        Field(default_factory=list, max_length=24, description="Every attempt, oldest first; bounded by retry.limit."),
    ]
    retry_at: Annotated[
        str | None, Field(default=None, description="When the next attempt is made; absent unless one is waited for.")
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
    started_at: Annotated[str | None, Field(default=None, description="When the operator first saw the run.")] = None
    ended_at: Annotated[str | None, Field(default=None, description="When the run ended.")] = None
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
