"""Builds the next status of a run. Used by the rules in `core.decide` only; pure."""

from datetime import timedelta
from typing import Any

from trainyard.api.training_run import Attempt, MLTrainingRunStatus, Phase, Retry
from trainyard.core.conditions import FINAL, conditions_for
from trainyard.core.snapshot import Known
from trainyard.core.times import parse, spoken, stamp

MESSAGE_LIMIT = 1024


def newest(status: MLTrainingRunStatus) -> Attempt | None:
    """The newest attempt, live or ended."""
    return status.attempts[-1] if status.attempts else None


def live(status: MLTrainingRunStatus) -> Attempt | None:
    """The attempt that has not been seen to end."""
    last = newest(status)
    return last if last is not None and last.ended_at is None else None


def enter(known: Known, phase: Phase, reason: str, message: str, **changes: Any) -> MLTrainingRunStatus:
    """The status in that phase, with its conditions. `changes` are further status fields to set.

    Nothing but the conditions changes when phase, reason and message are what they were.
    """
    run, now = known.run, known.now
    status = run.status
    fields: dict[str, Any] = {
        "observed_generation": run.generation,
        "phase": phase,
        "conditions": conditions_for(
            phase, reason, clip(message), before=status.conditions, generation=run.generation, now=now
        ),
    }
    if status.started_at is None:
        fields["started_at"] = stamp(now)
    if phase in FINAL and status.ended_at is None:
        fields["ended_at"] = stamp(now)
        fields["duration"] = spoken((now - parse(status.started_at or stamp(now))).total_seconds())
    fields.update(changes)
    return status.model_copy(update=fields)


def with_attempt(status: MLTrainingRunStatus, **changes: Any) -> list[Attempt]:
    """The attempts with the newest one changed."""
    *older, last = status.attempts
    return [*older, last.model_copy(update=changes)]


def backoff(retry: Retry, attempt_number: int) -> timedelta:
    """Pause after that attempt: doubled for each, up to the cap."""
    seconds = retry.backoff_seconds * 2 ** min(attempt_number - 1, 30)
    return timedelta(seconds=min(seconds, max(retry.max_backoff_seconds, retry.backoff_seconds)))


def clip(message: str, limit: int = MESSAGE_LIMIT) -> str:
    """The message, shortened in the middle so that its beginning and its last words stay."""
    if len(message) <= limit:
        return message
    half = (limit - 3) // 2
    return f"{message[:half]}...{message[-half:]}"
