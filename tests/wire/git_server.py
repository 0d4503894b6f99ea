"""A git server over HTTPS with an authority of its own: git's http-backend behind the standard library's server."""

import gzip
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesHeaderParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme


class Upstream:
    """A bare repository on disk, and what its owner does with it."""

    def __init__(self, path: Path, object_format: str = "sha1") -> None:
        self.path = path
        self._work = path.with_suffix(".work")
        self.git("init", "-q", "--bare", f"--object-format={object_format}", "-b", "main", str(path), cwd=path.parent)
        self.git("init", "-q", f"--object-format={object_format}", "-b", "main", str(self._work), cwd=path.parent)
        self.git("remote", "add", "origin", str(path))
        self.config("uploadpack.allowFilter", "true")

    def git(self, *arguments: str, cwd: Path | None = None, stdin: str = "") -> str:
        """Runs git as the repository's owner."""
        settings = {"user.name": "Ann", "user.email": "ann@example.com", "commit.gpgSign": "false"}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        environment = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
        ran = subprocess.run(
            ["git", *options, *arguments],
            cwd=cwd or self._work,
            env=environment,
            input=stdin.encode(),
            capture_output=True,
            check=True,
        )
        return ran.stdout.decode().strip()

    def config(self, name: str, value: str) -> None:
        self.git("config", name, value, cwd=self.path)

    def commit(self, files: Mapping[str, bytes | str | Path], branch: str = "main") -> str:
        """Pushes a commit with these files added (a Path: a symlink to it) and gives its id."""
        self.git("checkout", "-q", "-B", branch)
        for name, content in files.items():
            path = self._work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                path.symlink_to(content)
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "work")
        self.git("push", "-q", "--force", "origin", f"HEAD:refs/heads/{branch}")
        return self.git("rev-parse", "HEAD")

    def commit_of_ten_million_files(self) -> str:
        """A commit of main whose trees are seven small objects, each of which holds the next one ten times."""
        held = "100644 blob " + self.git("hash-object", "-w", "--stdin", cwd=self.path)
        for _ in range(7):
            rows = "".join(f"{held}\t{str(number) * 20}\n" for number in range(10))
            held = "040000 tree " + self.git("mktree", cwd=self.path, stdin=rows)
        commit = self.git("commit-tree", held.split()[-1], "-m", "work", cwd=self.path)
        self.git("update-ref", "refs/heads/main", commit, cwd=self.path)
        return commit

    def drop_history(self, branch: str = "main") -> None:
        """Begins the work tree's branch anew, so that the next commit is forced over what was pushed."""
        self.git("checkout", "-q", "--orphan", "anew")
        self.git("branch", "-q", "-D", branch)


@dataclass
class Forge:
    """The server, and how it behaves."""

    root: Path
    ca_file: Path
    port: int = 0
    password: str | None = None
    redirect: str | None = None
    protocol_2: bool = True
    endless: bool = False
    endless_refs: bool = False
    sent: int = 0
    silent: threading.Event | None = None
    requests: list[str] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)

    def url(self, name: str = "team/code.git") -> str:
        return f"https://localhost:{self.port}/{name}"

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"


@contextmanager
def serve_git(root: Path) -> Iterator[Forge]:
    """Serves the repositories below a folder until the block ends."""
    authority = trustme.CA()
    ca_file = root / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    forge = Forge(root, ca_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that was killed is what some tests are about."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _answer(forge, self)

        do_POST = do_GET  # noqa: N815 - the name that http.server asks for

        def log_message(self, format: str, *arguments: object) -> None:
            forge.requests.append(f"{self.command} {self.path}")

    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    forge.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield forge
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(forge: Forge, handler: BaseHTTPRequestHandler) -> None:
    body = _body(handler)
    authorization = handler.headers.get("Authorization")
    forge.authorizations.append(authorization)
    if forge.redirect is not None:
        _plain(handler, 302, {"Location": forge.redirect + handler.path})
    elif forge.password is not None and authorization != forge.password:
        _plain(handler, 401, {"WWW-Authenticate": 'Basic realm="forge"'}, f"refused {authorization}".encode())
    elif forge.silent is not None:
        handler.log_request()
        forge.silent.wait(60)
        handler.close_connection = True
    elif forge.endless and handler.command == "POST" and b"fetch" in body:
        _endless(handler)
    elif forge.endless_refs:
        _endless_refs(forge, handler)
    else:
        _backend(forge, handler, body)


def _body(handler: BaseHTTPRequestHandler) -> bytes:
    if handler.headers.get("Transfer-Encoding") != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    parts = []
    while size := int(handler.rfile.readline(), 16):
        parts.append(handler.rfile.read(size))
        handler.rfile.readline()
    handler.rfile.readline()
    return b"".join(parts)


def _plain(handler: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
    handler.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def _endless(handler: BaseHTTPRequestHandler) -> None:
    """A pack that never ends: one blob, said to have 2**34 bytes, of which incompressible ones keep coming."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/x-git-upload-pack-result")
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.close_connection = True
    # Protocol v2 (gitprotocol-v2(5)): the section's header, then side band 1. Pack format: gitformat-pack(5).
    handler.wfile.write(b"000dpackfile\n")
    handler.wfile.write(_band(b"PACK\0\0\0\2\0\0\0\1" + b"\xb0\x80\x80\x80\x80\x02" + b"\x78\x01"))
    for _ in range(100_000):
        noise = os.urandom(0x7F00)
        size = len(noise).to_bytes(2, "little")
        stored = b"\0" + size + bytes(byte ^ 0xFF for byte in size) + noise  # a stored block of deflate (RFC 1951)
        handler.wfile.write(_band(stored))


def _endless_refs(forge: Forge, handler: BaseHTTPRequestHandler) -> None:
    """A list of refs (protocol 0) that never ends. `forge.sent` counts its bytes."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/x-git-upload-pack-advertisement")
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.close_connection = True
    handler.wfile.write(b"001e# service=git-upload-pack\n0000")
    line = b"0" * 39 + b"1 refs/heads/" + b"x" * 900 + b"\n"
    many = f"{len(line) + 4:04x}".encode() + line
    while True:  # until the client is gone
        forge.sent += handler.wfile.write(many * 1000)


def _band(content: bytes) -> bytes:
    return f"{len(content) + 5:04x}".encode() + b"\1" + content


def _backend(forge: Forge, handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """git-http-backend(1) as a CGI program."""
    path, _, query = handler.path.partition("?")
    if handler.headers.get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_PROJECT_ROOT": str(forge.root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REQUEST_METHOD": handler.command,
        "CONTENT_TYPE": handler.headers.get("Content-Type", ""),
        "CONTENT_LENGTH": str(len(body)),
    }
    if forge.protocol_2:
        environment["GIT_PROTOCOL"] = handler.headers.get("Git-Protocol", "")
    ran = subprocess.run(["git", "http-backend"], env=environment, input=body, capture_output=True, check=False)
    head, _, answer = ran.stdout.partition(b"\r\n\r\n")
    headers = dict(BytesHeaderParser().parsebytes(head).items())
    _plain(handler, int(headers.pop("Status", "200").split()[0]), headers, answer)
