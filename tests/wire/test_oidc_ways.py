"""Another provider's token on the other ways to Databricks: a federation policy of the account, and Entra."""

import uuid
from collections.abc import Iterator

import pytest

from tests.providers.oidc.provider import secret_client
from tests.wire.oidc import (
    AUDIENCES,
    CLIENT_SECRET,
    NAMESPACE,
    World,
    cloud,
    provider,
    provider_process,
    vault,
    world,
)
from trainyard.core.errors import IdentityError

__all__ = ["cloud", "provider", "provider_process", "vault", "world"]

TOKEN = "/oidc/v1/token"


@pytest.fixture
def client(world: World) -> Iterator[str]:
    """A client of the provider that is called as the service principal, and the account's policy for its tokens."""
    name = str(uuid.uuid4())
    world.provider.configure(clients=[secret_client(name, CLIENT_SECRET)], audience=AUDIENCES["databricks"])
    world.control.trust_issuer(world.provider.issuer, world.provider.ca_file)
    world.control.add_principal("okta", application_id=name, entitlements=["workspace-access"])
    made = world.control.add_policy(None, world.provider.issuer, None, [AUDIENCES["databricks"]])
    world.control.clear_requests()
    yield name
    world.control.remove_policy(made)


def test_the_account_finds_the_principal_that_the_workspace_names(world: World, client: str) -> None:
    told = world.whoami("databricks", clientId=client, principal=client, policy="Account")
    assert told.principal == client


def test_nothing_is_asked_as_anybody_but_the_principal_that_the_workspace_names(world: World, client: str) -> None:
    named = world.control.add_principal("named", entitlements=["workspace-access"])
    target = world.target("databricks", clientId=client, principal=named, policy="Account")
    with pytest.raises(IdentityError) as refused:
        world.broker.source(target, NAMESPACE, "").token()
    assert refused.value.reason == "ClientIdMismatch"
    assert client in refused.value.message
    assert named in refused.value.message
    asked = [each["path"] for each in world.control.requests() if each["principal"] == client]
    assert set(asked) <= {TOKEN, "/api/2.0/preview/scim/v2/Me"}


def test_without_the_policy_the_account_is_not_asked(world: World, client: str) -> None:
    """A policy of the principal's own is looked for, and there is none."""
    target = world.target("databricks", clientId=client, principal=client)
    with pytest.raises(IdentityError) as refused:
        world.broker.source(target, NAMESPACE, "").token()
    assert refused.value.reason != "ClientIdMismatch"


def test_databricks_takes_a_token_of_entra_that_the_provider_vouched_for(world: World) -> None:
    application = world.federate("azureml")
    world.control.add_principal("okta", application_id=application, entitlements=["workspace-access"])
    world.control.clear_requests()
    entra = {"tenantId": world.control.address.azure.tenant_id, "cloud": world.cloud.name}
    assert world.whoami("databricks", principal=application, entra=entra).principal == application
    assert world.control.requests(path=TOKEN) == []
