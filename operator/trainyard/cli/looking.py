"""`get`, `describe`, `cancel`, `suspend`, `resume` and `plan`: verbs that ask once, or change one field.

Called by verbs.py.
"""

from collections.abc import Callable
from datetime import UTC, datetime

import typer

from trainyard.cli.describe import description
from trainyard.cli.exits import Exit
from trainyard.cli.options import Output, Where
from trainyard.cli.plans import planned, would_start
from trainyard.cli.progress import Progress
from trainyard.cli.running import manifest_of
from trainyard.cli.session import perform
from trainyard.cli.signals import Interrupted, Signals
from trainyard.cli.tables import full_name, rendered
from trainyard.cli.terminal import plain, say, tell
from trainyard.client import NotAllowed, Run, Trainyard


def get(where: Where, name: str | None, all_namespaces: bool, selector: str | None, output: Output) -> None:
    """`trainyard get`."""

    def verb(yard: Trainyard) -> Exit:
        runs = (yard.get(name),) if name else yard.list(selector=selector, all_namespaces=all_namespaces)
        if not runs and output in (Output.table, Output.wide):
            say("no runs" if all_namespaces else f"no runs in namespace {yard.namespace}")
        elif runs or output in (Output.json, Output.yaml):
            tell(rendered(runs, output, datetime.now(UTC), namespaces=all_namespaces, single=name is not None))
        return Exit.OK

    perform(where, verb)


def describe(where: Where, name: str) -> None:
    """`trainyard describe`."""

    def verb(yard: Trainyard) -> Exit:
        run = yard.get(name)
        try:
            events = yard.events(run)
        except NotAllowed:
            events = None
        for line in description(run, events, datetime.now(UTC)):
            tell(plain(line))
        return Exit.OK

    perform(where, verb)


def change(where: Where, name: str, output: Output, verb: str) -> None:
    """`trainyard cancel`, `suspend` or `resume`: writes the wish; the operator carries it out."""
    said = {
        "cancel": ("is asked to stop for good", "has ended already"),
        "suspend": ("is asked to stop until it is resumed", ""),
        "resume": ("goes on with a new attempt unless one is live", "is not suspended"),
    }[verb]

    def act(yard: Trainyard) -> Exit:
        ask: Callable[[Run | str], Run] = getattr(yard, verb)
        before = yard.get(name)
        after = ask(before)
        say(f"{full_name(after)} {said[0] if after.version != before.version else said[1] or said[0]}")
        if output is not Output.table:
            tell(rendered([after], output, datetime.now(UTC), single=True))
        return Exit.OK

    perform(where, act)


def plan(where: Where, file: str, timeout: float, keep: bool, output: Output) -> None:
    """`trainyard plan -f`."""
    manifest = manifest_of(file)

    def verb(yard: Trainyard) -> Exit:
        with Signals() as signals:
            signals.allow()
            try:
                made = yard.plan(manifest, timeout=timeout, keep=keep, on_progress=Progress())
            except Interrupted as told:
                raise typer.Exit(128 + told.number) from None
        if output in (Output.table, Output.wide):
            for line in planned(made):
                tell(plain(line))
        else:
            tell(rendered([made], output, datetime.now(UTC), single=True))
        return Exit.OK if would_start(made) else Exit.FAILED

    perform(where, verb)
