"""A rollout on its way back: the share goes to the last good revision, the log is kept, what failed is removed.

Used by `decide` and `rolling`; pure. Of a first revision there is nothing to go back to: it is removed, as it costs.
"""

from collections.abc import Sequence
from typing import Any

from trainyard.api.deployment_status import LOG_CHARACTERS, CheckResult, Failure, RolloutStatus
from trainyard.api.model_deployment import ModelDeploymentStatus
from trainyard.core.serving.actions import FetchLogs, Note, Reach, ServingDecision
from trainyard.core.serving.asking import again, ask, fresh, left_alone, not_ours, reach
from trainyard.core.serving.checking import Wrong
from trainyard.core.serving.conditions import enter
from trainyard.core.serving.plan import EndpointPlan
from trainyard.core.serving.planning import empty_plan, new_models, seen_endpoint, seen_names, steady_plan, wanted_plan
from trainyard.core.serving.plans import plan_digest
from trainyard.core.serving.revisions import ended
from trainyard.core.serving.seen import Reached
from trainyard.core.serving.snapshot import DeploymentKnown
from trainyard.core.times import stamp
from trainyard.core.transition import clip

BACKWARD = frozenset({"RollingBack", "Removing"})
REASON_LENGTH = 128


def go_back(known: DeploymentKnown, wrong: Wrong, results: Sequence[CheckResult] = ()) -> ServingDecision:
    """Write down that the newest revision failed and why; what follows needs no second look at that."""
    status = known.deployment.status
    target, rollout, good = status.target, status.rollout, status.last_good
    assert target is not None  # noqa: S101  (a rollout has one)
    assert rollout is not None  # noqa: S101  (the callers looked)
    reason, message = wrong.reason[:REASON_LENGTH], clip(wrong.message)
    failure = Failure(
        revision=target.number,
        reason=reason,
        message=message,
        at=stamp(known.now),
        served=wrong.served,
        plan=plan_digest(steady_plan(known, status, target)),
    )
    after = rollout.model_copy(
        update={
            "stage": "RollingBack",
            "traffic": 0,
            "since": stamp(known.now),
            "held_since": None,
            "sent_at": None,
            "reason": reason,
            "message": message,
            "checks": list(results)[:32] or rollout.checks,
        }
    )
    to = f"revision {good.number} answers again" if good is not None else "it is removed, as it costs"
    text = f"revision {target.number} failed ({reason}): {message}; {to}"
    past = ended(
        status, known.now, outcome="RolledBack" if good is not None else "Failed", reason=reason, message=message
    )
    return ServingDecision(
        enter(known, "RollingBack", reason, text, rollout=after, failure=failure, revisions=past),
        notes=(Note("Warning", reason, clip(text, 900)),),
    )


def turn_back(known: DeploymentKnown) -> ServingDecision | None:
    """What a rollout does next that has gone wrong. None where there is none."""
    rollout = known.deployment.status.rollout
    if rollout is None or rollout.stage not in BACKWARD:
        return None
    if rollout.stage == "Removing":
        return _removing(known)
    failure, moving = known.deployment.status.failure, None
    if failure is None or failure.served not in known.observed.logs:
        moving = _moving(known, rollout)
    return moving or _keeping_log(known, rollout)


def stuck(known: DeploymentKnown) -> bool:
    """Whether going back meets what only another spec can mend."""
    trouble = known.observed.trouble
    return trouble is not None and trouble.kind in ("Refused", "TranslationError") and trouble.action == Reach.__name__


def _moving(known: DeploymentKnown, rollout: RolloutStatus) -> ServingDecision | None:
    """The last good revision gets all requests again. None when it has them, or what failed never had any."""
    status = known.deployment.status
    if status.last_good is None or not rollout.answered:
        return None
    plan = wanted_plan(known, status)
    assert plan is not None  # noqa: S101  (there is an endpoint and a target)
    if known.observed.reached is None:
        # What is there decides what is kept until its log is read.
        return ask(known, Reach(empty_plan(known, status), change=False))
    reached = fresh(known, plan, known.limits.poll)
    if reached is None:
        return reach(known, plan)
    if not_ours(known, reached):
        return left_alone(known, plan.endpoint)
    if reached.endpoint is None or _gives(reached, plan):
        return None
    return ServingDecision(_going(known), wake_at=again(known, reached, known.limits.poll))


def _keeping_log(known: DeploymentKnown, rollout: RolloutStatus) -> ServingDecision:
    """What the failed server printed is kept, if there was one; then all that failed goes."""
    status, logs = known.deployment.status, known.observed.logs
    failure, endpoint = status.failure, status.endpoint
    assert failure is not None  # noqa: S101  (written when it failed)
    assert endpoint is not None  # noqa: S101
    after = rollout.model_copy(update={"stage": "Removing", "since": stamp(known.now), "sent_at": None})
    served = failure.served or next(
        (each.served for each in new_models(status) if each.served in seen_names(known)), None
    )
    if served is None and known.observed.reached is None:
        return ask(known, Reach(empty_plan(known, status), change=False))
    if served is None or _unreadable(known):
        return ServingDecision(status.model_copy(update={"rollout": after}))
    if served not in logs:
        return ask(known, FetchLogs(endpoint.name, (served,)))
    log = logs[served][-LOG_CHARACTERS:] or None
    kept = failure.model_copy(update={"served": served, "log": log})
    return ServingDecision(status.model_copy(update={"rollout": after, "failure": kept}))


def _removing(known: DeploymentKnown) -> ServingDecision:
    """Only the last good revision stays; without one, nothing."""
    status = known.deployment.status
    plan = wanted_plan(known, status)
    assert plan is not None  # noqa: S101  (there is an endpoint and a target)
    if status.last_good is None and _others_serve(known):
        return _failed(known, plan, "; what failed is left at the endpoint, which serves what others made: remove it")
    reached = fresh(known, plan, known.limits.poll)
    if reached is None:
        return reach(known, plan)
    not_there = reached.endpoint is None or not reached.endpoint.ours
    if status.last_good is None and (not_there or not reached.differences):
        return _failed(known, plan, "")
    if not_ours(known, reached):
        return left_alone(known, plan.endpoint)
    if reached.differences:
        return ServingDecision(_going(known), wake_at=again(known, reached, known.limits.poll))
    return _rolled_back(known, plan)


def _rolled_back(known: DeploymentKnown, plan: EndpointPlan) -> ServingDecision:
    status = known.deployment.status
    failure, text = status.failure, rolled_back_text(status)
    assert failure is not None  # noqa: S101  (written when it failed)
    after = enter(known, "RolledBack", failure.reason, text, rollout=None, drift=[], applied=plan_digest(plan))
    return ServingDecision(after, notes=(Note("Warning", "RolledBack", clip(text, 900)),))


def _failed(known: DeploymentKnown, plan: EndpointPlan, but: str) -> ServingDecision:
    status = known.deployment.status
    text = failed_text(status) + but
    after = enter(known, "Stalled", "DeploymentFailed", text, rollout=None, drift=[], applied=plan_digest(plan))
    return ServingDecision(after, notes=(Note("Warning", "DeploymentFailed", clip(text, 900)),))


def rolled_back_text(status: ModelDeploymentStatus) -> str:
    """What is served in place of what failed, and why that failed."""
    failure, good = status.failure, status.last_good
    assert failure is not None  # noqa: S101  (written when it failed)
    assert good is not None  # noqa: S101  (the callers looked)
    return f"revision {failure.revision} failed ({failure.reason}): {failure.message}; revision {good.number} is served"


def failed_text(status: ModelDeploymentStatus) -> str:
    """Why nothing is served."""
    failure = status.failure
    assert failure is not None  # noqa: S101  (the callers looked)
    why = f"revision {failure.revision} failed ({failure.reason}): {failure.message}"
    return f"{why}. It was removed, and nothing is served: change the spec"


def _going(known: DeploymentKnown) -> ModelDeploymentStatus:
    """The phase of a rollout that goes back, also after a trouble was told."""
    status = known.deployment.status
    failure, good = status.failure, status.last_good
    assert failure is not None  # noqa: S101  (written when it failed)
    to = f"revision {good.number} answers again" if good is not None else "it is removed, as it costs"
    text = f"revision {failure.revision} failed ({failure.reason}): {failure.message}; {to}"
    return enter(known, "RollingBack", failure.reason, text)


def _gives(reached: Reached, plan: EndpointPlan) -> bool:
    """Whether requests are shared out as planned, whatever else is lacking: what failed is among what is there."""
    given: dict[str, Any] = {each.served: each.traffic for each in reached.endpoint.served} if reached.endpoint else {}
    names = {*given, *plan.traffic}
    return reached.sent is None and all(given.get(name, 0) == plan.traffic.get(name, 0) for name in names)


def _unreadable(known: DeploymentKnown) -> bool:
    """Whether the log is given up: it is not there, or has been asked for in vain for long enough."""
    trouble = known.observed.trouble
    if trouble is None or trouble.action != FetchLogs.__name__:
        return False
    lasted = (known.now - trouble.since).total_seconds()
    return trouble.kind in ("Missing", "Refused", "Denied") or lasted >= known.limits.logs_may_take


def _others_serve(known: DeploymentKnown) -> bool:
    """Whether an adopted endpoint still serves what was there before: it is not emptied for a failure of ours."""
    spec, seen, target = known.deployment.spec, seen_endpoint(known), known.deployment.status.target
    if spec is None or not spec.adopt or seen is None or target is None:
        return False
    return bool({each.served for each in seen.served} - {each.served for each in target.models})
