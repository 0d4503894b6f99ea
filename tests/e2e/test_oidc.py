"""Another provider's client speaks for a team: a certified provider, a real API server, an operator with one issuer."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from stand import Stand, Team
from tests.e2e.conftest import FLAGS
from tests.e2e.scene import Scene
from tests.platforms import on_every_platform
from tests.platforms.base import FOREVER
from tests.providers.oidc.provider import Provider, secret_client, serve_provider

pytestmark = on_every_platform

CLIENT, KEPT = "team-client", "provider-client"
AUDIENCES = {"databricks": "api://trainyard-databricks", "azureml": "api://AzureADTokenExchange"}


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with serve_provider(tmp_path_factory.mktemp("provider")) as running:
        yield running


@pytest.fixture(scope="module")
def operated(pretending: Stand, provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """An operator that was started with the provider as the one issuer that it may ask."""
    bundle = tmp_path_factory.mktemp("authorities") / "ca.pem"
    bundle.write_bytes(pretending.address.ca_file.read_bytes() + provider.ca_file.read_bytes())
    flags, env = {**FLAGS, "allowed_issuer": provider.issuer}, {"REQUESTS_CA_BUNDLE": str(bundle)}
    operator = pretending.operator("oidc", env=env, **flags)
    try:
        yield Scene(pretending, operator, "oidc", flags, env=env)
        operator.check()
    finally:
        operator.stop()


@pytest.fixture
def scene(operated: Scene, platform_name: str) -> Iterator[Scene]:
    operated.operator.check()
    yield operated.on(platform_name)
    operated.clean()


@dataclass
class Client:
    """A team's client at the provider, whom the team's principal trusts, and the Secret that it proves itself by."""

    scene: Scene
    provider: Provider
    team: Team

    def known_by(self, secret: str) -> None:
        """The provider knows it by that secret, and by no other."""
        audience = AUDIENCES[self.scene.platform.name]
        self.provider.configure(clients=[secret_client(CLIENT, secret)], audience=audience)

    def keeps(self, secret: str) -> None:
        """What the Secret holds now."""
        metadata = {"name": KEPT, "namespace": self.team.namespace, "annotations": {"trainyard.dev/identity": "oidc"}}
        data = {"client-secret": base64.b64encode(secret.encode()).decode()}
        self.scene.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})

    def workspace(self) -> None:
        """The team's workspace, in which it speaks."""
        oidc = {
            "issuer": self.provider.issuer,
            "clientId": CLIENT,
            "secretName": KEPT,
            "authentication": "ClientSecretBasic",
            "scope": "train",
            "principal": self.team.principal,
        }
        self.scene.apply(self.scene.platform.workspace(self.team.namespace, identity={"oidc": oidc}))

    def refuse_its_tokens(self) -> None:
        """The platform takes none of its tokens any more, as if they had been revoked."""
        if self.scene.platform.name == "databricks":
            self.scene.control.expire_tokens(self.team.principal)
        else:
            self.scene.control.expire_azure_tokens(self.team.principal)


@pytest.fixture
def client(scene: Scene, provider: Provider) -> Client:
    team = scene.platform.newcomer(scene.namespace())
    scene.control.trust_issuer(provider.issuer, provider.ca_file)
    if scene.platform.name == "databricks":
        scene.control.add_policy(team.principal, provider.issuer, CLIENT, [AUDIENCES["databricks"]])
    else:
        scene.control.add_federated_credential(team.principal, provider.issuer, CLIENT)
    scene.stand.allow_secret(team.namespace, KEPT)
    made = Client(scene, provider, team)
    made.known_by("the-first-secret-0123456789")
    made.keeps("the-first-secret-0123456789")
    return made


def test_a_run_is_the_providers_clients_and_no_service_account_is_asked_for_a_token(
    scene: Scene, client: Client
) -> None:
    client.workspace()
    scene.workspace(client.team.namespace, "IdentityWorks")
    run = scene.run(client.team).until("Succeeded")
    assert run.only_remote().creator == client.team.principal
    [attempt] = run.status["attempts"]
    assert (attempt["mode"], attempt["principal"]) == ("oidc", client.team.principal)
    asked = scene.api_requests(client.team.namespace)
    assert [each for each in asked if each["objectRef"].get("subresource") == "token"] == []
    looked = {(each["verb"], each["objectRef"]["name"]) for each in asked if each["objectRef"]["resource"] == "secrets"}
    assert looked == {("get", KEPT)}


def test_a_run_is_stopped_with_a_secret_that_was_rotated_while_it_was_under_way(scene: Scene, client: Client) -> None:
    scene.platform.pretend(FOREVER)
    client.workspace()
    run = scene.run(client.team).until("Running")
    client.known_by("the-second-secret-0123456789")
    client.keeps("the-second-secret-0123456789")
    client.refuse_its_tokens()
    run.change(cancel=True)
    run.until("Cancelled")
    assert run.only_remote().result == "cancelled"


def test_a_secret_that_the_provider_refuses_stalls_the_workspace_before_anything_is_submitted(
    scene: Scene, client: Client
) -> None:
    client.keeps("a-wrong-secret-0123456789")
    client.workspace()
    said = scene.workspace(client.team.namespace, "ProviderRefusedClient")
    assert KEPT in said["message"]
    assert "a-wrong-secret" not in said["message"]
    run = scene.run(client.team).because("WorkspaceNotReady")
    assert run.remote() == []
    assert "wrong-secret" not in scene.operator.log.read_text()
