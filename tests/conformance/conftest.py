"""One stand with one operator for every platform, and what became there of each case: observed once, judged twice."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import pytest

from stand import Process, Stand, stand, wait_for
from tests.conformance.acting import play
from tests.conformance.case import Case
from tests.conformance.history import History
from tests.conformance.observing import Observed
from tests.e2e.scene import API
from tests.platforms import NAMES
from trainyard_localcluster import LocalCluster
from trainyard_localcluster.api import ApiError
from trainyard_localcluster.pytest_plugin import control_plane

FLAGS = {
    "poll_seconds": "0.3",
    "settle_seconds": "2",
    "recheck_seconds": "1",
    "deletion_deadline_seconds": "120",
}
# Most cases wait for the clock rather than for the processor.
AT_ONCE = 6

TOO_EARLY = 429

Look = Callable[[Case, str], Observed]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A control plane of the module's own: the workspaces that its cases leave behind are nobody else's to check."""
    yield from control_plane(tmp_path_factory)


@pytest.fixture(scope="module")
def _stand(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stand, Process, History]]:
    """A sandbox that runs what does not only pretend, whose pip knows no index, and an operator."""
    dir: Path = tmp_path_factory.mktemp("conformance")
    with (
        mock.patch.dict(os.environ, {"PIP_NO_INDEX": "1"}),
        stand(dir, "run", cluster) as made,
        History(cluster, dir) as history,
        made.operator("conformance", None, **FLAGS) as operator,
    ):
        wait_for("the API server to serve new kinds", lambda: _listed(cluster))
        yield made, operator, history


def _listed(cluster: LocalCluster) -> bool:
    """Whether logs can be listed: for a moment after its definition a kind's storage is initializing (429)."""
    try:
        cluster.call("GET", f"{API}/mlrunlogs")
    except ApiError as error:
        if error.status != TOO_EARLY:
            raise
        return False
    return True


@pytest.fixture(scope="module")
def look(request: pytest.FixtureRequest, _stand: tuple[Stand, Process, History]) -> Iterator[Look]:
    """What became of a case on a platform. All cases that were asked for begin when the first is looked at."""
    begun: dict[tuple[str, str], Future[Observed]] = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:

        def begin(case: Case, platform: str) -> Future[Observed]:
            key = (case.name, platform)
            if key not in begun:
                begun[key] = pool.submit(play, case, platform, *_stand)
            return begun[key]

        for item in request.session.items:
            asked = getattr(item, "callspec", None)
            if asked is not None and isinstance(asked.params.get("case"), Case):
                for platform in [asked.params["platform"]] if "platform" in asked.params else NAMES:
                    begin(asked.params["case"], platform)
        yield lambda case, platform: begin(case, platform).result()
        pool.shutdown(cancel_futures=True)
