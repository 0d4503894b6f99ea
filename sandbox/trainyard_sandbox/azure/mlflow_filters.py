"""Filters of MLflow's registry searches over the workspace's models; no I/O.

mlflow_registry.py calls `parse`. Supported: comparisons joined by AND, as in mlflow 2.22 `utils/search_utils.py`
(SearchModelVersionUtils, SearchModelUtils); whatever else is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trainyard_sandbox.azure.mlflow_errors import invalid

_QUOTED = r"'[^']*'|\"[^\"]*\""
_CLAUSE = re.compile(
    rf"\s*(?P<key>tags?\.(?:`[^`]+`|\"[^\"]+\"|[\w.-]+)|\w+)\s*"
    rf"(?P<operator>=|!=|ILIKE\b|LIKE\b|IN\b)\s*(?P<value>{_QUOTED}|\((?:\s*(?:{_QUOTED})\s*,?)+\s*\))\s*(?:AND\b|$)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Clause:
    """One comparison: a key such as `name` or `tags.stage`, an operator in capitals, and its values."""

    key: str
    operator: str
    values: tuple[str, ...]

    def holds(self, fields: Mapping[str, str]) -> bool:
        """Whether it is true of an entity with these fields; of a field that it lacks nothing is."""
        value = fields.get(self.key)
        return value is not None and _OPERATORS[self.operator](value, self.values)


def parse(text: str, keys: tuple[str, ...]) -> list[Clause]:
    """The comparisons of a filter; `keys` are the fields that may be compared, tags always.

    Raises:
        MlflowError: 400 INVALID_PARAMETER_VALUE.
    """
    clauses: list[Clause] = []
    at = 0
    while text[at:].strip():
        found = _CLAUSE.match(text, at)
        if found is None:
            raise invalid(f"Invalid clause(s) in filter string: '{text[at:].strip()}'")
        clauses.append(_clause(found, keys))
        at = found.end()
    return clauses


def _clause(found: re.Match[str], keys: tuple[str, ...]) -> Clause:
    kind, dot, name = found["key"].partition(".")
    key = f"tags.{name.strip(chr(96) + chr(34))}" if dot else kind
    if not dot and key not in keys:
        raise invalid(f"Invalid attribute name: {key}. Valid keys are {', '.join(keys)} and tags.")
    operator = found["operator"].upper()
    values = tuple(quoted[1:-1] for quoted in re.findall(_QUOTED, found["value"]))
    if (operator == "IN") != found["value"].startswith("("):
        raise invalid(f"Invalid clause(s) in filter string: '{found[0].strip()}'")
    return Clause(key, operator, values)


def _like(value: str, pattern: str, flags: int) -> bool:
    parts = (".*" if part == "%" else "." if part == "_" else re.escape(part) for part in re.split("([%_])", pattern))
    return re.fullmatch("".join(parts), value, flags | re.DOTALL) is not None


_OPERATORS: Mapping[str, Callable[[str, tuple[str, ...]], bool]] = {
    "=": lambda value, wanted: value == wanted[0],
    "!=": lambda value, wanted: value != wanted[0],
    "IN": lambda value, wanted: value in wanted,
    "LIKE": lambda value, wanted: _like(value, wanted[0], 0),
    "ILIKE": lambda value, wanted: _like(value, wanted[0], re.IGNORECASE),
}
