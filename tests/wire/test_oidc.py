"""Mode oidc against a certified provider that really runs, and platforms that look up its keys."""

import pytest

from tests.wire.oidc import World, cloud, provider, provider_process, vault, world

__all__ = ["cloud", "provider", "provider_process", "vault", "world"]

BOTH = pytest.mark.parametrize("platform", ["databricks", "azureml"])


@BOTH
def test_the_token_of_a_client_with_a_secret_works_on_the_platform(world: World, platform: str) -> None:
    principal = world.federate(platform)
    assert world.whoami(platform).principal == principal
