"""What a case of the list is made of. Used by the modules of the list, by those who play it and by the tests."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stand import Team
from tests.e2e.scene import Run, Scene
from tests.platforms.base import End, PlatformDriver, Pretence

NAME = "train"
QUICK = Pretence(stages=(("starting", 0.1), ("running", 0.2)))
NODE_LOST = End("infrastructure", "node lost")
# May be over before anybody looks.
PASSED = ("Pending", "Submitting", "Queued", "BuildingEnvironment", "Running", "Cancelling")
TRUE_IN = {
    "Pending": {"Reconciling"},
    "Stalled": {"Stalled"},
    "Running": {"Reconciling"},
    "Succeeded": {"Ready", "Complete"},
    "Failed": {"Stalled", "Failed"},
    "TimedOut": {"Stalled", "Failed"},
    "Cancelled": {"Stalled", "Failed"},
}

ENDED_WELL = "Pending? Submitting Queued? BuildingEnvironment? Running? Succeeded"
ENDED_BADLY = ENDED_WELL.replace("Succeeded", "Failed")
TWO_ATTEMPTS = (
    "Pending? Submitting Queued? BuildingEnvironment? Running? Pending Submitting Queued? BuildingEnvironment? Running?"
)
WHILE_RUNNING = "Pending? Submitting Queued? BuildingEnvironment? Running Cancelling?"
SOON = {"limit": 1, "backoffSeconds": 1}


def model(name: str) -> dict[str, Any]:
    """spec.model. Each case that makes a version has a model of its own."""
    return {"name": name, "alias": "challenger", "tags": {"data": "wine"}}


@dataclass
class Act:
    """What the steps of a case may use."""

    scene: Scene
    platform: PlatformDriver
    team: Team
    run: Run


Step = Callable[[Act], None]


@dataclass(frozen=True)
class Case:
    """A manifest, what is done to it, and what becomes of it.

    `phases` in order; one with a question mark may be missed. `first` is done before the resource is made, `then` after
    that, `check` looks at the platform in the end. The run is looked at when it is in one of `ends`, or gone if it is
    not `left`. `says` has to stand in what it told people, `workspace` are fields of its workspace. `differs` are
    fields of the observation that platforms may differ in, with the reason beside it.
    """

    name: str
    phases: str
    reason: str
    spec: Mapping[str, Any] = field(default_factory=dict)
    code: str | Mapping[str, Any] = "print('hello')"
    pretences: tuple[Pretence, ...] = (QUICK,)
    workspace: Mapping[str, Any] = field(default_factory=dict)
    asks: Callable[[PlatformDriver], Mapping[str, Any]] = lambda _: {}
    offers: Callable[[PlatformDriver], Mapping[str, Any]] = lambda _: {}
    first: Step | None = None
    then: Step | None = None
    check: Step | None = None
    attempts: tuple[str | None, ...] = ()
    results: tuple[str | None, ...] = ()
    paid: int = 0
    differs: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    left: bool = True
    model: tuple[str, str, str | None] | None = None
    metrics: frozenset[str] = frozenset()
    outputs: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name

    @property
    def last(self) -> str:
        """The last of the phases."""
        return self.phases.split()[-1]

    @property
    def rests_in(self) -> tuple[str, ...]:
        """The phases that it may come to rest in: the last one unless told."""
        return self.ends or (self.last,)
