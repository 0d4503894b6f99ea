"""The one table that computes a deployment's conditions from its phase, and whether anything answers. Pure.

Readers: kstatus (Reconciling, Stalled), Argo CD, Flux, kubectl wait (Ready, Available), people. Nothing else sets them.
"""

from datetime import datetime
from typing import Any, Literal

from trainyard.api.base import Condition
from trainyard.api.deployment_status import DeploymentPhase
from trainyard.api.model_deployment import ModelDeploymentStatus
from trainyard.core.serving.snapshot import DeploymentKnown
from trainyard.core.times import stamp
from trainyard.core.transition import clip

TYPES = ("Ready", "Reconciling", "Stalled", "Available")
# Those that the phase alone says; Available is what was seen of the endpoint.
BY_PHASE = TYPES[:3]

# For each phase, the conditions of BY_PHASE that are True; the others are False.
TRUE_IN: dict[DeploymentPhase, frozenset[str]] = {
    "Pending": frozenset({"Reconciling"}),
    "Stalled": frozenset({"Stalled"}),
    "Deploying": frozenset({"Reconciling"}),
    "RollingOut": frozenset({"Reconciling"}),
    "AwaitingPromotion": frozenset({"Reconciling"}),
    "RollingBack": frozenset({"Reconciling"}),
    "Ready": frozenset({"Ready"}),
    "RolledBack": frozenset({"Stalled"}),
    "Drifted": frozenset({"Stalled"}),
    "Expired": frozenset(),
    "Deleting": frozenset({"Reconciling"}),
}


def enter(
    known: DeploymentKnown, phase: DeploymentPhase, reason: str, message: str, **changes: Any
) -> ModelDeploymentStatus:
    """The status in that phase, with its conditions. `changes` are further status fields to set.

    Nothing but the conditions changes when phase, reason and message are what they were.
    """
    status, generation, now = known.deployment.status, known.deployment.generation, known.now
    old = {each.type: each for each in status.conditions}
    conditions = [
        _condition(kind, kind in TRUE_IN[phase], reason, clip(message), old.get(kind), generation, now)
        for kind in BY_PHASE
    ]
    if "Available" in old:
        conditions.append(old["Available"])
    fields: dict[str, Any] = {"observed_generation": generation, "phase": phase, "conditions": conditions}
    if status.started_at is None:
        fields["started_at"] = stamp(now)
    return status.model_copy(update=fields | changes)


def with_available(
    status: ModelDeploymentStatus, answers: bool, message: str, generation: int, now: datetime
) -> ModelDeploymentStatus:
    """The status that says whether anything answers."""
    old = status.condition("Available")
    reason = "Serving" if answers else "NotServing"
    new = _condition("Available", answers, reason, message, old, generation, now)
    if old == new:
        return status
    others = [each for each in status.conditions if each.type != "Available"]
    return status.model_copy(update={"conditions": [*others, new]})


def _condition(
    kind: str, holds: bool, reason: str, message: str, old: Condition | None, generation: int, now: datetime
) -> Condition:
    word: Literal["True", "False"] = "True" if holds else "False"
    return Condition(
        type=kind,
        status=word,
        reason=reason,
        message=message,
        last_transition_time=old.last_transition_time if old is not None and old.status == word else stamp(now),
        observed_generation=generation,
    )
