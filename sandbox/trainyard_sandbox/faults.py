"""Faults that tests inject into the platform's answers, and the middleware that injects them.

The control API fills the plan; server.py wraps the platform's application, never the control API's. A fault is chosen
by method and path and used up `times` times. It never changes what a handler does: it either keeps the request from the
handler (before the effect) or keeps the handler's answer from the client (after the effect).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

from starlette.types import ASGIApp, Message, Receive, Scope, Send

FaultKind = Literal["status", "reset", "hang", "slow_body", "malformed_json", "redirect"]
FAULT_KINDS: tuple[str, ...] = get_args(FaultKind)

_STATUS_ERRORS = {
    400: ("INVALID_PARAMETER_VALUE", "The request is not valid."),
    401: ("UNAUTHENTICATED", "Invalid access token."),
    403: ("PERMISSION_DENIED", "The caller does not have permission."),
    404: ("RESOURCE_DOES_NOT_EXIST", "The resource does not exist."),
    429: ("REQUEST_LIMIT_EXCEEDED", "The current request has been rejected: rate limit exceeded. Please retry later."),
    500: ("INTERNAL_ERROR", "An internal error occurred."),
    503: ("TEMPORARILY_UNAVAILABLE", "The service is temporarily unavailable. Please try again later."),
    504: ("DEADLINE_EXCEEDED", "The request took too long."),
}
"""databricks-sdk `errors/platform.py` (status and error code of each exception class)."""

_OAUTH_ERRORS = {400: "invalid_request", 401: "invalid_client", 403: "access_denied", 503: "temporarily_unavailable"}


@dataclass
class Fault:
    """One injected fault.

    Args:
        kind: `status` answers `status`; `reset` closes the connection with a TCP reset; `hang` waits `seconds` (for
            ever if None) or until released, then goes on; `slow_body` sends the answer a few bytes at a time over
            `seconds`; `malformed_json` answers 200 with JSON that is cut off; `redirect` answers 307 to `location`.
        method: the HTTP method, or None for any.
        path: a regular expression that must match the whole path.
        times: how many requests it hits; None for all.
        after_effect: let the handler do its work first and keep only its answer from the client.
    """

    kind: FaultKind
    path: str
    method: str | None = None
    times: int | None = 1
    after_effect: bool = False
    status: int = 500
    retry_after: str | None = None
    message: str | None = None
    error_code: str | None = None
    seconds: float | None = None
    location: str | None = None
    fault_id: int = 0
    hits: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def matches(self, method: str, path: str) -> bool:
        """Whether a request is to be hit."""
        if self.times is not None and self.hits >= self.times:
            return False
        return (self.method is None or self.method == method) and re.fullmatch(self.path, path) is not None


class FaultPlan:
    """The faults in force, first match wins."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> int:
        """Put a fault in force; returns its id."""
        fault.fault_id = next(self._ids)
        self._faults.append(fault)
        return fault.fault_id

    def all(self) -> list[Fault]:
        """Every fault, used up or not."""
        return list(self._faults)

    def clear(self) -> None:
        """Drop all faults and release what hangs."""
        self.release()
        self._faults.clear()

    def release(self, fault_id: int | None = None) -> int:
        """Let hanging requests go on, of one fault or of all; returns how many faults were released."""
        chosen = [fault for fault in self._faults if fault_id in (None, fault.fault_id) and fault.kind == "hang"]
        for fault in chosen:
            fault.released.set()
        return len(chosen)

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that hits this request, counted as used."""
        for fault in self._faults:
            if fault.matches(method, path):
                fault.hits += 1
                return fault
        return None


Connections = Callable[[tuple[str, int]], asyncio.Transport | None]
"""Finds the transport of the connection that came from a peer address."""


class FaultMiddleware:
    """ASGI middleware: asks the plan about each request and acts on it; notes the kind in the request's state.

    `error_body` words the answer of an injected status for a path, unless it is Databricks' own.
    """

    def __init__(
        self,
        app: ASGIApp,
        plan: FaultPlan,
        connections: Connections,
        error_body: Callable[[Fault, str], bytes] | None = None,
    ) -> None:
        self._app = app
        self._plan = plan
        self._connections = connections
        self._error_body = error_body or _error_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        fault = self._plan.take(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if fault is None:
            await self._app(scope, receive, send)
            return
        scope["state"]["fault"] = f"{fault.kind}:after" if fault.after_effect else fault.kind
        if fault.kind == "slow_body":
            await self._app(scope, receive, _SlowSend(send, fault.seconds or 1.0))
            return
        if fault.kind == "hang" and not fault.after_effect:
            await _wait(fault)
            await self._app(scope, receive, send)
            return
        held = _HeldAnswer()
        if fault.after_effect:
            await self._app(scope, receive, held)
        await self._answer(fault, held, scope, receive, send)

    async def _answer(self, fault: Fault, held: _HeldAnswer, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.kind == "hang":
            await _wait(fault)
            for message in held.messages:
                await send(message)
        elif fault.kind == "reset":
            await self._reset(scope, receive)
        elif fault.kind == "redirect":
            await _send_json(send, 307, b"{}", {"location": fault.location or "/"})
        elif fault.kind == "malformed_json":
            await _send_json(send, 200, b'{"run_id": 12', {})
        else:
            body = self._error_body(fault, scope["path"])
            kind = {"content-type": "application/xml"} if body.startswith(b"<") else {}
            await _send_json(send, fault.status, body, kind | _retry_after(fault))

    async def _reset(self, scope: Scope, receive: Receive) -> None:
        """Drop the connection so that the client sees ECONNRESET, not an orderly close."""
        transport = self._connections(tuple(scope["client"]))
        if transport is None:
            raise RuntimeError("the connection to reset is gone already")
        sock: socket.socket = transport.get_extra_info("socket")
        # Linger for zero seconds: closing then sends RST instead of FIN (socket(7)).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
        while (await receive())["type"] != "http.disconnect":
            pass


class _HeldAnswer:
    """A `send` that keeps the answer instead of sending it."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)


class _SlowSend:
    """A `send` that spreads each body over `seconds`, in ten pieces."""

    def __init__(self, send: Send, seconds: float) -> None:
        self._send = send
        self._seconds = seconds

    async def __call__(self, message: Message) -> None:
        if message["type"] != "http.response.body" or not message.get("body"):
            await self._send(message)
            return
        body = message["body"]
        size = max(1, -(-len(body) // 10))
        for start in range(0, len(body), size):
            await asyncio.sleep(self._seconds / 10)
            await self._send({"type": "http.response.body", "body": body[start : start + size], "more_body": True})
        await self._send({"type": "http.response.body", "body": b"", "more_body": message.get("more_body", False)})


async def _wait(fault: Fault) -> None:
    try:
        await asyncio.wait_for(fault.released.wait(), fault.seconds)
    except TimeoutError:
        return


def _error_body(fault: Fault, path: str) -> bytes:
    error_code, message = _STATUS_ERRORS.get(fault.status, ("UNKNOWN", "An injected error."))
    if path.endswith("/v1/token"):  # OAuth's own shape (RFC 6749, section 5.2), as of the token endpoint itself
        error = fault.error_code or _OAUTH_ERRORS.get(fault.status, "server_error")
        return json.dumps({"error": error, "error_description": fault.message or message}).encode()
    return json.dumps({"error_code": fault.error_code or error_code, "message": fault.message or message}).encode()


def _retry_after(fault: Fault) -> dict[str, str]:
    return {} if fault.retry_after is None else {"retry-after": fault.retry_after}


async def _send_json(send: Send, status: int, body: bytes, headers: dict[str, str]) -> None:
    fields = {"content-type": "application/json", "content-length": str(len(body))} | headers
    encoded = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
