"""The `trainyard` command, as a person with rights on one namespace only; and its operator.

The operator is played: the tests write what it would write into the status.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from trainyard.api.base import API_VERSION
from trainyard.api.run_log import log_name
from trainyard.cli.main import app
from trainyard_localcluster import LocalCluster
from trainyard_localcluster.api import ApiError

Object = dict[str, Any]
RBAC = "/apis/rbac.authorization.k8s.io/v1"
RUNS = f"/apis/{API_VERSION}/namespaces/{{}}/mltrainingruns"
# A busy machine gets its time; what is tested here never waits that long.
SECONDS = 60.0

SPEC: Object = {
    "workspaceRef": {"name": "databricks"},
    "code": {"inline": "print('trained')"},
    "compute": {"class": "small"},
    "params": {"trees": "100"},
}
RIGHTS = [
    {
        "apiGroups": ["trainyard.dev"],
        "resources": ["mltrainingruns"],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    },
    {"apiGroups": ["trainyard.dev"], "resources": ["mlrunlogs"], "verbs": ["get"]},
    {
        "apiGroups": ["trainyard.dev"],
        "resources": ["modeldeployments"],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    },
    {"apiGroups": [""], "resources": ["events"], "verbs": ["list"]},
]


def manifest(name: str | None = "churn", spec: Object | None = None, **meta: Any) -> Object:
    """A run as a person would write it."""
    named = {"name": name} if name else {}
    return {"apiVersion": API_VERSION, "kind": "MLTrainingRun", "metadata": named | meta, "spec": spec or SPEC}


def person(cluster: LocalCluster, namespace: str, kubeconfig: Path, rules: list[Object] | None = None) -> Path:
    """A kubeconfig for a ServiceAccount that has those rights in the namespace, and none elsewhere."""
    name = kubeconfig.stem
    cluster.call("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})
    role = {"metadata": {"name": name}, "rules": RIGHTS if rules is None else rules}
    cluster.call("POST", f"{RBAC}/namespaces/{namespace}/roles", role)
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    }
    cluster.call("POST", f"{RBAC}/namespaces/{namespace}/rolebindings", binding)
    return cluster.service_account_kubeconfig(namespace, name, kubeconfig)


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


class Cli:
    """The command with one kubeconfig. Called as it is, it runs in this process, which saves the seconds of imports."""

    def __init__(self, kubeconfig: Path, **more: str) -> None:
        # The address that an API server listens on is no reason to ask a proxy.
        kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and k != "NO_COLOR"}
        self._env = kept | {"KUBECONFIG": str(kubeconfig), "COLUMNS": "200", "TZ": "UTC"} | more

    def __call__(self, *args: str, input: str | Object | None = None) -> Ran:
        """Runs the command to its end. A dict as input becomes JSON on stdin."""
        with pytest.MonkeyPatch.context() as patch:
            for name in os.environ.keys() - self._env.keys():
                patch.delenv(name)
            ran = CliRunner().invoke(app, list(args), input=_text(input), env=self._env, catch_exceptions=False)
        return Ran(ran.exit_code, ran.stdout, ran.stderr)

    def process(self, *args: str, input: str | Object | None = None) -> Ran:
        """The same in a process of its own, as a shell would run it."""
        ran = subprocess.run(
            self._command(args),
            input=_text(input),
            env=self._env,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    @contextmanager
    def started(self, *args: str, input: Object) -> Iterator[subprocess.Popen[str]]:
        """The command while it runs, its stdin closed; killed at the end of the block if it has not ended."""
        process = subprocess.Popen(
            self._command(args),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._env,
            text=True,
        )
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(input))
            process.stdin.close()
            process.stdin = None  # communicate() would flush it
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()

    @staticmethod
    def _command(args: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-W", "error", "-m", "trainyard", *args]


def _text(given: str | Object | None) -> str | None:
    return json.dumps(given) if isinstance(given, dict) else given


class PlayedOperator:
    """Writes into runs of one namespace what the operator would, as administrator."""

    def __init__(self, cluster: LocalCluster, namespace: str) -> None:
        self._cluster = cluster
        self._path = RUNS.format(namespace)
        self.namespace = namespace
        until(self._served)

    def _served(self) -> bool:
        """The server answers 429 while it makes the storage of a kind that is new to it."""
        try:
            self.names()
        except ApiError as error:
            if error.status != 429:
                raise
            return False
        return True

    def get(self, name: str) -> Object:
        """The run now."""
        return dict(self._cluster.call("GET", f"{self._path}/{name}"))

    def names(self) -> list[str]:
        """The runs that there are."""
        return [item["metadata"]["name"] for item in self._cluster.call("GET", self._path)["items"]]

    def create(self, body: Object) -> Object:
        """A run, made by hand."""
        return dict(self._cluster.call("POST", self._path, body))

    def delete(self, name: str) -> None:
        """Deletes the run."""
        self._cluster.call("DELETE", f"{self._path}/{name}")

    def write(self, name: str, phase: str, reason: str | None = None, message: str = "", **more: Any) -> None:
        """Sets phase and reason, and the other fields of status as they are given."""
        found = self.get(name)
        ready = {
            "type": "Ready",
            "status": "True" if phase == "Succeeded" else "False",
            "reason": reason or phase,
            "message": message,
            "lastTransitionTime": "2026-11-23T12:00:00Z",
        }
        found["status"] = found.get("status", {}) | {"phase": phase, "conditions": [ready]} | more
        self._cluster.call("PUT", f"{self._path}/{name}/status", found)

    def log(self, name: str, attempt: int, tasks: list[Object], **more: Any) -> None:
        """The MLRunLog of an attempt."""
        uid = self.get(name)["metadata"]["uid"]
        spec = {
            "runName": name,
            "runUid": uid,
            "attempt": attempt,
            "at": "2026-11-23T12:30:00Z",
            "tasks": tasks,
        }
        body = {
            "apiVersion": API_VERSION,
            "kind": "MLRunLog",
            "metadata": {"name": log_name(name, uid, attempt)},
            "spec": spec | more,
        }
        self._cluster.call("POST", self._path.replace("mltrainingruns", "mlrunlogs"), body)


def until(condition: Callable[[], object]) -> None:
    """Returns once the condition holds."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def attempt(number: int = 1, **more: Any) -> Object:
    """An attempt as the status has it."""
    return {
        "number": number,
        "submissionToken": f"token-{number}",
        "platform": "databricks",
        "host": "adb-1.azuredatabricks.net",
        "principal": "sp-trainer",
        "mode": "federated",
        "serviceAccount": "trainer",
        "specDigest": "sha256:1",
        "codeDigest": "sha256:2",
        "intendedAt": "2026-11-23T12:00:00Z",
    } | more
