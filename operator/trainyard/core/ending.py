"""How attempts and runs end: deadlines, stops, deletion, retries, final phases. Used by `core.decide` only; pure."""

from datetime import datetime, timedelta

from trainyard.api.training_run import Attempt, MLTrainingRunStatus, Phase, RegisteredModel, Retry, Stop
from trainyard.core.actions import Action, Cancel, Collect, Decision, Locate, Note, RemoveFinalizer, Watch
from trainyard.core.remote import End, Result, Stage, Trouble
from trainyard.core.snapshot import Known
from trainyard.core.times import parse, stamp
from trainyard.core.transition import backoff, clip, enter, live, with_attempt

DEFAULT_RETRY = Retry()
METRICS_KEPT = 100
CANCEL_AGAIN = timedelta(seconds=60)
# Troubles that come and go with a platform; telling one for the other again and again is worth no write.
PASSING = frozenset({"PlatformUnreachable", "PlatformThrottled", "PlatformAnswerMalformed"})

STOP_PHASE: dict[str, Phase] = {
    "Cancelled": "Cancelled",
    "TimedOut": "TimedOut",
    "AttemptTimedOut": "TimedOut",
    "QueueTimedOut": "TimedOut",
}
STOP_WORDS = {
    "Cancelled": "spec.cancel was set",
    "TimedOut": "spec.timeoutSeconds has passed",
    "AttemptTimedOut": "spec.attemptTimeoutSeconds has passed and the platform did not end the attempt by itself",
    "QueueTimedOut": "the attempt waited on the platform longer than spec.queueTimeoutSeconds",
}

# What an attempt's end leads to when it is not retried, and whether time alone, or any retry, may mend it.
END_PHASE: dict[End, Phase] = {
    End.CANCELLED: "Cancelled",
    End.TIMED_OUT: "TimedOut",
}
RETRIED_ALWAYS = frozenset({End.INFRASTRUCTURE, End.QUOTA})
RETRIED_ON_ANY = RETRIED_ALWAYS | {End.CODE, End.PACKAGES, End.TIMED_OUT}
ADVICE = {
    End.CODE: "the code failed; read its last lines here or on the run's page",
    End.PACKAGES: "a package could not be installed; check spec.environment.pip and the workspace's runtimes",
    End.INFRASTRUCTURE: "the platform's compute failed",
    End.QUOTA: "the platform had no capacity or quota left; ask for more, or use another compute class",
    End.PERMISSION: "the identity that the code runs as lacks a right",
    End.CONFIGURATION: "the platform refused the run's configuration",
    End.CANCELLED: "somebody cancelled the run on the platform",
    End.TIMED_OUT: "the attempt took longer than spec.attemptTimeoutSeconds",
}


def why_stop(known: Known) -> str | None:
    """The reason to stop the run now, if there is one. An attempt that has ended already is settled instead."""
    run, seen = known.run, known.observed
    assert run.spec is not None  # noqa: S101  (the rule before made sure)
    ended = seen.vanished or (seen.remote is not None and seen.remote.stage is Stage.ENDED)
    if ended and live(run.status) is not None:
        return None
    if run.spec.cancel:
        return "Cancelled"
    return next((reason for reason, at in _deadlines(known) if at <= known.now), None)


def next_deadline(known: Known) -> datetime | None:
    """When the clock alone will next change something."""
    return min((at for _, at in _deadlines(known) if at > known.now), default=None)


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
        if seen.remote.end is End.SUCCEEDED:
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


def result_of(known: Known) -> Result | None:
    """What the ended attempt left; None while it is still being asked for.

    What is refused for long is given up: the run has ended, and its page on the platform still shows everything.
    """
    trouble = known.observed.trouble
    if known.observed.result is not None or trouble is None or trouble.action != "Collect":
        return known.observed.result
    lasted = (known.now - trouble.since).total_seconds()
    if trouble.reason in PASSING or lasted < known.limits.collecting_may_take:
        return None
    message = f"the attempt has ended, but what it left could not be read ({trouble.reason}: {trouble.message})"
    return Result(shortfall=("ResultNotCollected", message))


def attempt_ended(known: Known, attempt: Attempt, result: Result) -> Decision:
    """Finish the run, or pause before another attempt."""
    remote = known.observed.remote
    assert remote is not None  # noqa: S101  (the rule looked)
    end = remote.end or End.INFRASTRUCTURE
    gained = _gained(known, result)
    if end is End.SUCCEEDED and result.shortfall is None:
        return _succeeded(known, attempt, gained)
    if end is End.SUCCEEDED and result.shortfall is not None:
        reason, message = result.shortfall
    else:
        reason, message = end.value, _why(end, result.error or remote.message)
    attempts = _ended(known, attempt, reason, message, remote.state)
    if end is not End.SUCCEEDED and _retries(known, attempt, end):
        return _pause(known, attempt, reason, message, attempts)
    phase = END_PHASE.get(end, "Failed")
    status = enter(known, phase, reason, message, attempts=attempts, retry_at=None, **gained)
    return Decision(status, notes=(Note("Warning", reason, clip(message, 900)),))


def vanished(known: Known, attempt: Attempt) -> Decision:
    """The platform no longer has the run. Never a silent new one: that could pay twice."""
    message = (
        f"remote run {attempt.remote_id} no longer exists on {attempt.host}; what became of it can not be known. "
        "Create a new run if the training is still wanted."
    )
    attempts = _ended(known, attempt, "RemoteRunVanished", message, attempt.remote_state)
    status = enter(known, "Failed", "RemoteRunVanished", message, attempts=attempts, retry_at=None)
    return Decision(status, notes=(Note("Warning", "RemoteRunVanished", message),))


def submission_refused(known: Known, attempt: Attempt, trouble: Trouble) -> Decision:
    """The platform will never take this submission, and the spec can not change: the run has failed."""
    attempts = _ended(known, attempt, trouble.reason, trouble.message, None)
    status = enter(known, "Failed", trouble.reason, trouble.message, attempts=attempts, retry_at=None)
    return Decision(status, notes=(Note("Warning", trouble.reason, clip(trouble.message, 900)),))


def wait_out(known: Known) -> Decision | None:
    """A decision to wait while the last request's trouble has not cooled down; None when it may be tried again."""
    trouble = known.observed.trouble
    if trouble is None or known.now >= trouble.retry_at:
        return None
    wake = min(m for m in (trouble.retry_at, next_deadline(known)) if m is not None)
    return Decision(told_trouble(known), wake_at=wake)


def told_trouble(known: Known) -> MLTrainingRunStatus:
    """The status that names the trouble once it has lasted; a single slow answer is not worth a write."""
    trouble, status = known.observed.trouble, known.run.status
    if trouble is None or status.phase is None:
        return status
    if (known.now - trouble.since).total_seconds() < known.limits.trouble_before_told:
        return status
    if says(status, trouble):
        return status
    return enter(known, status.phase, trouble.reason, f"{trouble.message}. Trainyard keeps trying.")


def says(status: MLTrainingRunStatus, trouble: Trouble) -> bool:
    """Whether the status tells of that trouble already, or of one as good."""
    current = status.condition("Reconciling")
    if current is None:
        return False
    return current.reason == trouble.reason or (current.reason in PASSING and trouble.reason in PASSING)


def _deadlines(known: Known) -> list[tuple[str, datetime]]:
    run, seen = known.run, known.observed
    found: list[tuple[str, datetime]] = []
    if run.spec is None or run.status.started_at is None:
        return found
    if run.spec.timeout_seconds is not None:
        found.append(("TimedOut", parse(run.status.started_at) + timedelta(seconds=run.spec.timeout_seconds)))
    attempt = live(run.status)
    if attempt is None or attempt.submitted_at is None:
        return found
    submitted = parse(attempt.submitted_at)
    # Only a look at the platform tells that it still waits: it may have started while the operator was down.
    waits = seen.remote is not None and seen.remote.stage in (Stage.QUEUED, Stage.BUILDING)
    queued = waits and attempt.started_at is None
    if run.spec.queue_timeout_seconds is not None and queued:
        found.append(("QueueTimedOut", submitted + timedelta(seconds=run.spec.queue_timeout_seconds)))
    allowed = run.spec.attempt_timeout_seconds or known.limits.default_attempt_timeout
    grace = known.limits.attempt_timeout_grace
    found.append(("AttemptTimedOut", submitted + timedelta(seconds=allowed + grace)))
    return found


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
    attempt = live(known.run.status)
    message = f"{STOP_WORDS[stop.reason]}; {how}"
    remote = known.observed.remote
    state = remote.state if remote is not None else None
    attempts = _ended(known, attempt, stop.reason, message, state) if attempt is not None else known.run.status.attempts
    gained = _gained(known, result) if result is not None else {}
    phase = STOP_PHASE[stop.reason]
    status = enter(known, phase, stop.reason, message, attempts=attempts, stop=stop, retry_at=None, **gained)
    return Decision(status, notes=(Note("Warning", stop.reason, message),))


def _succeeded(known: Known, attempt: Attempt, gained: dict[str, object]) -> Decision:
    remote = known.observed.remote
    assert remote is not None  # noqa: S101  (the caller looked)
    model = gained.get("model")
    message = f"attempt {attempt.number} succeeded"
    if isinstance(model, RegisteredModel):
        message += f" and registered {model.name} version {model.version}"
    attempts = _ended(known, attempt, End.SUCCEEDED.value, "", remote.state)
    status = enter(known, "Succeeded", End.SUCCEEDED.value, message, attempts=attempts, retry_at=None, **gained)
    return Decision(status, notes=(Note("Normal", End.SUCCEEDED.value, message),))


def _pause(known: Known, attempt: Attempt, reason: str, message: str, attempts: list[Attempt]) -> Decision:
    at = known.now + backoff(_retry(known), attempt.number)
    text = f"attempt {attempt.number} failed ({reason}: {message}); the next is made at {stamp(at)}"
    status = enter(known, "Pending", "RetryBackoff", text, attempts=attempts, retry_at=stamp(at))
    return Decision(status, wake_at=at, notes=(Note("Warning", reason, clip(text, 900)),))


def _retry(known: Known) -> Retry:
    spec = known.run.spec
    return (spec.retry if spec is not None else None) or DEFAULT_RETRY


def _retries(known: Known, attempt: Attempt, end: End) -> bool:
    retry = _retry(known)
    kinds = RETRIED_ON_ANY if retry.when == "Any" else RETRIED_ALWAYS
    return known.run.status.stop is None and end in kinds and attempt.number <= retry.limit


def _ended(known: Known, attempt: Attempt, reason: str, message: str, state: str | None) -> list[Attempt]:
    remote = known.observed.remote
    ended = remote.ended_at if remote is not None and remote.ended_at is not None else known.now
    changes: dict[str, object] = {"ended_at": stamp(ended), "reason": reason, "message": clip(message) or None}
    if state is not None:
        changes["remote_state"] = state
    if remote is not None:
        changes["url"] = remote.url or attempt.url
        if attempt.started_at is None and remote.started_at is not None:
            changes["started_at"] = stamp(remote.started_at)
    return with_attempt(known.run.status, **changes)


def _gained(known: Known, result: Result) -> dict[str, object]:
    """Status fields that come from what the attempt left."""
    remote, status = known.observed.remote, known.run.status
    gained: dict[str, object] = {"metrics": dict(sorted(result.metrics.items())[:METRICS_KEPT])}
    if result.model is not None:
        found = result.model
        gained["model"] = RegisteredModel(name=found.name, version=found.version, uri=found.uri, alias=found.alias)
    if remote is not None:
        gained["url"] = remote.url or status.url
        if remote.ran_as and status.identity is not None:
            gained["identity"] = status.identity.model_copy(update={"ran_as": remote.ran_as})
    return gained


def _why(end: End, detail: str) -> str:
    advice = ADVICE[end]
    return f"{advice}: {detail}" if detail else advice
