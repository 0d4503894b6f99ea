"""How attempts end and what follows: success, another attempt, or a final phase. Used by the rules only; pure."""

from datetime import timedelta

from trainyard.api.training_run import (
    Attempt,
    MLTrainingRunSpec,
    MLTrainingRunStatus,
    Phase,
    RegisteredModel,
    RemoteIdentity,
    Retry,
    TaskStatus,
    WrittenOutput,
)
from trainyard.core.actions import Decision, Note
from trainyard.core.deadlines import out_of_time
from trainyard.core.graph import failed_tasks, may_run_again, seen_tasks, unforgiven
from trainyard.core.remote import End, RemoteRun, Result, Trouble
from trainyard.core.snapshot import Known, RunSnapshot
from trainyard.core.times import parse, stamp
from trainyard.core.transition import backoff, clip, enter, newest, with_attempt
from trainyard.core.waiting import PASSING

DEFAULT_RETRY = Retry()
METRICS_KEPT = 100
# A remote run that started this much before its intent was written was there before the resource.
ADOPTED_BEFORE = timedelta(seconds=60)

# What an attempt's end leads to when it is not retried, and whether time alone, or any retry, may mend it.
END_PHASE: dict[End, Phase] = {
    End.CANCELLED: "Cancelled",
    End.TIMED_OUT: "TimedOut",
}
RETRIED_ALWAYS = frozenset({End.INFRASTRUCTURE, End.QUOTA})
RETRIED_ON_ANY = RETRIED_ALWAYS | {End.CODE, End.OUT_OF_MEMORY, End.PACKAGES, End.TIMED_OUT}
RETRIED = {"Infrastructure": RETRIED_ALWAYS, "Any": RETRIED_ON_ANY}
ADVICE = {
    End.CODE: "the code failed; read its last lines here, in `trainyard logs` or on the run's page",
    End.OUT_OF_MEMORY: "the machine's memory was not enough; use a larger compute class, or load less at a time",
    End.PACKAGES: "a package could not be installed; check spec.environment.pip and the workspace's runtimes",
    End.INFRASTRUCTURE: "the platform's compute failed",
    End.QUOTA: "the platform had no capacity or quota left; ask for more, or use another compute class",
    End.PERMISSION: "the identity that the code runs as lacks a right",
    End.CONFIGURATION: "the platform refused the run's configuration",
    End.CANCELLED: "somebody cancelled the run on the platform",
    End.TIMED_OUT: "the attempt took longer than spec.attemptTimeoutSeconds",
}


def result_of(known: Known) -> Result | None:
    """What the ended attempt left; None while it is still being asked for.

    What is refused for long is given up: the run has ended, and its page on the platform still shows everything.
    """
    trouble, spec = known.observed.trouble, known.run.spec
    if known.observed.result is not None or trouble is None or trouble.action != "Collect":
        return known.observed.result
    lasted = (known.now - trouble.since).total_seconds()
    passing = trouble.reason in PASSING
    may_take = known.limits.unreachable_may_take if passing else known.limits.collecting_may_take
    # Who has cancelled, or whose time is up, does not wait for what the attempt left.
    if lasted < may_take and not (spec is not None and spec.cancel) and not out_of_time(known):
        return None
    message = f"the attempt has ended, but what it left could not be read ({trouble.reason}: {trouble.message})"
    return Result(shortfall=("ResultNotCollected", message))


def attempt_ended(known: Known, attempt: Attempt, result: Result) -> Decision:
    """Finish the run, or pause before another attempt. A suspension that came too late is forgotten."""
    remote = known.observed.remote
    assert remote is not None  # noqa: S101  (the rule looked)
    end, detail = _judged(known, attempt, remote, result)
    gained = gained_from(known, result) | _without_suspension(known.run.status)
    if end is End.SUCCEEDED and result.shortfall is None:
        return _succeeded(known, attempt, result, gained)
    if end is End.SUCCEEDED and result.shortfall is not None:
        reason, message = result.shortfall
    else:
        reason, message = end.value, _why(end, detail)
    attempts = ended_attempts(known, attempt, reason, message, remote.state, result)
    if end is End.CANCELLED and attempts[-1].adopted and _goes_on(known):
        text = f"attempt {attempt.number} of an earlier life was cancelled; looking for the one that may have followed"
        return Decision(enter(known, "Pending", "Adopting", text, attempts=attempts, retry_at=None, **gained))
    if end is not End.SUCCEEDED and _retries(known, end, attempts[-1].tasks, result):
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
    attempts = ended_attempts(known, attempt, "RemoteRunVanished", message, attempt.remote_state)
    status = enter(known, "Failed", "RemoteRunVanished", message, attempts=attempts, retry_at=None)
    return Decision(status, notes=(Note("Warning", "RemoteRunVanished", message),))


def submission_refused(known: Known, attempt: Attempt, trouble: Trouble) -> Decision:
    """The platform will never take this submission, and the spec can not change: the run has failed."""
    attempts = ended_attempts(known, attempt, trouble.reason, trouble.message, None)
    status = enter(known, "Failed", trouble.reason, trouble.message, attempts=attempts, retry_at=None)
    return Decision(status, notes=(Note("Warning", trouble.reason, clip(trouble.message, 900)),))


def only_if_there(run: RunSnapshot) -> bool:
    """Whether the newest attempt may only be followed, not started: the adopted one before it had been cancelled.

    It may have been suspended in its earlier life, and have gone on with this one; or a person had cancelled it.
    """
    before = run.status.attempts[-2] if len(run.status.attempts) > 1 else None
    return before is not None and bool(before.adopted) and before.reason == End.CANCELLED.value


def never_was(known: Known, attempt: Attempt) -> Decision:
    """The attempt that was looked for had never been started: the cancelled one before it was the last."""
    last = known.run.status.attempts[-2]
    message = last.message or ADVICE[End.CANCELLED]
    attempts = ended_attempts(known, attempt, "NotStarted", "no such attempt of an earlier life was found", None)
    status = enter(known, "Cancelled", End.CANCELLED.value, message, attempts=attempts, retry_at=None)
    return Decision(status, notes=(Note("Warning", End.CANCELLED.value, clip(message, 900)),))


def ended_attempts(
    known: Known, attempt: Attempt, reason: str, message: str, state: str | None, result: Result | None = None
) -> list[Attempt]:
    """The attempts with the newest one closed, for that reason."""
    remote = known.observed.remote
    told = result.ended_at if result is not None else None
    ended = told or (remote.ended_at if remote is not None else None) or known.now
    changes: dict[str, object] = {"ended_at": stamp(ended), "reason": reason, "message": clip(message) or None}
    if state is not None:
        changes["remote_state"] = state
    if remote is not None:
        changes["url"] = remote.url or attempt.url
        changes["adopted"] = attempt.adopted or adopted(attempt, remote)
        if attempt.started_at is None and remote.started_at is not None:
            changes["started_at"] = stamp(remote.started_at)
    if result is not None:
        changes["tasks"] = seen_tasks(attempt.tasks, result.tasks)
        changes["logs_uri"] = result.logs_uri
        if result.started_at is not None:
            changes["started_at"] = stamp(result.started_at)
    return with_attempt(known.run.status, **changes)


def adopted(attempt: Attempt, remote: RemoteRun) -> bool | None:
    """True if the remote run was there before the attempt was intended: found by its token after a restore."""
    begun = remote.started_at
    return True if begun is not None and begun + ADOPTED_BEFORE < parse(attempt.intended_at) else None


def identity_seen(status: MLTrainingRunStatus, attempt: Attempt | None, remote: RemoteRun) -> RemoteIdentity | None:
    """Who submitted, and whom the code runs as: whom it was asked to, as a run itself tells only who made it."""
    who = (attempt.run_as if attempt is not None else None) or remote.ran_as
    return (status.identity or RemoteIdentity()).model_copy(update={"ran_as": who}) if who else status.identity


def gained_from(known: Known, result: Result) -> dict[str, object]:
    """Status fields that come from what the attempt left."""
    remote, status = known.observed.remote, known.run.status
    gained: dict[str, object] = {
        "metrics": dict(sorted(result.metrics.items())[:METRICS_KEPT]),
        "params": dict(sorted(result.params.items())[:METRICS_KEPT]),
    }
    if result.mlflow_url is not None:
        gained["mlflow_url"] = result.mlflow_url
    if result.model is not None:
        found = result.model
        gained["model"] = RegisteredModel(name=found.name, version=found.version, uri=found.uri, alias=found.alias)
    if remote is not None:
        gained["url"] = remote.url or status.url
        gained["identity"] = identity_seen(status, newest(status), remote)
    return gained


def retries_so_far(status: MLTrainingRunStatus) -> int:
    """Failed attempts that count. Earlier versions did not write it: each attempt but the newest was one then."""
    if status.retries is not None:
        return status.retries
    return max(0, (status.attempt or 1) - 1)


def no_longer_retried(status: MLTrainingRunStatus, spec: MLTrainingRunSpec) -> bool:
    """Whether the retry that is waited for is one more than retry.limit now allows. Tasks have limits of their own."""
    return not spec.tasks and retries_so_far(status) > (spec.retry or DEFAULT_RETRY).limit


def _judged(known: Known, attempt: Attempt, remote: RemoteRun, result: Result) -> tuple[End, str]:
    """How the attempt ended and what says so: a platform may call a run well in which a task failed."""
    end = _end(remote, result)
    if end is not End.SUCCEEDED or not result.tasks or known.run.spec is None:
        return end, result.error or remote.message
    seen = seen_tasks(attempt.tasks, result.tasks)
    bad = unforgiven(known.run.spec.tasks, failed_tasks(seen), seen)
    if not bad:
        return end, ""
    words = "; ".join(f"task {each.name} failed" + (f": {each.message}" if each.message else "") for each in bad)
    return End(bad[0].state), words


def _end(remote: RemoteRun, result: Result) -> End:
    """How it ended: the platform's word, made more exact by what was printed where that word only says who failed."""
    said = remote.end or End.INFRASTRUCTURE
    if result.end is End.TIMED_OUT and said is End.CANCELLED:
        return result.end  # a platform may have no other word for what it stops when its time is up
    return said if result.end is None or said in (End.SUCCEEDED, End.CANCELLED, End.TIMED_OUT) else result.end


def _succeeded(known: Known, attempt: Attempt, result: Result, gained: dict[str, object]) -> Decision:
    remote = known.observed.remote
    assert remote is not None  # noqa: S101  (the caller looked)
    model = gained.get("model")
    message = f"attempt {attempt.number} succeeded"
    if isinstance(model, RegisteredModel):
        message += f" and registered {model.name} version {model.version}"
    gained["outputs"] = {
        name: WrittenOutput(
            uri=clip(found.uri, 1024) if found.uri is not None else None,
            table=clip(found.table, 255) if found.table is not None else None,
            size_bytes=found.size_bytes,
            files=found.files,
            message=clip(found.message, 500) or None,
        )
        for name, found in sorted(result.outputs.items())
    }
    attempts = ended_attempts(known, attempt, End.SUCCEEDED.value, "", remote.state, result)
    status = enter(known, "Succeeded", End.SUCCEEDED.value, message, attempts=attempts, retry_at=None, **gained)
    return Decision(status, notes=(Note("Normal", End.SUCCEEDED.value, message),))


def _pause(known: Known, attempt: Attempt, reason: str, message: str, attempts: list[Attempt]) -> Decision:
    retries = retries_so_far(known.run.status) + 1
    at = known.now + backoff(_retry(known), retries)
    text = f"attempt {attempt.number} failed ({reason}: {message}); the next is made at {stamp(at)}"
    status = enter(
        known,
        "Pending",
        "RetryBackoff",
        text,
        attempts=attempts,
        retries=retries,
        retry_at=stamp(at),
        **_without_suspension(known.run.status),
    )
    return Decision(status, wake_at=at, notes=(Note("Warning", reason, clip(text, 900)),))


def _retry(known: Known) -> Retry:
    spec = known.run.spec
    return (spec.retry if spec is not None else None) or DEFAULT_RETRY


def _retries(known: Known, end: End, tasks: list[TaskStatus], result: Result) -> bool:
    """Whether another attempt follows: as the failed tasks allow it, or else as the run does.

    Where nothing is known of the tasks there is none: it would run, and pay for, those that were done once more.
    """
    spec, stop, retry = known.run.spec, known.run.status.stop, _retry(known)
    if spec is None or (stop is not None and stop.reason != "Suspended"):
        return False
    if spec.tasks and not result.tasks:
        return False
    failed = failed_tasks(tasks)
    if failed and end not in (End.CANCELLED, End.TIMED_OUT):
        return may_run_again(spec.tasks, failed, retry, RETRIED)
    return end in RETRIED[retry.when] and retries_so_far(known.run.status) < retry.limit


def _goes_on(known: Known) -> bool:
    """Whether nobody has asked this life of the run to stop."""
    spec = known.run.spec
    return known.run.status.stop is None and spec is not None and not spec.cancel


def _without_suspension(status: MLTrainingRunStatus) -> dict[str, object]:
    return {"stop": None} if status.stop is not None and status.stop.reason == "Suspended" else {}


def _why(end: End, detail: str) -> str:
    advice = ADVICE[end]
    return f"{advice}: {detail}" if detail else advice
