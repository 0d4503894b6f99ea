"""Stands between the operator and its servers: sees, counts and can hold every request, and kill the operator at one.

Used by the crash and canary tests. The operator knows nothing of it: it is given a kubeconfig and a workspace host that
happen to point here. Watch streams pass through and are counted apart. It runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import parse_qsl, unquote

import trustme
from aiohttp import ClientSession, ClientTimeout, TCPConnector, web
from yarl import URL

from tests.crash.mirror import FORM, Mirror
from tests.crash.points import Class, Mode, Point, classify

T = TypeVar("T")
# Headers of one connection, not of the message (RFC 9110 section 7.6.1), and the length, which is counted anew.
HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length"}
)
# What the client would add of its own to a message that lacks it.
ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
# An aborted TLS transport tells its socket's transport in the next turn of the loop, and that its socket in another.
TURNS_TO_CLOSE = 10
# The signature in a URL that opens a blob or a container (Azure Storage documentation, "Create a service SAS").
_SIGNATURE = re.compile(rb"\bsig=([A-Za-z0-9%+/=_-]+)")
MOST_BODY = 64 * 1024 * 1024
# Fields of token requests that are secret (RFC 8693 2.1, RFC 7523 2.2, RFC 6749 2.3.1).
PROOFS = ("subject_token", "client_assertion", "client_secret")


@dataclass(frozen=True)
class Upstream:
    """A server behind the proxy. One that `tells` its own address to its clients is told the proxy's in its place."""

    name: str
    url: str
    ca_file: Path
    tells: bool = False


@dataclass(frozen=True)
class Answer:
    """A whole answer of a server."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True)
class Asked:
    """A request as it came. `bearer` is its token, if it carries one; `proofs` all that it proves itself by."""

    of: Class
    bearer: str
    body: bytes
    proofs: frozenset[str] = frozenset()


# What a test makes of the answer to a request; None leaves it as it is.
Tamper = Callable[[Asked, Answer], Answer | None]


class CrashProxy:
    """HTTPS in front of several servers. Use it as a context manager."""

    def __init__(self, dir: Path, upstreams: list[Upstream]) -> None:
        authority = trustme.CA(organization_name="Trainyard crash proxy")
        self.ca_file = dir / "proxy-ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self._tls)
        self._upstreams = upstreams
        self._urls: dict[str, str] = {}
        self._mirrors: dict[str, Mirror] = {}
        self._lock = threading.Lock()
        self._seen: list[Class] = []
        self._watches: set[asyncio.Task[Any]] = set()
        self._watched: set[str] = set()
        self._busy = 0
        self._last = time.monotonic()
        self._armed: tuple[Point, Mode, Callable[[], None]] | None = None
        self._frozen = False
        self.hit = threading.Event()
        self.tamper: Tamper | None = None
        self.minted: list[str] = []
        self.signatures: set[str] = set()
        self.proofs: set[str] = set()

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="crash proxy", daemon=True)
        self._thread.start()
        self._on_loop(self._start())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._on_loop(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def url(self, name: str) -> str:
        """Where the server of that name is to be found through the proxy."""
        return self._urls[name]

    def begin(self) -> None:
        """Counting starts anew."""
        with self._lock:
            self._seen = []

    def seen(self) -> list[Class]:
        """The requests since `begin`, without watches."""
        with self._lock:
            return list(self._seen)

    def watching(self) -> int:
        """How many paths the operator has open watches on."""
        with self._lock:
            return len(self._watched)

    def quiet(self, seconds: float) -> bool:
        """Whether no request is under way and none came for that long."""
        with self._lock:
            return self._busy == 0 and time.monotonic() - self._last >= seconds

    def arm(self, point: Point, mode: Mode, kill: Callable[[], None]) -> None:
        """Has `kill` called at that point, counted from now. From then on nothing passes until `resume`."""
        with self._lock:
            self._seen = []
            self._armed = (point, mode, kill)

    def disarm(self) -> None:
        """No point any more."""
        with self._lock:
            self._armed = None

    def resume(self) -> None:
        """The killed operator is gone: what it had asked and was held is dropped, and the proxy is transparent."""
        self._on_loop(self._thaw())
        self.hit.clear()

    def _on_loop(self, what: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(60)

    async def _start(self) -> None:
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._runners: list[web.AppRunner] = []
        self._clients: dict[str, ClientSession] = {}
        for upstream in self._upstreams:
            context = ssl.create_default_context(cafile=str(upstream.ca_file))
            # A connection per request: a reused one may be closed by the server just when a write is on its way.
            connector = TCPConnector(ssl=context, force_close=True, limit=0)
            self._clients[upstream.name] = ClientSession(
                connector=connector, timeout=ClientTimeout(total=None), auto_decompress=False
            )
            app = web.Application(client_max_size=MOST_BODY)
            app.router.add_route("*", "/{path:.*}", self._handler(upstream))
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
            await runner.setup()
            self._runners.append(runner)
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls)
            await site.start()
            self._urls[upstream.name] = f"https://127.0.0.1:{runner.addresses[0][1]}"
            if upstream.tells:
                self._mirrors[upstream.name] = Mirror(
                    URL(upstream.url).authority, URL(self.url(upstream.name)).authority
                )

    async def _stop(self) -> None:
        await self._end_watches()
        for runner in self._runners:
            for connection in runner.server.connections if runner.server else []:
                if connection.transport is not None:
                    connection.transport.abort()  # the operator is gone; nobody would answer a closing handshake
            await runner.cleanup()
        for client in self._clients.values():
            await client.close()
        for _ in range(TURNS_TO_CLOSE):
            await asyncio.sleep(0)

    def _handler(self, upstream: Upstream) -> Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            if request.query.get("watch") == "true":
                return await self._watch(upstream, request)
            body = await request.read()
            of = classify(upstream.name, request.method, request.path, body, request.query)
            return await self._pass(upstream, request, of, body)

        return handle

    async def _pass(self, upstream: Upstream, request: web.Request, of: Class, body: bytes) -> web.StreamResponse:
        """One request, held where it is the armed point."""
        if self._frozen:
            return await self._drop(request)
        mode, kill = self._due(of)
        if mode == "before":
            return await self._kill(request, kill)
        answer = await self._forward(upstream, request, body)
        self._note_secrets(of, request, body, answer)
        if mode == "after":
            return await self._kill(request, kill)
        if self._frozen:
            return await self._drop(request)
        if self.tamper is not None:
            bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
            answer = self.tamper(Asked(of, bearer, body, proofs(request.headers, body)), answer) or answer
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body or None)

    def _due(self, of: Class) -> tuple[Mode | None, Callable[[], None]]:
        """Counts the request; the mode if it is the armed point."""
        with self._lock:
            self._seen.append(of)
            self._last = time.monotonic()
            if self._armed is not None:
                point, mode, kill = self._armed
                if point.of == of and point.occurrence == self._seen.count(of):
                    self._armed = None
                    return mode, kill
        return None, lambda: None

    async def _kill(self, request: web.Request, kill: Callable[[], None]) -> web.StreamResponse:
        self._frozen = True
        self._thawed.clear()
        kill()
        self.hit.set()
        return await self._drop(request)

    async def _drop(self, request: web.Request) -> web.StreamResponse:
        """Never answers. The connection stays until its owner is gone, so that it can not act on a reset."""
        await self._thawed.wait()
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=503)

    async def _thaw(self) -> None:
        await self._end_watches()
        await self._idle.wait()  # what had been forwarded before the kill reaches its server
        self._frozen = False
        self._thawed.set()

    async def _forward(self, upstream: Upstream, request: web.Request, body: bytes) -> Answer:
        with self._lock:
            self._busy += 1
        self._idle.clear()
        mirror, headers = self._mirrors.get(upstream.name), _end_to_end(request.headers)
        try:
            url = URL(upstream.url + request.raw_path, encoded=True)
            async with self._clients[upstream.name].request(
                request.method,
                url,
                headers=headers,
                data=(mirror.inward(body, headers) if mirror else body) or None,
                allow_redirects=False,
                skip_auto_headers=ADDED,
            ) as response:
                content, said = await response.read(), _end_to_end(response.headers)
                if request.method == "HEAD":  # the length of what is not sent
                    said += [("Content-Length", response.headers.get("Content-Length", "0"))]
                content, said = mirror.outward(content, said) if mirror else (content, said)
                return Answer(response.status, said, content)
        finally:
            with self._lock:
                self._busy -= 1
                self._last = time.monotonic()
            if self._busy == 0:
                self._idle.set()

    async def _watch(self, upstream: Upstream, request: web.Request) -> web.StreamResponse:
        """A watch stream, passed through as it comes."""
        task = asyncio.current_task()
        assert task is not None
        stream = web.StreamResponse()
        if self._frozen:
            return await self._drop(request)
        self._watches.add(task)
        try:
            url = URL(upstream.url + request.raw_path, encoded=True)
            async with self._clients[upstream.name].get(
                url, headers=_end_to_end(request.headers), skip_auto_headers=ADDED
            ) as response:
                stream.set_status(response.status)
                stream.headers.extend(_end_to_end(response.headers))
                await stream.prepare(request)
                with self._lock:
                    self._watched.add(request.path)
                async for chunk in response.content.iter_any():
                    await stream.write(chunk)
        except ConnectionError:
            pass  # the operator has gone away; its next one watches anew
        finally:
            self._watches.discard(task)
            with self._lock:
                self._watched.discard(request.path)
        return stream

    async def _end_watches(self) -> None:
        tasks = list(self._watches)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _note_secrets(self, of: Class, request: web.Request, body: bytes, answer: Answer) -> None:
        """Keeps for the canary what the API server minted, what the operator proved itself by, and what opens a storage
        account by itself."""
        if of.server != "kubernetes":
            self.proofs |= proofs(request.headers, body)
        if of.path.endswith("/serviceaccounts/*/token") and answer.status == web.HTTPCreated.status_code:
            self.minted.append(json.loads(answer.body)["status"]["token"])
        if of.server == "azureml":
            self.signatures |= {unquote(found.decode()) for found in _SIGNATURE.findall(answer.body)}


def proofs(headers: Mapping[str, str], body: bytes) -> frozenset[str]:
    """What a client proves itself by: in the form of a token request, or in a header (RFC 6749 2.3.1, RFC 7617)."""
    found: set[str] = set()
    if headers.get("Content-Type", "").startswith(FORM):
        form = dict(parse_qsl(body.decode(errors="replace")))
        found = {form[name] for name in PROOFS if name in form}
    kind, _, value = headers.get("Authorization", "").partition(" ")
    if kind == "Basic":
        found.add(unquote(base64.b64decode(value).decode().partition(":")[2]))
    elif kind == "Bearer":
        found.add(value)
    return frozenset(found)


def _end_to_end(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.lower() not in HOP_BY_HOP and name != "Host"]
