"""What was last seen of the endpoint, as status tells it: served models, shares, address, rights. Used by the rules."""

from datetime import timedelta
from typing import Any

from trainyard.api.deployment_status import Origin, ServedStatus
from trainyard.api.model_deployment import ModelDeploymentStatus
from trainyard.core.serving.conditions import with_available
from trainyard.core.serving.plan import EndpointPlan
from trainyard.core.serving.planning import wanted_plan
from trainyard.core.serving.plans import ALL
from trainyard.core.serving.seen import RemoteEndpoint, RemoteServed
from trainyard.core.serving.snapshot import DeploymentKnown
from trainyard.core.times import parse, stamp
from trainyard.core.transition import clip
from trainyard.core.waiting import same_words

# As status.served_models and status.permissions allow.
MOST_SERVED = 24
MOST_PERMISSIONS = 32
# A new configuration of something that serves meanwhile is Updating.
ANSWERS_IN = frozenset({"Ready", "Updating"})


def shown(known: DeploymentKnown, status: ModelDeploymentStatus) -> ModelDeploymentStatus:
    """The status with what was last seen of the endpoint beside what it has to be. Without a look it stays as it is."""
    if status.phase is None:
        return status
    status = _with_end(known, status)
    reached = known.observed.reached
    if status.endpoint is None:
        return _without_endpoint(known, status)
    if reached is None:
        return with_available(status, *_available(status), known.deployment.generation, known.now)
    seen = reached.endpoint
    plan = wanted_plan(known, status)
    changes: dict[str, Any] = {}
    if plan is not None:
        changes["served_models"] = served_models(plan, seen, status)
        changes["traffic"] = traffic_line(changes["served_models"]) or None
    if seen is not None and seen.ours:
        changes["permissions"] = list(seen.permissions[:MOST_PERMISSIONS])
        changes["endpoint"] = status.endpoint.model_copy(update=_address(seen))
    status = status.model_copy(update=changes)
    answering = _answers(status, seen)
    return with_available(status, *_told(answering), known.deployment.generation, known.now)


def served_models(
    plan: EndpointPlan, endpoint: RemoteEndpoint | None, status: ModelDeploymentStatus
) -> list[ServedStatus]:
    """What is behind the endpoint, wanted or there; what is wanted comes first."""
    there = {each.served: each for each in endpoint.served} if endpoint is not None else {}
    lines = [_line(each.served, each.name, there.get(each.served), plan, status) for each in plan.served]
    wanted = {each.served for each in plan.served}
    names, _ = _known_of(status)
    others = sorted(name for name in there if name not in wanted)
    lines += [_line(each, names.get(each, each), there[each], plan, status) for each in others]
    return lines[:MOST_SERVED]


def traffic_line(lines: list[ServedStatus]) -> str:
    """Shares in one line: NAME:VERSION=SERVED/DESIRED, ..."""
    parts = [f"{each.name}:{each.version or '?'}={each.served_traffic}/{each.desired_traffic}" for each in lines]
    return clip(", ".join(parts), 512)


def _line(
    served: str, name: str, there: RemoteServed | None, plan: EndpointPlan, status: ModelDeploymentStatus
) -> ServedStatus:
    models = {each.served: each for each in plan.served}
    _, origins = _known_of(status)
    wanted = models.get(served)
    told = next((each.message for each in status.served_models if each.served == served[:63]), None) or ""
    message = clip(there.message, 512) if there is not None else ""
    model = wanted.model if wanted is not None else (there.model if there is not None else "")
    version = wanted.version if wanted is not None else (there.version if there is not None else "")
    return ServedStatus(
        name=name[:63],
        served=served[:63],
        model=model[:255] or None,
        version=version[:32] or None,
        state=there.state if there is not None else "Absent",
        replicas=there.replicas if there is not None and (there.replicas or 0) >= 0 else None,
        desired_traffic=plan.traffic.get(served, 0),
        # A platform may say anything; what has no place in status would stop every decision, deletion as well.
        served_traffic=min(max(there.traffic, 0), ALL) if there is not None else 0,
        # Numbers and ids in a platform's words come anew at each look.
        message=(told if same_words(told, message) else message) or None,
        origin=origins.get(served),
    )


def _known_of(status: ModelDeploymentStatus) -> tuple[dict[str, str], dict[str, Origin | None]]:
    """Names and origins of everything that the two revisions serve."""
    models = [
        each for revision in (status.last_good, status.target) if revision is not None for each in revision.models
    ]
    return {each.served: each.name for each in models}, {each.served: each.origin for each in models}


def _address(seen: RemoteEndpoint) -> dict[str, Any]:
    told = {"url": seen.url, "page": seen.page, "creator": seen.creator}
    longest = {"url": 1024, "page": 1024, "creator": 255}
    return {"made": True} | {key: value[: longest[key]] for key, value in told.items() if value is not None}


def _answers(status: ModelDeploymentStatus, seen: RemoteEndpoint | None) -> bool:
    """Whether something ready has traffic; of a first revision, only once it has been asked and has answered."""
    if seen is None or not seen.ours or seen.deleting or status.last_good is None:
        return False
    return any(each.traffic > 0 and each.state in ANSWERS_IN for each in seen.served)


def _told(answers: bool) -> tuple[bool, str]:
    if answers:
        return True, "a served model that is ready has requests"
    return False, "no served model of this deployment that is ready and has answered gets requests"


def _available(status: ModelDeploymentStatus) -> tuple[bool, str]:
    """What was said last: nothing new is known."""
    old = status.condition("Available")
    return _told(old is not None and old.status == "True")


def _without_endpoint(known: DeploymentKnown, status: ModelDeploymentStatus) -> ModelDeploymentStatus:
    nothing: dict[str, Any] = {"served_models": [], "traffic": None, "permissions": [], "drift": []}
    status = status.model_copy(update=nothing)
    return with_available(status, *_told(False), known.deployment.generation, known.now)


def _with_end(known: DeploymentKnown, status: ModelDeploymentStatus) -> ModelDeploymentStatus:
    ends = expires_at(known)
    return status if status.expires_at == ends else status.model_copy(update={"expires_at": ends})


def expires_at(known: DeploymentKnown) -> str | None:
    """When the endpoint is deleted, if it is."""
    spec = known.deployment.spec
    if spec is None:
        return known.deployment.status.expires_at
    if spec.expires_after_seconds is None:
        return None
    return stamp(known.deployment.created_at + timedelta(seconds=spec.expires_after_seconds))


def has_expired(known: DeploymentKnown) -> bool:
    """Whether that moment has passed."""
    ends = expires_at(known)
    return ends is not None and known.now >= parse(ends)
