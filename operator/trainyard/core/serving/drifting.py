"""An endpoint that is to stay as it is: settings are brought there, and what others change is told or taken back.

Used by `decide`; pure. `status.applied` is the last plan that the endpoint was seen to follow in full: what differs
from that very plan was changed by somebody else, or by the platform itself.
"""

from dataclasses import replace
from datetime import timedelta

from trainyard.api.deployment_status import DeploymentPhase
from trainyard.core.serving.actions import Note, Reach, ServingDecision
from trainyard.core.serving.asking import again, ask, fresh, left_alone, not_ours, reach
from trainyard.core.serving.conditions import enter
from trainyard.core.serving.plan import EndpointPlan
from trainyard.core.serving.planning import back_on_good, wanted_plan
from trainyard.core.serving.plans import plan_digest
from trainyard.core.serving.returning import failed_text, rolled_back_text
from trainyard.core.serving.seen import Reached
from trainyard.core.serving.snapshot import DeploymentKnown
from trainyard.core.transition import clip

# As status.drift allows.
MOST_DIFFERENCES = 16


def keep(known: DeploymentKnown) -> ServingDecision | None:
    """Looks at an endpoint that no rollout changes, and keeps it as it has to be."""
    status = known.deployment.status
    plan = wanted_plan(known, status)
    if status.rollout is not None or plan is None:
        return None
    if status.last_good is None:
        # Settings may have been what failed: with others it is tried again (`decide.try_again`).
        return _nothing_served(known)
    same = status.applied == plan_digest(plan)
    reached = fresh(known, plan, _every(known, same=same))
    if reached is None:
        if same and not _reverts(known):
            return ask(known, Reach(plan, change=False))
        return reach(known, plan) if same else _told_first(known, reach(known, plan))
    if not_ours(known, reached):
        return left_alone(known, plan.endpoint)
    if not reached.differences:
        return _as_wanted(known, plan, reached)
    if not same:
        return _bringing(known, reached)
    return _drifted(known, plan, reached)


def as_applied(known: DeploymentKnown) -> bool:
    """Whether the endpoint was seen to follow what is wanted of it now: then nothing new is waited for."""
    status = known.deployment.status
    plan = wanted_plan(known, status)
    return status.rollout is None and plan is not None and status.applied == plan_digest(plan)


def _told_first(known: DeploymentKnown, asked: ServingDecision) -> ServingDecision:
    """Settings that are still to be brought there: until then nobody may read that all is as this spec says."""
    status = known.deployment.status
    if asked.status is not status or status.phase not in ("Ready", "Drifted"):
        return asked
    message = "settings of the endpoint are to be changed"
    return replace(asked, status=enter(known, "RollingOut", "Configuring", message))


def _nothing_served(known: DeploymentKnown) -> ServingDecision:
    """The first revision failed: that stays so until the spec says something else."""
    status = known.deployment.status
    ready = status.condition("Ready")
    wake = known.now + timedelta(seconds=known.limits.recheck_stalled)
    if status.failure is None or (
        status.phase == "Stalled" and ready is not None and ready.reason == "DeploymentFailed"
    ):
        return ServingDecision(status, wake_at=wake)
    return ServingDecision(enter(known, "Stalled", "DeploymentFailed", failed_text(status)), wake_at=wake)


def _as_wanted(known: DeploymentKnown, plan: EndpointPlan, reached: Reached) -> ServingDecision:
    """The endpoint is what it has to be: what spec says, or the last good revision in place of what failed."""
    status = known.deployment.status
    wake = again(known, reached, known.limits.recheck_served)
    changes = {"applied": plan_digest(plan), "drift": []}
    failure = status.failure
    if back_on_good(status) and failure is not None:
        after = enter(known, "RolledBack", failure.reason, rolled_back_text(status), **changes)
        return ServingDecision(after, wake_at=wake)
    message = f"revision {plan.revision} is served at endpoint {plan.endpoint}"
    after = enter(known, "Ready", "Serving", message, **changes)
    told = status.phase == "Ready"
    return ServingDecision(after, None, wake, () if told else (Note("Normal", "EndpointReady", message),))


def _bringing(known: DeploymentKnown, reached: Reached) -> ServingDecision:
    """Settings of spec are on their way: tags, permissions, logging. What is served stays as it is."""
    status = known.deployment.status
    message = f"settings of the endpoint are being changed: {_words(reached)}"
    if status.failure is not None and back_on_good(status):
        after = enter(known, "RolledBack", status.failure.reason, rolled_back_text(status))
    else:
        after = enter(known, "RollingOut", "Configuring", message)
    return ServingDecision(after, wake_at=again(known, reached, known.limits.poll))


def _drifted(known: DeploymentKnown, plan: EndpointPlan, reached: Reached) -> ServingDecision:
    """Somebody, or the platform, changed what was as it had to be."""
    status, seen = known.deployment.status, reached.endpoint
    wake = again(known, reached, _every(known, same=True))
    if seen is not None and seen.busy and reached.sent is None and not status.drift:
        # Its present change may be the platform's own care for it; what comes of that is told when it is done.
        return ServingDecision(status, wake_at=wake)
    drift = [clip(each, 512) for each in reached.differences[:MOST_DIFFERENCES]]
    reason, reverts = _reason(plan, reached), _reverts(known)
    text = f"the endpoint is no longer what it was brought to: {_words(reached)}"
    broken = reason == _REASONS["unready"]
    phase: DeploymentPhase = "RollingOut" if reverts and not broken else "Drifted"
    advice = "; it is being brought back" if reverts else "; change it back, change the spec, or set spec.driftPolicy"
    if broken:
        advice = "; nobody changed what is served, so see what its server prints"
    if status.failure is not None and back_on_good(status):
        after = enter(known, "RolledBack", status.failure.reason, rolled_back_text(status), drift=drift)
    else:
        after = enter(known, phase, reason, text + advice, drift=drift)
    notes: tuple[Note, ...] = ()
    if reverts and not broken and not status.drift:
        notes = (Note("Warning", "DriftReverted", clip(text + advice, 900)),)
    elif (broken or not reverts) and drift != status.drift:
        notes = (Note("Warning", reason, clip(text + advice, 900)),)
    return ServingDecision(after, None, wake, notes)


def _reason(plan: EndpointPlan, reached: Reached) -> str:
    """One word for what is different."""
    seen = reached.endpoint
    if seen is None or seen.deleting:
        return _REASONS["missing"]
    given = {each.served: each.traffic for each in seen.served}
    unready = any(each.state != "Ready" for each in seen.served)
    return _REASONS["unready" if unready and given == dict(plan.traffic) else "changed"]


_REASONS = {"missing": "EndpointMissing", "unready": "ServedNotReady", "changed": "EndpointDrifted"}


def _every(known: DeploymentKnown, *, same: bool) -> float:
    """Seconds between looks: few while something moves, or is being brought back."""
    reached, limits = known.observed.reached, known.limits
    busy = reached is not None and reached.endpoint is not None and reached.endpoint.busy
    brings = reached is not None and bool(reached.differences) and _reverts(known)
    return limits.poll if not same or busy or brings else limits.recheck_served


def _reverts(known: DeploymentKnown) -> bool:
    return known.deployment.spec is not None and known.deployment.spec.drift_policy == "Revert"


def _words(reached: Reached) -> str:
    return "; ".join(reached.differences[:4])
