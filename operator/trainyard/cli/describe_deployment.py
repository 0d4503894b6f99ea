"""What `trainyard describe` says of a deployment: shares as bars, the rollout, its checks, why it went back. Pure.

Called by deployments.py. Every line is text; terminal.py colours the words that it knows.
"""

from collections.abc import Sequence
from datetime import datetime

from trainyard.api.deployment_status import CheckResult, PastRevision, ServedStatus
from trainyard.cli.describe import events_table
from trainyard.cli.tables import columns
from trainyard.client import Deployment, Event
from trainyard.core.times import parse, spoken

_INDENT = "  "
BAR_WIDTH = 20
# Lines of a failed server's log that are shown; the status keeps the rest.
LOG_LINES = 20


def description(deployment: Deployment, events: Sequence[Event] | None, now: datetime) -> list[str]:
    """The lines. `events` is None where they may not be read."""
    lines = _summary(deployment)
    for title, part in (
        ("Shares", shares(deployment.status.served_models)),
        ("Rollout", _rollout(deployment, now)),
        ("Checks", checks(deployment.status.rollout.checks) if deployment.status.rollout else []),
        ("Failure", _failure(deployment, now)),
        ("Drift", list(deployment.status.drift)),
        ("Permissions", _permissions(deployment)),
        ("Revisions", _revisions(deployment.status.revisions, now)),
        ("Events", events_table(events, now)),
    ):
        if part:
            lines += ["", f"{title}:", *(_INDENT + line for line in part)]
    return lines


def _summary(deployment: Deployment) -> list[str]:
    status, endpoint, reference = deployment.status, deployment.status.endpoint, deployment.spec.workspace_ref
    why = f" ({deployment.reason})" if deployment.reason and deployment.reason != deployment.phase else ""
    stale = "" if deployment.current else ", of an older spec: the operator has not looked at the newest yet"
    rows = [
        ("Name", deployment.name),
        ("Namespace", deployment.namespace),
        ("Phase", f"{deployment.phase or 'not yet seen by the operator'}{why}{stale}"),
        ("Message", deployment.message),
        ("Answers", {True: "yes", False: "no"}[deployment.available] if deployment.phase else None),
        ("Deleting", "yes" if deployment.deleting else None),
        (
            "Workspace",
            f"{reference.name}" if reference.kind == "MLWorkspace" else f"{reference.name} ({reference.kind})",
        ),
        ("Endpoint", f"{endpoint.name} ({endpoint.platform})" if endpoint else None),
        ("URL", deployment.url),
        ("Page", endpoint.page if endpoint else None),
        ("Made by", (endpoint.creator or endpoint.principal) if endpoint else None),
        ("Revision", _numbers(deployment)),
        ("Expires at", status.expires_at),
    ]
    width = max(len(name) for name, value in rows if value) + 1
    return [f"{name + ':':<{width}} {value}" for name, value in rows if value]


def _numbers(deployment: Deployment) -> str | None:
    newest, good = deployment.revision, deployment.status.last_good_revision
    if newest is None:
        return None
    if good is None:
        return f"{newest}, none has served all requests yet"
    return str(newest) if good == newest else f"{newest}; the last that served all requests is {good}"


def shares(served: Sequence[ServedStatus]) -> list[str]:
    """A bar for each model: full as far as it answers, light as far as it shall."""
    rows = [
        (
            each.name,
            f"{each.model or '?'}:{each.version or '?'}",
            bar(each.served_traffic, each.desired_traffic),
            f"{each.served_traffic} %",
            "" if each.served_traffic == each.desired_traffic else f"wanted {each.desired_traffic} %",
            each.state,
            "" if each.replicas is None else f"{each.replicas} up",
            each.message or "",
        )
        for each in served
    ]
    return columns(rows) if rows else []


def bar(answers: int, wanted: int, width: int = BAR_WIDTH) -> str:
    """Of `width` places, those that it answers, then those that it shall answer beyond, then the rest."""
    full = _places(answers, width)
    light = max(0, _places(wanted, width) - full)
    return "█" * full + "░" * light + "·" * (width - full - light)


def _places(percent: int, width: int) -> int:
    """At least one for any share, and never all for less than 100."""
    if percent in (0, 100):
        return percent * width // 100
    return min(width - 1, max(1, round(percent * width / 100)))


def _rollout(deployment: Deployment, now: datetime) -> list[str]:
    rollout = deployment.status.rollout
    if rollout is None:
        return []
    step = f", step {rollout.step} of {rollout.steps}" if rollout.steps and rollout.step else ""
    lines = [
        f"{rollout.stage}{step}: what is new shall answer {rollout.traffic} % (for {_ago(rollout.since, now)})",
    ]
    if rollout.held_since:
        lines.append(f"the platform has given that share for {_ago(rollout.held_since, now)}")
    if rollout.reason:
        lines.append(f"it goes back: {rollout.reason}: {rollout.message or ''}".rstrip(": "))
    if deployment.awaits_promotion:
        lines.append(f"to go on: trainyard promote {deployment.name} -n {deployment.namespace}")
    return lines


def checks(found: Sequence[CheckResult]) -> list[str]:
    """A row for each check of each new model."""
    return columns([(each.outcome, each.check, each.served, each.message) for each in found]) if found else []


def _failure(deployment: Deployment, now: datetime) -> list[str]:
    failure = deployment.status.failure
    if failure is None:
        return []
    what = f" ({failure.served})" if failure.served else ""
    lines = [
        f"revision {failure.revision}{what}, {_ago(failure.at, now)} ago: {failure.reason}",
        failure.message,
    ]
    if failure.log:
        log = failure.log.splitlines()
        lines.append(
            "its server printed:" if len(log) <= LOG_LINES else f"its server printed, the last {LOG_LINES} lines:"
        )
        lines += [f"  | {line}" for line in log[-LOG_LINES:]]
    return lines


def _permissions(deployment: Deployment) -> list[str]:
    lines = []
    for each in deployment.status.permissions:
        lines.append(f"{each.who} {each.level}: {'granted' if each.granted else 'not granted'}")
        if each.command and not each.granted:
            lines.append(f"  who may grant it runs: {each.command}")
    return lines


def _revisions(known: Sequence[PastRevision], now: datetime) -> list[str]:
    rows = [
        (
            str(each.number),
            each.outcome,
            f"{_ago(each.created_at, now)} ago",
            ", ".join(each.models),
            ": ".join(part for part in (each.reason, each.message) if part),
        )
        for each in known
    ]
    return columns(rows) if rows else []


def _ago(at: str, now: datetime) -> str:
    return spoken((now - parse(at)).total_seconds())
