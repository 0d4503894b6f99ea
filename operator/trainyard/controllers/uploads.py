"""Removes what was uploaded for finished runs, and has platforms list them no more.

Used by the run controller, on the event loop.

A folder of code is shared by all runs of the same source as the same principal. It must never go while a run that has
not finished may read it, nor while it is being uploaded: a run's intent is in the store before its upload begins, a
removal looks there and marks the folder without a pause in between, and an upload waits for a removal under way.

What the store does not show: runs of other operators have folders of their own, as the folder's name holds what an
operator watches (`upload_scope`). A remote run whose object is gone while it may still run (deletionPolicy Orphan, or
one that could not be stopped) keeps its folder until the platform has ended it by its own time limit. That is
remembered by this process only: a restart forgets it, and a run of the very same source that is retired after that,
while the orphan still has files to read, takes them away.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from trainyard.api.training_run import Attempt, MLTrainingRunStatus
from trainyard.controllers.kube import RUN
from trainyard.controllers.sessions import Sessions
from trainyard.controllers.store import Key, Object, Store
from trainyard.core.conditions import FINAL
from trainyard.core.errors import Missing
from trainyard.core.snapshot import RunSnapshot
from trainyard.core.tokens import code_digest
from trainyard.core.transition import live
from trainyard.telemetry.metrics import UPLOADS_REMOVED

# The digest of no files at all, which is where nothing was uploaded.
NOTHING = code_digest({})
# Seconds that a platform may keep a run in its queue before its time limit begins: Databricks gives it 48 hours.
QUEUED_AT_MOST = 48 * 3600.0
# Longer than any single request may take (audit.transport.Bounds), so that a removal given up here is over.
DEADLINE = 60.0


class Folder(NamedTuple):
    """An uploaded folder: whose it is, and of which source."""

    host: str
    principal: str
    digest: str


def folder_of(attempt: Attempt) -> Folder:
    """The folder that the attempt's code was uploaded to."""
    return Folder(attempt.host, attempt.principal, attempt.code_digest)


def upload_scope(cluster: str, namespaces: Iterable[str]) -> str:
    """What the folders of an operator's uploads are named after: the cluster, and of it what the operator watches.

    Two operators of one cluster see only their own runs, and must not take the folders of each other's away.
    """
    watched = ",".join(sorted(set(namespaces)))
    return f"{cluster}/{watched}" if watched else cluster


class Uploads:
    """Knows which folders are being removed, and which are left to runs that have no object any more.

    Args:
        scope: what the folders are named after, see `upload_scope`.
        attempt_timeout: seconds that the platform gives an attempt whose spec says nothing.
    """

    def __init__(
        self,
        store: Store,
        sessions: Sessions,
        scope: str,
        attempt_timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._scope = scope
        self._attempt_timeout = attempt_timeout
        self._clock = clock
        self._going: dict[Folder, asyncio.Event] = {}
        self._left: dict[Folder, float] = {}  # when the last orphan that may read it has ended, at the latest

    def left(self, obj: Object) -> None:
        """Takes in that a run's object goes. If its remote run may go on, it keeps the folder until its time is up."""
        status: dict[str, Any] = obj.get("status") or {}
        if status.get("phase") in FINAL or not status.get("attempts"):
            return
        attempt = live(MLTrainingRunStatus.model_validate(status))
        if attempt is None:
            return
        now = self._clock()
        for folder in [folder for folder, until in self._left.items() if until <= now]:
            del self._left[folder]
        allowed = float((obj.get("spec") or {}).get("attemptTimeoutSeconds") or self._attempt_timeout)
        folder, until = folder_of(attempt), now + QUEUED_AT_MOST + allowed
        self._left[folder] = max(until, self._left.get(folder, 0.0))

    async def may_begin(self, attempt: Attempt) -> None:
        """Waits until the attempt's folder is not being removed. Its intent must be in the store."""
        while (removal := self._going.get(folder_of(attempt))) is not None:
            await removal.wait()

    async def clean(self, run: RunSnapshot) -> str:
        """Removes the folders of the run's attempts that no other run needs, and takes its ended attempts out of the
        platform's lists. Returns what was done to the folders, for people.

        Raises the errors of `core.errors`; what was removed until then stays removed.
        """
        removed, used_by, orphaned = 0, "", False
        for folder, attempt in {folder_of(attempt): attempt for attempt in run.status.attempts}.items():
            if folder.digest == NOTHING:
                continue
            found = await self._remove(run, folder, attempt)
            if found is None:
                orphaned = True
            elif isinstance(found, Key):
                used_by = found.name if found.namespace == run.namespace else "a run of another namespace"
            else:
                removed += found
        await self._retire(run)
        told = [f"{removed} folder{'' if removed == 1 else 's'} of uploaded code removed"] if removed else []
        if used_by:
            told.append(f"uploaded code left for {used_by}, which uses it too")
        if orphaned:
            told.append("uploaded code left for a remote run that was not stopped when its resource was deleted")
        return "; ".join(told) or "no uploaded code was there that can be removed"

    async def _remove(self, run: RunSnapshot, folder: Folder, attempt: Attempt) -> bool | Key | None:
        """Whether there was one to remove, or the run that it is left for; None is one that has no object any more."""
        while (removal := self._going.get(folder)) is not None:
            await removal.wait()  # another finished run of the same source
        session = self._sessions.pinned(run.namespace, attempt)
        path = session.platform.code_folder(attempt.principal, self._scope, attempt.code_digest)
        user = self._user_of(folder, run.uid)
        if user is not None:
            return user
        if self._clock() < self._left.get(folder, 0.0):
            return None
        self._going[folder] = asyncio.Event()  # at once: between the look and the mark nobody may begin
        try:
            was_there = await session.call("clean", session.connection.clean, path, deadline=DEADLINE)
        finally:
            self._going.pop(folder).set()
        if was_there:
            UPLOADS_REMOVED.inc()
        return was_there

    async def _retire(self, run: RunSnapshot) -> None:
        for attempt in run.status.attempts:
            if attempt.remote_id is None or attempt.ended_at is None:
                continue
            session = self._sessions.pinned(run.namespace, attempt)
            with suppress(Missing):
                await session.call("retire", session.connection.retire, attempt.remote_id, deadline=DEADLINE)

    def _user_of(self, folder: Folder, but: str) -> Key | None:
        """Another run that has not finished and has, or is about to have, its code there."""
        return next((key for key, obj in self._store.all_of(RUN.name) if _uses(obj, folder, but)), None)


def _uses(obj: Object, folder: Folder, but: str) -> bool:
    status: dict[str, Any] = obj.get("status") or {}
    if obj["metadata"]["uid"] == but or status.get("phase") in FINAL or "attempts" not in status:
        return False
    attempts = MLTrainingRunStatus.model_validate(status).attempts
    return any(folder_of(attempt) == folder for attempt in attempts)
