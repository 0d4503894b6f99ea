"""What happens to one run, from a team without anything to the end; walked undisturbed, then with one kill each.

Used by test_crash.py. A walk calls `mark` when the requests begin to count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.crash.scenes import MODEL, TRAINS, WAITS, Scene
from tests.crash.sides.base import ALIAS
from tests.crash.stage import Stage
from tests.platforms import NAMES
from tests.platforms.base import End, Pretence

Mark = Callable[[], None]
Scripts = Mapping[int, Pretence]

JOB = "nightly"
QUICK = Pretence(stages=(("starting", 0.2), ("running", 0.3)))
LOSES_ITS_MACHINES = replace(QUICK, end=End("infrastructure"))
DIAMOND = [
    {"name": "load", "entrypoint": {"pythonFile": "main.py"}},
    {"name": "left", "entrypoint": {"pythonFile": "main.py"}, "dependsOn": ["load"]},
    {"name": "right", "entrypoint": {"pythonFile": "main.py"}, "dependsOn": ["load"]},
    {"name": "join", "entrypoint": {"pythonFile": "main.py"}, "dependsOn": ["left", "right"]},
]


@dataclass(frozen=True)
class Journey:
    """`scripts` say, by attempt, what the platform pretends. `daily`: also killed where other journeys were already.

    `everywhere`: it asks of a platform what the others do not, so that `make test` walks it on each; those that differ
    for the API server alone are walked there on the first. `platforms` are those that have what it needs.
    """

    name: str
    scripts: Scripts
    walk: Callable[[Scene, Mark], Iterator[None]]
    spec: dict[str, Any] = field(default_factory=dict)
    daily: bool = False
    everywhere: bool = False
    platforms: tuple[str, ...] = NAMES

    def scene(self, stage: Stage, platform: str) -> Scene:
        """The journey in a namespace of its own."""
        return Scene(stage, platform, self.scripts, **self.spec)

    def __str__(self) -> str:
        return self.name


def train(scene: Scene, mark: Mark) -> Iterator[None]:
    """From a team without anything to a registered model."""
    mark()
    scene.found_team()
    yield from scene.workspace_ready()
    scene.apply_run()
    yield from scene.settled()


def cancel(scene: Scene, mark: Mark) -> Iterator[None]:
    """spec.cancel of a run whose code is running."""
    yield from running(scene)
    mark()
    scene.change(cancel=True)
    yield from scene.settled()


def delete(scene: Scene, mark: Mark) -> Iterator[None]:
    """The deletion of a run whose code is running."""
    yield from running(scene)
    mark()
    scene.delete()
    yield from scene.gone()


def suspend(scene: Scene, mark: Mark) -> Iterator[None]:
    """A run whose code is running is suspended, and resumed to its end."""
    yield from running(scene)
    mark()
    scene.change(suspend=True)
    yield from scene.phase("Suspended")
    scene.change(suspend=False)
    yield from scene.settled()


def applied(scene: Scene, mark: Mark) -> Iterator[None]:
    """From a workspace that is ready to the end."""
    scene.found_team()
    yield from scene.workspace_ready()
    mark()
    scene.apply_run()
    yield from scene.settled()


def job(scene: Scene, mark: Mark) -> Iterator[None]:
    """A job that lives on the platform, by its name."""
    scene.found_team()
    yield from scene.workspace_ready()
    scene.side.make_job(f"{scene.namespace}-{JOB}")
    mark()
    scene.apply_run()
    yield from scene.settled()


def tasks(scene: Scene, mark: Mark) -> Iterator[None]:
    """A graph one of whose tasks loses its machines: the next attempt does it again, and what hangs on it."""
    scene.side.lose_a_task(1, "right")
    yield from applied(scene, mark)


def expire(scene: Scene, mark: Mark) -> Iterator[None]:
    """A run goes to its end, and then goes itself, with what was uploaded for it."""
    scene.found_team()
    yield from scene.workspace_ready()
    mark()
    scene.apply_run()
    yield from scene.gone()


def restore(scene: Scene, mark: Mark) -> Iterator[None]:
    """The object of a run that has ended is lost and made again, as by a restore: the remote run is found, not paid."""
    scene.found_team()
    yield from scene.workspace_ready()
    scene.apply_run()
    yield from scene.settled()
    scene.delete()
    yield from scene.gone()
    mark()
    scene.apply_run()
    yield from scene.settled()


def running(scene: Scene) -> Iterator[None]:
    """Up to a run whose code is running."""
    scene.found_team()
    yield from scene.workspace_ready()
    scene.apply_run()
    yield from scene.phase("Running")


RETRIED = {"retry": {"limit": 2, "backoffSeconds": 1, "maxBackoffSeconds": 1}}
MODELS = {"model": {"name": MODEL, "alias": ALIAS, "tags": {"data": "wine"}}}
COPIES = {"code": None, "compute": None, "jobRef": {"name": f"<namespace>-{JOB}"}}
TRAIN = Journey("train", {1: TRAINS}, train, MODELS, daily=True, everywhere=True)
JOURNEYS = (
    TRAIN,
    Journey("cancel", {1: WAITS}, cancel, daily=True, everywhere=True),
    Journey("delete", {1: WAITS}, delete, daily=True),
    Journey("suspend", {1: WAITS, 2: QUICK}, suspend),
    Journey("retry", {1: LOSES_ITS_MACHINES, 2: QUICK}, applied, RETRIED),
    Journey("tasks", {2: QUICK}, tasks, RETRIED | {"tasks": DIAMOND}, platforms=("databricks",)),
    Journey("job", {1: QUICK}, job, COPIES, everywhere=True),
    Journey("expire", {1: QUICK}, expire, {"ttlSecondsAfterFinished": 1}, everywhere=True),
    Journey("restore", {1: QUICK}, restore, {"submissionKey": "<namespace>-key"}),
)
