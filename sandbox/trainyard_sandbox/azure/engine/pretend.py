"""The pretend engine of Azure ML jobs: they only go through scripted states, thousands at once.

dispatch.py starts and stops jobs here. There is no thread, task or process per job: each job has one entry in the event
loop's own timer heap. Machines are asked for as in truth: a job beyond the quota stays Queued. Metrics and model
versions, where a script has them, are written through the workspace's own MLflow API.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from trainyard_sandbox.azure.engine import machines
from trainyard_sandbox.azure.engine.scripts import JobScript
from trainyard_sandbox.azure.engine.tracking import write_tracking
from trainyard_sandbox.azure.job_store import PAYING_STATUSES, AzureJob, JobEnd, JobError
from trainyard_sandbox.state import SandboxState


@dataclass
class _Pretended:
    job: AzureJob
    script: JobScript
    step: int = -1
    timer: asyncio.TimerHandle | None = None
    stopping: bool = False
    asked: bool = False
    """Machines were asked for."""
    claims: int = 0
    """How often; an answer to an older claim counts no more."""
    granted: bool = False


class PretendEngine:
    """Moves jobs along their scripts.

    Args:
        limit: called when a job is Running, to begin its time limit; `unlimit` when it has ended.
    """

    def __init__(
        self, state: SandboxState, limit: Callable[[AzureJob], None], unlimit: Callable[[AzureJob], None]
    ) -> None:
        self._state = state
        self._limit = limit
        self._unlimit = unlimit
        self._azure = state.azure
        self._live: dict[str, _Pretended] = {}
        self._tracking: set[asyncio.Task[None]] = set()

    def start(self, job: AzureJob, script: JobScript) -> None:
        """Begin a job's script."""
        pretended = self._live[job.name] = _Pretended(job, script)
        for name, text in script.logs.items():
            self._azure.logs.write(job, name, text)
        self._advance(pretended)

    def stop_job(self, job: AzureJob, end: JobEnd) -> bool:
        """Stop a job as a cancel does; False when it is not here."""
        pretended = self._live.get(job.name)
        if pretended is None:
            return False
        if not pretended.stopping:
            pretended.stopping = True
            self._disarm(pretended)
            self._arm(pretended, pretended.script.cancel_seconds, lambda: self._end(pretended, end))
        return True

    def preempt(self, job: AzureJob) -> bool:
        """Take a running job's machines away and begin its script again; False when it is not running here."""
        pretended = self._live.get(job.name)
        if pretended is None or pretended.stopping or job.status != "Running":
            return False
        self._disarm(pretended)
        machines.release(self._azure, job)
        pretended.step, pretended.asked, pretended.granted = -1, False, False
        self._azure.jobs.move(job, "Queued")
        self._advance(pretended)
        return True

    def forget(self, job: AzureJob) -> None:
        """Drop a job at once, without an end: it was deleted."""
        pretended = self._live.pop(job.name, None)
        if pretended is not None:
            pretended.stopping = True
            self._disarm(pretended)
            machines.release(self._azure, job)

    async def stop(self) -> None:
        """Drop all jobs."""
        for pretended in list(self._live.values()):
            self.forget(pretended.job)
        for task in self._tracking:
            task.cancel()
        await asyncio.gather(*self._tracking, return_exceptions=True)

    def _advance(self, pretended: _Pretended) -> None:
        """The next state of the script; before one that costs money, machines must be there."""
        script, following = pretended.script, pretended.step + 1
        name = script.states[following][0] if following < len(script.states) else None
        if name in PAYING_STATUSES and not pretended.granted:
            self._ask(pretended)
            return
        pretended.step = following
        if name is not None:
            self._azure.jobs.move(pretended.job, name)
            if name == "Running":
                self._limit(pretended.job)
            self._arm(pretended, script.states[following][1], lambda: self._advance(pretended))
        elif script.metrics or script.registered_model_name:
            task = asyncio.get_running_loop().create_task(self._track_and_end(pretended))
            self._tracking.add(task)
            task.add_done_callback(self._tracking.discard)
        else:
            self._end(pretended, script.end)

    def _ask(self, pretended: _Pretended) -> None:
        if pretended.asked:
            return
        pretended.asked = True
        pretended.claims += 1
        claim = pretended.claims

        def granted() -> None:
            if not pretended.stopping and pretended.claims == claim:
                pretended.granted = True
                self._arm(pretended, self._azure.computes.node_start_seconds, lambda: self._advance(pretended))

        if not machines.claim(self._azure, pretended.job, granted):
            self._end(pretended, machines.compute_gone(pretended.job))
        elif not pretended.granted:
            self._azure.jobs.move(pretended.job, "Queued")

    async def _track_and_end(self, pretended: _Pretended) -> None:
        problem = await write_tracking(self._state, pretended.job, pretended.script)
        if not pretended.stopping:
            failed = JobEnd("Failed", JobError("UserError", f"Pretended tracking failed: {problem}"))
            self._end(pretended, failed if problem else pretended.script.end)

    def _end(self, pretended: _Pretended, end: JobEnd) -> None:
        machines.release(self._azure, pretended.job)
        self._unlimit(pretended.job)
        self._live.pop(pretended.job.name, None)
        self._azure.jobs.finish(pretended.job, end)

    def _arm(self, pretended: _Pretended, seconds: float, then: Callable[[], None]) -> None:
        pretended.timer = asyncio.get_running_loop().call_later(seconds, then)

    def _disarm(self, pretended: _Pretended) -> None:
        if pretended.timer is not None:
            pretended.timer.cancel()
