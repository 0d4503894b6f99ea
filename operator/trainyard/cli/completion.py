"""`trainyard completion`: the script by which a shell asks this command what could come next. Called by verbs.py."""

from typer._completion_shared import get_completion_script

from trainyard.cli.options import Shell

PROGRAM = "trainyard"


def script(shell: Shell) -> str:
    """The script for that shell, for the program as it is installed."""
    return get_completion_script(prog_name=PROGRAM, complete_var=f"_{PROGRAM.upper()}_COMPLETE", shell=shell.value)
