"""`make demo`: the main job on this machine alone. Starts everything, applies the quickstart, shows what happens.

Nothing in it is staged: the API server, the token exchange, the vendor's SDK and the training are real; only the cloud
is the sandbox. It leaves nothing behind, unless KEEP=1 asks it to stay up until interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from stand import AUDIENCE, ROOT, Process, Stand, StandError, stand
from trainyard_localcluster import LocalClusterError

NAMESPACE, RUN = "team-wine", "wine-forest"
QUICKSTART = ROOT / "examples" / "quickstart"
FINAL = ("Succeeded", "Failed", "TimedOut", "Cancelled")
SHORT = {"MLTrainingRun": "mltr", "MLWorkspace": "mlws"}
SECONDS = 600

# A file or a pipe has no width of its own; wide enough that a row stays a row.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Says what is being done, then how long it took."""
    started = time.monotonic()
    with console.status(what):
        yield
    console.print(f"[green]ok[/]  {what} [dim]({time.monotonic() - started:.1f} s)[/]")


def federate(made: Stand) -> list[dict[str, Any]]:
    """What an account administrator of Databricks does once: a service principal that trusts one ServiceAccount.

    Returns the team's manifests with the sandbox's host and that principal in place of the placeholders.
    """
    principal = made.control.add_principal(
        "wine-trainer", grants={"main": ["USE CATALOG"], "main.ml": ["USE SCHEMA", "CREATE MODEL"]}
    )
    subject = f"system:serviceaccount:{NAMESPACE}:trainer"
    made.control.add_policy(principal, made.cluster.issuer, subject, [AUDIENCE])
    manifests: list[dict[str, Any]] = list(yaml.safe_load_all((QUICKSTART / "team.yaml").read_text()))
    for manifest in manifests:
        if manifest["kind"] == "ServiceAccount":
            manifest["metadata"]["annotations"]["trainyard.dev/databricks-client-id"] = principal
        if manifest["kind"] == "MLWorkspace":
            manifest["spec"]["databricks"]["host"] = made.address.host
    return manifests


def follow(made: Stand, operator: Process) -> dict[str, Any]:
    """Shows each step of the run as it happens. Returns the finished object."""
    table = Table(title=f"mltrainingrun {RUN}", title_justify="left", expand=False)
    for column in ("after", "phase", "reason", "what it means"):
        table.add_column(column, overflow="fold", no_wrap=column != "what it means")
    started, shown = time.monotonic(), ()
    with ExitStack() as stack:
        live = stack.enter_context(Live(table, console=console)) if console.is_terminal else None
        while True:
            operator.check()
            run = made.run(RUN, NAMESPACE)
            status = run.get("status", {})
            ready = next((c for c in status.get("conditions", []) if c["type"] == "Ready"), {})
            seen = (status.get("phase", ""), ready.get("reason", ""), ready.get("message", ""))
            if seen != shown and seen[0]:
                shown = seen
                row = (f"{time.monotonic() - started:.1f} s", *seen)
                table.add_row(*row)
                if live is None:
                    console.print("    " + "  ".join(row), soft_wrap=True)
            if status.get("phase") in FINAL:
                return run
            if time.monotonic() - started > SECONDS:
                raise StandError(f"the run did not end within {SECONDS} s; it is {seen}")
            time.sleep(0.1)


def show_result(run: dict[str, Any]) -> None:
    """What the resource says at the end."""
    status = run["status"]
    attempt = status["attempts"][-1]
    table = Table(title="what the resource says now", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("phase", status["phase"])
    table.add_row("duration", status.get("duration", ""))
    for name, value in status.get("metrics", {}).items():
        table.add_row(f"metric {name}", value)
    model = status.get("model")
    if model:
        table.add_row("model version", f"{model['name']} version {model['version']} (alias {model.get('alias')})")
    table.add_row("remote run", f"{attempt['remoteId']} on {attempt['host']}")
    identity = status["identity"]
    table.add_row("submitted as", f"service principal {identity['submittedAs']}")
    table.add_row("ran as", f"service principal {identity.get('ranAs', '')}")
    table.add_row(
        "vouched for by", f"ServiceAccount {identity['serviceAccount']} ({identity['mode']}, no stored secret)"
    )
    console.print(table)


def show_audit(records: list[dict[str, Any]]) -> None:
    """The audit trail, one line a request; looks at a running job are counted."""
    answers = {record["id"]: record for record in records if record["event"] == "response"}
    title = "the audit trail (one record before and one after each request)"
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    for column in ("time", "for", "doing", "request", "answer", "ms"):
        table.add_column(column, overflow="fold", no_wrap=column != "request")
    sweeps = 0
    for record in (r for r in records if r["event"] == "request"):
        answer = answers.get(record["id"], {})
        if record.get("action") == "sweep":
            sweeps += 1
            continue
        resource = record.get("resource", {})
        table.add_row(
            record["time"][11:23],
            f"{SHORT.get(resource.get('kind', ''), '')} {resource.get('name', '')}",
            record.get("action", ""),
            f"{record['method']} {record['path']}",
            str(answer.get("status", answer.get("error", "none"))),
            str(answer.get("duration_ms", "")),
        )
    console.print(table)
    console.print(f"[dim]and {sweeps} looks at the running job[/]")


def show_more(kubeconfig: Path, keep: bool) -> None:
    """Commands to look further."""
    kubectl = Path(sys.executable).parent / "kubectl"
    shown = os.path.relpath(kubectl) if kubectl.exists() else "kubectl"
    console.print("\n[bold]Look further[/]" + ("" if keep else " (with `make demo KEEP=1`, which stays up)"))
    where = str(kubeconfig) if keep else "<printed there>"
    for command in (
        f"export KUBECONFIG={where}",
        f"{shown} get mltr,mlws -n {NAMESPACE} -o wide",
        f"{shown} get mltr {RUN} -n {NAMESPACE} -o yaml",
        f"{shown.removesuffix('kubectl')}trainyard describe {RUN} -n {NAMESPACE}",
        f"{shown.removesuffix('kubectl')}trainyard logs {RUN} -n {NAMESPACE}",
        f"{shown} explain mltrainingrun.spec --recursive",
    ):
        console.print(f"  {command}", soft_wrap=True)


def demo(dir: Path, keep: bool) -> bool:
    """The whole demo. Returns whether the training succeeded."""
    console.print("[bold]Trainyard[/]: train a model by applying a Kubernetes resource.")
    console.print(
        "Real here: the Kubernetes API server, the token exchange, databricks-sdk, the training, MLflow. "
        "In place of the cloud: the sandbox.\n"
    )
    with ExitStack() as stack:
        with step("start a Kubernetes control plane and the sandbox, install Trainyard's kinds and rights"):
            made = stack.enter_context(stand(dir))
        with step("start the operator, as its own ServiceAccount with the chart's rights"):
            operator = stack.enter_context(made.operator(poll_seconds="1"))
        with step(f"apply examples/quickstart/team.yaml: namespace {NAMESPACE}, ServiceAccount, MLWorkspace"):
            made.apply(*federate(made))
        with step("apply examples/quickstart/run.yaml: the MLTrainingRun"):
            made.apply(yaml.safe_load((QUICKSTART / "run.yaml").read_text()))
        run = follow(made, operator)
        show_result(run)
        show_audit(made.audit())
        show_more(made.cluster.kubeconfig, keep)
        if keep:
            console.print("\nEverything stays up until Ctrl-C.")
            while operator.alive():
                time.sleep(0.5)
        return bool(run["status"]["phase"] == "Succeeded")


def _stop(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Runs the demo in a temporary directory. Returns the exit code."""
    keep = "--keep" in sys.argv[1:]
    signal.signal(signal.SIGTERM, _stop)
    with tempfile.TemporaryDirectory(prefix="trainyard-demo-") as dir:
        try:
            return 0 if demo(Path(dir), keep) else 1
        except KeyboardInterrupt:
            console.print("stopped")
            return 130
        except (StandError, LocalClusterError) as error:
            console.print(f"[red]error:[/] {error}", markup=True, soft_wrap=True)
            return 1


if __name__ == "__main__":
    sys.exit(main())
