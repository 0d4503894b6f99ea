"""How often a principal may ask Azure Resource Manager: token buckets per subscription and principal; no I/O.

arm.py takes from them at each request; the control API changes the limits.

Azure documentation, "Understand how Azure Resource Manager throttles requests": reads 250 and 25 a second, writes 200
and 10 a second, deletes 200 and 10 a second, for each service principal and subscription.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["reads", "writes", "deletes"]


@dataclass(frozen=True)
class Limit:
    """A bucket's size in requests, and how many come back each second."""

    size: float
    per_second: float


LIMITS: dict[Kind, Limit] = {"reads": Limit(250, 25), "writes": Limit(200, 10), "deletes": Limit(200, 10)}


@dataclass
class _Bucket:
    left: float
    at: float


@dataclass(frozen=True)
class Taken:
    """Whether a request may go on, how many may follow at once, and after how many seconds one may."""

    allowed: bool
    remaining: int
    retry_after: int


def kind_of(method: str) -> Kind:
    """Which bucket an HTTP method draws from."""
    return "reads" if method in ("GET", "HEAD") else "deletes" if method == "DELETE" else "writes"


class Throttle:
    """The buckets of one subscription.

    Args:
        now: a clock in seconds that never goes back.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._buckets: dict[tuple[str, Kind], _Bucket] = {}
        self.limits = dict(LIMITS)

    def take(self, client_id: str, kind: Kind) -> Taken:
        """Count one request of an application."""
        limit, now = self.limits[kind], self._now()
        bucket = self._buckets.setdefault((client_id, kind), _Bucket(limit.size, now))
        bucket.left = min(limit.size, bucket.left + (now - bucket.at) * limit.per_second)
        bucket.at = now
        if bucket.left < 1:
            wait = (1 - bucket.left) / limit.per_second if limit.per_second else 60.0
            return Taken(False, 0, max(1, math.ceil(wait)))
        bucket.left -= 1
        return Taken(True, int(bucket.left), 0)

    def change(self, kind: Kind, limit: Limit) -> None:
        """Set a limit; every bucket of the kind is full again."""
        self.limits[kind] = limit
        for key in [key for key in self._buckets if key[1] == kind]:
            del self._buckets[key]
