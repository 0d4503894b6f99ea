"""From the plan of an endpoint to what Databricks Model Serving has to show of it. Pure.

Called by `platform`. The body is that of creating an endpoint (databricks-sdk service/serving.py,
ServingEndpointsAPI.create, ServedEntityInput, Route, AiGatewayInferenceTableConfig), with the access list beside it
that is set by an API of its own (ServingEndpointAccessControlRequest).
"""

import re
from dataclasses import replace
from typing import Any

from trainyard.api.compute import ModelServing
from trainyard.api.deployment_status import Serving
from trainyard.api.model_deployment import EndpointPermission
from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.core.errors import TranslationError
from trainyard.core.serving.plan import EndpointPlan
from trainyard.platforms import lacking, told
from trainyard.platforms.base import Need
from trainyard.platforms.databricks import needs
from trainyard.platforms.databricks.serving_permissions import granted_tag
from trainyard.platforms.references import listed
from trainyard.platforms.serving import EndpointRequest

# Ours on an endpoint, in the characters that tags of every cloud take.
TAG_CLUSTER = "trainyard_cluster"
TAG_NAMESPACE = "trainyard_namespace"
TAG_NAME = "trainyard_name"
TAG_UID = "trainyard_uid"
TAG_GRANTED = "trainyard_granted"  # whom we granted something, see serving_permissions
# It was somebody else's, and serves what they had there until what the tag's value is the digest of is active.
TAG_ADOPTED = "trainyard_adopted"
# "A serving endpoint can have at most ten served entities" (ServingEndpointsAPI).
MOST_SERVED = 10
# Requests answered at a time by one copy of each size, fewest and most (ServedEntityInput.workload_size).
CONCURRENCY = {"Small": (4, 4), "Medium": (8, 16), "Large": (16, 64)}
# Stands for the endpoint's own identity until `preflight` knows it: an endpoint reads models as whoever made it.
OWN = ""

_SECRET = re.compile(r"\{\{\s*secrets/")


def translate(
    plan: EndpointPlan, workspace: MLWorkspaceSpec | None, kept: frozenset[str] = frozenset()
) -> EndpointRequest:
    """The plan as a request. `body["config"]` is absent where nothing is served: then there is to be no endpoint.

    Of what is kept there is only the name, and "ai_gateway" is None without a workspace: `serving_steps.as_seen`
    completes both. "compute_classes" names that of each served model, for people.

    Raises:
        TranslationError: naming the field, with one of these reasons: ComputeClassUnknown, InvalidSpec,
            ModelPrefixMissing, SecretStoreUnknown, TooManyServedModels, UnsupportedOnPlatform.
    """
    made = replace(plan, served=tuple(each for each in plan.served if each.served not in kept))
    if workspace is not None:
        lacking.refuse_endpoint("databricks", made, workspace)
    told.refuse_our_tags(plan.tags, "spec.tags")
    if len(plan.served) > MOST_SERVED:
        raise TranslationError(
            "spec.models",
            f"{len(plan.served)} models would be behind the endpoint at a time, what it serves now and what is new; "
            f"Databricks takes {MOST_SERVED}. Serve fewer, or change a few of them at a time.",
            reason="TooManyServedModels",
        )
    body: dict[str, Any] = {
        "name": plan.endpoint,
        "tags": [{"key": key, "value": value} for key, value in sorted(_tags(plan).items())],
        "access_control_list": [_access(grant) for grant in plan.permissions],
    }
    if plan.served:
        body["config"] = _config(plan, workspace, kept)
        body["compute_classes"] = {each.served: each.compute_class for each in plan.served}
    if workspace is None:
        return EndpointRequest(plan, {**body, "ai_gateway": None}, kept=kept)
    if plan.request_logging is not None:
        body["ai_gateway"] = {"inference_table_config": _inference_table(plan, workspace)}
    return EndpointRequest(plan, body, _needs(made, workspace), kept)


def model_name(name: str, workspace: MLWorkspaceSpec) -> str:
    """catalog.schema.model of a name in spec.models.

    Raises:
        TranslationError: ModelPrefixMissing, or InvalidSpec for a name of two parts.
    """
    parts = name.count(".") + 1
    if parts == 3:
        return name
    if parts == 2:
        raise TranslationError(
            "spec.models[].model.name", f"{name!r} has two parts: write catalog.schema.model, or the model's name alone"
        )
    return f"{_prefix(workspace, 'spec.models[].model.name')}.{name}"


def _prefix(workspace: MLWorkspaceSpec, field: str) -> str:
    if workspace.model_prefix is None:
        raise TranslationError(
            field,
            "the workspace has no modelPrefix (catalog.schema) that this would lie in; have it set",
            reason="ModelPrefixMissing",
        )
    return workspace.model_prefix


def _config(plan: EndpointPlan, workspace: MLWorkspaceSpec | None, kept: frozenset[str]) -> dict[str, Any]:
    entities = [
        {"name": each.served} if workspace is None or each.served in kept else _entity(each, workspace)
        for each in plan.served
    ]
    config: dict[str, Any] = {"served_entities": entities}
    if plan.traffic:
        config["traffic_config"] = {
            "routes": [
                {"served_entity_name": each.served, "traffic_percentage": plan.traffic.get(each.served, 0)}
                for each in plan.served
            ]
        }
    return config


def _entity(served: Serving, workspace: MLWorkspaceSpec) -> dict[str, Any]:
    field = f"spec.models[{served.name}]"
    shape = workspace.compute_classes.get(served.compute_class)
    if shape is None or shape.model_serving is None:
        raise TranslationError(
            f"{field}.compute.class",
            f"{served.compute_class!r} is not a compute class of the workspace, which has "
            f"{listed(workspace.compute_classes)}",
            reason="ComputeClassUnknown",
        )
    entity = {
        "name": served.served,
        "entity_name": served.model,
        "entity_version": served.version,
        "workload_type": shape.model_serving.workload_type or "CPU",
        "scale_to_zero_enabled": served.scale_to_zero is True,
        **_size(served, shape.model_serving),
    }
    variables = _variables(served, workspace, field)
    return {**entity, "environment_vars": variables} if variables else entity


def _size(served: Serving, shape: ModelServing) -> dict[str, Any]:
    """The size by name for a single copy; for several, what they answer at a time together."""
    size = shape.workload_size or "Small"
    if served.min_replicas == served.max_replicas == 1:
        return {"workload_size": size}
    fewest, most = CONCURRENCY[size]
    return {
        "min_provisioned_concurrency": served.min_replicas * fewest,
        "max_provisioned_concurrency": served.max_replicas * most,
    }


def _variables(served: Serving, workspace: MLWorkspaceSpec, field: str) -> dict[str, str]:
    for name, value in served.env.items():
        if _SECRET.search(value):
            raise TranslationError(
                f"{field}.env[{name}]",
                "is a reference to a secret of Databricks: name the secret in secrets, by a store of the workspace",
            )
    secrets = _secrets(served, workspace, field)
    return {**served.env, **{name: f"{{{{secrets/{scope}/{key}}}}}" for name, (scope, key) in secrets.items()}}


def _secrets(served: Serving, workspace: MLWorkspaceSpec, field: str) -> dict[str, tuple[str, str]]:
    """For each variable that the platform fills, its (scope, key)."""
    found = {}
    for name, secret in served.secrets.items():
        store = workspace.secret_stores.get(secret.store)
        if store is None:
            raise TranslationError(
                f"{field}.secrets[{name}].store",
                f"{secret.store!r} is not a secret store of the workspace, which has {listed(workspace.secret_stores)}",
                reason="SecretStoreUnknown",
            )
        if name in served.env:
            raise TranslationError(f"{field}.secrets[{name}]", f"{name} stands in env as well; remove one of them")
        found[name] = (store.databricks_scope, secret.key)
    return found


def _inference_table(plan: EndpointPlan, workspace: MLWorkspaceSpec) -> dict[str, Any]:
    catalog, _, schema = _prefix(workspace, "spec.requestLogging").partition(".")
    return {
        "enabled": True,
        "catalog_name": catalog,
        "schema_name": schema,
        "table_name_prefix": plan.endpoint.replace("-", "_"),
    }


def _tags(plan: EndpointPlan) -> dict[str, str]:
    ours = {
        TAG_CLUSTER: plan.owner.cluster,
        TAG_NAMESPACE: plan.owner.namespace,
        TAG_NAME: plan.owner.name,
        TAG_UID: plan.owner.uid,
        TAG_GRANTED: granted_tag(_access(grant) for grant in plan.permissions),
    }
    return {**plan.tags, **{key: value for key, value in ours.items() if value}}


def _access(grant: EndpointPermission) -> dict[str, str]:
    who = {
        "group_name": grant.group,
        "user_name": grant.user,
        "service_principal_name": grant.service_principal,
    }
    return {**{key: value for key, value in who.items() if value is not None}, "permission_level": grant.level}


def _needs(plan: EndpointPlan, workspace: MLWorkspaceSpec) -> tuple[Need, ...]:
    """What the endpoint fails without, each once; of its own identity where nobody else is named."""
    found: dict[tuple[str, str, str], Need] = {}

    def need(kind: str, name: str, right: str, field: str) -> None:
        found.setdefault((kind, name, right), Need(kind, name, right, OWN, field))

    def schema(full: str, field: str) -> None:
        catalog, name, *_ = full.split(".")
        need(needs.CATALOG, catalog, needs.USE_CATALOG, field)
        need(needs.SCHEMA, f"{catalog}.{name}", needs.USE_SCHEMA, field)

    for each in plan.served:
        field = f"spec.models[{each.name}]"
        schema(each.model, f"{field}.model")
        need(needs.MODEL, each.model, needs.EXECUTE, f"{field}.model")
        need(needs.MODEL_VERSION, f"{each.model}/{each.version}", needs.SIGNATURE, f"{field}.model")
        for name, (scope, key) in _secrets(each, workspace, field).items():
            need(needs.SECRET, f"{scope}/{key}", needs.READ, f"{field}.secrets[{name}]")
    if plan.request_logging is not None:
        table = _inference_table(plan, workspace)
        prefix = f"{table['catalog_name']}.{table['schema_name']}"
        schema(prefix, "spec.requestLogging")
        need(needs.TABLE, f"{prefix}.{table['table_name_prefix']}_payload", needs.WRITE, "spec.requestLogging")
    for index, grant in enumerate(plan.permissions):
        kind, name = _principal(grant)
        need(kind, name, needs.EXISTS, f"spec.permissions[{index}]")
    if plan.adopt:
        need(needs.ENDPOINT, plan.endpoint, needs.CAN_MANAGE, "spec.adopt")
    return tuple(found.values())


def _principal(grant: EndpointPermission) -> tuple[str, str]:
    if grant.group is not None:
        return needs.GROUP, grant.group
    if grant.user is not None:
        return needs.USER, grant.user
    return needs.SERVICE_PRINCIPAL, grant.service_principal or ""
