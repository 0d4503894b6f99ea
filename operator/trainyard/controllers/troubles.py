"""How requests that fail are waited out: longer with each failure in a row.

Used by the controllers of runs and deployments. Kept in memory, by the uid of the object that a request was made for; a
restart begins anew.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from trainyard.core.errors import IdentityError, TrainyardError, Unreachable
from trainyard.core.remote import Trouble

# Seconds between two tries at most, unless the platform asks for more.
LONGEST_PAUSE = 60.0


class Troubles:
    """Counts the failures in a row of each object."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._now = clock
        self._failures: dict[str, int] = {}

    def met(self, uid: str, before: Trouble | None, error: TrainyardError, action: str) -> Trouble:
        """The error as something to wait out: longer with each failure in a row, or as long as the platform asks."""
        failures = self._failures.get(uid, 0)
        self._failures[uid] = failures + 1
        asked = error.retry_after if isinstance(error, Unreachable) else None
        pause = max(min(LONGEST_PAUSE, 2.0 ** min(failures, 6)), asked or 0.0)
        now = self._now()
        return Trouble(
            kind=type(error).__name__,
            reason=error.reason,
            message=error.message,
            since=before.since if before is not None else now,
            retry_at=now + timedelta(seconds=pause),
            waiting=isinstance(error, IdentityError) and error.waiting,
            action=action,
        )

    def over(self, uid: str) -> None:
        """Something worked, or is not tried any more: the next failure is a first one."""
        self._failures.pop(uid, None)
