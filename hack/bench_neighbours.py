"""The part of `make bench` about neighbours: what a dead workspace costs the others, and what each platform loads.

Called by bench.py. A dead workspace is a port that accepts connections and never answers.
"""

from __future__ import annotations

import re
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from stand import Process, Stand, Team, stand, wait_for

RUNS = "/apis/trainyard.dev/v1alpha1/namespaces/{}/mltrainingruns"
FINAL = ("Succeeded", "Failed", "TimedOut", "Cancelled")
PLATFORMS = ("databricks", "azureml")
SDKS = ("azure.ai.ml", "azure.identity", "databricks.sdk")
# Runs that wait on the dead workspace at once: more than its lane has threads, so that it is as busy as it can be.
WAITING_ON_THE_DEAD = 12


@dataclass(frozen=True)
class Neighbour:
    """What was measured of one platform: seconds, MiB, and which vendors' SDKs were loaded."""

    platform: str
    alone: float
    beside_the_dead: float
    rss: float
    loaded: str

    @property
    def ratio(self) -> float:
        """With the dead neighbour, in terms of without."""
        return self.beside_the_dead / self.alone


def measure(dir: Path, platform: str, runs: int) -> Neighbour:
    """Apply to remote id with and without a dead neighbour, and the operator's memory, on one platform.

    Rounds alternate, so that a machine that grows slower does so for both.
    """
    with ExitStack() as stack:
        port = stack.enter_context(_black_hole())
        made = stack.enter_context(stand(dir, engine="pretend"))
        operator = stack.enter_context(_operator(made, platform, port))
        team = made.team("alive") if platform == "databricks" else made.azure_team("alive")
        _seconds(made, team, "warm", 3)
        rss, loaded = _rss_mib(operator), _loaded(operator.log)
        alone: list[float] = []
        beside: list[float] = []
        for half in range(2):
            alone += _seconds(made, team, f"alone-{half}", runs // 2)
            _bring_up_the_dead(made, platform, port)
            _seconds(made, team, f"settling-{half}", 8)  # the statuses of the dead have been written by then
            beside += _seconds(made, team, f"beside-{half}", runs // 2)
            _take_away_the_dead(made)
    return Neighbour(platform, statistics.median(alone), statistics.median(beside), rss, loaded)


@contextmanager
def _black_hole() -> Iterator[int]:
    """A port that accepts connections, keeps them and says nothing."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:

        def accept() -> None:
            while True:
                try:
                    held.append(listening.accept()[0])
                except OSError:  # closed: the measurement is over
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield int(listening.getsockname()[1])
    for each in held:
        each.close()


def _operator(made: Stand, platform: str, port: int) -> Process:
    """An operator that may talk to the dead host as well."""
    own = made.cluster.service_account_kubeconfig("trainyard-system", "trainyard", made.dir / "bench.kubeconfig")
    command = made.operator_command(own, made.dir / "bench.audit", poll_seconds="1", tell_after_seconds="1")
    if platform == "databricks":
        command += ["--allowed-host", f"127.0.0.1:{port}"]
    else:
        command += ["--azure-cloud", str(made.azure_cloud(f"https://127.0.0.1:{port}", name="Dead"))]
    # Each import is told on stderr (python -X importtime), which is the log.
    env = made.operator_env() | {"PYTHONPROFILEIMPORTTIME": "1"}
    return Process("the operator", command, made.dir / "bench.log", env)


def _bring_up_the_dead(made: Stand, platform: str, port: int) -> None:
    """A workspace at the black hole with runs that wait for it, as the same principal."""
    if platform == "databricks":
        workspace = made.workspace("alive", host=f"https://127.0.0.1:{port}")
    else:
        workspace = made.azure_workspace("alive")
        workspace["spec"]["azureML"]["cloud"] = "Dead"
    workspace["metadata"]["name"] = "dead"
    made.apply(workspace)
    for number in range(WAITING_ON_THE_DEAD):
        _create(made, "dead", f"dead-{number}")
    wait_for("the dead workspace to be known as such", lambda: _reason(made) == "PlatformUnreachable", 120)


def _take_away_the_dead(made: Stand) -> None:
    for number in range(WAITING_ON_THE_DEAD):
        made.cluster.call("DELETE", f"{RUNS.format('alive')}/dead-{number}")
    made.cluster.kubectl("delete", "mlworkspace", "dead", "-n", "alive", "--wait=true", "--timeout=60s")


def _reason(made: Stand) -> str:
    conditions = made.get("mlworkspaces", "dead", "alive").get("status", {}).get("conditions", [])
    return next((str(c["reason"]) for c in conditions if c["type"] == "Ready"), "")


def _create(made: Stand, workspace: str, name: str) -> None:
    run = made.training_run(name, "alive", workspaceRef={"name": workspace})
    made.cluster.call("POST", RUNS.format("alive"), run)


def _seconds(made: Stand, team: Team, prefix: str, runs: int) -> list[float]:
    """Seconds from the request that creates a run to its remote id in status, one run at a time."""
    seconds = []
    for number in range(runs):
        name = f"{prefix}-{number}"
        started = time.monotonic()
        _create(made, team.workspace, name)
        wait_for(f"{name}'s remote id", lambda name=name: _status(made, name).get("remoteId"), 120, pause=0.005)
        seconds.append(time.monotonic() - started)
        wait_for(f"{name}'s end", lambda name=name: _status(made, name).get("phase") in FINAL, 120)
    return seconds


def _status(made: Stand, name: str) -> dict[str, Any]:
    found: dict[str, Any] = made.run(name, "alive").get("status", {})
    return found


def _rss_mib(process: Process) -> float:
    return float(psutil.Process(process.pid).memory_info().rss) / 2**20


def _loaded(log: Path) -> str:
    """Which vendors' SDKs a process has imported, by what Python wrote of its imports."""
    found = {name for name in SDKS if re.search(rf"\| +{re.escape(name)}$", log.read_text(), re.MULTILINE)}
    return ", ".join(sorted(found)) or "none"
