"""Bodies of Model Serving, and what of them makes sense; serving.py checks every request here.

Read in: databricks-sdk `service/serving.py` (ServingEndpointsAPI, ServedEntityInput, Route, AiGatewayConfig and their
docstrings); Databricks documentation, "Create custom model serving endpoints" and "Model Serving limits and regions"
(30 environment variables per served model); concurrency in steps of 4, "Create custom model serving endpoints",
compute scale-out. databricks/cli `libs/testserver/serving_endpoints.go` mirrors the default of `traffic_config`. A
served entity without a name is called after the model and its version, as answers of real workspaces show. Sentences
are ours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from trainyard_sandbox.errors import invalid_parameter
from trainyard_sandbox.schema import AnyJson, Bool, Int, ListOf, MapOf, Obj, Str

MOST_ENTITIES = 10
"""Docstring of ServingEndpointsAPI."""
MOST_VARIABLES = 30
NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SIZES = {"Small": (4, 4), "Medium": (8, 16), "Large": (16, 64)}
"""Least and most provisioned concurrency of a workload size (ServedEntityInput.workload_size)."""
CONCURRENCY_STEP = 4
WORKLOAD_TYPES = (
    "CPU",
    "CPU_LARGE",
    "CPU_MEDIUM",
    "GPU_LARGE",
    "GPU_MEDIUM",
    "GPU_SMALL",
    "GPU_XLARGE",
    "GPU_XLARGE_8",
    "MULTIGPU_MEDIUM",
)
NOT_OFFERED = (
    "external_model",
    "burst_scaling_enabled",
    "max_provisioned_throughput",
    "min_provisioned_throughput",
    "provisioned_model_units",
)

TAG = Obj({"key": Str(min_length=1), "value": Str()}, required=("key",))
TAGS_PATCH = Obj({"add_tags": ListOf(TAG), "delete_tags": ListOf(Str(min_length=1))})
ROUTE = Obj(
    {
        "served_entity_name": Str(min_length=1),
        "served_model_name": Str(min_length=1),
        "traffic_percentage": Int(0, 100),
    },
    required=("traffic_percentage",),
)
ENTITY = Obj(
    {
        "name": Str(min_length=1),
        "entity_name": Str(min_length=1),
        "entity_version": Str(min_length=1),
        "environment_vars": MapOf(Str(), MOST_VARIABLES),
        "instance_profile_arn": Str(min_length=1),
        "max_provisioned_concurrency": Int(0),
        "min_provisioned_concurrency": Int(0),
        "scale_to_zero_enabled": Bool(),
        "workload_size": Str(choices=tuple(SIZES)),
        "workload_type": Str(choices=WORKLOAD_TYPES),
        **dict.fromkeys(NOT_OFFERED, AnyJson()),
    },
    required=("entity_name", "entity_version"),
)
CONFIG = Obj(
    {
        "auto_capture_config": AnyJson(),
        "name": Str(),
        "served_entities": ListOf(ENTITY, MOST_ENTITIES),
        "served_models": AnyJson(),
        "traffic_config": Obj({"routes": ListOf(ROUTE)}),
    }
)
RATE_LIMIT = Obj(
    {
        "calls": Int(0),
        "key": Str(choices=("endpoint", "service_principal", "user", "user_group")),
        "principal": Str(min_length=1),
        "renewal_period": Str(choices=("minute",)),
        "tokens": Int(0),
    },
    required=("renewal_period",),
)
AI_GATEWAY = Obj(
    {
        "fallback_config": Obj({"enabled": Bool()}, required=("enabled",)),
        "guardrails": AnyJson(),
        "inference_table_config": Obj(
            {
                "catalog_name": Str(min_length=1),
                "enabled": Bool(),
                "schema_name": Str(min_length=1),
                "table_name_prefix": Str(min_length=1),
            }
        ),
        "rate_limits": ListOf(RATE_LIMIT),
        "usage_tracking_config": Obj({"enabled": Bool()}),
    }
)
NOTIFICATIONS = Obj({"on_update_failure": ListOf(Str(min_length=1)), "on_update_success": ListOf(Str(min_length=1))})
CREATE = Obj(
    {
        "ai_gateway": AI_GATEWAY,
        "budget_policy_id": Str(min_length=1),
        "config": CONFIG,
        "description": Str(),
        "email_notifications": NOTIFICATIONS,
        "name": Str(),
        "rate_limits": AnyJson(),
        "route_optimized": Bool(),
        "tags": ListOf(TAG),
        "telemetry_config": AnyJson(),
    },
    required=("name", "config"),
)
NOTIFY = Obj({"email_notifications": NOTIFICATIONS})


@dataclass(frozen=True)
class Entity:
    """A served entity as it is asked for. `settings` is all that decides what runs, as answers show it."""

    name: str
    model: str
    version: int
    settings: dict[str, Any]

    @property
    def most_concurrency(self) -> int:
        """The provisioned concurrency that it may scale to."""
        size = self.settings.get("workload_size")
        return SIZES[size][1] if size else int(self.settings["max_provisioned_concurrency"])

    @property
    def least_concurrency(self) -> int:
        """The provisioned concurrency that it has while it runs."""
        size = self.settings.get("workload_size")
        return SIZES[size][0] if size else int(self.settings["min_provisioned_concurrency"])


@dataclass
class Config:
    """One configuration of an endpoint: entities by name, percentages by name."""

    entities: dict[str, Entity]
    traffic: dict[str, int]
    version: int = 0
    started_at: int = 0


def checked_name(name: str, what: str) -> str:
    """A name of an endpoint or a served entity, or 400."""
    if NAME.fullmatch(name) is None:
        raise invalid_parameter(
            f"Invalid {what} name '{name}': it has 1 to 63 alphanumeric characters, dashes and underscores."
        )
    return name


def checked_config(body: dict[str, Any]) -> Config:
    """The configuration that a validated body asks for.

    Raises:
        ApiError: 400 for what the sandbox does not offer, names that clash, sizes and shares that make no sense.
    """
    for name in ("served_models", "auto_capture_config"):
        if name in body:
            raise invalid_parameter(f"{name} is deprecated, and not offered by this sandbox.")
    entities: dict[str, Entity] = {}
    for index, given in enumerate(body.get("served_entities", [])):
        entity = _entity(given, f"served_entities[{index}]")
        if entity.name in entities:
            raise invalid_parameter(f"Served entity names must be unique across an endpoint: '{entity.name}' is not.")
        entities[entity.name] = entity
    if not entities:
        raise invalid_parameter("An endpoint's config needs at least one served entity.")
    return Config(entities, _traffic(body.get("traffic_config", {}).get("routes"), entities))


def checked_gateway(body: dict[str, Any]) -> dict[str, Any]:
    """An AI Gateway configuration that makes sense for custom models."""
    if "guardrails" in body:
        raise invalid_parameter("guardrails are for external and foundation models.")
    table = body.get("inference_table_config", {})
    if table.get("enabled") and not {"catalog_name", "schema_name"} <= set(table):
        raise invalid_parameter("catalog_name and schema_name are required when enabling inference tables.")
    return body


def refuse_extras(body: dict[str, Any]) -> None:
    """400 for what of a creation the sandbox does not offer."""
    for name in ("rate_limits", "telemetry_config"):
        if name in body:
            raise invalid_parameter(f"{name} is not offered by this sandbox.")
    if body.get("route_optimized"):
        raise invalid_parameter("route_optimized is not offered by this sandbox.")


def tag_map(tags: list[dict[str, str]]) -> dict[str, str | None]:
    """Tags by key, or 400 for one that is given twice."""
    found: dict[str, str | None] = {}
    for tag in tags:
        if tag["key"] in found:
            raise invalid_parameter(f"Tag keys must be unique: '{tag['key']}' is not.")
        found[tag["key"]] = tag.get("value")
    return found


def _entity(given: dict[str, Any], path: str) -> Entity:
    for name in NOT_OFFERED:
        if name in given:
            raise invalid_parameter(f"{path}.{name} is not offered by this sandbox, which serves registered models.")
    version = given["entity_version"]
    if not version.isascii() or not version.isdigit() or int(version) < 1:
        raise invalid_parameter(f"Invalid value '{version}' for '{path}.entity_version': it is a number.")
    model = given["entity_name"].lower()
    name = checked_name(given.get("name") or f"{model.rpartition('.')[2]}-{version}", "served entity")
    for variable in given.get("environment_vars", {}):
        if VARIABLE.fullmatch(variable) is None:
            raise invalid_parameter(f"Invalid name '{variable}' in '{path}.environment_vars'.")
    _check_size(given, path)
    settings = {"workload_type": "CPU", "scale_to_zero_enabled": False}
    settings |= {key: value for key, value in given.items() if key not in ("name", "entity_name", "entity_version")}
    return Entity(name, model, int(version), settings)


def _check_size(given: dict[str, Any], path: str) -> None:
    bounds = [given.get("min_provisioned_concurrency"), given.get("max_provisioned_concurrency")]
    if "workload_size" in given:
        if bounds != [None, None]:
            raise invalid_parameter(f"{path}: do not use workload_size with provisioned concurrency.")
        return
    if None in bounds:
        raise invalid_parameter(
            f"{path} needs workload_size, or min_provisioned_concurrency and max_provisioned_concurrency."
        )
    least, most = (int(bound or 0) for bound in bounds)
    if least % CONCURRENCY_STEP or most % CONCURRENCY_STEP or not 0 < most >= least:
        raise invalid_parameter(
            f"{path}: provisioned concurrency is in multiples of {CONCURRENCY_STEP}, the minimum not above the maximum."
        )
    if least == 0 and not given.get("scale_to_zero_enabled"):
        raise invalid_parameter(f"{path}: a minimum provisioned concurrency of 0 needs scale_to_zero_enabled.")


def _traffic(routes: list[dict[str, Any]] | None, entities: dict[str, Entity]) -> dict[str, int]:
    if routes is None:
        if len(entities) > 1:
            raise invalid_parameter("An endpoint with more than one served entity needs a traffic_config.")
        return dict.fromkeys(entities, 100)
    shares: dict[str, int] = {}
    for index, route in enumerate(routes):
        names = {route[key] for key in ("served_entity_name", "served_model_name") if key in route}
        if len(names) != 1:
            raise invalid_parameter(f"traffic_config.routes[{index}] names exactly one served entity.")
        name = names.pop()
        if name not in entities:
            raise invalid_parameter(f"traffic_config.routes[{index}] names '{name}', which is no served entity.")
        if name in shares:
            raise invalid_parameter(f"traffic_config has more than one route for '{name}'.")
        shares[name] = route["traffic_percentage"]
    missing = sorted(set(entities) - set(shares))
    if missing:
        raise invalid_parameter(f"traffic_config has no route for the served entity '{missing[0]}'.")
    if sum(shares.values()) != 100:
        raise invalid_parameter(f"The sum of all traffic percentages must be 100, got {sum(shares.values())}.")
    return shares
