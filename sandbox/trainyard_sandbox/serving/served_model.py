"""One model behind an endpoint: provisioned, asked, measured, scaled to zero, retired.

The platforms' endpoints make them through `Fleet.serve` and show their states in their own words. A request is counted
as under way from the moment that `score` is called, and `retire` waits for it: a model that is replaced answers what it
was given.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import re
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.utils import canonicalize_name

from trainyard_sandbox.engine.libraries import is_satisfied
from trainyard_sandbox.serving.metrics import Metrics
from trainyard_sandbox.serving.model_server import (
    LOG_BYTES,
    Answer,
    ModelServer,
    PretendedServer,
    Server,
    ServerFailed,
    pretended,
)
from trainyard_sandbox.serving.nursery import Nursery
from trainyard_sandbox.serving.scripts import Behaviour, Identity, Scripts

State = Literal["creating", "ready", "recovering", "stopped", "failed", "gone"]
"""`stopped`: scaled to zero, the next request starts it. `recovering`: its process ended and is started again."""

DRAIN_SECONDS = 30.0
"""How long `retire` waits for requests. Neither platform publishes its own; it is long for a model of a test."""


@dataclass(frozen=True)
class Source:
    """What is served.

    Args:
        folder: of the MLflow model, copied when the model is provisioned.
        environment: all environment variables of its process; `ServedModel.environment` may be replaced before it is
            provisioned, once secrets are resolved.
        not_here: names of requirements that the platform provides and that the sandbox's interpreter may lack.
        scale_to_zero: stop it when nobody asks for a while.
    """

    folder: Path
    environment: Mapping[str, str]
    not_here: Collection[str] = ()
    scale_to_zero: bool = False


_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


class NotServing(Exception):
    """It can not answer now; the message says why."""


class ServedModel:
    """One model. Made by `Fleet.serve`; `key` tells it from others of the same name."""

    def __init__(
        self,
        identity: Identity,
        key: int,
        source: Source,
        scripts: Scripts,
        nursery: Nursery,
        directory: Path,
        now: Callable[[], float],
    ) -> None:
        self.identity = identity
        self.key = key
        self.source = source
        self.environment = dict(source.environment)
        self.state: State = "creating"
        self.message = ""
        self.cold_starts = 0
        self.metrics = Metrics(now)
        self._scripts = scripts
        self._nursery = nursery
        self._directory = directory
        self._server: Server | None = None
        self._watch: asyncio.Task[None] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._under_way = 0
        self._drained = asyncio.Event()
        self._drained.set()
        self._errors_owed = 0.0
        self._build_lines: list[str] = []

    @property
    def behaviour(self) -> Behaviour:
        """How it behaves now, by the scripts."""
        return self._scripts.behaviour(self.identity, self.key)

    @property
    def is_gone(self) -> bool:
        """Whether it was retired."""
        return self.state == "gone"

    @property
    def log(self) -> str:
        """The end of what its process printed."""
        return _end_of(self._directory / "server.log")

    @property
    def build_log(self) -> str:
        """What building its image printed."""
        return "".join(f"{line}\n" for line in self._build_lines)

    async def provision(self) -> None:
        """Bring it up: it is ready or failed afterwards, unless it was retired meanwhile."""
        self._scripts.take(self.identity, self.key)
        behaviour = self.behaviour
        await asyncio.sleep(behaviour.provisioning_seconds)
        if self.is_gone:
            return
        try:
            await self._build(behaviour)
            await self._start(behaviour)
        except ServerFailed as error:
            await self._fail(str(error))

    def refuse(self, message: str) -> None:
        """It has failed before anything was provisioned."""
        if not self.is_gone:
            self.state, self.message = "failed", message

    async def score(self, body: bytes, content_type: str = "application/json") -> Answer:
        """Answer one request; a model that is scaled to zero is started for it.

        Returns:
            The model's answer: `{"predictions": [...]}` with 200, MLflow's error with another status.

        Raises:
            NotServing: it is creating, recovering, failed or gone, or could not be started.
        """
        self._under_way += 1
        self._drained.clear()
        self._disarm()
        began = time.monotonic()
        try:
            answer = await self._answer(body, content_type)
        except NotServing:
            self.metrics.add(503, time.monotonic() - began)
            raise
        else:
            self.metrics.add(answer.status, time.monotonic() - began)
            return answer
        finally:
            self._under_way -= 1
            if self._under_way == 0:
                self._drained.set()
                self.rearm()

    async def retire(self, drain_seconds: float = DRAIN_SECONDS) -> None:
        """Let what is under way end, for so long, then take it away; it is gone afterwards."""
        self._disarm()
        if self._under_way and self.state in ("ready", "stopped"):
            try:
                await asyncio.wait_for(self._drained.wait(), drain_seconds)
            except TimeoutError:
                self.message = f"Requests were still under way after {drain_seconds:.0f} s."
        self.state = "gone"
        for task in (self._starting, self._stopping):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        await self._stop_server()
        shutil.rmtree(self._directory / "model", ignore_errors=True)

    async def scale_to_zero(self) -> None:
        """Stop its process until the next request, as after its idle seconds; nothing unless it may and is idle."""
        if self.source.scale_to_zero and self.state == "ready" and not self._under_way:
            self.state = "stopped"
            await self._stop_server()

    def crash(self) -> None:
        """Have its process end by itself."""
        if self._server is not None:
            self._server.crash()

    def rearm(self) -> None:
        """Count its idle seconds from now."""
        self._disarm()
        if self.source.scale_to_zero and self.state == "ready" and not self._under_way:
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(self.behaviour.idle_seconds, self._go_idle)

    def _go_idle(self) -> None:
        self._stopping = asyncio.create_task(self.scale_to_zero())

    def _disarm(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    async def _build(self, behaviour: Behaviour) -> None:
        """Copy the model, and check that no package that it requires is here in another version.

        One that is not here at all may be needed or not: the model's own imports tell.
        """
        if behaviour.provisioning_error is not None:
            self._build_lines.append(f"ERROR: {behaviour.provisioning_error}")
            raise ServerFailed(behaviour.provisioning_error)
        self._directory.mkdir(parents=True, exist_ok=True)
        if behaviour.pretend:
            return
        model = self._directory / "model"
        if not (self.source.folder / "MLmodel").is_file():
            raise ServerFailed("The model version has no file MLmodel.")
        await asyncio.to_thread(shutil.copytree, self.source.folder, model, dirs_exist_ok=True)
        provided = {canonicalize_name(name) for name in self.source.not_here}
        for line in _requirements(model):
            if is_satisfied(line):
                self._build_lines.append(f"Requirement already satisfied: {line}")
            elif _name(line) in provided or not _is_installed(_name(line)):
                self._build_lines.append(f"Collecting {line}")
            else:
                self._build_lines.append(f"ERROR: No matching distribution found for {line}")
                raise ServerFailed(
                    f"The model's environment could not be built: the sandbox's interpreter has another {line}."
                )
        self._build_lines.append("Successfully built the model's image.")

    async def _start(self, behaviour: Behaviour) -> None:
        """Start the server and wait until it answers."""
        if behaviour.pretend:
            self._server = PretendedServer()
        else:
            model, log = self._directory / "model", self._directory / "server.log"
            self._server = await ModelServer.start(self._nursery, model, self.environment, self._directory, log)
        server = self._server
        try:
            await server.ready()
        except asyncio.CancelledError:
            await asyncio.shield(server.stop())
            raise
        if self.is_gone:
            await server.stop()
            return
        self.state, self.message = "ready", ""
        self._watch = asyncio.create_task(self._when_ended(server))
        self.rearm()

    async def _when_ended(self, server: Server) -> None:
        """Start it again when it ends by itself, once: what fails to load then has failed."""
        await server.ended()
        if self._server is not server or self.state != "ready":
            return
        self.state, self.message = "recovering", "The model's server ended and is being started again."
        self._disarm()
        await server.stop()
        try:
            await self._start(self.behaviour)
        except ServerFailed as error:
            await self._fail(str(error))

    async def _fail(self, message: str) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.stop()
        if self.state != "gone":
            self.state, self.message = "failed", message

    async def _stop_server(self) -> None:
        server, self._server = self._server, None
        watch, self._watch = self._watch, None
        if watch is not None and watch is not asyncio.current_task():
            watch.cancel()
            await asyncio.wait([watch])
        if server is not None:
            await server.stop()

    async def _answer(self, body: bytes, content_type: str) -> Answer:
        behaviour = self.behaviour
        await self._awake()
        server = self._server
        if self.state != "ready" or server is None:
            raise NotServing(self.message or f"The model is {self.state}.")
        await asyncio.sleep(behaviour.latency_seconds)
        if self._is_spoiled(behaviour.error_rate):
            return Answer(behaviour.error_status, behaviour.error_message.encode(), "text/plain")
        if behaviour.predictions is not None:
            return pretended(body, behaviour.predictions)
        try:
            return await server.score(body, content_type)
        except ServerFailed as error:
            raise NotServing(str(error)) from error

    def _is_spoiled(self, rate: float) -> bool:
        self._errors_owed += rate
        if self._errors_owed < 1 - 1e-9:
            return False
        self._errors_owed -= 1
        return True

    async def _awake(self) -> None:
        """Start it from zero; requests that come meanwhile wait for the same start."""
        if self.state != "stopped":
            return
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._wake())
        await asyncio.shield(self._starting)

    async def _wake(self) -> None:
        behaviour = self.behaviour
        self.cold_starts += 1
        await asyncio.sleep(behaviour.cold_start_seconds)
        try:
            await self._start(behaviour)
        except ServerFailed as error:
            await self._fail(str(error))


def _requirements(model: Path) -> list[str]:
    """The lines of the model's requirements.txt, which MLflow writes beside every model."""
    file = model / "requirements.txt"
    lines = file.read_text("utf-8", "replace").splitlines() if file.is_file() else []
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith(("#", "-"))]


def _name(requirement: str) -> str:
    found = _NAME.match(requirement)
    return canonicalize_name(found.group(1)) if found else requirement


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _end_of(file: Path) -> str:
    if not file.is_file():
        return ""
    with file.open("rb") as source:
        source.seek(max(0, file.stat().st_size - LOG_BYTES))
        return source.read().decode("utf-8", "replace")
