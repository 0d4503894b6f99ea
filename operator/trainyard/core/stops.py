"""Stops a remote run: for a cancel, a deadline, a suspension or a deletion. Used by `core.decide` only; pure."""

from datetime import datetime, timedelta

from trainyard.api.training_run import Attempt, MLTrainingRunStatus, Phase, Stop
from trainyard.core.actions import Action, Cancel, Collect, Decision, Locate, Note, RemoveFinalizer, Watch
from trainyard.core.ending import attempt_ended, ended_attempts, gained_from, result_of, retries_so_far
from trainyard.core.remote import End, Result, Stage
from trainyard.core.snapshot import Known
from trainyard.core.times import parse, stamp
from trainyard.core.transition import enter, live, with_attempt
from trainyard.core.waiting import told_trouble, wait_out

CANCEL_AGAIN = timedelta(seconds=60)

STOP_PHASE: dict[str, Phase] = {
    "Cancelled": "Cancelled",
    "TimedOut": "TimedOut",
    "AttemptTimedOut": "TimedOut",
    "QueueTimedOut": "TimedOut",
    "Suspended": "Suspended",
}
STOP_WORDS = {
    "Cancelled": "spec.cancel was set",
    "TimedOut": "spec.timeoutSeconds has passed",
    "AttemptTimedOut": "spec.attemptTimeoutSeconds has passed and the platform did not end the attempt by itself",
    "QueueTimedOut": "the attempt waited on the platform longer than spec.queueTimeoutSeconds",
    "Suspended": "spec.suspend was set",
}


def latch_stop(known: Known, reason: str) -> Decision:
    """Write the decision to stop; what follows needs no second look at why."""
    stop = Stop(reason=reason, at=stamp(known.now))
    if live(known.run.status) is None:
        return _final_stop(known, stop, "nothing was running on the platform")
    note = Note("Normal", "Stopping", f"stopping the remote run: {STOP_WORDS[reason]}")
    status = enter(
        known, "Cancelling", reason, f"{STOP_WORDS[reason]}; stopping the remote run", stop=stop, retry_at=None
    )
    return Decision(status, notes=(note,))


def carry_out_stop(known: Known) -> Decision:
    """From a latched stop to the final phase, by way of the platform's own word that the run has ended."""
    run, seen = known.run, known.observed
    stop, attempt = run.status.stop, live(run.status)
    assert stop is not None  # noqa: S101  (the rule looked)
    if attempt is None:
        return _final_stop(known, stop, "nothing was running on the platform")
    if seen.vanished:
        return _final_stop(known, stop, "the remote run no longer exists on the platform")
    if seen.remote is not None and seen.remote.stage is Stage.ENDED:
        result = result_of(known)
        if result is None:
            return wait_out(known) or Decision(run.status, Collect())
        own_end = stop.reason == "Suspended" and seen.remote.end is not End.CANCELLED
        if seen.remote.end is End.SUCCEEDED or own_end:
            return attempt_ended(known, attempt, result)
        return _final_stop(known, stop, f"the remote run has ended as {seen.remote.state}", result)
    if seen.remote is not None and seen.remote.over:
        return _final_stop(known, stop, f"the platform says that the remote run is over, as {seen.remote.state}")
    remote_id = _remote_id(known, attempt)
    if remote_id is not None and attempt.remote_id is None:
        attempts = with_attempt(run.status, remote_id=remote_id)
        message = f"{STOP_WORDS[stop.reason]}; stopping remote run {remote_id}"
        return Decision(enter(known, "Cancelling", stop.reason, message, attempts=attempts, remote_id=remote_id))
    if remote_id is None:
        settled = _search_settled(known, max(parse(attempt.intended_at), parse(stop.at)))
        return (
            _final_stop(known, stop, "nothing was started on the platform") if settled else _search(known, run.status)
        )
    return _stop_remote(known, run.status, remote_id)


def stop_for_deletion(known: Known, attempt: Attempt, deadline: datetime) -> Decision:
    """End the remote run of a deleted resource, then let the resource go."""
    run, seen = known.run, known.observed
    assert run.deleting_since is not None  # noqa: S101  (the rule looked)
    ended = seen.remote is not None and (seen.remote.stage is Stage.ENDED or seen.remote.over)
    if seen.vanished or ended:
        return Decision(run.status, RemoveFinalizer())
    remote_id = _remote_id(known, attempt)
    if remote_id is None:
        if _search_settled(known, max(parse(attempt.intended_at), run.deleting_since)):
            return Decision(run.status, RemoveFinalizer())
        return _search(known, run.status, deadline)
    status = run.status
    if status.phase != "Cancelling" or attempt.remote_id is None:
        attempts = with_attempt(status, remote_id=remote_id)
        message = f"the resource was deleted; stopping remote run {remote_id}"
        status = enter(known, "Cancelling", "Deleted", message, attempts=attempts, remote_id=remote_id)
    return _stop_remote(known, status, remote_id, deadline)


def _remote_id(known: Known, attempt: Attempt) -> str | None:
    seen = known.observed
    return attempt.remote_id or (seen.submitted.remote_id if seen.submitted else None) or seen.located


def _search(known: Known, status: MLTrainingRunStatus, deadline: datetime | None = None) -> Decision:
    """Look for a run that may have been started just before a crash, again and again until that can be excluded."""
    held = wait_out(known)
    if held is not None:
        wake = min(m for m in (held.wake_at, deadline) if m is not None)
        return Decision(held.status, wake_at=wake)
    seen = known.observed.searched_at
    again = None if seen is None else seen + timedelta(seconds=known.limits.settle_before_giving_up_search / 6)
    if again is not None and known.now < again:
        return Decision(status, wake_at=min(again, deadline) if deadline else again)
    return Decision(status, Locate())


def _search_settled(known: Known, since: datetime) -> bool:
    """A search that found nothing settles it only when no request could still be under way."""
    searched = known.observed.searched_at
    settle = timedelta(seconds=known.limits.settle_before_giving_up_search)
    return searched is not None and known.observed.located is None and searched >= since + settle


def _stop_remote(
    known: Known, status: MLTrainingRunStatus, remote_id: str, deadline: datetime | None = None
) -> Decision:
    sent, trouble = known.observed.cancel_sent_at, known.observed.trouble
    waits = [known.now + CANCEL_AGAIN]
    if deadline is not None:
        waits.append(deadline)
    action: Action = Watch()
    if trouble is not None and known.now < trouble.retry_at:
        waits.append(trouble.retry_at)
        status = told_trouble(known) if status is known.run.status else status
    elif sent is None or known.now >= sent + CANCEL_AGAIN:
        action = Cancel(remote_id)
    return Decision(status, action, min(waits))


def _final_stop(known: Known, stop: Stop, how: str, result: Result | None = None) -> Decision:
    """The phase that the stop leads to. A suspended run waits there; it may be resumed, and nothing was its fault."""
    attempt = live(known.run.status)
    message = f"{STOP_WORDS[stop.reason]}; {how}"
    remote = known.observed.remote
    state = remote.state if remote is not None else None
    changes: dict[str, object] = gained_from(known, result) if result is not None else {}
    if attempt is not None:
        changes["attempts"] = ended_attempts(known, attempt, stop.reason, message, state, result)
    changes |= {"stop": stop, "retry_at": None}
    if stop.reason == "Suspended":
        message += ". Set spec.suspend to false to start a new attempt"
        changes |= {"stop": None, "retries": retries_so_far(known.run.status)}
    status = enter(known, STOP_PHASE[stop.reason], stop.reason, message, **changes)
    kind = "Normal" if stop.reason == "Suspended" else "Warning"
    return Decision(status, notes=(Note(kind, stop.reason, message),))


def suspend(known: Known) -> Decision:
    """Nothing runs on the platform: stay away from it until the run is resumed."""
    status = known.run.status
    if status.phase == "Suspended":
        return Decision(status)
    stop = Stop(reason="Suspended", at=stamp(known.now))
    return _final_stop(known, stop, "nothing is running on the platform")


def resume(known: Known) -> Decision:
    """The run goes on with a new attempt; its deadline begins anew."""
    message = "spec.suspend was taken back; a new attempt follows"
    note = Note("Normal", "Resumed", message)
    return Decision(enter(known, "Pending", "Resumed", message, resumed_at=stamp(known.now)), notes=(note,))
