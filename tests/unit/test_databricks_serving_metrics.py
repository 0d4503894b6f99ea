"""Measurements of the last minute, added up over the minutes that were looked at; none is counted twice."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainyard.core.serving.seen import Measured
from trainyard.platforms.databricks.serving_metrics import LONGEST_LINE, Window, Windows, quantile, windows_of

NOW = 1_700_000_000.0
LABELS = 'endpoint_name="wine",endpoint_id="e1",served_model_name="m-1"'
TEXT = f"""
# HELP request_count_total Number of requests during the last minute
# TYPE request_count_total gauge
request_count_total{{{LABELS}}} 10 1700000000000
request_count_total{{endpoint_name="wine",served_model_name="m-2"}} 5 1700000000000
request_4xx_count_total{{{LABELS}}} 7 1700000000000
request_5xx_count_total{{{LABELS}}} 1 1700000000000
cpu_usage_percentage{{{LABELS}}} 40 1700000000000
request_latency_ms_bucket{{{LABELS},le="10"}} 4 1700000000000
request_latency_ms_bucket{{{LABELS},le="20"}} 8 1700000000000
request_latency_ms_bucket{{{LABELS},le="+Inf"}} 10 1700000000000
request_latency_ms_sum{{{LABELS}}} 200 1700000000000
request_latency_ms_count{{{LABELS}}} 10 1700000000000
"""


def kept(*windows: Window) -> Windows:
    found = Windows()
    for window in windows:
        found.add("wine", "m-1", window)
    return found


def test_a_minute_is_read_by_the_name_of_the_served_model_whatever_its_label_is_called() -> None:
    found = windows_of(TEXT, 0.0)
    assert found["m-1"] == Window(NOW, 10, 1, {10.0: 4, 20.0: 8, math.inf: 10})
    assert found["m-2"] == Window(NOW, 5, None, {})
    assert found["wine"].requests == 15


def test_replicas_are_added_up() -> None:
    text = "\n".join(f'request_count_total{{served_entity="m",pod="{pod}"}} 3' for pod in "ab")
    assert windows_of(text, NOW)["m"] == Window(NOW, 6)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "request_count_total",
        "request_count_total{} x",
        'request_count_total{a="m"} NaN',
        'request_count_total{a="m"} +Inf',
        'request_count_total{a="m} 3',
        f'request_count_total{{a="{"m" * LONGEST_LINE}"}} 3',
        'request_latency_ms_bucket{a="m",le="x"} NaN',
    ],
)
def test_what_can_not_be_read_is_not_measured(text: str) -> None:
    assert windows_of(text, NOW) == {}


def test_without_a_time_it_is_now_and_openmetrics_has_seconds() -> None:
    assert windows_of('request_count_total{a="m"} 3', NOW)["m"].until == NOW
    assert windows_of('request_count_total{a="m"} 3 1700000060.5', NOW)["m"].until == NOW + 60.5


def test_minutes_since_a_moment_are_added_up() -> None:
    windows = kept(*(Window(NOW + 60 * minute, 10, minute, {10.0: 5, math.inf: 10}) for minute in range(5)))
    assert windows.measured("wine", "m-1", NOW + 60, 50) == Measured(30, 2 + 3 + 4, 10.0)
    assert windows.measured("wine", "m-1", NOW + 600, 50) == Measured()
    assert windows.measured("wine", "m-2", 0, 50) == Measured()


def test_of_minutes_that_overlap_the_later_one_counts() -> None:
    windows = kept(*(Window(NOW + 10 * step, 6) for step in range(13)))  # ten seconds apart, two minutes long
    assert windows.measured("wine", "m-1", NOW - 1, 95).requests == 18
    assert windows.measured("wine", "m-1", NOW + 115, 95).requests == 6


def test_the_same_minute_looked_at_twice_counts_once() -> None:
    assert kept(Window(NOW, 6), Window(NOW, 6)).measured("wine", "m-1", 0, 95).requests == 6


def test_an_endpoint_that_went_is_forgotten() -> None:
    windows = kept(Window(NOW, 6))
    assert windows.newest("wine", "m-1") == NOW
    windows.forget("wine")
    assert windows.newest("wine", "m-1") is None


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50), st.integers(1, 100))
def test_a_percentile_lies_in_the_bucket_that_it_is_in(values: list[float], percentile: int) -> None:
    bounds = [10.0, 20.0, 50.0, 100.0, math.inf]
    buckets = {bound: float(sum(value <= bound for value in values)) for bound in bounds}
    exact = sorted(values)[max(1, math.ceil(len(values) * percentile / 100)) - 1]
    bucket = next(bound for bound in bounds if exact <= bound)
    below = max((bound for bound in bounds if bound < bucket), default=0.0)
    found = quantile(buckets, percentile / 100)
    assert found is not None
    assert below - 1e-9 <= found <= bucket + 1e-9


def test_what_is_above_the_last_bound_is_told_as_that_bound_and_nothing_as_nothing() -> None:
    assert quantile({10.0: 0, math.inf: 4}, 0.95) == 10.0
    assert quantile({10.0: 0, math.inf: 0}, 0.95) is None
    assert quantile({}, 0.95) is None
