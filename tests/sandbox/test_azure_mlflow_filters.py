"""Filters of registry searches: what they find, and what they refuse."""

from __future__ import annotations

import pytest

from trainyard_sandbox.azure.mlflow_errors import MlflowError
from trainyard_sandbox.azure.mlflow_filters import parse

KEYS = ("name", "run_id")
FIELDS = {"name": "wine-forest", "run_id": "job-1", "tags.alias": "champion", "tags.cost center": "4711"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("name = 'wine-forest'", True),
        ("name='wine'", False),
        ('name != "wine"', True),
        ("name LIKE 'wine%'", True),
        ("name LIKE 'WINE%'", False),
        ("name ilike 'WINE_forest'", True),
        ("name LIKE 'wine.forest'", False),
        ("name = 'wine-forest' and run_id = 'job-1'", True),
        ("name = 'wine-forest' AND run_id = 'job-2'", False),
        ("run_id IN ('job-0', 'job-1')", True),
        ("run_id in ('job-0')", False),
        ("tags.alias = 'champion'", True),
        ("tag.`cost center` = '4711'", True),
        ("tags.other != 'x'", False),
    ],
)
def test_a_filter_finds_what_mlflow_would_find(text: str, expected: bool) -> None:
    assert all(clause.holds(FIELDS) for clause in parse(text, KEYS)) is expected


@pytest.mark.parametrize(
    "text",
    [
        "colour = 'red'",
        "name",
        "name = wine",
        "name = 'a' OR name = 'b'",
        "run_id IN 'a'",
        "run_id = ('a')",
        "name = 'a' name = 'b'",
    ],
)
def test_a_filter_that_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(MlflowError):
        parse(text, KEYS)
