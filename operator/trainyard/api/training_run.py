"""MLTrainingRun: one training, run to completion on the workspace it names, exactly once."""

from typing import Annotated, Any, Literal

from pydantic import Field

from trainyard.api.base import ApiModel, Name, Seconds, rules
from trainyard.api.databricks_block import block_schema
from trainyard.api.run_rules import immutable_except
from trainyard.api.run_status import Attempt, MLTrainingRunStatus, Phase, RegisteredModel, RemoteIdentity, Stop

__all__ = [
    "MUTABLE_FIELDS",
    "Attempt",
    "Code",
    "Compute",
    "ConfigMapCode",
    "Entrypoint",
    "Environment",
    "MLTrainingRunSpec",
    "MLTrainingRunStatus",
    "Model",
    "Phase",
    "RegisteredModel",
    "RemoteIdentity",
    "Retry",
    "Stop",
    "WorkspaceRef",
]

ParamName = Annotated[str, Field(min_length=1, max_length=63)]
FileName = Annotated[str, Field(min_length=4, max_length=128, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\.py$")]
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
    when: Annotated[
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


# Fields that may change after creation, beside retry.limit.
MUTABLE_FIELDS = frozenset({"cancel", "deletion_policy"})


class MLTrainingRunSpec(ApiModel):
    """What to run. Immutable from creation, except cancel, deletionPolicy and retry.limit."""

    model_config = ApiModel.model_config | {"json_schema_extra": immutable_except(MUTABLE_FIELDS)}

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
            json_schema_extra=block_schema(),
        ),
    ] = None
