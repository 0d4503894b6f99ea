"""Every error of the client, drawn once.

    ClientError           `run`: the run it is about, where one is known
    ├── BadManifest       what was given is no MLTrainingRun; nothing was sent
    ├── Refused           the API server refused it; `problems` has field and words
    ├── NotFound          no such run, log, or namespace; or the run was deleted while it was waited for
    ├── NotAllowed        the API server does not let this user do that (401, 403)
    ├── Unreachable       the API server can not be reached, or does not serve Trainyard's kinds
    ├── RunEnded          the run came to an end other than success
    │   ├── RunFailed     phase Failed
    │   ├── RunTimedOut   phase TimedOut: the run's own time was up
    │   └── RunCancelled  phase Cancelled
    ├── RunStalled        the run needs a person, and the caller asked not to wait for one
    └── WaitTimedOut      the caller's time was up; the run goes on

Raised by this package and read by the command line. Messages never carry a credential.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from trainyard.client.run import Run


class ClientError(Exception):
    """Base of all errors that the client raises on purpose."""

    def __init__(self, message: str, run: Run | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.run = run


class BadManifest(ClientError, ValueError):
    """What was given is no MLTrainingRun."""


@dataclass(frozen=True)
class Problem:
    """One complaint of the API server."""

    field: str | None
    """Path of the field, for example spec.compute.class."""
    message: str


class Refused(ClientError):
    """The API server refused the request as it is."""

    def __init__(
        self, message: str, problems: Sequence[Problem] = (), run: Run | None = None, *, conflict: bool = False
    ) -> None:
        super().__init__(message, run)
        self.problems = tuple(problems)
        self.conflict = conflict
        """Whether something else is in the way (409): the name is taken, or the object has changed."""


class NotFound(ClientError, LookupError):
    """What was asked for is not there."""


class NotAllowed(ClientError, PermissionError):
    """The API server does not let this user do that."""


class Unreachable(ClientError, ConnectionError):
    """There is no usable answer."""


class RunEnded(ClientError):
    """The run came to an end other than success; `run` holds it."""

    run: Run

    def __init__(self, run: Run) -> None:
        super().__init__(f"run {run.namespace}/{run.name} is {run.phase}{_why(run)}", run)


class RunFailed(RunEnded):
    """The run's phase is Failed."""


class RunTimedOut(RunEnded):
    """The run's phase is TimedOut."""


class RunCancelled(RunEnded):
    """The run's phase is Cancelled."""


class RunStalled(ClientError):
    """The run needs a person. It has not ended: it goes on by itself once the cause is gone."""

    run: Run

    def __init__(self, run: Run) -> None:
        super().__init__(f"run {run.namespace}/{run.name} is stalled{_why(run)}", run)


class WaitTimedOut(ClientError, TimeoutError):
    """The caller's time was up; the run goes on."""

    run: Run

    def __init__(self, run: Run, seconds: float) -> None:
        phase = run.phase or "not seen by the operator"
        super().__init__(f"run {run.namespace}/{run.name} is {phase} after {seconds:g} s{_why(run)}", run)


def _why(run: Run) -> str:
    return "".join(f": {part}" for part in (run.reason, run.message) if part)


_ENDS: dict[str, type[RunEnded]] = {"Failed": RunFailed, "TimedOut": RunTimedOut, "Cancelled": RunCancelled}


def raise_for(run: Run) -> None:
    """Raises what the final phase stands for; nothing for success."""
    if run.failed:
        raise _ENDS[str(run.phase)](run)
