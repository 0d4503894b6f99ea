"""Runs and deployments as tables, names, JSON or YAML: what -o asks for. Pure; used by the verbs."""

import json
from collections.abc import Sequence
from datetime import datetime

import yaml

from trainyard.api.base import GROUP
from trainyard.cli.options import Output
from trainyard.cli.terminal import plain
from trainyard.client import Deployment, Run
from trainyard.client.resource import Resource
from trainyard.core.times import parse, spoken

NONE = "<none>"


def rendered(
    found: Sequence[Run] | Sequence[Deployment],
    output: Output,
    now: datetime,
    *,
    namespaces: bool = False,
    single: bool = False,
) -> str:
    """The runs or deployments in that form. `single`: the one object itself rather than a List of one."""
    if output is Output.name:
        return "\n".join(full_name(each) for each in found)
    if output in (Output.json, Output.yaml):
        items = [dict(each.resource) for each in found]
        shown = items[0] if single else {"apiVersion": "v1", "kind": "List", "items": items}
        return json.dumps(shown, indent=2) if output is Output.json else yaml.safe_dump(shown, sort_keys=False).rstrip()
    return _table(found, output is Output.wide, namespaces, now)


def full_name(found: Resource) -> str:
    """As kubectl names it."""
    return f"{found.KIND.lower()}.{GROUP}/{found.name}"


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


RUN_HEAD = (["NAME", "PHASE", "WORKSPACE", "ATTEMPT", "DURATION", "AGE"], ["REMOTE ID", "MODEL VERSION", "REASON"])
DEPLOYMENT_HEAD = (
    ["NAME", "PHASE", "ANSWERS", "TRAFFIC", "REVISION", "AGE"],
    ["LAST GOOD", "WORKSPACE", "URL", "REASON"],
)


def _table(found: Sequence[Run] | Sequence[Deployment], wide: bool, namespaces: bool, now: datetime) -> str:
    usual, further = DEPLOYMENT_HEAD if any(isinstance(each, Deployment) for each in found) else RUN_HEAD
    head = (["NAMESPACE"] if namespaces else []) + usual + (further if wide else [])
    rows = [([each.namespace] if namespaces else []) + _cells(each, wide, now) for each in found]
    return "\n".join(columns([head, *rows]))


def _cells(found: Run | Deployment, wide: bool, now: datetime) -> list[str]:
    cells = _row(found, wide, now) if isinstance(found, Run) else _deployment_row(found, wide, now)
    return [NONE if cell is None else plain(str(cell)) for cell in cells]


def _deployment_row(found: Deployment, wide: bool, now: datetime) -> list[object]:
    status, spec = found.resource.get("status") or {}, found.resource.get("spec") or {}
    cells: list[object] = [
        found.name,
        found.phase,
        "yes" if found.available else "no",
        status.get("traffic"),
        found.revision,
        spoken((now - found.created_at).total_seconds()),
    ]
    if wide:
        workspace = (spec.get("workspaceRef") or {}).get("name")
        cells += [status.get("lastGoodRevision"), workspace, found.url, found.reason]
    return cells


def _row(run: Run, wide: bool, now: datetime) -> list[object]:
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
    return cells
