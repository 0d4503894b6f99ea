"""How a rule asks for an action, and what is told while it does not work. Used by the rules on deployments; pure."""

from datetime import datetime, timedelta

from trainyard.api.deployment_status import DeploymentPhase
from trainyard.api.model_deployment import ModelDeploymentStatus
from trainyard.core.remote import Trouble
from trainyard.core.serving.actions import AskChecks, Note, Reach, ServingAction, ServingDecision
from trainyard.core.serving.conditions import enter
from trainyard.core.serving.plan import EndpointPlan
from trainyard.core.serving.planning import looking_plan
from trainyard.core.serving.plans import plan_digest
from trainyard.core.serving.seen import Reached
from trainyard.core.serving.snapshot import DeploymentKnown
from trainyard.core.snapshot import Blocked
from trainyard.core.times import parse
from trainyard.core.waiting import PASSING, same_words

# Kinds of trouble that only a person mends, and those among them that trying again for a while does not.
NEEDS_PERSON = frozenset({"Denied", "IdentityError", "Unauthenticated", "Missing", "Refused", "TranslationError"})
AT_ONCE = frozenset({"Refused", "TranslationError"})
# Of an endpoint that has not been this deployment's; of one that was, it is EndpointNotOurs.
NAME_TAKEN = "EndpointNameTaken"
# Phases that say that somebody is at work, which is not so while a person is needed; the others say what is served.
AT_WORK = frozenset({"Pending", "Deploying", "RollingOut", "AwaitingPromotion", "RollingBack"})


def ask(known: DeploymentKnown, action: ServingAction, says: ModelDeploymentStatus | None = None) -> ServingDecision:
    """The action, and a status that tells of it; after trouble, what was tried is tried again when it has cooled."""
    trouble = known.observed.trouble
    if trouble is None or _of_checks_alone(trouble, action):
        return ServingDecision(says or known.deployment.status, action)
    if trouble.kind in AT_ONCE and not _of(known, trouble, action):
        return ServingDecision(says or known.deployment.status, action)
    told = told_trouble(known, trouble)
    if known.now < trouble.retry_at:
        return ServingDecision(told, wake_at=trouble.retry_at)
    return ServingDecision(told, action)


def reach(known: DeploymentKnown, plan: EndpointPlan) -> ServingDecision:
    """Ask for the next change towards the plan; what was found to be another's is only looked at, unless adopted."""
    ready = known.deployment.status.condition("Ready")
    taken = ready is not None and ready.reason in (NAME_TAKEN, "EndpointNotOurs") and not plan.adopt
    return ask(known, Reach(plan, change=not taken))


def fresh(known: DeploymentKnown, plan: EndpointPlan, every: float) -> Reached | None:
    """What was seen of the endpoint beside that plan, unless it is time to look again."""
    reached = known.observed.reached
    if reached is None or reached.plan != plan_digest(plan) or known.now >= reached.at + timedelta(seconds=every):
        return None
    return reached


def again(known: DeploymentKnown, reached: Reached, every: float) -> datetime:
    """When to look the next time, after that look."""
    return max(known.now, reached.at + timedelta(seconds=every))


def refused(known: DeploymentKnown, plan: EndpointPlan) -> Trouble | None:
    """The platform's word that it will never take this plan, if that was the last one."""
    trouble = known.observed.trouble
    if trouble is None or trouble.kind != "Refused" or trouble.action != Reach.__name__:
        return None
    return trouble if known.observed.asked in ("", plan_digest(plan)) else None


def not_ours(known: DeploymentKnown, reached: Reached) -> bool:
    """Whether the endpoint is somebody else's and not to be taken over."""
    spec = known.deployment.spec
    adopts = spec is not None and bool(spec.adopt)
    return reached.endpoint is not None and not reached.endpoint.ours and not adopts


def left_alone(known: DeploymentKnown, endpoint: str) -> ServingDecision:
    """An endpoint of that name is not this deployment's: it is looked at now and then, and never changed."""
    pinned, ready = known.deployment.status.endpoint, known.deployment.status.condition("Ready")
    reason = "EndpointNotOurs" if pinned is not None and pinned.made else "EndpointNameTaken"
    message = (
        f"endpoint {endpoint} is not, or no longer, marked as this deployment's, so it is left alone. Remove it, set "
        "spec.adopt to take it over, or create a deployment with another spec.endpoint."
    )
    status = enter(known, "Stalled", reason, message)
    told = ready is not None and ready.reason == reason and ready.message == message
    notes = () if told else (Note("Warning", reason, message),)
    return ServingDecision(status, None, known.now + timedelta(seconds=known.limits.poll), notes)


def _of_checks_alone(trouble: Trouble, action: ServingAction) -> bool:
    """Whether only checks are in trouble: it is kept until they are not, and what is no check is not held up by it."""
    return trouble.action == AskChecks.__name__ and not isinstance(action, AskChecks)


def checks_are_told(known: DeploymentKnown) -> bool:
    """Whether what status tells is the trouble of checks, which lasts: it is over when they have been asked again."""
    trouble, ready = known.observed.trouble, known.deployment.status.condition("Ready")
    return (
        trouble is not None
        and trouble.action == AskChecks.__name__
        and ready is not None
        and ready.reason == trouble.reason
    )


def _of(known: DeploymentKnown, trouble: Trouble, action: ServingAction) -> bool:
    """Whether the trouble is that of this very action: a no to one plan is none to another."""
    if trouble.action != type(action).__name__:
        return False
    return not isinstance(action, Reach) or known.observed.asked in ("", plan_digest(action.plan))


def told_trouble(known: DeploymentKnown, trouble: Trouble) -> ModelDeploymentStatus:
    """The status that names the trouble once it has lasted; a single slow answer is not worth a write."""
    status = known.deployment.status
    lasted = (known.now - trouble.since).total_seconds()
    if status.phase is None or (trouble.kind not in AT_ONCE and lasted < known.limits.trouble_before_told):
        return status
    phase: DeploymentPhase = status.phase
    for_a_person = trouble.kind in NEEDS_PERSON and not trouble.waiting
    if for_a_person and (phase in AT_WORK or trouble.kind in AT_ONCE) and phase != "Deleting":
        phase = "Stalled"
    told = status.condition("Ready")
    alike = told is not None and (
        told.reason == trouble.reason or (told.reason in PASSING and trouble.reason in PASSING)
    )
    if alike and phase == status.phase:
        return status
    return enter(known, phase, trouble.reason, f"{trouble.message}. Trainyard keeps trying.")


def look_only(known: DeploymentKnown, told: ServingDecision) -> ServingDecision:
    """That decision, with a look at what is served meanwhile; nothing is changed, and nothing else is told."""
    plan, trouble = looking_plan(known, known.deployment.status), known.observed.trouble
    if plan is None:
        return told
    reached = fresh(known, plan, known.limits.recheck_served)
    if reached is None and (trouble is None or known.now >= trouble.retry_at):
        return ServingDecision(told.status, Reach(plan, change=False), told.wake_at, told.notes)
    looks = trouble.retry_at if reached is None and trouble is not None else None
    if reached is not None:
        looks = again(known, reached, known.limits.recheck_served)
    wake = min(m for m in (told.wake_at, looks) if m is not None)
    return ServingDecision(told.status, None, wake, told.notes)


def wait_for(known: DeploymentKnown, held: Blocked) -> ServingDecision:
    """What may yet appear is waited for; after a while, or if only a person can mend it, a person is asked for."""
    status, now, limits = known.deployment.status, known.now, known.limits
    ready, moving = status.condition("Ready"), status.condition("Reconciling")
    told = ready is not None and ready.reason == held.reason
    since = parse(moving.last_transition_time) if status.phase == "Pending" and moving is not None else now
    given_up = now >= since + timedelta(seconds=limits.wait_before_stalled) or (told and status.phase == "Stalled")
    if held.waiting and not given_up:
        wake = min(
            now + timedelta(seconds=limits.recheck_waiting), since + timedelta(seconds=limits.wait_before_stalled)
        )
        return ServingDecision(_says(known, "Pending", held), wake_at=wake)
    notes = () if told and status.phase == "Stalled" else (Note("Warning", held.reason, held.message),)
    return ServingDecision(_says(known, "Stalled", held), None, now + timedelta(seconds=limits.recheck_stalled), notes)


def _says(known: DeploymentKnown, phase: DeploymentPhase, held: Blocked) -> ModelDeploymentStatus:
    """The status that says so; as it is, where it says the same but for numbers and ids, which come anew each time."""
    status = known.deployment.status
    ready = status.condition("Ready")
    same = status.phase == phase and ready is not None and ready.reason == held.reason
    if same and ready is not None and same_words(ready.message, held.message):
        return status
    return enter(known, phase, held.reason, held.message)
