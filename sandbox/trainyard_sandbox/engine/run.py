"""The run engine: a submitted Python file really runs, in a subprocess with a clean environment.

dispatch.py starts and stops runs here. Each task has its own directory, process group and log; the code is what the
workspace holds under the task's path at the moment it starts, read as the run-as principal. Tasks run when what they
depend on has ended. A run's processes never outlive the sandbox (leash.py).

Messages as the platform words them, seen in public issue threads: "Workload failed, see run output for details",
"Library installation failed for library due to user error", "Cannot read the python file".
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from trainyard_sandbox.engine import libraries, output
from trainyard_sandbox.engine.environment import RUNTIME_TOKEN_LIFETIME_SECONDS, run_environment
from trainyard_sandbox.engine.process import LeashedProcess
from trainyard_sandbox.engine.runs import Outcome, Run, TaskRun
from trainyard_sandbox.errors import ApiError
from trainyard_sandbox.state import SandboxState

MAX_PARALLEL_TASKS = 8
"""Further tasks stay PENDING, as on a workspace that waits for machines."""

SUCCESSFUL = ("SUCCESS", "SUCCESS_WITH_FAILURES")


@dataclass
class _Live:
    run: Run
    ended: dict[str, asyncio.Event]
    job: asyncio.Task[None] | None = None
    stop_with: Outcome | None = None
    forgotten: bool = False
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class _Place:
    """Where one task run lives: the code beside `work_dir`, its working directory and its log."""

    directory: Path

    @property
    def work_dir(self) -> Path:
        return self.directory / "work"

    @property
    def log(self) -> Path:
        return self.directory / "output.log"


class RunEngine:
    """Runs tasks as subprocesses."""

    def __init__(self, state: SandboxState) -> None:
        self._state = state
        self._live: dict[int, _Live] = {}
        self._slots = asyncio.Semaphore(MAX_PARALLEL_TASKS)
        self._directory = state.data_dir / "runs"
        self._libraries = libraries.PythonLibraries(state.data_dir / "libraries")

    async def start(self) -> None:
        """Get ready; called once, inside the event loop."""
        self._directory.mkdir(parents=True, exist_ok=True)

    async def stop(self) -> None:
        """Kill every run and wait until its processes are gone."""
        live = list(self._live.values())
        for entry in live:
            entry.forgotten = True
            entry.stopping.set()
        await asyncio.gather(*(entry.job for entry in live if entry.job), return_exceptions=True)

    def start_run(self, run: Run) -> None:
        """Begin a run."""
        live = _Live(run, {task.task_key: asyncio.Event() for task in run.tasks})
        self._live[run.run_id] = live
        live.job = asyncio.get_running_loop().create_task(self._execute(live))

    def stop_run(self, run: Run, outcome: Outcome) -> None:
        """Stop a run; it ends with `outcome` once its processes are gone."""
        live = self._live.get(run.run_id)
        if live is not None and live.stop_with is None:
            live.stop_with = outcome
            live.stopping.set()
            self._state.runs.terminate(run, outcome)

    def forget(self, run: Run) -> None:
        """Kill a run without an end: it was deleted."""
        live = self._live.get(run.run_id)
        if live is not None:
            live.forgotten = True
            live.stopping.set()

    async def _execute(self, live: _Live) -> None:
        try:
            await asyncio.gather(*(self._task(live, task) for task in live.run.tasks))
            outcome = live.stop_with or _overall(live.run)
            if live.run.progress.life_cycle_state != "TERMINATING":
                self._state.runs.move(live.run, "TERMINATING")
            self._state.runs.finish(live.run, outcome)
        finally:
            del self._live[live.run.run_id]

    async def _task(self, live: _Live, task: TaskRun) -> None:
        try:
            for key in task.depends_on:
                await live.ended[key].wait()
            outcome = _skipped(live.run, task) or await self._in_a_slot(live, task)
        except Exception as error:  # noqa: BLE001 - a bug of the sandbox must end the run visibly, not hang it
            message = f"The sandbox failed to run this task: {type(error).__name__}: {error}"
            outcome = Outcome("INTERNAL_ERROR", "FAILED", message)
        self._state.runs.finish(live.run, live.stop_with or outcome, task)
        live.ended[task.task_key].set()

    async def _in_a_slot(self, live: _Live, task: TaskRun) -> Outcome:
        self._state.runs.move(live.run, "PENDING", task=task)
        slot = asyncio.ensure_future(self._slots.acquire())
        stopping = asyncio.create_task(live.stopping.wait())
        await asyncio.wait((slot, stopping), return_when=asyncio.FIRST_COMPLETED)
        try:
            if live.stopping.is_set():
                return Outcome(result_state="CANCELED")
            return await self._prepare_and_run(live, task, stopping)
        finally:
            stopping.cancel()
            if slot.done():
                self._slots.release()
            else:
                slot.cancel()

    async def _prepare_and_run(self, live: _Live, task: TaskRun, stopping: asyncio.Task[Literal[True]]) -> Outcome:
        place = _Place(self._directory / str(live.run.run_id) / str(task.run_id))
        place.work_dir.mkdir(parents=True)
        place.log.touch()
        task.logs = lambda: output.tail(place.log)
        script = self._fetch_code(live.run, task, place)
        if isinstance(script, Outcome):
            return script
        installing = asyncio.ensure_future(self._libraries.install(libraries.requested(live.run, task)))
        await asyncio.wait((installing, stopping), return_when=asyncio.FIRST_COMPLETED)
        if live.stopping.is_set():
            installing.cancel()
            return Outcome(result_state="CANCELED")
        try:
            folder = installing.result()
        except libraries.LibraryInstallError as error:
            message = f"Library installation failed for library due to user error. Error messages:\n{error}"
            return Outcome("INTERNAL_ERROR", "FAILED", message, "LIBRARY_INSTALLATION_ERROR", "CLIENT_ERROR")
        run, python_path = live.run, [folder] if folder else []
        token = self._state.tokens.issue(run.run_as, RUNTIME_TOKEN_LIFETIME_SECONDS, "runtime")
        try:
            environment = run_environment(self._state, run, task, token, place.work_dir, python_path)
            command = [sys.executable, str(script), *task.spec["spark_python_task"].get("parameters", [])]
            self._state.runs.move(run, "RUNNING", "In run", task)
            self._state.runs.move(run, "RUNNING", "In run")
            process = await LeashedProcess.start(command, environment, place.work_dir, place.log)
            status = await self._until_ended(live, task, stopping, process)
        finally:
            self._state.tokens.expire_value(token.value)
        return _outcome_of(task, status, place.log)

    def _fetch_code(self, run: Run, task: TaskRun, place: _Place) -> Path | Outcome:
        """The task's file, copied out of the workspace with the files beside it; an outcome when it cannot be read.

        Files beside it are importable: the folder of the file is the first in sys.path (Databricks documentation,
        "Work with Python and R modules").
        """
        path: str = task.spec["spark_python_task"]["python_file"]
        if self._state.files is None:
            raise RuntimeError("this sandbox has no workspace files")
        principal = self._state.directory.require(run.run_as)
        try:
            self._state.files.read(path, principal)
            beside = self._state.files.beside(path, principal)
        except ApiError as error:
            message = f"Cannot read the python file {path}: {error.message}"
            code = "UNAUTHORIZED_ERROR" if error.status == 403 else "RESOURCE_NOT_FOUND"
            return Outcome("INTERNAL_ERROR", "FAILED", message, code, "CLIENT_ERROR")
        folder = place.directory / "code"
        folder.mkdir()
        for name, content in beside.items():
            (folder / name).write_bytes(content)
        return folder / Path(path).name

    async def _until_ended(
        self, live: _Live, task: TaskRun, stopping: asyncio.Task[Literal[True]], process: LeashedProcess
    ) -> int:
        """Wait for the process, or stop it; returns its exit status once its whole group is gone."""
        try:
            ended = asyncio.ensure_future(process.wait())
            await asyncio.wait((ended, stopping), return_when=asyncio.FIRST_COMPLETED)
            self._state.runs.move(live.run, "TERMINATING", task=task)
            if live.forgotten:
                process.close()
            elif not ended.done():
                await process.stop()
            return await ended
        finally:
            process.close()


def _outcome_of(task: TaskRun, status: int, log: Path) -> Outcome:
    if status == 0:
        return Outcome()
    task.error, task.error_trace = output.failure(log, status)
    return Outcome(result_state="FAILED", message="Workload failed, see run output for details")


def _overall(run: Run) -> Outcome:
    """How a run ends that nothing stopped, from its tasks."""
    outcomes = [(task, task.progress.outcome) for task in run.tasks if task.progress.outcome is not None]
    bad = [(task, outcome) for task, outcome in outcomes if outcome.result_state == "FAILED"]
    if not bad:
        return Outcome()
    task, outcome = bad[0]
    message = f"Task {task.task_key} failed with message: {outcome.message}."
    return Outcome(outcome.life_cycle_state, "FAILED", message, *outcome.termination)


def _skipped(run: Run, task: TaskRun) -> Outcome | None:
    """Why a task does not run at all, by its `run_if` (SDK docstring of RunIf) and what it depends on."""
    if task.spec.get("disabled"):
        return Outcome("SKIPPED", "DISABLED", "Task is disabled.")
    results = [run.task(key).progress.outcome for key in task.depends_on]
    good = [outcome for outcome in results if outcome and outcome.result_state in SUCCESSFUL]
    failed = [outcome for outcome in results if outcome and outcome.result_state in ("FAILED", "TIMEDOUT")]
    wanted = {
        "ALL_SUCCESS": len(good) == len(results),
        "AT_LEAST_ONE_SUCCESS": bool(good),
        "NONE_FAILED": not failed and (bool(good) or not results),
        "ALL_DONE": True,
        "AT_LEAST_ONE_FAILED": bool(failed),
        "ALL_FAILED": len(failed) == len(results),
    }
    condition = task.spec.get("run_if", "ALL_SUCCESS")
    if not results or wanted[condition]:
        return None
    if condition != "ALL_SUCCESS":
        return Outcome("SKIPPED", "EXCLUDED", f"The condition {condition} was not met.")
    if failed:
        return Outcome("TERMINATED", "UPSTREAM_FAILED", "An upstream task failed.")
    return Outcome("TERMINATED", "UPSTREAM_CANCELED", "An upstream task was canceled.")
