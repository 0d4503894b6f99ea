"""A rollout on its way forward: what is new is prepared, checked, given more and more. Used by `decide`; pure.

Each step is first written into status.rollout and then asked of the platform as a plan, so that nothing is lost with
this process. What goes wrong leads to `returning`.
"""

from datetime import timedelta
from typing import Any

from trainyard.api.deployment_status import CheckResult, DeploymentPhase, RolloutStatus
from trainyard.api.model_deployment import ModelDeploymentStatus
from trainyard.core.serving.actions import Note, Reach, ServingDecision
from trainyard.core.serving.asking import (
    NAME_TAKEN,
    again,
    ask,
    checks_are_told,
    fresh,
    left_alone,
    not_ours,
    reach,
    refused,
)
from trainyard.core.serving.checking import (
    Wrong,
    checked_models,
    checks_now,
    failed_check,
    found,
    overdue,
    ready_within,
    step_now,
    told_already,
)
from trainyard.core.serving.conditions import enter
from trainyard.core.serving.plan import EndpointPlan
from trainyard.core.serving.planning import wanted_plan
from trainyard.core.serving.plans import ALL, plan_digest
from trainyard.core.serving.promoting import (
    await_person,
    awaited,
    forced,
    last_word,
    measured_since,
    wanted_rollout,
)
from trainyard.core.serving.returning import go_back
from trainyard.core.serving.revisions import ended
from trainyard.core.serving.seen import Checked, Reached
from trainyard.core.serving.snapshot import DeploymentKnown
from trainyard.core.times import parse, stamp
from trainyard.core.waiting import same_words

FORWARD = frozenset({"Preparing", "Stepping", "Promoting"})
# As status.rollout.checks allows.
MOST_RESULTS = 32


def go_forward(known: DeploymentKnown) -> ServingDecision | None:
    """What a rollout does next that has not gone wrong. None where there is none."""
    status = known.deployment.status
    rollout, plan = status.rollout, wanted_plan(known, status)
    if rollout is None or plan is None or rollout.stage not in FORWARD:
        return None
    no = refused(known, plan)
    if no is not None and no.reason != NAME_TAKEN:
        return go_back(known, Wrong(no.reason, no.message))
    reached = fresh(known, plan, _every(known, rollout))
    if reached is None:
        # What failed is not mended before it is known whether it failed by this change: its log would go with it.
        return ask(known, Reach(plan, change=False)) if _has_failed(known, plan) else reach(known, plan)
    if not_ours(known, reached):
        return left_alone(known, plan.endpoint)
    if status.phase in ("Pending", "Stalled") and not checks_are_told(known):
        # It was held up by what is mended now: its time begins anew.
        return ServingDecision(_with(_says(known, rollout, reached), since=stamp(known.now)))
    if reached.sent is not None and rollout.sent_at is None:
        return ServingDecision(_with(status, sent_at=stamp(reached.at)))
    wrong = _wrong(known, rollout, reached)
    if wrong is not None:
        return go_back(known, wrong)
    match rollout.stage:
        case "Preparing":
            return _preparing(known, rollout, plan, reached)
        case "Stepping":
            return _stepping(known, rollout, plan, reached)
        case _:
            return _promoting(known, rollout, plan, reached)


def clean_up(known: DeploymentKnown) -> ServingDecision | None:
    """What was before goes, once what is new has all requests; the endpoint then is what spec says."""
    status = known.deployment.status
    rollout, plan = status.rollout, wanted_plan(known, status)
    if rollout is None or plan is None or rollout.stage != "CleaningUp":
        return None
    message = f"revision {_number(status)} answers all requests; what was before it is being removed"
    says = enter(known, "RollingOut", "CleaningUp", message)
    reached = fresh(known, plan, known.limits.poll)
    if reached is None:
        return reach(known, plan)
    if not_ours(known, reached):
        return left_alone(known, plan.endpoint)
    if reached.differences:
        return ServingDecision(says, wake_at=again(known, reached, known.limits.poll))
    return _served(known, plan)


def _preparing(known: DeploymentKnown, rollout: RolloutStatus, plan: EndpointPlan, reached: Reached) -> ServingDecision:
    """What is new is made, and gets nothing until it is ready and its checks hold; a first revision has its shares."""
    status = known.deployment.status
    first = status.last_good is None
    ready = not reached.differences if first else _all_ready(status, reached)
    if not ready:
        return _wait(known, rollout, reached)
    if rollout.held_since is None:
        return ServingDecision(_with(status, held_since=stamp(known.now)))
    results = _checked(known, rollout, plan)
    if isinstance(results, ServingDecision):
        return results
    if first:
        return _served(known, plan)
    return _onwards(known, rollout)


def _stepping(known: DeploymentKnown, rollout: RolloutStatus, plan: EndpointPlan, reached: Reached) -> ServingDecision:
    """A share is given, held, and checked."""
    if forced(known):
        return _promote(known, rollout)
    if reached.differences:
        return _wait(known, rollout, reached)
    if rollout.held_since is None:
        return ServingDecision(_with(known.deployment.status, held_since=stamp(known.now)))
    step = step_now(rollout, wanted_rollout(known))
    until = parse(rollout.held_since) + timedelta(seconds=(step.hold_for_seconds or 0) if step is not None else 0)
    if known.now < until:
        return ServingDecision(
            _says(known, rollout, reached), wake_at=min(until, again(known, reached, known.limits.poll))
        )
    results = _checked(known, rollout, plan)
    return results if isinstance(results, ServingDecision) else _onwards(known, rollout)


def _promoting(known: DeploymentKnown, rollout: RolloutStatus, plan: EndpointPlan, reached: Reached) -> ServingDecision:
    """What is new gets all requests, and has to answer; then it is the last good revision."""
    status = known.deployment.status
    if reached.differences:
        return _wait(known, rollout, reached)
    if rollout.held_since is None:
        return ServingDecision(_with(status, held_since=stamp(known.now)))
    results = _checked(known, rollout, plan)
    if isinstance(results, ServingDecision):
        return results
    target = status.target
    assert target is not None  # noqa: S101  (a rollout has one)
    message = f"revision {target.number} answers all requests; what was before it is being removed"
    after = enter(
        known,
        "RollingOut",
        "CleaningUp",
        message,
        last_good=target,
        last_good_revision=target.number,
        rollout=_stage(known, rollout, "CleaningUp", traffic=ALL),
    )
    return ServingDecision(after, notes=(Note("Normal", "Promoted", f"revision {target.number} answers all requests"),))


def _onwards(known: DeploymentKnown, rollout: RolloutStatus) -> ServingDecision:
    """The next step, or the last word before promotion: of a person, where a person has it."""
    steps, number = wanted_rollout(known).steps, _number(known.deployment.status)
    if forced(known):
        return _promote(known, rollout)
    if rollout.step < len(steps):
        step = steps[rollout.step]
        after = _stage(
            known, rollout, "Stepping", step=rollout.step + 1, steps=len(steps), traffic=step.traffic, answered=True
        )
        message = f"step {after.step} of {after.steps}: revision {number} is to answer {step.traffic}% of the requests"
        return ServingDecision(
            enter(known, "RollingOut", "Stepping", message, rollout=after),
            notes=(Note("Normal", "RolloutStep", message),),
        )
    return await_person(known, rollout) if last_word(known, rollout) else _promote(known, rollout)


def _promote(known: DeploymentKnown, rollout: RolloutStatus) -> ServingDecision:
    after = _stage(known, rollout, "Promoting", traffic=ALL, answered=True)
    number = _number(known.deployment.status)
    message = f"revision {number} is to answer all requests"
    return ServingDecision(
        enter(known, "RollingOut", "Promoting", message, rollout=after),
        notes=(Note("Normal", "Promoting", message),),
    )


def _served(known: DeploymentKnown, plan: EndpointPlan) -> ServingDecision:
    """The endpoint is what spec says, and answers."""
    status, target = known.deployment.status, known.deployment.status.target
    assert target is not None  # noqa: S101  (a rollout has one)
    message = f"revision {target.number} is served at endpoint {plan.endpoint}"
    after = enter(
        known,
        "Ready",
        "Serving",
        message,
        last_good=target,
        last_good_revision=target.number,
        rollout=None,
        failure=None,
        drift=[],
        applied=plan_digest(plan),
        revisions=ended(status, known.now, outcome="Served", reason=None, message=None),
    )
    return ServingDecision(after, notes=(Note("Normal", "EndpointReady", message),))


def _checked(known: DeploymentKnown, rollout: RolloutStatus, plan: EndpointPlan) -> Checked | ServingDecision:
    """The checks of this moment, if all of them hold; else what follows: ask, wait, or go back."""
    if forced(known) and rollout.stage != "Promoting" and known.deployment.status.last_good is not None:
        return Checked("", (), known.now)
    checks = checks_now(rollout, wanted_rollout(known), forced=forced(known))
    seen = found(known, plan, checks, measured_since(known, rollout))
    if isinstance(seen, ServingDecision):
        return seen
    bad = failed_check(seen.results)
    late = overdue(known, rollout, seen) if not awaited(known) else None  # they have held once
    if bad is None and late is not None:
        message = f"check {late.check} of {late.served} came to no end: {late.message}"
        bad = Wrong("ChecksUnanswered", message, late.served)
    status = known.deployment.status
    if bad is not None:
        return go_back(known, bad, seen.results)
    if not told_already(seen.results[:MOST_RESULTS], rollout.checks):
        return ServingDecision(_with(status, checks=[*seen.results[:MOST_RESULTS]]))
    waiting = next((each for each in seen.results if each.outcome == "Waiting"), None)
    if waiting is None:
        return seen
    if awaited(known) and last_word(known, rollout):
        return await_person(known, rollout)
    return ServingDecision(_waits(known, waiting), wake_at=seen.at + timedelta(seconds=known.limits.poll))


def _waits(known: DeploymentKnown, check: CheckResult) -> ModelDeploymentStatus:
    """Says which check is waited for; as it is, where it says so already but for what that has counted since."""
    status = known.deployment.status
    phase, told, about = _phase(status), status.condition("Ready"), f"waiting for check {check.check} of {check.served}"
    message = f"{about}: {check.message}"
    if (
        (status.phase == phase and told is not None and told.reason == "Checking")
        and told.observed_generation == known.deployment.generation
        and told.message.startswith(f"{about}: ")
        and same_words(told.message, message)
    ):
        return status
    return enter(known, phase, "Checking", message)


def _wrong(known: DeploymentKnown, rollout: RolloutStatus, reached: Reached) -> Wrong | None:
    """What the platform says that went wrong, or that it has taken too long."""
    status, seen = known.deployment.status, reached.endpoint
    if seen is not None and _about_this(rollout, reached):
        names = {each.served for each in checked_models(status)}
        bad = next((each for each in seen.served if each.served in names and each.state == "Failed"), None)
        if bad is not None:
            why = bad.message or seen.failed or "it does not say why"
            return Wrong("ServedModelFailed", f"{bad.served} failed on the platform: {why}", bad.served)
        if seen.failed and reached.differences and not seen.busy:
            return Wrong("UpdateFailed", f"the platform could not change the endpoint: {seen.failed}")
    allowed = ready_within(known)
    begun = max(parse(each) for each in (rollout.since, rollout.sent_at) if each is not None)
    queued = rollout.sent_at is None and seen is not None and seen.busy
    if rollout.held_since is None and not queued and known.now >= begun + timedelta(seconds=allowed):
        message = f"it was not ready within {allowed:g} seconds: {_lacks(reached)}"
        late = [each.served for each in checked_models(status) if each.served not in _ready(reached)]
        return Wrong("NotReadyInTime", message, late[0] if late else None)
    return None


def _has_failed(known: DeploymentKnown, plan: EndpointPlan) -> bool:
    """Whether the last look at this plan showed a new model that failed, too early to be taken for this change's."""
    last, names = known.observed.reached, {each.served for each in checked_models(known.deployment.status)}
    if last is None or last.endpoint is None or last.plan != plan_digest(plan):
        return False
    return any(each.served in names and each.state == "Failed" for each in last.endpoint.served)


def _about_this(rollout: RolloutStatus, reached: Reached) -> bool:
    """Whether what was seen comes after the first change of this stage: the failure of an earlier one is past."""
    if rollout.sent_at is None:
        return reached.sent is None
    return reached.at >= parse(rollout.sent_at) + timedelta(seconds=1)


def _wait(known: DeploymentKnown, rollout: RolloutStatus, reached: Reached) -> ServingDecision:
    """The platform has to do something yet. A share that is no longer given has not been held."""
    status = known.deployment.status
    if rollout.held_since is not None:
        begins = rollout.since if rollout.stage == "Preparing" else stamp(known.now)
        return ServingDecision(_with(status, held_since=None, since=begins, checks=[]))
    wake = again(known, reached, known.limits.poll)
    if reached.endpoint is not None and reached.endpoint.busy and reached.sent is None and rollout.sent_at is None:
        message = f"the platform is busy with another change of endpoint {reached.endpoint.name}; this one follows"
        return ServingDecision(enter(known, _phase(status), "PlatformBusy", message), wake_at=wake)
    return ServingDecision(_says(known, rollout, reached), wake_at=wake)


def _says(known: DeploymentKnown, rollout: RolloutStatus, reached: Reached) -> ModelDeploymentStatus:
    """Phase and words for where the rollout is, after a look: before it nothing new is known."""
    status = known.deployment.status
    number, missing = _number(status), f": {_lacks(reached)}" if reached.differences else ""
    match rollout.stage:
        case "Preparing":
            return enter(known, _phase(status), "Preparing", f"revision {number} is being made ready{missing}")
        case "Stepping":
            message = f"step {rollout.step} of {rollout.steps}: revision {number} is to answer {rollout.traffic}%"
            return enter(known, "RollingOut", "Stepping", f"{message} of the requests{missing}")
        case _:
            return enter(known, "RollingOut", "Promoting", f"revision {number} is to answer all requests{missing}")


def _lacks(reached: Reached) -> str:
    return "; ".join(reached.differences[:4]) or "it has yet to be seen"


def _ready(reached: Reached) -> set[str]:
    return {each.served for each in reached.endpoint.served if each.state == "Ready"} if reached.endpoint else set()


def _all_ready(status: ModelDeploymentStatus, reached: Reached) -> bool:
    assert status.target is not None  # noqa: S101  (a rollout has one)
    return {each.served for each in status.target.models} <= _ready(reached)


def _every(known: DeploymentKnown, rollout: RolloutStatus) -> float:
    """Seconds between looks: fewer while something moves than while a person is waited for."""
    waits = awaited(known) and rollout.held_since is not None
    return known.limits.recheck_served if waits else known.limits.poll


def _phase(status: ModelDeploymentStatus) -> DeploymentPhase:
    return "Deploying" if status.last_good is None else "RollingOut"


def _number(status: ModelDeploymentStatus) -> int:
    return status.target.number if status.target is not None else 0


def _with(status: ModelDeploymentStatus, **changes: Any) -> ModelDeploymentStatus:
    """The status with its rollout changed."""
    assert status.rollout is not None  # noqa: S101  (the callers have one)
    return status.model_copy(update={"rollout": status.rollout.model_copy(update=changes)})


def _stage(known: DeploymentKnown, rollout: RolloutStatus, stage: str, **changes: Any) -> RolloutStatus:
    """The rollout at the beginning of a stage or step."""
    begins: dict[str, Any] = {
        "stage": stage,
        "since": stamp(known.now),
        "held_since": None,
        "sent_at": None,
        "checks": [],
    }
    return rollout.model_copy(update=begins | changes)
