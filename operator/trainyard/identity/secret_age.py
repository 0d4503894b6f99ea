"""How old a Secret's data may be: fresh, expiring, or too old. Pure; asked by `identity.secret_ref`.

The age is that of the data, not of the Secret, which a vault changes in place. The API server records when each writer
last changed what it owns (metadata.managedFields; Kubernetes documentation, "Server-Side Apply", "Field management").
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from trainyard.core.times import parse

# Says when what is kept was really made, where that is longer ago than the API server saw it; it can not make it newer.
CHANGED_AT = "trainyard.dev/changed-at"
# How long before the end it is told; of a life under twice that, the second half.
WARN_BEFORE = timedelta(days=7)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class Age:
    """What a moment means to something that ends: `left` is negative once it has."""

    state: Literal["Fresh", "Expiring", "TooOld"]
    ends_at: datetime
    left: timedelta

    @property
    def days_left(self) -> int:
        """Whole days that are left; 0 on the last day and after it."""
        return max(0, self.left.days)


def max_age_of(text: str) -> timedelta:
    """The duration that a number and a unit say: 45s, 30m, 12h, 90d.

    Raises:
        ValueError: it says none.
    """
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not number.isascii() or not number.isdigit():
        raise ValueError(f"{text!r} is no number with s, m, h or d")
    return timedelta(**{_UNITS[unit]: int(number)})


def changed_at(recorded: datetime, annotations: Mapping[str, str]) -> datetime:
    """When the data last changed: as recorded, or earlier where an annotation says so.

    Raises:
        ValueError: the annotation is no RFC 3339 time with an offset.
    """
    said = annotations.get(CHANGED_AT)
    if said is None:
        return recorded
    moment = parse(said.strip())
    if moment.tzinfo is None:
        raise ValueError("no offset")
    try:
        return min(recorded, moment.astimezone(UTC))
    except OverflowError as error:
        raise ValueError("out of range") from error


def judged(changed: datetime, max_age: timedelta, now: datetime) -> Age:
    """What is left of a life that began when the data changed. It is too old from the very end on."""
    return until(changed + max_age, now, min(WARN_BEFORE, max_age / 2))


def until(ends_at: datetime, now: datetime, warn_before: timedelta = WARN_BEFORE) -> Age:
    """The same of anything that has an end, for example a certificate."""
    left = ends_at - now
    if left <= timedelta(0):
        return Age("TooOld", ends_at, left)
    return Age("Expiring" if left <= warn_before else "Fresh", ends_at, left)
