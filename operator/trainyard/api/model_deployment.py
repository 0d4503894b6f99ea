"""ModelDeployment: a model, or several, served at an endpoint of the workspace that it names."""

from typing import Annotated, Any, Literal

from pydantic import Field

from trainyard.api.base import ApiModel, Name, Seconds, rules, unchanged
from trainyard.api.data import EnvironmentName, StoredSecret, named_as_variables
from trainyard.api.deployment_rollout import Rollout
from trainyard.api.deployment_status import (
    ModelDeploymentStatus,
)
from trainyard.api.tasks import Compute
from trainyard.api.training_run import TagKey, TagValue, WorkspaceRef

__all__ = [
    "MOST_MODELS",
    "EndpointPermission",
    "ModelDeploymentSpec",
    "ModelDeploymentStatus",
    "ModelSource",
    "Replicas",
    "RequestLogging",
    "RunSource",
    "ServedModel",
]

# Served at once, before and during a rollout, which may need twice as many: Azure ML takes 20 deployments per endpoint
# (https://learn.microsoft.com/azure/machine-learning/how-to-manage-quotas).
MOST_MODELS = 8
_NEW = "can not be changed: create a deployment with another name"


class RunSource(ApiModel):
    """The MLTrainingRun whose model is served."""

    name: Annotated[Name, Field(description="Name of an MLTrainingRun of the same namespace, with spec.model.")]


class ModelSource(ApiModel):
    """Which registered model version is served. Exactly one of version, alias and fromRun."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "[has(self.version), has(self.alias), has(self.fromRun)].filter(x, x).size() == 1",
                "a model needs exactly one of version, alias or fromRun: add the one that you use, or remove "
                "the others",
            ),
            (
                "has(self.name) != has(self.fromRun)",
                "name stands beside version or alias, and not beside fromRun, whose run names the model: add or "
                "remove it",
            ),
            (
                "!has(self.followAlias) || has(self.alias)",
                "followAlias needs an alias to follow: add alias, or remove followAlias",
            ),
        )
    }

    name: Annotated[
        str | None,
        Field(
            default=None,
            min_length=1,
            max_length=255,
            pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*(\.[A-Za-z0-9_][A-Za-z0-9_-]*){0,2}$",
            description="Name of a registered model: a short name, before which the workspace's modelPrefix goes, or "
            "catalog.schema.model. Absent when fromRun is given.",
        ),
    ] = None
    version: Annotated[
        str | None,
        Field(
            default=None,
            min_length=1,
            max_length=32,
            pattern=r"^[A-Za-z0-9_.-]+$",
            description="Version, for example 3. Absent when alias or fromRun is given.",
        ),
    ] = None
    alias: Annotated[
        str | None,
        Field(
            default=None,
            min_length=1,
            max_length=127,
            pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$",
            description="Alias of the version, looked up once. Absent when version or fromRun is given.",
        ),
    ] = None
    follow_alias: Annotated[
        bool | None,
        Field(
            default=None,
            description="True: when the alias moves to another version, that one is rolled out. Absent: false.",
        ),
    ] = None
    from_run: Annotated[
        RunSource | None,
        Field(
            default=None,
            description="The run whose model is served, waited for until it has registered one, looked up once: the "
            "run may be deleted afterwards. Absent when version or alias is given.",
        ),
    ] = None


class Replicas(ApiModel):
    """How many copies of a model answer."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "!has(self.max) || self.max >= self.min",
                "max must not be less than min: raise max or lower min",
            )
        )
    }

    min: Annotated[int, Field(ge=1, le=1000, description="Smallest number that is kept up.")]
    max: Annotated[
        int | None,
        Field(
            default=None, ge=1, le=1000, description="Largest number under load. Absent: min, so that none is added."
        ),
    ] = None


class ServedModel(ApiModel):
    """One model version behind the endpoint, with its share of the requests."""

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=20,
            pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$",
            description="Name of its place behind the endpoint, for example champion.",
        ),
    ]
    model: Annotated[ModelSource, Field(description="Which registered model version it is.")]
    compute: Annotated[Compute, Field(description="The machines it gets: a class of the workspace's computeClasses.")]
    replicas: Annotated[
        Replicas | None, Field(default=None, description="How many copies of it answer. Absent: one.")
    ] = None
    scale_to_zero: Annotated[
        bool | None,
        Field(
            default=None,
            description="True: no copy is kept up while nobody asks, and the first request waits for one; not on "
            "Azure ML. Absent: false.",
        ),
    ] = None
    env: Annotated[
        dict[EnvironmentName, Annotated[str, Field(max_length=512)]],
        Field(
            default_factory=dict,
            max_length=16,
            description="Environment variables of the model's server. Absent: none.",
            json_schema_extra=named_as_variables("names of env"),
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
    traffic: Annotated[
        int | None,
        Field(
            default=None,
            ge=0,
            le=100,
            description="Percent of the requests that it answers. Absent: 100 where it is the only one, else 0.",
        ),
    ] = None


class RequestLogging(ApiModel):
    """Requests and answers are kept by the platform.

    In a table below the workspace's modelPrefix (Databricks), or in its own storage (Azure ML).
    """

    sampling_percent: Annotated[
        int | None, Field(default=None, ge=1, le=100, description="Percent of the requests that are kept. Absent: 100.")
    ] = None


class EndpointPermission(ApiModel):
    """Who may see, ask or change the endpoint."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "[has(self.group), has(self.user), has(self.servicePrincipal)].filter(x, x).size() == 1",
                "a permission needs exactly one of group, user or servicePrincipal: write one entry for each",
            )
        )
    }

    group: Annotated[
        str | None, Field(default=None, max_length=255, description="Name of a group. Absent when another is given.")
    ] = None
    user: Annotated[
        str | None,
        Field(
            default=None,
            max_length=255,
            description="A user name, for example ada@example.com. Absent when another is given.",
        ),
    ] = None
    service_principal: Annotated[
        str | None,
        Field(
            default=None,
            max_length=64,
            description="Application id of a service principal. Absent when another is given.",
        ),
    ] = None
    level: Annotated[
        Literal["CAN_VIEW", "CAN_QUERY", "CAN_MANAGE"],
        Field(description="CAN_VIEW sees the endpoint; CAN_QUERY also asks it; CAN_MANAGE also changes it."),
    ]


_SHARE = "(has(m.traffic) ? m.traffic : 0)"
_RULES = (
    (
        f"self.models.size() == 1 ? (!has(self.models[0].traffic) || self.models[0].traffic == 100) : "
        f"self.models.map(m, {_SHARE}).sum() == 100",
        "the traffic of models must sum to 100: change the shares",
    ),
    (
        "!has(self.promote) || !has(oldSelf.promote) || self.promote >= oldSelf.promote",
        "promote must not go back: it is the number of the revision that you want served, see status.revision",
    ),
)


def _fixed(schema: dict[str, Any], _model: type) -> None:
    schema.update(rules(*_RULES))
    schema["x-kubernetes-validations"] += [
        unchanged("workspaceRef", _NEW, optional=False),
        unchanged("endpoint", _NEW, optional=True),
    ]


class ModelDeploymentSpec(ApiModel):
    """What is served, and how it gets there. All but workspaceRef and endpoint may be changed."""

    model_config = ApiModel.model_config | {"json_schema_extra": _fixed}

    workspace_ref: Annotated[WorkspaceRef, Field(description="Where it is served.")]
    endpoint: Annotated[
        str | None,
        Field(
            default=None,
            min_length=3,
            max_length=32,
            pattern=r"^[a-zA-Z][a-zA-Z0-9-]*[a-zA-Z0-9]$",
            description="Name of the endpoint on the platform. Absent: the workspace's endpointPrefix, the namespace "
            "and the name, shortened where they are too long.",
        ),
    ] = None
    adopt: Annotated[
        bool | None,
        Field(
            default=None,
            description="True: an endpoint of that name that somebody else made is taken over, and what it serves "
            "replaced. Absent: it is left alone, and this deployment stalled.",
        ),
    ] = None
    models: Annotated[
        list[ServedModel],
        Field(
            min_length=1,
            max_length=MOST_MODELS,
            description="The model versions behind the endpoint. Their traffic sums to 100.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ]
    rollout: Annotated[
        Rollout | None,
        Field(
            default=None,
            description="How a change gets to where requests are answered. Absent: all at once, when what is new is "
            "ready.",
        ),
    ] = None
    promote: Annotated[
        int | None,
        Field(
            default=None,
            ge=1,
            description="Number of a revision (status.revision) that is to get all requests as soon as it is ready, "
            "past the steps that are left. Absent: rollout.promotion says who promotes.",
        ),
    ] = None
    auth: Annotated[
        Literal["Token", "Key"] | None,
        Field(
            default=None,
            description="What a request proves itself by: Token of the platform's identities (what absence means), or "
            "Key, a secret of the endpoint (Azure ML alone).",
        ),
    ] = None
    request_logging: Annotated[
        RequestLogging | None,
        Field(default=None, description="Requests and answers are kept. Absent: they are not."),
    ] = None
    permissions: Annotated[
        list[EndpointPermission],
        Field(
            default_factory=list,
            max_length=32,
            description="Who may see, ask or change the endpoint, beside whoever made it. On Azure ML the operator has "
            "no right to grant: status.permissions shows the command. Absent: nobody.",
        ),
    ]
    tags: Annotated[
        dict[TagKey, TagValue],
        Field(
            default_factory=dict,
            max_length=16,
            description="Owner labels put on the endpoint (team, cost centre, contact), beside Trainyard's own. "
            "Absent: none.",
        ),
    ]
    drift_policy: Annotated[
        Literal["Report", "Revert"] | None,
        Field(
            default=None,
            description="What is done when somebody, or the platform, changed the endpoint: Report says so (what "
            "absence means), Revert also brings back what is written here.",
        ),
    ] = None
    expires_after_seconds: Annotated[
        Seconds | None,
        Field(
            default=None,
            description="Seconds after creation at which the endpoint is deleted; this resource stays. Absent: never.",
        ),
    ] = None
    recreate_for_creator: Annotated[
        bool | None,
        Field(
            default=None,
            description="True: when the identity that made the endpoint is not the workspace's any more, the endpoint "
            "is deleted and made again, with nothing served meanwhile. Absent: this deployment is stalled.",
        ),
    ] = None
    deletion_policy: Annotated[
        Literal["Delete", "Orphan"] | None,
        Field(
            default=None,
            description="What deleting the resource does to the endpoint: Delete deletes it (what absence means), "
            "Orphan leaves it.",
        ),
    ] = None
