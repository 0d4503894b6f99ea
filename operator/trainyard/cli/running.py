"""`run`, `wait` and `copy`: create, wait with progress, end with the run's outcome; stop it when told to stop.

Called by verbs.py. Leaves a run alone unless --cancel-on-exit was given.
"""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer
import yaml

from trainyard.cli.exits import Exit
from trainyard.cli.options import Output, Where
from trainyard.cli.progress import Progress
from trainyard.cli.session import code_for, explain, perform
from trainyard.cli.signals import Interrupted, Signals
from trainyard.cli.tables import full_name, rendered
from trainyard.cli.terminal import say, tell
from trainyard.client import NotFound, Run, RunStalled, Trainyard, Unreachable, WaitTimedOut
from trainyard.client.changes import parse_change

OUTCOMES = {
    "Succeeded": Exit.OK,
    "Failed": Exit.FAILED,
    "TimedOut": Exit.TIMEOUT,
    "Cancelled": Exit.CANCELLED,
}

# Seconds between two tries to reach an API server that is asked to cancel.
_CANCEL_AGAIN = 1.0


@dataclass(frozen=True)
class Waiting:
    """How long a run is waited for, and what becomes of it when the command ends before it."""

    wait: bool = True
    timeout: float | None = None
    fail_when_stalled: bool = False
    cancel_on_exit: bool = False
    cancel_seconds: float = 25.0
    output: Output = Output.table


@dataclass(frozen=True)
class Copy:
    """A new run from an old one."""

    name: str
    new_name: str
    changes: tuple[str, ...]
    workspace: str | None
    only_print: bool

    def values(self) -> Mapping[str, Any]:
        """The changes, typed as the schema has them. Raises BadManifest."""
        return dict(parse_change(text) for text in self.changes)


def run(where: Where, file: str, waiting: Waiting) -> None:
    """`trainyard run -f`."""
    manifest = manifest_of(file)

    def start(yard: Trainyard) -> Run:
        found, created = yard.apply(manifest)
        say(f"{full_name(found)} {'created' if created else 'is there already with the same spec: following it'}")
        return found

    perform(where, lambda yard: _follow(yard, start, waiting))


def wait(where: Where, name: str, waiting: Waiting) -> None:
    """`trainyard wait`."""
    perform(where, lambda yard: _follow(yard, lambda yard: yard.get(name), waiting))


def copy(where: Where, wanted: Copy, waiting: Waiting) -> None:
    """`trainyard copy`."""

    def start(yard: Trainyard) -> Run:
        made = yard.copy(wanted.name, wanted.new_name, wanted.values(), wanted.workspace)
        say(f"{full_name(made)} created")
        return made

    def verb(yard: Trainyard) -> Exit:
        if not wanted.only_print:
            return _follow(yard, start, waiting)
        manifest = yard.copy_manifest(wanted.name, wanted.new_name, wanted.values(), wanted.workspace)
        tell(yaml.safe_dump(manifest, sort_keys=False).rstrip())
        return Exit.OK

    perform(where, verb)


def manifest_of(file: str) -> str | Path:
    """What -f names: a file, or - for stdin."""
    if file != "-":
        return Path(file)
    return sys.stdin.read() + "\n"  # with a line end it is a manifest and no path


def _follow(yard: Trainyard, start: Callable[[Trainyard], Run], waiting: Waiting) -> Exit:
    """Starts or finds the run, waits for its end, and tells how it ended."""
    with Signals() as signals:
        found = start(yard)
        if not waiting.wait:
            _show(found, waiting)
            return Exit.OK
        try:
            return _await(yard, found, waiting, signals)
        except Interrupted as told:
            say(f"{told.name}: not waiting any longer; to go on: trainyard wait {found.name} -n {found.namespace}")
            if waiting.cancel_on_exit:
                return Exit.CANCELLED  # told a second time, while the cancellation was waited for
            raise typer.Exit(128 + told.number) from None


def _await(yard: Trainyard, run: Run, waiting: Waiting, signals: Signals) -> Exit:
    progress = Progress()
    try:
        signals.allow()
        ended = yard.wait(
            run,
            timeout=waiting.timeout,
            on_progress=progress,
            fail_when_stalled=waiting.fail_when_stalled,
            check=False,
            on_trouble=lambda message: say(f"{message}: trying again"),
        )
    except Interrupted as told:
        if not waiting.cancel_on_exit:
            raise
        say(f"{told.name}: cancelling run {run.name}")
        _cancel(yard, run, waiting, signals, progress)
        return Exit.CANCELLED
    except (WaitTimedOut, RunStalled) as error:
        explain(error)
        if waiting.cancel_on_exit:
            say(f"cancelling run {run.name}")
            _cancel(yard, run, waiting, signals, progress)
        return code_for(error)
    _show(ended, waiting)
    return OUTCOMES[str(ended.phase)]


def _cancel(yard: Trainyard, run: Run, waiting: Waiting, signals: Signals, progress: Progress) -> None:
    """Cancels the run and waits for its end, both within the seconds that there are."""
    ends = time.monotonic() + waiting.cancel_seconds
    signals.defer()
    asked = _asked_to_cancel(yard, run, ends)
    signals.allow()
    if asked is None:
        return
    try:
        ended = yard.wait(asked, timeout=max(0.0, ends - time.monotonic()), on_progress=progress, check=False)
    except WaitTimedOut as error:
        say(f"run {run.name} is {error.about.phase} still; the operator goes on stopping it")
    except NotFound:
        say(f"run {run.name} was deleted")
    else:
        _show(ended, waiting)


def _asked_to_cancel(yard: Trainyard, run: Run, ends: float) -> Run | None:
    """The run with its cancellation written down; None if it has gone, or the API server could not be reached."""
    while True:
        try:
            return yard.cancel(run)
        except NotFound:
            return None
        except Unreachable as error:
            if time.monotonic() + _CANCEL_AGAIN >= ends:
                say(f"error: the run could not be cancelled and goes on: {error.message}")
                return None
            time.sleep(_CANCEL_AGAIN)


def _show(run: Run, waiting: Waiting) -> None:
    tell(rendered([run], waiting.output, datetime.now(UTC), single=True))
