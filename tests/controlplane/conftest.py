"""The CRDs of this checkout, served by the session's control plane."""

import time
from pathlib import Path

import pytest

from trainyard.api.base import API_VERSION
from trainyard_localcluster import LocalCluster

CRDS = Path(__file__).resolve().parents[2] / "crds"
PUBLISHED_SECONDS = 60.0


@pytest.fixture(scope="session")
def api(cluster: LocalCluster) -> LocalCluster:
    """The control plane, once it serves trainyard.dev and describes it, which it does a moment later."""
    cluster.kubectl("apply", "-f", str(CRDS))
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", str(CRDS))
    deadline = time.monotonic() + PUBLISHED_SECONDS
    while f"apis/{API_VERSION}" not in cluster.call("GET", "/openapi/v3")["paths"]:
        assert time.monotonic() < deadline, f"no description of {API_VERSION} after {PUBLISHED_SECONDS:.0f} s"
        time.sleep(0.1)
    return cluster
