"""`trainyard score`: rows in, predictions out. Called by serving_verbs.py."""

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.cli.exits import Exit
from trainyard.cli.options import Form, Where
from trainyard.cli.session import perform
from trainyard.cli.tables import columns
from trainyard.cli.terminal import plain, say, tell
from trainyard.client import BadManifest, Scores, Trainyard
from trainyard.client.scoring.rows import Row, read_rows

# Characters of a row that the table shows.
ROW_WIDTH = 80


@dataclass(frozen=True)
class Question:
    """What is scored, and where it may be sent."""

    file: str
    served: str | None
    timeout: float
    allowed_hosts: tuple[str, ...]
    azure_clouds: tuple[Path, ...]


def score(where: Where, name: str, asked: Question, output: Form) -> None:
    """`trainyard score`."""
    # The SDK warns of each thing about a host that it could not find out and can do without.
    logging.getLogger("databricks.sdk").setLevel(logging.ERROR)
    logging.getLogger("azure").setLevel(logging.CRITICAL)

    def verb(yard: Trainyard) -> Exit:
        rows = _rows(asked.file)
        found = yard.score(
            name,
            rows,
            served=asked.served,
            timeout=asked.timeout,
            allowed_hosts=asked.allowed_hosts,
            azure_clouds=asked.azure_clouds,
        )
        if output is Form.json:
            tell(json.dumps(document(name, found), indent=2, ensure_ascii=False))
        else:
            for line in table(rows, found.predictions):
                tell(line)
            by = f"{found.served} of " if found.served else ""
            say(f"{len(rows)} row{'' if len(rows) == 1 else 's'} scored by {by}{found.endpoint} in {found.seconds:g} s")
        return Exit.OK

    perform(where, verb)


def document(name: str, found: Scores) -> dict[str, Any]:
    """The result as `-o json` has it; keys are only ever added."""
    return {
        "deployment": name,
        "endpoint": found.endpoint,
        "served": found.served,
        "seconds": found.seconds,
        "predictions": found.predictions,
    }


def table(rows: Sequence[Row], predictions: Sequence[Any]) -> list[str]:
    """Number, row and prediction, a line each."""
    lines = [("ROW", "INPUT", "PREDICTION")]
    for number, (row, prediction) in enumerate(zip(rows, predictions, strict=True), 1):
        lines.append((str(number), _short(row), plain(_json(prediction))))
    return columns(lines)


def _short(row: Row) -> str:
    text = plain(", ".join(f"{name}={_json(value)}" for name, value in row.items()))
    return text if len(text) <= ROW_WIDTH else text[: ROW_WIDTH - 3] + "..."


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _rows(file: str) -> list[Row]:
    if file == "-":
        return read_rows(sys.stdin.read(), "stdin")
    try:
        return read_rows(Path(file).read_text(encoding="utf-8"), file)
    except (OSError, UnicodeDecodeError) as error:
        raise BadManifest(f"{file} can not be read: {error}") from error
