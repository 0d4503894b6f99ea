"""Removes what was uploaded for finished runs. Used by the run controller, on the event loop.

A folder of code is shared by all runs of the same source as the same principal. It must never go while a run that has
not finished may read it, nor while it is being uploaded: a run's intent is in the store before its upload begins, a
removal looks there and marks the folder without a pause in between, and an upload waits for a removal under way.
"""

import asyncio
from typing import Any, NamedTuple

from trainyard.api.training_run import Attempt, MLTrainingRunStatus
from trainyard.controllers.kube import RUN
from trainyard.controllers.sessions import Sessions
from trainyard.controllers.store import Key, Object, Store
from trainyard.core.conditions import FINAL
from trainyard.core.snapshot import RunSnapshot
from trainyard.core.tokens import code_digest
from trainyard.telemetry.metrics import UPLOADS_REMOVED

# The digest of no files at all, which is where nothing was uploaded.
NOTHING = code_digest({})
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


class Uploads:
    """Knows which folders are being removed. `cluster` is what this cluster is called."""

    def __init__(self, store: Store, sessions: Sessions, cluster: str) -> None:
        self._store = store
        self._sessions = sessions
        self._cluster = cluster
        self._going: dict[Folder, asyncio.Event] = {}

    async def may_begin(self, attempt: Attempt) -> None:
        """Waits until the attempt's folder is not being removed. Its intent must be in the store."""
        while (removal := self._going.get(folder_of(attempt))) is not None:
            await removal.wait()

    async def clean(self, run: RunSnapshot) -> str:
        """Removes the folders of the run's attempts that no other run needs. Returns what was done, for people.

        Raises the errors of `core.errors`; what was removed until then stays removed.
        """
        removed, used_by = 0, ""
        for folder, attempt in {folder_of(attempt): attempt for attempt in run.status.attempts}.items():
            if folder.digest == NOTHING:
                continue
            found = await self._remove(run, folder, attempt)
            if isinstance(found, Key):
                used_by = found.name if found.namespace == run.namespace else "a run of another namespace"
            else:
                removed += found
        told = [f"{removed} folder{'' if removed == 1 else 's'} of uploaded code removed"] if removed else []
        if used_by:
            told.append(f"uploaded code left for {used_by}, which uses it too")
        return "; ".join(told) or "there was no uploaded code to remove"

    async def _remove(self, run: RunSnapshot, folder: Folder, attempt: Attempt) -> bool | Key:
        """Whether there was one to remove, or the run that it is left for."""
        while (removal := self._going.get(folder)) is not None:
            await removal.wait()  # another finished run of the same source
        session = self._sessions.pinned(run.namespace, attempt)
        path = session.platform.code_folder(attempt.principal, self._cluster, attempt.code_digest)
        user = self._user_of(folder, run.uid)
        if user is not None:
            return user
        self._going[folder] = asyncio.Event()  # at once: between the look and the mark nobody may begin
        try:
            was_there = await session.call("clean", session.connection.clean, path, deadline=DEADLINE)
        finally:
            self._going.pop(folder).set()
        if was_there:
            UPLOADS_REMOVED.inc()
        return was_there

    def _user_of(self, folder: Folder, but: str) -> Key | None:
        """Another run that has not finished and has, or is about to have, its code there."""
        return next((key for key, obj in self._store.all_of(RUN.name) if _uses(obj, folder, but)), None)


def _uses(obj: Object, folder: Folder, but: str) -> bool:
    status: dict[str, Any] = obj.get("status") or {}
    if obj["metadata"]["uid"] == but or status.get("phase") in FINAL or "attempts" not in status:
        return False
    attempts = MLTrainingRunStatus.model_validate(status).attempts
    return any(folder_of(attempt) == folder for attempt in attempts)
