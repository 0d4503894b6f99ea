"""Starts and stops jobs: chooses pretended or real, keeps time limits, cancels, forgets.

jobs.py, sweeps.py and pipelines.py submit jobs here; the control API adds scripts and ends jobs. A job whose name,
display name or tag matches a script is pretended also when the sandbox's engine is `run`.

Cancelling: a job becomes CancelRequested at once and Canceled when all of it has stopped (azure-ai-ml
`_enums.py`, JobStatus). A job that reaches `limits.timeout` is cancelled by the system (Azure Machine Learning
documentation, "CLI (v2) command job YAML schema").
"""

from __future__ import annotations

import asyncio

from trainyard_sandbox.azure.engine.live import CANCELED, JobType, LiveJob
from trainyard_sandbox.azure.engine.pretend import PretendEngine
from trainyard_sandbox.azure.engine.scripts import JobScript
from trainyard_sandbox.azure.job_shapes import duration_seconds
from trainyard_sandbox.azure.job_store import AzureJob, JobEnd, JobError
from trainyard_sandbox.state import SandboxState


class AzureEngine:
    """All jobs under way of one workspace.

    Args:
        kind: `run` or `pretend`, what happens to a job that no script matches.
    """

    def __init__(self, state: SandboxState, kind: str) -> None:
        self._state = state
        self._azure = state.azure
        self._kind = kind
        self._pretend = PretendEngine(state, self._limit, self._disarm)
        self._live: dict[str, LiveJob] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._limits: dict[str, asyncio.TimerHandle] = {}
        self.scripts: list[JobScript] = []
        self.default_script = JobScript()

    async def stop(self) -> None:
        """Stop every job at once and wait until its processes are gone."""
        for timer in self._limits.values():
            timer.cancel()
        await self._pretend.stop()
        for live in list(self._live.values()):
            live.forget()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def submit(self, job: AzureJob) -> None:
        """Begin a job that was just created."""
        script = self._script_for(job)
        if script is not None:
            self._pretend.start(job, script)
            return
        live = self._live[job.name] = LiveJob(job, self._running)
        task = asyncio.get_running_loop().create_task(self._execute(live))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self, job: AzureJob) -> None:
        """Cancel an active job; a second request changes nothing."""
        if job.active and not job.cancel_requested:
            job.cancel_requested = True
            self._azure.jobs.move(job, "CancelRequested")
            self._stop(job, CANCELED)

    def end(self, job: AzureJob, end: JobEnd) -> None:
        """End an active job as the service itself would."""
        self._stop(job, end)

    def preempt(self, job: AzureJob) -> bool:
        """Take its machines away: it goes back to the queue and begins again; False when it is not running."""
        live = self._live.get(job.name)
        if live is None or job.status != "Running":
            return self._pretend.preempt(job)
        live.preempted.set()
        return True

    def forget(self, job: AzureJob) -> None:
        """Stop a job without an end, because it is being deleted; with the jobs that it started."""
        for child in self._azure.jobs.children(job):
            self.forget(child)
        self._disarm(job)
        self._pretend.forget(job)
        live = self._live.get(job.name)
        if live is not None:
            live.forget()

    async def wait(self, job: AzureJob) -> None:
        """Wait until a job has ended or was deleted."""
        if job.active:
            ended = asyncio.Event()
            job.when_ended.append(ended.set)
            await ended.wait()

    def reset_scripts(self) -> None:
        """No script but the built-in default."""
        self.scripts.clear()
        self.default_script = JobScript()

    async def _execute(self, live: LiveJob) -> None:
        job = live.job
        job_type: JobType = self._azure.job_types[job.job_type]
        try:
            end = await job_type.run(live)
        except Exception as error:  # noqa: BLE001 - a bug of the sandbox must end the job visibly, not hang it
            end = JobEnd("Failed", JobError("ServiceError", f"The sandbox failed: {type(error).__name__}: {error}"))
        finally:
            if self._live.get(job.name) is live:  # not of a job that took a deleted one's name
                self._disarm(job)
                del self._live[job.name]
        if not live.forgotten:
            self._azure.jobs.finish(job, live.stop_with or end)

    def _running(self, live: LiveJob) -> None:
        if not live.stopping.is_set():
            self._azure.jobs.move(live.job, "Running")
            self._limit(live.job)

    def _limit(self, job: AzureJob) -> None:
        """A running job's time limit counts from the first time on that it runs."""
        seconds = duration_seconds((job.definition.get("limits") or {}).get("timeout", ""))
        if seconds and job.name not in self._limits:
            self._limits[job.name] = asyncio.get_running_loop().call_later(seconds, self._time_out, job)

    def _time_out(self, job: AzureJob) -> None:
        if job.active and not job.cancel_requested:
            job.cancel_requested = True
            self._azure.jobs.move(job, "CancelRequested")
            limit = (job.definition.get("limits") or {}).get("timeout")
            # The words are ours: what run history then says of the job is not published.
            message = f"The job was cancelled because it ran longer than its timeout of {limit}."
            self._stop(job, JobEnd("Canceled", JobError("UserError", message, ("JobTimeout",))))

    def _script_for(self, job: AzureJob) -> JobScript | None:
        for script in self.scripts:
            if script.matches(job):
                if script.times is not None:
                    script.times -= 1
                return script
        return self.default_script if self._kind == "pretend" else None

    def _stop(self, job: AzureJob, end: JobEnd) -> None:
        live = self._live.get(job.name)
        if live is not None:
            live.stop(end)
        else:
            self._pretend.stop_job(job, end)

    def _disarm(self, job: AzureJob) -> None:
        timer = self._limits.pop(job.name, None)
        if timer is not None:
            timer.cancel()
