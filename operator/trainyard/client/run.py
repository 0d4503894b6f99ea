"""What the client hands out: a run, its log and its events as they were read at one moment. Typed, frozen, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from trainyard.api.run_log import MLRunLogSpec
from trainyard.api.training_run import Attempt, MLTrainingRunSpec, MLTrainingRunStatus
from trainyard.client.resource import Resource
from trainyard.core.conditions import FINAL


@dataclass(frozen=True, repr=False, eq=False)
class Run(Resource):
    """An MLTrainingRun as it was read. Read it again to see what has become of it.

    `spec` and `status` are parsed when they are asked for, and raise pydantic's ValidationError for an object that
    only a newer version of Trainyard can read; everything else works for those as well.
    """

    KIND = "MLTrainingRun"
    PLURAL = "mltrainingruns"
    NOUN = "run"

    @cached_property
    def spec(self) -> MLTrainingRunSpec:
        """What was asked for."""
        return MLTrainingRunSpec.model_validate(self.resource.get("spec") or {})

    @cached_property
    def status(self) -> MLTrainingRunStatus:
        """What happened, as far as the operator has written it."""
        return MLTrainingRunStatus.model_validate(self._status)

    @property
    def finished(self) -> bool:
        """Whether the phase is final: Succeeded, Failed, TimedOut or Cancelled. A final phase never changes."""
        return self.phase in FINAL

    @property
    def succeeded(self) -> bool:
        """Whether it ended well."""
        return self.phase == "Succeeded"

    @property
    def failed(self) -> bool:
        """Whether it ended otherwise: Failed, TimedOut or Cancelled, as the condition Failed has it."""
        return self.finished and not self.succeeded

    @property
    def url(self) -> str | None:
        """The newest attempt's page on the platform."""
        return self._status.get("url")

    @property
    def metrics(self) -> Mapping[str, float]:
        """Last value of each metric. NaN and infinities are told as such."""
        return {name: float(value) for name, value in (self._status.get("metrics") or {}).items()}

    @property
    def newest_attempt(self) -> int | None:
        """Number of the newest attempt; None before the first."""
        return self._status.get("attempt")

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts that the status still lists, oldest first."""
        return tuple(self.status.attempts)

    def attempt(self, number: int | None = None) -> Attempt | None:
        """The attempt of that number, or the newest; None if the status does not list it."""
        if number is None:
            return self.attempts[-1] if self.attempts else None
        return next((a for a in self.attempts if a.number == number), None)


@dataclass(frozen=True)
class RunLog:
    """What one attempt printed, as the operator kept it."""

    name: str
    spec: MLRunLogSpec


@dataclass(frozen=True)
class Event:
    """A Kubernetes Event about a run or a deployment."""

    at: datetime | None
    type: str
    reason: str
    message: str
    count: int = 1
