"""Everything that moves an MLTrainingRun from one phase to another. Pure: no I/O, no kopf, no SDK, no clock of its own.

`decide` asks the rules below in their order; the first that has an answer decides. The controller writes the status,
then does the action, then asks again with what it has learned. So the intent of an attempt is always in the API server
before the platform is asked, and losing everything in memory at any point costs a repeated question, never a run.
"""

from collections.abc import Callable
from datetime import timedelta

from trainyard.api.training_run import Attempt, MLTrainingRunStatus, Phase, RemoteIdentity
from trainyard.core import ending, stops
from trainyard.core.actions import (
    AddFinalizer,
    Collect,
    Decision,
    Locate,
    Note,
    RemoveFinalizer,
    Submit,
    Watch,
)
from trainyard.core.conditions import FINAL
from trainyard.core.deadlines import built, next_deadline, why_stop
from trainyard.core.graph import planned_tasks
from trainyard.core.remote import Stage, Submitted, Trouble
from trainyard.core.retiring import retire
from trainyard.core.snapshot import Blocked, Known, Ready
from trainyard.core.times import parse, stamp
from trainyard.core.tokens import submission_token
from trainyard.core.transition import enter, live, newest, with_attempt
from trainyard.core.waiting import earliest, recheck, says, told_trouble, wait_for, wait_out

Rule = Callable[[Known], Decision | None]

# A remote run that has not ended: phase (which is also the reason) and words for it.
IN_STAGE: dict[Stage, tuple[Phase, str]] = {
    Stage.QUEUED: ("Queued", "waiting on the platform for compute"),
    Stage.BUILDING: ("BuildingEnvironment", "the platform is building the environment"),
    Stage.RUNNING: ("Running", "the code is running"),
}
# Kinds of trouble with a submission, by what mends them.
NEVER_ACCEPTED = frozenset({"Refused", "SubmissionDeleted"})
NEEDS_PERSON = frozenset({"Denied", "IdentityError", "SourceError", "Unauthenticated", "Missing"})
# Attempts that the status keeps, and those of them that keep their tasks: a run can be suspended without end.
ATTEMPTS_KEPT = 16
WITH_TASKS_KEPT = 2


def decide(known: Known) -> Decision:
    """The next status, action and wake-up time of a run. Total: some rule always answers."""
    for rule in RULES:
        decision = rule(known)
        if decision is not None:
            status = decision.status
            if status.phase is not None and status.observed_generation != known.run.generation:
                status = status.model_copy(update={"observed_generation": known.run.generation})
            return Decision(status, decision.action, decision.wake_at, decision.notes, rule.__name__)
    raise AssertionError("the last rule answers always")


def finished(known: Known) -> Decision | None:
    """A final phase stays; the object is let go, so that deleting it needs nobody, and goes when its time is up."""
    run = known.run
    if run.status.phase not in FINAL:
        return None
    return Decision(run.status, RemoveFinalizer()) if run.has_finalizer else retire(known)


def deleting(known: Known) -> Decision | None:
    """Deleting means stopping: the remote run is ended first, unless it may be left or its platform is gone."""
    run = known.run
    if run.deleting_since is None:
        return None
    if not run.has_finalizer:
        return Decision(run.status)
    attempt = live(run.status)
    if attempt is None or run.orphan:
        return Decision(run.status, RemoveFinalizer())
    # From when this process first saw it: an operator that was down has not tried yet.
    seen_at = max(run.deleting_since, known.observed.deletion_seen_at or known.now)
    deadline = seen_at + timedelta(seconds=known.limits.deletion_deadline)
    if known.now >= deadline:
        note = Note("Warning", "RemoteRunLeft", _left(attempt, known.observed.trouble))
        return Decision(run.status, RemoveFinalizer(), notes=(note,))
    return stops.stop_for_deletion(known, attempt, deadline)


def unreadable(known: Known) -> Decision | None:
    """A spec that this version can not read needs a person."""
    if known.run.spec is not None:
        return None
    message = f"the spec can not be read: {known.run.spec_error}. Correct it in a new resource."
    return Decision(enter(known, "Stalled", "InvalidSpec", message))


def stop_requested(known: Known) -> Decision | None:
    """Cancel, suspend and the deadlines are latched into status.stop, once; a suspension may yet become a cancel."""
    run, stop = known.run, known.run.status.stop
    if run.spec is None or (stop is not None and not (stop.reason == "Suspended" and run.spec.cancel)):
        return None
    reason = why_stop(known)
    return None if reason is None else stops.latch_stop(known, reason)


def stopping(known: Known) -> Decision | None:
    """A latched stop is carried through: search, cancel, wait for the platform's word, then the final phase."""
    if known.run.status.stop is None:
        return None
    return stops.carry_out_stop(known)


def collecting(known: Known) -> Decision | None:
    """The live attempt has ended: fetch what it left, then finish or retry."""
    attempt, seen = live(known.run.status), known.observed
    if attempt is None or not (seen.vanished or (seen.remote is not None and seen.remote.stage is Stage.ENDED)):
        return None
    if seen.vanished:
        return ending.vanished(known, attempt)
    result = ending.result_of(known)
    if result is None:
        return wait_out(known) or Decision(known.run.status, Collect())
    return ending.attempt_ended(known, attempt, result)


def following(known: Known) -> Decision | None:
    """The platform has the attempt: show where it is, and have it watched."""
    run, seen = known.run, known.observed
    attempt = live(run.status)
    if attempt is None:
        return None
    if attempt.remote_id is None and (seen.submitted is not None or seen.located is not None):
        return _accepted(known, attempt)
    if attempt.remote_id is None:
        return None
    wake = next_deadline(known)
    if seen.remote is None:
        return Decision(told_trouble(known), Watch(), wake)
    return Decision(_show_remote(known, attempt), Watch(), wake)


def submitting(known: Known) -> Decision | None:
    """The intent is written and no remote id is known: submit with the intent's own token, as often as it takes."""
    attempt = live(known.run.status)
    if attempt is None:
        return None
    trouble = known.observed.trouble
    if trouble is not None and trouble.kind in NEVER_ACCEPTED and trouble.action == Submit.__name__:
        # An earlier submission may have been accepted and its answer lost; then that one is followed.
        looked = trouble.kind == "SubmissionDeleted" or known.observed.searched_at is not None
        return ending.submission_refused(known, attempt, trouble) if looked else Decision(known.run.status, Locate())
    if ending.only_if_there(known.run):
        return _sought(known, attempt)
    if isinstance(known.readiness, Blocked):
        in_the_way: Decision | None = wait_for(known, known.readiness)
    else:
        in_the_way = _changed_since(known, known.readiness, attempt)
    if in_the_way is not None:
        # It may have been accepted just before a crash; then it is followed, whatever became of its references.
        return in_the_way if _searched(known) else Decision(known.run.status, Locate())
    if trouble is None and known.run.status.phase != "Submitting":
        message = f"attempt {attempt.number} is being submitted to {attempt.host}"
        return Decision(enter(known, "Submitting", "Submitting", message))
    return _held_up(known) or Decision(known.run.status, Submit())


def _sought(known: Known, attempt: Attempt) -> Decision:
    """An attempt of an earlier life is looked for and never started: the one before it had been cancelled."""
    if known.observed.searched_at is None:
        return wait_out(known) or Decision(known.run.status, Locate())
    return ending.never_was(known, attempt)


def suspended(known: Known) -> Decision | None:
    """Where nothing lives, suspend means that nothing starts; taking it back makes a new attempt."""
    spec, status = known.run.spec, known.run.status
    if spec is not None and spec.suspend:
        return stops.suspend(known)
    return stops.resume(known) if status.phase == "Suspended" else None


def planned(known: Known) -> Decision | None:
    """A run that is only planned ends when the plan is there, or can not be had."""
    run, found = known.run, known.readiness
    if run.spec is None or not run.spec.plan_only:
        return None
    if isinstance(found, Blocked):
        return None if found.waiting else Decision(enter(known, "Failed", found.reason, found.message))
    missing = [check.name for check in found.plan.checks if check.outcome == "Missing"] if found.plan else []
    message = "nothing was started; status.plan shows what would be sent"
    if missing:
        message += f". Missing: {', '.join(missing)}"
    return Decision(enter(known, "Succeeded", "Planned", message, plan=found.plan))


def blocked(known: Known) -> Decision | None:
    """Something that a new attempt needs is missing: wait for it, and after a while ask for a person."""
    return wait_for(known, known.readiness) if isinstance(known.readiness, Blocked) else None


def backing_off(known: Known) -> Decision | None:
    """A failed attempt is followed by a pause."""
    status, spec = known.run.status, known.run.spec
    if status.retry_at is None:
        return None
    last = newest(status)
    if spec is not None and last is not None and ending.no_longer_retried(status, spec):
        message = f"spec.retry.limit was lowered; attempt {last.number} had failed: {last.message or last.reason}"
        return Decision(enter(known, "Failed", last.reason or "Failed", message, retry_at=None))
    if known.now >= parse(status.retry_at):
        return None
    ready = status.condition("Ready")
    if status.phase != "Pending" or ready is None or ready.reason != "RetryBackoff":
        status = enter(known, "Pending", "RetryBackoff", f"the next attempt is made at {status.retry_at}")
    return Decision(status, wake_at=earliest(parse(status.retry_at or ""), next_deadline(known)))


def intend(known: Known) -> Decision | None:
    """Write down the attempt, complete with its token, before anything is asked of the platform."""
    run, ready = known.run, known.readiness
    if not isinstance(ready, Ready) or run.spec is None:
        return None
    before = newest(run.status)
    changed = _changed_since(known, ready, before) if before is not None else None
    if changed is not None:
        return changed
    if not run.has_finalizer:
        return Decision(run.status, AddFinalizer())
    number = 1 if before is None else before.number + 1
    target = ready.target
    attempt = Attempt(
        number=number,
        submission_token=submission_token(run.namespace, run.name, run.uid, run.spec.submission_key, number),
        platform=target.platform,
        host=target.host,
        principal=target.principal,
        mode=target.mode,
        service_account=target.service_account or None,
        identity=target.identity,
        tenant=target.tenant or None,
        spec_digest=run.spec_digest,
        code_digest=ready.code_digest,
        commit=ready.commit,
        run_as=ready.run_as,
        tasks=planned_tasks(run.spec.tasks, before.tasks if before else [], before.number if before else None),
        intended_at=stamp(known.now),
    )
    identity = RemoteIdentity(
        submitted_as=target.principal,
        mode=target.mode,
        service_account=f"{run.namespace}/{target.service_account}" if target.service_account else None,
    )
    status = enter(
        known,
        "Submitting",
        "Submitting",
        f"attempt {number} is being submitted to {target.host}",
        attempt=number,
        attempts=[*_kept(run.status.attempts), attempt],
        identity=identity,
        retry_at=None,
        remote_id=None,
        url=None,
    )
    return Decision(status)


# The order is part of the meaning; tests/unit/test_decide.py pins it.
RULES: tuple[Rule, ...] = (
    finished,  # nothing moves a run out of a final phase
    deleting,  # before everything else: a deleted run starts nothing and ends what lives
    unreadable,  # no rule below can work without a spec
    stop_requested,  # a person's cancel and the deadlines go before progress
    stopping,  # a latched stop is carried through whatever else happens
    collecting,  # an ended attempt is settled before its references are looked at
    following,  # a live attempt is followed even when its workspace has gone
    submitting,  # an intent without a remote id is submitted again, with the same token
    suspended,  # nothing lives: a suspended run needs no references, and waits without a clock
    planned,  # a plan needs what an attempt needs, and ends before there is one
    blocked,  # only now does a new attempt need its references
    backing_off,  # and its pause to be over
    intend,  # then it is written down
)


def _accepted(known: Known, attempt: Attempt) -> Decision:
    submitted, found = known.observed.submitted, known.observed.remote
    if submitted is None:
        assert found is not None  # noqa: S101  (a search that located a run has seen it)
        submitted = Submitted(found.remote_id, found.mlflow_run_id, found.started_at or known.now)
    attempts = with_attempt(
        known.run.status,
        remote_id=submitted.remote_id,
        mlflow_run_id=submitted.mlflow_run_id,
        submitted_at=stamp(submitted.at),
    )
    message = f"attempt {attempt.number} is remote run {submitted.remote_id} on {attempt.host}"
    status = enter(known, "Queued", "Submitted", message, attempts=attempts, remote_id=submitted.remote_id)
    note = Note("Normal", "Submitted", f"{message}, submitted as {attempt.principal}")
    return Decision(status, Watch(), next_deadline(known), (note,))


def _show_remote(known: Known, attempt: Attempt) -> MLTrainingRunStatus:
    """The status for a remote run that has not ended. Written only when the stage or the trouble changed."""
    remote, run = known.observed.remote, known.run
    assert remote is not None  # noqa: S101  (the caller looked)
    told = told_trouble(known)
    trouble = known.observed.trouble
    if trouble is not None and (told is not run.status or says(run.status, trouble)):
        return told
    phase, message = IN_STAGE.get(remote.stage, (_phase_so_far(run.status), ""))
    reason: str = phase
    if remote.stage is Stage.UNKNOWN:
        reason = "RemoteStateUnknown"
        message = (
            f"the platform reports state {remote.state!r}, which this version of Trainyard does not know; "
            "it is watched and counted neither as done nor as failed"
        )
    shown: dict[str, object] = {"remote_state": remote.state, "url": remote.url or attempt.url}
    if remote.stage is Stage.RUNNING and attempt.started_at is None:
        shown["started_at"] = stamp(remote.started_at or known.now)
    if built(run.status, remote):
        shown["queued_at"] = stamp(known.now)
    if attempt.adopted is None and ending.adopted(attempt, remote):
        shown["adopted"] = True
    current = run.status.condition("Reconciling")
    same = run.status.phase == phase and current is not None and current.reason == reason
    if same and (reason != "RemoteStateUnknown" or attempt.remote_state == remote.state):
        return run.status if run.status.observed_generation == run.generation else enter(known, phase, reason, message)
    return enter(
        known,
        phase,
        reason,
        f"attempt {attempt.number}: {message}",
        attempts=with_attempt(run.status, **shown),
        url=shown["url"],
        identity=ending.identity_seen(run.status, attempt, remote),
    )


def _phase_so_far(status: MLTrainingRunStatus) -> Phase:
    return "Running" if status.phase == "Running" else "Queued"


def _searched(known: Known) -> bool:
    """Whether this process has looked for the attempt's remote run, or has just tried to."""
    trouble = known.observed.trouble
    trying = trouble is not None and trouble.action == "Locate" and known.now < trouble.retry_at
    return trying or known.observed.searched_at is not None


def _held_up(known: Known) -> Decision | None:
    """Trouble with a submission: wait until it may be tried again. What time alone will not mend asks for a person."""
    trouble = known.observed.trouble
    if trouble is None or trouble.kind not in NEEDS_PERSON or known.now >= trouble.retry_at:
        return wait_out(known)
    if trouble.waiting and (known.now - trouble.since).total_seconds() < known.limits.identity_may_take:
        return wait_out(known)
    current = known.run.status.condition("Stalled")
    told = known.run.status.phase == "Stalled" and current is not None and current.reason == trouble.reason
    wake = earliest(trouble.retry_at, next_deadline(known))
    if told:
        return Decision(known.run.status, wake_at=wake)
    note = Note("Warning", trouble.reason, trouble.message)
    return Decision(enter(known, "Stalled", trouble.reason, trouble.message), wake_at=wake, notes=(note,))


def _changed_since(known: Known, ready: Ready, attempt: Attempt) -> Decision | None:
    """Later attempts run what the first one ran; a spec or source that has changed needs a person."""
    if attempt.spec_digest != known.run.spec_digest:
        what = "the spec"
    elif attempt.code_digest != ready.code_digest:
        what = "the source code"
    else:
        return None
    message = f"{what} is no longer what attempt {attempt.number} was made from; create a new run to run the new one"
    return Decision(enter(known, "Stalled", "SpecChanged", message), wake_at=recheck(known))


def _kept(attempts: list[Attempt]) -> list[Attempt]:
    """The newest attempts, leaving room for one more; of older ones, tasks are forgotten."""
    kept = attempts[-(ATTEMPTS_KEPT - 1) :]
    older, newer = kept[: -(WITH_TASKS_KEPT - 1)], kept[-(WITH_TASKS_KEPT - 1) :]
    return [*(each.model_copy(update={"tasks": []}) if each.tasks else each for each in older), *newer]


def _left(attempt: Attempt, trouble: Trouble | None) -> str:
    name = f"remote run {attempt.remote_id}" if attempt.remote_id else f"attempt {attempt.number}"
    why = f": {trouble.message}" if trouble else ""
    return (
        f"{name} on {attempt.host} could not be stopped in time and may still be running{why}. Stop it there by hand."
    )
