"""The one table that computes conditions from a run's phase.

Readers: kstatus (Reconciling, Stalled), Argo CD, Flux, kubectl wait (Complete, Failed), people. Nothing else sets them.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from trainyard.api.base import Condition
from trainyard.api.training_run import Phase
from trainyard.core.times import stamp

TYPES = ("Ready", "Reconciling", "Stalled", "Complete", "Failed")

# For each phase, the conditions that are True; all others are False.
TRUE_IN: dict[Phase, frozenset[str]] = {
    "Pending": frozenset({"Reconciling"}),
    "Stalled": frozenset({"Stalled"}),
    "Submitting": frozenset({"Reconciling"}),
    "Queued": frozenset({"Reconciling"}),
    "BuildingEnvironment": frozenset({"Reconciling"}),
    "Running": frozenset({"Reconciling"}),
    "Cancelling": frozenset({"Reconciling"}),
    "Suspended": frozenset(),
    "Succeeded": frozenset({"Ready", "Complete"}),
    "Failed": frozenset({"Stalled", "Failed"}),
    "TimedOut": frozenset({"Stalled", "Failed"}),
    "Cancelled": frozenset({"Stalled", "Failed"}),
}

FINAL: frozenset[Phase] = frozenset({"Succeeded", "Failed", "TimedOut", "Cancelled"})


def status_of(kind: str, phase: Phase) -> Literal["True", "False"]:
    """Whether the condition holds in that phase."""
    return "True" if kind in TRUE_IN[phase] else "False"


def conditions_for(
    phase: Phase, reason: str, message: str, *, before: Sequence[Condition], generation: int, now: datetime
) -> list[Condition]:
    """All five conditions; `lastTransitionTime` moves only where the status does."""
    old = {c.type: c for c in before}
    return [_condition(kind, phase, reason, message, old.get(kind), generation, now) for kind in TYPES]


def _condition(
    kind: str, phase: Phase, reason: str, message: str, old: Condition | None, generation: int, now: datetime
) -> Condition:
    status = status_of(kind, phase)
    moved = old is None or old.status != status
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message,
        last_transition_time=stamp(now) if moved or old is None else old.last_transition_time,
        observed_generation=generation,
    )
