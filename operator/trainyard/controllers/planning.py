"""What a planned run would send, and what every check found, as its status shows it. Pure; called by readiness."""

import json
from collections.abc import Iterable

from trainyard.api.training_run import Check, Plan
from trainyard.controllers.code import Source
from trainyard.core.remote import Finding
from trainyard.core.transition import clip
from trainyard.platforms.base import Request

# The bounds of api.run_status: characters of the plan's request, checks, and characters of a check's fields.
MOST_CHARACTERS = 131_072
MOST_CHECKS = 200


def plan_of(request: Request, source: Source, workspace: str, principal: str, findings: Iterable[Finding]) -> Plan:
    """The plan. `workspace` and `principal` are where the run would go and as whom."""
    checks = [
        Check(
            name=f"workspace {workspace}", field="spec.workspaceRef", outcome="Passed", message=f"ready as {principal}"
        ),
        Check(name="source code", field="spec.code", outcome="Passed", message=_told(source)),
        *(_check(finding) for finding in findings),
    ]
    return Plan(request=_clipped(_request(request)), checks=checks[:MOST_CHECKS])


def _request(request: Request) -> str:
    """The request as JSON. Of files it has names and sizes; secrets are never in a request, only references to them."""
    document = {
        "body": request.body,
        "experiment": request.experiment,
        "tags": dict(request.tags),
        "codeFolder": request.code_folder,
        "files": {name: f"{len(body)} bytes" for name, body in sorted(request.files.items())},
        "notebooks": sorted(request.notebooks),
        "jobsByName": dict(request.jobs),
        "runsAs": {request.runs_as.kind: request.runs_as.name} if request.runs_as is not None else {},
    }
    return json.dumps({key: value for key, value in document.items() if value}, indent=2, ensure_ascii=False)


def _clipped(text: str) -> str:
    """The text, or as much of it as a status holds, with a last line that says so."""
    if len(text) <= MOST_CHARACTERS:
        return text
    note = f"\n... cut off here: {len(text)} characters are more than a status holds"
    return text[: MOST_CHARACTERS - len(note)] + note


def _told(source: Source) -> str:
    if not source.files:
        return "nothing is uploaded"
    count, size = len(source.files), sum(len(body) for body in source.files.values())
    at = f" of commit {source.commit}" if source.commit else ""
    return f"{count} file{'s' if count > 1 else ''}{at}, {size} bytes"


def _check(finding: Finding) -> Check:
    return Check(
        name=clip(finding.name, 512),
        field=clip(finding.field, 128) or None,
        outcome=finding.outcome,
        message=clip(finding.message, 1024),
    )
