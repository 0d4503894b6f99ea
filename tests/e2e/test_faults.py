"""Every fault that a platform may have: what the run says meanwhile, and what happens next.

Each row goes the same way: a run up to the moment of the fault, the fault, what the run says if it lasts, its end.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from stand import Stand, Team, wait_for
from tests.e2e.scene import Run, Scene
from tests.platforms.base import CallName

OPERATOR_FLAGS = {"tell_after_seconds": "1"}

Moment = Literal["submit", "run", "token", "cancel", "collect"]
Step = Callable[[Scene, Run], Any]


@dataclass(frozen=True)
class Row:
    """One fault. `meanwhile` is phase and reason while it lasts; it is mended once they have been seen."""

    name: str
    when: Moment
    inject: Step
    meanwhile: tuple[str, str] | None = None
    mend: Step = lambda scene, _: scene.control.clear_faults()
    end: tuple[str, str] = ("Succeeded", "Succeeded")
    runs: int = 1


def fault(kind: str, call: CallName, **fields: Any) -> Step:
    """Injects the fault for one request."""
    return lambda scene, _: scene.fault(kind, call, **fields)


def lasting(kind: str, call: CallName, **fields: Any) -> Step:
    """Injects the fault until it is mended."""
    return fault(kind, call, times=0, **fields)


def status(code: int, **fields: Any) -> dict[str, Any]:
    """Fields of a fault that answers with that status."""
    return {"status": code, **fields}


def vanish(scene: Scene, run: Run) -> None:
    """The run is deleted behind our back."""
    scene.platform.vanish(run.only_remote().id)


def vanish_and_mend(scene: Scene, run: Run) -> None:
    """The run is deleted behind our back; then the platform answers again."""
    vanish(scene, run)
    scene.control.clear_faults()


def show(state: str | None) -> Step:
    """The API shows that state."""
    return lambda scene, run: scene.platform.show(run.only_remote().id, state)


def expire(scene: Scene, run: Run) -> None:
    """The token in use expires."""
    assert scene.platform.expire_tokens(run.status["attempts"][-1]["principal"]) > 0


UNREACHABLE, THROTTLED, MALFORMED = "PlatformUnreachable", "PlatformThrottled", "PlatformAnswerMalformed"

ROWS = [
    Row("submit: 429 once", "submit", fault("status", "submit", **status(429, retry_after="1"))),
    Row(
        "submit: 429 for long",
        "submit",
        lasting("status", "submit", **status(429, retry_after="1")),
        ("Submitting", THROTTLED),
    ),
    Row("submit: 500", "submit", fault("status", "submit", **status(500))),
    Row("submit: 500 after the effect", "submit", fault("status", "submit", after_effect=True, **status(500))),
    Row("submit: 503 for long", "submit", lasting("status", "submit", **status(503)), ("Submitting", UNREACHABLE)),
    Row("submit: reset before the effect", "submit", fault("reset", "submit")),
    Row("submit: reset after the effect", "submit", fault("reset", "submit", after_effect=True)),
    Row("submit: hangs, then had its effect", "submit", fault("hang", "submit", after_effect=True)),
    Row("submit: slow body", "submit", fault("slow_body", "submit", seconds=2)),
    Row("submit: malformed JSON", "submit", fault("malformed_json", "submit", after_effect=True)),
    Row(
        "submit: malformed JSON for long",
        "submit",
        lasting("malformed_json", "submit", after_effect=True),
        ("Submitting", MALFORMED),
    ),
    Row("submit: 403", "submit", lasting("status", "submit", **status(403)), ("Stalled", "PermissionDenied")),
    Row("submit: 400 once", "submit", fault("status", "submit", **status(400))),
    Row("submit: 400", "submit", fault("status", "submit", times=2, **status(400)), end=("Failed", "RequestRefused")),
    Row("upload: 503", "submit", fault("status", "upload", **status(503))),
    Row(
        "submit: answer lost, run deleted behind our back",
        "submit",
        lasting("reset", "submit", after_effect=True),
        ("Submitting", UNREACHABLE),
        vanish_and_mend,
        end=("Failed", "RemoteRunDeleted"),
    ),
    Row("get: 429", "run", fault("status", "get", **status(429, retry_after="1"))),
    Row("get: 429 for long", "run", lasting("status", "get", **status(429, retry_after="1")), ("Running", THROTTLED)),
    Row("get: 500", "run", fault("status", "get", **status(500))),
    Row("get: 503 for long", "run", lasting("status", "get", **status(503)), ("Running", UNREACHABLE)),
    Row("get: reset", "run", fault("reset", "get")),
    Row("get: hangs", "run", fault("hang", "get")),
    Row("get: slow body", "run", fault("slow_body", "get", seconds=2)),
    Row("get: malformed JSON for long", "run", lasting("malformed_json", "get"), ("Running", MALFORMED)),
    Row("list: 503 for long", "run", lasting("status", "list", **status(503)), ("Running", UNREACHABLE), runs=2),
    Row("list: malformed JSON", "run", fault("malformed_json", "list"), runs=2),
    Row("run deleted behind our back", "run", vanish, end=("Failed", "RemoteRunVanished")),
    Row("a state never heard of", "run", show("HIBERNATING"), ("Running", "RemoteStateUnknown"), show(None)),
    Row("token expired", "run", expire),
    Row("token: 429", "token", fault("status", "token", **status(429, retry_after="1"))),
    Row("token: 503 for long", "token", lasting("status", "token", **status(503)), ("Running", UNREACHABLE)),
    Row("token: reset", "token", fault("reset", "token")),
    Row("token: malformed JSON", "token", fault("malformed_json", "token")),
    Row("token: hangs", "token", fault("hang", "token")),
    Row("cancel: 429", "cancel", fault("status", "cancel", **status(429, retry_after="1"))),
    Row("cancel: 500 after the effect", "cancel", fault("status", "cancel", after_effect=True, **status(500))),
    Row("cancel: reset before the effect", "cancel", fault("reset", "cancel")),
    Row("cancel: 503 for long", "cancel", lasting("status", "cancel", **status(503)), ("Cancelling", UNREACHABLE)),
    Row("collect: 503 for long", "collect", lasting("status", "metrics", **status(503)), ("Running", UNREACHABLE)),
    Row("collect: reset", "collect", fault("reset", "metrics")),
    Row("collect: malformed JSON", "collect", fault("malformed_json", "metrics")),
]


@pytest.fixture(scope="module")
def team(pretending: Stand, _pretending_scene: Scene) -> Iterator[Team]:
    """One team for the whole table."""
    made = pretending.team("faulty")
    _pretending_scene.workspace(made.namespace, "IdentityWorks")
    yield made
    _pretending_scene.cluster.call("DELETE", "/api/v1/namespaces/faulty")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_fault_costs_neither_the_run_nor_a_second_one(scene: Scene, team: Team, row: Row) -> None:
    scene.platform.pretend()
    number = ROWS.index(row)
    others = [scene.run(team, f"row-{number}-{n}").until("Running") for n in range(1, row.runs)]
    paid = scene.platform.paid()
    run = begin(scene, team, row, f"row-{number}")
    if row.meanwhile is not None:
        told(run, *row.meanwhile)
        row.mend(scene, run)
    phase, reason = finish(scene, row, run)
    run.until(phase)
    assert run.reason == reason
    assert len(run.status["attempts"]) == 1
    assert scene.platform.paid() == paid + (0 if reason == "RequestRefused" else 1)
    for other in others:
        scene.platform.end(other.only_remote().id)
        other.until("Succeeded")


def begin(scene: Scene, team: Team, row: Row, name: str) -> Run:
    """The run up to the moment of the fault, and the fault, which has hit when this returns."""
    run = Run(scene, team.namespace, name)
    if row.when != "submit":
        scene.run(team, name).until("Running")
    if row.when == "token":
        expire(scene, run)
    injected = row.inject(scene, run)
    if row.when == "submit":
        scene.run(team, name)
    elif row.when == "cancel":
        run.change(cancel=True)
    elif row.when == "collect":
        scene.platform.end(run.only_remote().id)
    if isinstance(injected, int):
        wait_for("the fault to hit", lambda: scene.hits(injected) > 0)
    return run


def told(run: Run, phase: str, reason: str) -> None:
    """What the run says while the fault lasts."""
    run.because(reason)
    assert run.phase == phase
    kind = "Stalled" if phase == "Stalled" else "Reconciling"
    assert run.condition(kind) | {"status": "True", "reason": reason} == run.condition(kind)


def finish(scene: Scene, row: Row, run: Run) -> tuple[str, str]:
    """After the fault: the code comes to its end, unless something else ends the run. Returns that end."""
    if row.when == "cancel":
        return "Cancelled", "Cancelled"
    if row.when != "collect" and row.end[0] == "Succeeded":
        run.until("Running")
        scene.platform.end(run.only_remote().id)
    return row.end
