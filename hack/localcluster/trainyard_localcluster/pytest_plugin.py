"""pytest fixtures on a local control plane: `cluster` (one for the whole session) and `namespace` (one for each test).

Loaded with `-p trainyard_localcluster.pytest_plugin` or by `pytest_plugins` in a conftest.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from trainyard_localcluster.cluster import LocalCluster
from trainyard_localcluster.errors import LocalClusterError
from trainyard_localcluster.programs import find_programs


def pytest_collection_finish(session: pytest.Session) -> None:
    """Compile before the first test rather than inside it, where pytest-timeout would count the minutes."""
    if not session.config.option.collectonly and any(
        "cluster" in getattr(i, "fixturenames", ()) for i in session.items
    ):
        try:
            find_programs()
        except LocalClusterError as error:
            raise pytest.UsageError(str(error)) from error  # a message, not pytest's own traceback


def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A control plane with its audit log on: the body of `cluster`, for tests that need one of their own."""
    with LocalCluster.start(tmp_path_factory.mktemp("cluster"), audit=True) as running:
        yield running


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """The session's control plane; it ends with the session, however that ends."""
    yield from control_plane(tmp_path_factory)


@pytest.fixture
def namespace(cluster: LocalCluster) -> Iterator[str]:
    """The name of a fresh namespace, deleted afterwards without waiting for it to be gone."""
    made = cluster.call("POST", "/api/v1/namespaces", {"metadata": {"generateName": "test-"}})
    name: str = made["metadata"]["name"]
    yield name
    cluster.call("DELETE", f"/api/v1/namespaces/{name}", {"propagationPolicy": "Background"})
