"""Whether a request's needs are met, asked of the platform before anything new begins and remembered for a while.

Called by both readinesses, of runs and of deployments. What was found is kept in memory only, by session and needs; it
must not stand in the way for longer than the pause between two looks at what is stalled.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

from trainyard.controllers.flights import Flights
from trainyard.controllers.sessions import Session, Sessions
from trainyard.core.remote import Finding
from trainyard.core.snapshot import Blocked, Target
from trainyard.platforms.base import Need, Request
from trainyard.platforms.registry import serving
from trainyard.platforms.serving import EndpointRequest
from trainyard.telemetry.metrics import PREFLIGHT

# Seconds that all checks of one request may take together.
DEADLINE = 45.0
# Seconds that an answer is good when all is there. Rights seldom go, and a hundred runs of one kind need not ask a
# hundred times; what was missing may be granted at any moment, and is asked for at each look at a stalled run.
WHEN_PASSED = 300.0
MOST = 2048

_Key = tuple[str, Target, str, tuple[Need, ...]]  # of which endpoint ("" of runs), where, as whose, what
Findings = tuple[Finding, ...]
_Look = Callable[[], Findings]


class Preflight:
    """Asks and remembers. To be used from one event loop.

    Args:
        sessions: to ask through.
        otherwise: seconds that an answer is good in which not all is there: the pause between looks at a stalled run.
        clock: gives seconds and never goes back.
    """

    def __init__(self, sessions: Sessions, otherwise: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._sessions = sessions
        self._otherwise = otherwise
        self._clock = clock
        self._found: OrderedDict[_Key, tuple[Findings, float]] = OrderedDict()
        self._flights: Flights[_Key, Findings] = Flights()

    async def of(self, target: Target, namespace: str, request: Request, *, afresh: bool = False) -> Findings:
        """What the checks find; nothing is asked where nothing is needed. Raises the errors of `core.errors`."""

        def looking(session: Session) -> _Look:
            return lambda: session.connection.preflight(request)

        return await self._of(("", target, namespace, request.needs), looking, afresh=afresh)

    async def of_endpoint(self, target: Target, namespace: str, request: EndpointRequest) -> Findings:
        """What the checks of a deployment find, as `of`. A full yes is not remembered: what passes uses it up."""

        def looking(session: Session) -> _Look:
            endpoints = serving(session.platform).endpoints(session.connection)
            return lambda: endpoints.preflight(request)

        return await self._of((request.plan.endpoint, target, namespace, request.needs), looking, afresh=False)

    async def _of(self, key: _Key, looking: Callable[[Session], _Look], *, afresh: bool) -> Findings:
        if not key[3]:
            return ()
        known = self._found.get(key)
        if known is not None and not afresh and self._clock() < known[1]:
            return known[0]
        return await self._flights.join(key, lambda: self._asked(key, looking))

    async def _asked(self, key: _Key, looking: Callable[[Session], _Look]) -> Findings:
        endpoint, target, namespace, _ = key
        session = self._sessions.at(target, namespace)
        found = await session.call("preflight", looking(session), deadline=DEADLINE)
        for finding in found:
            PREFLIGHT.labels(finding.outcome).inc()
        passed = all(finding.outcome == "Passed" for finding in found)
        if passed and endpoint:
            self._found.pop(key, None)
            return found
        self._found[key] = (found, self._clock() + (WHEN_PASSED if passed else self._otherwise))
        self._found.move_to_end(key)
        while len(self._found) > MOST:
            self._found.popitem(last=False)
        return found


def lacking(findings: Findings) -> Blocked | None:
    """What is known to be missing. What can not be found out is the platform's to refuse."""
    missing = [finding for finding in findings if finding.outcome == "Missing"]
    if not missing:
        return None
    listed = "; ".join(f"{each.name} ({each.field}): {each.message}" for each in missing)
    count = "a right is" if len(missing) == 1 else f"{len(missing)} rights are"
    return Blocked("PermissionMissing", f"{count} missing, and nothing was started: {listed}", waiting=False)
