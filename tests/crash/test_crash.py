"""The operator is killed at a request, started again, and everything ends as if nothing had happened (invariant 1).

`make test` kills it once at each class of requests, `make crash` at every request, before and after it. The points come
from an undisturbed run; nothing in the operator knows of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.crash.conftest import SAME, Row
from tests.crash.journeys import JOURNEYS, TRAIN, Journey
from tests.crash.points import (
    MODES,
    Class,
    Mode,
    Point,
    enumerate_points,
    every_point,
    one_per_class,
    one_per_new_class,
)
from tests.crash.scenes import WAITS, Scene, difference
from tests.crash.serving import SERVING_JOURNEYS
from tests.crash.stage import NotReached, Stage
from tests.platforms import NAMES, on_every_platform

TRIES = 3
FIRST, *OTHERS = NAMES
EACH = [
    pytest.param(platform, journey, id=f"{platform}-{journey}")
    for platform in NAMES
    for journey in (*JOURNEYS, *SERVING_JOURNEYS)
    if platform in journey.platforms
]
# For `make test`: what is different for the API server alone, on the first platform.
DAILY = [each for each in EACH if each.values[0] == FIRST or each.values[1].everywhere]
MOSTLY_FIRST = [FIRST, *(pytest.param(name, marks=pytest.mark.crash_full) for name in OTHERS)]
MOSTLY_AFTER = [pytest.param("before", marks=pytest.mark.crash_full), "after"]
# Counts itself, so that a second run of the same attempt would show.
LOGS_ONCE = """
import mlflow
with mlflow.start_run() as run:
    mlflow.log_metric("runs", 1 + run.data.metrics.get("runs", 0))
"""
Pick = Callable[[list[Point], set[Class]], list[tuple[Point, Mode]]]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("platform_name", "journey"), DAILY)
def test_a_kill_at_each_class_of_requests_changes_nothing_in_the_end(
    crash_stage: Stage, platform_name: str, journey: Journey, rows: list[Row], subtests: pytest.Subtests
) -> None:
    """What the operator does to the API server is the same on each platform: it is killed there on the first one."""
    pick = one_per_class if journey.daily and platform_name == FIRST else one_per_new_class
    kill_at(pick, crash_stage, platform_name, journey, rows, subtests)


@pytest.mark.crash_full
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("platform_name", "journey"), EACH)
def test_a_kill_before_or_after_any_request_changes_nothing_in_the_end(
    crash_stage: Stage, platform_name: str, journey: Journey, rows: list[Row], subtests: pytest.Subtests
) -> None:
    kill_at(every_point, crash_stage, platform_name, journey, rows, subtests)


def kill_at(
    pick: Pick, stage: Stage, platform: str, journey: Journey, rows: list[Row], subtests: pytest.Subtests
) -> None:
    """Walks the journey undisturbed, then once for each point that `pick` takes of it."""
    points, undisturbed = walk(stage, platform, journey)
    known = {row.point.of.roughly for row in rows}
    assert points
    for point, mode in pick(points, known):
        with subtests.test(point=str(point), mode=mode):
            began, result = time.monotonic(), "error"
            try:
                disturbed = walk_killed(stage, platform, journey, point, mode)
                result = SAME if disturbed == undisturbed else "other end"
                assert difference(undisturbed, disturbed) == ""
            finally:
                rows.append(Row(platform, journey.name, point, mode, result, time.monotonic() - began))


def walk(stage: Stage, platform: str, journey: Journey) -> tuple[list[Point], dict[str, Any]]:
    """An undisturbed run: the requests that count, and the world afterwards."""
    stage.up()
    scene = journey.scene(stage, platform)
    stage.drive(journey.walk(scene, stage.proxy.begin))
    points = enumerate_points(stage.proxy.seen())
    world = scene.world()
    scene.clear()
    return points, world


def walk_killed(stage: Stage, platform: str, journey: Journey, point: Point, mode: Mode) -> dict[str, Any]:
    """The world after the same with one kill. What a slow machine's timing left out is tried again."""
    for last in (tried == TRIES for tried in range(1, TRIES + 1)):
        stage.up()
        scene = journey.scene(stage, platform)
        crashes = stage.crashes
        try:
            stage.drive(journey.walk(scene, lambda: stage.arm(point, mode)))
        except NotReached:
            if last:
                raise
            continue
        finally:
            world = scene.world()
            scene.clear()
        assert stage.crashes == crashes + 1
        return world
    raise AssertionError("the last try returns or raises")


@pytest.mark.parametrize("platform_name", MOSTLY_FIRST)
@pytest.mark.timeout(1800)
def test_an_operator_killed_at_each_request_of_its_start_one_after_the_other_still_ends_the_same(
    crash_stage: Stage, platform_name: str, rows: list[Row]
) -> None:
    _, undisturbed = walk(crash_stage, platform_name, TRAIN)
    crash_stage.stop()
    crash_stage.proxy.begin()
    crash_stage.up()
    points = enumerate_points(crash_stage.proxy.seen())
    assert points
    crash_stage.stop()
    scene = TRAIN.scene(crash_stage, platform_name)
    scene.found_team()
    scene.apply_run()
    took = []
    for point in points:
        began = time.monotonic()
        crash_stage.start()
        crash_stage.arm(point, "before")
        crash_stage.killed()
        took.append(time.monotonic() - began)
    crash_stage.start()
    crash_stage.drive(scene.settled())
    assert scene.world() == undisturbed
    rows += [
        Row(platform_name, "start", point, "before", SAME, seconds) for point, seconds in zip(points, took, strict=True)
    ]
    scene.clear()


@on_every_platform
@pytest.mark.parametrize("mode", MODES)
def test_a_run_cancelled_while_a_kill_left_its_submission_in_doubt_leaves_nothing_running(
    crash_stage: Stage, platform_name: str, mode: Mode
) -> None:
    scene = in_doubt(crash_stage, platform_name, mode)
    scene.change(cancel=True)
    crash_stage.start()
    crash_stage.drive(scene.settled())
    world = scene.world()
    assert world["run"]["status"]["phase"] == "Cancelled"
    assert_stopped(world, mode)
    scene.clear()


@on_every_platform
@pytest.mark.parametrize("mode", MOSTLY_AFTER)
def test_a_run_deleted_while_a_kill_left_its_submission_in_doubt_leaves_nothing_running(
    crash_stage: Stage, platform_name: str, mode: Mode
) -> None:
    scene = in_doubt(crash_stage, platform_name, mode)
    scene.delete()
    crash_stage.start()
    crash_stage.drive(scene.gone())
    assert_stopped(scene.world(), mode)
    scene.clear()


def in_doubt(stage: Stage, platform: str, mode: Mode) -> Scene:
    """A run whose operator died before or after the platform took its submission, and was not told the answer."""
    stage.up()
    scene = Scene(stage, platform, {1: WAITS})
    scene.found_team()
    stage.drive(scene.workspace_ready())
    stage.arm(scene.side.submit, mode)
    scene.apply_run()
    stage.killed()
    return scene


def assert_stopped(world: dict[str, Any], mode: Mode) -> None:
    """What the platform took is cancelled; what it did not take was never paid for."""
    taken = 1 if mode == "after" else 0
    assert world["paid"] == taken
    assert [end.upper() for end in world["ends"]] == ["CANCELED"] * taken


@on_every_platform
@pytest.mark.parametrize("mode", MOSTLY_AFTER)
def test_code_that_really_runs_runs_once_when_the_operator_dies_at_its_submission(
    crash_stage: Stage, platform_name: str, mode: Mode
) -> None:
    crash_stage.up()
    scene = Scene(crash_stage, platform_name)
    scene.found_team()
    crash_stage.drive(scene.workspace_ready())
    crash_stage.arm(scene.side.submit, mode)
    scene.apply_run(LOGS_ONCE)
    crash_stage.drive(scene.settled())
    world = scene.world()
    assert world["run"]["status"]["phase"] == "Succeeded", world
    assert world["run"]["status"]["metrics"] == {"runs": "1.0"}
    assert world["paid"] == len(world["remote"]) == len(world["mlflow"]) == 1
    scene.clear()
