"""What the demo shows of the audit trail: a few stories in full, and how much there is besides."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

SHORT = {"MLTrainingRun": "mltr", "MLWorkspace": "mlws", "ModelDeployment": "mldep"}
AZURE_WORKSPACE = re.compile(r"/subscriptions/.*/workspaces/[^/]+")
# Lines of one story; about 60 in all.
MOST = 20
# Looks at a running job, which repeat.
SWEEP = "sweep"


@dataclass(frozen=True)
class Story:
    """Requests for one object, in the time that is of interest. `changes`: those alone that are more than a look."""

    kind: str
    name: str
    since: str = ""
    until: str = "9"
    changes: bool = False

    def has(self, record: Mapping[str, Any]) -> bool:
        """Whether that request is part of it."""
        about = record.get("resource", {})
        if (about.get("kind"), about.get("name")) != (self.kind, self.name) or record.get("action") == SWEEP:
            return False
        return self.since <= record["time"] <= self.until and not (self.changes and record["method"] == "GET")


def now() -> str:
    """This moment, as records have it, but for the zone at its end."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")[:23]


def told(
    records: Sequence[Mapping[str, Any]], stories: Sequence[Story], most: int = MOST
) -> tuple[list[Mapping[str, Any]], Counter[str]]:
    """The requests to show, in the order of the stories, and how many others there are by what was being done."""
    requests = [record for record in records if record["event"] == "request"]
    shown = [record for story in stories for record in [each for each in requests if story.has(each)][:most]]
    seen = {record["id"] for record in shown}
    return shown, Counter(record.get("action") or "other" for record in requests if record["id"] not in seen)


def show_audit(console: Console, records: Sequence[Mapping[str, Any]], stories: Sequence[Story]) -> None:
    """The stories, one line a request, and a line that counts the rest."""
    answers = {record["id"]: record for record in records if record["event"] == "response"}
    title = "from the audit trail (one record before and one after each request)"
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    for column in ("time", "for", "doing", "request", "answer", "ms"):
        table.add_column(column, overflow="fold", no_wrap=column != "request")
    shown, rest = told(records, stories)
    for record in shown:
        table.add_row(*_row(record, answers.get(record["id"], {})))
    console.print(table)
    others = ", ".join(f"{count} {action}" for action, count in rest.most_common())
    console.print(
        f"[dim]and {rest.total()} requests more: {others}; WORKSPACE stands for the id of the one on Azure[/]"
    )


def _row(record: Mapping[str, Any], answer: Mapping[str, Any]) -> Iterator[str]:
    about = record.get("resource", {})
    yield record["time"][11:23]
    yield f"{SHORT.get(about.get('kind', ''), '')} {about.get('name', '')}"
    yield record.get("action", "")
    yield f"{record['method']} {AZURE_WORKSPACE.sub('/WORKSPACE', record['path'])}"
    yield str(answer.get("status", answer.get("error", "none")))
    yield str(answer.get("duration_ms", ""))
