"""The process of one MLflow model folder, and what stands in for it where nothing is to be loaded.

served_model.py starts and stops them. A `ModelServer` is forked by the nursery, listens on loopback and ends when its
control socket does: with `stop`, or with the sandbox.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx

from trainyard_sandbox.serving.nursery import Nursery

STOP_SECONDS = 5.0
ANSWER_SECONDS = 300.0
"""More than any platform lets a model compute (Databricks: 297 s per request)."""

LOG_BYTES = 1024 * 1024
"""How much of the end of a log is read."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request."""

    status: int
    body: bytes
    content_type: str = "application/json"


class ServerFailed(Exception):
    """The model could not be loaded, or its process has ended; the message says why."""


class Server(Protocol):
    """Something that answers for one model."""

    async def ready(self) -> None:
        """Return when it answers. Raises ServerFailed."""
        ...

    async def ended(self) -> None:
        """Return when it is gone."""
        ...

    async def score(self, body: bytes, content_type: str) -> Answer:
        """Answer one request. Raises ServerFailed when it is gone."""
        ...

    async def stop(self) -> None:
        """End it; returns when it is gone."""
        ...

    def crash(self) -> None:
        """Have it end by itself, as a process that ran out of memory does."""
        ...


class ModelServer:
    """A process that loaded a model. Make it with `start`."""

    def __init__(self, control: socket.socket, port: int) -> None:
        self._control = control
        self._client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}",
            timeout=httpx.Timeout(ANSWER_SECONDS),
            limits=httpx.Limits(max_connections=64),
            trust_env=False,
        )
        self._loaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pid: int | None = None
        self._reader = asyncio.create_task(self._read(), name="model-server")

    @classmethod
    async def start(
        cls, nursery: Nursery, folder: Path, environment: Mapping[str, str], work_dir: Path, log: Path
    ) -> ModelServer:
        """Fork a server for the MLflow model in `folder`; what it prints is appended to the file `log`.

        Args:
            environment: all its environment variables.
            work_dir: its working directory.
        """
        asked = {"folder": str(folder), "environment": dict(environment), "work_dir": str(work_dir)}
        with socket.create_server(("127.0.0.1", 0), backlog=256) as listener, log.open("ab") as sink:
            port: int = listener.getsockname()[1]
            control = await nursery.spawn(asked, listener, sink.fileno())
        return cls(control, port)

    async def ready(self) -> None:
        """See `Server.ready`."""
        await asyncio.shield(self._loaded)

    async def ended(self) -> None:
        """See `Server.ended`."""
        await asyncio.shield(self._reader)

    async def score(self, body: bytes, content_type: str) -> Answer:
        """See `Server.score`."""
        try:
            response = await self._client.post("/invocations", content=body, headers={"Content-Type": content_type})
        except httpx.HTTPError as error:
            raise ServerFailed(f"The model's server did not answer: {type(error).__name__}.") from error
        return Answer(response.status_code, response.content, response.headers["Content-Type"])

    async def stop(self) -> None:
        """See `Server.stop`: by shutting its control socket, and by SIGKILL where it does not heed that."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
        done, _ = await asyncio.wait([self._reader], timeout=STOP_SECONDS)
        if not done and self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            await asyncio.wait([self._reader], timeout=STOP_SECONDS)
        self._reader.cancel()
        await asyncio.wait([self._reader])
        self._control.close()
        await self._client.aclose()
        if self._loaded.done() and not self._loaded.cancelled():
            self._loaded.exception()

    def crash(self) -> None:
        """See `Server.crash`."""
        if self._pid is not None and not self._reader.done():
            os.kill(self._pid, signal.SIGKILL)

    async def _read(self) -> None:
        """What the process tells: its id, then that it is ready or failed; the end of the stream is its end."""
        loop = asyncio.get_running_loop()
        try:
            while message := await loop.sock_recv(self._control, 4096):
                word, _, rest = message.decode("utf-8", "replace").partition(" ")
                if word == "ready":
                    self._loaded.set_result(None)
                elif word == "failed":
                    self._loaded.set_exception(ServerFailed(rest))
                else:
                    self._pid = int(word)
        except ConnectionError:
            pass
        finally:
            if not self._loaded.done():
                self._loaded.set_exception(ServerFailed("The model's server ended while it loaded the model."))


class PretendedServer:
    """Answers without a process: 0.0 for each row."""

    def __init__(self) -> None:
        self._gone = asyncio.Event()

    async def ready(self) -> None:
        """See `Server.ready`."""

    async def ended(self) -> None:
        """See `Server.ended`."""
        await self._gone.wait()

    async def score(self, body: bytes, content_type: str) -> Answer:
        """See `Server.score`."""
        del content_type
        return pretended(body, [0.0])

    async def stop(self) -> None:
        """See `Server.stop`."""
        self._gone.set()

    def crash(self) -> None:
        """See `Server.crash`."""
        self._gone.set()


def pretended(body: bytes, predictions: list[Any]) -> Answer:
    """An answer with these predictions, one per row, from the beginning again when rows are left."""
    rows = _rows(body)
    if rows is None:
        message = "The request has none of dataframe_records, dataframe_split, instances, inputs and input_data."
        return Answer(400, json.dumps({"error_code": "BAD_REQUEST", "message": message}).encode())
    given = [predictions[row % len(predictions)] for row in range(rows)]
    return Answer(200, json.dumps({"predictions": given}).encode())


def _rows(body: bytes) -> int | None:
    """How many rows a request has; None when it is none."""
    try:
        document = json.loads(body)
    except ValueError:
        return None
    if not isinstance(document, dict):
        return None
    for name in ("dataframe_records", "dataframe_split", "instances", "inputs", "input_data"):
        data = document.get(name)
        if isinstance(data, dict):
            data = data["data"] if "data" in data else next(iter(data.values()), [])
        if isinstance(data, list):
            return len(data)
    return None
