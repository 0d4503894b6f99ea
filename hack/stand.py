"""A whole stand on loopback: control plane, sandbox, operator. Used by the demo, the tests and the bench.

Everything it starts is stopped by its own process id, and dies with this process.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import yaml

from trainyard_localcluster import LocalCluster, require_local
from trainyard_sandbox.client import SandboxAddress, SandboxControl

ROOT = Path(__file__).resolve().parent.parent
AUDIENCE = "trainyard-databricks"
AZURE_CLOUD = "Sandbox"
OPERATOR_NAMESPACE = "trainyard-system"
T = TypeVar("T")


class StandError(Exception):
    """Something that was started did not come up, or a wait was in vain."""


def die_with_parent() -> None:
    """Runs in the child: the kernel kills it when the thread that started it is gone (prctl PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Process:
    """A child process with its output in a file."""

    def __init__(self, name: str, command: list[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.log = log
        self._file = log.open("ab")
        self._popen = subprocess.Popen(
            command,
            stdout=self._file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=dict(env) if env is not None else None,
            preexec_fn=die_with_parent,
        )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._popen.poll() is None

    def check(self) -> None:
        """Raises StandError with the end of its log if it has ended."""
        if not self.alive():
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])
            raise StandError(f"{self.name} ended with {self._popen.returncode}:\n{tail}")

    def stop(self, number: int = signal.SIGTERM, seconds: float = 30) -> int:
        """Signals it and waits; kills it if it does not go. Returns its exit code."""
        if self.alive():
            self._popen.send_signal(number)
        try:
            code = self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            code = self._popen.wait()
        self._file.close()
        return code

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.stop(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()


def wait_for(what: str, look: Callable[[], T | None], seconds: float = 60, pause: float = 0.05) -> T:
    """What `look` returns once it is neither None nor False. Raises StandError in vain."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        if time.monotonic() > deadline:
            raise StandError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(pause)


@contextmanager
def sandbox(
    dir: Path, engine: str = "run", issuer: str | None = None, ca: Path | None = None
) -> Iterator[SandboxControl]:
    """A sandbox that serves, by its control client."""
    dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "trainyard_sandbox.cli", "serve", "--dir", str(dir), "--engine", engine]
    if issuer is not None:
        command += ["--trust-issuer", f"{issuer}={ca}"]
    with Process("the sandbox", command, dir / "sandbox.log") as process:
        document = dir / "sandbox.json"

        def ready() -> bool:
            process.check()
            return document.exists()

        wait_for("the sandbox", ready, 90)
        with SandboxControl(document) as control:
            yield control


@dataclass
class Team:
    """A namespace with a ServiceAccount that a principal of the sandbox trusts.

    `policy` is the id of the federation policy on Databricks, the name of the federated credential at Entra.
    """

    namespace: str
    principal: str
    policy: str
    workspace: str = "databricks"
    service_account: str = "trainer"


def _namespace_with(namespace: str, account: str, annotations: Mapping[str, str]) -> list[dict[str, Any]]:
    """A namespace with a ServiceAccount."""
    metadata = {"name": account, "namespace": namespace, "annotations": dict(annotations)}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
    ]


@dataclass
class Stand:
    """A control plane with Trainyard's kinds, and a sandbox that trusts its issuer."""

    dir: Path
    cluster: LocalCluster
    control: SandboxControl
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def address(self) -> SandboxAddress:
        return self.control.address

    def install(self) -> None:
        """Kinds, and the operator's ServiceAccount with exactly the chart's rights."""
        require_local(self.cluster.kubeconfig)
        for crd in sorted((ROOT / "crds").glob("*.yaml")):
            self.cluster.kubectl("apply", "--server-side", "-f", str(crd))
        names = [f"crd/{crd.stem}.trainyard.dev" for crd in sorted((ROOT / "crds").glob("*.yaml"))]
        self.cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)
        rights = (ROOT / "hack" / "rbac.yaml").read_text()
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR_NAMESPACE}})
        account = {"name": "trainyard", "namespace": OPERATOR_NAMESPACE}
        self.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
        self.cluster.kubectl("apply", "-f", "-", input=rights)

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """kubectl apply."""
        self.cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all([dict(o) for o in objects]))

    def allow_secret(self, namespace: str, name: str) -> None:
        """Lets the operator read that Secret, there or not, as the chart's identity.secrets does."""
        rules = yaml.safe_load((ROOT / "charts/trainyard/files/rbac/modes/secretRef.yaml").read_text())
        metadata, rbac = {"name": f"trainyard-secret-{name}"}, "rbac.authorization.k8s.io"
        bound = {
            "metadata": metadata,
            "roleRef": {"apiGroup": rbac, "kind": "Role", **metadata},
            "subjects": [{"kind": "ServiceAccount", "name": "trainyard", "namespace": OPERATOR_NAMESPACE}],
        }
        role = {"metadata": metadata, "rules": [rule | {"resourceNames": [name]} for rule in rules]}
        where = f"/apis/{rbac}/v1/namespaces/{namespace}"
        self.cluster.call("POST", f"{where}/roles", role)
        self.cluster.call("POST", f"{where}/rolebindings", bound)

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        """The object now."""
        found: dict[str, Any] = self.cluster.call(
            "GET", f"/apis/trainyard.dev/v1alpha1/namespaces/{namespace}/{kind}/{name}"
        )
        return found

    def run(self, name: str, namespace: str) -> dict[str, Any]:
        """An MLTrainingRun now."""
        return self.get("mltrainingruns", name, namespace)

    def team(self, namespace: str, *, service_account: str = "trainer", host: str | None = None, **spec: Any) -> Team:
        """A namespace whose ServiceAccount is federated, with a workspace called `databricks`."""
        team, objects = self._federated(namespace, service_account)
        self.apply(*objects, self.workspace(namespace, service_account, host, **spec))
        return team

    def newcomer(self, namespace: str, *, service_account: str = "trainer") -> Team:
        """The same without a workspace."""
        team, objects = self._federated(namespace, service_account)
        self.apply(*objects)
        return team

    def _federated(self, namespace: str, service_account: str) -> tuple[Team, list[dict[str, Any]]]:
        principal = self.control.add_principal(
            f"{namespace}-trainer",
            entitlements=["workspace-access", "allow-cluster-create"],
            grants={"main": ["USE CATALOG"], "main.ml": ["USE SCHEMA", "CREATE MODEL"]},
        )
        subject = f"system:serviceaccount:{namespace}:{service_account}"
        policy = self.control.add_policy(principal, self.cluster.issuer, subject, [AUDIENCE])
        annotations = {"trainyard.dev/databricks-client-id": principal}
        team = Team(namespace, principal, policy, service_account=service_account)
        return team, _namespace_with(namespace, service_account, annotations)

    def workspace(
        self, namespace: str, service_account: str = "trainer", host: str | None = None, **spec: Any
    ) -> dict[str, Any]:
        """An MLWorkspace that points at the sandbox."""
        return {
            "apiVersion": "trainyard.dev/v1alpha1",
            "kind": "MLWorkspace",
            "metadata": {"name": "databricks", "namespace": namespace},
            "spec": {
                "databricks": {"host": host or self.address.host},
                "identity": {"federated": {"serviceAccountName": service_account}},
                "computeClasses": {
                    "small": {"serverless": {"environmentVersion": "5"}},
                    "cluster": {
                        "jobCluster": {"nodeTypeId": "m5d.large", "dataSecurityMode": "DATA_SECURITY_MODE_DEDICATED"}
                    },
                    "serving": {"modelServing": {"workloadSize": "Small"}},
                },
                "runtimes": {"sklearn": {"sparkVersion": "16.4.x-cpu-ml-scala2.12", "pip": ["scikit-learn"]}},
                "modelPrefix": "main.ml",
                **spec,
            },
        }

    def azure_team(
        self,
        namespace: str,
        *,
        service_account: str = "trainer",
        roles: Iterable[str] = ("AzureML Data Scientist",),
        **spec: Any,
    ) -> Team:
        """A namespace whose ServiceAccount is federated at Entra, with a workspace called `azureml`.

        `roles` are what its application may do in the sandbox's Azure ML workspace.
        """
        team, objects = self._azure_federated(namespace, service_account, roles)
        self.apply(*objects, self.azure_workspace(namespace, service_account, **spec))
        return team

    def azure_newcomer(self, namespace: str, *, service_account: str = "trainer") -> Team:
        """The same without a workspace."""
        team, objects = self._azure_federated(namespace, service_account, ["AzureML Data Scientist"])
        self.apply(*objects)
        return team

    def _azure_federated(
        self, namespace: str, service_account: str, roles: Iterable[str]
    ) -> tuple[Team, list[dict[str, Any]]]:
        self.control.add_azure_compute("cpu-cluster")
        client_id = self.control.add_application(f"{namespace}-trainer", roles={"workspace": list(roles)})
        subject = f"system:serviceaccount:{namespace}:{service_account}"
        credential = self.control.add_federated_credential(client_id, self.cluster.issuer, subject)
        annotations = {"trainyard.dev/azure-client-id": client_id}
        team = Team(namespace, client_id, credential, workspace="azureml", service_account=service_account)
        return team, _namespace_with(namespace, service_account, annotations)

    def azure_workspace(self, namespace: str, service_account: str = "trainer", **spec: Any) -> dict[str, Any]:
        """An MLWorkspace that points at the sandbox's Azure ML workspace."""
        azure = self.address.azure
        return {
            "apiVersion": "trainyard.dev/v1alpha1",
            "kind": "MLWorkspace",
            "metadata": {"name": "azureml", "namespace": namespace},
            "spec": {
                "azureML": {
                    "cloud": AZURE_CLOUD,
                    "tenantId": azure.tenant_id,
                    "subscriptionId": azure.subscription_id,
                    "resourceGroup": azure.resource_group,
                    "workspaceName": azure.workspace_name,
                },
                "identity": {"federated": {"serviceAccountName": service_account}},
                "computeClasses": {
                    "small": {"azureML": {"serverless": {"instanceType": "Standard_DS3_v2"}}},
                    "cluster": {"azureML": {"compute": "cpu-cluster"}},
                    "serving": {"onlineEndpoint": {"instanceType": "Standard_DS3_v2"}},
                },
                "runtimes": {"sklearn": {"pip": ["scikit-learn"]}},
                **spec,
            },
        }

    def azure_cloud(self, origin: str | None = None, name: str = AZURE_CLOUD) -> Path:
        """The file that tells an operator of the sandbox's Azure; `origin` is what stands in front of it, if any."""
        azure = self.address.azure
        url = origin or azure.resource_manager
        document = {
            "name": name,
            "resourceManager": url,
            "authority": url,
            "storageSuffix": azure.storage_suffix,
            "mlResource": azure.ml_resource,
            "dataHosts": [url.removeprefix("https://")],
        }
        path = self.dir / f"azure-cloud-{name}-{url.rpartition(':')[2]}.json"
        path.write_text(json.dumps(document, indent=2))
        return path

    def training_run(self, name: str, namespace: str, code: str = "print('hello')", **spec: Any) -> dict[str, Any]:
        """An MLTrainingRun in the workspace `databricks`."""
        return {
            "apiVersion": "trainyard.dev/v1alpha1",
            "kind": "MLTrainingRun",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "workspaceRef": {"name": "databricks"},
                "code": {"inline": code},
                "compute": {"class": "small"},
                **spec,
            },
        }

    def operator_command(self, kubeconfig: Path, audit: Path, **flags: str) -> list[str]:
        """The command line of an operator for this stand."""
        command = [sys.executable, "-m", "trainyard", "operator", "--all-namespaces", "--kubeconfig", str(kubeconfig)]
        given = {
            "allowed-host": self.address.host.removeprefix("https://"),
            "databricks-audience": AUDIENCE,
            "azure-cloud": str(self.azure_cloud()),
            "poll-seconds": "0.5",
            "log-format": "json",
            "audit-file": str(audit),
            **{name.replace("_", "-"): value for name, value in flags.items()},
        }
        return command + [part for name, value in given.items() for part in (f"--{name}", value)]

    def operator_env(self) -> dict[str, str]:
        """The operator's environment: nothing but what it needs, and the sandbox's CA."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        return {**kept, "REQUESTS_CA_BUNDLE": str(self.address.ca_file), "PYTHONUNBUFFERED": "1"}

    def operator(
        self,
        name: str = "operator",
        kubeconfig: Path | None = None,
        env: Mapping[str, str] | None = None,
        **flags: str,
    ) -> Process:
        """An operator that runs as its own ServiceAccount, with `env` in its environment besides what it needs.

        Its log and audit lie in the stand's directory.
        """
        own = self.dir / f"{name}.kubeconfig"
        if kubeconfig is None:
            kubeconfig = self.cluster.service_account_kubeconfig(OPERATOR_NAMESPACE, "trainyard", own)
        require_local(kubeconfig)
        command = self.operator_command(kubeconfig, self.dir / f"{name}.audit", **flags)
        return Process("the operator", command, self.dir / f"{name}.log", {**self.operator_env(), **(env or {})})

    def audit(self, name: str = "operator") -> list[dict[str, Any]]:
        """The audit records so far."""
        path = self.dir / f"{name}.audit"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@contextmanager
def stand(dir: Path, engine: str = "run", cluster: LocalCluster | None = None) -> Iterator[Stand]:
    """A stand in `dir`; with `cluster`, on a control plane that runs already."""
    with ExitStack() as stack:
        if cluster is None:
            cluster = stack.enter_context(LocalCluster.start(dir / "cluster"))
        control = stack.enter_context(sandbox(dir / "sandbox", engine, cluster.issuer, cluster.ca_file))
        made = Stand(dir, cluster, control)
        made.install()
        yield made
