"""Rows to score, read from what a person wrote. Pure; used by the command line and score.py."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from trainyard.client.errors import BadManifest

Row = Mapping[str, Any]
_WRITE = 'write a JSON list of objects, or one object a line: {"column": value, ...}'


def read_rows(text: str, where: str = "the rows") -> list[Row]:
    """The rows in a JSON list of objects, or in JSON lines. Raises BadManifest naming the row that is none."""
    stripped = text.strip()
    if not stripped:
        raise BadManifest(f"{where}: there is nothing in it: {_WRITE}")
    if stripped.startswith("["):
        return checked(_parsed(stripped, where), where)
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    return checked([_parsed(line, f"{where}, line {number}") for number, line in lines], where)


def checked(rows: Any, where: str = "the rows") -> list[Row]:
    """The rows, if they are objects that JSON can say. Raises BadManifest."""
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes) or not rows:
        raise BadManifest(f"{where}: there is no row: {_WRITE}")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping) or not row:
            raise BadManifest(f"{where}: row {number} is no object with columns: {_WRITE}")
        try:
            json.dumps(dict(row), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise BadManifest(f"{where}: row {number} holds what JSON can not say ({error}): use null") from error
    return list(rows)


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadManifest(f"{where} is no JSON ({error}): {_WRITE}") from error
