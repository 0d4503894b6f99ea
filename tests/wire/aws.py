"""AWS as a test has it: moto's server over HTTPS, asked by boto3 for what came of it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
import trustme

PYTHON = Path(sys.prefix) / "moto" / "bin" / "python"


class Aws:
    """The server. `call` is a method of a boto3 client, as an administrator."""

    def __init__(self, process: "subprocess.Popen[str]", ca_file: Path) -> None:
        self._process = process
        self.ca_file = ca_file
        self.endpoint = f"https://localhost:{self._read()}"

    def call(self, service: str, method: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"service": service, "method": method, "arguments": arguments}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def enforce(self, enforced: bool) -> None:
        """Whether signatures and policies are checked. While they are, the administrator's calls are refused."""
        count = b"0" if enforced else b"inf"
        requests.post(f"{self.endpoint}/moto-api/reset-auth", data=count, verify=str(self.ca_file), timeout=10)

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "moto's server has ended; its words are above"
        return json.loads(line)


@contextmanager
def serve_aws(folder: Path) -> Iterator[Aws]:
    """Runs moto's server until the block ends."""
    assert PYTHON.exists(), f"{PYTHON} is missing: `make test` installs moto there"
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    ca_file, chain, key = folder / "ca.pem", folder / "chain.pem", folder / "key.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(key))
    environment = {"PATH": os.environ["PATH"], "PYTHONWARNINGS": "ignore", "HOME": str(folder)}
    with subprocess.Popen(
        [PYTHON, Path(__file__).with_name("moto_process.py"), chain, key],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as process:
        try:
            yield Aws(process, ca_file)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
