"""The chain: its links in order, what each depends on, and the time that it has. Called by `cli.doctor`.

A link is looked at once those that it depends on let it be; the others are looked at whatever was found before. Each
has a bounded time, and all together have one, so that a host that hangs at one link costs that link alone.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from trainyard.client.doctor import counting, issuer, mending, reaching, signing_in, speaker, spec
from trainyard.client.doctor.case import Case
from trainyard.client.doctor.reaching import Reached
from trainyard.client.doctor.results import Result, depends, not_seen
from trainyard.core.errors import TrainyardError

# Seconds for a link; a platform's checks before a run bound themselves to less for each compute class.
LINK_SECONDS = 60.0
Look = Callable[[Case], Result]


@dataclass(frozen=True, slots=True)
class Link:
    """One link. `name` is stable, also in `-o json`; `after` are the links that it can not do without."""

    name: str
    title: str
    look: Look
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Examined:
    """A link that was looked at, how it is, and how many seconds that took."""

    number: int
    link: Link
    result: Result
    seconds: float


def links() -> tuple[Link, ...]:
    """The chain of one examination, in order."""
    reached = Reached()
    return (
        Link("spec", "workspace and its spec", spec.look),
        Link("speaker", "who speaks", speaker.speaker, ("spec",)),
        Link("token", "the token's claims", speaker.token, ("speaker",)),
        Link("issuer", "issuer and its keys", issuer.look, ("token",)),
        Link("sign-in", "exchange or sign-in", signing_in.sign_in, ("token",)),
        Link("principal", "who the platform sees", signing_in.principal, ("sign-in",)),
        Link("workspace", "workspace reachable", signing_in.workspace, ("sign-in",)),
        Link("storage", "storage of uploads", reaching.storage, ("workspace",)),
        Link("permissions", "permissions", reached.permissions, ("workspace",)),
        Link("compute", "compute", reached.compute, ("workspace",)),
        Link("quota", "quota", reached.quota, ("workspace",)),
        Link("credentials", "credentials used", counting.look, ("speaker",)),
    )


def examine(
    case: Case,
    seconds: float,
    *,
    begun: Callable[[int, Link], None] = lambda _number, _link: None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Examined]:
    """Each link as it is found.

    Args:
        seconds: for all together.
        begun: told before a link is looked at.
        clock: in seconds.

    Raises:
        ClientError: the API server can not be reached.
    """
    until = clock() + seconds
    closed: dict[str, str] = {}  # the links that did not let others be looked at, and which one was the first
    for number, link in enumerate(links(), 1):
        began = clock()
        waits = next((name for name in link.after if name in closed), None)
        if waits is not None:
            result = depends(f"depends on {closed[waits]}")
        elif began >= until:
            result = not_seen("OutOfTime", f"{seconds:g} s are over; give it more with --timeout")
        else:
            begun(number, link)
            result = bounded(case, link.look, min(LINK_SECONDS, until - began))
        if not result.goes_on:
            closed[link.name] = closed[waits] if waits is not None else link.name
        yield Examined(number, link, result, clock() - began)


def bounded(case: Case, look: Look, seconds: float) -> Result:
    """What the link finds within that time; a look that hangs is left behind in a thread of its own.

    Raises what escapes it.
    """
    found: list[Result] = []
    escaped: list[BaseException] = []

    def work() -> None:
        try:
            found.append(_looked(case, look))
        except BaseException as error:  # noqa: BLE001 - told to whoever waits
            escaped.append(error)

    thread = threading.Thread(target=work, daemon=True, name="doctor")
    thread.start()
    thread.join(seconds)
    if escaped:
        raise escaped[0]
    return found[0] if found else not_seen("OutOfTime", f"it was not found out in {seconds:.0f} s")


def _looked(case: Case, look: Look) -> Result:
    try:
        return look(case)
    except TrainyardError as error:
        return mending.of(case, error)
