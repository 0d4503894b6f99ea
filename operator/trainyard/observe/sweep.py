"""The sweep of one host as one principal. Started by the controllers; tells them what it saw.

A sweep is a list of recent runs, page by page, until every run that is watched has been seen; what the list did not
show is asked for by itself. When fewer runs are watched than pages had to be read the last time, each is asked for.
"""

import asyncio
import contextvars
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

import structlog

from trainyard.audit.context import audit_context
from trainyard.core.errors import Throttled, TrainyardError, Unreachable
from trainyard.core.remote import RemoteRun
from trainyard.platforms.base import Connection

T = TypeVar("T")
CALL_SECONDS = 30.0
# So many runs in one sweep may go unanswered, each for reasons of its own, before the platform is held to be down.
UNANSWERED = 2

log = structlog.get_logger(__name__)
# The platform's clock may differ from ours.
CLOCK_MARGIN = timedelta(minutes=10)

Seen = Callable[[str, RemoteRun | TrainyardError], None]


class Calls(Protocol):
    """Bounded calls to one host as one principal."""

    def call(self, fn: Callable[..., T], *args: object, deadline: float) -> Awaitable[T]:
        """Runs the function in a thread; raises Unreachable when the deadline passes."""


class Sweep:
    """Watches runs of one host as one principal until they are told to be over."""

    def __init__(self, calls: Calls, connection: Connection, seen: Seen, poll_seconds: float) -> None:
        self._calls = calls
        self._connection = connection
        self._seen = seen
        self._poll_seconds = poll_seconds
        self._watched: dict[str, datetime] = {}
        self._pages_last_time = 1
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._watched)

    def watch(self, remote_id: str, since: datetime) -> None:
        """Has the run looked at, from the next sweep on, until `leave`."""
        self._watched[remote_id] = since
        if self._task is None or self._task.done():
            # A context of its own: a sweep is made for all its runs, not for the one that happened to start it.
            self._task = asyncio.create_task(self._run(), name="sweep", context=contextvars.Context())

    def leave(self, remote_id: str) -> None:
        """Stops looking at the run."""
        self._watched.pop(remote_id, None)

    async def stop(self) -> None:
        """Ends the sweep; what is watched is forgotten."""
        self._watched.clear()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        with audit_context(action="sweep"):
            while self._watched:
                await asyncio.sleep(self._poll_seconds * random.uniform(0.9, 1.1))  # noqa: S311  (spreads load)
                try:
                    await self.once()
                except Exception:
                    log.exception("sweep failed")  # a bug in one look must not end all later ones

    async def once(self) -> None:
        """One look at everything that is watched."""
        left = dict(self._watched)
        if not left:
            return
        try:
            if len(left) > self._pages_last_time:
                await self._by_list(left)
            await self._one_by_one(left)
        except TrainyardError as error:
            for remote_id in left:
                self._tell(remote_id, error)

    async def _by_list(self, left: dict[str, datetime]) -> None:
        """Takes out of `left` what the list shows, and stops once asking one by one is cheaper than another page."""
        since = min(left.values()) - CLOCK_MARGIN
        pages: Iterator[list[RemoteRun]] = self._connection.sweep(since)
        read = 0
        while left and read < len(self._watched):
            page = await self._calls.call(next, pages, None, deadline=CALL_SECONDS)
            if page is None:
                break
            read += 1
            for run in page:
                if left.pop(run.remote_id, None) is not None:
                    self._tell(run.remote_id, run)
        self._pages_last_time = max(1, read)

    async def _one_by_one(self, left: dict[str, datetime]) -> None:
        unanswered = 0
        for remote_id in list(left):
            try:
                run = await self._calls.call(self._connection.get, remote_id, deadline=CALL_SECONDS)
            except TrainyardError as error:
                self._tell(remote_id, error)
                unanswered += isinstance(error, Unreachable)
                if isinstance(error, Throttled) or unanswered > UNANSWERED:
                    del left[remote_id]
                    raise  # the platform is in trouble, not this run: the others are told the same
            else:
                self._tell(remote_id, run)
            del left[remote_id]

    def _tell(self, remote_id: str, what: RemoteRun | TrainyardError) -> None:
        if remote_id in self._watched:
            self._seen(remote_id, what)
