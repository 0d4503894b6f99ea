"""ModelDeployment.status: what is served and what happened. A contract for people, kstatus, Argo CD and scripts.

Imported through model_deployment.py. Never holds a token, a key or a secret.
"""

from typing import Annotated, Literal

from pydantic import Field

from trainyard.api.base import ApiModel, Condition, Time
from trainyard.api.data import StoredSecret
from trainyard.api.identity import Identity

DeploymentPhase = Literal[
    "Pending",
    "Stalled",
    "Deploying",
    "RollingOut",
    "AwaitingPromotion",
    "RollingBack",
    "Ready",
    "RolledBack",
    "Drifted",
    "Expired",
    "Deleting",
]
# Revisions that the history keeps.
MOST_REVISIONS = 10
LOG_CHARACTERS = 8192
_Served = Annotated[str, Field(max_length=63, description="What it is called behind the endpoint, by its content.")]


class Origin(ApiModel):
    """What made a model version."""

    run: Annotated[
        str | None, Field(default=None, max_length=253, description="The MLTrainingRun, if it was one of ours.")
    ] = None
    uid: Annotated[str | None, Field(default=None, max_length=63, description="Its uid.")] = None
    mlflow_run_id: Annotated[str | None, Field(default=None, max_length=128, description="Its MLflow run.")] = None
    commit: Annotated[str | None, Field(default=None, max_length=64, description="Commit of its source.")] = None
    code_digest: Annotated[str | None, Field(default=None, max_length=80, description="Digest of its source.")] = None
    requested_by: Annotated[str | None, Field(default=None, max_length=255, description="Who asked for it.")] = None
    submitted_as: Annotated[str | None, Field(default=None, max_length=255, description="Who submitted it.")] = None


class Serving(ApiModel):
    """One model version as a revision serves it: everything that is needed to serve it again."""

    name: Annotated[str, Field(max_length=20, description="Name in spec.models.")]
    served: _Served
    model: Annotated[str, Field(max_length=255, description="Registered name, as the platform has it.")]
    version: Annotated[str, Field(max_length=32, description="Version, as the platform has it.")]
    compute_class: Annotated[str, Field(max_length=63, description="Class of the workspace's computeClasses.")]
    min_replicas: Annotated[int, Field(ge=1, description="Smallest number of copies.")]
    max_replicas: Annotated[int, Field(ge=1, description="Largest number of copies.")]
    scale_to_zero: Annotated[bool | None, Field(default=None, description="True: none while nobody asks.")] = None
    env: Annotated[
        dict[str, Annotated[str, Field(max_length=512)]],
        Field(default_factory=dict, max_length=16, description="Environment variables."),
    ]
    secrets: Annotated[
        dict[str, StoredSecret], Field(default_factory=dict, max_length=16, description="Variables from secret stores.")
    ]
    traffic: Annotated[int, Field(ge=0, le=100, description="Percent of the requests when all is rolled out.")]
    origin: Annotated[Origin | None, Field(default=None, description="What made it, as far as known.")] = None
    source: Annotated[
        str | None,
        Field(
            default=None,
            max_length=420,
            description="What in spec.models it was resolved from: version:wine:3, alias:wine:champion, run:NAME.",
        ),
    ] = None


class Revision(ApiModel):
    """What is to be served, resolved: nothing in it depends on an alias or a run any more."""

    number: Annotated[int, Field(ge=1, description="1 for the first.")]
    digest: Annotated[str, Field(max_length=80, description="Digest of what is served, without the number.")]
    created_at: Annotated[Time, Field(description="When it was resolved.")]
    models: Annotated[list[Serving], Field(max_length=8, description="What it serves.")]


class PastRevision(ApiModel):
    """One line of the history."""

    number: Annotated[int, Field(ge=1, description="1 for the first.")]
    digest: Annotated[str, Field(max_length=80, description="Digest of what it serves.")]
    created_at: Annotated[Time, Field(description="When it was resolved.")]
    models: Annotated[
        list[Annotated[str, Field(max_length=320)]],
        Field(default_factory=list, max_length=8, description="What it serves: NAME=MODEL:VERSION@PERCENT."),
    ]
    outcome: Annotated[
        Literal["RollingOut", "Served", "RolledBack", "Superseded", "Failed"],
        Field(description="What became of it."),
    ]
    reason: Annotated[str | None, Field(default=None, max_length=128, description="Why, as one word.")] = None
    message: Annotated[str | None, Field(default=None, max_length=1024, description="Why, for people.")] = None
    ended_at: Annotated[Time | None, Field(default=None, description="When its rollout ended.")] = None


class CheckResult(ApiModel):
    """What a check found."""

    check: Annotated[str, Field(max_length=32, description="Answers, Smoke, Bounds or RunMetric.")]
    served: _Served
    outcome: Annotated[Literal["Passed", "Failed", "Waiting"], Field(description="What it found.")]
    message: Annotated[str, Field(max_length=1024, description="What was seen and what was wanted.")]


class RolloutStatus(ApiModel):
    """A rollout that is under way."""

    stage: Annotated[
        Literal["Preparing", "Stepping", "Promoting", "CleaningUp", "RollingBack", "Removing"],
        Field(
            description="Preparing what is new; Stepping through shares; Promoting it to all; CleaningUp what was "
            "before; RollingBack the share; Removing what failed."
        ),
    ]
    step: Annotated[int, Field(ge=0, description="Number of the step, 1 for the first; 0 before it.")]
    steps: Annotated[int, Field(ge=0, description="How many steps there are.")]
    traffic: Annotated[int, Field(ge=0, le=100, description="Percent that what is new shall answer now.")]
    since: Annotated[Time, Field(description="When this stage or step began.")]
    held_since: Annotated[
        Time | None, Field(default=None, description="When the platform was first seen to give that share.")
    ] = None
    sent_at: Annotated[
        Time | None, Field(default=None, description="When the platform was first asked for a change in this stage.")
    ] = None
    answered: Annotated[
        bool | None, Field(default=None, description="True once what is new was to answer requests.")
    ] = None
    checks: Annotated[
        list[CheckResult],
        Field(default_factory=list, max_length=32, description="What the checks of this step have found."),
    ]
    reason: Annotated[str | None, Field(default=None, max_length=128, description="Why it goes back, if it does.")] = (
        None
    )
    message: Annotated[str | None, Field(default=None, max_length=1024, description="The same, for people.")] = None


class Failure(ApiModel):
    """Why the last rollout went back."""

    revision: Annotated[int, Field(ge=1, description="Number of the revision.")]
    reason: Annotated[str, Field(max_length=128, description="As one word.")]
    message: Annotated[str, Field(max_length=1024, description="For people.")]
    at: Annotated[Time, Field(description="When it was found.")]
    served: Annotated[str | None, Field(default=None, max_length=63, description="What failed, if it was one.")] = None
    plan: Annotated[
        str | None, Field(default=None, max_length=80, description="Digest of the revision with its settings.")
    ] = None
    log: Annotated[
        str | None,
        Field(
            default=None,
            max_length=LOG_CHARACTERS,
            description="The last part of what its server printed, tokens blanked out; kept before it was removed.",
        ),
    ] = None


class EndpointStatus(ApiModel):
    """The endpoint, and what it is pinned to."""

    name: Annotated[str, Field(max_length=63, description="Its name on the platform.")]
    url: Annotated[str | None, Field(default=None, max_length=1024, description="Where it is asked.")] = None
    page: Annotated[str | None, Field(default=None, max_length=1024, description="Its page on the platform.")] = None
    creator: Annotated[
        str | None, Field(default=None, max_length=255, description="Identity that made it, as the platform names it.")
    ] = None
    platform: Annotated[str, Field(max_length=32, description="Kind of platform: databricks or azureml.")]
    host: Annotated[
        str, Field(max_length=512, description="Where it is: a workspace's host, or its URL in Azure's API.")
    ]
    tenant: Annotated[
        str | None, Field(default=None, max_length=64, description="Entra tenant of the identity, where it has one.")
    ] = None
    principal: Annotated[str, Field(max_length=255, description="Identity that works on it.")]
    mode: Annotated[str, Field(max_length=32, description="Identity mode.")]
    service_account: Annotated[
        str | None, Field(default=None, max_length=253, description="ServiceAccount, if the mode has one.")
    ] = None
    identity: Annotated[
        Identity | None,
        Field(
            default=None,
            description="The workspace's identity as it was then. Absent: federated, by the ServiceAccount alone.",
        ),
    ] = None
    cluster: Annotated[
        str | None, Field(default=None, max_length=255, description="What the tag trainyard_cluster on it says.")
    ] = None
    made: Annotated[
        bool | None, Field(default=None, description="True once it has been seen to be there and ours.")
    ] = None


class ServedStatus(ApiModel):
    """One model version behind the endpoint, wanted or there."""

    name: Annotated[str, Field(max_length=63, description="Name in spec.models; of what is not ours, its own.")]
    served: _Served
    model: Annotated[str | None, Field(default=None, max_length=255, description="Registered name.")] = None
    version: Annotated[str | None, Field(default=None, max_length=32, description="Version.")] = None
    state: Annotated[
        str, Field(max_length=32, description="Absent, Creating, Updating, Ready, Failed, Deleting or Unknown.")
    ]
    replicas: Annotated[int | None, Field(default=None, ge=0, description="Copies that are up, where told.")] = None
    desired_traffic: Annotated[int, Field(ge=0, le=100, description="Percent that it shall answer now.")]
    served_traffic: Annotated[int, Field(ge=0, le=100, description="Percent that it answers.")]
    message: Annotated[str | None, Field(default=None, max_length=512, description="What the platform says of it.")] = (
        None
    )
    origin: Annotated[Origin | None, Field(default=None, description="What made it, as far as known.")] = None


class PermissionStatus(ApiModel):
    """What became of one of spec.permissions."""

    who: Annotated[str, Field(max_length=300, description="kind:name, for example group:analysts.")]
    level: Annotated[str, Field(max_length=32, description="The right.")]
    granted: Annotated[bool, Field(description="Whether the operator granted it.")]
    command: Annotated[
        str | None, Field(default=None, max_length=1024, description="What a person has to run to grant it.")
    ] = None


class ModelDeploymentStatus(ApiModel):
    """What is served and what happened; a field is absent until it is known."""

    observed_generation: Annotated[
        int | None, Field(default=None, ge=0, description="The generation of the spec that this status speaks of.")
    ] = None
    phase: Annotated[DeploymentPhase | None, Field(default=None, description="Where the deployment is.")] = None
    conditions: Annotated[
        list[Condition],
        Field(
            default_factory=list,
            max_length=8,
            description="Ready, Reconciling, Stalled, and Available: the last revision that was good, or a newer one, "
            "answers.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ]
    endpoint: Annotated[EndpointStatus | None, Field(default=None, description="The endpoint.")] = None
    revision: Annotated[int | None, Field(default=None, ge=1, description="Number of the newest revision.")] = None
    last_good_revision: Annotated[
        int | None, Field(default=None, ge=1, description="Number of the last revision that served all requests.")
    ] = None
    target: Annotated[Revision | None, Field(default=None, description="The newest revision.")] = None
    last_good: Annotated[Revision | None, Field(default=None, description="The last that served all requests.")] = None
    applied: Annotated[
        str | None,
        Field(
            default=None,
            max_length=80,
            description="Digest of the plan that the endpoint was last seen to follow in full: what differs from it "
            "later was changed by somebody else.",
        ),
    ] = None
    rollout: Annotated[RolloutStatus | None, Field(default=None, description="The rollout under way.")] = None
    failure: Annotated[Failure | None, Field(default=None, description="Why the last rollout went back.")] = None
    served_models: Annotated[
        list[ServedStatus],
        Field(default_factory=list, max_length=24, description="What is behind the endpoint, wanted or there."),
    ]
    traffic: Annotated[
        str | None,
        Field(default=None, max_length=512, description="Shares in one line: NAME:VERSION=SERVED/DESIRED, ..."),
    ] = None
    drift: Annotated[
        list[Annotated[str, Field(max_length=512)]],
        Field(default_factory=list, max_length=16, description="What differs from the plan by another's hand."),
    ]
    permissions: Annotated[
        list[PermissionStatus], Field(default_factory=list, max_length=32, description="What became of the rights.")
    ]
    revisions: Annotated[
        list[PastRevision],
        Field(default_factory=list, max_length=MOST_REVISIONS, description="The newest revisions, oldest first."),
    ]
    expires_at: Annotated[Time | None, Field(default=None, description="When the endpoint is deleted.")] = None
    started_at: Annotated[Time | None, Field(default=None, description="When the operator first saw it.")] = None

    def condition(self, kind: str) -> Condition | None:
        """The condition of that type, if it has been written."""
        return next((c for c in self.conditions if c.type == kind), None)
