"""Connections to platforms, one per host, principal and ServiceAccount, made on first use. Used by the controllers.

The only place where identity, platform, lane and host policy meet: nothing reaches a host that is not allowed.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from trainyard.api.identity import OPERATOR_WIDE
from trainyard.api.training_run import Attempt
from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.audit.log import AuditLog
from trainyard.controllers.flights import Flights
from trainyard.core.errors import TrainyardError
from trainyard.core.remote import RemoteRun
from trainyard.core.snapshot import Target
from trainyard.identity.base import Caution, TokenSource, is_stand_in
from trainyard.identity.broker import Broker
from trainyard.observe.sweep import Sweep
from trainyard.platforms.base import Account, Connection, Platform, TokensFor
from trainyard.platforms.lane import Lane, Lanes
from trainyard.platforms.registry import platform_named
from trainyard.telemetry.metrics import PLATFORM_CALLS

T = TypeVar("T")
SeenBy = Callable[[str, RemoteRun | TrainyardError], None]

MOST_SESSIONS = 2048
CHECK_SECONDS = 45.0
# Seconds for which the platform's word on who a stand-in stands for is good.
NAME_HOLDS = 60.0


@dataclass(frozen=True, slots=True)
class SessionKey:
    """What a session is pinned to."""

    target: Target
    namespace: str


def lane_owner(key: SessionKey) -> str:
    """Whose lane it is: the namespace's, or everybody's that the operator's own identity is lent to.

    A namespace names its principal itself, before anybody has said that it may speak for it: what fails then, or is
    asked to pause, must not hold up those who do.
    """
    return "" if key.target.mode in OPERATOR_WIDE else key.namespace


def target_of(attempt: Attempt) -> Target:
    """Where an attempt was sent and as whom."""
    return Target(
        attempt.platform,
        attempt.host,
        attempt.principal,
        attempt.mode,
        attempt.service_account or "",
        attempt.tenant or "",
        attempt.identity,
    )


class Session:
    """One connection with its lane and its sweep."""

    def __init__(self, platform: Platform, connection: Connection, lane: Lane, loads: "Loads") -> None:
        self.platform = platform
        self.connection = connection
        self.lane = lane
        self._loads = loads
        self.sweep: Sweep | None = None

    async def call(self, name: str, fn: Callable[..., T], *args: Any, deadline: float) -> T:
        """One bounded call of the connection. Raises the errors of `core.errors`."""
        await self._loads.loaded(self.platform)
        try:
            answer = await self.lane.call(fn, *args, deadline=deadline)
        except TrainyardError as error:
            PLATFORM_CALLS.labels(self.platform.name, name, error.reason).inc()
            raise
        PLATFORM_CALLS.labels(self.platform.name, name, "ok").inc()
        return answer


class Loads:
    """Which platforms' packages have been imported: before a call's time begins, so that none is taken for dead."""

    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Future[None]] = {}

    async def loaded(self, platform: Platform) -> None:
        """Waits until the platform's packages are there; they are imported once, whoever waits."""
        found = self._under_way.get(platform.name)
        if found is None:
            found = self._under_way[platform.name] = asyncio.ensure_future(asyncio.to_thread(platform.load))
        await asyncio.shield(found)


class Sessions:
    """Every session of this operator, by what it is pinned to.

    Args:
        broker: principals and tokens.
        log: the audit log.
        poll_seconds: pause between the looks of a sweep.
    """

    def __init__(
        self,
        broker: Broker,
        log: AuditLog,
        poll_seconds: float,
    ) -> None:
        self._broker = broker
        self._log = log
        self._poll_seconds = poll_seconds
        self._lanes = Lanes()
        self._loads = Loads()
        self._sessions: dict[SessionKey, Session] = {}
        self._named: dict[SessionKey, tuple[str, float]] = {}  # whom a stand-in stands for, until when that is good
        self._naming: Flights[SessionKey, tuple[str, float]] = Flights()
        self._watched: dict[str, tuple[Session, str]] = {}  # uid of a run → where it is watched, as what
        self._watchers: dict[tuple[int, str], set[str]] = {}  # the same backwards
        self._seen: SeenBy | None = None

    def on_seen(self, seen: SeenBy) -> None:
        """Who is told what the sweeps see."""
        self._seen = seen

    def check_host(self, workspace: MLWorkspaceSpec) -> str:
        """What attempts in the workspace are pinned to, if it is allowed: its origin; of Azure ML, its URL in ARM.

        Raises:
            IdentityError: HostNotAllowed.
        """
        return self._broker.check_host(workspace)

    async def target(self, workspace: MLWorkspaceSpec, namespace: str) -> Target:
        """Where a new attempt of that namespace would go and as whom. Mints nothing, unless only Databricks can say.

        Databricks names folders and experiments after the principal, and who made a run, so that a stand-in for it is
        asked about first, and again after a while.

        Raises:
            IdentityError: the host or the mode is not allowed, or what the mode needs is missing or has not opted in.
            PlatformError: Databricks could not be asked.
        """
        target = await asyncio.to_thread(self._broker.target, workspace, namespace)
        if target.platform != "databricks" or not is_stand_in(target.principal):
            return target
        key = SessionKey(target, namespace)
        known = self._named.get(key)
        if known is None or time.monotonic() >= known[1]:
            known = await self._naming.join(key, lambda: self._asked_for_name(key))
        return replace(target, principal=known[0])

    async def _asked_for_name(self, key: SessionKey) -> tuple[str, float]:
        session = self._session(key)
        account = await session.call("whoami", session.connection.whoami, deadline=CHECK_SECONDS)
        named = self._named[key] = (account.principal, time.monotonic() + NAME_HOLDS)
        for stale in list(self._named)[: max(0, len(self._named) - MOST_SESSIONS)]:
            del self._named[stale]
        return named

    async def cautions(self, workspace: MLWorkspaceSpec, namespace: str) -> tuple[Caution, ...]:
        """What has to be told about the namespace's identity while it works. Mints nothing; raises as `target`."""
        return await asyncio.to_thread(self._broker.cautions, workspace, namespace)

    async def check(self, workspace: MLWorkspaceSpec, namespace: str) -> Account:
        """Proves that the namespace's identity works in the workspace. Raises the errors of `core.errors`."""
        session = self._session(SessionKey(await self.target(workspace, namespace), namespace))
        return await session.call("whoami", session.connection.whoami, deadline=CHECK_SECONDS)

    def pinned(self, namespace: str, attempt: Attempt) -> Session:
        """The session that an attempt was made with, whatever its workspace says now."""
        return self.at(target_of(attempt), namespace)

    def at(self, target: Target, namespace: str) -> Session:
        """The session with that target as a ServiceAccount of that namespace. Sends nothing.

        Raises:
            IdentityError: HostNotAllowed.
        """
        self._broker.check_target(target)
        return self._session(SessionKey(target, namespace))

    def watch(self, session: Session, uid: str, attempt: Attempt) -> None:
        """Has the attempt's remote run looked at until `leave`."""
        remote_id = attempt.remote_id
        if remote_id is None:
            return
        if self._watched.get(uid) != (session, remote_id):
            self.leave(uid)
            self._watched[uid] = (session, remote_id)
            self._watchers.setdefault((id(session), remote_id), set()).add(uid)
        if session.sweep is None:
            session.sweep = Sweep(session.lane, session.connection, self._teller(session), self._poll_seconds)
        session.sweep.watch(remote_id, datetime.fromisoformat(attempt.intended_at))

    def leave(self, uid: str) -> None:
        """Stops looking at the run's remote run."""
        watched = self._watched.pop(uid, None)
        if watched is None:
            return
        session, remote_id = watched
        # Two runs with one submissionKey share a remote run; it is looked at until both have left.
        others = self._watchers.get((id(session), remote_id), set())
        others.discard(uid)
        if others:
            return
        self._watchers.pop((id(session), remote_id), None)
        if session.sweep is not None:
            session.sweep.leave(remote_id)

    async def stop(self) -> None:
        """Ends all sweeps; the threads of lanes are daemons."""
        await asyncio.gather(*(s.sweep.stop() for s in self._sessions.values() if s.sweep is not None))

    def _session(self, key: SessionKey) -> Session:
        session = self._sessions.get(key)
        if session is None:
            platform = platform_named(key.target.platform)
            target = key.target
            connection = platform.connect(target, self._tokens_for(key), self._log)
            lane = self._lanes.lane(target.host, target.principal, platform.quota(target), owner=lane_owner(key))
            session = Session(platform, connection, lane, self._loads)
            self._sessions[key] = session
            self._drop_unused()
        return session

    def _tokens_for(self, key: SessionKey) -> TokensFor:
        """Tokens by scope, for the target that the session is pinned to."""

        def tokens(scope: str) -> TokenSource:
            return self._broker.source(key.target, key.namespace, scope)

        return tokens

    def _drop_unused(self) -> None:
        """Keeps the sessions bounded: whoever may annotate a ServiceAccount can ask for new ones for ever."""
        unused = [key for key, session in self._sessions.items() if not session.sweep]
        for key in unused[: max(0, len(self._sessions) - MOST_SESSIONS)]:
            del self._sessions[key]

    def _teller(self, session: Session) -> Callable[[str, RemoteRun | TrainyardError], None]:
        def tell(remote_id: str, what: RemoteRun | TrainyardError) -> None:
            for uid in sorted(self._watchers.get((id(session), remote_id), ())):
                if self._seen is not None:
                    self._seen(uid, what)

        return tell
