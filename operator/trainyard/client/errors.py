"""Every error of the client, drawn once.

    ClientError           `run` or `deployment`: what it is about, where that is known
    ├── BadManifest       what was given is no MLTrainingRun or ModelDeployment, or no rows; nothing was sent
    ├── Refused           the API server refused it; `problems` has field and words
    ├── NotFound          no such run, deployment, log, or namespace; or it was deleted while it was waited for
    ├── NotAllowed        the API server, or the platform when rows are scored, does not let this user do that
    ├── Unreachable       one of them can not be reached, or does not serve Trainyard's kinds
    ├── RunEnded          the run came to an end other than success
    │   ├── RunFailed     phase Failed
    │   ├── RunTimedOut   phase TimedOut: the run's own time was up
    │   └── RunCancelled  phase Cancelled
    ├── RunStalled        the run needs a person, and the caller asked not to wait for one
    ├── DeploymentFailed  the newest spec is not served: it went back, drifted or expired, or its first model failed
    ├── DeploymentStalled the deployment needs a person, and the caller asked not to wait for one
    ├── NothingToPromote  no rollout waits, or it is of another revision
    ├── ScoringFailed     the endpoint answered, but with no predictions
    └── WaitTimedOut      the caller's time was up; it goes on

Raised by this package and read by the command line. Messages never carry a credential.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from trainyard.client.deployment import Deployment
from trainyard.client.resource import Resource
from trainyard.client.run import Run


class ClientError(Exception):
    """Base of all errors that the client raises on purpose."""

    def __init__(self, message: str, about: Resource | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.run = about if isinstance(about, Run) else None
        self.deployment = about if isinstance(about, Deployment) else None


class BadManifest(ClientError, ValueError):
    """What was given is no MLTrainingRun or ModelDeployment, or no rows to score."""


@dataclass(frozen=True)
class Problem:
    """One complaint of the API server."""

    field: str | None
    """Path of the field, for example spec.compute.class."""
    message: str


class Refused(ClientError):
    """The API server refused the request as it is."""

    def __init__(
        self, message: str, problems: Sequence[Problem] = (), about: Resource | None = None, *, conflict: bool = False
    ) -> None:
        super().__init__(message, about)
        self.problems = tuple(problems)
        self.conflict = conflict
        """Whether something else is in the way (409): the name is taken, or the object has changed."""


class NotFound(ClientError, LookupError):
    """What was asked for is not there."""


class NotAllowed(ClientError, PermissionError):
    """The API server, or the platform, does not let this user do that."""


class Unreachable(ClientError, ConnectionError):
    """There is no usable answer."""


class RunEnded(ClientError):
    """The run came to an end other than success; `run` holds it."""

    run: Run

    def __init__(self, run: Run) -> None:
        super().__init__(f"{named(run)} is {run.phase}{_why(run)}", run)


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
        super().__init__(f"{named(run)} is stalled{_why(run)}", run)


class DeploymentFailed(ClientError):
    """What the newest spec asks for is not served, and nothing goes on by itself; `deployment` holds it."""

    deployment: Deployment

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(f"{named(deployment)} is {deployment.phase}{_why(deployment)}", deployment)


class DeploymentStalled(ClientError):
    """The deployment needs a person: something is missing, or its rollout awaits a promotion."""

    deployment: Deployment

    def __init__(self, deployment: Deployment) -> None:
        phase = "stalled" if deployment.stalled else deployment.phase
        super().__init__(f"{named(deployment)} is {phase}{_why(deployment)}", deployment)


class NothingToPromote(ClientError):
    """No rollout waits for a promotion, or it is of another revision than the one that was named."""


class ScoringFailed(ClientError):
    """The endpoint answered with an error, or with something that is no prediction for each row.

    `status` is the answer's.
    """

    def __init__(self, message: str, about: Resource | None, status: int) -> None:
        super().__init__(message, about)
        self.status = status


class WaitTimedOut(ClientError, TimeoutError):
    """The caller's time was up; the run or deployment goes on. `about` is its last state."""

    def __init__(self, about: Resource, seconds: float) -> None:
        phase = about.phase or "not seen by the operator"
        super().__init__(f"{named(about)} is {phase} after {seconds:g} s{_why(about)}", about)
        self.about = about


def named(resource: Resource) -> str:
    """How messages name it, for example `run team-wine/churn-42`."""
    return f"{resource.NOUN} {resource.namespace}/{resource.name}"


def _why(resource: Resource) -> str:
    return "".join(f": {part}" for part in (resource.reason, resource.message) if part)


_ENDS: dict[str, type[RunEnded]] = {"Failed": RunFailed, "TimedOut": RunTimedOut, "Cancelled": RunCancelled}


def raise_for(run: Run) -> None:
    """Raises what the final phase stands for; nothing for success."""
    if run.failed:
        raise _ENDS[str(run.phase)](run)
