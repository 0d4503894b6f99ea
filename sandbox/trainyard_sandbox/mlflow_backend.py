"""The real MLflow tracking server behind the sandbox: one gunicorn worker on loopback, SQLite, no artifact serving.

server.py starts and stops it through `SandboxState.on_startup` and `on_shutdown`; databricks/mlflow_api.py sends it
what it lets through. Nobody else may reach it: it knows no authentication. It dies with the sandbox, also after
SIGKILL.

`mlflow server` imports MLflow once to prepare the database and then executes the gunicorn command that is used here
(mlflow 2.22 `server/__init__.py`, `_build_gunicorn_command`, `_run_server`). Going there directly saves that first
import, half of a start of 8 seconds on two cores. The listening socket is inherited, so that no port is raced for.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

START_DEADLINE_SECONDS = 120.0
"""Importing MLflow takes 4 s alone on this kind of machine, and much more when tests share it."""

STOP_DEADLINE_SECONDS = 5.0

ARTIFACT_ROOT = "dbfs:/databricks/mlflow-tracking"
"""Where a workspace keeps the artifacts of experiments without a location of their own; the client's
`databricks_artifact_repo.py` takes presigned URLs for it."""

PR_SET_PDEATHSIG = 1


class MlflowBackend:
    """One MLflow server as a child process.

    Args:
        directory: for the database and the log; made if missing.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: Process | None = None
        self._client: httpx.AsyncClient | None = None
        self._starting: asyncio.Task[httpx.AsyncClient] | None = None

    async def start(self) -> None:
        """Begin to start it, without waiting: the first import takes seconds."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._start(), name="mlflow-backend")

    async def ready(self) -> httpx.AsyncClient:
        """Wait until it answers; returns the client that speaks to it.

        Raises:
            RuntimeError: when it ended or did not answer in time; the message has the end of its log.
        """
        await self.start()
        assert self._starting is not None  # noqa: S101 - start() made it
        return await asyncio.shield(self._starting)

    async def request(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> httpx.Response:
        """Send one request to the server and read the whole answer."""
        client = await self.ready()
        headers = {"Content-Type": "application/json"} if body is not None else None
        return await client.request(method, path, params=params, content=body, headers=headers)

    async def stop(self) -> None:
        """End the server and wait for it."""
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
            await asyncio.wait([self._starting])
        if self._client is not None:
            await self._client.aclose()
        if self._process is not None:
            await _end(self._process)

    async def _start(self) -> httpx.AsyncClient:
        self._directory.mkdir(parents=True, exist_ok=True)
        with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
            port = listener.getsockname()[1]
            self._process = await self._spawn(listener)
        timeout = httpx.Timeout(60.0)
        self._client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=timeout, trust_env=False)
        try:
            async with asyncio.timeout(START_DEADLINE_SECONDS):
                await self._first_answer(self._client)
        except TimeoutError:
            raise RuntimeError(f"MLflow did not answer in {START_DEADLINE_SECONDS:.0f} s: {self._log_end()}") from None
        return self._client

    async def _spawn(self, listener: socket.socket) -> Process:
        command = [sys.executable, "-m", "gunicorn", "-b", f"fd://{listener.fileno()}", "-w", "1", "-k", "gthread"]
        command += ["--threads", "4", "--timeout", "120", "--graceful-timeout", "2", "mlflow.server:app"]
        with (self._directory / "server.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *command,
                cwd=self._directory,
                env=self._environment(),
                stdin=DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[listener.fileno()],
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()),
            )

    def _environment(self) -> Mapping[str, str]:
        """Nothing of ours but PATH: an MLFLOW_TRACKING_URI from outside would change the server."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self._directory),
            "LC_ALL": "C.UTF-8",
            "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{self._directory / 'mlflow.db'}",
            "_MLFLOW_SERVER_ARTIFACT_ROOT": ARTIFACT_ROOT,
        }

    async def _first_answer(self, client: httpx.AsyncClient) -> None:
        """The socket listens from the beginning, so one request waits for the worker; it also makes the database."""
        assert self._process is not None  # noqa: S101 - called after _spawn
        search = client.post("/api/2.0/mlflow/experiments/search", json={"max_results": 1}, timeout=None)
        answer = asyncio.create_task(search)
        ended = asyncio.create_task(self._process.wait())
        try:
            await asyncio.wait([answer, ended], return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise RuntimeError(f"MLflow ended with {ended.result()}: {self._log_end()}")
            answer.result().raise_for_status()
        finally:
            answer.cancel()
            ended.cancel()

    def _log_end(self) -> str:
        return (self._directory / "server.log").read_text("utf-8", "replace")[-2000:]


def _die_with(parent: int) -> Callable[[], None]:
    """For the child: get SIGTERM when the parent is gone (prctl(2)); gunicorn then ends its worker."""
    libc = ctypes.CDLL(None, use_errno=True)

    def set_parent_death_signal() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return set_parent_death_signal


async def _end(process: Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_DEADLINE_SECONDS):
            await process.wait()
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
