"""The crash stage that the points share, and the table of what became of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.crash.points import Mode, Point
from tests.crash.stage import Stage, stage
from trainyard_localcluster import LocalCluster
from trainyard_localcluster.pytest_plugin import control_plane

SAME = "same end"


@dataclass(frozen=True)
class Row:
    """What became of one kill."""

    platform: str
    journey: str
    point: Point
    mode: Mode
    result: str
    seconds: float


ROWS = pytest.StashKey[list[Row]]()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A control plane of these suites' own: what another suite left behind would be acted on, once, in our walks."""
    yield from control_plane(tmp_path_factory)


@pytest.fixture(scope="session")
def _crash_stage(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("crash"), "crash", cluster) as made:
        yield made


@pytest.fixture
def crash_stage(_crash_stage: Stage) -> Iterator[Stage]:
    """One stage for all points: each has a namespace, a team and a schema of its own.

    Its operator ends with the test, so that the next one begins with an operator that knows nothing.
    """
    yield _crash_stage
    _crash_stage.kill()


@pytest.fixture
def rows(request: pytest.FixtureRequest) -> list[Row]:
    """Where a test notes what became of its points."""
    return request.config.stash.setdefault(ROWS, [])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The canary is looked for when all else is over."""
    items.sort(key=lambda item: item.path.name == "test_canary.py")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints the table: journey, point, mode, result; and the counts."""
    rows = config.stash.get(ROWS, [])
    if not rows:
        return
    terminalreporter.section("crash points")
    for row in rows:
        line = f"{row.platform:<10} {row.journey:<8} {row.mode:<6} {row.result:<12} {row.seconds:5.1f} s  {row.point}"
        terminalreporter.write_line(line)
    same = sum(row.result == SAME for row in rows)
    points = len({(row.platform, row.journey, row.point) for row in rows})
    classes = len({(row.platform, row.journey, row.point.of) for row in rows})
    terminalreporter.write_line(
        f"{len(rows)} kills at {points} points of {classes} classes: {same} ended the same, {len(rows) - same} did not"
    )
