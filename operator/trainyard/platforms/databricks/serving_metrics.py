"""What Databricks measures of served models: the text of GET serving-endpoints/NAME/metrics. Pure but for `Windows`.

Called by `serving`. The families request_count_total, request_5xx_count_total and the histogram request_latency_ms are
gauges of the last minute, in spite of their names (https://docs.databricks.com/machine-learning/model-serving/
metrics-export-serving-endpoint.html: "aggregating the total number ... within a minute"), so that what was measured
since a moment is the sum of minutes that were looked at. A sample says which served model it is of by one of its
labels, whose name is not documented: the value is looked for.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from trainyard.core.serving.seen import Measured

REQUESTS = "request_count_total"
ERRORS = "request_5xx_count_total"
LATENCY = "request_latency_ms_bucket"
# What a sample covers, and how many are kept for one served model: a day, which is longer than any step needs.
WINDOW = 60.0
MOST_WINDOWS = 1440
# Samples of one answer that are looked at; an endpoint has a few dozen.
MOST_LINES = 20_000
LONGEST_LINE = 4096

_SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+(\S+))?\s*")
_LABEL = re.compile(r'([a-zA-Z_]\w*)\s*=\s*"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Window:
    """One minute of one served model. `until` is its end, in Unix seconds; `buckets` counts by upper bound in ms."""

    until: float
    requests: float | None = None
    errors: float | None = None
    buckets: Mapping[float, float] = field(default_factory=dict)


def windows_of(text: str, now: float) -> dict[str, Window]:
    """The minute that the text tells of, by the value of each label: the caller knows which one is a served model.

    Args:
        now: Unix seconds, for samples without a time of their own.
    """
    found: dict[str, _Collected] = {}
    for line in text.splitlines()[:MOST_LINES]:
        match = _SAMPLE.fullmatch(line) if len(line) <= LONGEST_LINE else None
        if match is None or match[1] not in (REQUESTS, ERRORS, LATENCY):
            continue
        value, labels = _number(match[3]), dict(_LABEL.findall(match[2] or ""))
        if value is None:
            continue
        stamp = _number(match[4] or "")
        for label in {text for key, text in labels.items() if key != "le"}:
            found.setdefault(label, _Collected()).add(match[1], value, labels.get("le"), stamp)
    return {label: collected.window(now) for label, collected in found.items()}


class Windows:
    """Minutes that were looked at, by (endpoint, served model); none is counted twice."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], list[Window]] = {}

    def add(self, endpoint: str, served: str, window: Window) -> None:
        """Keeps a minute."""
        kept = self._kept.setdefault((endpoint, served), [])
        if not kept or window.until > kept[-1].until:
            kept.append(window)
            del kept[:-MOST_WINDOWS]

    def newest(self, endpoint: str, served: str) -> float | None:
        """The end of the newest minute that is kept."""
        kept = self._kept.get((endpoint, served))
        return kept[-1].until if kept else None

    def forget(self, endpoint: str) -> None:
        """Drops an endpoint that is gone."""
        for key in [key for key in self._kept if key[0] == endpoint]:
            del self._kept[key]

    def measured(self, endpoint: str, served: str, since: float, percentile: int) -> Measured:
        """What the minutes that end after `since` say together. Of two that overlap, the later one counts."""
        taken: list[Window] = []
        for window in reversed(self._kept.get((endpoint, served), [])):
            if window.until <= since:
                break
            if not taken or window.until <= taken[-1].until - WINDOW:
                taken.append(window)
        requests = [window.requests for window in taken if window.requests is not None]
        errors = [window.errors for window in taken if window.errors is not None]
        buckets: dict[float, float] = {}
        for window in taken:
            for bound, count in window.buckets.items():
                buckets[bound] = buckets.get(bound, 0.0) + count
        return Measured(
            requests=round(sum(requests)) if requests else None,
            errors=round(sum(errors)) if errors else None,
            latency_milliseconds=quantile(buckets, percentile / 100),
        )


def quantile(buckets: Mapping[float, float], part: float) -> float | None:
    """As Prometheus' histogram_quantile: within a bucket it is a straight line; above the last bound, that bound."""
    bounds = sorted(buckets)
    if not bounds or buckets[bounds[-1]] <= 0:
        return None
    rank, below, start = part * buckets[bounds[-1]], 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank:
            if math.isinf(bound):
                return start
            inside = buckets[bound] - below
            return start + (bound - start) * ((rank - below) / inside if inside > 0 else 1.0)
        below, start = buckets[bound], bound
    return start


class _Collected:
    """Samples of one label's value, added up: replicas may each have their own."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._buckets: dict[float, float] = {}
        self._stamp: float | None = None

    def add(self, family: str, value: float, bound: str | None, stamp: float | None) -> None:
        if stamp is not None:
            self._stamp = max(stamp, self._stamp or stamp)
        if family != LATENCY:
            self._sums[family] = self._sums.get(family, 0.0) + value
            return
        limit = _number(bound or "", infinite=True)
        if limit is not None:
            self._buckets[limit] = self._buckets.get(limit, 0.0) + value

    def window(self, now: float) -> Window:
        # Prometheus' text has milliseconds, OpenMetrics seconds.
        stamp = self._stamp
        until = now if stamp is None else stamp / 1000 if stamp > 1e11 else stamp
        return Window(until, self._sums.get(REQUESTS), self._sums.get(ERRORS), dict(self._buckets))


def _number(text: str, *, infinite: bool = False) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) or (infinite and value == math.inf) else None
