"""The tasks of a run of several, from attempt to attempt: which are done, and which have to run again. Pure.

A later attempt runs what has not succeeded, and everything that depends on that. What is left out of it carries, in its
status, the number of the attempt that settled it.
"""

from collections.abc import Collection, Iterable, Sequence

from trainyard.api.training_run import Retry, Task, TaskStatus
from trainyard.core.remote import End, RemoteTask
from trainyard.core.times import stamp
from trainyard.core.transition import clip

SUCCEEDED = End.SUCCEEDED.value
SKIPPED = "Skipped"
MESSAGE_LIMIT = 500


def planned_tasks(tasks: Sequence[Task], before: Sequence[TaskStatus], attempt: int | None) -> list[TaskStatus]:
    """The tasks of a new attempt. `before` are those of the attempt numbered `attempt`; empty for the first."""
    known = {each.name: each for each in before}
    again = _to_run_again(tasks, known)
    return [_planned(task.name, known.get(task.name), task.name in again, attempt) for task in tasks]


def seen_tasks(before: Sequence[TaskStatus], found: Iterable[RemoteTask]) -> list[TaskStatus]:
    """The tasks of an attempt as the platform tells of them at its end; what it does not tell of stays."""
    told = {each.name: each for each in found}
    return [_seen(each, told[each.name]) if each.name in told else each for each in before]


def failed_tasks(tasks: Iterable[TaskStatus]) -> list[TaskStatus]:
    """The tasks of this attempt that ran and did not succeed."""
    return [each for each in tasks if each.attempt is None and each.ended_at and each.state not in (SUCCEEDED, SKIPPED)]


def unforgiven(tasks: Sequence[Task], failed: Sequence[TaskStatus], seen: Sequence[TaskStatus]) -> list[TaskStatus]:
    """The failed tasks that nothing in the graph does without.

    A platform may call a run well whose last tasks went well. But a clean-up that always runs does not mend a training;
    only a task that asks for one success among several, and had it, says that the other failures do not matter.
    """
    states = {each.name: each.state for each in seen}
    forgiving = [task for task in tasks if task.run_if == "AtLeastOneSucceeded" and states.get(task.name) == SUCCEEDED]
    left = not_forgiven([each.name for each in failed], [task.depends_on for task in forgiving])
    return [each for each in failed if each.name in left]


def not_forgiven(failed: Iterable[str], forgiving: Sequence[Collection[str]]) -> set[str]:
    """Those of the failed tasks that no forgiving task depends on; `forgiving` holds what each of these depends on.

    Forgiving is a task that asked for one success among several, and succeeded. Platforms ask this as well: a model of
    a run that has failed by it must not get its alias.
    """
    return {name for name in failed if not any(name in names for names in forgiving)}


def may_run_again(
    tasks: Sequence[Task], failed: Sequence[TaskStatus], retry: Retry, kinds: dict[str, frozenset[End]]
) -> bool:
    """Whether every failed task may be tried once more. `kinds` says, for each value of `when`, which ends are."""
    specs = {task.name: task for task in tasks}
    return bool(failed) and all(_may(each, specs.get(each.name), retry, kinds) for each in failed)


def _may(failed: TaskStatus, spec: Task | None, retry: Retry, kinds: dict[str, frozenset[End]]) -> bool:
    own = spec.retry if spec is not None else None
    limit = own.limit if own is not None and own.limit is not None else retry.limit
    when = own.when if own is not None and own.when is not None else retry.when
    return failed.state in {end.value for end in kinds[when]} and (failed.failures or 0) <= limit


def _to_run_again(tasks: Sequence[Task], known: dict[str, TaskStatus]) -> set[str]:
    again = {task.name for task in tasks if _state(known, task.name) not in (SUCCEEDED, SKIPPED)}
    while True:
        more = {task.name for task in tasks if task.name not in again and again & set(task.depends_on)}
        if not more:
            break
        again |= more
    # It can not come to run any more: what it waits for has succeeded already.
    never = {
        task.name
        for task in tasks
        if task.run_if == "AllFailed" and any(d not in again and _state(known, d) == SUCCEEDED for d in task.depends_on)
    }
    return again - {name for name in never if _state(known, name) == SKIPPED}


def _state(known: dict[str, TaskStatus], name: str) -> str:
    return known[name].state if name in known else ""


def _planned(name: str, before: TaskStatus | None, again: bool, attempt: int | None) -> TaskStatus:
    if before is None:
        return TaskStatus(name=name, state="Pending")
    if again:
        return TaskStatus(name=name, state="Pending", failures=before.failures)
    return before.model_copy(update={"attempt": before.attempt or attempt})


def _seen(before: TaskStatus, found: RemoteTask) -> TaskStatus:
    if before.attempt is not None:
        return before
    # A task that was cancelled, by a suspension or a person, has not failed.
    ran_badly = found.end not in (None, End.SUCCEEDED, End.CANCELLED) and not found.skipped
    state = SKIPPED if found.skipped else found.end.value if found.end is not None else found.state[:64] or "Unknown"
    return before.model_copy(
        update={
            "state": state,
            "remote_id": found.remote_id or None,
            "started_at": stamp(found.started_at) if found.started_at else None,
            "ended_at": stamp(found.ended_at) if found.ended_at else None,
            "message": clip(found.message, MESSAGE_LIMIT) or None,
            "failures": (before.failures or 0) + 1 if ran_badly else before.failures,
        }
    )
