"""Which revision a promotion is of, and whether there is anything to promote. Pure; used by serving.py."""

from trainyard.client.deployment import Deployment
from trainyard.client.errors import NothingToPromote, named

# Stages of a rollout that a promotion ends; the later ones are past it.
_BEFORE_ALL = ("Preparing", "Stepping")


def wanted(deployment: Deployment, revision: int | None) -> int:
    """Number of the revision that spec.promote has to name. Raises NothingToPromote saying why there is none."""
    newest, status = deployment.revision, deployment.status
    if not deployment.current:
        raise NothingToPromote(
            f"the operator has not looked at the newest change of {named(deployment)} yet: try again in a moment",
            deployment,
        )
    if newest is None:
        raise NothingToPromote(f"{named(deployment)} has no revision yet{_because(deployment)}", deployment)
    if revision is not None and revision != newest:
        raise NothingToPromote(
            f"the newest revision of {named(deployment)} is {newest}, and {revision} was named: look at it with "
            f"trainyard describe deployment/{deployment.name} -n {deployment.namespace}",
            deployment,
        )
    under_way = status.rollout is not None and status.rollout.stage in _BEFORE_ALL and status.last_good is not None
    if not under_way and not deployment.awaits_promotion:
        raise NothingToPromote(
            f"nothing of {named(deployment)} waits for a promotion{_because(deployment)}", deployment
        )
    return newest


def change(number: int) -> dict[str, int]:
    """The change of spec that promotes that revision."""
    return {"promote": number}


def told(deployment: Deployment) -> list[str]:
    """What a promotion gives all requests to: NAME MODEL version VERSION, one for each model of the newest revision."""
    target = deployment.status.target
    return [f"{each.name} {each.model} version {each.version}" for each in (target.models if target else [])]


def _because(deployment: Deployment) -> str:
    words = f": it is {deployment.phase or 'not seen by the operator'}"
    return f"{words} ({deployment.message})" if deployment.message else words
