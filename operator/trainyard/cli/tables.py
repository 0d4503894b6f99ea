"""Runs as tables, names, JSON or YAML: what -o asks for. Pure; used by the verbs."""

import json
from collections.abc import Sequence
from datetime import datetime

import yaml

from trainyard.api.base import GROUP
from trainyard.cli.options import Output
from trainyard.cli.terminal import plain
from trainyard.client import Run
from trainyard.core.times import parse, spoken

NONE = "<none>"


def rendered(
    runs: Sequence[Run], output: Output, now: datetime, *, namespaces: bool = False, single: bool = False
) -> str:
    """The runs in that form. `single`: the one object itself rather than a List of one."""
    if output is Output.name:
        return "\n".join(full_name(run) for run in runs)
    if output in (Output.json, Output.yaml):
        items = [dict(run.resource) for run in runs]
        found = items[0] if single else {"apiVersion": "v1", "kind": "List", "items": items}
        return json.dumps(found, indent=2) if output is Output.json else yaml.safe_dump(found, sort_keys=False).rstrip()
    return _table(runs, output is Output.wide, namespaces, now)


def full_name(run: Run) -> str:
    """As kubectl names it."""
    return f"mltrainingrun.{GROUP}/{run.name}"


def columns(rows: Sequence[Sequence[str]], indent: str = "") -> list[str]:
    """Lines with the cells under each other, three blanks apart as kubectl has them."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [indent + "   ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def took(run: Run, now: datetime) -> str:
    """How long the run took, or has taken so far."""
    status = run.resource.get("status") or {}
    if status.get("duration"):
        return str(status["duration"])
    if not status.get("startedAt"):
        return NONE
    ended = status.get("endedAt")
    return spoken(((parse(ended) if ended else now) - parse(status["startedAt"])).total_seconds())


def _table(runs: Sequence[Run], wide: bool, namespaces: bool, now: datetime) -> str:
    head = ["NAME", "PHASE", "WORKSPACE", "ATTEMPT", "DURATION", "AGE"]
    if wide:
        head += ["REMOTE ID", "MODEL VERSION", "REASON"]
    rows = [([run.namespace] if namespaces else []) + _row(run, wide, now) for run in runs]
    return "\n".join(columns([(["NAMESPACE"] if namespaces else []) + head, *rows]))


def _row(run: Run, wide: bool, now: datetime) -> list[str]:
    status, spec = run.resource.get("status") or {}, run.resource.get("spec") or {}
    age = spoken((now - run.created_at).total_seconds())
    cells: list[object] = [
        run.name,
        run.phase,
        (spec.get("workspaceRef") or {}).get("name"),
        run.newest_attempt,
        took(run, now),
        age,
    ]
    if wide:
        cells += [status.get("remoteId"), (status.get("model") or {}).get("version"), run.reason]
    return [NONE if cell is None else plain(str(cell)) for cell in cells]
