"""A certified OpenID provider that really runs: the npm package oidc-provider, over https, in a process of its own.

`serve_provider` starts it; tests change what it knows by `configure`. It is below a path, as Okta's own authorization
servers are.
"""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
import trustme
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from .installed import HERE, NODE, installed

DEFAULTS: Mapping[str, Any] = {
    "clients": [],
    "keys": [{"kid": "first", "alg": "RS256"}],
    "scopes": ["train"],
    "resources": [],
    "audience": "https://trainyard.test/oidc",
    "alg": "RS256",
    "seconds": 600,
}


class Provider:
    """The provider. `issuer` is its URL, `ca_file` the only CA that vouches for it."""

    def __init__(self, process: "subprocess.Popen[str]", ca_file: Path) -> None:
        self._process = process
        self.ca_file = ca_file
        self.issuer: str = self._read()
        self.settings: dict[str, Any] = {}

    def configure(self, **settings: Any) -> None:
        """Has it forget everything but its keys, and start again with these settings (see server.mjs)."""
        self.settings = {**DEFAULTS, **settings}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(self.settings) + "\n")
        self._process.stdin.flush()
        assert self._read() == "in force"

    def change(self, **settings: Any) -> None:
        """The same with some other settings."""
        self.configure(**{**self.settings, **settings})

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the provider has ended; its words are above"
        return json.loads(line)


def secret_client(client_id: str, secret: str) -> dict[str, Any]:
    """A client that proves itself by a secret."""
    return {"client_id": client_id, "client_secret": secret, "token_endpoint_auth_method": "client_secret_basic"}


def key_client(client_id: str, *keys: tuple[str, RSAPrivateKey | EllipticCurvePrivateKey]) -> dict[str, Any]:
    """A client that proves itself by one of its keys, each with its kid."""
    return {
        "client_id": client_id,
        "token_endpoint_auth_method": "private_key_jwt",
        "jwks": {"keys": [{**_public(key), "kid": kid, "use": "sig"} for kid, key in keys]},
    }


def pem_of(key: RSAPrivateKey | EllipticCurvePrivateKey) -> bytes:
    """The private key as PEM (PKCS 8)."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _public(key: RSAPrivateKey | EllipticCurvePrivateKey) -> dict[str, Any]:
    if isinstance(key, RSAPrivateKey):
        return json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    return json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))


@contextmanager
def serve_provider(folder: Path) -> Iterator[Provider]:
    """Runs it until the block ends."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    ca_file, chain, key = folder / "provider-ca.pem", folder / "chain.pem", folder / "key.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(key))
    with subprocess.Popen(
        [NODE, HERE / "server.mjs", installed(), chain, key],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PATH": os.environ["PATH"]},
        text=True,
    ) as process:
        provider = Provider(process, ca_file)
        provider.configure()
        try:
            yield provider
        finally:
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(10) == 0
