"""Options that several verbs have, and where they lead. Light: imported for --help, so no Kubernetes client here."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


@dataclass(frozen=True)
class Where:
    """Which API server, as whom, in which namespace."""

    namespace: str | None
    context: str | None
    kubeconfig: Path | None
    verbose: bool


class Output(StrEnum):
    """Forms of a result on stdout."""

    table = "table"
    wide = "wide"
    name = "name"
    json = "json"
    yaml = "yaml"


class Form(StrEnum):
    """Forms of what is no object of Kubernetes, on stdout."""

    table = "table"
    json = "json"


class Shell(StrEnum):
    """Shells that can complete this command."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


DEPLOYMENT_KINDS = ("deployment", "deployments", "modeldeployment", "modeldeployments", "mldep")
RUN_KINDS = ("run", "runs", "mltrainingrun", "mltrainingruns", "mltr")


def kind_and_name(text: str, without: str) -> tuple[str, str]:
    """`run` or `deployment`, and the name, of KIND/NAME; of a name alone the kind is `without`."""
    kind, slash, name = text.partition("/")
    if not slash:
        return without, text
    for known, words in (("deployment", DEPLOYMENT_KINDS), ("run", RUN_KINDS)):
        if kind.lower().removesuffix(".trainyard.dev") in words and name and "/" not in name:
            return known, name
    raise typer.BadParameter(f"{text} is neither run/NAME nor deployment/NAME")


Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Namespace. Absent: the context's, or the pod's own.")
]
Context = Annotated[str | None, typer.Option(help="Context of the kubeconfig. Absent: the current one.")]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(help="A kubeconfig file. Absent: KUBECONFIG, ~/.kube/config, or the pod's ServiceAccount."),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show each request to the API server on stderr.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="Form of the result on stdout.")]
Timeout = Annotated[
    float | None, typer.Option(min=0, help="Seconds to wait at most; the run goes on. Absent: for ever.")
]
FailWhenStalled = Annotated[
    bool, typer.Option("--fail-when-stalled", help="Stop waiting with exit code 1 once the run needs a person.")
]
RunName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the run.")]
DeploymentName = Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="Name of the deployment.")]
AnyName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the run, or deployment/NAME.")]
