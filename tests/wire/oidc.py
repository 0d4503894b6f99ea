"""Another provider's tokens on the wire: a certified provider, the sandbox that trusts it, and a Secret in memory."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.providers.oidc.provider import Provider, secret_client, serve_provider
from tests.wire.azureml import cloud
from tests.wire.conftest import Clock, Trail
from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.core.errors import IdentityError
from trainyard.core.snapshot import Target
from trainyard.identity.base import SecretData, SecretRef, ServiceAccountRef
from trainyard.identity.broker import Broker
from trainyard.identity.clouds import Cloud
from trainyard.identity.hosts import HostPolicy
from trainyard.identity.modes import IdentitySettings, modes
from trainyard.identity.secret_reading import OPT_IN
from trainyard.platforms.base import Account
from trainyard.platforms.registry import platform_named
from trainyard_sandbox.client import SandboxControl

__all__ = ["Vault", "World", "cloud", "provider", "provider_process", "vault", "world"]

NAMESPACE, SECRET, CLIENT = "team-a", "okta-client", "service:app+1"
# With everything that Basic authentication mangles unless it is encoded first.
CLIENT_SECRET = "s3cret: +%2B/~ 0123456789"
AUDIENCES = {"databricks": "https://trainyard.test/oidc", "azureml": "api://AzureADTokenExchange"}


@pytest.fixture(scope="session")
def provider_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with serve_provider(tmp_path_factory.mktemp("provider")) as running:
        yield running


@pytest.fixture
def provider(provider_process: Provider) -> Provider:
    """The provider with one client, which has a secret."""
    provider_process.configure(clients=[secret_client(CLIENT, CLIENT_SECRET)])
    return provider_process


class Vault:
    """A cluster with one Secret. Nothing of this mode asks for a ServiceAccount."""

    def __init__(self) -> None:
        self.noted: dict[str, str] = {OPT_IN: "oidc"}
        self.data: dict[str, bytes] = {"client-secret": CLIENT_SECRET.encode() + b"\n"}
        self.read: list[SecretRef] = []

    def secret_data(self, secret: SecretRef) -> SecretData:
        self.read.append(secret)
        if secret != SecretRef(NAMESPACE, SECRET):
            raise IdentityError("no such Secret", reason="SecretNotFound", waiting=True)
        return SecretData(self.noted, dict(self.data), datetime(2026, 1, 1, tzinfo=UTC))

    def annotations(self, account: ServiceAccountRef) -> Mapping[str, str]:
        raise AssertionError(f"{account} has nothing to do with it")

    def request_token(self, account: ServiceAccountRef, audience: str, seconds: int) -> str:
        raise AssertionError(f"{account} has nothing to do with it")


@pytest.fixture
def vault() -> Vault:
    return Vault()


class World:
    """What one workspace's identity does, from its spec to the platform's answer."""

    def __init__(
        self, provider: Provider, control: SandboxControl, vault: Vault, audit: Trail, clock: Clock, cloud: Cloud
    ) -> None:
        self.provider, self.control, self.vault, self.audit, self.clock = provider, control, vault, audit, clock
        self.cloud = cloud
        self.principals: dict[str, str] = {}
        self.allow(provider.issuer)

    def allow(self, *issuers: str, token_hosts: tuple[str, ...] = ()) -> None:
        """An operator that is started with these --allowed-issuer."""
        hosts = HostPolicy([self.control.address.host.removeprefix("https://")])
        settings = IdentitySettings(allowed_issuers=issuers, issuer_token_hosts=token_hosts)
        self.broker = Broker(hosts, modes(self.vault, hosts, self.audit.log, settings, self.clock))

    def federate(self, platform: str, subject: str = CLIENT) -> str:
        """A principal of the platform that trusts the provider's tokens with this subject; the provider's tokens are
        for that platform from now on."""
        self.provider.change(audience=AUDIENCES[platform])
        issuer = self.provider.issuer
        self.control.trust_issuer(issuer, self.provider.ca_file)
        if platform == "databricks":
            made = self.control.add_principal("okta", entitlements=["workspace-access"])
            self.control.add_policy(made, issuer, subject, [AUDIENCES[platform]])
        else:
            made = self.control.add_application("okta", roles={"workspace": ["AzureML Data Scientist"]})
            self.control.add_federated_credential(made, issuer, subject)
        self.principals[platform] = made
        return made

    def workspace(self, platform: str, **fields: Any) -> MLWorkspaceSpec:
        """A workspace whose identity is the provider's client; a field that is None is left out."""
        oidc = {
            "issuer": self.provider.issuer,
            "clientId": CLIENT,
            "secretName": SECRET,
            "authentication": "ClientSecretBasic",
            "principal": self.principals.get(platform, "nobody"),
            **fields,
        }
        azure = self.control.address.azure
        where: dict[str, Any] = {"databricks": {"host": self.control.address.host}}
        if platform == "azureml":
            where = {
                "azureML": {
                    "subscriptionId": azure.subscription_id,
                    "resourceGroup": azure.resource_group,
                    "workspaceName": azure.workspace_name,
                    "tenantId": azure.tenant_id,
                    "cloud": self.cloud.name,
                }
            }
        given = {name: value for name, value in oidc.items() if value is not None}
        return MLWorkspaceSpec.model_validate({**where, "identity": {"oidc": given}, "computeClasses": {}})

    def target(self, platform: str, **fields: Any) -> Target:
        """Where an attempt would go and as whom."""
        return self.broker.target(self.workspace(platform, **fields), NAMESPACE)

    def connect(self, platform: str, **fields: Any) -> Callable[[], Account]:
        """Asks the platform who the workspace's identity is, each time it is called."""
        target = self.target(platform, **fields)
        connection = platform_named(platform).connect(
            target, lambda scope: self.broker.source(target, NAMESPACE, scope), self.audit.log
        )
        return connection.whoami

    def whoami(self, platform: str, **fields: Any) -> Account:
        """Who the platform says that the workspace's identity is."""
        return self.connect(platform, **fields)()


@pytest.fixture
def world(
    provider: Provider,
    control: SandboxControl,
    vault: Vault,
    audit: Trail,
    clock: Clock,
    cloud: Cloud,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    bundle = tmp_path / "cas.pem"
    bundle.write_bytes(control.address.ca_file.read_bytes() + provider.ca_file.read_bytes())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    return World(provider, control, vault, audit, clock, cloud)
