"""One attempt of a task as a subprocess: its cluster, its code, its packages, the process, and how it ended.

run.py calls `TaskProcesses.run`. Each attempt has its own directory, process group and log; code and files are read as
the run-as identity at the moment it starts. The code's token ends with it.

Messages as the platform words them, seen in public issue threads: "Workload failed, see run output for details",
"Library installation failed for library due to user error", "Cannot read the python file". The sentence about a
notebook that cannot be read, and the colours of a notebook's trace, are (recalled).
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainyard_sandbox.engine import cluster_start, libraries, notebooks, output, parameters
from trainyard_sandbox.engine.cluster_start import ClusterNotThere, TaskCluster
from trainyard_sandbox.engine.environment import RUNTIME_TOKEN_LIFETIME_SECONDS, job_environment, run_environment
from trainyard_sandbox.engine.live import LiveTask
from trainyard_sandbox.engine.process import LeashedProcess
from trainyard_sandbox.engine.runs import Outcome
from trainyard_sandbox.errors import ApiError
from trainyard_sandbox.principals import Principal
from trainyard_sandbox.state import SandboxState

NOTEBOOK_DRIVER = Path(__file__).with_name("notebook_driver.py")
WHEEL_DRIVER = Path(__file__).with_name("wheel_driver.py")


@dataclass(frozen=True)
class _Place:
    """Where one attempt lives: the code beside `work_dir`, its working directory and its log."""

    directory: Path

    @property
    def work_dir(self) -> Path:
        return self.directory / "work"

    @property
    def code(self) -> Path:
        return self.directory / "code"

    @property
    def log(self) -> Path:
        return self.directory / "output.log"

    @property
    def workspace(self) -> Path:
        return self.directory / "workspace"

    @property
    def notebook_result(self) -> Path:
        return self.directory / "notebook-result.json"


@dataclass(frozen=True)
class _Program:
    """What to start: a command, where, and folders for PYTHONPATH."""

    command: list[str]
    work_dir: Path
    python_path: tuple[Path, ...] = ()


class _Ended(Exception):
    """The attempt ends before its process starts."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


class TaskProcesses:
    """Runs attempts under one directory."""

    def __init__(self, state: SandboxState) -> None:
        self._state = state
        self._directory = state.data_dir / "runs"
        self._libraries = libraries.PythonLibraries(state.data_dir / "libraries")

    async def run(self, live: LiveTask) -> Outcome:
        """Run an attempt from its cluster to its end."""
        place = _Place(self._directory / str(live.run.run_id) / str(live.task.run_id))
        place.work_dir.mkdir(parents=True)
        place.code.mkdir()
        place.log.touch()
        if live.task.kind != "notebook_task":
            live.task.logs = lambda: output.tail(place.log)
        try:
            cluster = cluster_start.request(self._state, live.run, live.task)
        except ClusterNotThere as error:
            return error.outcome
        try:
            await self._ready(live, cluster)
            program = self._program(live, place)
            folders = await self._installed(live)
            program = replace(program, python_path=(*folders, *program.python_path))
            status = await self._process(live, program, cluster, place)
        except _Ended as ended:
            return ended.outcome
        finally:
            if cluster.cluster is not None:
                cluster_start.release(self._state, live.task, cluster.cluster)
        if live.stop_with is not None:
            return live.stop_with
        return _outcome_of(live, status, place)

    async def _ready(self, live: LiveTask, on: TaskCluster) -> None:
        """Wait until the cluster is ready, and have its loss stop the attempt."""
        cluster, clusters = on.cluster, self._state.compute.clusters
        if cluster is None:
            return
        if await live.sleep(clusters.seconds_to_wait(cluster)):
            raise _Ended(live.stopped)
        if cluster.reason is not None:
            raise _Ended(cluster_start.outcome_of_start(cluster, cluster.reason))
        cluster.tenants[live.task.run_id] = lambda reason: live.stop(cluster_start.outcome_of_loss(cluster, reason))

    def _program(self, live: LiveTask, place: _Place) -> _Program:
        kind = live.task.kind
        if kind == "notebook_task":
            return self._notebook(live, place)
        arguments = parameters.arguments(live.run, live.task)
        if kind == "python_wheel_task":
            spec = live.task.spec[kind]
            command = [sys.executable, str(WHEEL_DRIVER), spec["package_name"], spec["entry_point"], *arguments]
            return _Program(command, place.work_dir)
        script = self._python_file(live, place)
        self._mount(live, arguments, place)
        return _Program([sys.executable, str(script), *arguments], place.work_dir)

    def _python_file(self, live: LiveTask, place: _Place) -> Path:
        """The task's file, copied with the files beside it where it comes from the workspace.

        Files beside it are importable: the folder of the file is the first in sys.path (Databricks documentation,
        "Work with Python and R modules").
        """
        path: str = live.task.spec["spark_python_task"]["python_file"]
        try:
            (place.code / Path(path).name).write_bytes(self._fetch(live, path))
            self._copy_beside(live, path, place)
        except ApiError as error:
            raise _Ended(_unreadable(error, f"Cannot read the python file {path}: {error.message}")) from error
        return place.code / Path(path).name

    def _notebook(self, live: LiveTask, place: _Place) -> _Program:
        path: str = live.task.spec["notebook_task"]["notebook_path"]
        if self._state.files is None:
            raise RuntimeError("this sandbox has no workspace files")
        try:
            content, language = self._state.files.notebook(path, self._principal(live))
            self._copy_beside(live, path, place)
        except ApiError as error:
            message = (
                f'Unable to access the notebook "{path}". Either it does not exist, or the identity used to run this '
                f"job, {live.run.run_as}, lacks the required permissions."
            )
            raise _Ended(_unreadable(error, message)) from error
        if language != "PYTHON":
            raise _Ended(_client_error("INVALID_RUN_CONFIGURATION", f"{language} notebooks are not offered here."))
        packages = place.directory / "packages"
        packages.mkdir()
        try:
            cells = [self._planned(live, cell, packages) for cell in notebooks.cells(content)]
        except notebooks.NotReadable as error:
            raise _Ended(_client_error("INVALID_RUN_CONFIGURATION", f'Notebook "{path}": {error}')) from error
        plan = {
            "cells": cells,
            "widgets": parameters.widgets(live.run, live.task),
            "path": path,
            "code": str(place.code),
        }
        plan_file = place.directory / "notebook-plan.json"
        plan_file.write_text(json.dumps(plan))
        command = [sys.executable, str(NOTEBOOK_DRIVER), str(plan_file), str(place.notebook_result)]
        # Since Databricks Runtime 14 a notebook's working directory is the folder that it lies in.
        return _Program(command, place.code, (packages,))

    def _planned(self, live: LiveTask, cell: notebooks.Cell, packages: Path) -> dict[str, Any]:
        """A cell for the driver; of `%pip install` only what is not there already."""
        planned: dict[str, Any] = {"kind": cell.kind, "text": cell.text}
        if cell.kind == "pip":
            wanted = cell.pip_arguments
            local = [_saved(self._fetch(live, one), one, packages) for one in wanted if libraries.is_platform_path(one)]
            named = [one for one in wanted if not libraries.is_platform_path(one) and not libraries.is_satisfied(one)]
            offline = [] if any(not one.startswith("-") for one in named) else ["--no-deps", "--no-index"]
            wanted = [*local, *named]
            needed = any(not one.startswith("-") for one in wanted)
            planned["command"] = [*libraries.PIP, *offline, "--target", str(packages), *wanted] if needed else []
        return planned

    def _copy_beside(self, live: LiveTask, path: str, place: _Place) -> None:
        if self._state.files is not None and not path.startswith("/Volumes/"):
            for name, content in self._state.files.beside(path, self._principal(live)).items():
                (place.code / name).write_bytes(content)

    def _mount(self, live: LiveTask, arguments: list[str], place: _Place) -> None:
        """Workspace folders that the code is told of, as it finds them below /Workspace when the task starts.

        On the platform all of the workspace is there (Databricks documentation, "What are workspace files?").
        """
        files = self._state.files
        if files is None:
            return
        for argument in {argument for argument in arguments if argument.startswith("/Workspace/")}:
            if any(part in ("", ".", "..") for part in argument.strip("/").split("/")):
                continue  # no path of the workspace
            folder = place.workspace / argument.removeprefix("/Workspace/")
            for name, content in files.below(argument, self._principal(live)).items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)

    def _fetch(self, live: LiveTask, path: str) -> bytes:
        """A file of a volume or the workspace, as the run-as identity may read it."""
        store = self._state.volumes if path.startswith("/Volumes/") else self._state.files
        if store is None:
            raise RuntimeError(f"this sandbox has nowhere to read {path} from")
        return store.read(path, self._principal(live))

    def _principal(self, live: LiveTask) -> Principal:
        return self._state.directory.acting(live.run.run_as)

    async def _installed(self, live: LiveTask) -> list[Path]:
        wanted = libraries.requested(live.run, live.task)
        installing = asyncio.ensure_future(self._libraries.install(wanted, lambda path: self._fetch(live, path)))
        if await live.first(installing):
            installing.cancel()
            raise _Ended(live.stopped)
        try:
            return installing.result()
        except libraries.LibraryInstallError as error:
            message = f"Library installation failed for library due to user error. Error messages:\n{error}"
            raise _Ended(_client_error("LIBRARY_INSTALLATION_ERROR", message)) from error

    async def _process(self, live: LiveTask, program: _Program, on: TaskCluster, place: _Place) -> int:
        """Start the program and wait for its end; returns its exit status once its whole group is gone."""
        state, run = self._state, live.run
        token = state.tokens.issue(run.run_as, RUNTIME_TOKEN_LIFETIME_SECONDS, "runtime")
        try:
            workspace = place.workspace.resolve() if place.workspace.exists() else None
            environment = run_environment(state, run, token, place.work_dir, list(program.python_path), workspace)
            environment |= job_environment(run, live.task, on.variables)
            state.runs.move(run, "RUNNING", "In run", live.task)
            state.runs.move(run, "RUNNING", "In run")
            process = await LeashedProcess.start(program.command, environment, program.work_dir, place.log)
            return await self._until_ended(live, process)
        finally:
            state.tokens.expire_value(token.value)

    async def _until_ended(self, live: LiveTask, process: LeashedProcess) -> int:
        try:
            ended = asyncio.ensure_future(process.wait())
            await live.first(ended)
            self._state.runs.move(live.run, "TERMINATING", task=live.task)
            if live.forgotten:
                process.close()
            elif not ended.done():
                await process.stop()
            return await ended
        finally:
            process.close()


def _saved(content: bytes, path: str, folder: Path) -> str:
    """A file of the platform as a local one of the same name, for pip."""
    local = folder.parent / Path(path).name
    local.write_bytes(content)
    return str(local)


def _unreadable(error: ApiError, message: str) -> Outcome:
    return _client_error("UNAUTHORIZED_ERROR" if error.status == 403 else "RESOURCE_NOT_FOUND", message)


def _client_error(code: str, message: str) -> Outcome:
    return Outcome("INTERNAL_ERROR", "FAILED", message, code, "CLIENT_ERROR")


def _outcome_of(live: LiveTask, status: int, place: _Place) -> Outcome:
    task = live.task
    said: dict[str, str] = {}
    if task.kind == "notebook_task" and place.notebook_result.exists():
        said = json.loads(place.notebook_result.read_text())
        task.notebook_result = said.get("exit")
    if status == 0:
        return Outcome()
    if "error" in said:
        task.error = said["error"]
        task.error_trace = f"\x1b[0;31m{'-' * 75}\x1b[0m\n{said['trace']}"
    else:
        task.error, task.error_trace = output.failure(place.log, status)
    return Outcome(result_state="FAILED", message="Workload failed, see run output for details")
