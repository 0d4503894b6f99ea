"""What is asked of Azure ML next to bring an endpoint nearer to its plan, and what it still lacks. Pure.

Called by `serving`. One change at a time: the service refuses any while the endpoint, or one of its deployments, still
works on the last ("Cannot create a deployment in endpoint X because it is in Updating provisioning state",
Azure/azure-sdk-for-net#36961). The order is such that requests are always answered: what gets a share has to be ready
before, and only what has none is deleted.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from trainyard.platforms.azureml.names import TAG_UID
from trainyard.platforms.told import OUR_TAGS

# On an endpoint that was somebody else's, for as long as what they had there answers.
TAG_ADOPTED = "trainyard_adopted"
DONE = "Succeeded"
# Ended without success (DeploymentProvisioningState, EndpointProvisioningState).
BROKEN = frozenset({"Failed", "Canceled"})
SETTLED = BROKEN | {DONE}
# Variables that the service adds for a model that it serves without code.
_PLATFORM_VARIABLES = ("AML_", "AZUREML_")
ALL = 100

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """One look: the endpoint's JSON, None if there is none, and that of its deployments by name."""

    endpoint: Json | None
    deployments: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Desired:
    """What a plan asks for, in the service's terms. `workspace` is a resource id, `classes` the class of each."""

    uid: str
    adopt: bool
    endpoint: Json
    deployments: Mapping[str, Json]
    traffic: Mapping[str, int]
    workspace: str = ""
    classes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """One request: `path` is below the endpoint, its body without location. `said` tells it to people."""

    method: str
    path: str
    body: Json | None
    said: str


@dataclass(frozen=True, slots=True)
class Memory:
    """What earlier looks have learned.

    `told` names the deployments, and the endpoint as "", of which it was told before, under this same plan, that they
    failed. What failed is left as it is until then: its logs are still to be read, and a plan that no longer gives it
    a share leaves it for good. `lost` names those of which the service has said that only making them anew mends them.
    """

    told: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()


NOTHING = Memory()


def next_request(seen: Seen, desired: Desired, memory: Memory = NOTHING) -> Change | None:
    """The one next change; None where there is none, where the platform is busy, or where the endpoint is another's."""
    if seen.endpoint is None:
        return _made(desired) if desired.deployments else None
    if not (is_ours(seen.endpoint, desired.uid) or desired.adopt) or is_busy(seen):
        return None
    for step in _STEPS:
        change = step(seen, desired, memory)
        if change is not None:
            return change
    return None


def differences(seen: Seen, desired: Desired) -> tuple[str, ...]:
    """What the plan lacks, one sentence each."""
    if seen.endpoint is None:
        return ("the endpoint is not there",) if desired.deployments else ()
    if not is_ours(seen.endpoint, desired.uid) and not desired.adopt:
        return ("the endpoint is not this deployment's: its tags name no, or another, uid",)
    return (
        *_settings_lacking(seen.endpoint, desired),
        *_traffic_lacking(seen, desired),
        *_deployments_lacking(seen, desired),
    )


def letting_go(seen: Seen, uid: str) -> Change | None:
    """The next change that gives back an endpoint that was taken over and still answers as it did before.

    What is ours goes first, then our tags. None where it is ours to delete as a whole.
    """
    endpoint = seen.endpoint or {}
    shares, tags = traffic_of(endpoint), _object(endpoint, "tags")
    if TAG_ADOPTED not in tags or not _others_answer(seen, shares, uid):
        return None
    idle = sorted(name for name, each in seen.deployments.items() if is_ours(each, uid) and name not in shares)
    if idle:
        return Change("DELETE", f"/deployments/{idle[0]}", None, f"delete deployment {idle[0]}")
    properties = {"authMode": _object(endpoint, "properties").get("authMode")}
    asked = {"tags": {}, "identity": {"type": "SystemAssigned"}, "properties": properties}
    change = _put_endpoint(seen, Desired(uid, False, asked, {}, shares), shares, "give the endpoint back")
    theirs = {key: value for key, value in tags.items() if not key.startswith(OUR_TAGS)}
    return replace(change, body={**(change.body or {}), "tags": theirs})


def _others_answer(seen: Seen, shares: Mapping[str, int], uid: str) -> bool:
    """Whether one of those shares is somebody else's deployment's."""
    return any(shares.get(name) and not is_ours(each, uid) for name, each in seen.deployments.items())


def is_ours(resource: Json, uid: str) -> bool:
    """Whether the tags of an endpoint or deployment name that uid."""
    return bool(uid) and _object(resource, "tags").get(TAG_UID) == uid


def is_busy(seen: Seen) -> bool:
    """Whether the service takes no change now. A state that this version has never heard of is taken for such."""
    states = [state_of(each) for each in seen.deployments.values()]
    states += [state_of(seen.endpoint)] if seen.endpoint is not None else []
    return any(state not in SETTLED for state in states)


def state_of(resource: Json) -> str:
    """The provisioning state."""
    return str(_object(resource, "properties").get("provisioningState") or "")


def traffic_of(endpoint: Json) -> dict[str, int]:
    """The shares that are given now; deployments without one are not in it."""
    shares = _object(_object(endpoint, "properties"), "traffic")
    return {str(name): share for name, share in shares.items() if isinstance(share, int) and share > 0}


def capacity_of(deployment: Json) -> int | None:
    """The number of machines that it is asked to have."""
    found = _object(deployment, "sku").get("capacity")
    return found if isinstance(found, int) else None


def _wanted_traffic(seen: Seen, desired: Desired) -> dict[str, int]:
    """The shares that the plan comes to. A plan without any takes none from what somebody else's deployments answer."""
    if desired.traffic:
        return {name: share for name, share in desired.traffic.items() if share > 0}
    others = {
        name: share
        for name, share in traffic_of(seen.endpoint or {}).items()
        if name in seen.deployments and not is_ours(seen.deployments[name], desired.uid)
    }
    return others if sum(others.values()) == ALL else {}


def _may_have(seen: Seen, name: str, share: int) -> bool:
    """Whether a deployment may get that share: it is ready, or it answers as much already."""
    found = seen.deployments.get(name)
    if found is None:
        return False
    return state_of(found) == DONE or traffic_of(seen.endpoint or {}).get(name, 0) >= share


def _made(desired: Desired) -> Change:
    return Change("PUT", "", dict(desired.endpoint), "make the endpoint")


def _owned(seen: Seen, desired: Desired, _memory: Memory) -> Change | None:
    """First of all, an endpoint that is adopted gets our tags."""
    if seen.endpoint is None or is_ours(seen.endpoint, desired.uid):
        return None
    return _put_endpoint(seen, desired, traffic_of(seen.endpoint), "take over the endpoint")


def _grown(seen: Seen, desired: Desired, _memory: Memory) -> Change | None:
    """What is to answer with more machines gets them before it gets its share."""
    for name in sorted(desired.traffic):
        found, wanted = seen.deployments.get(name), desired.deployments.get(name)
        if found is None or wanted is None or not desired.traffic[name] or state_of(found) != DONE:
            continue
        if (capacity_of(found) or 0) < (capacity_of(wanted) or 0):
            return _put_deployment(name, desired, "give more machines to")
    return None


def _shared(seen: Seen, desired: Desired, memory: Memory) -> Change | None:
    """Shares and settings of the endpoint itself, in one request."""
    if seen.endpoint is None:
        return None
    now, wanted = traffic_of(seen.endpoint), _wanted_traffic(seen, desired)
    may = all(_may_have(seen, name, share) for name, share in wanted.items())
    if may and now != wanted:
        return _put_endpoint(seen, desired, wanted, f"give shares: {_listed(wanted)}")
    if next(_settings_lacking(seen.endpoint, desired), None) is not None:
        return _put_endpoint(seen, desired, now, "change settings of the endpoint")
    if state_of(seen.endpoint) in BROKEN and "" in memory.told:
        return _put_endpoint(seen, desired, now, "ask again for the endpoint, which failed")
    return None


def _removed(seen: Seen, desired: Desired, _memory: Memory) -> Change | None:
    """What the plan does not name goes once it answers nothing; of others' only when the plan's own answer."""
    shares = traffic_of(seen.endpoint or {})
    for name in sorted(seen.deployments.keys() - desired.deployments.keys()):
        if shares.get(name):
            continue
        served = bool(desired.traffic) and shares == _wanted_traffic(seen, desired)
        if served or is_ours(seen.deployments[name], desired.uid):
            return Change("DELETE", f"/deployments/{name}", None, f"delete deployment {name}")
    return None


def _added(seen: Seen, desired: Desired, _memory: Memory) -> Change | None:
    if seen.endpoint is None or state_of(seen.endpoint) in BROKEN:
        return None
    for name in sorted(desired.deployments.keys() - seen.deployments.keys()):
        return _put_deployment(name, desired, "make")
    return None


def _mended(seen: Seen, desired: Desired, memory: Memory) -> Change | None:
    """What failed and is still to answer: asked for again where it answers, else made anew."""
    shares = traffic_of(seen.endpoint or {})
    for name in sorted(desired.deployments.keys() & seen.deployments.keys() & memory.told):
        if state_of(seen.deployments[name]) not in BROKEN or not desired.traffic.get(name):
            continue
        if shares.get(name) and name in memory.lost:
            others = _rescaled({key: share for key, share in shares.items() if key != name})
            return _put_endpoint(seen, desired, others, f"take the share of {name}, which is lost")
        if shares.get(name):
            return _put_deployment(name, desired, "ask again for")
        return Change(
            "DELETE", f"/deployments/{name}", None, f"delete deployment {name}, which failed, to make it anew"
        )
    return None


def _rescaled(shares: Mapping[str, int]) -> dict[str, int]:
    """Shares in the same proportions that sum to 100; empty ones stay empty."""
    total = sum(shares.values())
    found = {name: share * ALL // total for name, share in sorted(shares.items())}
    if found:
        found[max(found, key=lambda name: (found[name], name))] += ALL - sum(found.values())
    return found


def _updated(seen: Seen, desired: Desired, _memory: Memory) -> Change | None:
    for name in sorted(desired.deployments.keys() & seen.deployments.keys()):
        found = seen.deployments[name]
        if state_of(found) == DONE and next(_deployment_lacking(name, found, desired), None) is not None:
            return _put_deployment(name, desired, "change")
    return None


_STEPS: tuple[Callable[[Seen, Desired, Memory], Change | None], ...] = (
    _owned,
    _grown,
    _shared,
    _removed,
    _added,
    _mended,
    _updated,
)


def _put_endpoint(seen: Seen, desired: Desired, traffic: Mapping[str, int], said: str) -> Change:
    """A PUT of the whole: what the plan says nothing of stays as it was seen."""
    there = seen.endpoint or {}
    before, wanted = _object(there, "properties"), _object(desired.endpoint, "properties")
    kept = {key: before[key] for key in ("description", "publicNetworkAccess") if before.get(key) is not None}
    zeros = dict.fromkeys(sorted(seen.deployments), 0)
    inner = {key: value for key, value in _object(before, "properties").items() if not _is_platforms(key)}
    if inner:
        kept["properties"] = inner
    properties = {**kept, **wanted, "traffic": {**zeros, **traffic}}
    if before.get("mirrorTraffic"):
        properties["mirrorTraffic"] = {}
    identity = _identity(there) or desired.endpoint["identity"]
    adopted = TAG_ADOPTED in _object(there, "tags") or not is_ours(there, desired.uid)
    marks = {TAG_ADOPTED: "true"} if adopted and _others_answer(seen, traffic, desired.uid) else {}
    tags = {**_object(desired.endpoint, "tags"), **marks}
    body = {**desired.endpoint, "tags": tags, "identity": identity, "properties": properties}
    return Change("PUT", "", body, said)


def _is_platforms(key: str) -> bool:
    """Whether the service itself puts that property on an endpoint."""
    return key == "AzureAsyncOperationUri" or key.startswith("azureml.")


def _identity(endpoint: Json) -> Json | None:
    """The identity that it has: it can not be changed ("Access Azure resources from your online endpoint")."""
    found = _object(endpoint, "identity")
    if not found.get("type"):
        return None
    assigned = _object(found, "userAssignedIdentities")
    return {"type": found["type"], **({"userAssignedIdentities": {key: {} for key in assigned}} if assigned else {})}


def _put_deployment(name: str, desired: Desired, verb: str) -> Change:
    wanted = desired.deployments[name]
    properties = {**wanted["properties"], "model": f"{desired.workspace}{wanted['properties']['model']}"}
    return Change("PUT", f"/deployments/{name}", {**wanted, "properties": properties}, f"{verb} deployment {name}")


def _settings_lacking(endpoint: Json, desired: Desired) -> Iterator[str]:
    there, wanted = _object(endpoint, "properties"), _object(desired.endpoint, "properties")
    if str(there.get("authMode") or "").lower() != str(wanted.get("authMode") or "").lower():
        yield f"auth is {there.get('authMode')} in place of {wanted.get('authMode')}"
    tags = _object(endpoint, "tags")
    for key, value in sorted(_object(desired.endpoint, "tags").items()):
        if tags.get(key) != value:
            yield f"the tag {key} is not as planned"
    if any(_object(there, "mirrorTraffic").values()):
        yield "requests are mirrored, which is not planned"


def _traffic_lacking(seen: Seen, desired: Desired) -> Iterator[str]:
    now, wanted = traffic_of(seen.endpoint or {}), _wanted_traffic(seen, desired)
    for name in sorted(now.keys() | wanted.keys()):
        if now.get(name, 0) != wanted.get(name, 0):
            yield f"{name} answers {now.get(name, 0)}% in place of {wanted.get(name, 0)}%"


def _deployments_lacking(seen: Seen, desired: Desired) -> Iterator[str]:
    if seen.endpoint is not None and state_of(seen.endpoint) != DONE:
        yield f"the endpoint is {state_of(seen.endpoint) or 'in an unknown state'}"
    for name in sorted(desired.deployments):
        found = seen.deployments.get(name)
        if found is None:
            yield f"deployment {name} is not there"
            continue
        if state_of(found) != DONE:
            yield f"deployment {name} is {state_of(found) or 'in an unknown state'}"
        yield from _deployment_lacking(name, found, desired)
    for name in sorted(seen.deployments.keys() - desired.deployments.keys()):
        if desired.traffic or is_ours(seen.deployments[name], desired.uid):
            yield f"deployment {name} is not planned"


def _deployment_lacking(name: str, found: Json, desired: Desired) -> Iterator[str]:
    there, wanted = _object(found, "properties"), _object(desired.deployments[name], "properties")
    if not str(there.get("model") or "").lower().endswith(str(wanted.get("model") or "").lower()):
        yield f"deployment {name} serves another model"
    by = f", which computeClasses.{desired.classes[name]} of the workspace says" if name in desired.classes else ""
    if str(there.get("instanceType") or "").lower() != str(wanted.get("instanceType") or "").lower():
        was, now = there.get("instanceType"), wanted.get("instanceType")
        yield f"deployment {name} has machines of {was} in place of {now}{by}"
    if (few := _at_a_time(there)) != (many := _at_a_time(wanted)):
        yield f"deployment {name} answers {few} requests at a time in place of {many}{by}"
    if (now := capacity_of(found)) != (count := capacity_of(desired.deployments[name])):
        yield f"deployment {name} has {now} machines in place of {count}"
    variables, planned = _variables(there), _object(wanted, "environmentVariables")
    for key in sorted(variables.keys() | planned.keys()):
        if variables.get(key) != planned.get(key) and not (key not in planned and key.startswith(_PLATFORM_VARIABLES)):
            yield f"deployment {name}: the environment variable {key} is not as planned"
    if _collected(there) != _collected(wanted):
        yield f"deployment {name}: the logging of requests is not as planned"


def _at_a_time(properties: Json) -> int:
    """Requests that one copy answers at a time; the service's own is 1 (OnlineRequestSettings)."""
    found = _object(properties, "requestSettings").get("maxConcurrentRequestsPerInstance")
    return found if isinstance(found, int) else 1


def _variables(properties: Json) -> dict[str, str]:
    return {str(key): str(value) for key, value in _object(properties, "environmentVariables").items()}


def _collected(properties: Json) -> dict[str, float]:
    """The sampling rate of what is collected, by collection."""
    collections = _object(_object(properties, "dataCollector"), "collections")
    return {
        str(name): round(float(each.get("samplingRate") or 1.0), 4)
        for name, each in collections.items()
        if isinstance(each, Mapping) and str(each.get("dataCollectionMode")).lower() == "enabled"
    }


def _listed(shares: Mapping[str, int]) -> str:
    return json.dumps(dict(sorted(shares.items()))) if shares else "none"


def _object(parent: Json, key: str) -> Json:
    value = parent.get(key)
    return value if isinstance(value, Mapping) else {}
