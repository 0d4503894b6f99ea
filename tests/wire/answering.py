"""A server that answers as a test says: for what a stand-in of a cloud does not do by itself."""

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Told:
    """What is answered."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Answering:
    """The server. `answer` may be replaced at any time; `asked` are the requests so far."""

    ca_file: Path
    answer: Callable[[Asked], Told] = lambda asked: Told(404)
    asked: list[Asked] = field(default_factory=list)
    port: int = 0
    scheme: str = "https"

    @property
    def origin(self) -> str:
        return f"{self.scheme}://localhost:{self.port}"


@contextmanager
def serve_answers(folder: Path, *, plain: bool = False) -> Iterator[Answering]:
    """Serves until the block ends; without TLS where it is `plain`."""
    authority = trustme.CA()
    answering = Answering(folder / "ca.pem", scheme="http" if plain else "https")
    authority.cert_pem.write_to_path(str(answering.ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that gives up is what some tests are about."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = Asked(self.command, self.path, self.headers, body)  # type: ignore[arg-type]  # a Message reads like a mapping
            answering.asked.append(asked)
            told = answering.answer(asked)
            self.send_response(told.status)
            for name, value in {**told.headers, "Content-Length": str(len(told.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(told.body)

        do_GET = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - the names that http.server asks for

        def log_message(self, format: str, *arguments: object) -> None:
            """The requests are in `asked`."""

    server = Server(("127.0.0.1", 0), Handler)
    if not plain:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    answering.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield answering
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
