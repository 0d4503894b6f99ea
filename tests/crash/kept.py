"""Teams whose identity is kept in a Secret, or is the operator's own: every way to prove oneself, on the crash stage.

Used by the canary test, which searches for what they prove themselves by. Federated teams are those of scenes.py.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from stand import AZURE_CLOUD, OPERATOR_NAMESPACE, wait_for
from tests.crash.scenes import FINAL, NAME, TRAINS
from tests.crash.stage import STEP_SECONDS, Stage
from tests.pem import certificate_pem, key_pem, rsa_key
from tests.platforms.manifests import training_run
from tests.providers.oidc.provider import Provider, key_client, secret_client

API = "/apis/trainyard.dev/v1alpha1"
KEPT, AUDIENCE = "kept", "api://AzureADTokenExchange"
ROLES = {"workspace": ["AzureML Data Scientist"]}
RIGHTS: dict[str, Any] = {
    "entitlements": ["workspace-access", "allow-cluster-create"],
    "grants": {"main": ["USE CATALOG"], "main.ml": ["USE SCHEMA", "CREATE MODEL"]},
}
# The sandbox's Azure without the proxy before it.
DIRECT = "Direct"
# Reasons that tell nothing yet.
UNDECIDED = ("", "True", "WorkspaceNotReady", "Accepted")
Object = dict[str, Any]


@dataclass(frozen=True)
class Proof:
    """How one team proves who it is: the workspace's identity, and what its Secret holds and opts in as, if any.

    `works` is whether it can where the proxy stands in for Entra, `refused` whether anything of it goes that way.
    """

    identity: Object
    opts_in: str = ""
    data: Mapping[str, str] = field(default_factory=dict)
    works: bool = True
    refused: bool = True


@dataclass(frozen=True)
class Applicant:
    """A principal that the platform knows and Entra too; `entra` is what an identity says to sign in there."""

    principal: str
    platform: str
    entra: Object


class KeptTeams:
    """One team for each way, each with one run. `clients` are what the provider has to know."""

    def __init__(self, stage: Stage, provider: Provider) -> None:
        self._stage, self._control, self._provider = stage, stage.stand.control, provider
        self._clients: list[Object] = []
        self._teams: list[KeptTeam] = []
        self._control.trust_issuer(provider.issuer, provider.ca_file)
        self._lent = self._lend()

    def found(self) -> None:
        """All of them, with their workspaces."""
        ways: dict[str, dict[str, Callable[[Applicant], Proof]]] = {
            "databricks": {
                "OAuth secret": self._oauth_secret,
                "personal access token": self._personal_token,
                "Entra client secret": self._entra_secret,
                "Entra certificate": self._entra_certificate,
                "Entra certificate at the proxy": self._certificate_at_proxy,
                "provider's client secret": self._provider_secret,
                "managed identity": self._operators_own("managedIdentity"),
                "workload identity": self._operators_own("azureWorkloadIdentity"),
            },
            "azureml": {
                "Entra client secret": self._entra_secret,
                "Entra certificate": self._entra_certificate,
                "Entra certificate at the proxy": self._certificate_at_proxy,
                "provider's client key": self._provider_key,
                "managed identity": self._operators_own("managedIdentity", direct=True),
                "workload identity": self._operators_own("azureWorkloadIdentity"),
            },
        }
        for platform, named in ways.items():
            for way, prove in named.items():
                namespace = self._stage.namespace()
                self._stage.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
                proof = prove(self._applicant(namespace, platform))
                team = KeptTeam(self._stage, platform, namespace, f"{way} on {platform}", proof)
                team.keep()
                self._teams.append(team)
        self._provider.configure(clients=self._clients, audience=AUDIENCE)
        for team in self._teams:
            team.found()

    def secrets(self) -> dict[str, str]:
        """What may be left nowhere, by what it is."""
        return {f"{team.way}, {key}": value for team in self._teams for key, value in team.proof.data.items()}

    def refused(self) -> None:
        """Waits until each has been told that it does not work: by the workspace, or by the run where it is lent."""
        for team in [each for each in self._teams if each.proof.refused]:
            if team.lent:
                team.start()
            wait_for(f"{team.way} to be refused", lambda team=team: team.verdict() not in UNDECIDED, STEP_SECONDS)  # type: ignore[misc]

    def run(self) -> None:
        """Has each of them run once, to its good end."""
        working = [each for each in self._teams if each.proof.works]
        for team in working:
            if not team.lent:
                wait_for(f"{team.way} to be ready", lambda team=team: team.verdict() == "True", STEP_SECONDS)  # type: ignore[misc]
            if not team.started():
                team.start()
        for team in working:
            wait_for(f"the run of {team.way}", lambda team=team: team.phase() in FINAL, STEP_SECONDS)  # type: ignore[misc]
            assert team.phase() == "Succeeded", team.way

    def clouds(self) -> str:
        """The operator's clouds: the sandbox's through the proxy, and past it."""
        stand = self._stage.stand
        return f"{stand.azure_cloud(self._stage.proxy.url('azureml'))},{stand.azure_cloud(name=DIRECT)}"

    def operators_environment(self) -> dict[str, str]:
        """What an operator in AKS finds: the webhook's variables with a token of its own, and a metadata service."""
        account = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/serviceaccounts/trainyard"
        request = {"spec": {"audiences": [AUDIENCE], "expirationSeconds": 7200}}
        token = self._stage.stand.dir / "kept.token"
        token.touch(0o600)
        token.write_text(self._stage.call("POST", f"{account}/token", request)["status"]["token"])
        return {
            "AZURE_CLIENT_ID": self._lent,
            "AZURE_TENANT_ID": self._stage.stand.address.azure.tenant_id,
            "AZURE_FEDERATED_TOKEN_FILE": str(token),
            "AZURE_AUTHORITY_HOST": self._stage.proxy.url("azureml"),
            "TRAINYARD_IMDS_ENDPOINT": self._stage.stand.address.imds,
        }

    def _lend(self) -> str:
        """An identity of the operator's own, by either way."""
        client_id = self._control.add_managed_identity(
            "kept-lent", roles={"workspace": ["AzureML Data Scientist"]}
        ).client_id
        subject = f"system:serviceaccount:{OPERATOR_NAMESPACE}:trainyard"
        self._control.add_federated_credential(client_id, self._stage.stand.cluster.issuer, subject)
        self._control.add_principal("kept-lent", application_id=client_id, **RIGHTS)
        return client_id

    def _applicant(self, name: str, platform: str) -> Applicant:
        """An application of Entra with rights on the platform."""
        if platform == "azureml":
            return Applicant(self._control.add_application(name, roles=ROLES), platform, {})
        client_id = self._control.add_application(name)
        self._control.add_principal(name, application_id=client_id, **RIGHTS)
        entra = {"tenantId": self._stage.stand.address.azure.tenant_id, "cloud": AZURE_CLOUD}
        return Applicant(client_id, platform, {"entra": entra})

    def _oauth_secret(self, who: Applicant) -> Proof:
        value = self._control.add_oauth_secret(who.principal).value
        return _by_secret("DatabricksOAuthSecret", {"client-secret": value}, clientId=who.principal)

    def _personal_token(self, who: Applicant) -> Proof:
        value = self._control.add_personal_access_token(who.principal).value
        return _by_secret("PersonalAccessToken", {"token": value}, allowPersonalAccessToken=True)

    def _entra_secret(self, who: Applicant) -> Proof:
        value = self._control.add_client_secret(who.principal)
        return _by_secret("EntraClientSecret", {"client-secret": value}, clientId=who.principal, **who.entra)

    def _entra_certificate(self, who: Applicant) -> Proof:
        """Past the proxy: what a certificate signs says where it goes, and Entra takes nothing that says otherwise."""
        entra = {"entra": {**who.entra["entra"], "cloud": DIRECT}} if who.entra else {}
        return replace(self._certificate_at_proxy(replace(who, entra=entra)), works=True, refused=False)

    def _certificate_at_proxy(self, who: Applicant) -> Proof:
        """What it signs goes to the proxy, which refuses it; and so does Entra."""
        key = rsa_key(who.principal)
        pem = certificate_pem(key, name=who.principal)
        self._control.add_certificate(who.principal, pem)
        data = {"tls.crt": pem, "tls.key": key_pem(key)}
        made = _by_secret("EntraCertificate", data, clientId=who.principal, **who.entra)
        return replace(made, works=False)

    def _provider_secret(self, who: Applicant) -> Proof:
        value = secrets.token_urlsafe(36)
        self._clients.append(secret_client(who.principal, value))
        return self._by_provider(who, "ClientSecretBasic", {"client-secret": value})

    def _provider_key(self, who: Applicant) -> Proof:
        key = rsa_key(who.principal)
        self._clients.append(key_client(who.principal, ("only", key)))
        return self._by_provider(who, "PrivateKeyJwt", {"private-key": key_pem(key)})

    def _by_provider(self, who: Applicant, authentication: str, data: Mapping[str, str]) -> Proof:
        """A client that is called as the principal that trusts it."""
        if who.platform == "databricks":
            self._control.add_policy(who.principal, self._provider.issuer, who.principal, [AUDIENCE])
        else:
            self._control.add_federated_credential(who.principal, self._provider.issuer, who.principal)
        said = {
            "issuer": self._provider.issuer,
            "clientId": who.principal,
            "principal": who.principal,
            "scope": "train",
        }
        return Proof({"oidc": {**said, "secretName": KEPT, "authentication": authentication}}, "oidc", data)

    def _operators_own(self, mode: str, *, direct: bool = False) -> Callable[[Applicant], Proof]:
        """`direct`: past the proxy, as the metadata service gives tokens of Azure by its own address only."""
        return lambda who: Proof({mode: {"clientId": self._lent, **who.entra}}, refused=not direct)


@dataclass(frozen=True)
class KeptTeam:
    """One of them. A team without a Secret has a ClusterMLWorkspace of the namespace's name lent to it."""

    stage: Stage
    platform: str
    namespace: str
    way: str
    proof: Proof

    def keep(self) -> None:
        """Makes the Secret, which the operator may read."""
        if not self.lent:
            metadata = {"name": KEPT, "annotations": {"trainyard.dev/identity": self.proof.opts_in}}
            data = {key: base64.b64encode(value.encode()).decode() for key, value in self.proof.data.items()}
            body = {"metadata": metadata, "data": data}
            self.stage.call("POST", f"/api/v1/namespaces/{self.namespace}/secrets", body)
            self.stage.stand.allow_secret(self.namespace, KEPT)

    def found(self) -> None:
        """Makes the workspace."""
        host = {"host": self.stage.proxy.url("databricks")} if self.platform == "databricks" else {}
        made = self.stage.drivers[self.platform].workspace(self.namespace, identity=self.proof.identity, **host)
        if not self.proof.refused and self.platform == "azureml":
            made["spec"]["azureML"]["cloud"] = DIRECT
        if self.lent:
            spec = {**made["spec"], "allowedNamespaces": [self.namespace]}
            made |= {"kind": "ClusterMLWorkspace", "metadata": {"name": self.namespace}, "spec": spec}
        self.stage.call("POST", self._workspaces, made)

    @property
    def lent(self) -> bool:
        """Whether it has no Secret."""
        return not self.proof.data

    @property
    def _workspaces(self) -> str:
        return f"{API}/clustermlworkspaces" if self.lent else f"{API}/namespaces/{self.namespace}/mlworkspaces"

    def verdict(self) -> str:
        """What Ready says: True, or the reason why not; empty before that. A ClusterMLWorkspace tests no identity."""
        if self.lent:
            found = self.stage.stand.run(NAME, self.namespace)
        else:
            found = self.stage.call("GET", f"{self._workspaces}/{self.platform}")
        conditions = found.get("status", {}).get("conditions", [])
        return next((_said(each) for each in conditions if each["type"] == "Ready"), "")

    def start(self) -> None:
        """Makes the run."""
        self.stage.drivers[self.platform].pretend(replace(TRAINS, run=f"{self.namespace}/{NAME}"))
        shared = {"kind": "ClusterMLWorkspace", "name": self.namespace}
        reference = {"workspaceRef": shared} if self.lent else {}
        self.stage.stand.apply(training_run(self.platform, self.namespace, NAME, **reference))

    def started(self) -> bool:
        """Whether the run is there."""
        return self.stage.find(f"{API}/namespaces/{self.namespace}/mltrainingruns/{NAME}") is not None

    def phase(self) -> str:
        """The run's phase."""
        return str(self.stage.stand.run(NAME, self.namespace).get("status", {}).get("phase", ""))


def _said(condition: Object) -> str:
    return "True" if condition["status"] == "True" else str(condition["reason"])


def _by_secret(kind: str, data: Mapping[str, str], **more: Any) -> Proof:
    return Proof({"secretRef": {"name": KEPT, "type": kind, **more}}, kind, data)
