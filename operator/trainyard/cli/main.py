"""Entry point of the `trainyard` command. Each sub-command is a module of its own, imported only when it runs."""

from typing import Annotated

import typer

import trainyard
from trainyard.cli.operator import operator

app = typer.Typer(
    name="trainyard",
    help="Train models on Databricks from Kubernetes resources, with short-lived identities, exactly once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(operator)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(trainyard.__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train models on Databricks from Kubernetes resources, with short-lived identities, exactly once."""


def main() -> None:
    """Runs the command."""
    app()
