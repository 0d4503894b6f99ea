"""How a row of a fault table goes: a run up to the moment of the fault, the fault, what the run says, its end.

Used by the fault tables, test_faults.py for what every platform has and test_faults_azure.py for Azure ML's own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from stand import Team, wait_for
from tests.e2e.scene import Run, Scene
from tests.platforms import NAMES
from tests.platforms.base import WELL, CallName, End

Moment = Literal["submit", "run", "token", "cancel", "collect"]
Step = Callable[[Scene, Run], Any]


@dataclass(frozen=True)
class Row:
    """One fault. `meanwhile` is phase and reason while it lasts; it is mended once they have been seen.

    `runs` is how many are under way at once, `code` how the code ends if nothing else ends the run, `paid` how many
    remote runs cost money in the end, `says` a part of the run's last message. `unnoticed` says that nobody is told.
    """

    name: str
    when: Moment
    inject: Step
    meanwhile: tuple[str, str] | None = None
    mend: Step = lambda scene, _: scene.control.clear_faults()
    end: tuple[str, str] = ("Succeeded", "Succeeded")
    runs: int = 1
    code: End = WELL
    paid: int = 1
    says: str = ""
    unnoticed: bool = False
    platforms: tuple[str, ...] = NAMES


def fault(kind: str, call: CallName, **fields: Any) -> Step:
    """Injects the fault for one request."""
    return lambda scene, _: scene.fault(kind, call, **fields)


def lasting(kind: str, call: CallName, **fields: Any) -> Step:
    """Injects the fault until it is mended."""
    return fault(kind, call, times=0, **fields)


def status(code: int, **fields: Any) -> dict[str, Any]:
    """Fields of a fault that answers with that status."""
    return {"status": code, **fields}


def show(state: str | None) -> Step:
    """The API shows that state."""
    return lambda scene, run: scene.platform.show(run.only_remote().id, state)


def vanish(scene: Scene, run: Run) -> None:
    """The run is deleted behind our back."""
    scene.platform.vanish(run.only_remote().id)


def vanish_and_mend(scene: Scene, run: Run) -> None:
    """The run is deleted behind our back; then the platform answers again."""
    vanish(scene, run)
    scene.control.clear_faults()


def expire(scene: Scene, run: Run) -> None:
    """The token in use expires."""
    assert scene.platform.expire_tokens(run.status["attempts"][-1]["principal"]) > 0


@contextmanager
def teams(scene: Scene, *platforms: str) -> Iterator[dict[str, Team]]:
    """One team per platform for a whole table, by the platform's name."""
    made = {}
    for platform in platforms:
        namespace = f"{scene.name}-{platform}"
        made[platform] = scene.on(platform).platform.team(namespace)
        scene.workspace(namespace, "IdentityWorks")
    yield made
    for team in made.values():
        scene.cluster.call("DELETE", f"/api/v1/namespaces/{team.namespace}")


def play(scene: Scene, team: Team, row: Row, name: str) -> Run:
    """The row from its beginning to its end, on the platform of the scene: one attempt, paid for as the row says."""
    scene.platform.pretend()
    others = [scene.run(team, f"{name}-{n}").until("Running") for n in range(1, row.runs)]
    paid = scene.platform.paid()
    run = begin(scene, team, row, name)
    if row.meanwhile is not None:
        told(run, *row.meanwhile)
        row.mend(scene, run)
    finish(scene, row, run)
    assert len(run.status["attempts"]) == 1
    assert scene.platform.paid() == paid + row.paid
    for other in others:
        scene.platform.end(other.only_remote().id)
        other.until("Succeeded")
    return run


def begin(scene: Scene, team: Team, row: Row, name: str) -> Run:
    """The run up to the moment of the fault, and the fault, which has hit when this returns."""
    run = Run(scene, team.namespace, name)
    # Code of its own, for what is there already is not uploaded.
    create = {"code": f"print('{name}')"}
    if row.when != "submit":
        scene.run(team, name, **create).until("Running")
    if row.when == "token":
        expire(scene, run)
    injected = row.inject(scene, run)
    if row.when == "submit":
        scene.run(team, name, **create)
    elif row.when == "cancel":
        run.change(cancel=True)
    elif row.when == "collect":
        scene.platform.end(run.only_remote().id, row.code)
    if isinstance(injected, int):
        wait_for("the fault to hit", lambda: scene.hits(injected) > 0)
    return run


def told(run: Run, phase: str, reason: str) -> None:
    """What the run says while the fault lasts."""
    run.because(reason)
    assert run.phase == phase
    kind = "Stalled" if phase == "Stalled" else "Reconciling"
    assert run.condition(kind) | {"status": "True", "reason": reason} == run.condition(kind)


def finish(scene: Scene, row: Row, run: Run) -> None:
    """After the fault: the code comes to its end, unless something else ends the run, and the run to the row's."""
    phase, reason = ("Cancelled", "Cancelled") if row.when == "cancel" else row.end
    if row.when not in ("cancel", "collect") and phase == "Succeeded":
        run.until("Running")
        scene.platform.end(run.only_remote().id)
    run.until(phase)
    assert run.reason == reason
    assert row.says in run.message
    if row.unnoticed:
        assert run.events() == ["Submitted", reason]
