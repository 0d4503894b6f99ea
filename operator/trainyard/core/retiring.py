"""What happens to a finished run once spec.ttlSecondsAfterFinished has passed. Used by `core.decide` only; pure.

First its uploads go, then the object; but an object that Argo CD or Flux tracks stays, or they would make it again and
the training would run, and cost, once more.
"""

from datetime import timedelta

from trainyard.api.training_run import Cleanup
from trainyard.core.actions import CleanUp, Decision, DeleteRun, Note
from trainyard.core.snapshot import Known
from trainyard.core.times import parse, stamp
from trainyard.core.transition import clip
from trainyard.core.waiting import PASSING


def retire(known: Known) -> Decision:
    """The decision for a run in a final phase that nothing holds."""
    run = known.run
    ttl = run.spec.ttl_seconds_after_finished if run.spec is not None else None
    if ttl is None or run.deleting_since is not None or run.status.cleanup is not None or run.status.ended_at is None:
        return Decision(run.status)
    due = parse(run.status.ended_at) + timedelta(seconds=ttl)
    if known.now < due:
        return Decision(run.status, wake_at=due)
    trouble, told = known.observed.trouble, known.observed.cleaned
    if run.status.attempts and told is None:
        if trouble is None or trouble.action != CleanUp.__name__:
            return Decision(run.status, CleanUp())
        lasted = (known.now - trouble.since).total_seconds()
        passing = trouble.reason in PASSING
        if lasted < (known.limits.unreachable_may_take if passing else known.limits.cleaning_may_take):
            again = known.now >= trouble.retry_at
            return Decision(run.status, CleanUp() if again else None, None if again else trouble.retry_at)
    if run.tracked_by is None:
        return Decision(run.status, DeleteRun())
    reason = "UploadsRemoved" if told is not None or not run.status.attempts else "UploadsLeft"
    what = told or (trouble.message if trouble is not None else "nothing had been uploaded")
    message = clip(f"{what}. The resource is kept, as {run.tracked_by} tracks it and would make it again.")
    cleanup = Cleanup(at=stamp(known.now), reason=reason, message=message)
    note = Note("Normal" if reason == "UploadsRemoved" else "Warning", reason, clip(message, 900))
    return Decision(run.status.model_copy(update={"cleanup": cleanup}), notes=(note,))
