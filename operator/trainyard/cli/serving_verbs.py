"""The verbs of served models, as the command line shows them: arguments in, one call out. No logic of its own.

Registered by verbs.py. What does the work is imported when a verb runs, so that --help loads no Kubernetes client.
"""

from pathlib import Path
from typing import Annotated

import typer

from trainyard.cli.operator import CLOUD_HELP, HOST_HELP, split
from trainyard.cli.options import (
    Context,
    DeploymentName,
    Form,
    Kubeconfig,
    Namespace,
    Output,
    OutputOption,
    Verbose,
    Where,
    kind_and_name,
)

FormOption = Annotated[Form, typer.Option("--output", "-o", help="Form of the result on stdout.")]


def promote(
    name: DeploymentName,
    revision: Annotated[
        int | None, typer.Option(min=1, help="Number of the revision that is meant. Absent: the newest.")
    ] = None,
    output: OutputOption = Output.table,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    verbose: Verbose = False,
) -> None:
    """Give all requests to what a rollout is bringing, past the steps that are left."""
    from trainyard.cli import deployments

    _, plain_name = kind_and_name(name, "deployment")
    deployments.promote(Where(namespace, context, kubeconfig, verbose), plain_name, revision, output)


def score(
    name: DeploymentName,
    file: Annotated[
        str, typer.Option("--file", "-f", help="File with rows: a JSON list of objects, or one a line; - is stdin.")
    ],
    served: Annotated[
        str | None, typer.Option(help="What is to answer, by its name in spec.models. Absent: as the shares give.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that the answer may take.")] = 130.0,
    allowed_host: Annotated[list[str] | None, typer.Option(envvar="TRAINYARD_ALLOWED_HOSTS", help=HOST_HELP)] = None,
    azure_cloud: Annotated[list[str] | None, typer.Option(envvar="TRAINYARD_AZURE_CLOUDS", help=CLOUD_HELP)] = None,
    output: FormOption = Form.table,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    verbose: Verbose = False,
) -> None:
    """Score rows at a deployment's endpoint, with your own rights on its platform."""
    from trainyard.cli import scoring

    _, plain_name = kind_and_name(name, "deployment")
    asked = scoring.Question(
        file,
        served,
        timeout,
        tuple(split(allowed_host)),
        tuple(Path(path) for path in split(azure_cloud)),
    )
    scoring.score(Where(namespace, context, kubeconfig, verbose), plain_name, asked, output)


def lineage(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="deployment/NAME, run/NAME, or a deployment's name. Absent: all."),
    ] = None,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Deployments of every namespace.")
    ] = False,
    output: FormOption = Form.table,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    verbose: Verbose = False,
) -> None:
    """Tell what made a served model (run, code, data, person), or where a run's model is served."""
    from trainyard.cli import lineage as tracing

    kind, plain_name = kind_and_name(name, "deployment") if name else ("deployment", None)
    if all_namespaces and kind == "deployment" and plain_name:
        raise typer.BadParameter("a deployment is in one namespace: give -n instead of --all-namespaces")
    tracing.lineage(Where(namespace, context, kubeconfig, verbose), kind, plain_name, all_namespaces, output)
