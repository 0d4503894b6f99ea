"""What an endpoint lacks of a plan, and the one next request that brings it nearer. Pure.

Called by `serving` with what was seen. The order keeps requests answered: the tags first, so that an endpoint taken
over is ours before it changes; then the configuration, which the platform brings up beside the active one and swaps
when all of it is ready (see serving_states); then what only goes with the endpoint. Nothing is asked for while an
update is in progress: "another update can not be made until the update completes or fails" (databricks-sdk
service/serving.py, EndpointState).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trainyard.core.errors import Refused
from trainyard.core.serving.plans import digest_of
from trainyard.platforms.databricks import serving_permissions as permissions
from trainyard.platforms.databricks.serving_states import (
    CAME_TO_NOTHING,
    NOT_UPDATING,
    SHAPE,
    changes,
    copied,
    entities_of,
    served_of,
    shares_of,
    tags_of,
    update_of,
)
from trainyard.platforms.databricks.serving_translate import TAG_ADOPTED, TAG_GRANTED, TAG_UID
from trainyard.platforms.limits import PlatformBusy
from trainyard.platforms.serving import EndpointRequest
from trainyard.platforms.told import OUR_TAGS

ENDPOINTS = "/api/2.0/serving-endpoints"
PERMISSIONS = "/api/2.0/permissions/serving-endpoints"
GONE = "there is no endpoint of that name"
# Sentences that a status has room for.
MOST_DIFFERENCES = 16
LONGEST = 512


@dataclass(frozen=True, slots=True)
class Step:
    """One request. `says` is what it asks for, for people."""

    method: str
    path: str
    body: Mapping[str, Any] | None
    says: str


@dataclass(frozen=True, slots=True)
class Seen:
    """One look. `endpoint` is None where there is none; `permissions` where they were not needed.

    `tried`: the configuration that is wanted is the last one that this process has sent.
    """

    endpoint: Mapping[str, Any] | None
    permissions: Mapping[str, Any] | None = None
    tried: bool = False


def as_seen(endpoint: Mapping[str, Any] | None, request: EndpointRequest) -> Mapping[str, Any]:
    """The request's body, completed by what is kept of the endpoint. What is not there and has no share is left out.

    Raises the request's `why` where what is not there is to answer.
    """
    body = dict(request.body)
    if request.kept:
        body["config"] = _completed(endpoint or {}, request)
    if "ai_gateway" in body and body["ai_gateway"] is None:
        del body["ai_gateway"]
        table = ((endpoint or {}).get("ai_gateway") or {}).get("inference_table_config") or {}
        if table.get("enabled"):
            body["ai_gateway"] = {"inference_table_config": table}
    return body


def _completed(endpoint: Mapping[str, Any], request: EndpointRequest) -> dict[str, Any]:
    config, there, rows = request.body["config"], entities_of(endpoint, "config"), []
    routes = _routes(config)
    for row in config["served_entities"]:
        name = row["name"]
        if name not in request.kept:
            rows.append(row)
        elif name in there:
            rows.append(copied(there[name]))
        elif routes.get(name, 0) or not routes:
            raise request.why or Refused(f"{name} is not there, and nothing says how it is made")
    names = {row["name"] for row in rows}
    shares = [
        {"served_entity_name": name, "traffic_percentage": share} for name, share in routes.items() if name in names
    ]
    return {"served_entities": rows, **({"traffic_config": {"routes": shares}} if routes else {})}


def needs_permissions(endpoint: Mapping[str, Any] | None, desired: Mapping[str, Any]) -> bool:
    """Whether the endpoint's access list has to be looked at: rights are wanted, or were granted before."""
    return endpoint is not None and bool(desired["access_control_list"] or tags_of(endpoint).get(TAG_GRANTED))


def next_request(seen: Seen, desired: Mapping[str, Any]) -> Step | None:
    """The next request; None where there is none to make now.

    Args:
        seen: of an endpoint that is ours, or that is to be taken over.
        desired: the body of an EndpointRequest.
    """
    name = desired["name"]
    if seen.endpoint is None:
        return _creation(desired) if "config" in desired else None
    if "config" not in desired:
        if not removable(seen.endpoint, _wanted_tags(desired).get(TAG_UID, "")):
            return None
        return Step("DELETE", f"{ENDPOINTS}/{name}", None, "deletes the endpoint, which is to serve nothing")
    if is_updating(seen.endpoint):
        return None
    return (
        _tagging(seen.endpoint, desired, before=True)
        or _configuring(seen, desired)
        or _logging(seen.endpoint, desired)
        or _granting(seen, desired)
        or _tagging(seen.endpoint, desired, before=False)
    )


def differences(seen: Seen, desired: Mapping[str, Any]) -> tuple[str, ...]:
    """What the endpoint lacks of the plan, one sentence each; empty where it follows the plan in full."""
    if seen.endpoint is None:
        return (GONE,) if "config" in desired else ()
    if "config" not in desired:
        there = removable(seen.endpoint, _wanted_tags(desired).get(TAG_UID, ""))
        return ("the endpoint is still there",) if there else ()
    found = [*_of_served(seen, seen.endpoint, desired), *_of_settings(seen, desired)]
    return tuple(each[:LONGEST] for each in found[:MOST_DIFFERENCES])


def failed_with_plan(seen: Seen, desired: Mapping[str, Any]) -> bool:
    """Whether the update that came to nothing is the one that this plan asks for.

    One of before says nothing about this plan, though the platform shows it until the next.
    """
    if seen.endpoint is None or "config" not in desired or update_of(seen.endpoint) not in CAME_TO_NOTHING:
        return False
    if entities_of(seen.endpoint, "pending_config"):
        return _is(seen.endpoint, "pending_config", desired["config"])
    return seen.tried and not _is(seen.endpoint, "config", desired["config"])


def removable(endpoint: Mapping[str, Any], uid: str) -> bool:
    """Whether the endpoint is ours to delete: one that was taken over, and still serves what it did before, is not.

    It serves that until the update is active that the tag was set for.
    """
    tags, active = tags_of(endpoint), entities_of(endpoint, "config")
    return tags.get(TAG_UID) == uid and tags.get(TAG_ADOPTED) in (None, _digest(active))


def is_updating(endpoint: Mapping[str, Any]) -> bool:
    """Whether an update is under way. A word that this version has never heard of is taken for that."""
    return update_of(endpoint) not in CAME_TO_NOTHING | {NOT_UPDATING}


def letting_go(endpoint: Mapping[str, Any]) -> Step:
    """Gives back an endpoint that was taken over and still serves what it did before.

    Raises PlatformBusy during an update: what it brings would come after our tags are gone, and be nobody's.
    """
    if is_updating(endpoint):
        raise PlatformBusy(
            f"endpoint {endpoint.get('name')} is being updated ({update_of(endpoint)}), and is given back after that"
        )
    ours = sorted(key for key in tags_of(endpoint) if key.startswith(OUR_TAGS))
    return Step("PATCH", f"{ENDPOINTS}/{endpoint.get('name')}/tags", {"delete_tags": ours}, "gives the endpoint back")


def _creation(desired: Mapping[str, Any]) -> Step:
    body = {key: desired[key] for key in ("name", "tags", "config", "ai_gateway") if key in desired}
    return Step("POST", ENDPOINTS, body, f"creates the endpoint with {_listed(desired['config'])}")


def _tagging(endpoint: Mapping[str, Any], desired: Mapping[str, Any], *, before: bool) -> Step | None:
    """`before` all else: that it is ours, and whom we may have granted something. After it: exactly what is planned."""
    there, wanted = tags_of(endpoint), _wanted_tags(desired)
    if there.get(TAG_UID) != wanted[TAG_UID] or (
        TAG_ADOPTED in there and not _is(endpoint, "config", desired["config"])
    ):
        wanted[TAG_ADOPTED] = _digest(row["name"] for row in desired["config"]["served_entities"])
    if before:
        granted = permissions.joined(there.get(TAG_GRANTED, ""), wanted.get(TAG_GRANTED, ""))
        wanted |= {TAG_GRANTED: granted} if granted else {}
    added = {key: value for key, value in wanted.items() if there.get(key) != value}
    removed = [] if before else sorted(set(there) - set(wanted))
    if not added and not removed:
        return None
    body: dict[str, Any] = {}
    if added:
        body["add_tags"] = [{"key": key, "value": value} for key, value in added.items()]
    if removed:
        body["delete_tags"] = removed
    return Step("PATCH", f"{ENDPOINTS}/{desired['name']}/tags", body, f"sets tags {', '.join([*added, *removed])}")


def _digest(names: Iterable[str]) -> str:
    return digest_of(sorted(names))[-16:]


def _wanted_tags(desired: Mapping[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in desired["tags"]}


def _configuring(seen: Seen, desired: Mapping[str, Any]) -> Step | None:
    endpoint, config = seen.endpoint or {}, desired["config"]
    if _is(endpoint, "config", config) and not _leftover(seen, config):
        return None
    if failed_with_plan(seen, desired):
        # The same again would fail again, and cost again. But what has to lose its share must lose it.
        config = _without_failed(endpoint, config)
        if config is None:
            return None
    return Step("PUT", f"{ENDPOINTS}/{desired['name']}/config", config, f"serves {_listed(config)}")


def _leftover(seen: Seen, config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What an update left that came to nothing, and that goes by asking once more for what is active."""
    endpoint = seen.endpoint or {}
    if update_of(endpoint) not in CAME_TO_NOTHING or (seen.tried and _is(endpoint, "config", config)):
        return {}
    return entities_of(endpoint, "pending_config")


def _without_failed(endpoint: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The configuration without what has failed and has no share in it; None where the shares are right already."""
    wanted, there = _routes(config), shares_of(endpoint)
    failed = {each.served for each in served_of(endpoint) if each.state == "Failed"}
    kept = [row for row in config["served_entities"] if row["name"] not in failed or wanted.get(row["name"], 0) > 0]
    shares_right = all(there.get(name, 0) == share for name, share in wanted.items())
    if shares_right or len(kept) == len(config["served_entities"]):
        return None
    routes = [{"served_entity_name": row["name"], "traffic_percentage": wanted.get(row["name"], 0)} for row in kept]
    return {"served_entities": kept, "traffic_config": {"routes": routes}}


def _logging(endpoint: Mapping[str, Any], desired: Mapping[str, Any]) -> Step | None:
    """PUT replaces the whole gateway, so that what else stands in it is said again."""
    if not _logging_differs(endpoint, desired):
        return None
    gateway = dict(endpoint.get("ai_gateway") or {})
    wanted = (desired.get("ai_gateway") or {}).get("inference_table_config")
    table = gateway.get("inference_table_config") or {}
    moved = wanted is not None and table.get("enabled") and _table(table) != _table(wanted)
    # "You have to disable inference table first in order to change" its place (AiGatewayInferenceTableConfig).
    gateway["inference_table_config"] = {**table, "enabled": False} if wanted is None or moved else wanted
    says = "stops logging requests" if wanted is None or moved else "logs requests"
    return Step("PUT", f"{ENDPOINTS}/{desired['name']}/ai-gateway", gateway, says)


def _logging_differs(endpoint: Mapping[str, Any], desired: Mapping[str, Any]) -> bool:
    table = (endpoint.get("ai_gateway") or {}).get("inference_table_config") or {}
    wanted = (desired.get("ai_gateway") or {}).get("inference_table_config")
    if wanted is None:
        return bool(table.get("enabled"))
    return not table.get("enabled") or _table(table) != _table(wanted)


def _table(config: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(config.get(key) for key in ("catalog_name", "schema_name", "table_name_prefix"))


def _granting(seen: Seen, desired: Mapping[str, Any]) -> Step | None:
    if seen.endpoint is None or seen.permissions is None:
        return None
    path = f"{PERMISSIONS}/{seen.endpoint.get('id')}"
    there, wanted = permissions.direct(seen.permissions), desired["access_control_list"]
    lacking = permissions.lacking(there, wanted)
    surplus = permissions.surplus(there, wanted, tags_of(seen.endpoint).get(TAG_GRANTED, ""))
    if not lacking and not surplus:
        return None
    said = [f"{entry['permission_level']} to {permissions.who(entry)}" for entry in lacking]
    named = {permissions.who(entry) for entry in (*lacking, *surplus)}
    others = [entry for entry in there if permissions.who(entry) not in named]
    if len(others) == len(there):
        return Step("PATCH", path, {"access_control_list": lacking}, f"grants {', '.join(said)}")
    # PATCH only adds, so that a right which is to go or to be less needs the whole list.
    gone = [f"takes {entry['permission_level']} from {permissions.who(entry)}" for entry in surplus]
    says = ", ".join([*gone, *([f"grants {', '.join(said)}"] if said else [])])
    return Step("PUT", path, {"access_control_list": [*others, *lacking]}, says)


def _is(endpoint: Mapping[str, Any], which: str, config: Mapping[str, Any]) -> bool:
    """Whether `config` or `pending_config` says what is wanted."""
    there = entities_of(endpoint, which)
    wanted = {row["name"]: row for row in config["served_entities"]}
    if set(there) != set(wanted) or any(changes(there[name], row) for name, row in wanted.items()):
        return False
    shares, routes = shares_of(endpoint, which), _routes(config)
    return not routes or all(shares.get(name, 0) == routes.get(name, 0) for name in wanted)


def _of_served(seen: Seen, endpoint: Mapping[str, Any], desired: Mapping[str, Any]) -> Iterator[str]:
    config, active = desired["config"], entities_of(endpoint, "config")
    shares, routes = shares_of(endpoint), _routes(config)
    there = {each.served: each for each in served_of(endpoint)}
    for row in config["served_entities"]:
        name = row["name"]
        if name not in there:
            yield f"{name} is not there"
            continue
        if name in active:
            yield from (
                f"{name}: {field} is {_shown(field, is_there)}, and was to be {_shown(field, wanted)}"
                f"{_by(name, desired) if field in SHAPE else ''}"
                for field, is_there, wanted in changes(active[name], row)
            )
        if there[name].state != "Ready":
            yield f"{name} is {there[name].state}"
        if routes and shares.get(name, 0) != routes.get(name, 0):
            yield f"{name} answers {shares.get(name, 0)} % of the requests, and was to answer {routes.get(name, 0)} %"
    planned, update, leftover = {row["name"] for row in config["served_entities"]}, update_of(endpoint), {}
    if update in CAME_TO_NOTHING:
        leftover = _leftover(seen, config)
        there = {name: each for name, each in there.items() if name in active or name in leftover}
    yield from (f"{name} is there, and was not to be" for name in there if name not in planned)
    if is_updating(endpoint):
        yield f"an update is under way ({update})"
    elif leftover and planned >= set(there):
        yield f"an update that came to nothing is still there ({update})"


def _by(name: str, desired: Mapping[str, Any]) -> str:
    """Whose word a size is: what a compute class stands for may change while the deployment does not."""
    return f", as computeClasses.{desired['compute_classes'][name]} of the workspace says"


def _of_settings(seen: Seen, desired: Mapping[str, Any]) -> Iterator[str]:
    endpoint = seen.endpoint or {}
    there, wanted = tags_of(endpoint), _wanted_tags(desired)
    for key in sorted({*there, *wanted}):
        if there.get(key) != wanted.get(key):
            was = "absent" if key not in wanted else repr(wanted[key])
            yield f"tag {key} is {repr(there[key]) if key in there else 'absent'}, and was to be {was}"
    if _logging_differs(endpoint, desired):
        wants = "inference_table_config" in (desired.get("ai_gateway") or {})
        yield f"requests are {'not logged where they were to be' if wants else 'logged, and were not to be'}"
    if seen.permissions is None:
        return
    held = permissions.direct(seen.permissions)
    for entry in permissions.lacking(held, desired["access_control_list"]):
        yield f"{permissions.who(entry)} does not have {entry['permission_level']}"
    for entry in permissions.surplus(held, desired["access_control_list"], there.get(TAG_GRANTED, "")):
        yield f"{permissions.who(entry)} still has {entry['permission_level']}"


def _routes(config: Mapping[str, Any]) -> dict[str, int]:
    routes = (config.get("traffic_config") or {}).get("routes") or ()
    return {str(route["served_entity_name"]): int(route["traffic_percentage"]) for route in routes}


def _shown(field: str, value: Any) -> str:
    # The values of variables may be anybody's.
    return f"set to {', '.join(sorted(value)) or 'nothing'}" if field == "environment_vars" else repr(value)


def _listed(config: Mapping[str, Any]) -> str:
    routes = _routes(config)
    rows = config["served_entities"]
    return ", ".join(
        f"{row['name']} ({row['entity_name']} {row['entity_version']}, {routes.get(row['name'], 0)} %)" for row in rows
    )
