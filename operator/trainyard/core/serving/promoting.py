"""The last word on a rollout, where a person has it: what is asked and told meanwhile.

Used by `decide`, `rolling` and `checking`; pure. What is new has a share and its checks have held. It may yet go bad,
so that they are asked again now and then.
"""

from datetime import datetime, timedelta

from trainyard.api.deployment_rollout import Rollout
from trainyard.api.deployment_status import RolloutStatus
from trainyard.core.serving.actions import ServingDecision
from trainyard.core.serving.conditions import enter
from trainyard.core.serving.revisions import still_meant
from trainyard.core.serving.snapshot import DeploymentKnown
from trainyard.core.times import parse, stamp

# What is measured while a person thinks: what has just gone bad counts for more than days that were good.
MEASURED = timedelta(days=1)


def wanted_rollout(known: DeploymentKnown) -> Rollout:
    """How spec wants a new revision to be rolled out."""
    spec = known.deployment.spec
    return (spec.rollout if spec is not None else None) or Rollout()


def forced(known: DeploymentKnown) -> bool:
    """Whether a person wants the newest revision promoted as soon as it is ready."""
    spec, target = known.deployment.spec, known.deployment.status.target
    return spec is not None and spec.promote is not None and target is not None and spec.promote >= target.number


def last_word(known: DeploymentKnown, rollout: RolloutStatus) -> bool:
    """Whether a person has to promote what has done all its steps."""
    wanted = wanted_rollout(known)
    return wanted.promotion == "Manual" and rollout.step >= len(wanted.steps) and not forced(known)


def awaited(known: DeploymentKnown) -> bool:
    """Whether a person is waited for now."""
    return known.deployment.status.phase == "AwaitingPromotion"


def given(known: DeploymentKnown) -> ServingDecision | None:
    """Spec waits for nobody any more: from now on nobody reads that it does, also while the platform is away."""
    status, spec = known.deployment.status, known.deployment.spec
    rollout, target = status.rollout, status.target
    if not awaited(known) or spec is None or rollout is None or target is None:
        return None
    if last_word(known, rollout) or not still_meant(spec, status):
        return None
    if forced(known):
        return ServingDecision(
            enter(known, "RollingOut", "Promoting", f"revision {target.number} is to answer all requests")
        )
    message = f"revision {target.number} goes on, as spec no longer waits for a person"
    # What has no end while a person thinks has one from now on.
    after = rollout.model_copy(update={"since": stamp(known.now)})
    return ServingDecision(enter(known, "RollingOut", rollout.stage, message, rollout=after))


def await_person(known: DeploymentKnown, rollout: RolloutStatus) -> ServingDecision:
    """Tells what to do, and looks and asks again now and then: nobody knows for how long."""
    target, reached, checked = known.deployment.status.target, known.observed.reached, known.observed.checked
    number = target.number if target is not None else 0
    message = (
        f"revision {number} answers {rollout.traffic}% and its checks hold; set spec.promote to {number} to give "
        "it all requests"
    )
    looks = [each.at for each in (reached, checked if rollout.traffic > 0 else None) if each is not None]
    wake = min(looks, default=known.now) + timedelta(seconds=known.limits.recheck_served)
    return ServingDecision(
        enter(known, "AwaitingPromotion", "AwaitingPromotion", message), wake_at=max(wake, known.now)
    )


def measured_since(known: DeploymentKnown, rollout: RolloutStatus) -> datetime:
    """From when the platform's measurements count: since the share is held, or of a day while a person thinks."""
    assert rollout.held_since is not None  # noqa: S101  (the callers wrote it)
    held = parse(rollout.held_since)
    return max(held, known.now - MEASURED) if awaited(known) else held


def seconds_between_checks(known: DeploymentKnown, *, waits: bool) -> float | None:
    """When checks of one moment are asked again; None: not any more.

    Those that wait, until they do not; while a person thinks, all of what has a share, whether or not the phase says
    so: it may tell of a trouble with these very checks. What has no share may have been scaled to zero since, which
    asking would undo.
    """
    rollout = known.deployment.status.rollout
    if waits:
        return known.limits.recheck_served if awaited(known) else known.limits.poll
    shared = rollout is not None and rollout.traffic > 0 and last_word(known, rollout)
    return known.limits.recheck_served if shared else None
