"""Right and wrong set-ups of each identity mode: what the doctor says of them is shown in docs/identity.

Each applies the page's own manifest of examples/identity. Used by test_identity_pages.py.
"""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from stand import AUDIENCE, OPERATOR_NAMESPACE, wait_for
from tests.e2e.doctor_bench import CLIENT_ID, Bench
from tests.e2e.scene import Scene
from tests.providers.oidc.provider import key_client, pem_of

SCIENTIST = "AzureML Data Scientist"
INSIDE = "kubernetes.default.svc.cluster.local"


@dataclass(frozen=True)
class Case:
    """What is set up, what of it is examined, and what the operator has to have said of it before."""

    set_up: Callable[[Bench], None]
    workspace: str
    reason: str
    in_pod: bool = False
    other_provider: bool = False

    def said(self, bench: Bench) -> str:
        """What the doctor says of it."""
        self.set_up(bench)
        bench.wait_for(self.workspace, self.reason)
        options = ["--allowed-issuer", bench.provider.issuer] if self.other_provider else []
        return bench.doctor(self.workspace, *options, in_pod=self.in_pod)


def federated_databricks(bench: Bench, audience: str = AUDIENCE) -> None:
    principal = bench.principal(grants={"main": ["USE CATALOG"], "main.wine": ["USE SCHEMA", "CREATE MODEL"]})
    bench.policy(principal, f"system:serviceaccount:{bench.namespace}:trainer", audience)
    bench.apply("federated-databricks.yaml")


def federated_from_a_private_cluster(bench: Bench) -> None:
    """The issuer's documents can not be read from outside, as in a cluster that nobody has opened them in."""
    scene, name = bench.scene, "trainyard-localcluster-issuer-discovery"
    binding = scene.cluster.kubectl("get", "clusterrolebinding", name, "-o", "json").stdout
    kept = {key: json.loads(binding)[key] for key in ("apiVersion", "kind", "roleRef", "subjects")}
    bench.undo += [
        lambda: scene.apply({**kept, "metadata": {"name": name}}),
        lambda: wait_for("the issuer to be public again", lambda: issuer_status(scene) == 200),
        lambda: scene.control.forget_issuer_keys(scene.cluster.issuer),
    ]
    # Such a cluster's issuer is a name of inside, as this one's address is to the operator.
    address = scene.cluster.issuer.removeprefix("https://").partition(":")[0]
    bench.shown(scene.cluster.issuer, f"https://{INSIDE}")
    bench.shown(f"{address} is a name of inside", f"{INSIDE} is a name of inside")
    scene.cluster.kubectl("delete", "clusterrolebinding", name)
    wait_for("the issuer to be hidden", lambda: issuer_status(scene) in (401, 403))
    scene.control.forget_issuer_keys(scene.cluster.issuer)
    federated_databricks(bench)


def issuer_status(scene: Scene) -> int:
    """What somebody without a credential is answered."""
    url = f"{scene.cluster.issuer}/.well-known/openid-configuration"
    return requests.get(url, verify=str(scene.cluster.ca_file), timeout=30).status_code


def federated_azureml(bench: Bench, account: str = "azure-trainer", *roles: str) -> None:
    client_id = bench.application(*roles)
    bench.credential(client_id, f"system:serviceaccount:{bench.namespace}:{account}")
    bench.apply("federated-azureml.yaml")


def federated_entra(bench: Bench, *, added: bool) -> None:
    client_id = bench.application()
    bench.credential(client_id, f"system:serviceaccount:{bench.namespace}:azure-trainer")
    if added:
        bench.scene.control.add_principal(
            "team-wine-trainer", application_id=client_id, entitlements=["workspace-access"]
        )
    bench.apply("federated-entra.yaml")


def azure_workload_identity(bench: Bench, *, injected: bool) -> None:
    client_id = bench.application(SCIENTIST)
    subject = f"system:serviceaccount:{OPERATOR_NAMESPACE}:trainyard"
    bench.credential(client_id, subject)
    bench.apply("azure-workload-identity.yaml", "ClusterMLWorkspace", "azureml")
    bench.environment |= {"AZURE_CLIENT_ID": client_id, "AZURE_TENANT_ID": bench.scene.control.address.azure.tenant_id}
    if injected:
        path = bench.dir / "azure-identity-token"
        words = ["create", "token", "trainyard", "-n", OPERATOR_NAMESPACE, "--audience", "api://AzureADTokenExchange"]
        path.write_text(bench.scene.cluster.kubectl(*words).stdout.strip())
        bench.environment |= {"AZURE_FEDERATED_TOKEN_FILE": str(path)}


def managed_identity(bench: Bench, *, assigned: bool) -> None:
    control = bench.scene.control
    made = control.add_managed_identity(
        f"{bench.namespace}-trainyard", assigned=assigned, roles={"workspace": [SCIENTIST]}
    )
    bench.shown(made.client_id, CLIENT_ID)
    bench.apply("managed-identity.yaml", "ClusterMLWorkspace", "azureml")


def oidc(bench: Bench, audience: str = AUDIENCE) -> None:
    provider = bench.provider
    key = rsa.generate_private_key(65537, 2048)
    provider.configure(clients=[key_client("trainyard", ("trainyard-2026-11", key))], audience=AUDIENCE)
    bench.scene.control.trust_issuer(provider.issuer, provider.ca_file)
    principal = bench.principal()
    bench.policy(principal, "trainyard", audience, issuer=provider.issuer)
    bench.secret("provider-client", "oidc", private_key=pem_of(key).decode(), key_id="trainyard-2026-11")
    bench.apply("oidc-databricks.yaml")


def secret_databricks(bench: Bench, *, days_old: int = 0) -> None:
    principal = bench.principal()
    kept = bench.scene.control.add_oauth_secret(principal)
    bench.secret("databricks-trainer", "DatabricksOAuthSecret", client_id=principal, client_secret=kept.value)
    if days_old:
        changed = f"{datetime.now(UTC) - timedelta(days=days_old):%Y-%m-%dT%H:%M:%SZ}"
        bench.annotate("databricks-trainer", f"trainyard.dev/changed-at={bench.shown(changed, '2026-09-01T09:00:00Z')}")
    bench.apply("secret-ref-databricks.yaml")


def secret_azureml(bench: Bench) -> None:
    client_id = bench.application(SCIENTIST)
    value = bench.scene.control.add_client_secret(client_id)
    bench.secret("azure-trainer", "EntraClientSecret", client_secret=value)
    bench.apply("secret-ref-entra-secret.yaml")


def unknown_certificate(bench: Bench) -> None:
    client_id = bench.application()
    bench.scene.control.add_certificate(client_id, certificate()[0])
    shown, key = certificate()
    bench.shown(thumbprint(shown), "Zm9yIGV4YW1wbGUgb25seS4uLg==")
    metadata = {
        "name": "azure-trainer-certificate",
        "namespace": bench.namespace,
        "annotations": {"trainyard.dev/identity": "EntraCertificate"},
    }
    data = {"tls.crt": shown, "tls.key": key}
    bench.scene.apply(
        {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata, "stringData": data}
    )
    bench.readable("azure-trainer-certificate")
    bench.apply("secret-ref-entra-certificate.yaml")


def certificate() -> tuple[str, str]:
    """A certificate that has just been made, and its key (PEM)."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "team-wine-trainer")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=60))
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM).decode()
    return pem, pem_of(key).decode()


def thumbprint(pem: str) -> str:
    """What Entra calls a certificate by."""
    digest = x509.load_pem_x509_certificate(pem.encode()).fingerprint(hashes.SHA1())
    return base64.urlsafe_b64encode(digest).decode()


CASES: Mapping[str, Case] = {
    "federated-databricks-right": Case(federated_databricks, "databricks", "IdentityWorks"),
    "federated-databricks-wrong": Case(
        lambda bench: federated_databricks(bench, "databricks"), "databricks", "AudienceNotAccepted"
    ),
    "federated-private-wrong": Case(federated_from_a_private_cluster, "databricks", "TokenExchangeRefused"),
    "federated-azureml-right": Case(
        lambda bench: federated_azureml(bench, "azure-trainer", SCIENTIST), "azureml", "IdentityWorks"
    ),
    "federated-azureml-wrong": Case(
        lambda bench: federated_azureml(bench, "trainer", SCIENTIST), "azureml", "SubjectNotTrusted"
    ),
    "federated-azureml-role-wrong": Case(federated_azureml, "azureml", "PermissionDenied"),
    "federated-entra-right": Case(lambda bench: federated_entra(bench, added=True), "databricks", "IdentityWorks"),
    "federated-entra-wrong": Case(lambda bench: federated_entra(bench, added=False), "databricks", "PermissionDenied"),
    "azure-workload-identity-right": Case(
        lambda bench: azure_workload_identity(bench, injected=True), "azureml", "HostAllowed", in_pod=True
    ),
    "azure-workload-identity-wrong": Case(
        lambda bench: azure_workload_identity(bench, injected=False), "azureml", "HostAllowed", in_pod=True
    ),
    "managed-identity-right": Case(
        lambda bench: managed_identity(bench, assigned=True), "azureml", "HostAllowed", in_pod=True
    ),
    "managed-identity-wrong": Case(
        lambda bench: managed_identity(bench, assigned=False), "azureml", "HostAllowed", in_pod=True
    ),
    "oidc-right": Case(oidc, "databricks", "IdentityWorks", other_provider=True),
    "oidc-wrong": Case(
        lambda bench: oidc(bench, "databricks"), "databricks", "AudienceNotAccepted", other_provider=True
    ),
    "secret-ref-databricks-right": Case(secret_databricks, "databricks", "IdentityWorks"),
    "secret-ref-databricks-wrong": Case(
        lambda bench: secret_databricks(bench, days_old=90), "databricks", "SecretTooOld"
    ),
    "secret-ref-azureml-right": Case(secret_azureml, "azureml", "IdentityWorks"),
    "secret-ref-certificate-wrong": Case(unknown_certificate, "databricks", "CertificateUnknown"),
}
