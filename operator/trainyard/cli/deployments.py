"""`get`, `describe` and `wait` of a deployment, and `promote`. Called by verbs.py and serving_verbs.py."""

from datetime import UTC, datetime

import typer

from trainyard.cli.describe_deployment import description
from trainyard.cli.exits import Exit
from trainyard.cli.options import Output, Where
from trainyard.cli.progress import DeploymentProgress
from trainyard.cli.running import Waiting
from trainyard.cli.session import perform
from trainyard.cli.signals import Interrupted, Signals
from trainyard.cli.tables import full_name, rendered
from trainyard.cli.terminal import plain, say, tell
from trainyard.client import NotAllowed, Trainyard
from trainyard.client.promotion import told


def get(where: Where, name: str | None, all_namespaces: bool, selector: str | None, output: Output) -> None:
    """`trainyard get deployment/NAME`, or of all with --deployments."""

    def verb(yard: Trainyard) -> Exit:
        found = (yard.deployment(name),) if name else yard.deployments(selector=selector, all_namespaces=all_namespaces)
        if not found and output in (Output.table, Output.wide):
            say("no deployments" if all_namespaces else f"no deployments in namespace {yard.namespace}")
        elif found or output in (Output.json, Output.yaml):
            tell(rendered(found, output, datetime.now(UTC), namespaces=all_namespaces, single=name is not None))
        return Exit.OK

    perform(where, verb)


def describe(where: Where, name: str) -> None:
    """`trainyard describe deployment/NAME`."""

    def verb(yard: Trainyard) -> Exit:
        deployment = yard.deployment(name)
        try:
            events = yard.events(deployment)
        except NotAllowed:
            events = None
        for line in description(deployment, events, datetime.now(UTC)):
            tell(plain(line))
        return Exit.OK

    perform(where, verb)


def wait(where: Where, name: str, waiting: Waiting) -> None:
    """`trainyard wait deployment/NAME`: until the newest spec is served, or is known not to be."""

    def verb(yard: Trainyard) -> Exit:
        with Signals() as signals:
            found = yard.deployment(name)
            try:
                signals.allow()
                settled = yard.wait_deployed(
                    found,
                    timeout=waiting.timeout,
                    on_progress=DeploymentProgress(),
                    fail_when_stalled=waiting.fail_when_stalled,
                    check=False,
                    on_trouble=lambda message: say(f"{message}: trying again"),
                )
            except Interrupted as told_to:
                again = f"trainyard wait deployment/{name} -n {found.namespace}"
                say(f"{told_to.name}: not waiting any longer; to go on: {again}")
                raise typer.Exit(128 + told_to.number) from None
        tell(rendered([settled], waiting.output, datetime.now(UTC), single=True))
        return Exit.OK if settled.ready else Exit.FAILED

    perform(where, verb)


def promote(where: Where, name: str, revision: int | None, output: Output) -> None:
    """`trainyard promote`."""

    def verb(yard: Trainyard) -> Exit:
        before = yard.deployment(name)
        after = yard.promote(before, revision=revision)
        if after.version == before.version:
            say(f"{full_name(after)} is asked already to promote revision {after.revision}")
        else:
            models = "; ".join(told(before)) or "it"
            say(f"{full_name(after)} gives all requests to revision {before.revision}: {models}")
        if output is not Output.table:
            tell(rendered([after], output, datetime.now(UTC), single=True))
        return Exit.OK

    perform(where, verb)
