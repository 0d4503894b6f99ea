"""The verbs for people and scripts, as the command line shows them: arguments in, one call out. No logic of its own.

Registered by main.py. What does the work is imported when a verb runs, so that --help loads no Kubernetes client.
"""

from typing import Annotated

import typer

from trainyard.cli.exits import EPILOG
from trainyard.cli.options import (
    AnyName,
    Context,
    FailWhenStalled,
    Kubeconfig,
    Namespace,
    Output,
    OutputOption,
    RunName,
    Shell,
    Timeout,
    Verbose,
    Where,
    kind_and_name,
)
from trainyard.cli.serving_verbs import lineage, promote, score

File = Annotated[str, typer.Option("--file", "-f", help="File with one MLTrainingRun, in YAML or JSON; - is stdin.")]


def run(
    file: File,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return once the run is created.")] = False,
    timeout: Timeout = None,
    fail_when_stalled: FailWhenStalled = False,
    cancel_on_exit: Annotated[
        bool,
        typer.Option(
            "--cancel-on-exit",
            help="Cancel the run when this command ends before it: SIGTERM, Ctrl-C, --timeout, --fail-when-stalled.",
        ),
    ] = False,
    cancel_seconds: Annotated[
        float, typer.Option(min=0, help="Seconds that --cancel-on-exit waits for the end of the run.")
    ] = 25.0,
    output: OutputOption = Output.table,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    verbose: Verbose = False,
) -> None:
    """Create a run, wait for its end, and exit as it ended.

    If a run of that name with the same spec exists, it is followed instead; one with another spec is never touched.
    """
    from trainyard.cli import running

    running.run(
        Where(namespace, context, kubeconfig, verbose),
        file,
        running.Waiting(not no_wait, timeout, fail_when_stalled, cancel_on_exit, cancel_seconds, output),
    )


def wait(
    name: AnyName,
    timeout: Timeout = None,
    fail_when_stalled: FailWhenStalled = False,
    output: OutputOption = Output.table,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    verbose: Verbose = False,
) -> None:
    """Wait for the end of a run and exit as it ended; or until a deployment is served, and whether it is."""
    from trainyard.cli import deployments, running

    waiting = running.Waiting(timeout=timeout, fail_when_stalled=fail_when_stalled, output=output)
    kind, name = kind_and_name(name, "run")
    (deployments if kind == "deployment" else running).wait(
        Where(namespace, context, kubeconfig, verbose), name, waiting
    )


def get(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Name of one run, or deployment/NAME. Absent: all runs.")
    ] = None,
    deployments: Annotated[
        bool, typer.Option("--deployments", "-d", help="All deployments rather than all runs.")
    ] = False,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Those of every namespace.")] = False,
    selector: Annotated[str | None, typer.Option("--selector", "-l", help="Only those with these labels.")] = None,
    output: OutputOption = Output.table,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    verbose: Verbose = False,
) -> None:
    """Show runs or deployments in a table, or as they are."""
    from trainyard.cli import deployments as serving
    from trainyard.cli import looking

    if name and (all_namespaces or selector):
        raise typer.BadParameter("a name goes neither with --all-namespaces nor with --selector")
    kind, plain_name = kind_and_name(name, "deployment" if deployments else "run") if name else ("run", None)
    getting = serving if kind == "deployment" or (deployments and not name) else looking
    getting.get(Where(namespace, context, kubeconfig, verbose), plain_name, all_namespaces, selector, output)


def describe(
    name: AnyName,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    verbose: Verbose = False,
) -> None:
    """Tell what happened to a run (timeline, tasks, model, ...) or to a deployment (shares, rollout, failure, ...)."""
    from trainyard.cli import deployments, looking

    kind, name = kind_and_name(name, "run")
    (deployments if kind == "deployment" else looking).describe(Where(namespace, context, kubeconfig, verbose), name)


def logs(
    name: RunName,
    attempt: Annotated[int | None, typer.Option(min=1, help="Number of the attempt. Absent: the newest.")] = None,
    task: Annotated[str | None, typer.Option(help="Name of one task. Absent: all.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show progress until the attempt has ended, then its output.")
    ] = False,
    tail: Annotated[int | None, typer.Option(min=0, help="Only the last so many lines of each task.")] = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    verbose: Verbose = False,
) -> None:
    """Print what an attempt printed. The output is read from the platform when a task has ended."""
    from trainyard.cli import logs as printing

    wanted = printing.Wanted(attempt, task, tail)
    printing.logs(Where(namespace, context, kubeconfig, verbose), name, wanted, follow)


def cancel(
    name: RunName,
    output: OutputOption = Output.table,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    verbose: Verbose = False,
) -> None:
    """Stop a run for good. This can not be taken back."""
    from trainyard.cli import looking

    looking.change(Where(namespace, context, kubeconfig, verbose), name, output, "cancel")


def suspend(
    name: RunName,
    output: OutputOption = Output.table,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    verbose: Verbose = False,
) -> None:
    """Stop a run until it is resumed."""
    from trainyard.cli import looking

    looking.change(Where(namespace, context, kubeconfig, verbose), name, output, "suspend")


def resume(
    name: RunName,
    output: OutputOption = Output.table,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    verbose: Verbose = False,
) -> None:
    """Let a suspended run go on, with a new attempt that does not count as a retry."""
    from trainyard.cli import looking

    looking.change(Where(namespace, context, kubeconfig, verbose), name, output, "resume")


def copy(
    name: RunName,
    new_name: Annotated[str, typer.Argument(metavar="NEWNAME", help="Name of the new run.")],
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Change a field of spec, for example params.trees=200."),
    ] = None,
    workspace: Annotated[str | None, typer.Option(help="Name of the workspace it goes to. Absent: the same.")] = None,
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the manifest of the new run and create nothing.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Wait for the end of the new run and exit as it ended.")
    ] = False,
    output: OutputOption = Output.table,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    verbose: Verbose = False,
) -> None:
    """Make a new run from an old one, with changes."""
    from trainyard.cli import running

    running.copy(
        Where(namespace, context, kubeconfig, verbose),
        running.Copy(name, new_name, tuple(change or ()), workspace, only_print),
        running.Waiting(wait=follow, output=output),
    )


def plan(
    file: File,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for the plan.")] = 180.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the run that carries the plan.")] = False,
    output: OutputOption = Output.table,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    verbose: Verbose = False,
) -> None:
    """Show what a run would send to its platform and whether it may. Starts nothing."""
    from trainyard.cli import looking

    looking.plan(Where(namespace, context, kubeconfig, verbose), file, timeout, keep, output)


def completion(shell: Annotated[Shell, typer.Argument(help="Shell to complete in.")]) -> None:
    """Print a completion script; load it with: source <(trainyard completion bash)."""
    from trainyard.cli.completion import script

    typer.echo(script(shell))


def register(app: typer.Typer) -> None:
    """Adds every verb, in the order in which help lists them."""
    for verb in (run, wait, get, describe, logs, cancel, suspend, resume, copy, plan, promote, score, lineage):
        app.command(epilog=EPILOG)(verb)
    app.command()(completion)
