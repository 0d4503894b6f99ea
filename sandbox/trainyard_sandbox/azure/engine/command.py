"""Command jobs that really run: image, machines, code, data, the processes, and how it ended.

dispatch.py calls `CommandJobs.run`; sweeps.py and pipelines.py submit command jobs as children. Each attempt has its
own directory, process groups and log files. A job's processes never outlive the sandbox (engine/leash.py).

States, and what each is for: azure-ai-ml `_enums.py`, JobStatus. A command runs in a shell: "The command to execute"
may use variables and `&&` (Azure Machine Learning documentation, "CLI (v2) command job YAML schema"). What a failed
process says is quoted in public issue threads: "Execution failed. User process 'python' exited with status code 2.
Please check log file 'user_logs/std_log.txt' for error details. Error: ...". That a preempted job begins again:
"Optimize cost", section low-priority VMs.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard_sandbox.azure import job_rules
from trainyard_sandbox.azure.arm import AzureCall
from trainyard_sandbox.azure.engine import distribution, machines, stores
from trainyard_sandbox.azure.engine.data import DataNotThere, JobData
from trainyard_sandbox.azure.engine.distribution import JobProcess
from trainyard_sandbox.azure.engine.environment import job_variables
from trainyard_sandbox.azure.engine.images import BuildFailed, Images
from trainyard_sandbox.azure.engine.live import LiveJob
from trainyard_sandbox.azure.engine.logs import BUILD_LOG, JobLogs
from trainyard_sandbox.azure.errors import user_error
from trainyard_sandbox.azure.job_bindings import check_references, substituted
from trainyard_sandbox.azure.job_shapes import COMMAND_JOB
from trainyard_sandbox.azure.job_store import AzureJob, JobEnd, JobError
from trainyard_sandbox.azure.mlflow_tokens import issue_run_token
from trainyard_sandbox.engine import output
from trainyard_sandbox.engine.process import LeashedProcess
from trainyard_sandbox.schema import Obj
from trainyard_sandbox.state import SandboxState

MAX_PARALLEL_JOBS = 8
"""Further jobs stay Queued, as on a workspace that waits for machines."""


class _Ended(Exception):
    """The job ends before or beside its processes."""

    def __init__(self, end: JobEnd) -> None:
        super().__init__(end.status)
        self.end = end


@dataclass
class _Attempt:
    """One run of all processes of a job."""

    directory: Path
    data: JobData
    variables: dict[str, str]
    command: str


class CommandJobs:
    """The job type Command."""

    def __init__(self, state: SandboxState) -> None:
        self._state = state
        self._azure = state.azure
        self._images: Images = state.azure.images
        self._logs: JobLogs = state.azure.logs
        self._directory = state.data_dir / "azure-jobs"
        self._slots = asyncio.Semaphore(MAX_PARALLEL_JOBS)

    @property
    def shape(self) -> Obj:
        """See `JobType.shape`."""
        return COMMAND_JOB

    def check(self, call: AzureCall, properties: dict[str, Any]) -> None:
        """See `JobType.check`."""
        check_references(properties["command"], properties.get("inputs", {}), properties.get("outputs", {}))
        check_run(call, properties)

    async def run(self, live: LiveJob) -> JobEnd:
        """See `JobType.run`."""
        try:
            packages = await self._prepared(live)
            while True:
                end = await self._on_machines(live, packages)
                if end is not None:
                    return end
        except _Ended as ended:
            return ended.end
        finally:
            if live.forgotten:
                shutil.rmtree(self._place(live.job), ignore_errors=True)

    async def _prepared(self, live: LiveJob) -> list[Path]:
        """Build the image; returns the folders with its packages."""
        job = live.job
        self._azure.jobs.move(job, "Preparing")
        spec = stores.image_spec(self._azure, job.definition["environmentId"])
        if self._images.is_built(spec):
            return await self._images.build(spec)
        self._logs.write(job, BUILD_LOG, f"Building image {spec.key}\n" + "\n".join(spec.requirements) + "\n")
        building = asyncio.ensure_future(self._images.build(spec))
        if await live.first(building):
            building.cancel()
            await asyncio.gather(building, return_exceptions=True)
            raise _Ended(live.stopped)
        try:
            packages = building.result()
        except BuildFailed as error:
            self._logs.write(job, BUILD_LOG, f"Building image {spec.key}\n{error}\n")
            message = f"Image build failed. For more details, check log file {BUILD_LOG}. Error: {error}"
            raise _Ended(JobEnd("Failed", JobError("UserError", message, ("ImageBuildFailure",)))) from error
        self._logs.write(job, BUILD_LOG, f"Building image {spec.key}\nThe image was built.\n")
        return packages

    async def _on_machines(self, live: LiveJob, packages: list[Path]) -> JobEnd | None:
        """Wait for machines and run there; None when they were taken away and the job is to begin again."""
        job = live.job
        live.preempted.clear()
        self._azure.jobs.move(job, "Queued")
        granted = asyncio.Event()
        if not machines.claim(self._azure, job, granted.set):
            return machines.compute_gone(job)
        waiting = asyncio.ensure_future(granted.wait())
        try:
            if await live.first(waiting):
                return live.stopped
            if await live.sleep(self._azure.computes.node_start_seconds):
                return live.stopped
            return await self._in_a_slot(live, packages)
        finally:
            waiting.cancel()
            machines.release(self._azure, job)

    async def _in_a_slot(self, live: LiveJob, packages: list[Path]) -> JobEnd | None:
        slot = asyncio.ensure_future(self._slots.acquire())
        try:
            if await live.first(slot):
                return live.stopped
            return await self._attempted(live, packages)
        finally:
            if slot.done() and not slot.cancelled():
                self._slots.release()
            else:
                slot.cancel()

    async def _attempted(self, live: LiveJob, packages: list[Path]) -> JobEnd | None:
        attempt = self._laid_out(live.job, packages)
        live.running()
        started = await self._started(live, attempt)
        try:
            status = await self._until_ended(live, started)
        finally:
            for process, _ in started:
                process.close()
        if live.forgotten:
            return live.stopped
        if live.preempted.is_set() and not live.stopping.is_set():
            return None
        return self._finalized(live, attempt, status, started)

    def _place(self, job: AzureJob) -> Path:
        return self._directory / f"{job.number}-{job.name}"

    def _laid_out(self, job: AzureJob, packages: list[Path]) -> _Attempt:
        """Put code and inputs where the processes find them."""
        directory = self._place(job)
        shutil.rmtree(directory, ignore_errors=True)
        home = directory / "home"
        home.mkdir(parents=True)
        data = JobData(self._azure, job, directory)
        try:
            data.lay_out()
        except DataNotThere as error:
            raise _Ended(JobEnd("Failed", JobError("UserError", str(error), error.inner))) from error
        token = issue_run_token(self._state, job)
        variables = job_variables(self._state, job, token, home, data.inputs, data.outputs, packages)
        command = substituted(job.definition["command"], data.inputs, data.outputs)
        return _Attempt(directory, data, variables, command)

    async def _started(self, live: LiveJob, attempt: _Attempt) -> list[tuple[LeashedProcess, JobProcess]]:
        """Start all processes, or none."""
        job = live.job
        started: list[tuple[LeashedProcess, JobProcess]] = []
        try:
            for one in distribution.processes(job.definition, _free_port()):
                log = self._logs.file(job, one.log)
                work_dir = attempt.data.work_dir(one.node)
                process = await LeashedProcess.start(
                    ["/bin/sh", "-c", attempt.command], attempt.variables | one.variables, work_dir, log
                )
                started.append((process, one))
        except BaseException:
            for process, _ in started:
                process.close()
            raise
        return started

    async def _until_ended(self, live: LiveJob, started: list[tuple[LeashedProcess, JobProcess]]) -> list[int | None]:
        """Wait until all processes have ended, or the first that failed, a stop or a preemption ends the others."""
        waits = [asyncio.ensure_future(process.wait()) for process, _ in started]
        ended = asyncio.ensure_future(_all_well(waits))
        preempted = asyncio.ensure_future(live.preempted.wait())
        try:
            await live.first(ended, preempted)
        finally:
            ended.cancel()
            preempted.cancel()
        status = [wait.result() if wait.done() else None for wait in waits]
        if live.forgotten:
            for process, _ in started:
                process.close()
        await asyncio.gather(*(process.stop() for process, _ in started))
        await asyncio.gather(*waits)
        return status

    def _finalized(
        self,
        live: LiveJob,
        attempt: _Attempt,
        status: list[int | None],
        started: list[tuple[LeashedProcess, JobProcess]],
    ) -> JobEnd:
        job = live.job
        if not live.stopping.is_set():
            self._azure.jobs.move(job, "Finalizing")
        attempt.data.upload()
        if live.stopping.is_set():
            return live.stopped
        for code, (_, process) in zip(status, started, strict=True):
            if code:
                return self._failed(job, attempt, code, process)
        attempt.data.register()
        return JobEnd()

    def _failed(self, job: AzureJob, attempt: _Attempt, status: int, process: JobProcess) -> JobEnd:
        error, trace = output.failure(self._logs.file(job, process.log), status)
        program = attempt.command.split(maxsplit=1)[0].rpartition("/")[2]
        message = (
            f"Execution failed. User process '{program}' exited with status code {status}. Please check log file "
            f"'{process.log}' for error details. Error: {trace or error}"
        )
        return JobEnd("Failed", JobError("UserError", message, ("ExecutionFailed",)))


def check_run(call: AzureCall, properties: dict[str, Any]) -> None:
    """Refuse code, environment, compute or distribution that cannot be; for a command job and a sweep's trial.

    Raises:
        ArmError: 400 UserError.
    """
    job_rules.check_compute(call.azure, properties)
    stores.check_environment(call.azure, properties["environmentId"])
    if "codeId" in properties:
        stores.check_code(call.azure, properties["codeId"])
    processes = distribution.count(properties)
    if processes > distribution.MAX_PROCESSES:
        message = f"This sandbox runs at most {distribution.MAX_PROCESSES} processes of a job, asked for: {processes}."
        raise user_error(message)


async def _all_well(waits: Sequence[asyncio.Future[int]]) -> None:
    """Return when all have ended with 0, or one with anything else."""
    pending: set[asyncio.Future[int]] = set(waits)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if any(one.result() for one in done):
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
