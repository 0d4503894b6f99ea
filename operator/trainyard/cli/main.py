"""Entry point of the `trainyard` command, also as `kubectl trainyard`. What a verb needs is imported when it runs."""

import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer
from typer._completion_classes import completion_init

import trainyard
from trainyard.cli.doctor import doctor
from trainyard.cli.exits import EPILOG, Exit
from trainyard.cli.operator import operator
from trainyard.cli.verbs import register

app = typer.Typer(
    name="trainyard",
    help="Train models on Databricks and Azure ML by Kubernetes resources, with short-lived identities, exactly once.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,  # `trainyard completion` prints the script; nothing is written into anybody's dotfiles
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
register(app)
app.command()(doctor)
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
    """Train models on Databricks and Azure ML by Kubernetes resources, with short-lived identities, exactly once."""


def main() -> None:
    """Runs the command under the name that it was called by."""
    completion_init()  # typer does so itself only if it may also install into dotfiles
    called = Path(sys.argv[0]).name
    try:
        app(prog_name="kubectl trainyard" if called == "kubectl-trainyard" else "trainyard")
    except Exception:  # noqa: BLE001 - told in full
        # Python's own exit code for this is 1, which stands for a run that failed.
        traceback.print_exc()
        sys.exit(Exit.BUG)
