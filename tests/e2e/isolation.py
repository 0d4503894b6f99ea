"""Two namespaces that trust nobody, and what one of them tries: the ground of test_isolation.py.

What was asked for in vain is proved by two witnesses: the API server's audit log, and the platform's log of requests.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stand import AZURE_CLOUD, Team, wait_for
from tests.e2e.scene import API, OPERATOR, Run, Scene

Object = dict[str, Any]
SHARED = "isolation"
OPT_IN = "trainyard.dev/identity"
# What a Secret of the mode secretRef holds on each platform: its type, and the key that it is under.
HOLDS = {"databricks": "DatabricksOAuthSecret", "azureml": "EntraClientSecret"}


@dataclass(frozen=True)
class Mark:
    """A moment, in both logs."""

    audited: int
    sequence: int


@dataclass
class Pair:
    """Our namespace, which acts, and theirs, which has a workspace of its own that works. Both are on one platform.

    `lent` is the client id of an identity of the operator's own.
    """

    scene: Scene
    ours: Team
    theirs: Team
    lent: str
    made: list[str] = field(default_factory=list)

    # --- what identities may be written

    def federated(self, account: str) -> Object:
        """By a ServiceAccount of that name."""
        return {"federated": {"serviceAccountName": account}}

    def secret_ref(self, name: str, **more: Any) -> Object:
        """By a Secret of that name, as our principal."""
        holds = HOLDS[self.scene.platform.name]
        return {"secretRef": {"name": name, "type": holds, "clientId": self.ours.principal, **more}}

    def oidc(self, secret: str, issuer: str) -> Object:
        """By a client of that provider."""
        said = {"issuer": issuer, "clientId": "trainyard", "secretName": secret, "principal": self.ours.principal}
        return {"oidc": {**said, "authentication": "ClientSecretBasic"}}

    def operators_own(self, mode: str, client_id: str) -> Object:
        """By an identity of the operator's; on Databricks through Entra."""
        entra = {"tenantId": self.scene.stand.address.azure.tenant_id, "cloud": AZURE_CLOUD}
        return {mode: {"clientId": client_id, **({"entra": entra} if self.scene.platform.name == "databricks" else {})}}

    # --- what may be laid into a namespace

    def workspace(self, identity: Object, **spec: Any) -> Object:
        """Our workspace with that identity; returns how a run names it."""
        manifest = self.scene.platform.workspace(self.ours.namespace, **{**spec, "identity": identity})
        self.scene.create(self.ours.namespace, "mlworkspaces", manifest)
        return {"name": manifest["metadata"]["name"]}

    def shared(self, identity: Object, *allowed: str) -> Object:
        """A ClusterMLWorkspace for those namespaces; returns how a run names it."""
        spec = self.scene.platform.workspace(self.ours.namespace, identity=identity)["spec"]
        name = f"{SHARED}-{self.ours.namespace}"
        manifest = {
            "apiVersion": "trainyard.dev/v1alpha1",
            "kind": "ClusterMLWorkspace",
            "metadata": {"name": name},
            "spec": {**spec, "allowedNamespaces": list(allowed)},
        }
        self.scene.cluster.call("POST", f"{API}/clustermlworkspaces", manifest)
        self.made.append(f"{API}/clustermlworkspaces/{name}")
        return {"kind": "ClusterMLWorkspace", "name": name}

    def secret(self, team: Team, name: str, kind: str | None, data: Mapping[str, str]) -> None:
        """A Secret that opts in as that kind, or not at all."""
        annotations = {} if kind is None else {OPT_IN: kind}
        body = {
            "metadata": {"name": name, "annotations": annotations},
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
        }
        self.scene.cluster.call("POST", f"/api/v1/namespaces/{team.namespace}/secrets", body)

    def credential(self, team: Team) -> dict[str, str]:
        """A secret of the team's principal that the platform takes, as a Secret has it."""
        control = self.scene.control
        if self.scene.platform.name == "databricks":
            return {"client-secret": control.add_oauth_secret(team.principal).value}
        return {"client-secret": control.add_client_secret(team.principal)}

    def run(self, reference: Object) -> Run:
        """Our run in that workspace."""
        return self.scene.run(self.ours, workspaceRef=reference)

    # --- what the witnesses say

    def mark(self) -> Mark:
        """Now."""
        requests = self.scene.control.requests()
        return Mark(len(self._audited()), max((int(r["sequence"]) for r in requests), default=0))

    def minted(self, since: Mark) -> set[str]:
        """ServiceAccounts, as namespace/name, that the operator asked tokens of, whatever the answer."""
        return {_named(r) for r in self._asked(since, "create", "serviceaccounts", "token")}

    def looked_at(self, since: Mark) -> set[str]:
        """Secrets, as namespace/name, that the operator asked for, whatever the answer."""
        return {_named(r) for verb in ("get", "list", "watch") for r in self._asked(since, verb, "secrets", None)}

    def read(self, since: Mark) -> set[str]:
        """Those of them that it was given."""
        records = self._asked(since, "get", "secrets", None)
        return {_named(record) for record in records if record["responseStatus"]["code"] == 200}

    def asked_platform(self, since: Mark) -> list[dict[str, Any]]:
        """What the operator asked of the platform, of Entra, or of the machine's metadata service."""
        return self.scene.control.requests(since=since.sequence)

    def told(self, since: Mark, run: Run) -> None:
        """Waits until the audit log has the status that tells of the run, which is written when all else is done."""

        def written() -> bool:
            updates = self._asked(since, "update", "mltrainingruns", "status")
            return any(_named(record) == f"{run.namespace}/{run.name}" for record in updates)

        wait_for("the audit log", written)

    def _asked(self, since: Mark, verb: str, resource: str, sub: str | None) -> list[dict[str, Any]]:
        records = [json.loads(line) for line in self._audited()[since.audited :]]
        return [
            record
            for record in records
            if record["user"]["username"] == OPERATOR
            and record["verb"] == verb
            and (record["objectRef"]["resource"], record["objectRef"].get("subresource")) == (resource, sub)
        ]

    def _audited(self) -> list[str]:
        """The audit log's lines; the last one may still be under way."""
        return str(self.scene.cluster.audit_log.read_text()).split("\n")[:-1]

    def leave(self) -> None:
        """Takes away what we have made, and waits until the operator has let it go."""
        namespace = self.ours.namespace
        own = f"{API}/namespaces/{namespace}"
        for path in (*self._ours("mltrainingruns"), *self.made, *self._ours("mlworkspaces")):
            if self.scene.fetch(path):
                self.scene.cluster.call("DELETE", path)
        for what in (f"{own}/mltrainingruns", f"{own}/mlworkspaces"):
            wait_for(f"{what} to be empty", lambda what=what: not self.scene.fetch(what)["items"])  # type: ignore[misc]
        for path in self.made:
            wait_for(f"{path} to be gone", lambda path=path: not self.scene.fetch(path))  # type: ignore[misc]

    def _ours(self, plural: str) -> list[str]:
        path = f"{API}/namespaces/{self.ours.namespace}/{plural}"
        return [f"{path}/{item['metadata']['name']}" for item in self.scene.fetch(path)["items"]]


def _named(record: dict[str, Any]) -> str:
    reference = record["objectRef"]
    return f"{reference.get('namespace', '')}/{reference.get('name', '')}"
