"""A stand whose operator sees its servers only through the crash proxy, and operators that can be killed and replaced.

Used by the crash and canary tests.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from stand import OPERATOR_NAMESPACE, Process, Stand, StandError, sandbox, wait_for
from tests.crash.points import Mode, Point
from tests.crash.proxy import CrashProxy, Upstream
from tests.platforms import drivers
from trainyard_localcluster import LocalCluster, require_local
from trainyard_localcluster.api import ApiError
from trainyard_localcluster.kubeconfig import write_kubeconfig

KINDS = 4  # watched by the operator
POLL_SECONDS = 0.3
SETTLE_SECONDS = 2.0
# A step of a journey that takes longer than this on the slowest machine will never come.
STEP_SECONDS = 120.0


# Where an object of each kind is created, in the order in which a team's objects need each other.
COLLECTIONS = {
    "Namespace": "/api/v1/namespaces",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "MLWorkspace": "/apis/trainyard.dev/v1alpha1/namespaces/{namespace}/mlworkspaces",
    "ModelDeployment": "/apis/trainyard.dev/v1alpha1/namespaces/{namespace}/modeldeployments",
    "MLTrainingRun": "/apis/trainyard.dev/v1alpha1/namespaces/{namespace}/mltrainingruns",
}


class QuickStand(Stand):
    """A stand that creates what is new without starting a kubectl each time; there are many points."""

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Creates the objects; they are not there yet."""
        for obj in objects:
            path = COLLECTIONS[obj["kind"]].format(namespace=obj["metadata"].get("namespace"))
            self.cluster.call("POST", path, obj)


class NotReached(Exception):
    """A journey ended without the request at which the operator was to be killed."""


class Stage:
    """The stand, the proxy, and the operator of the moment."""

    def __init__(self, stand: Stand, proxy: CrashProxy, name: str, **flags: str) -> None:
        self.stand = stand
        self.proxy = proxy
        self.name = name
        self.drivers = drivers(stand)
        self.crashes = 0
        self.flags = flags
        self.env: dict[str, str] = {}
        self._trusted = [proxy.ca_file]
        self._armed: tuple[Point, Mode] | None = None
        self._operator: Process | None = None
        self._kubeconfig = self._proxied_kubeconfig()
        self._numbers = iter(range(1, 1_000_000))

    def start(self) -> None:
        """A fresh operator. Returns at once."""
        assert self._operator is None
        require_local(self._kubeconfig)
        flags = {
            "azure_cloud": str(self.stand.azure_cloud(self.proxy.url("azureml"))),
            "allowed_host": self.proxy.url("databricks").removeprefix("https://"),
            "poll_seconds": str(POLL_SECONDS),
            "serving_poll_seconds": str(POLL_SECONDS),
            "settle_seconds": str(SETTLE_SECONDS),
            **self.flags,
        }
        command = self.stand.operator_command(self._kubeconfig, self.audit, **flags)
        env = {**self.stand.operator_env(), "REQUESTS_CA_BUNDLE": str(self._bundle()), **self.env}
        self._operator = Process("the operator", command, self.log, env)

    def trust(self, *ca_files: Path) -> None:
        """The next operators trust these CAs as well."""
        self._trusted.extend(ca_files)

    def _bundle(self) -> Path:
        bundle = self.stand.dir / f"{self.name}-ca.pem"
        bundle.write_bytes(b"".join(file.read_bytes() for file in self._trusted))
        return bundle

    def ready(self) -> None:
        """Waits until the operator of the moment watches everything."""

        def watching() -> bool:
            self.check()
            return self.proxy.watching() == KINDS

        wait_for("the operator's watches", watching, STEP_SECONDS)

    def up(self) -> None:
        """An operator that watches, the one there is or a fresh one."""
        if self._operator is None:
            self.start()
        self.ready()

    def stop(self) -> None:
        """Ends the operator of the moment as its pod would be ended, if there is one."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the operator of the moment by SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        if self._operator is not None:
            self._operator.stop(number)
            self._operator = None
            self.proxy.resume()

    def check(self) -> None:
        """Raises StandError if the operator has ended by itself."""
        if self._operator is not None and not self.proxy.hit.is_set():
            self._operator.check()

    def arm(self, point: Point, mode: Mode) -> None:
        """The operator of the moment dies at that point, counted from now."""
        assert self._operator is not None
        pid = self._operator.pid
        self._armed = point, mode
        self.proxy.arm(point, mode, lambda: os.kill(pid, signal.SIGKILL))

    def recover(self, start: bool = True) -> bool:
        """If the operator has been killed: buries it and starts another, before which the proxy lets all pass again."""
        if not self.proxy.hit.is_set():
            self.check()
            return False
        self.kill()
        self._armed = None
        self.crashes += 1
        if start:
            self.start()
        return True

    def killed(self) -> None:
        """Waits for the armed point, and leaves the operator dead."""
        wait_for(f"the request {self._armed}", lambda: self.recover(start=False), STEP_SECONDS)

    def drive(self, journey: Iterator[None]) -> None:
        """Walks through a journey; an operator killed on the way is replaced."""
        deadline = time.monotonic() + STEP_SECONDS
        for _ in journey:
            if self.recover():
                deadline = time.monotonic() + STEP_SECONDS
            if time.monotonic() > deadline:
                raise StandError(f"the journey stands still; the end of the log:\n{self.log_end()}")
            time.sleep(0.03)
        if self._armed is not None:
            point, _ = self._armed
            self._armed = None
            self.proxy.disarm()
            raise NotReached(str(point))

    @property
    def log(self) -> Path:
        """What all operators of this stage logged."""
        return self.stand.dir / f"{self.name}.log"

    @property
    def audit(self) -> Path:
        """The audit records of all operators of this stage."""
        return self.stand.dir / f"{self.name}.audit"

    def log_end(self) -> str:
        """The last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-25:])

    def namespace(self) -> str:
        """A namespace name that has not been used."""
        return f"{self.name}-{next(self._numbers)}"

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One request to the API server as administrator, past the proxy."""
        return self.stand.cluster.call(method, path, body)

    def find(self, path: str) -> Any:
        """The object at that path, or None."""
        try:
            return self.call("GET", path)
        except ApiError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise

    def _proxied_kubeconfig(self) -> Path:
        """The operator's own ServiceAccount, at the proxy's address and under the proxy's CA."""
        direct = self.stand.dir / f"{self.name}-direct.kubeconfig"
        self.stand.cluster.service_account_kubeconfig(OPERATOR_NAMESPACE, "trainyard", direct, seconds=12 * 3600)
        user = yaml.safe_load(direct.read_text())["users"][0]["user"]
        self.token: str = user["token"]
        proxied = self.stand.dir / f"{self.name}.kubeconfig"
        return write_kubeconfig(proxied, self.proxy.url("kubernetes"), self.proxy.ca_file, user)


@contextmanager
def stage(dir: Path, name: str, cluster: LocalCluster, **flags: str) -> Iterator[Stage]:
    """A stage on a control plane that runs, with a sandbox of its own."""
    with sandbox(dir / "sandbox", "run", cluster.issuer, cluster.ca_file) as control:
        Stand(dir, cluster, control).install()
        stand = QuickStand(dir, cluster, control)
        upstreams = [
            Upstream("kubernetes", cluster.url, cluster.ca_file),
            Upstream("databricks", control.address.host, control.address.ca_file),
            Upstream("azureml", control.address.azure.resource_manager, control.address.ca_file, tells=True),
        ]
        with CrashProxy(dir, upstreams) as proxy:
            host = proxy.url("databricks")
            # The documents name the sandbox itself, where no assertion may go: the workspace's host is the proxy.
            control.override_discovery({"oidc_endpoint": f"{host}/oidc"}, {"token_endpoint": f"{host}/oidc/v1/token"})
            made = Stage(stand, proxy, name, **flags)
            try:
                yield made
            finally:
                made.kill()
