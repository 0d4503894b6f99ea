"""Plans as people read them: the request, the checks, the verdict. Pure; used by `plan` and `describe`."""

import json
from collections.abc import Sequence

from trainyard.api.run_status import Check
from trainyard.cli.tables import columns
from trainyard.client import Run


def would_start(run: Run) -> bool:
    """Whether the plan found nothing in the way."""
    found = run.status.plan.checks if run.status.plan else []
    return run.succeeded and not any(check.outcome == "Missing" for check in found)


def planned(run: Run) -> list[str]:
    """The request, the checks, and the verdict, as lines."""
    plan = run.status.plan
    lines: list[str] = []
    if plan is not None:
        lines += ["Request:", *_indented(plan.request).splitlines(), ""]
        lines += ["Checks:", *checks(plan.checks), ""]
    if would_start(run):
        return [*lines, "The run would start."]
    why = "".join(f": {part}" for part in (run.reason, run.message) if part)
    return [*lines, f"The run would not start{why}"]


def _indented(request: str) -> str:
    """The request, one field a line; as it is where the status holds only a part of it, which is no JSON."""
    try:
        return json.dumps(json.loads(request), indent=2, ensure_ascii=False)
    except ValueError:
        return request


def checks(found: Sequence[Check]) -> list[str]:
    """A table of what was looked at; below it, what has to be done."""
    if not found:
        return ["  none"]
    rows = [("OUTCOME", "CHECK", "ASKED FOR BY"), *((c.outcome, c.name, c.field or "") for c in found)]
    remedies = [c for c in found if c.outcome != "Passed"]
    lines = columns(rows, indent="  ")
    for check in remedies:
        lines += ["", f"  {check.outcome}: {check.name}", f"    {check.message}"]
    return lines
