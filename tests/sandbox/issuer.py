"""A small https identity provider for tests: discovery document, JWKS and signed assertions.

It plays the cluster's ServiceAccount issuer. conftest.py starts it in a thread.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import jwt
import trustme
import uvicorn
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


class TestIssuer:
    """An issuer on a free loopback port; use it as a context manager."""

    __test__ = False

    def __init__(self, directory: Path) -> None:
        self.ca_file = directory / "issuer-ca.pem"
        self._socket = socket.socket(proto=socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._socket.getsockname()[1]}"
        self.discovery: dict[str, Any] = {"issuer": self.url, "jwks_uri": f"{self.url}/openid/v1/jwks"}
        self._keys: dict[str, rsa.RSAPrivateKey] = {}
        self.rotate("first")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca_file))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._discovery),
                Route("/openid/v1/jwks", self._jwks),
            ]
        )
        config = uvicorn.Config(
            app, lifespan="off", log_level="warning", ssl_context_factory=lambda _config, _default: context
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve([self._socket])))

    def __enter__(self) -> TestIssuer:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()

    def rotate(self, key_id: str) -> None:
        """From now on sign with a new key; older keys are no longer published."""
        self.key_id = key_id
        self._keys = {key_id: rsa.generate_private_key(public_exponent=65537, key_size=2048)}

    async def _discovery(self, _request: Request) -> Response:
        return JSONResponse(self.discovery)

    async def _jwks(self, _request: Request) -> Response:
        return JSONResponse(self.jwks())

    def jwks(self) -> dict[str, Any]:
        """The document of the keys that are published."""
        keys = []
        for key_id, key in self._keys.items():
            document = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
            keys.append(document | {"kid": key_id, "use": "sig", "alg": "RS256"})
        return {"keys": keys}

    def assertion(self, subject: str, audience: str, lifetime: float = 600, **claims: Any) -> str:
        """A signed assertion."""
        now = int(time.time())
        body = {"iss": self.url, "sub": subject, "aud": [audience], "iat": now, "nbf": now, "exp": now + int(lifetime)}
        return jwt.encode(body | claims, self._keys[self.key_id], algorithm="RS256", headers={"kid": self.key_id})
