"""A platform and a controller in a few lines, to drive `decide` through anything that can happen to a run.

The platform keeps the one promise that exactly-once stands on: a submission token never starts two runs. The controller
does what controllers/runs.py does: decide, write, act, remember; and it may crash, lose answers and lose its memory at
any point.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from tests.unit.runs import READY, Run
from trainyard.core.actions import (
    AddFinalizer,
    Cancel,
    CleanUp,
    Collect,
    Decision,
    DeleteRun,
    Locate,
    RemoveFinalizer,
    Submit,
    Watch,
)
from trainyard.core.conditions import FINAL
from trainyard.core.remote import End, Observed, RemoteRun, Result, Stage, Submitted

How = Literal["answered", "answer lost", "never arrived", "crashed after", "refused"]


@dataclass
class Paid:
    """A remote run: somebody pays for it until it has ended."""

    remote_id: str
    stage: Stage = Stage.QUEUED
    end: End | None = None
    told_to_stop: bool = False  # it ends some time later, or even well before that

    @property
    def live(self) -> bool:
        return self.end is None


class World:
    """One resource, one platform, one controller."""

    def __init__(self, **spec: object) -> None:
        self.run = Run(**spec)  # type: ignore[arg-type]
        self.paid: dict[str, Paid] = {}  # by submission token
        self.gone: set[str] = set()  # tokens whose runs somebody deleted on the platform
        self.exists = True
        self.last: Decision | None = None

    # What is looked at.

    @property
    def live(self) -> list[Paid]:
        return [each for each in self.paid.values() if each.live]

    @property
    def newest(self) -> Paid | None:
        attempts = self.run.status.attempts
        return self.paid.get(attempts[-1].submission_token) if attempts else None

    # What the platform does.

    def submit(self, token: str) -> Paid:
        if token not in self.paid:
            self.paid[token] = Paid(str(1000 + len(self.paid)))
        return self.paid[token]

    def vanish(self) -> None:
        """Somebody deletes the newest remote run on the platform, which ends it."""
        attempts = self.run.status.attempts
        if self.newest is not None:
            self.newest.end = self.newest.end or End.CANCELLED
            self.gone.add(attempts[-1].submission_token)

    # What the controller does.

    def step(self, how: How = "answered") -> Decision:
        """One decision with its action."""
        decision = self.last = self.run.turn()
        match decision.action:
            case AddFinalizer():
                self.run.finalizer = True
            case RemoveFinalizer():
                self.run.finalizer = False
            case Submit() | Locate() | Watch() | Cancel() | Collect() | CleanUp():
                self._ask(decision.action, how)
            case DeleteRun():
                self.exists = False
            case None:
                pass
        if self.run.deleting is not None and not self.run.finalizer:
            self.exists = False
        return decision

    def restart(self) -> None:
        """Everything that is only in memory is lost."""
        self.run.observed = Observed(attempt=self.run.observed.attempt)

    def _ask(self, action: Submit | Locate | Watch | Cancel | Collect | CleanUp, how: How) -> None:
        name = type(action).__name__
        if how == "never arrived":
            self.run.trouble("Unreachable", reason="PlatformUnreachable", action=name)
        elif how == "refused":
            self.run.trouble("Denied", reason="PermissionDenied", action=name)
        elif how == "answer lost":
            self._effect(action, told=False)
            self.run.trouble("Unreachable", reason="PlatformUnreachable", action=name)
        else:
            self._effect(action, told=how == "answered")
            if how == "crashed after":
                self.restart()

    def _effect(self, action: Submit | Locate | Watch | Cancel | Collect | CleanUp, *, told: bool) -> None:
        run, attempt = self.run, self.run.status.attempts[-1]
        token = attempt.submission_token
        found = None if token in self.gone else self.paid.get(token)
        learned: dict[str, object] = {}
        match action:
            case Submit() if token in self.gone:
                if told:
                    run.trouble("SubmissionDeleted", reason="RemoteRunDeleted")
                return
            case Submit():
                learned = {"submitted": Submitted(self.submit(token).remote_id, "mlflow", run.now)}
            case Locate():
                located = found.remote_id if found else None
                learned = {"searched_at": run.now, "located": located, "remote": self._seen(found) if found else None}
            case Watch():
                learned = {"vanished": True} if token in self.gone else {"remote": self._seen(found)} if found else {}
            case Cancel() if token in self.gone:
                learned = {"vanished": True}
            case Cancel():
                if found is not None:
                    found.told_to_stop = True
                learned = {"cancel_sent_at": run.now}
            case Collect():
                learned = {"result": Result()}
            case CleanUp():
                learned = {"cleaned": "removed"}
        if told:
            run.see(**learned, trouble=None)

    def _seen(self, paid: Paid) -> RemoteRun:
        stage = Stage.ENDED if paid.end is not None else paid.stage
        return RemoteRun(paid.remote_id, stage, stage.value, paid.end)

    def calm(self) -> None:
        """From here on everything works, everybody leaves the run alone, and what runs ends well."""
        self.run.readiness = READY
        if self.run.wire.get("suspend"):
            self.run.edit(suspend=False)

    def settle(self, *, well: bool = True, rounds: int = 300) -> None:
        """Lets time pass until the run is final, suspended as asked, or its object is gone.

        What was told to stop stops; other remote runs end well if `well`, or else go on. Raises AssertionError when no
        end comes.
        """
        asked = bool(self.run.wire.get("suspend"))
        for _ in range(rounds):
            final = self.run.status.phase in FINAL and not self.run.finalizer
            if not self.exists or final or (asked and self.run.status.phase == "Suspended"):
                return
            before = self.run.status
            decision = self.step()
            for each in self.live:
                each.end = End.CANCELLED if each.told_to_stop else End.SUCCEEDED if well else None
            if (decision.action is None and self.run.status == before) or isinstance(decision.action, Watch):
                wake = decision.wake_at
                soon = self.run.now + timedelta(seconds=10)
                self.run.now = max(self.run.now, min(wake, soon) if wake else soon)
        raise AssertionError(f"no end after {rounds} rounds: {self.run.status.phase}, {self.last}")
