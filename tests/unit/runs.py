"""A run as `decide` sees it, built in a line, and the loop of decide, write, act that the controller goes through."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from trainyard.api.training_run import MLTrainingRunSpec, MLTrainingRunStatus
from trainyard.core.actions import Decision
from trainyard.core.decide import decide
from trainyard.core.remote import End, Observed, RemoteRun, Result, Stage, Submitted, Trouble
from trainyard.core.snapshot import Blocked, Known, Limits, Ready, RunSnapshot, Target
from trainyard.core.tokens import spec_digest

START = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)
TARGET = Target("databricks", "https://dbc.example", "app-id", "federated", "trainer")
READY = Ready(TARGET, "sha256:code")


def spec(**changes: Any) -> dict[str, Any]:
    return {
        "workspaceRef": {"name": "dbx"},
        "code": {"inline": "print(1)"},
        "compute": {"class": "small"},
        **changes,
    }


class Run:
    """A run that lives through decisions. `turn` writes what was decided and returns the decision."""

    def __init__(self, limits: Limits | None = None, **spec_changes: Any) -> None:
        self.wire = spec(**spec_changes)
        self.status = MLTrainingRunStatus()
        self.now = START
        self.finalizer = False
        self.deleting: datetime | None = None
        self.generation = 1
        self.readiness: Ready | Blocked = READY
        self.observed = Observed()
        self.limits = limits or Limits()
        self.unreadable = ""
        self.tracked_by: str | None = None

    def known(self) -> Known:
        snapshot = RunSnapshot(
            namespace="team",
            name="iris",
            uid="5b3c",
            generation=self.generation,
            deleting_since=self.deleting,
            has_finalizer=self.finalizer,
            spec=None if self.unreadable else MLTrainingRunSpec.model_validate(self.wire),
            spec_error=self.unreadable,
            spec_digest=spec_digest(self.wire),
            status=self.status,
            orphan=self.wire.get("deletionPolicy") == "Orphan",
            tracked_by=self.tracked_by,
        )
        number = self.status.attempts[-1].number if self.status.attempts else 0
        if self.observed.attempt != number:
            self.observed = Observed(attempt=number)
        if self.deleting is not None and self.observed.deletion_seen_at is None:
            self.observed = replace(self.observed, deletion_seen_at=self.now)
        return Known(snapshot, self.readiness, self.observed, self.limits, self.now)

    def turn(self) -> Decision:
        decision = decide(self.known())
        self.status = decision.status
        return decision

    def later(self, seconds: float) -> "Run":
        self.now += timedelta(seconds=seconds)
        return self

    def see(self, **changes: Any) -> "Run":
        self.known()
        self.observed = replace(self.observed, **changes)
        return self

    def edit(self, **changes: Any) -> "Run":
        self.wire.update(changes)
        self.generation += 1
        return self

    def trouble(
        self, kind: str, *, reason: str = "", pause: float = 2, waiting: bool = False, action: str = "Submit"
    ) -> "Run":
        before = self.observed.trouble
        since = before.since if before else self.now
        retry_at = self.now + timedelta(seconds=pause)
        return self.see(trouble=Trouble(kind, reason or kind, "no answer", since, retry_at, waiting, action))

    # Ways to get somewhere.

    def intended(self) -> "Run":
        self.finalizer = True
        assert self.turn().rule == "intend"
        return self

    def submitted(self, remote_id: str = "9007199254740993") -> "Run":
        self.intended().see(submitted=Submitted(remote_id, "mlflow-1", self.now))
        assert self.turn().rule == "following"
        return self

    def running(self) -> "Run":
        self.submitted().remote(Stage.RUNNING, "RUNNING")
        self.turn()
        assert self.status.phase == "Running"
        return self

    def remote(self, stage: Stage, state: str = "", end: End | None = None, message: str = "") -> "Run":
        seen = RemoteRun("9007199254740993", stage, state or stage.value, end, message, url="https://dbc.example/run")
        return self.see(remote=seen, trouble=None)

    def ended(self, end: End, result: Result | None = None, message: str = "") -> "Run":
        self.remote(Stage.ENDED, "TERMINATED", end, message)
        return self.see(result=result or Result())

    @property
    def reason(self) -> str:
        condition = self.status.condition("Ready")
        assert condition is not None
        return condition.reason

    @property
    def message(self) -> str:
        condition = self.status.condition("Ready")
        assert condition is not None
        return condition.message
