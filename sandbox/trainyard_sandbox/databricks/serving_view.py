"""How endpoints of Model Serving look in answers; serving.py and the control API use it.

Read in: databricks-sdk `service/serving.py` (ServingEndpointDetailed, ServedEntityOutput, ServedModelState,
EndpointPendingConfig); Databricks documentation, "Manage model serving endpoints" (published answers: an endpoint that
is created has a `pending_config` and no `config`, and `pending_config` is gone once the update finished). That a failed
update's `pending_config` stays is how its failed entities and their logs are found. databricks/cli
`libs/testserver/serving_endpoints.go`: a default route names both served entity and served model.
"""

from __future__ import annotations

from typing import Any

from trainyard_sandbox.databricks.serving_endpoints import MANAGE, QUERY, Endpoint
from trainyard_sandbox.databricks.serving_shapes import Config, Entity
from trainyard_sandbox.principals import Principal
from trainyard_sandbox.serving.served_model import ServedModel, State

DEPLOYMENTS: dict[State, tuple[str, str]] = {
    "creating": ("DEPLOYMENT_CREATING", "Creating resources for served entity."),
    "ready": ("DEPLOYMENT_READY", ""),
    "stopped": ("DEPLOYMENT_READY", "Scaled to zero"),
    "recovering": ("DEPLOYMENT_RECOVERING", ""),
    "failed": ("DEPLOYMENT_FAILED", ""),
    "gone": ("DEPLOYMENT_ABORTED", "Aborted, because another served entity of the update failed."),
}


def detailed(endpoint: Endpoint, principal: Principal) -> dict[str, Any]:
    """ServingEndpointDetailed, for who may see it."""
    shown = _common(endpoint)
    if endpoint.config is not None:
        shown["config"] = _config(endpoint, endpoint.config, endpoint.models)
    if endpoint.pending is not None:
        shown["pending_config"] = _config(endpoint, endpoint.pending, endpoint.models | endpoint.coming)
        shown["pending_config"]["start_time"] = endpoint.pending.started_at
    held = principal.held(endpoint.securable)
    level = "CAN_MANAGE" if principal.is_admin or held & MANAGE else "CAN_QUERY" if held & QUERY else "CAN_VIEW"
    return shown | {"permission_level": level, "route_optimized": False, "endpoint_type": "CUSTOM_MODEL"}


def listed(endpoint: Endpoint) -> dict[str, Any]:
    """ServingEndpoint, in lists: its configuration without states and shares."""
    shown = _common(endpoint)
    if endpoint.config is not None:
        shown["config"] = {"served_entities": [_spec(entity) for entity in endpoint.config.entities.values()]}
    return shown


def tags(endpoint: Endpoint) -> list[dict[str, str]]:
    """Its tags by key."""
    return [
        {"key": key} if value is None else {"key": key, "value": value} for key, value in sorted(endpoint.tags.items())
    ]


def _common(endpoint: Endpoint) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": endpoint.name,
        "id": endpoint.id,
        "creator": endpoint.creator,
        "creation_timestamp": endpoint.created_at,
        "last_updated_timestamp": endpoint.updated_at,
        "state": {"ready": "READY" if endpoint.is_ready else "NOT_READY", "config_update": endpoint.update},
        "description": "",
        **endpoint.details,
    }
    if endpoint.tags:
        shown["tags"] = tags(endpoint)
    if endpoint.gateway:
        shown["ai_gateway"] = endpoint.gateway
    return shown


def _config(endpoint: Endpoint, config: Config, models: dict[str, ServedModel]) -> dict[str, Any]:
    routes = [
        {"served_entity_name": name, "served_model_name": name, "traffic_percentage": share}
        for name, share in config.traffic.items()
    ]
    entities = [
        _spec(entity)
        | entity.settings
        | {
            "creator": endpoint.creator,
            "creation_timestamp": config.started_at,
            "state": _state(models[name]),
        }
        for name, entity in config.entities.items()
    ]
    return {
        "served_entities": entities,
        "traffic_config": {"routes": routes},
        "config_version": config.version,
    }


def _spec(entity: Entity) -> dict[str, Any]:
    return {"name": entity.name, "entity_name": entity.model, "entity_version": str(entity.version)}


def _state(model: ServedModel) -> dict[str, str]:
    deployment, message = DEPLOYMENTS[model.state]
    return {"deployment": deployment, "deployment_state_message": model.message or message}
