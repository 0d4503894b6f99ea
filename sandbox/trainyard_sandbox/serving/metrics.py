"""What one served model was asked and how it answered: counts by status, latencies, since any moment.

Each `ServedModel` has one; the platforms' modules show it in their own form (Prometheus text, Azure Monitor).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

KEPT = 200_000
"""Requests that are kept one by one; older ones stay in the totals only."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One answered request: when (Unix seconds), with which HTTP status, after how long."""

    at: float
    status: int
    seconds: float


class Metrics:
    """The requests of one served model.

    Args:
        now: the sandbox's clock, Unix seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._samples: list[Sample] = []
        self.total = 0

    def add(self, status: int, seconds: float) -> None:
        """Count one answer."""
        self.total += 1
        self._samples.append(Sample(self._now(), status, seconds))
        if len(self._samples) > 2 * KEPT:
            del self._samples[:KEPT]

    def between(self, since: float, until: float = math.inf) -> list[Sample]:
        """The answers with `since` <= `at` < `until`, oldest first."""
        first = bisect_left(self._samples, since, key=lambda sample: sample.at)
        return [sample for sample in self._samples[first:] if sample.at < until]

    def count(self, since: float = 0.0, until: float = math.inf, status_class: int | None = None) -> int:
        """How many answers, of one class of status (4 for 4xx) or of all."""
        found = self.between(since, until)
        return sum(status_class in (None, sample.status // 100) for sample in found)

    def percentile(self, percent: float, since: float = 0.0, until: float = math.inf) -> float | None:
        """Latency in seconds below which `percent` of the answers were (nearest rank); None without answers."""
        seconds = sorted(sample.seconds for sample in self.between(since, until))
        return seconds[max(1, math.ceil(len(seconds) * percent / 100)) - 1] if seconds else None
