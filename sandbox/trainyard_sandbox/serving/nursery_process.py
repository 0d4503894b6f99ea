"""The process that has MLflow imported and forks one server per model. Run with -m by nursery.py, never imported.

Usage: nursery_process FD, of a Unix socket. Each message on it is JSON (`folder`, `environment`, `work_dir`) with three
file descriptors: a listening socket, the log file, and a socket of the new server's own. On that the server writes its
process id, then `ready`, or `failed` and why; when the other end is shut down it ends at once. Importing MLflow takes
seconds of a processor; a fork takes none, so that a test may serve ten models.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import mlflow.pyfunc

from trainyard_sandbox.serving import scoring

MESSAGE_BYTES = 200_000
PRELOADED = ("mlflow.sklearn", "sklearn.linear_model")
"""What most models of tests need, imported once for all."""


def main() -> int:
    """See the module's docstring."""
    for name in PRELOADED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the servers: their sockets tell
    requests = socket.socket(fileno=int(sys.argv[1]))
    while True:
        message, descriptors, _flags, _address = socket.recv_fds(requests, MESSAGE_BYTES, 3)
        if not message:
            return 0
        if os.fork() == 0:
            requests.close()
            _be_server(json.loads(message), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _be_server(asked: dict[str, Any], listener_fd: int, log_fd: int, control_fd: int) -> None:
    """Load the model and answer until the other end of the control socket is shut down; never returns."""
    control = socket.socket(fileno=control_fd)
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        control.send(str(os.getpid()).encode())
        _enter(asked, log_fd)
        threading.Thread(target=_end_with, args=(control,), daemon=True).start()
        _serve(asked["folder"], socket.socket(fileno=listener_fd), control)
        status = 0
    except BaseException as error:  # noqa: BLE001 - the last frame of a forked process: it must not become a nursery
        traceback.print_exc()
        sys.stderr.flush()
        control.send(f"failed {type(error).__name__}: {error}".encode()[:4000])
    finally:
        os._exit(status)


def _enter(asked: dict[str, Any], log_fd: int) -> None:
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    os.close(log_fd)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["work_dir"])


def _end_with(control: socket.socket) -> None:
    control.recv(1)
    os._exit(0)


def _serve(folder: str, listener: socket.socket, control: socket.socket) -> None:
    # Its warnings compare all packages that are installed, which takes seconds; served_model.py has looked at them.
    model = mlflow.pyfunc.load_model(folder, suppress_warnings=True)
    server = ThreadingHTTPServer(listener.getsockname(), _handler(model), bind_and_activate=False)
    server.daemon_threads = True
    server.socket.close()
    server.socket = listener
    control.send(b"ready")
    server.serve_forever()


def _handler(model: Any) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body leave as one segment; two would wait for an acknowledgement

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, text, media_type = scoring.answer(model, body, self.headers["Content-Type"])
            if status != 200:
                print(text, file=sys.stderr)
            content = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """No line per request."""

    return Handler


if __name__ == "__main__":
    sys.exit(main())
