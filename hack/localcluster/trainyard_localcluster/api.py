"""The few HTTPS requests that starting and inspecting a control plane takes.

Called by `cluster`. Verifies the server against the given authority only, follows no redirect, uses no proxy.
"""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trainyard_localcluster.errors import LocalClusterError
from trainyard_localcluster.pki import KeyPair

REQUEST_SECONDS = 30.0


class ApiError(LocalClusterError):
    """The server answered with a status of 300 or more."""

    def __init__(self, method: str, path: str, status: int, body: bytes) -> None:
        super().__init__(f"{method} {path} was answered with {status}: {body[:500].decode(errors='replace')}")
        self.status = status


class Api:
    """JSON over HTTPS to one server, as the holder of `client` or anonymously."""

    def __init__(
        self, url: str, ca_file: Path, client: KeyPair | None = None, seconds: float = REQUEST_SECONDS
    ) -> None:
        self._seconds = seconds
        self._address = urlsplit(url).netloc
        self._context = ssl.create_default_context(cafile=str(ca_file))
        if client is not None:
            self._context.load_cert_chain(client.cert, client.key)

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The decoded answer. Raises ApiError for a refusal and OSError when there is no server."""
        return json.loads(self.fetch(method, path, body))

    def fetch(self, method: str, path: str, body: object = None) -> bytes:
        """The answer as it came. Raises as `call` does."""
        connection = http.client.HTTPSConnection(self._address, timeout=self._seconds, context=self._context)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
        except http.client.HTTPException as error:  # the server went away in the middle of its answer
            raise ConnectionError(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()
        if response.status >= 300:
            raise ApiError(method, path, response.status, answer)
        return answer
