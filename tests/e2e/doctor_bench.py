"""A namespace for one set-up that the doctor looks at, and what it prints there as a page shows it.

Manifests of examples/identity are applied with the sandbox's values in place of those that stand for a reader's, and in
what the doctor prints these are put back. Used by doctor_cases.py and test_identity_pages.py.
"""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from stand import AUDIENCE, AZURE_CLOUD, OPERATOR_NAMESPACE, ROOT, Stand, wait_for
from tests.e2e.scene import Scene
from tests.providers.oidc.provider import Provider

EXAMPLES = ROOT / "examples" / "identity"
# What stands in the examples for what a reader has.
HOST = "https://adb-1234567890123456.7.azuredatabricks.net"
PRINCIPAL = "11111111-2222-3333-4444-555555555555"
CLIENT_ID = "66666666-7777-8888-9999-000000000000"
TENANT = "33333333-4444-5555-6666-777777777777"
SUBSCRIPTION = "44444444-5555-6666-7777-888888888888"
ISSUER = "https://oidc.wine.example/cluster"
PROVIDER = "https://login.wine.example/realms/ml"
TEAM = "team-wine"
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
# What differs each time and that nobody here chose.
_VARYING = (
    (r"publishes key [\w-]+", "publishes key Zx3k9"),
    (rf"(object id '?){_UUID}", r"\g<1>88888888-9999-0000-1111-222222222222"),
    (rf"--assignee (?!{CLIENT_ID}){_UUID}", "--assignee 88888888-9999-0000-1111-222222222222"),
    (rf"answers, id {_UUID}", "answers, id 55555555-6666-7777-8888-999999999999"),
    (r"storage account 127\.0\.0\.1", "storage account winestorage"),
    (r"changed at \d{4}-\d\d-\d\d \d\d:\d\dZ", "changed at 2026-11-02 09:00Z"),
    (r"good until \d{4}-\d\d-\d\d \d\d:\d\dZ", "good until 2027-01-01 09:00Z"),
)


@dataclass
class Bench:
    """A namespace for one case, and what of it has to be put back into what the doctor prints."""

    scene: Scene
    provider: Provider
    dir: Path
    namespace: str = ""
    names: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    shared: bool = False
    undo: list[Callable[[], object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.namespace = self.scene.namespace()
        at = self.scene.control.address
        self.names = {
            at.host: HOST,
            f"{at.azure.authority}/{at.azure.tenant_id}": f"https://login.microsoftonline.com/{TENANT}",
            at.azure.resource_manager: "https://management.azure.com",
            at.azure.storage_suffix: "core.windows.net",
            at.azure.ml_resource: "https://ml.azure.com",
            at.azure.tenant_id: TENANT,
            at.azure.subscription_id: SUBSCRIPTION,
            f"resourceGroups/{at.azure.resource_group}": "resourceGroups/ml",
            f"workspaces/{at.azure.workspace_name}": "workspaces/wine",
            at.imds: "http://169.254.169.254",
            self.scene.cluster.issuer: ISSUER,
            self.provider.issuer: PROVIDER,
            self.namespace: TEAM,
            "trainyard-localcluster-admin": "ada@example.com",
        }
        self.scene.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})

    def principal(self, **fields: Any) -> str:
        """A service principal of Databricks, shown as the examples' one."""
        made = self.scene.control.add_principal("team-wine-trainer", **{"entitlements": ["workspace-access"], **fields})
        return self.shown(made, PRINCIPAL)

    def application(self, *roles: str) -> str:
        """An application of Entra, shown as the examples' one."""
        made = self.scene.control.add_application("team-wine-trainer", roles={"workspace": list(roles)})
        return self.shown(made, CLIENT_ID)

    def shown(self, real: str, placeholder: str) -> str:
        """Has something stand in the page as something else."""
        self.names[real] = placeholder
        return real

    def apply(self, file: str, kind: str = "", name: str = "") -> None:
        """The example, or those of its objects that are of that kind and name."""
        text = (EXAMPLES / file).read_text()
        for real, placeholder in sorted(self.names.items(), key=lambda each: -len(each[1])):
            text = text.replace(placeholder, real)
        for each in yaml.safe_load_all(text):
            if each["kind"] == "Namespace" or (kind, name) not in (("", ""), (each["kind"], each["metadata"]["name"])):
                continue
            self.scene.apply(self._at_home(each))

    def _at_home(self, each: dict[str, Any]) -> dict[str, Any]:
        spec = each.get("spec", {})
        at = self.scene.control.address.azure
        if "azureML" in spec:
            names = {"resourceGroup": at.resource_group, "workspaceName": at.workspace_name}
            spec["azureML"] |= {**names, "cloud": AZURE_CLOUD}
        for mode in spec.get("identity", {}).values():
            if "entra" in mode:
                mode["entra"] |= {"cloud": AZURE_CLOUD}
        self.shared = self.shared or each["kind"] == "ClusterMLWorkspace"
        return each

    def secret(self, name: str, opt_in: str, **data: str) -> None:
        """A Secret that has opted in, and that the operator may read, as the chart's `identity.secrets` has it."""
        metadata = {"name": name, "namespace": self.namespace, "annotations": {"trainyard.dev/identity": opt_in}}
        encoded = {key.replace("_", "-"): base64.b64encode(value.encode()).decode() for key, value in data.items()}
        self.scene.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded})
        self.readable(name)

    def readable(self, name: str) -> None:
        """Lets the operator read a Secret."""
        kubectl, inside = self.scene.cluster.kubectl, ("-n", self.namespace)
        kubectl("create", "role", name, *inside, "--verb=get", "--resource=secrets", f"--resource-name={name}")
        operator = f"--serviceaccount={OPERATOR_NAMESPACE}:trainyard"
        kubectl("create", "rolebinding", name, *inside, f"--role={name}", operator)

    def annotate(self, secret: str, annotation: str) -> None:
        """Annotates a Secret."""
        self.scene.cluster.kubectl("annotate", "secret", secret, "-n", self.namespace, annotation)

    def wait_for(self, workspace: str, reason: str) -> None:
        """Waits until the operator has said that of the workspace."""
        if not self.shared:
            self.scene.workspace(self.namespace, reason, name=workspace)
            return

        def said() -> bool:
            status = self.scene.read("clustermlworkspaces", "", workspace).get("status", {})
            return any(each["reason"] == reason for each in status.get("conditions", []))

        wait_for(f"{workspace} to say {reason}", said)

    # What the clouds' command lines would tell whoever administers the principal: see `tools`.

    def policy(self, application_id: str | None, subject: str, *audiences: str, issuer: str = "") -> None:
        """A federation policy of a service principal."""
        issuer = issuer or self.scene.cluster.issuer
        self.scene.control.add_policy(application_id, issuer, subject, list(audiences))
        policy = {"issuer": issuer, "subject": subject, "audiences": list(audiences)}
        self.tool("databricks", {"federation-policy": [{"oidc_policy": policy}], "": [{"id": "1234567890123456"}]})

    def credential(self, client_id: str, subject: str, issuer: str = "") -> None:
        """A federated credential of an application."""
        issuer = issuer or self.scene.cluster.issuer
        self.scene.control.add_federated_credential(client_id, issuer, subject)
        credential = {"issuer": issuer, "subject": subject, "audiences": ["api://AzureADTokenExchange"]}
        self.tool("az", {"": [{"name": "trainyard", **credential}]})

    def tool(self, name: str, answers: Mapping[str, Any]) -> None:
        """A command line that prints the answer whose key is among its words."""
        folder = self.dir / "tools"
        folder.mkdir(exist_ok=True)
        program = folder / name
        told = json.dumps(dict(answers))
        program.write_text(
            f"#!{sys.executable}\nimport json, sys\nwords = ' '.join(sys.argv[1:])\n"
            f"print(json.dumps(next(said for key, said in json.loads({told!r}).items() if key in words)))\n"
        )
        program.chmod(0o755)
        self.environment["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"

    # Running it.

    def doctor(self, workspace: str, *options: str, in_pod: bool = False) -> str:
        """What a reader would see: the command, and what it prints."""
        flags = ["--cluster"] if self.shared else []
        words = ["doctor", *flags, *options, "-n", self.namespace, workspace]
        done = subprocess.run(
            [sys.executable, "-m", "trainyard", *words, "--kubeconfig", str(self._kubeconfig(in_pod))],
            env={**self._surroundings(), **self.environment},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode in (0, 1, 3), done.stderr
        assert not done.stderr, done.stderr
        assert re.search(r"eyJ[\w-]{20}", done.stdout) is None, "it printed a token"
        command = ["trainyard", *words]
        if in_pod:
            command = ["kubectl", "exec", "-n", OPERATOR_NAMESPACE, "deploy/trainyard", "--", *command]
        return self._as_in_a_page(f"$ {' '.join(command)}\n{done.stdout.rstrip()}\n$ echo $?\n{done.returncode}\n")

    def _kubeconfig(self, in_pod: bool) -> Path:
        if not in_pod:
            return Path(self.scene.cluster.kubeconfig)
        return self.scene.cluster.service_account_kubeconfig(OPERATOR_NAMESPACE, "trainyard", self.dir / "kubeconfig")

    def _surroundings(self) -> dict[str, str]:
        return {
            **environment(self.scene.stand, self.provider, self.dir),
            "TRAINYARD_ALLOWED_HOSTS": self.scene.control.address.host.removeprefix("https://"),
            "TRAINYARD_AZURE_CLOUDS": str(self.scene.stand.azure_cloud()),
            "TRAINYARD_DATABRICKS_AUDIENCE": AUDIENCE,
            "TRAINYARD_IMDS_ENDPOINT": self.scene.control.address.imds,
        }

    def _as_in_a_page(self, text: str) -> str:
        for real in sorted(self.names, key=len, reverse=True):
            text = text.replace(real, self.names[real])
        for pattern, instead in _VARYING:
            text = re.sub(pattern, instead, text)
        return re.sub(r"good for (\d+) s", lambda found: f"good for {-(-int(found[1]) // 60) * 60} s", text)


def environment(stand: Stand, provider: Provider, folder: Path) -> dict[str, str]:
    """That of an operator which trusts the sandbox, the cluster and the other provider."""
    bundle = folder / "authorities.pem"
    bundle.write_text(
        "".join(Path(each).read_text() for each in (stand.address.ca_file, stand.cluster.ca_file, provider.ca_file))
    )
    return {**stand.operator_env(), "REQUESTS_CA_BUNDLE": str(bundle)}
