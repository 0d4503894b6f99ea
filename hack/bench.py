"""`make bench`: what Trainyard costs, measured on this machine against named peers in the same run.

Prints a table; docs/performance.md records one run of it with its machine. Never a test: a time is no promise.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from socket import socket
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from bench_neighbours import PLATFORMS, Neighbour, measure
from stand import Process, Stand, StandError, stand, wait_for

NAMESPACE = "bench"
FINAL = ("Succeeded", "Failed", "TimedOut", "Cancelled")
console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Counts:
    """The operator's own counters, read from /metrics."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/metrics"

    def read(self) -> Counter[str]:
        """Writes to the API server by what is written."""
        found: Counter[str] = Counter()
        with urllib.request.urlopen(self._url, timeout=5) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith("trainyard_kubernetes_writes_total{"):
                    name, value = line.rsplit(" ", 1)
                    found[name.split('what="')[1].rstrip('"}')] = int(float(value))
        return found


def create(made: Stand, name: str, **spec: Any) -> None:
    """Creates a run with one request, as `kubectl apply` of a new object does."""
    path = f"/apis/trainyard.dev/v1alpha1/namespaces/{NAMESPACE}/mltrainingruns"
    made.cluster.call("POST", path, made.training_run(name, NAMESPACE, **spec))


def status(made: Stand, name: str) -> dict[str, Any]:
    """The run's status now."""
    found: dict[str, Any] = made.run(name, NAMESPACE).get("status", {})
    return found


def apply_to_remote_id(made: Stand, runs: int) -> list[float]:
    """Seconds from the request that creates a run to its remote id in status, one run at a time."""
    seconds = []
    for number in range(runs):
        name = f"one-{number}"
        started = time.monotonic()
        create(made, name)
        wait_for(f"{name}'s remote id", lambda name=name: status(made, name).get("remoteId"), 60, pause=0.005)
        seconds.append(time.monotonic() - started)
        wait_for(f"{name}'s end", lambda name=name: status(made, name).get("phase") in FINAL, 60)
        console.print(f"\r  {number + 1} of {runs}", end="")
    console.print()
    return seconds


def peer_submit(made: Stand, principal: str, runs: int) -> list[float]:
    """The peer: databricks-sdk alone, token in hand, doing what a submission needs (upload, MLflow run, submit)."""
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service.compute import Environment
    from databricks.sdk.service.jobs import JobEnvironment, Source, SparkPythonTask, SubmitTask
    from databricks.sdk.service.workspace import ImportFormat

    os.environ["REQUESTS_CA_BUNDLE"] = str(made.address.ca_file)
    token = next(t["value"] for t in reversed(made.control.tokens()) if t["application_id"] == principal)
    client = WorkspaceClient(host=made.address.host, token=token, auth_type="pat")
    folder = f"/Users/{principal}/peer"
    client.workspace.mkdirs(folder)
    experiment = client.experiments.create_experiment(f"{folder}/experiment").experiment_id
    content = base64.b64encode(b"print('hello')").decode()
    seconds = []
    for number in range(runs):
        started = time.monotonic()
        path = f"{folder}/{number}.py"
        client.workspace.import_(path, content=content, format=ImportFormat.RAW, overwrite=True)
        client.experiments.create_run(experiment_id=experiment)
        task = SubmitTask(
            task_key="train",
            environment_key="e",
            spark_python_task=SparkPythonTask(python_file=path, source=Source.WORKSPACE),
        )
        client.jobs.submit(
            run_name=f"peer {number}",
            idempotency_token=f"peer-{number}",
            tasks=[task],
            environments=[JobEnvironment("e", Environment(environment_version="5"))],
        )
        seconds.append(time.monotonic() - started)
    return seconds


def rss_mib(process: Process) -> float:
    """Resident memory of the process and its children, in MiB."""
    root = psutil.Process(process.pid)
    family = [root, *root.children(recursive=True)]
    return sum(p.memory_info().rss for p in family) / 2**20


def many(made: Stand, process: Process, runs: int, seconds: int) -> dict[str, float]:
    """Holds `runs` pretended runs at once; returns memory, CPU and requests while all of them run, then their end."""
    made.control.clear_scripts()
    made.control.add_script(states=[("PENDING", 1), ("RUNNING", seconds)])
    started = time.monotonic()
    for number in range(runs):
        create(made, f"many-{number}")
    phases = phase_counter(made, "many-")
    wait_for("all runs to be running", lambda: phases()["Running"] == runs, 600, pause=1.0)
    up = time.monotonic() - started
    cpu = psutil.Process(process.pid).cpu_times()
    made.control.clear_requests()
    window = 30.0
    time.sleep(window)  # the measured window itself, not a hope
    spent = psutil.Process(process.pid).cpu_times()
    requests = made.control.requests()
    found = {
        "seconds until all run": up,
        "rss": rss_mib(process),
        "cpu per second": (spent.user + spent.system - cpu.user - cpu.system) / window,
        "requests per 30 s": len(requests),
    }
    wait_for("all runs to end", lambda: phases()["Succeeded"] == runs, 900, pause=1.0)
    found["paid runs"] = sum(
        1 for r in made.control.runs() if r["run_name"].startswith(f"{NAMESPACE}/many-") and r["paid"]
    )
    return found


def phase_counter(made: Stand, prefix: str) -> Callable[[], Counter[str]]:
    """Counts the phases of the runs whose names begin so."""
    path = f"/apis/trainyard.dev/v1alpha1/namespaces/{NAMESPACE}/mltrainingruns"

    def count() -> Counter[str]:
        items = made.cluster.call("GET", path)["items"]
        return Counter(i.get("status", {}).get("phase", "") for i in items if i["metadata"]["name"].startswith(prefix))

    return count


def loaded_by(module: str) -> list[str]:
    """Which of the vendors' SDKs importing a module loads."""
    code = f"import {module}, sys, json; print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = set(json.loads(ran.stdout))
    return [sdk for sdk in ("azure.ai.ml", "databricks.sdk") if sdk in names]


def per_cycle(made: Stand, counts: Counts, runs: int, measure: Callable[[], list[float]]) -> dict[str, Any]:
    """Runs `measure` over that many life cycles; returns its seconds with writes and platform calls per cycle."""
    made.control.clear_requests()
    before = counts.read()
    seconds = measure()
    written = counts.read() - before
    requests = [r for r in made.control.requests() if r["principal"]]
    looks = sum(1 for r in requests if r["path"].endswith(("/runs/get", "/runs/list")))
    return {
        "seconds": seconds,
        "writes": (written["status"] + written["finalizers"]) / runs,
        "events": written["event"] / runs,
        "calls": (len(requests) - looks) / runs,
        "looks": looks / runs,
    }


def machine() -> str:
    """What this ran on."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {sys.version.split()[0]}, {sys.platform}"


def bench(dir: Path, runs: int, crowd: int) -> Table:
    """The whole measurement as a table."""
    with ExitStack() as stack:
        console.print("starting a control plane, the sandbox (pretend engine) and the operator")
        made = stack.enter_context(stand(dir, engine="pretend"))
        port = free_port()
        flags = {"metrics_port": str(port), "poll_seconds": "10"}
        process = stack.enter_context(made.operator(**flags))
        counts = Counts(port)
        wait_for("the operator's metrics", lambda: _answers(counts, process), 60)
        time.sleep(5)  # idle is what remains once start-up has settled
        idle = rss_mib(process)
        team = made.team(NAMESPACE)
        wait_for("the workspace", lambda: _ready(made), 60)
        made.control.add_script(states=[("PENDING", 0.1), ("RUNNING", 0.1)])
        console.print(f"apply to remote id, {runs} runs one at a time")
        process.stop()
        flags["poll_seconds"] = "1"
        process = stack.enter_context(made.operator("second", **flags))
        wait_for("the operator's metrics", lambda: _answers(counts, process), 60)
        create(made, "warm")
        wait_for("the first run", lambda: status(made, "warm").get("phase") in FINAL, 60)
        cycle = per_cycle(made, counts, runs, lambda: apply_to_remote_id(made, runs))
        peer = peer_submit(made, team.principal, runs)
        process.stop()
        console.print(f"{crowd} pretended runs at once")
        flags["poll_seconds"] = "10"
        process = stack.enter_context(made.operator("third", **flags))
        wait_for("the operator's metrics", lambda: _answers(counts, process), 60)
        crowded = many(made, process, crowd, max(90, crowd // 5))
    return report(runs, crowd, idle, cycle, peer, crowded)


def report(
    runs: int, crowd: int, idle: float, cycle: dict[str, Any], peer: list[float], crowded: dict[str, float]
) -> Table:
    """The measurement for people."""
    table = Table(title=f"Trainyard on {machine()}", title_justify="left")
    for column in ("what", "measured", "peer", "ratio"):
        table.add_column(column, overflow="fold")
    ours, theirs = statistics.median(cycle["seconds"]), statistics.median(peer)
    table.add_row(
        f"apply to remote id in status, median of {runs}, one at a time",
        f"{ours * 1000:.0f} ms",
        f"databricks-sdk alone, token in hand: {theirs * 1000:.0f} ms",
        f"{ours / theirs:.1f}",
    )
    table.add_row("Kubernetes writes per life cycle (aim 6, at most 8)", f"{cycle['writes']:.1f}", "", "")
    table.add_row("Events per life cycle", f"{cycle['events']:.1f}", "", "")
    table.add_row("platform calls per life cycle, looks apart", f"{cycle['calls']:.1f}", "", "")
    table.add_row("looks per life cycle, at one a second", f"{cycle['looks']:.1f}", "", "")
    table.add_row("operator RSS, idle", f"{idle:.0f} MiB", "", "")
    ratio = crowded["rss"] / idle
    table.add_row(f"operator RSS, {crowd} live runs", f"{crowded['rss']:.0f} MiB", "idle", f"{ratio:.2f}")
    table.add_row(f"operator CPU, {crowd} live runs", f"{crowded['cpu per second'] * 100:.1f} % of a core", "", "")
    table.add_row(
        f"requests to the platform in 30 s, {crowd} live runs",
        f"{crowded['requests per 30 s']:.0f}",
        f"one look per run every 30 s, as Airflow's DatabricksExecutionTrigger: {crowd}",
        f"{crowded['requests per 30 s'] / crowd:.2f}",
    )
    table.add_row(f"seconds until all {crowd} run", f"{crowded['seconds until all run']:.0f} s", "", "")
    table.add_row(f"paid runs for {crowd} resources", f"{crowded['paid runs']:.0f}", f"{crowd}", "")
    for module in ("trainyard", "trainyard.cli.main"):
        table.add_row(f"vendor SDKs loaded by import {module}", ", ".join(loaded_by(module)) or "none", "", "")
    return table


def neighbours(dir: Path, runs: int) -> Table:
    """What a dead workspace costs the others, and what an operator of one platform loads."""
    table = Table(title=f"one platform, and a dead workspace on it, on {machine()}", title_justify="left")
    for column in ("platform", "apply to remote id", "beside a dead one", "ratio (aim 1.1)", "RSS", "SDKs loaded"):
        table.add_column(column, overflow="fold")
    for platform in PLATFORMS:
        console.print(f"{platform}: {runs} runs one at a time, and {runs} beside a dead workspace")
        found: Neighbour = measure(dir / platform, platform, runs)
        times = (f"{seconds * 1000:.0f} ms" for seconds in (found.alone, found.beside_the_dead))
        table.add_row(platform, *times, f"{found.ratio:.2f}", f"{found.rss:.0f} MiB", found.loaded)
    return table


def _answers(counts: Counts, process: Process) -> bool:
    process.check()
    try:
        counts.read()
    except OSError:
        return False
    return True


def _ready(made: Stand) -> bool:
    found = made.get("mlworkspaces", "databricks", NAMESPACE).get("status", {})
    return any(c["type"] == "Ready" and c["status"] == "True" for c in found.get("conditions", []))


def main() -> int:
    """Runs the bench. Returns the exit code."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=50, help="runs for the latency, one at a time")
    options.add_argument("--crowd", type=int, default=1000, help="pretended runs at once")
    options.add_argument("--neighbours", type=int, default=30, help="runs beside a dead workspace, and as many without")
    options.add_argument("--neighbours-only", action="store_true", help="measure nothing else")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="trainyard-bench-") as dir:
        try:
            if not given.neighbours_only:
                console.print(bench(Path(dir) / "crowd", given.runs, given.crowd))
            console.print(neighbours(Path(dir), given.neighbours))
        except StandError as error:
            console.print(f"error: {error}", soft_wrap=True)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
