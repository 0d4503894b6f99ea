"""Metrics as the status tells them: strings, so that what JSON has no number for survives."""

import math
import sys

import pytest

from trainyard.platforms.logged import spoken


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.25, "0.25"),
        (3, "3"),
        (1e-300, "1e-300"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (sys.float_info.max, "Infinity"),
        (-sys.float_info.max, "-Infinity"),
        (sys.float_info.max / 2, "8.988465674311579e+307"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        (None, "0.0"),
    ],
)
def test_a_metric_is_told_as_what_was_logged(value: object, told: str) -> None:
    assert spoken(value) == told
