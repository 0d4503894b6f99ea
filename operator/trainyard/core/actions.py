"""What a decision may ask the controller to do. Each is safe to do twice. Frozen; no I/O."""

from dataclasses import dataclass
from datetime import datetime

from trainyard.api.training_run import MLTrainingRunStatus


@dataclass(frozen=True, slots=True)
class AddFinalizer:
    """Hold the object, so that a live remote run is not forgotten when it is deleted."""


@dataclass(frozen=True, slots=True)
class RemoveFinalizer:
    """Let the object go."""


@dataclass(frozen=True, slots=True)
class Submit:
    """Start the newest attempt's remote run, or find that it was started."""


@dataclass(frozen=True, slots=True)
class Locate:
    """Look for the newest attempt's remote run without starting one."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Have the sweep look at the newest attempt's remote run until it has ended."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ask the platform to stop the newest attempt's remote run."""

    remote_id: str


@dataclass(frozen=True, slots=True)
class Collect:
    """Fetch what the ended attempt left behind."""


@dataclass(frozen=True, slots=True)
class CleanUp:
    """Remove what was uploaded for a finished run, unless another run uses it."""


@dataclass(frozen=True, slots=True)
class DeleteRun:
    """Delete the object, provided that it is still the one that was decided on (uid and resourceVersion)."""


Action = AddFinalizer | RemoveFinalizer | Submit | Locate | Watch | Cancel | Collect | CleanUp | DeleteRun


@dataclass(frozen=True, slots=True)
class Note:
    """A Kubernetes Event that a person wants to read."""

    type: str  # Normal or Warning
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What to write, then to do, then when to look again. `rule` names the rule that decided, for logs and tests."""

    status: MLTrainingRunStatus
    action: Action | None = None
    wake_at: datetime | None = None
    notes: tuple[Note, ...] = ()
    rule: str = ""
