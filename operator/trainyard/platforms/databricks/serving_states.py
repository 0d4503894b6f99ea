"""From Databricks' view of an endpoint to the words of `core.serving.seen`. Pure.

Called by `serving` and `serving_steps` with the answer to GET serving-endpoints/NAME as it came: the SDK's types would
drop states that they do not know. Read in databricks-sdk service/serving.py: ServingEndpointDetailed (`config` is "the
config that is currently being served", `pending_config` the one "that the endpoint is attempting to update to"),
EndpointState, ServedModelStateDeployment; and https://docs.databricks.com/machine-learning/model-serving/
create-manage-serving-endpoints.html: until a new configuration is ready, the active one goes on serving, also when the
update fails.
"""

from collections.abc import Mapping
from typing import Any

from trainyard.core.serving.seen import RemoteEndpoint, RemoteServed, ServedState
from trainyard.platforms.databricks.serving_translate import TAG_UID

IN_PROGRESS = "IN_PROGRESS"
NOT_UPDATING = "NOT_UPDATING"
# How an update ends that did not work. Nothing is said of a word that this version has never heard of.
CAME_TO_NOTHING = frozenset({"UPDATE_FAILED", "UPDATE_CANCELED"})
_STATES: dict[str, ServedState] = {
    "DEPLOYMENT_READY": "Ready",
    "DEPLOYMENT_CREATING": "Creating",
    "DEPLOYMENT_RECOVERING": "Updating",
    "DEPLOYMENT_FAILED": "Failed",
    "DEPLOYMENT_ABORTED": "Failed",
}
LONGEST_MESSAGE = 512
# Fields of a served entity that are ours to say, each with what its absence means. The platform tells its size by name,
# by concurrency, or both; the one that was asked for counts.
_SIZES = frozenset({"workload_size", "min_provisioned_concurrency", "max_provisioned_concurrency"})
# What of it a compute class says.
SHAPE = _SIZES | {"workload_type"}
_FIELDS: dict[str, Any] = {
    "entity_name": "",
    "entity_version": "",
    "workload_type": "CPU",
    **dict.fromkeys(sorted(_SIZES)),
    "scale_to_zero_enabled": False,
    "environment_vars": {},
    "instance_profile_arn": None,
}


def endpoint_of(seen: Mapping[str, Any], uid: str, host: str = "") -> RemoteEndpoint:
    """One look at an endpoint, whoever's it is.

    Args:
        seen: the answer to GET serving-endpoints/NAME.
        uid: of the deployment that asks; `ours` tells whether the tags name it.
        host: the workspace's origin, for the addresses; without it they are left out.
    """
    name, update = str(seen.get("name", "")), update_of(seen)
    origin = host.rstrip("/")
    return RemoteEndpoint(
        name=name,
        ours=tags_of(seen).get(TAG_UID) == uid,
        busy=update != NOT_UPDATING and update not in CAME_TO_NOTHING,
        state="/".join(filter(None, (str((seen.get("state") or {}).get("ready") or ""), update))),
        served=served_of(seen),
        url=f"{origin}/serving-endpoints/{name}/invocations" if origin else None,
        page=f"{origin}/ml/endpoints/{name}" if origin else None,
        creator=str(seen["creator"])[:255] if seen.get("creator") else None,
        failed=failure_of(seen),
    )


def served_of(seen: Mapping[str, Any]) -> tuple[RemoteServed, ...]:
    """All that is there or on its way; what is active comes first."""
    active, pending = entities_of(seen, "config"), entities_of(seen, "pending_config")
    shares, over = shares_of(seen), update_of(seen) in CAME_TO_NOTHING
    found = []
    for name, entity in active.items():
        state, message = _state(entity)
        coming = pending.get(name)
        if state == "Ready" and coming is not None and not over and changes(entity, coming):
            state, message = "Updating", _state(coming)[1] or message
        found.append(_served(name, entity, state, shares.get(name, 0), message))
    for name, entity in pending.items():
        if name not in active:
            state, message = _state(entity)
            found.append(_served(name, entity, _pending(state, over), 0, message))
    return tuple(found)


def _pending(state: ServedState, over: bool) -> ServedState:
    """Of what is in no active configuration: it can not be asked yet, or, when the update is over, never will be."""
    if over:
        return "Failed"
    return "Creating" if state == "Ready" else state


def failure_of(seen: Mapping[str, Any]) -> str:
    """Why the last update came to nothing; empty where it did not."""
    update = update_of(seen)
    if update not in CAME_TO_NOTHING:
        return ""
    if update == "UPDATE_CANCELED":
        return "the update was cancelled on the platform"
    told = [
        f"{name}: {message}"
        for name, entity in (*entities_of(seen, "pending_config").items(), *entities_of(seen, "config").items())
        for state, message in (_state(entity),)
        if state == "Failed" and message
    ]
    return "; ".join(dict.fromkeys(told))[: 2 * LONGEST_MESSAGE] or "the platform says that the update failed"


def update_of(seen: Mapping[str, Any]) -> str:
    """The state of the update; a look that tells none shows an endpoint that is not being updated."""
    return str((seen.get("state") or {}).get("config_update") or NOT_UPDATING)


def tags_of(seen: Mapping[str, Any]) -> dict[str, str]:
    """Its tags."""
    return {str(tag.get("key")): str(tag.get("value") or "") for tag in seen.get("tags") or ()}


def entities_of(seen: Mapping[str, Any], which: str) -> dict[str, Mapping[str, Any]]:
    """What `config` or `pending_config` serves, by name. Endpoints of old have served_models instead.

    What is pending while nothing is being updated, nor failed to be, is not on its way.
    """
    if which == "pending_config" and update_of(seen) == NOT_UPDATING:
        return {}
    config = seen.get(which) or {}
    rows = config.get("served_entities") or config.get("served_models") or ()
    return {str(row.get("name")): row for row in rows}


def shares_of(seen: Mapping[str, Any], which: str = "config") -> dict[str, int]:
    """The share of each, by name. Where nothing is said, the only one has all."""
    config = seen.get(which) or {}
    routes = (config.get("traffic_config") or {}).get("routes") or ()
    if not routes:
        names = list(entities_of(seen, which))
        return {names[0]: 100} if len(names) == 1 else {}
    return {
        str(route.get("served_entity_name") or route.get("served_model_name")): int(route.get("traffic_percentage", 0))
        for route in routes
    }


def changes(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """What of an entity would have to change: (field, as it is, as wanted). Sizes that are not asked for are left."""
    found = []
    for field, default in _FIELDS.items():
        is_there, is_wanted = there.get(field) or default, wanted.get(field) or default
        if field == "entity_name":
            # Names in Unity Catalog are shown in lower case, however they were written.
            is_there, is_wanted = str(is_there).lower(), str(is_wanted).lower()
        if is_there != is_wanted and not (field in _SIZES and is_wanted is None):
            found.append((field, is_there, is_wanted))
    return found


def copied(entity: Mapping[str, Any]) -> dict[str, Any]:
    """What asks for an entity as it is there. A size is given by name or by concurrency, never by both."""
    fields = {field: entity[field] for field in ("name", *_FIELDS) if entity.get(field) not in (None, "", {})}
    if fields.keys() >= _SIZES:
        del fields["workload_size"]
    return fields


def _served(name: str, entity: Mapping[str, Any], state: ServedState, traffic: int, message: str) -> RemoteServed:
    return RemoteServed(
        served=name,
        state=state,
        traffic=traffic,
        model=str(entity.get("entity_name") or entity.get("model_name") or ""),
        version=str(entity.get("entity_version") or entity.get("model_version") or ""),
        message=message,
    )


def _state(entity: Mapping[str, Any]) -> tuple[ServedState, str]:
    state = entity.get("state") or {}
    message = " ".join(str(state.get("deployment_state_message") or "").split())[:LONGEST_MESSAGE]
    return _STATES.get(str(state.get("deployment")), "Unknown"), message
