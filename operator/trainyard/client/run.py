"""What the client hands out: a run, its log and its events as they were read at one moment. Typed, frozen, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from trainyard.api.run_log import MLRunLogSpec
from trainyard.api.training_run import Attempt, MLTrainingRunSpec, MLTrainingRunStatus
from trainyard.core.conditions import FINAL
from trainyard.core.times import parse


@dataclass(frozen=True)
class Run:
    """An MLTrainingRun as it was read. Read it again to see what has become of it.

    `spec` and `status` are parsed when they are asked for, and raise pydantic's ValidationError for an object that
    only a newer version of Trainyard can read; everything else works for those as well.
    """

    resource: Mapping[str, Any] = field(repr=False)
    """The object as the API server gave it."""

    @property
    def _meta(self) -> Mapping[str, Any]:
        meta: Mapping[str, Any] = self.resource["metadata"]
        return meta

    @property
    def _status(self) -> Mapping[str, Any]:
        return self.resource.get("status") or {}

    def __repr__(self) -> str:
        return f"Run({self.namespace}/{self.name}, {self.phase or 'new'})"

    def __hash__(self) -> int:
        return hash((self.uid, self.version))

    @property
    def name(self) -> str:
        """metadata.name."""
        return str(self._meta["name"])

    @property
    def namespace(self) -> str:
        """metadata.namespace."""
        return str(self._meta["namespace"])

    @property
    def uid(self) -> str:
        """metadata.uid; another run of the same name has another one."""
        return str(self._meta["uid"])

    @property
    def version(self) -> str:
        """metadata.resourceVersion: changes with every write."""
        return str(self._meta["resourceVersion"])

    @property
    def labels(self) -> Mapping[str, str]:
        """metadata.labels."""
        return self._meta.get("labels") or {}

    @property
    def annotations(self) -> Mapping[str, str]:
        """metadata.annotations."""
        return self._meta.get("annotations") or {}

    @property
    def created_at(self) -> datetime:
        """When the resource was made."""
        return parse(self._meta["creationTimestamp"])

    @property
    def deleting(self) -> bool:
        """Whether it is being deleted."""
        return "deletionTimestamp" in self._meta

    @cached_property
    def spec(self) -> MLTrainingRunSpec:
        """What was asked for."""
        return MLTrainingRunSpec.model_validate(self.resource.get("spec") or {})

    @cached_property
    def status(self) -> MLTrainingRunStatus:
        """What happened, as far as the operator has written it."""
        return MLTrainingRunStatus.model_validate(self._status)

    @property
    def phase(self) -> str | None:
        """One word for where it is; None until the operator has seen it."""
        phase = self._status.get("phase")
        return None if phase is None else str(phase)

    @property
    def reason(self) -> str | None:
        """Stable CamelCase word that says why it is in that phase."""
        return self._ready().get("reason")

    @property
    def message(self) -> str | None:
        """The sentence for people that goes with the reason."""
        return self._ready().get("message")

    def _ready(self) -> Mapping[str, str]:
        conditions = self._status.get("conditions") or []
        return next((c for c in conditions if c.get("type") == "Ready"), {})

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
    def stalled(self) -> bool:
        """Whether it needs a person before it goes on."""
        return self.phase == "Stalled"

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
    """A Kubernetes Event about a run."""

    at: datetime | None
    type: str
    reason: str
    message: str
    count: int = 1
