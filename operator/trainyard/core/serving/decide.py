"""Everything that moves a ModelDeployment from one phase to another. Pure: no I/O, no SDK, no clock of its own.

`decide_deployment` asks the rules below in their order; the first that has an answer decides. The controller writes the
status, then does the action, then asks again with what it has learned. What is to be is in the API server before the
platform is asked, and the platform is only ever told where to be: losing everything in memory at any point costs a
repeated look, never a request that goes unanswered.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from trainyard.api.deployment_status import DeploymentPhase, EndpointStatus, Revision, RolloutStatus
from trainyard.core.actions import AddFinalizer
from trainyard.core.serving import drifting, ending, promoting, returning, rolling
from trainyard.core.serving.actions import Note, ServingDecision
from trainyard.core.serving.asking import look_only, wait_for
from trainyard.core.serving.checking import Wrong
from trainyard.core.serving.conditions import enter
from trainyard.core.serving.lines import expires_at, shown
from trainyard.core.serving.planning import back_on_good, new_models, seen_endpoint, steady_plan
from trainyard.core.serving.plans import ALL, plan_digest, revision_digest
from trainyard.core.serving.revisions import begun, next_revision, resolved, still_meant
from trainyard.core.serving.snapshot import DeploymentKnown, ServingReady
from trainyard.core.snapshot import Blocked
from trainyard.core.times import parse, stamp
from trainyard.core.waiting import earliest

Rule = Callable[[DeploymentKnown], ServingDecision | None]


def decide_deployment(known: DeploymentKnown) -> ServingDecision:
    """The next status, action and wake-up time of a deployment. Total: some rule always answers."""
    for rule in RULES:
        decision = rule(known)
        if decision is None:
            continue
        status, generation = decision.status, known.deployment.generation
        if status.phase is not None:
            status = shown(known, status)
            if status.observed_generation != generation:
                status = status.model_copy(update={"observed_generation": generation})
        return replace(decision, status=status, wake_at=_wake(known, decision), rule=rule.__name__)
    raise AssertionError("the last rule answers always")


def unreadable(known: DeploymentKnown) -> ServingDecision | None:
    """A spec that this version can not read needs a person; what is served goes on."""
    if known.deployment.spec is not None:
        return None
    message = f"the spec can not be read: {known.deployment.spec_error}. Correct it."
    return look_only(known, wait_for(known, Blocked("InvalidSpec", message, waiting=False)))


def held(known: DeploymentKnown) -> ServingDecision | None:
    """Something that is newly wanted is missing: wait for it, and after a while ask for a person.

    What is under way for what spec still says goes on, as does what goes back, and what is served needs nothing new.
    """
    found, status, spec = known.readiness, known.deployment.status, known.deployment.spec
    if not isinstance(found, Blocked) or spec is None:
        return None
    if status.endpoint is None:
        return wait_for(known, found)
    meant, rollout = still_meant(spec, status), status.rollout
    if rollout is not None and (meant or rollout.stage not in rolling.FORWARD):
        return None
    if rollout is None and meant and (status.last_good is None or drifting.as_applied(known)):
        return None
    bad = _failed_meanwhile(known) if rollout is not None else None
    if bad is not None:
        return returning.go_back(known, Wrong("ServedModelFailed", f"{bad} failed on the platform", bad))
    return look_only(known, wait_for(known, found))


def pin(known: DeploymentKnown) -> ServingDecision | None:
    """Write down where the endpoint will be, and as whom, before anything is asked of the platform."""
    deployment, ready = known.deployment, known.readiness
    status, spec = deployment.status, deployment.spec
    if status.endpoint is not None or not isinstance(ready, ServingReady) or spec is None:
        return None
    models = resolved(spec, status, ready.models)
    if models is None:
        return wait_for(known, _UNRESOLVED)
    if not deployment.has_finalizer:
        return ServingDecision(status, AddFinalizer())
    same = status.target is not None and status.target.digest == revision_digest(models)
    target = status.target if same and status.target is not None else next_revision(status, models, known.now)
    pinned = EndpointStatus(
        name=ready.endpoint,
        platform=ready.target.platform,
        host=ready.target.host,
        tenant=ready.target.tenant or None,
        principal=ready.target.principal,
        mode=ready.target.mode,
        service_account=ready.target.service_account or None,
        identity=ready.target.identity,
        cluster=ready.cluster or None,
    )
    return _begin(known, target, endpoint=pinned)


def revise(known: DeploymentKnown) -> ServingDecision | None:
    """What spec says, resolved, is another revision than the newest one: it is begun. One that goes back ends first."""
    ready, status, spec = known.readiness, known.deployment.status, known.deployment.spec
    if not isinstance(ready, ServingReady) or spec is None:
        return None
    rollout = status.rollout
    if rollout is not None and rollout.stage in returning.BACKWARD and not returning.stuck(known):
        return None
    models = resolved(spec, status, ready.models)
    if models is None:
        return look_only(known, wait_for(known, _UNRESOLVED))
    if status.target is not None and status.target.digest == revision_digest(models):
        return None
    return _begin(known, next_revision(status, models, known.now))


def try_again(known: DeploymentKnown) -> ServingDecision | None:
    """A first revision that failed is begun anew with other settings: they may have been why, and nothing is served."""
    status = known.deployment.status
    target, failure = status.target, status.failure
    if status.last_good is not None or target is None or failure is None or not back_on_good(status):
        return None
    if failure.plan == plan_digest(steady_plan(known, status, target)) or isinstance(known.readiness, Blocked):
        return None
    return _begin(known, next_revision(status, target.models, known.now))


def nothing(known: DeploymentKnown) -> ServingDecision:
    """Nothing is served and nothing is to be: only a change of the spec, or of what it names, leads further."""
    return ServingDecision(known.deployment.status, wake_at=known.now + timedelta(seconds=known.limits.recheck_stalled))


# The order is part of the meaning; tests/unit/test_serving_decide.py pins it.
RULES: tuple[Rule, ...] = (
    ending.deleting,  # before everything else: a deleted deployment starts nothing
    ending.expiring,  # and one whose time is up as little
    unreadable,  # no rule below can work without a spec
    promoting.given,  # a person's word is heard before anything is looked at
    held,  # what is newly wanted waits for what it needs; what is under way does not
    ending.moved,  # an endpoint of another host or maker is not changed
    pin,  # where it will be is written before it is made
    revise,  # the newest wish counts, whatever the stage
    returning.turn_back,  # what failed goes
    rolling.go_forward,  # what is new goes on by one step
    rolling.clean_up,  # and what was before it goes
    try_again,  # with other settings, what failed at first may not
    drifting.keep,  # else it stays as it is
    nothing,
)

_UNRESOLVED = Blocked("ModelNotRegistered", "a model of spec.models has yet to be looked up", waiting=True)


def _begin(known: DeploymentKnown, target: Revision, **changes: object) -> ServingDecision:
    """The rollout of that revision begins; where nothing new has to be made ready, with its shares."""
    status = known.deployment.status
    before = status.target
    after = status.model_copy(update={"target": target})
    prepared = status.last_good is not None and not new_models(after)
    wanted = known.deployment.spec.rollout if known.deployment.spec is not None else None
    rollout = RolloutStatus(
        stage="Promoting" if prepared else "Preparing",
        step=0,
        steps=len(wanted.steps) if wanted is not None else 0,
        traffic=ALL if prepared or status.last_good is None else 0,
        since=stamp(known.now),
        answered=True if prepared else None,
        checks=[],
    )
    new = before is None or before.number != target.number
    text = "; ".join(f"{each.name}: {each.model} version {each.version}" for each in target.models)
    message = f"revision {target.number} is being made ready: {text}"
    changes = {"target": target, "revision": target.number, "rollout": rollout, "drift": []} | changes
    if new:
        changes["revisions"] = begun(status, target, known.now)
    phase: DeploymentPhase = "Deploying" if status.last_good is None else "RollingOut"
    return ServingDecision(
        enter(known, phase, rollout.stage, message, **changes),
        notes=(Note("Normal", "RevisionCreated", message),) if new else (),
    )


def _failed_meanwhile(known: DeploymentKnown) -> str | None:
    """What is new and has failed since, while the rollout is held up."""
    endpoint, names = seen_endpoint(known), {each.served for each in new_models(known.deployment.status)}
    if endpoint is None:
        return None
    return next((each.served for each in endpoint.served if each.served in names and each.state == "Failed"), None)


def _wake(known: DeploymentKnown, decision: ServingDecision) -> datetime | None:
    """When to look again: at the latest when the endpoint's time is up."""
    ends = expires_at(known)
    expiry = parse(ends) if ends is not None else None
    return earliest(decision.wake_at, expiry if expiry is not None and expiry > known.now else None)
