"""`trainyard doctor` as a person runs it against a stand, and the commands that it prints as a person would paste them.

The command runs in this process, which saves the seconds of its imports; what it prints is run by a real shell, with
the real kubectl and with `cloud_clis` for the clouds.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stand import Stand
from tests.e2e import cloud_clis
from trainyard.cli.main import app
from trainyard_localcluster.cluster import kubectl_program

Object = dict[str, Any]
LINKS = (
    *("spec", "speaker", "token", "issuer", "sign-in", "principal"),
    *("workspace", "storage", "permissions", "compute", "quota", "credentials"),
)


@dataclass(frozen=True)
class Found:
    """What one examination found."""

    code: int
    document: Object

    def __getitem__(self, name: str) -> Object:
        (found,) = [link for link in self.document["links"] if link["name"] == name]
        return dict(found)

    def outcomes(self, *names: str) -> list[str]:
        """The outcomes of those links."""
        return [self[name]["outcome"] for name in names or LINKS]

    def reason(self, name: str) -> str:
        """Why a link did not pass."""
        return str(self[name]["reason"])

    def commands(self, name: str) -> list[str]:
        """What mends a link."""
        return [remedy["command"] for remedy in self[name]["remedies"] if remedy["command"]]


@dataclass
class Doctor:
    """Examinations on a stand; `kubeconfig` is whoever examines, an administrator unless told."""

    stand: Stand
    dir: Path
    kubeconfig: Path | None = None
    with_clis: bool = True
    further: Mapping[str, str] = field(default_factory=dict)  # environment
    authorities: tuple[Path, ...] = ()  # that are trusted beside the sandbox's and the cluster's
    seen: str = ""

    def __post_init__(self) -> None:
        self.dir.mkdir(exist_ok=True)
        cloud_clis.install(self.dir / "bin", self.stand.dir / "sandbox" / "sandbox.json")
        self.bundle = self.dir / "ca.pem"
        authorities = (self.stand.address.ca_file, self.stand.cluster.ca_file, *self.authorities)
        self.bundle.write_bytes(b"".join(path.read_bytes() for path in authorities))

    def environment(self) -> dict[str, str]:
        """Of the command, and of the shell that its commands are pasted into."""
        kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and k != "NO_COLOR"}
        kubectl = Path(kubectl_program()).parent
        clis = f"{self.dir / 'bin'}:" if self.with_clis else ""
        path = f"{clis}{kubectl}:/usr/bin:/bin"
        return kept | {"PATH": path, "REQUESTS_CA_BUNDLE": str(self.bundle), "TZ": "UTC", **self.further}

    def text(self, *arguments: str, flags: bool = True) -> tuple[int, str, str]:
        """The command with those arguments: its exit code, stdout and stderr."""
        where = ["--kubeconfig", str(self.kubeconfig or self.stand.cluster.kubeconfig)]
        if flags:
            where += ["--allowed-host", self.stand.address.host.removeprefix("https://")]
            where += ["--azure-cloud", str(self.stand.azure_cloud())]
        with pytest.MonkeyPatch.context() as patch:
            for name in os.environ.keys() - self.environment().keys():
                patch.delenv(name)
            ran = CliRunner().invoke(
                app, ["doctor", *where, *arguments], env=self.environment(), catch_exceptions=False
            )
        self.seen += ran.stdout + ran.stderr
        return ran.exit_code, ran.stdout, ran.stderr

    def __call__(self, namespace: str, workspace: str, *arguments: str, flags: bool = True) -> Found:
        """An examination, as -o json tells it."""
        code, out, err = self.text("-n", namespace, workspace, "-o", "json", *arguments, flags=flags)
        assert out, err
        return Found(code, json.loads(out))

    def paste(self, command: str) -> str:
        """Runs a printed command in a shell, as administrator. Returns what it printed."""
        environment = self.environment() | {"KUBECONFIG": str(self.stand.cluster.kubeconfig)}
        environment["PATH"] = f"{self.dir / 'bin'}:{environment['PATH']}"
        shell = ["/bin/sh", "-euc", command]
        ran = subprocess.run(shell, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 0, f"{command}\n{ran.stderr}"
        return ran.stdout
