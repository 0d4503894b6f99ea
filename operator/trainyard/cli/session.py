"""One command's conversation with the API server: connects, and turns what went wrong into words and an exit code.

Used by the modules of the verbs. Shows a Python trace for mistakes of this program only.
"""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import typer

from trainyard.cli.exits import Exit
from trainyard.cli.options import Where
from trainyard.cli.terminal import say
from trainyard.client import (
    ClientError,
    DeploymentFailed,
    DeploymentStalled,
    NotAllowed,
    NotFound,
    NothingToPromote,
    Refused,
    RunCancelled,
    RunEnded,
    RunStalled,
    RunTimedOut,
    ScoringFailed,
    Trainyard,
    Unreachable,
    WaitTimedOut,
)

# The first that fits.
_CODES: tuple[tuple[type[ClientError], Exit], ...] = (
    (RunTimedOut, Exit.TIMEOUT),
    (RunCancelled, Exit.CANCELLED),
    (RunEnded, Exit.FAILED),
    (RunStalled, Exit.FAILED),
    (DeploymentFailed, Exit.FAILED),
    (DeploymentStalled, Exit.FAILED),
    (NothingToPromote, Exit.FAILED),
    (ScoringFailed, Exit.FAILED),
    (WaitTimedOut, Exit.TIMEOUT),
    (NotFound, Exit.NOT_FOUND),
    (NotAllowed, Exit.UNREACHABLE),
    (Unreachable, Exit.UNREACHABLE),
)


def code_for(error: ClientError) -> Exit:
    """The exit code that stands for the error; what is not told apart is wrong usage."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), Exit.USAGE)


def perform(where: Where, verb: Callable[[Trainyard], Exit]) -> None:
    """Does the verb and ends the command with its exit code."""
    try:
        with (
            shown_requests() if where.verbose else nullcontext(),
            Trainyard(where.namespace, where.context, where.kubeconfig) as yard,
        ):
            code = verb(yard)
    except ClientError as error:
        explain(error)
        code = code_for(error)
    raise typer.Exit(int(code))


def explain(error: ClientError) -> None:
    """The error on stderr, with each field that the API server complained about."""
    problems = error.problems if isinstance(error, Refused) else ()
    if not problems:
        say(f"error: {error.message}")
        return
    # The server's own message repeats every problem in one line.
    say(f"error: {error.message.partition(' is invalid: ')[0]} is refused:")
    for problem in problems:
        say(f"  {problem.field}: {problem.message}" if problem.field else f"  {problem.message}")


@contextmanager
def shown_requests() -> Iterator[None]:
    """Method, path and answer of each request on stderr. urllib3 logs no headers, so no credential."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log = logging.getLogger("urllib3.connectionpool")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
