"""Every situation with each change of the spec and each news from the platform, and what `decide` makes of it.

Used by test_decide_table.py, which compares with decide_table.txt. After a change that is meant,
write the file anew with

    python -m tests.unit.decide_cells > tests/unit/decide_table.txt

and read the difference: each line is a promise to somebody.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from tests.unit.runs import READY, START, Run
from trainyard.core.actions import Decision
from trainyard.core.conditions import FINAL
from trainyard.core.remote import End, RemoteRun, Stage, Submitted
from trainyard.core.snapshot import Blocked

ID = "9007199254740993"

Make = Callable[[], Run]
Change = Callable[[Run], Run]


def _blocked(waiting: bool) -> Run:
    run = Run()
    run.readiness = Blocked("CodeNotFound", "no ConfigMap", waiting)
    run.turn()
    run.readiness = READY
    return run


def _backing_off() -> Run:
    run = Run().running().ended(End.INFRASTRUCTURE)
    run.turn()
    return run


def _seen(stage: Stage) -> Run:
    run = Run().submitted().remote(stage)
    run.turn()
    return run


def _stopping(**change: bool) -> Run:
    run = Run().running().edit(**change)
    run.turn()
    return run


def _suspended() -> Run:
    run = _stopping(suspend=True).ended(End.CANCELLED)
    run.turn()
    return run


def _ended(end: End) -> Run:
    run = Run(retry={"limit": 0}).running().ended(end)
    run.turn()
    run.finalizer = False
    return run


def _deleting() -> Run:
    run = Run().running()
    run.deleting = run.now
    run.turn()
    return run


SITUATIONS: dict[str, Make] = {
    "new": Run,
    "Pending, waiting": lambda: _blocked(waiting=True),
    "Pending, backing off": _backing_off,
    "Stalled": lambda: _blocked(waiting=False),
    "Submitting": lambda: Run().intended(),
    "Queued, not looked at": lambda: Run().submitted(),
    "Queued": lambda: _seen(Stage.QUEUED),
    "BuildingEnvironment": lambda: _seen(Stage.BUILDING),
    "Running": lambda: _seen(Stage.RUNNING),
    "Cancelling": lambda: _stopping(cancel=True),
    "Cancelling to suspend": lambda: _stopping(suspend=True),
    "Cancelling to delete": _deleting,
    "Suspended": _suspended,
    "Succeeded": lambda: _ended(End.SUCCEEDED),
    "Failed": lambda: _ended(End.CODE),
    "TimedOut": lambda: _ended(End.TIMED_OUT),
    "Cancelled": lambda: _ended(End.CANCELLED),
}


def _delete(run: Run) -> Run:
    run.deleting = run.deleting or run.now
    return run


def _unreadable(run: Run) -> Run:
    run.unreadable = "spec.code: no way to name code is known"
    return run


def _other_code(run: Run) -> Run:
    run.readiness = replace(READY, code_digest="sha256:other")
    return run


def _missing(run: Run) -> Run:
    run.readiness = Blocked("WorkspaceNotFound", "no workspace", waiting=True)
    return run


CHANGES: dict[str, Change] = {
    "-": lambda run: run,
    "cancel": lambda run: run.edit(cancel=True),
    "suspend": lambda run: run.edit(suspend=True),
    "resume": lambda run: run.edit(suspend=False),
    "limit 0": lambda run: run.edit(retry={"limit": 0}),
    "limit 9": lambda run: run.edit(retry={"limit": 9}),
    "ttl 0": lambda run: run.edit(ttlSecondsAfterFinished=0),
    "orphan": lambda run: run.edit(deletionPolicy="Orphan"),
    "delete": _delete,
    "delete, orphan": lambda run: _delete(run.edit(deletionPolicy="Orphan")),
    "other code": _other_code,
    "no workspace": _missing,
    "unreadable": _unreadable,
}


def _at(stage: Stage) -> Change:
    return lambda run: run.remote(stage, stage.value)


def _end(end: End) -> Change:
    return lambda run: run.ended(end)


def _trouble(kind: str, reason: str, action: str) -> Change:
    return lambda run: run.trouble(kind, reason=reason, action=action)


EVENTS: dict[str, Change] = {
    "-": lambda run: run,
    "accepted": lambda run: run.see(submitted=Submitted(ID, "mlflow-1", run.now)),
    "found by search": lambda run: run.see(
        searched_at=run.now, located=ID, remote=RemoteRun(ID, Stage.RUNNING, "RUNNING")
    ),
    "not found, just now": lambda run: run.see(searched_at=run.now),
    "not found, for sure": lambda run: run.later(40).see(searched_at=run.now),
    "seen queued": _at(Stage.QUEUED),
    "seen building": _at(Stage.BUILDING),
    "seen running": _at(Stage.RUNNING),
    "seen unknown": _at(Stage.UNKNOWN),
    "over, in words unknown": lambda run: run.see(remote=RemoteRun(ID, Stage.UNKNOWN, "DONE", over=True)),
    "ended, not collected": lambda run: run.remote(Stage.ENDED, "TERMINATED", End.CODE),
    **{f"ended {end.value}": _end(end) for end in End},
    "vanished": lambda run: run.see(vanished=True),
    "unreachable": _trouble("Unreachable", "PlatformUnreachable", "Watch"),
    "submit unreachable": _trouble("Unreachable", "PlatformUnreachable", "Submit"),
    "submit denied": _trouble("Denied", "PermissionDenied", "Submit"),
    "submit refused": _trouble("Refused", "RequestRefused", "Submit"),
    "token deleted": _trouble("SubmissionDeleted", "RemoteRunDeleted", "Submit"),
    "cancel refused": _trouble("Denied", "PermissionDenied", "Cancel"),
    "an hour passes": lambda run: run.later(3601),
    "two days pass": lambda run: run.later(2 * 86_400),
}

# News that comes only from asking: about a submission, a remote run that is known, or a stop.
OF_A_SUBMISSION = {
    "accepted",
    "found by search",
    "not found, just now",
    "not found, for sure",
    "submit unreachable",
    "submit denied",
    "submit refused",
    "token deleted",
}
OF_TIME = {"-", "an hour passes", "two days pass"}
STOPPING = {"Cancelling", "Cancelling to suspend", "Cancelling to delete"}
NOTHING_LIVES = {"new", "Pending, waiting", "Pending, backing off", "Stalled", "Suspended", *FINAL}


def impossible(situation: str, change: str, event: str) -> str | None:
    """Why the three can not come together, or None."""
    if situation in NOTHING_LIVES and event not in OF_TIME:
        return "nothing is asked where nothing lives"
    if situation == "Submitting" and event not in OF_A_SUBMISSION | OF_TIME:
        return "without a remote id there is nothing to look at"
    if situation not in NOTHING_LIVES | {"Submitting"} and event in OF_A_SUBMISSION:
        return "a known remote run is not submitted again"
    if event == "cancel refused" and situation not in STOPPING:
        return "no cancel is sent but to stop"
    if change == "resume" and situation not in ("Suspended", "Cancelling to suspend"):
        return "it is not suspended"
    if situation == "Cancelling" and change == "suspend":
        return None  # allowed, and without effect: cancel is latched
    if situation == "Cancelling to delete" and change in ("delete", "delete, orphan"):
        return "it is being deleted already"
    return None


@dataclass(frozen=True, slots=True)
class Cell:
    """One place of the table, with the run after the decision and the decision itself."""

    situation: str
    change: str
    event: str
    run: Run
    decision: Decision

    @property
    def words(self) -> str:
        """Phase (with the reason, where it is another word), then the action, then ~ if the clock wakes it."""
        phase = self.run.status.phase or "none"
        reason = self.run.reason if self.run.status.phase else ""
        action = type(self.decision.action).__name__ if self.decision.action is not None else ""
        told = phase if reason in ("", phase) else f"{phase}/{reason}"
        return " ".join(part for part in (told, action, "~" if self.decision.wake_at else "") if part)


def cells() -> Iterator[Cell]:
    """Every cell that can be."""
    for situation, make in SITUATIONS.items():
        for change, changed in CHANGES.items():
            for event, happens in EVENTS.items():
                if impossible(situation, change, event) is None:
                    run = happens(changed(make()))
                    yield Cell(situation, change, event, run, _decided(run))


def _decided(run: Run) -> Decision:
    """Decides, and decides again after what was written, as the controller does, until there is something to do."""
    for _ in range(8):
        before = run.status
        decision = run.turn()
        if decision.action is not None or decision.status == before:
            return decision
    raise AssertionError(f"writes without end: {run.status.phase}/{run.reason} at {run.now - START}")


def table() -> str:
    """The file: changes that make no difference stand together, and so do news with the same outcome."""
    grouped: dict[tuple[str, str], dict[str, list[str]]] = {}
    for cell in cells():
        grouped.setdefault((cell.situation, cell.change), {}).setdefault(cell.words, []).append(cell.event)
    alike: dict[tuple[str, str], list[str]] = {}
    for (situation, change), outcomes in grouped.items():
        told = "\n".join(f"    {words:<48} <- {'; '.join(events)}" for words, events in outcomes.items())
        alike.setdefault((situation, told), []).append(change)
    return "".join(f"{situation} + {', or '.join(changes)}\n{told}\n" for (situation, told), changes in alike.items())


if __name__ == "__main__":
    print(table(), end="")
