"""What an end-to-end test needs of a platform, in words that hold on each: the contract of a driver.

`drivers` in tests/platforms/__init__.py has one per platform, for a stand. A driver knows the vendor's words, so that
the tests need not: a test that speaks of a platform's own words is a test of that platform alone. Everything is done
through the sandbox's control API, behind the operator's back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from stand import Stand, Team
from tests.platforms.serving import ServingDriver

Stage = Literal["queued", "starting", "running"]
EndKind = Literal["succeeded", "code", "packages", "infrastructure", "cancelled"]


@dataclass(frozen=True)
class End:
    """How a remote run ends by itself. `trace` are the last lines that failed code printed."""

    kind: EndKind = "succeeded"
    message: str = ""
    trace: str = ""


WELL = End()


@dataclass(frozen=True)
class Pretence:
    """What remote runs go through without running any code.

    `stages` are in order, with the seconds spent in each. `run` is the run that is meant, as namespace/name, and
    `attempt` its attempt; absent: any. `times` is for how many runs; None for all. `metrics` and `model`, a full name,
    are logged and registered before it ends. Of several that fit a run the one that was said first holds.
    """

    stages: tuple[tuple[Stage, float], ...] = (("starting", 0.05), ("running", 0.1))
    end: End = WELL
    run: str | None = None
    attempt: int | None = None
    times: int | None = None
    cancel_seconds: float = 0.05
    metrics: Mapping[str, float | str] = field(default_factory=dict)
    model: str | None = None


FOREVER = Pretence(stages=(("starting", 0.05), ("running", 600)))


@dataclass(frozen=True)
class Remote:
    """One run in the platform's own books.

    `result` is None while it is active. `word` is the state in the platform's own word, `raw` all that it knows.
    """

    id: str
    token: str
    creator: str
    paid: bool
    active: bool
    result: Literal["succeeded", "failed", "cancelled", "timed out"] | None
    word: str
    raw: Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """A kind of request: its path as a regular expression that matches wholly, and its method; empty: any."""

    path: str
    method: str = ""

    def fields(self) -> dict[str, str]:
        """As the control API's faults and request log take it."""
        return {"path": self.path} | ({"method": self.method} if self.method else {})


# The kinds of request that the operator makes of a platform. jobs: all about remote runs; any: whatever it asks.
CallName = Literal["token", "whoami", "upload", "submit", "get", "list", "cancel", "metrics", "jobs", "any"]


class PlatformDriver(Protocol):
    """One platform of a stand."""

    name: str
    """As in `Target.platform` and `status.attempts[].platform`."""
    calls: Mapping[CallName, Call]
    serving: ServingDriver
    """Its endpoints."""

    def __init__(self, stand: Stand) -> None: ...

    @property
    def host(self) -> str:
        """What `status.attempts[].host` says."""

    def team(self, namespace: str, service_account: str = "trainer", **spec: Any) -> Team:
        """A namespace with a ServiceAccount that the platform trusts, and a workspace.

        The workspace's names mean the same on each platform: compute classes small (whatever starts soonest),
        cluster (machines with a name of their own) and serving (of endpoints), the runtime sklearn, the data root data.
        `spec` replaces fields of the workspace.
        """

    def newcomer(self, namespace: str, service_account: str = "trainer") -> Team:
        """A namespace with a ServiceAccount that the platform trusts, and no workspace."""

    def workspace(self, namespace: str, service_account: str = "trainer", **spec: Any) -> dict[str, Any]:
        """The MLWorkspace of such a team, named as the platform; not applied."""

    def annotation(self) -> str:
        """The annotation by which a ServiceAccount opts in."""

    def model_name(self, name: str) -> str:
        """The full name of the registered model that `spec.model.name` becomes."""

    def pretend(self, pretence: Pretence = FOREVER) -> None:
        """Runs submitted from now on only pretend. What no pretence fits does what the stand's engine does."""

    def runs(self) -> list[Remote]:
        """Every remote run that is there, oldest first."""

    def runs_of(self, namespace: str, name: str) -> list[Remote]:
        """The remote runs of one MLTrainingRun, oldest first."""

    def paid(self) -> int:
        """How many runs were ever paid for, deleted ones included."""

    def end(self, remote_id: str, end: End = WELL) -> None:
        """Ends a pretended run so."""

    def vanish(self, remote_id: str) -> None:
        """Deletes a run behind everybody's back."""

    def show(self, remote_id: str, word: str | None) -> None:
        """The platform says that state of a run, known or not; None: the truth again."""

    def fault(self, kind: str, call: CallName, **fields: Any) -> int:
        """Injects a fault (see `SandboxControl.add_fault`) into requests of that kind; returns its id."""

    def requests(self, call: CallName) -> list[dict[str, Any]]:
        """The requests of that kind that have come, oldest first."""

    def take_right(self, team: Team) -> None:
        """Takes a right away that a run of the team with a model needs."""

    def give_right(self, team: Team) -> None:
        """Gives it back."""

    def put_data(self, team: Team, path: str, content: bytes) -> None:
        """Lays a file at data://data/PATH, where the team may read and write."""

    def data(self, team: Team, path: str) -> bytes:
        """The file at data://data/PATH, as the team sees it."""

    def absent_compute(self) -> dict[str, Any]:
        """A compute class, well-formed, whose machines are not on the platform."""

    def present_compute(self) -> dict[str, Any]:
        """A compute class whose machines are there."""

    def expire_tokens(self, principal: str) -> int:
        """Every token of that principal expires now; returns how many."""

    def tokens(self) -> list[str]:
        """Every token that this platform ever issued."""

    def clean(self) -> None:
        """After a test: no fault, no pretence; rights and computes as they were."""
