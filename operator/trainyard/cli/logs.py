"""`trainyard logs`: what attempts printed, from the MLRunLog that the operator keeps. Called by verbs.py."""

import time
from dataclasses import dataclass

import typer

from trainyard.api.run_log import TaskLog
from trainyard.cli.exits import Exit
from trainyard.cli.options import Where
from trainyard.cli.progress import Progress
from trainyard.cli.session import perform
from trainyard.cli.signals import Interrupted, Signals
from trainyard.cli.terminal import say, tell, tell_raw
from trainyard.client import NotFound, Run, RunLog, Trainyard

ONLY_AT_THE_END = "The output is read from the platform when a task has ended"

# Seconds between the end of an attempt and its log, at most, and between two looks for it.
_LOG_SECONDS, _LOOK_AGAIN = 15.0, 1.0


@dataclass(frozen=True)
class Wanted:
    """Which part of the logs is printed."""

    attempt: int | None
    task: str | None
    tail: int | None


def logs(where: Where, name: str, wanted: Wanted, follow: bool) -> None:
    """`trainyard logs`."""
    perform(where, lambda yard: _follow(yard, name, wanted) if follow else _now(yard, name, wanted))


def _now(yard: Trainyard, name: str, wanted: Wanted) -> Exit:
    run = yard.get(name)
    try:
        found = yard.logs(run, attempt=wanted.attempt)
    except NotFound as error:
        raise NotFound(f"{error.message}: {_why_not(run, wanted.attempt)}", run) from error
    _print(run, found, wanted)
    return Exit.OK


def _why_not(run: Run, number: int | None) -> str:
    attempt = run.attempt(number)
    if not run.finished and (attempt is None or attempt.ended_at is None):
        return f"{ONLY_AT_THE_END} (now {run.phase or 'new'}); -f waits for that"
    page = attempt.url if attempt else None
    return "none was kept" + (f"; see {page}" if page else "")


def _follow(yard: Trainyard, name: str, wanted: Wanted) -> Exit:
    """Prints the log of each attempt when the attempt has ended, until the run has."""
    run = yard.get(name)
    if not run.finished:
        say(f"{ONLY_AT_THE_END}; until then this shows how the run goes on.")
    progress, done, printed = Progress(), set[int](), 0
    # Attempts before the newest are history, unless one was asked for.
    first = wanted.attempt or run.newest_attempt or 1
    with Signals() as signals:
        try:
            signals.allow()
            for state in yard.follow(run):
                if not run.finished:
                    progress(state)
                for number in _ended(state, first, wanted.attempt):
                    if number not in done:
                        done.add(number)
                        printed += _printed(yard, state, number, wanted)
                if state.finished or wanted.attempt in done:
                    break
        except Interrupted as told:
            raise typer.Exit(128 + told.number) from None
    if not printed:
        raise NotFound(f"there is nothing that run {name} printed", run)
    return Exit.OK


def _printed(yard: Trainyard, run: Run, attempt: int, wanted: Wanted) -> bool:
    """Prints the attempt's log. An attempt without one, as its cluster never came up, is no end to the following."""
    try:
        _print(run, _awaited(yard, run, attempt), wanted)
    except NotFound as error:
        say(error.message)
        return False
    return True


def _ended(run: Run, first: int, only: int | None) -> list[int]:
    return [
        attempt.number
        for attempt in run.attempts
        if attempt.number >= first
        and (only is None or attempt.number == only)
        and (attempt.ended_at is not None or run.finished)
    ]


def _awaited(yard: Trainyard, run: Run, attempt: int) -> RunLog:
    """The attempt's log, which may come a moment after its end."""
    ends = time.monotonic() + _LOG_SECONDS
    while True:
        try:
            return yard.logs(run, attempt=attempt)
        except NotFound as error:
            if time.monotonic() >= ends:
                raise NotFound(f"{error.message}: {_why_not(run, attempt)}", run) from error
            time.sleep(_LOOK_AGAIN)


def _print(run: Run, log: RunLog, wanted: Wanted) -> None:
    """Each task's text on stdout, under its name where there are several; what is missing on stderr."""
    tasks = [task for task in log.spec.tasks if wanted.task in (None, task.name)]
    if not tasks:
        known = ", ".join(task.name for task in log.spec.tasks) or "none"
        raise NotFound(f"attempt {log.spec.attempt} has no log of task {wanted.task}; there are: {known}", run)
    for task in tasks:
        if len(tasks) > 1:
            tell(f"==> {task.name} <==")
        tell_raw(tail_of(task.text, wanted.tail))
        _say_what_is_missing(run, log, task)


def tail_of(text: str, lines: int | None) -> str:
    """The last so many lines of the text."""
    return text if lines is None else "".join(text.splitlines(keepends=True)[len(text.splitlines()) - lines :])


def _say_what_is_missing(run: Run, log: RunLog, task: TaskLog) -> None:
    if task.missing:
        say(f"no output of task {task.name}: {task.missing}")
    if task.truncated:
        attempt = run.attempt(log.spec.attempt)
        where = log.spec.uri or (attempt.logs_uri or attempt.url if attempt else None)
        rest = f"; the whole of it: {where}" if where else "; the rest was not kept"
        say(f"only the last part of what task {task.name} printed is kept here{rest}")
