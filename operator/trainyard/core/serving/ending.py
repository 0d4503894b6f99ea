"""Ends of an endpoint: deletion, expiry, and a creator that is not the workspace's any more. Used by `decide`; pure."""

from datetime import datetime, timedelta

from trainyard.api.deployment_status import DeploymentPhase
from trainyard.api.model_deployment import ModelDeploymentStatus
from trainyard.core.serving.actions import DeleteEndpoint, FindEndpoint, Note, RemoveFinalizer, ServingDecision
from trainyard.core.serving.asking import ask, look_only
from trainyard.core.serving.conditions import enter
from trainyard.core.serving.lines import has_expired
from trainyard.core.serving.returning import BACKWARD
from trainyard.core.serving.snapshot import DeploymentKnown, ServingReady
from trainyard.core.snapshot import Target

DELETE_AGAIN = timedelta(seconds=60)
# A request of a process that died may still be on its way: what has never been seen is looked for once more after it.
SETTLE = timedelta(seconds=30)


def deleting(known: DeploymentKnown) -> ServingDecision | None:
    """Deleting the resource deletes the endpoint first, unless it may stay or nobody can delete it."""
    deployment, status = known.deployment, known.deployment.status
    if deployment.deleting_since is None:
        return None
    if not deployment.has_finalizer:
        return ServingDecision(status)
    if status.endpoint is None or deployment.orphan:
        return ServingDecision(status, RemoveFinalizer())
    # From when this process first saw it: an operator that was down has not tried yet.
    seen_at = max(deployment.deleting_since, known.observed.deletion_seen_at or known.now)
    settled = None if status.endpoint.made else seen_at + SETTLE
    going = _delete(known, status.endpoint.name, "Deleted", "the resource was deleted", settled)
    if going is None:
        return ServingDecision(status, RemoveFinalizer(), notes=_not_ours(known))
    deadline = seen_at + timedelta(seconds=known.limits.deletion_deadline)
    if known.now >= deadline:
        return ServingDecision(status, RemoveFinalizer(), notes=(Note("Warning", "RemoteEndpointLeft", _left(known)),))
    wake = min(deadline, going.wake_at) if going.wake_at is not None else None
    return ServingDecision(going.status, going.action, wake, going.notes)


def expiring(known: DeploymentKnown) -> ServingDecision | None:
    """When its time is up the endpoint goes, and the resource stays."""
    status = known.deployment.status
    if not has_expired(known):
        if status.phase == "Deleting":
            return _finishing(known)
        return _served_again(known) if status.phase == "Expired" else None
    if status.endpoint is not None:
        return _delete_and_unpin(known, "Expired", "spec.expiresAfterSeconds has passed")
    if status.phase == "Expired":
        return ServingDecision(status)
    message = "spec.expiresAfterSeconds has passed, and nothing is served; raise it to serve again"
    return ServingDecision(enter(known, "Expired", "Expired", message))


def _finishing(known: DeploymentKnown) -> ServingDecision | None:
    """A deletion that has begun is finished, though what led to it was taken back: half of an endpoint serves nobody.

    What is there then is made again as spec has it, from the beginning. One that the platform never took is dropped.
    """
    status, ready, spec = known.deployment.status, known.readiness, known.deployment.spec
    pinned, no = status.endpoint, known.observed.trouble
    if pinned is None:
        return None
    consents = spec is not None and bool(spec.recreate_for_creator)
    if consents and isinstance(ready, ServingReady) and ready.target.principal != pinned.principal:
        return _recreate(known, ready.target)
    said_no = no is not None and no.action == DeleteEndpoint.__name__ and no.kind in ("Denied", "Refused")
    if said_no and known.observed.deleted_at is None:
        message = f"endpoint {pinned.name} stays: the platform did not take its deletion, which was taken back"
        phase: DeploymentPhase = "Deploying" if status.last_good is None else "RollingOut"
        return ServingDecision(enter(known, phase, "ServedAgain", message))
    return _delete_and_unpin(known, "ServedAgain", "its deletion had begun, and it is made again when it is gone")


def _served_again(known: DeploymentKnown) -> ServingDecision:
    message = "spec.expiresAfterSeconds was raised, or taken away: the endpoint is made again"
    return ServingDecision(enter(known, "Pending", "ServedAgain", message))


def moved(known: DeploymentKnown) -> ServingDecision | None:
    """The workspace is another host, or another identity, than the endpoint was made with."""
    pinned, ready, spec = known.deployment.status.endpoint, known.readiness, known.deployment.spec
    if pinned is None or not isinstance(ready, ServingReady) or spec is None:
        return None
    target = ready.target
    if (pinned.platform, pinned.host) != (target.platform, target.host):
        message = (
            f"the workspace is {target.host} now, and endpoint {pinned.name} is on {pinned.host}, where it is left as "
            "it is. Change the workspace back, or create a new deployment and delete this one."
        )
        return _person(known, "WorkspaceMoved", message)
    if pinned.principal != target.principal:
        rollout = known.deployment.status.rollout
        if rollout is not None and rollout.stage in BACKWARD:
            return None  # what failed answers no longer than it must; its maker can still take it back
        return _created_by_another(known, target)
    now = (target.mode, target.service_account or None, target.tenant or None, target.identity)
    if (pinned.mode, pinned.service_account, pinned.tenant, pinned.identity) == now:
        return None
    again = pinned.model_copy(
        update={"mode": now[0], "service_account": now[1], "tenant": now[2], "identity": target.identity}
    )
    return ServingDecision(known.deployment.status.model_copy(update={"endpoint": again}))


def _created_by_another(known: DeploymentKnown, target: Target) -> ServingDecision:
    """An endpoint keeps the identity that made it: it can only be deleted and made again, with consent."""
    status, spec = known.deployment.status, known.deployment.spec
    assert status.endpoint is not None  # noqa: S101  (the caller looked)
    pinned = status.endpoint
    if spec is None or not spec.recreate_for_creator:
        message = (
            f"endpoint {pinned.name} was made by {pinned.principal}, and the workspace's identity is {target.principal}"
            " now. What serves can not change its maker: change the workspace back, or set spec.recreateForCreator to "
            "have it deleted and made again, with nothing served meanwhile."
        )
        return _person(known, "CreatorChanged", message)
    return _recreate(known, target)


def _recreate(known: DeploymentKnown, target: Target) -> ServingDecision:
    why = f"the workspace's identity is {target.principal} now, which makes it again"
    return _delete_and_unpin(known, "RecreatingForCreator", why)


def _person(known: DeploymentKnown, reason: str, message: str) -> ServingDecision:
    ready = known.deployment.status.condition("Ready")
    told = known.deployment.status.phase == "Stalled" and ready is not None and ready.reason == reason
    status = enter(known, "Stalled", reason, message)
    wake = known.now + timedelta(seconds=known.limits.recheck_stalled)
    notes = () if told else (Note("Warning", reason, message),)
    return look_only(known, ServingDecision(status, None, wake, notes))


def _delete_and_unpin(known: DeploymentKnown, reason: str, why: str) -> ServingDecision:
    """The endpoint goes, and the resource stays. One that was never seen is looked for once more when none of the
    requests that were to make it can be under way.
    """
    pinned = known.deployment.status.endpoint
    assert pinned is not None  # noqa: S101  (the callers looked)
    settled = None if pinned.made else (known.observed.deleted_at or known.now) + SETTLE
    going = _delete(known, pinned.name, reason, why, settled)
    return going or ServingDecision(_without_endpoint(known, reason), notes=_not_ours(known))


def _delete(
    known: DeploymentKnown, endpoint: str, reason: str, why: str, settled: datetime | None
) -> ServingDecision | None:
    """Ask for the deletion, and look until the endpoint is gone: also at `settled`, if that is given. None when it is.

    What is asked for is asked again after a while: the platform may have been changing it, or have forgotten.
    """
    seen, limits = known.observed, known.limits
    if seen.gone and (settled is None or (seen.looked_at is not None and seen.looked_at >= settled)):
        return None
    status = enter(known, "Deleting", reason, f"{why}; endpoint {endpoint} is being deleted")
    if seen.gone and settled is not None and known.now < settled:
        return ServingDecision(status, wake_at=settled)
    if seen.deleted_at is None or known.now >= seen.deleted_at + DELETE_AGAIN:
        return ask(known, DeleteEndpoint(endpoint), status)
    looks = (seen.looked_at or seen.deleted_at) + timedelta(seconds=limits.poll)
    if known.now >= looks or seen.gone:
        return ask(known, FindEndpoint(endpoint), status)
    return ServingDecision(status, wake_at=looks)


def _without_endpoint(known: DeploymentKnown, reason: str) -> ModelDeploymentStatus:
    """Nothing is served, nor pinned; the history and the numbers of revisions stay."""
    message = "the endpoint was deleted, and is made again"
    nothing = {"endpoint": None, "rollout": None, "last_good": None, "last_good_revision": None, "applied": None}
    nothing |= {"failure": None}
    if reason == "Expired":
        message = "spec.expiresAfterSeconds has passed, and nothing is served; raise it to serve again"
        return enter(known, "Expired", reason, message, **nothing)
    return enter(known, "Deploying", reason, message, **nothing)


def _not_ours(known: DeploymentKnown) -> tuple[Note, ...]:
    """Tells of an endpoint that was ours and is no longer marked so: it is left, and nobody else will delete it.

    One that was adopted, and was given back because it still serves what others made, is left as it is meant to be.
    """
    endpoint, spec = known.deployment.status.endpoint, known.deployment.spec
    if endpoint is None or not endpoint.made or not known.observed.left:
        return ()
    message = (
        f"endpoint {endpoint.name} on {endpoint.host} is there and not marked as this deployment's any more, so it is "
        "left. If nobody needs it, delete it there: it costs."
    )
    adopted = spec is not None and bool(spec.adopt)
    return (Note("Normal" if adopted else "Warning", "RemoteEndpointLeft", message),)


def _left(known: DeploymentKnown) -> str:
    endpoint, trouble = known.deployment.status.endpoint, known.observed.trouble
    assert endpoint is not None  # noqa: S101  (the caller looked)
    why = f"{trouble.reason}: {trouble.message}" if trouble is not None else "the platform still shows it"
    return f"endpoint {endpoint.name} on {endpoint.host} may still be there and cost money ({why}). Delete it there."
