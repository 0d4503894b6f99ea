"""What `trainyard describe` says of a run: a timeline that people understand, and what the run left. Pure.

Called by looking.py. Every line is text; terminal.py colours the words that it knows.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

from trainyard.api.run_status import Attempt, TaskStatus, WrittenOutput
from trainyard.cli.plans import checks
from trainyard.cli.tables import columns, took
from trainyard.cli.tree import by_dependency
from trainyard.client import Event, Run
from trainyard.client.lineage import source_of
from trainyard.core.times import parse, spoken

_KIB = 1024
_INDENT = "  "


def description(run: Run, events: Sequence[Event] | None, now: datetime) -> list[str]:
    """The lines. `events` is None where they may not be read."""
    lines = [*_summary(run, now), "", *_timeline(run, now)]
    for title, part in (
        ("Model", _model(run)),
        ("Metrics", _table(run.status.metrics)),
        ("Params", _table(run.status.params)),
        ("Outputs", _outputs(run)),
        ("Checks", [line.removeprefix(_INDENT) for line in checks(run.status.plan.checks)] if run.status.plan else []),
        ("Events", events_table(events, now)),
    ):
        if part:
            lines += ["", f"{title}:", *(_INDENT + line for line in part)]
    return lines


def _summary(run: Run, now: datetime) -> list[str]:
    status, attempt = run.status, run.attempt()
    why = f" ({run.reason})" if run.reason and run.reason != run.phase else ""
    identity = status.identity
    rows = [
        ("Name", run.name),
        ("Namespace", run.namespace),
        ("Phase", f"{run.phase or 'not yet seen by the operator'}{why}"),
        ("Message", run.message),
        ("Deleting", "yes" if run.deleting else None),
        ("Duration", took(run, now)),
        ("Workspace", _workspace(run)),
        ("Source", source_of(run)),
        ("Commit", attempt.commit if attempt else None),
        ("Submitted as", identity.submitted_as if identity else attempt.principal if attempt else None),
        ("Ran as", identity.ran_as if identity else attempt.run_as if attempt else None),
        ("Page", run.url),
        ("MLflow", status.mlflow_url),
        ("Retry at", status.retry_at),
        ("Cleanup", f"{status.cleanup.reason}: {status.cleanup.message}" if status.cleanup else None),
    ]
    width = max(len(name) for name, value in rows if value) + 1
    return [f"{name + ':':<{width}} {value}" for name, value in rows if value]


def _workspace(run: Run) -> str:
    reference = run.spec.workspace_ref
    return reference.name if reference.kind == "MLWorkspace" else f"{reference.name} ({reference.kind})"


def _timeline(run: Run, now: datetime) -> Iterator[str]:
    """Created, then every attempt with its moments, then the end; each with the time since the creation."""
    began = run.created_at
    yield "Timeline:"
    yield _moment(began, began, "created")
    if run.status.started_at:
        yield _moment(parse(run.status.started_at), began, "seen by the operator")
    first = run.attempts[0].number if run.attempts else 1
    if first > 1:
        yield f"{_INDENT}...  attempts 1 to {first - 1} are no longer listed"
    for attempt in run.attempts:
        yield from _attempt(run, attempt, began, now)
    if run.status.resumed_at:
        yield _moment(parse(run.status.resumed_at), began, "last resumed")
    if stop := run.status.stop:
        yield _moment(parse(stop.at), began, f"stopped by the operator: {stop.reason}")
    if run.status.ended_at:
        yield _moment(parse(run.status.ended_at), began, f"ended: {run.phase}")


def _moment(at: datetime, began: datetime, what: str) -> str:
    since = (at - began).total_seconds()
    return f"{_INDENT}{at.astimezone():%Y-%m-%d %H:%M:%S}  {'+' + spoken(since) if since >= 1 else '':<8}  {what}"


def _attempt(run: Run, attempt: Attempt, began: datetime, now: datetime) -> Iterator[str]:
    label = f"attempt {attempt.number}"
    adopted = ", adopted: it was there before this resource" if attempt.adopted else ""
    yield _moment(parse(attempt.intended_at), began, f"{label} decided")
    if attempt.submitted_at:
        remote = f" as run {attempt.remote_id}" if attempt.remote_id else ""
        yield _moment(parse(attempt.submitted_at), began, f"{label} submitted to {attempt.host}{remote}{adopted}")
    if attempt.started_at:
        yield _moment(parse(attempt.started_at), began, f"{label} started running{_waited(attempt)}")
    yield from _tasks(run, attempt, now)
    if attempt.ended_at:
        why = "".join(f": {part}" for part in (attempt.reason, attempt.message) if part)
        yield _moment(parse(attempt.ended_at), began, f"{label} ended{_lasted(attempt)}{why}")
    if attempt.url and attempt.url != run.url:
        yield f"{_INDENT * 2}page: {attempt.url}"
    if attempt.logs_uri:
        yield f"{_INDENT * 2}whole log: {attempt.logs_uri}"


def _waited(attempt: Attempt) -> str:
    if not (attempt.submitted_at and attempt.started_at):
        return ""
    return f", {spoken((parse(attempt.started_at) - parse(attempt.submitted_at)).total_seconds())} after submission"


def _lasted(attempt: Attempt) -> str:
    start = attempt.started_at or attempt.submitted_at
    if not (start and attempt.ended_at):
        return ""
    return f" after {spoken((parse(attempt.ended_at) - parse(start)).total_seconds())}"


def _tasks(run: Run, attempt: Attempt, now: datetime) -> Iterator[str]:
    """The tasks, each below what it depends on."""
    needs = {task.name: tuple(task.depends_on) for task in run.spec.tasks}
    known = {task.name: task for task in attempt.tasks}
    rows = [
        (_INDENT * depth + name, *_task_cells(known[name], now)) for name, depth in by_dependency(list(known), needs)
    ]
    if rows:
        yield from columns(rows, indent=_INDENT * 3)


def _task_cells(task: TaskStatus, now: datetime) -> tuple[str, str, str]:
    took_it = ""
    if task.started_at:
        took_it = spoken(((parse(task.ended_at) if task.ended_at else now) - parse(task.started_at)).total_seconds())
    notes = [
        f"of attempt {task.attempt}" if task.attempt else "",
        f"failed {_times(task.failures)} before" if task.failures and task.state == "Succeeded" else "",
        task.message or "",
    ]
    return task.state, took_it, "; ".join(note for note in notes if note)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _model(run: Run) -> list[str]:
    model = run.status.model
    if model is None:
        return []
    alias = f", alias {model.alias}" if model.alias else ""
    return [f"{model.name} version {model.version}{alias}", model.uri]


def _table(values: dict[str, str]) -> list[str]:
    return columns(sorted(values.items())) if values else []


def _outputs(run: Run) -> list[str]:
    return columns([_output(name, o) for name, o in sorted(run.status.outputs.items())]) if run.status.outputs else []


def _output(name: str, output: WrittenOutput) -> tuple[str, str, str, str]:
    size = "" if output.size_bytes is None else sized(output.size_bytes)
    files = "" if output.files is None else f"{output.files} file{'' if output.files == 1 else 's'}"
    where = output.uri or output.table or ""
    return name, where, ", ".join(part for part in (size, files) if part), output.message or ""


def sized(count: int) -> str:
    """A number of bytes for people: 512 B, 1.5 KiB, 3.0 GiB."""
    if count < _KIB:
        return f"{count} B"
    size = float(count)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        size /= _KIB
        if size < _KIB:
            return f"{size:.1f} {unit}"
    return f"{size / _KIB:.1f} PiB"


def events_table(events: Sequence[Event] | None, now: datetime) -> list[str]:
    """A row for each Event, with how long ago it was."""
    if events is None:
        return ["(they may not be listed with these rights)"]
    rows = []
    for event in events:
        ago = f"{spoken((now - event.at).total_seconds())} ago" if event.at else ""
        often = f" (x{event.count})" if event.count > 1 else ""
        rows.append((ago, event.type, event.reason, event.message + often))
    return columns(rows) if rows else []
