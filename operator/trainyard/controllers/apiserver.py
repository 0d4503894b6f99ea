"""The API server as the controllers use it: `Kube` off the event loop, writes counted, events never in the way."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import structlog

from trainyard.controllers.events import event_body
from trainyard.controllers.kube import ConflictError, Kind, Kube, KubeError
from trainyard.core.actions import Note
from trainyard.telemetry.metrics import WRITES

T = TypeVar("T")
log = structlog.get_logger(__name__)

# The API server is one host; more threads than this only queue there instead of here.
THREADS = 8


class ApiServer:
    """Bounded, awaitable requests to the API server."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="kube")

    async def read(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        """The object now."""
        return await self._off_loop(self._kube.get, kind, namespace, name)

    async def list_all(self, kind: Kind, namespace: str | None = None) -> list[dict[str, Any]]:
        """Every object of that kind, of one namespace or of all."""
        return await self._off_loop(self._kube.list_all, kind, namespace)

    async def config_map(self, namespace: str, name: str) -> dict[str, bytes]:
        """The text entries of a ConfigMap."""
        return await self._off_loop(self._kube.config_map, namespace, name)

    async def secret(self, namespace: str, name: str) -> dict[str, Any]:
        """One Secret; never kept."""
        return await self._off_loop(self._kube.secret, namespace, name)

    async def own_name(self) -> str | None:
        """The user that the operator is, if the API server tells it."""
        try:
            return await self._off_loop(self._kube.own_name)
        except KubeError as error:
            log.info("the API server does not tell who we are", error=error.message)
            return None

    async def create(self, kind: Kind, namespace: str, body: Mapping[str, Any]) -> None:
        """Creates an object; raises ConflictError if one of its name is there."""
        WRITES.labels("object").inc()
        await self._off_loop(self._kube.create, kind, namespace, body)

    async def delete(self, kind: Kind, obj: Mapping[str, Any]) -> None:
        """Deletes the object as it was read; raises ConflictError if it has changed."""
        WRITES.labels("deletion").inc()
        await self._off_loop(self._kube.delete, kind, obj)

    async def write_status(self, kind: Kind, obj: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
        """Replaces the status of the object as it was read; raises ConflictError if it has changed."""
        WRITES.labels("status").inc()
        return await self._off_loop(self._kube.put_status, kind, obj, status)

    async def write_finalizers(self, kind: Kind, obj: Mapping[str, Any], finalizers: list[str]) -> dict[str, Any]:
        """Sets the finalizers of the object as it was read; raises ConflictError if it has changed."""
        WRITES.labels("finalizers").inc()
        return await self._off_loop(self._kube.put_finalizers, kind, obj, finalizers)

    async def note(self, kind: Kind, obj: Mapping[str, Any], note: Note) -> None:
        """Writes an Event unless it is there; a failure is logged, because the status tells the same."""
        namespace, body = event_body(kind.name, obj, note, datetime.now(UTC))
        WRITES.labels("event").inc()
        try:
            await self._off_loop(self._kube.create_event, namespace, body)
        except ConflictError:
            log.debug("event is there already", reason=note.reason)  # written before a crash
        except KubeError as error:
            log.warning("event not written", reason=note.reason, error=error.message)

    async def _off_loop(self, fn: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(fn, *args))
