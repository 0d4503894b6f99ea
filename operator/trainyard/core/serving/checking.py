"""Checks of a rollout: which are asked for at its moments, and what their results lead to. Used by `rolling`; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from trainyard.api.deployment_rollout import Checks, Rollout, Step
from trainyard.api.deployment_status import CheckResult, RolloutStatus, Serving
from trainyard.api.model_deployment import ModelDeploymentStatus
from trainyard.core.serving.actions import AskChecks, ServingDecision
from trainyard.core.serving.asking import ask
from trainyard.core.serving.plan import EndpointPlan
from trainyard.core.serving.planning import new_models
from trainyard.core.serving.promoting import seconds_between_checks
from trainyard.core.serving.seen import Checked
from trainyard.core.serving.snapshot import DeploymentKnown
from trainyard.core.times import parse
from trainyard.core.waiting import same_words

ANSWERS_ALONE = Checks()
# The reason of a rollout that goes back, by the check that failed.
_REASONS = {
    "Answers": "AnswersCheckFailed",
    "Smoke": "SmokeCheckFailed",
    "Bounds": "BoundsCheckFailed",
    "RunMetric": "RunMetricCheckFailed",
    "": "CheckFailed",  # one that this version has never heard of
}
# Waits for requests, which nobody may send: while it does it has no deadline.
PATIENT = "Bounds"


@dataclass(frozen=True, slots=True)
class Wrong:
    """Why a rollout goes back: one word, a sentence, and which served model it is about, if it is about one."""

    reason: str
    message: str
    served: str | None = None


def moment(status: ModelDeploymentStatus) -> str:
    """Names what is checked, so that checks of one step are not taken for another's or for an earlier try's."""
    rollout, target = status.rollout, status.target
    number = target.number if target is not None else 0
    if rollout is None:
        return f"{number}"
    return f"{number}-{rollout.stage}-{rollout.step}-{rollout.held_since}"


def checks_now(rollout: RolloutStatus, wanted: Rollout, *, forced: bool) -> Checks:
    """What has to hold before the rollout goes on: before the first request, after a step, or after promotion."""
    if forced or rollout.stage == "Promoting":
        return ANSWERS_ALONE
    step = step_now(rollout, wanted)
    return (step.checks if step is not None else None) or wanted.checks or ANSWERS_ALONE


def step_now(rollout: RolloutStatus, wanted: Rollout) -> Step | None:
    """The step that the rollout is in, if spec still has it."""
    return wanted.steps[rollout.step - 1] if 0 < rollout.step <= len(wanted.steps) else None


def checked_models(status: ModelDeploymentStatus) -> tuple[Serving, ...]:
    """What is checked: what is new, or where only shares and copies change, all that has requests."""
    assert status.target is not None  # noqa: S101  (a rollout has one)
    return tuple(new_models(status)) or tuple(each for each in status.target.models if each.traffic > 0)


def found(known: DeploymentKnown, plan: EndpointPlan, checks: Checks, since: datetime) -> Checked | ServingDecision:
    """What the checks of this moment have found, or the decision to ask for them (again, where that may
    have changed).
    """
    status, seen = known.deployment.status, known.observed.checked
    at = moment(status)
    if seen is not None and seen.moment == at:
        every = seconds_between_checks(known, waits=any(each.outcome == "Waiting" for each in seen.results))
        if every is None or known.now < seen.at + timedelta(seconds=every):
            return seen
    return ask(known, AskChecks(at, plan, checked_models(status), checks, since))


def told_already(results: Sequence[CheckResult], told: Sequence[CheckResult]) -> bool:
    """Whether status says so already, but for numbers that come anew each time: a wait counts what it has."""
    return len(results) == len(told) and all(_alike(*pair) for pair in zip(results, told, strict=True))


def _alike(result: CheckResult, told: CheckResult) -> bool:
    if (result.check, result.served, result.outcome) != (told.check, told.served, told.outcome):
        return False
    # The words on a metric are read again (controllers/serving_checks), and its numbers change with spec alone.
    return result.message == told.message or (result.check != "RunMetric" and same_words(told.message, result.message))


def failed_check(results: tuple[CheckResult, ...]) -> Wrong | None:
    """The first check that failed, as what went wrong."""
    bad = next((each for each in results if each.outcome == "Failed"), None)
    if bad is None:
        return None
    message = f"check {bad.check} of {bad.served} failed: {bad.message}"
    return Wrong(_REASONS.get(bad.check, _REASONS[""]), message, bad.served)


def overdue(known: DeploymentKnown, rollout: RolloutStatus, seen: Checked) -> CheckResult | None:
    """The check that has waited for longer than what is new may take to be ready, if it is one with a deadline."""
    for each in seen.results:
        if each.outcome == "Waiting" and _late(known, rollout, each, seen.untold.get((each.check, each.served))):
            return each
    return None


def _late(known: DeploymentKnown, rollout: RolloutStatus, waits: CheckResult, untold: datetime | None) -> bool:
    """Whether it should have come to an end. One that waits for requests has all the time, as nobody may send them."""
    if untold is not None:
        return known.now >= untold + timedelta(seconds=ready_within(known))
    if waits.check == PATIENT or rollout.held_since is None:
        return False
    wanted = known.deployment.spec.rollout if known.deployment.spec is not None else None
    step = step_now(rollout, wanted) if wanted is not None else None
    held = (step.hold_for_seconds or 0) if step is not None else 0
    # The time of one that nobody had to end, or could ask, begins anew with `since`.
    begun = max(parse(rollout.held_since), parse(rollout.since))
    return known.now >= begun + timedelta(seconds=held + ready_within(known))


def ready_within(known: DeploymentKnown) -> float:
    """Seconds that what is new may take to be ready."""
    spec = known.deployment.spec
    wanted = spec.rollout.ready_within_seconds if spec is not None and spec.rollout is not None else None
    return wanted or known.limits.ready_within
