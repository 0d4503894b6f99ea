"""Whether a request's needs are met, asked of the platform before a new attempt and remembered for a while.

Called by readiness. What was found is kept in memory only, by session and needs; it must not stand in a run's way for
longer than the pause between two looks at it.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

from trainyard.controllers.flights import Flights
from trainyard.controllers.sessions import Sessions
from trainyard.core.remote import Finding
from trainyard.core.snapshot import Target
from trainyard.platforms.base import Need, Request
from trainyard.telemetry.metrics import PREFLIGHT

# Seconds that all checks of one request may take together.
DEADLINE = 45.0
# Seconds that an answer is good when all is there. Rights seldom go, and a hundred runs of one kind need not ask a
# hundred times; what was missing may be granted at any moment, and is asked for at each look at a stalled run.
WHEN_PASSED = 300.0
MOST = 2048

_Key = tuple[Target, str, tuple[Need, ...]]
Findings = tuple[Finding, ...]


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
        if not request.needs:
            return ()
        key = (target, namespace, request.needs)
        known = self._found.get(key)
        if known is not None and not afresh and self._clock() < known[1]:
            return known[0]
        return await self._flights.join(key, lambda: self._asked(key, request))

    async def _asked(self, key: _Key, request: Request) -> Findings:
        target, namespace, _ = key
        session = self._sessions.at(target, namespace)
        found = await session.call("preflight", session.connection.preflight, request, deadline=DEADLINE)
        for finding in found:
            PREFLIGHT.labels(finding.outcome).inc()
        passed = all(finding.outcome == "Passed" for finding in found)
        self._found[key] = (found, self._clock() + (WHEN_PASSED if passed else self._otherwise))
        self._found.move_to_end(key)
        while len(self._found) > MOST:
            self._found.popitem(last=False)
        return found
