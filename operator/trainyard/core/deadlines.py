"""When the clock, or a person, stops a run. Used by the rules; pure."""

from datetime import datetime, timedelta

from trainyard.api.training_run import MLTrainingRunStatus
from trainyard.core.remote import RemoteRun, Stage
from trainyard.core.snapshot import Known
from trainyard.core.times import parse
from trainyard.core.transition import live


def why_stop(known: Known) -> str | None:
    """The reason to stop the run now, if there is one. An attempt that has ended already is settled instead.

    A suspension is one for a live attempt only; where nothing lives, there is nothing to stop.
    """
    run, seen = known.run, known.observed
    assert run.spec is not None  # noqa: S101  (the rule before made sure)
    ended = seen.vanished or (seen.remote is not None and seen.remote.stage is Stage.ENDED)
    if ended and live(run.status) is not None:
        return None
    if run.spec.cancel:
        return "Cancelled"
    passed = next((reason for reason, at in _deadlines(known) if at <= known.now), None)
    return passed or ("Suspended" if run.spec.suspend and live(run.status) is not None else None)


def out_of_time(known: Known) -> bool:
    """Whether spec.timeoutSeconds has passed."""
    return any(reason == "TimedOut" and at <= known.now for reason, at in _deadlines(known))


def next_deadline(known: Known) -> datetime | None:
    """When the clock alone will next change something."""
    return min((at for _, at in _deadlines(known) if at > known.now), default=None)


def begun(status: MLTrainingRunStatus) -> datetime | None:
    """When the clock of the whole run began: at its first sight, or when it was last resumed."""
    since = status.resumed_at or status.started_at
    return parse(since) if since else None


def _deadlines(known: Known) -> list[tuple[str, datetime]]:
    run, seen = known.run, known.observed
    found: list[tuple[str, datetime]] = []
    since = begun(run.status)
    if run.spec is None or since is None or run.status.phase == "Suspended":
        return found
    if run.spec.timeout_seconds is not None:
        found.append(("TimedOut", since + timedelta(seconds=run.spec.timeout_seconds)))
    attempt = live(run.status)
    if attempt is None or attempt.submitted_at is None:
        return found
    submitted = parse(attempt.submitted_at)
    if run.spec.queue_timeout_seconds is not None and attempt.started_at is None and _waits(seen.remote):
        since = parse(attempt.queued_at) if attempt.queued_at is not None else submitted
        if seen.remote is not None and built(run.status, seen.remote):
            since = known.now
        found.append(("QueueTimedOut", since + timedelta(seconds=run.spec.queue_timeout_seconds)))
    allowed = run.spec.attempt_timeout_seconds or known.limits.default_attempt_timeout
    grace = known.limits.attempt_timeout_grace
    found.append(("AttemptTimedOut", submitted + timedelta(seconds=allowed + grace)))
    return found


def built(status: MLTrainingRunStatus, remote: RemoteRun) -> bool:
    """Whether its environment has been built since the status was written, and it now waits for machines."""
    return remote.stage is Stage.QUEUED and status.phase == "BuildingEnvironment"


def _waits(remote: RemoteRun | None) -> bool:
    """Whether it waits for machines. Only a look at the platform tells: it may have started while nobody looked.

    The first build of an image may take half an hour, and says nothing about machines.
    """
    if remote is None or remote.builds_image:
        return False
    return remote.stage in (Stage.QUEUED, Stage.BUILDING)
