"""`make demo`: the main job on this machine alone. Starts everything, trains and serves on both platforms, and tells.

Nothing in it is staged: the API server, the token exchanges, the vendors' SDKs, the trainings and the served models are
real; only the clouds are the sandbox. It leaves nothing behind, unless KEEP=1 asks it to stay up until interrupted.
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
from rich.console import Console
from rich.live import Live
from rich.table import Table

from demo_serving import FELLED, Serving, show
from demo_trail import Story, now, show_audit
from stand import AUDIENCE, ROOT, Process, Stand, StandError, stand, wait_for
from trainyard_localcluster import LocalClusterError

NAMESPACE, RUN, DEPLOYMENT = "team-wine", "wine-forest", "wine"
# Beside the quickstart's run: one with more trees, and one whose model can not be loaded.
NEXT, BROKEN = "next", "broken"
WORKSPACES = ("databricks", "azureml")
QUICKSTART = ROOT / "examples" / "quickstart"
FINAL = ("Succeeded", "Failed", "TimedOut", "Cancelled")
SECONDS = 600
ASKED = 10  # requests of callers before each change, and after the last

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
    manifests = manifests_of("team.yaml")
    for manifest in manifests:
        if manifest["kind"] == "ServiceAccount":
            manifest["metadata"]["annotations"]["trainyard.dev/databricks-client-id"] = principal
        if manifest["kind"] == "MLWorkspace":
            manifest["spec"]["databricks"]["host"] = made.address.host
    return manifests


def federate_azure(made: Stand) -> list[dict[str, Any]]:
    """What an administrator of Azure does once: an application that trusts one ServiceAccount, with a role.

    Returns the team's manifests with the sandbox's ids and that application in place of the placeholders.
    """
    application = made.control.add_application("wine-trainer", roles={"workspace": ["AzureML Data Scientist"]})
    subject = f"system:serviceaccount:{NAMESPACE}:azure-trainer"
    made.control.add_federated_credential(application, made.cluster.issuer, subject)
    manifests = manifests_of("team-azureml.yaml")
    for manifest in manifests:
        if manifest["kind"] == "ServiceAccount":
            manifest["metadata"]["annotations"]["trainyard.dev/azure-client-id"] = application
        if manifest["kind"] == "MLWorkspace":
            manifest["spec"]["azureML"] = made.azure_workspace(NAMESPACE)["spec"]["azureML"]
    return manifests


def manifests_of(file: str) -> list[dict[str, Any]]:
    """The objects of a file of the quickstart."""
    return list(yaml.safe_load_all((QUICKSTART / file).read_text()))


def run_in(workspace: str, which: str = "") -> dict[str, Any]:
    """The quickstart's run, unchanged but for its workspace, and for its name, as two can not have the same.

    `which` is one of NEXT and BROKEN, where it is another than the quickstart's own.
    """
    (run,) = manifests_of("run.yaml")
    run["metadata"]["name"] = name_in(workspace, which)
    run["spec"]["workspaceRef"]["name"] = workspace
    if which == NEXT:
        run["spec"]["params"]["trees"] = "200"
    if which == BROKEN:
        run["spec"] |= {"code": {"inline": FELLED}, "entrypoint": {"pythonFile": "train.py"}, "params": {}}
    return run


def name_in(workspace: str, which: str = "") -> str:
    """What that run in that workspace is called."""
    return "-".join(filter(None, (RUN, "" if workspace == WORKSPACES[0] else workspace, which)))


def deployment_in(workspace: str) -> dict[str, Any]:
    """The quickstart's deployment of that workspace's run."""
    (deployment,) = manifests_of("deployment.yaml")
    deployment["metadata"]["name"] = DEPLOYMENT if workspace == WORKSPACES[0] else f"{DEPLOYMENT}-{workspace}"
    deployment["spec"]["workspaceRef"]["name"] = workspace
    deployment["spec"]["models"][0]["model"]["fromRun"]["name"] = name_in(workspace)
    return deployment


def follow(made: Stand, operator: Process) -> list[dict[str, Any]]:
    """Shows each step of the runs as it happens. Returns the finished objects, in the order of WORKSPACES."""
    table = Table(title="mltrainingruns", title_justify="left", expand=False)
    for column in ("after", "run", "phase", "reason", "what it means"):
        table.add_column(column, overflow="fold", no_wrap=column != "what it means")
    started = time.monotonic()
    shown: dict[str, tuple[str, ...]] = {}
    with ExitStack() as stack:
        live = stack.enter_context(Live(table, console=console)) if console.is_terminal else None
        while True:
            operator.check()
            runs = [made.run(name_in(workspace), NAMESPACE) for workspace in WORKSPACES]
            for run in runs:
                name, status = run["metadata"]["name"], run.get("status", {})
                ready = next((c for c in status.get("conditions", []) if c["type"] == "Ready"), {})
                seen = (status.get("phase", ""), ready.get("reason", ""), ready.get("message", ""))
                if seen == shown.get(name) or not seen[0]:
                    continue
                shown[name] = seen
                row = (f"{time.monotonic() - started:.1f} s", name, *seen)
                table.add_row(*row)
                if live is None:
                    console.print("    " + "  ".join(row), soft_wrap=True)
            if all(run.get("status", {}).get("phase") in FINAL for run in runs):
                return runs
            if time.monotonic() - started > SECONDS:
                raise StandError(f"the runs did not end within {SECONDS} s; they are {shown}")
            time.sleep(0.1)


def ended(made: Stand, operator: Process, name: str) -> None:
    """Waits for a run that is not shown to succeed."""

    def succeeded() -> bool:
        operator.check()
        phase = made.run(name, NAMESPACE).get("status", {}).get("phase")
        if phase in FINAL[1:]:
            raise StandError(f"the run {name} ended as {phase}")
        return phase == FINAL[0]

    wait_for(f"the run {name}", succeeded, SECONDS)


def show_results(runs: list[dict[str, Any]]) -> None:
    """What the resources say at the end, side by side."""
    table = Table(title="one manifest, two platforms: what the resources say now", title_justify="left")
    table.add_column("")
    for workspace in WORKSPACES:
        table.add_column(f"workspace {workspace}", overflow="fold")
    facts = [facts_of(run["status"]) for run in runs]
    for what in dict.fromkeys(name for fact in facts for name in fact):
        table.add_row(f"[bold]{what}[/]", *(fact.get(what, "") for fact in facts))
    console.print(table)


def facts_of(status: dict[str, Any]) -> dict[str, str]:
    """What one status says, by what it is about."""
    attempt, identity, model = status["attempts"][-1], status["identity"], status.get("model", {})
    return {
        "phase": status["phase"],
        "duration": status.get("duration", ""),
        **{f"metric {name}": value for name, value in status.get("metrics", {}).items()},
        "model version": f"{model['name']} version {model['version']} (alias {model.get('alias')})" if model else "",
        "remote run": f"{attempt['remoteId']} on {attempt['host']}",
        "submitted as": identity["submittedAs"],
        "ran as": identity.get("ranAs", ""),
        "vouched for by": f"ServiceAccount {identity['serviceAccount']} ({identity['mode']}, no stored secret)",
    }


def show_more(kubeconfig: Path, keep: bool) -> None:
    """Commands to look further."""
    kubectl = Path(sys.executable).parent / "kubectl"
    shown = os.path.relpath(kubectl) if kubectl.exists() else "kubectl"
    console.print("\n[bold]Look further[/]" + ("" if keep else " (with `make demo KEEP=1`, which stays up)"))
    where = str(kubeconfig) if keep else "<printed there>"
    for command in (
        f"export KUBECONFIG={where}",
        f"{shown} get mltr,mlws,mldep -n {NAMESPACE} -o wide",
        f"{shown} get mltr {RUN} -n {NAMESPACE} -o yaml",
        f"{shown.removesuffix('kubectl')}trainyard describe {RUN} -n {NAMESPACE}",
        f"{shown.removesuffix('kubectl')}trainyard logs {RUN} -n {NAMESPACE}",
        f"{shown.removesuffix('kubectl')}trainyard lineage deployment/{DEPLOYMENT} -n {NAMESPACE}",
        f"{shown} explain mltrainingrun.spec --recursive",
    ):
        console.print(f"  {command}", soft_wrap=True)


def serve(made: Stand, operator: Process) -> tuple[bool, list[Story]]:
    """Serves what was trained on both platforms, changes it under the eyes of callers, and shows what they got.

    Returns whether every request was answered, and the canary on each platform for the audit trail.
    """
    (run,) = manifests_of("run.yaml")
    manifests = {workspace: deployment_in(workspace) for workspace in WORKSPACES}
    serving = Serving(made, operator, NAMESPACE, manifests, int(run["spec"]["params"]["seed"]), console)
    console.print("\n[bold]examples/quickstart/deployment.yaml[/], on each: the run's model behind an endpoint")
    serving.apply()
    serving.until("Ready")
    serving.allow()
    with serving.load() as callers:
        callers.wait(ASKED)
        console.print("\n[bold]a run with more trees[/]: 10 % of the requests, then 50 %, then all")
        began = now()
        serving.serve({workspace: name_in(workspace, NEXT) for workspace in WORKSPACES}, "Ready")
        over = now()
        callers.wait(ASKED)
        console.print("\n[bold]a run whose model can not be loaded[/]: taken back by itself, with its log")
        serving.serve({workspace: name_in(workspace, BROKEN) for workspace in WORKSPACES}, "RolledBack")
        callers.wait(ASKED)
    for platform, failure in serving.failures():
        last = (failure.get("log") or "").strip().splitlines()[-1:]
        console.print(f"    {platform}: {failure['reason']}: {' '.join(last)}", markup=False, soft_wrap=True)
    console.print()
    show(console, serving.served)
    canaries = [Story("ModelDeployment", each.name, began, over, changes=True) for each in serving.served]
    return not any(serving.failed()), canaries


def demo(dir: Path, keep: bool) -> bool:
    """The whole demo. Returns whether the trainings succeeded, and every request was answered."""
    console.print(
        "[bold]Trainyard[/]: train a model, and serve it, by applying Kubernetes resources, on Databricks and on "
        "Azure ML."
    )
    console.print(
        "Real here: the Kubernetes API server, the token exchanges, databricks-sdk, azure-ai-ml and azure-identity, "
        "the trainings, MLflow, the served models. In place of the clouds: the sandbox.\n"
    )
    with ExitStack() as stack:
        with step("start a Kubernetes control plane and the sandbox, install Trainyard's kinds and rights"):
            made = stack.enter_context(stand(dir))
        with step("start the operator, as its own ServiceAccount with the chart's rights"):
            operator = stack.enter_context(made.operator(poll_seconds="1"))
        with step(f"apply examples/quickstart/team.yaml and team-azureml.yaml: namespace {NAMESPACE}, two workspaces"):
            made.apply(*federate(made), *federate_azure(made))
        with step("apply examples/quickstart/run.yaml twice: to the workspace databricks and to azureml"):
            made.apply(*(run_in(workspace) for workspace in WORKSPACES))
        made.apply(*(run_in(workspace, which) for which in (NEXT, BROKEN) for workspace in WORKSPACES))
        runs = follow(made, operator)
        show_results(runs)
        for which in (NEXT, BROKEN):
            for workspace in WORKSPACES:
                ended(made, operator, name_in(workspace, which))
        answered, canaries = serve(made, operator)
        show_audit(console, made.audit(), [Story("MLTrainingRun", RUN), *canaries])
        show_more(made.cluster.kubeconfig, keep)
        if keep:
            console.print("\nEverything stays up until Ctrl-C.")
            while operator.alive():
                time.sleep(0.5)
        return answered and all(run["status"]["phase"] == "Succeeded" for run in runs)


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
