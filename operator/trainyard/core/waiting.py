"""How long a decision waits for what is missing or in trouble, and when that is told. Used by the rules; pure."""

import re
from datetime import datetime, timedelta

from trainyard.api.training_run import MLTrainingRunStatus, Phase
from trainyard.core.actions import Decision, Note
from trainyard.core.deadlines import begun, next_deadline
from trainyard.core.remote import Trouble
from trainyard.core.snapshot import Blocked, Known
from trainyard.core.times import parse
from trainyard.core.transition import clip, enter, newest

# Troubles that come and go with a platform; telling one for the other again and again is worth no write.
PASSING = frozenset({"PlatformUnreachable", "PlatformThrottled", "PlatformAnswerMalformed"})
# Words of a message that are others each time it is said: numbers, addresses, request ids, hashes.
_VARYING = re.compile(r"\S*\d\S*")


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


def wait_for(known: Known, held: Blocked) -> Decision:
    """What may yet appear is waited for; after a while, or if only a person can mend it, a person is asked for."""
    status = known.run.status
    last = newest(status)
    since = begun(status) or known.now
    if last is not None:
        since = max(since, parse(last.ended_at or last.intended_at))
    give_up = since + timedelta(seconds=known.limits.wait_before_stalled)
    if held.waiting and known.now < give_up:
        # ConfigMaps and ServiceAccounts are not watched: reading all of them would be a right too many.
        again = known.now + timedelta(seconds=known.limits.recheck_waiting)
        wake = earliest(again, give_up, next_deadline(known))
        return Decision(_told(known, "Pending", held), wake_at=wake)
    notes = (Note("Warning", held.reason, held.message),) if status.phase != "Stalled" else ()
    return Decision(_told(known, "Stalled", held), wake_at=recheck(known), notes=notes)


def _told(known: Known, phase: Phase, held: Blocked) -> MLTrainingRunStatus:
    """The status that says so; as it is, where it says the same but for numbers and ids, which come anew each time."""
    status = known.run.status
    now = status.condition("Ready")
    same = status.phase == phase and now is not None and now.reason == held.reason
    if same and now is not None and same_words(now.message, held.message):
        return status
    return enter(known, phase, held.reason, held.message)


def same_words(told: str, message: str) -> bool:
    """Whether a message says what was told before, but for numbers and ids."""
    return _VARYING.sub("", told) == _VARYING.sub("", clip(message))


def recheck(known: Known) -> datetime | None:
    """When to look again at what only a person can mend."""
    return earliest(known.now + timedelta(seconds=known.limits.recheck_stalled), next_deadline(known))


def earliest(*moments: datetime | None) -> datetime | None:
    """The first of those moments that are."""
    return min((m for m in moments if m is not None), default=None)
