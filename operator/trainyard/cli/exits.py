"""Exit codes of the verbs: a contract for scripts and Airflow, documented in docs/cli.md. Imports nothing of ours."""

from enum import IntEnum


class Exit(IntEnum):
    """How a command ended. 128 + N is death by signal N, as shells have it."""

    OK = 0
    FAILED = 1
    USAGE = 2
    TIMEOUT = 3
    UNSEEN = 3  # of doctor, which waits for no run
    CANCELLED = 4
    NOT_FOUND = 5
    UNREACHABLE = 6
    BUG = 70


MEANING = {
    Exit.OK: "done; the run succeeded; the deployment is served as its spec says",
    Exit.FAILED: "the run failed, or would (plan, doctor), or is stalled (--fail-when-stalled); the newest spec of the "
    "deployment is not served, there is nothing to promote, or its model could not score the rows",
    Exit.USAGE: "wrong usage, or the API server refused what was asked",
    Exit.TIMEOUT: "time is up: the run ended TimedOut, or --timeout passed and it goes on; of doctor: nothing failed, "
    "but something could not be seen",
    Exit.CANCELLED: "the run was cancelled, also by --cancel-on-exit",
    Exit.NOT_FOUND: "no such run, deployment, served model, log or namespace, or it was deleted meanwhile",
    Exit.UNREACHABLE: "the API server, or the platform (score), can not be reached, or does not permit it",
    Exit.BUG: "a mistake in this command: please report it",
}

# Paragraphs, because typer joins the lines of one.
EPILOG = "\n\n".join(["Exit codes:", *(f"{code.value}: {words}" for code, words in MEANING.items())])
