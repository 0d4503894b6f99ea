"""How long a decision waits when a request was in trouble, and when the trouble is told. Used by the rules; pure."""

from trainyard.api.training_run import MLTrainingRunStatus
from trainyard.core.actions import Decision
from trainyard.core.deadlines import next_deadline
from trainyard.core.remote import Trouble
from trainyard.core.snapshot import Known
from trainyard.core.transition import enter

# Troubles that come and go with a platform; telling one for the other again and again is worth no write.
PASSING = frozenset({"PlatformUnreachable", "PlatformThrottled", "PlatformAnswerMalformed"})


def wait_out(known: Known) -> Decision | None:
    """A decision to wait while the last request's trouble has not cooled down; None when it may be tried again."""
    trouble = known.observed.trouble
    if trouble is None or known.now >= trouble.retry_at:
        return None
    wake = min(m for m in (trouble.retry_at, next_deadline(known)) if m is not None)
    return Decision(told_trouble(known), wake_at=wake)


def told_trouble(known: Known) -> MLTrainingRunStatus:
    """The status that names the trouble once it has lasted; a single slow answer is not worth a write."""
    trouble, status = known.observed.trouble, known.run.status
    if trouble is None or status.phase is None:
        return status
    if (known.now - trouble.since).total_seconds() < known.limits.trouble_before_told:
        return status
    if says(status, trouble):
        return status
    return enter(known, status.phase, trouble.reason, f"{trouble.message}. Trainyard keeps trying.")


def says(status: MLTrainingRunStatus, trouble: Trouble) -> bool:
    """Whether the status tells of that trouble already, or of one as good."""
    current = status.condition("Reconciling")
    if current is None:
        return False
    return current.reason == trouble.reason or (current.reason in PASSING and trouble.reason in PASSING)
