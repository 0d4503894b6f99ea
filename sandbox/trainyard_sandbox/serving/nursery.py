"""Keeps the process that forks model servers (nursery_process.py): started when the first model is served.

fleet.py has one; model_server.py asks it for a process per model. All of them are in one process group on the sandbox's
leash, so that none outlives the sandbox.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from trainyard_sandbox.engine.process import LeashedProcess

_THREADS = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""A process that forks must have one thread; libraries of linear algebra start theirs when they are imported."""


class Nursery:
    """The parent of all model servers.

    Args:
        directory: for its log; made when it starts.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: LeashedProcess | None = None
        self._requests: socket.socket | None = None
        self._ended: asyncio.Task[int] | None = None
        self._lock = asyncio.Lock()

    async def spawn(self, asked: dict[str, Any], listener: socket.socket, log: int) -> socket.socket:
        """Fork a server; returns the socket that tells how it goes (see nursery_process.py), not blocking.

        Args:
            asked: `folder` of the model, `environment`, `work_dir`.
            listener: where it answers HTTP; the caller closes its own copy.
            log: descriptor of the file that gets what it prints.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            requests = await self._running()
            socket.send_fds(requests, [json.dumps(asked).encode()], [listener.fileno(), log, theirs.fileno()])
        ours.setblocking(False)
        return ours

    async def stop(self) -> None:
        """End it with everything it forked."""
        if self._requests is not None:
            self._requests.close()
            self._requests = None
        if self._process is not None and self._ended is not None:
            self._process.close()
            await self._ended
            self._process = None

    async def _running(self) -> socket.socket:
        async with self._lock:
            if self._ended is not None and self._ended.done():
                await self.stop()
            if self._requests is None:
                self._requests = await self._start()
            return self._requests

    async def _start(self) -> socket.socket:
        self._directory.mkdir(parents=True, exist_ok=True)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-I", "-m", "trainyard_sandbox.serving.nursery_process", str(theirs.fileno())]
            environment = {"PATH": os.defpath, "HOME": str(self._directory), "LANG": "C.UTF-8", **_THREADS}
            log = self._directory / "nursery.log"
            try:
                self._process = await LeashedProcess.start(
                    command, environment, self._directory, log, inherited=(theirs.fileno(),)
                )
            except BaseException:
                ours.close()
                raise
        self._ended = asyncio.create_task(self._process.wait(), name="model-nursery")
        return ours
