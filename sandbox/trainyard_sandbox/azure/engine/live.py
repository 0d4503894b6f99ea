"""A job while it is under way, the request to stop it, and what a job type must be able to do.

dispatch.py makes a `LiveJob` for each job and calls `JobType.run`. Job types: command.py, sweeps.py, pipelines.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from trainyard_sandbox.azure.arm import AzureCall
from trainyard_sandbox.azure.job_store import AzureJob, JobEnd
from trainyard_sandbox.schema import Obj

CANCELED = JobEnd("Canceled")


@dataclass
class LiveJob:
    """A job under way. `forgotten` means: stop without an end, since the job was deleted or the sandbox ends.

    `preempted` means: give the machines back and begin again from the queue; who watches it clears it.
    """

    job: AzureJob
    on_running: Callable[[LiveJob], None]
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    stop_with: JobEnd | None = None
    forgotten: bool = False
    preempted: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self, end: JobEnd) -> None:
        """Ask it to stop and end so; the first request counts."""
        if self.stop_with is None:
            self.stop_with = end
        self.stopping.set()

    def forget(self) -> None:
        """Ask it to be gone."""
        self.forgotten = True
        self.stopping.set()

    def running(self) -> None:
        """Bring the job into Running; its time limit counts from here."""
        self.on_running(self)

    @property
    def stopped(self) -> JobEnd:
        """The end of a job that was asked to stop."""
        return self.stop_with or CANCELED

    async def first(self, *work: asyncio.Future[Any]) -> bool:
        """Wait for any of the work or a stop; whether it is to be stopped."""
        stop = asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait((*work, stop), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
        return self.stopping.is_set()

    async def sleep(self, seconds: float) -> bool:
        """Wait so long or until a stop; whether it is to be stopped."""
        if seconds > 0:
            pause = asyncio.ensure_future(asyncio.sleep(seconds))
            await self.first(pause)
            pause.cancel()
        return self.stopping.is_set()


class JobType(Protocol):
    """One kind of job; `attach` of its module puts it into `state.azure.job_types` under its `jobType`."""

    @property
    def shape(self) -> Obj:
        """The shape of the body's `properties`; see job_shapes.py for the parts."""
        ...

    def check(self, call: AzureCall, properties: dict[str, Any]) -> None:
        """Refuse what the service refuses when the job is submitted, such as a compute that is not there.

        Raises:
            ArmError: 400 UserError.
        """
        ...

    async def run(self, live: LiveJob) -> JobEnd:
        """Run the job, from NotStarted, through its states. When `live` is to stop, stop all that belongs to it and
        return `live.stopped`. The job itself is ended by the caller."""
        ...
