"""Assembles the sandbox: state, and the applications of Databricks, Azure, instance metadata and the control API.

Each has a server of its own, https except the metadata service.

cli.py runs `serve`; tests may run it in a thread. The control API is a separate application on its own port and is
never reachable through a platform's host.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import pkgutil
import signal
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from types import ModuleType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trainyard_sandbox import account, azure_app, control, databricks
from trainyard_sandbox.azure import imds
from trainyard_sandbox.azure.state import STORAGE_SUFFIX
from trainyard_sandbox.certificates import CertificateAuthority
from trainyard_sandbox.engine.dispatch import Engine
from trainyard_sandbox.engine.runs import RunStore
from trainyard_sandbox.errors import ApiError, render_api_error
from trainyard_sandbox.faults import Connections, FaultMiddleware, FaultPlan
from trainyard_sandbox.issuers import IssuerTrust
from trainyard_sandbox.principals import Directory
from trainyard_sandbox.request_log import LoggedRequest, RequestLog, redact_query
from trainyard_sandbox.serving.fleet import Fleet
from trainyard_sandbox.state import SandboxState
from trainyard_sandbox.stores.securables import Securables
from trainyard_sandbox.tokens import TokenStore


@dataclass(frozen=True)
class Settings:
    """What `trainyard-sandbox serve` was told.

    Args:
        directory: where everything is kept.
        engine: `run` or `pretend`.
        trust_issuers: CA file by issuer URL.
        lazy_mlflow: do not wait for the MLflow server (seconds) before saying ready; its first request waits instead.
    """

    directory: Path
    engine: str = "run"
    trust_issuers: dict[str, Path] = field(default_factory=dict)
    lazy_mlflow: bool = False


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals to `serve`, since several of them share the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def connection(self, peer: tuple[str, int]) -> asyncio.Transport | None:
        """The transport of the connection from this peer address."""
        for protocol in self.server_state.connections:
            if getattr(protocol, "client", None) == peer:
                transport: asyncio.Transport | None = getattr(protocol, "transport", None)
                return transport
        return None


class RequestLogMiddleware:
    """Writes the request log and gives each answer its request id and date."""

    def __init__(self, app: ASGIApp, state: SandboxState) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["state"]["request_id"] = request_id = str(uuid.uuid4())
        status: int | None = None
        sequence, at, began = self._state.request_log.next_sequence(), self._state.now(), time.monotonic()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                # RFC 9110, 6.6.1: by the clock of whoever answers, which the control API can set off.
                date = formatdate(self._state.now(), usegmt=True).encode()
                added = [(b"x-request-id", request_id.encode()), (b"date", date)]
                message["headers"] = [*message.get("headers", []), *added]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            entry = _log_entry(scope, sequence, at, time.monotonic() - began, status, request_id)
            self._state.request_log.add(entry)


def _log_entry(
    scope: Scope, sequence: int, at: float, duration: float, status: int | None, request_id: str
) -> LoggedRequest:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    return LoggedRequest(
        sequence=sequence,
        at=at,
        method=scope["method"],
        path=scope["path"],
        query=redact_query(scope["query_string"].decode("latin-1")),
        status=status,
        principal=scope["state"].get("application_id"),
        user_agent=headers.get("user-agent", ""),
        request_id=request_id,
        workspace_header=headers.get("x-databricks-workspace-id"),
        duration_seconds=duration,
        fault=scope["state"].get("fault"),
    )


async def _endpoint_not_found(request: Request, _error: Exception) -> Response:
    # Wording seen in databricks/databricks-cli issue 383: "No API found for 'GET /repos'".
    path = request.url.path.removeprefix("/api/2.0").removeprefix("/api/2.1").removeprefix("/api/2.2")
    body = {"error_code": "ENDPOINT_NOT_FOUND", "message": f"No API found for '{request.method} {path}'"}
    return JSONResponse(body, status_code=404)


async def _internal_error(_request: Request, error: Exception) -> Response:
    body = {"error_code": "INTERNAL_ERROR", "message": f"The sandbox failed: {type(error).__name__}: {error}"}
    return JSONResponse(body, status_code=500)


def platform_modules(package: ModuleType = databricks) -> list[ModuleType]:
    """Every module of a package: that of the workspace, or of the account."""
    names = sorted(info.name for info in pkgutil.iter_modules(package.__path__))
    return [importlib.import_module(f"{package.__name__}.{name}") for name in names]


def control_routes() -> list[BaseRoute]:
    """What platform modules add to the control API."""
    added = [route for module in platform_modules() for route in getattr(module, "control_routes", list)()]
    return added + azure_app.control_routes()


def build_platform(state: SandboxState, connections: Connections, package: ModuleType = databricks) -> ASGIApp:
    """The application of a workspace or of the account: all its modules behind the faults and the request log."""
    routes: list[BaseRoute] = []
    for module in platform_modules(package):
        if hasattr(module, "attach"):
            module.attach(state)
        if hasattr(module, "routes"):
            routes.extend(module.routes())
    handlers: dict[Any, Any] = {
        ApiError: render_api_error,
        404: _endpoint_not_found,
        405: _endpoint_not_found,
        Exception: _internal_error,
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    app.state.sandbox = state
    return RequestLogMiddleware(FaultMiddleware(app, state.faults, connections), state)


def build_azure(state: SandboxState, connections: Connections) -> ASGIApp:
    """Azure's application: all Azure modules behind the faults and the request log."""
    faulty = FaultMiddleware(azure_app.build(state), state.faults, connections, azure_app.fault_body)
    logged = RequestLogMiddleware(azure_app.RequestIds(faulty), state)
    return azure_app.AccountHosts(logged, state.azure)


def build_imds(state: SandboxState, connections: Connections) -> ASGIApp:
    """The instance metadata service behind the faults and the request log."""
    faulty = FaultMiddleware(imds.build(state), state.faults, connections, imds.fault_body)
    return RequestLogMiddleware(faulty, state)


def build_state(settings: Settings, ca_file: Path) -> SandboxState:
    """A fresh sandbox's state."""

    def now() -> float:
        return state.now()

    directory = Directory()
    issuers = IssuerTrust()
    for issuer, issuer_ca in settings.trust_issuers.items():
        issuers.trust(issuer, issuer_ca)
    state = SandboxState(
        data_dir=settings.directory,
        ca_file=ca_file,
        directory=directory,
        tokens=TokenStore(now, lambda account: state.account_issuer if account else f"{state.base_url}/oidc"),
        faults=FaultPlan(),
        request_log=RequestLog(),
        issuers=issuers,
        runs=RunStore(now),
        account_id=str(uuid.uuid4()),
        securables=Securables(directory),
    )
    state.engine = Engine(state, settings.engine)
    state.serving = Fleet(settings.directory / "serving", state.now, pretend=settings.engine == "pretend")
    state.on_shutdown.append(lambda: state.serving.stop())
    return state


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[SandboxState]:
    """The sandbox, serving from entry to exit; `sandbox.json` is written when it is ready."""
    settings.directory.mkdir(parents=True, exist_ok=True)
    authority = CertificateAuthority(settings.directory / "ca.pem")
    state = build_state(settings, authority.ca_file)
    sockets = [_loopback_socket() for _ in range(5)]
    state.base_url, state.azure.url, state.account_url, control_url = map(_url, (*sockets[:3], sockets[4]))
    state.azure.imds_url = _url(sockets[3], "http")
    servers: list[_Server] = []
    platform = build_platform(state, lambda peer: servers[0].connection(peer))
    servers.append(_server(platform, authority))
    azure = build_azure(state, lambda peer: servers[1].connection(peer))
    servers.append(_server(azure, authority, f"*.blob.{STORAGE_SUFFIX}"))
    servers.append(_server(build_platform(state, lambda peer: servers[2].connection(peer), account), authority))
    servers.append(_server(build_imds(state, lambda peer: servers[3].connection(peer)), None))
    servers.append(_server(control.build(state, control_routes()), authority))
    tasks = [asyncio.create_task(s._serve([sock])) for s, sock in zip(servers, sockets, strict=True)]
    try:
        for start in state.on_startup:
            await start()
        await _until_started(servers, tasks)
        if state.mlflow is not None and not settings.lazy_mlflow:
            await state.mlflow.backend.ready()
        _announce(settings.directory, state, control_url)
        yield state
    finally:
        await _stop(state, servers, tasks)


async def _stop(state: SandboxState, servers: list[_Server], tasks: list[asyncio.Task[None]]) -> None:
    (state.data_dir / "sandbox.json").unlink(missing_ok=True)
    state.faults.clear()
    await state.engine.stop()
    for server in servers:
        server.should_exit = True
        server.force_exit = True
    await asyncio.gather(*tasks)
    for stop in reversed(state.on_shutdown):
        await stop()


async def _until_started(servers: list[_Server], tasks: list[asyncio.Task[None]]) -> None:
    while not all(server.started for server in servers):
        for task in tasks:
            if task.done():
                await task
                raise RuntimeError("a server of the sandbox ended while it started")
        await asyncio.sleep(0.005)


def _server(app: ASGIApp, authority: CertificateAuthority | None, *names: str) -> _Server:
    """A server with a certificate, or of plain http without an authority."""
    context = authority.server_context(*names) if authority else None
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=60,
        ssl_context_factory=(lambda _config, _default: context) if context else None,
    )
    return _Server(config)


def _loopback_socket() -> socket.socket:
    # The protocol is named because asyncio sets TCP_NODELAY only then; without it each answer waits 40 ms for an ACK.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.bind(("127.0.0.1", 0))
    return sock


def _url(sock: socket.socket, scheme: str = "https") -> str:
    return f"{scheme}://127.0.0.1:{sock.getsockname()[1]}"


def _announce(directory: Path, state: SandboxState, control_url: str) -> None:
    """Write sandbox.json in one step, so that a reader sees all of it or nothing."""
    document = {
        "databricks": {
            "host": state.base_url,
            "accountHost": state.account_url,
            "workspaceId": state.workspace_id,
            "accountId": state.account_id,
        },
        "azureML": state.azure.announcement(),
        "control": {"url": control_url},
        "caFile": str(state.ca_file.resolve()),
        "pid": os.getpid(),
    }
    partial = directory / ".sandbox.json.partial"
    partial.write_text(json.dumps(document, indent=2) + "\n")
    partial.replace(directory / "sandbox.json")


async def serve(settings: Settings, ready: Callable[[SandboxState], None]) -> None:
    """Serve until SIGINT or SIGTERM; `ready` is called once sandbox.json is there."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with running(settings) as state:
        ready(state)
        await stop.wait()
