"""The demo's chart of who answered an endpoint's requests over time."""

import pytest

from chart import FAILED, chart, over_time, stacked
from load import Asked


def asked(at: float, by: str = "v1", status: int = 200) -> Asked:
    return Asked(at, 0.01, status, by)


def test_requests_count_in_the_part_of_the_time_that_they_were_sent_in() -> None:
    log = [asked(0.0), asked(0.9), asked(1.0, "v2"), asked(3.9, "v2"), asked(3.95, status=500), asked(4.0)]
    assert [dict(part) for part in over_time(log, 4, 4.0)] == [{"v1": 2}, {"v2": 1}, {}, {"v2": 1, FAILED: 1}]


@pytest.mark.parametrize(
    ("part", "cells"),
    [
        ({}, ["", "", "", ""]),
        ({"a": 3}, ["a", "a", "a", "a"]),
        ({"a": 1, "b": 1}, ["a", "a", "b", "b"]),
        ({"a": 9, "b": 1}, ["a", "a", "a", "a"]),
        ({"a": 7, "b": 3}, ["a", "a", "a", "b"]),
        ({"a": 999, FAILED: 1}, ["a", "a", "a", FAILED]),
        ({"a": 500, "b": 499, FAILED: 1}, ["a", "a", "b", FAILED]),
        ({FAILED: 2}, [FAILED] * 4),
    ],
)
def test_a_column_is_shared_out_in_full_and_no_failure_is_too_rare_to_be_seen(
    part: dict[str, int], cells: list[str]
) -> None:
    assert stacked(part, ["a", "b", FAILED], 4) == cells


def test_the_chart_shows_shares_upwards_and_time_to_the_right() -> None:
    log = [asked(t / 10) for t in range(20)] + [asked(2 + t / 10, "v2" if t % 2 else "v1") for t in range(20)]
    log += [asked(4 + t / 10, "v2") for t in range(20)]
    assert chart(log, ["v1", "v2"], width=12, height=4) == [
        "100 % │████▒▒▒▒▒▒▒▒",
        "      │████▒▒▒▒▒▒▒▒",
        "      │████████▒▒▒▒",
        "  0 % │████████▒▒▒▒",
        "      └────────────",
        "       0 s      6 s",
        "       █ v1 (30)   ▒ v2 (30)",
    ]


def test_a_failure_stands_in_the_chart_and_in_its_legend() -> None:
    lines = chart([asked(0.0), asked(0.5, status=503), asked(0.9)], ["v1"], width=4, height=2)
    assert "✗" in "".join(lines[:2])
    assert lines[-1].endswith("✗ failed (1)")
