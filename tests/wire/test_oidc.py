"""Mode oidc against a certified provider that really runs, and platforms that look up its keys."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.providers.oidc.provider import key_client, pem_of, secret_client
from tests.wire.oidc import (
    AUDIENCES,
    CLIENT,
    CLIENT_SECRET,
    NAMESPACE,
    SECRET,
    World,
    cloud,
    provider,
    provider_process,
    vault,
    world,
)
from trainyard.core.errors import IdentityError, TrainyardError, Unreachable
from trainyard.identity.assertion import Assertion
from trainyard.identity.base import SecretRef, TokenSource
from trainyard.identity.oidc import ProviderClient

__all__ = ["cloud", "provider", "provider_process", "vault", "world"]

BOTH = pytest.mark.parametrize("platform", ["databricks", "azureml"])


def failure(call: Callable[..., object], *arguments: Any, **named: Any) -> TrainyardError:
    with pytest.raises(TrainyardError) as raised:
        call(*arguments, **named)
    return raised.value


def source(world: World, platform: str = "databricks", **fields: Any) -> TokenSource:
    """A source of the workspace's tokens; of Azure ML, for Azure Resource Manager."""
    target = world.target(platform, **fields)
    scope = world.cloud.arm_scope if platform == "azureml" else ""
    return world.broker.source(target, NAMESPACE, scope)


def asked(world: World, path: str) -> list[dict[str, Any]]:
    """What the provider was asked there, from the audit log."""
    host = world.provider.issuer.split("/")[2]
    return [
        record
        for record in world.audit.records()
        if record["event"] == "request" and record["host"] == host and record["path"].endswith(path)
    ]


# --- what works


@BOTH
def test_the_token_of_a_client_with_a_secret_works_on_the_platform(world: World, platform: str) -> None:
    principal = world.federate(platform)
    assert world.whoami(platform).principal == principal
    assert set(world.vault.read) == {SecretRef(NAMESPACE, SECRET)}
    if platform == "azureml":
        assert {token["client_id"] for token in world.control.azure_tokens()} >= {principal}


@BOTH
@pytest.mark.parametrize("kind", ["RSA", "EC"])
def test_the_token_of_a_client_that_signs_works_on_the_platform(world: World, platform: str, kind: str) -> None:
    principal = world.federate(platform)
    key = rsa.generate_private_key(65537, 2048) if kind == "RSA" else ec.generate_private_key(ec.SECP256R1())
    # Two keys at the provider, as in the middle of a rotation: kid says which.
    other = rsa.generate_private_key(65537, 2048) if kind == "RSA" else ec.generate_private_key(ec.SECP256R1())
    world.provider.change(clients=[key_client(CLIENT, ("other", other), ("key-1", key))])
    world.vault.data = {"private-key": pem_of(key)}
    assert world.whoami(platform, authentication="PrivateKeyJwt", keyId="key-1").principal == principal
    named = {"authentication": "PrivateKeyJwt", "keyId": "key-1", "assertionAudience": "Issuer"}
    assert world.whoami(platform, **named).principal == principal


def test_a_token_that_databricks_finds_signed_by_es256_works(world: World) -> None:
    principal = world.federate("databricks")
    world.provider.change(keys=[{"kid": "curve", "alg": "ES256"}, {"kid": "first", "alg": "RS256"}], alg="ES256")
    assert world.whoami("databricks").principal == principal


def test_scope_and_audience_are_what_the_workspace_says(world: World) -> None:
    principal = world.federate("databricks")
    world.provider.change(audience="https://elsewhere.example", resources=[AUDIENCES["databricks"]])
    error = failure(world.whoami, "databricks")
    assert "https://elsewhere.example" in error.message
    assert world.whoami("databricks", scope="train", audience=AUDIENCES["databricks"]).principal == principal


def test_many_cold_threads_ask_the_provider_once(world: World) -> None:
    world.federate("databricks")
    tokens = source(world)
    world.vault.read.clear()
    values: list[str] = []
    threads = [threading.Thread(target=lambda: values.append(tokens.token().value)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(values) == 16
    assert len(set(values)) == len(asked(world, "/token")) == len(world.vault.read) == 1


def test_discovery_is_not_repeated_for_each_token(world: World) -> None:
    world.federate("databricks")
    tokens = source(world)
    tokens.token()
    tokens.forget()
    tokens.token()
    assert (len(asked(world, "/token")), len(asked(world, "/openid-configuration"))) == (2, 1)
    world.clock.ahead = timedelta(hours=2)
    failure(tokens.token)  # by that clock the provider's tokens are over; it is asked anew all the same
    assert len(asked(world, "/openid-configuration")) == 2


# --- rotation


@BOTH
def test_a_rotated_client_secret_is_used_at_the_next_mint(world: World, platform: str) -> None:
    principal = world.federate(platform)
    whoami = world.connect(platform)
    assert whoami().principal == principal
    world.provider.change(clients=[secret_client(CLIENT, "another-secret-0123456789")])
    refused = source(world, platform)
    refused.forget()
    error = failure(refused.token)
    assert error.reason == "ProviderRefusedClient"
    assert SECRET in error.message
    world.vault.data["client-secret"] = b"another-secret-0123456789"
    world.clock.ahead = timedelta(seconds=10)
    assert refused.token().value
    assert whoami().principal == principal


@BOTH
def test_a_client_whose_key_is_rotated_is_spoken_for_by_what_was_pinned_before(world: World, platform: str) -> None:
    """A run that was started with the old key has to be followed, and may have to be stopped."""
    world.federate(platform)
    old, new = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    world.provider.change(clients=[key_client(CLIENT, ("old", old))])
    world.vault.data = {"private-key": pem_of(old), "key-id": b"old\n"}
    tokens = source(world, platform, authentication="PrivateKeyJwt")
    first = tokens.token()
    world.provider.change(clients=[key_client(CLIENT, ("new", new))])
    world.vault.data = {"private-key": pem_of(new), "key-id": b"new\n"}
    tokens.forget()
    assert tokens.token().value != first.value


@BOTH
def test_the_providers_new_key_is_believed_and_its_revoked_one_is_not(
    world: World, platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The platform looks up the keys again when a token names one that it does not know."""
    world.federate(platform)
    taken: list[Assertion] = []
    assertion = ProviderClient.assertion

    def noted(client: ProviderClient) -> Assertion:
        taken.append(assertion(client))
        return taken[-1]

    monkeypatch.setattr(ProviderClient, "assertion", noted)
    tokens = source(world, platform)
    assert tokens.token().value
    world.provider.change(keys=[{"kid": f"second-{platform}", "alg": "RS256"}])
    world.control.trust_issuer(world.provider.issuer, world.provider.ca_file)
    tokens.forget()
    assert tokens.token().value
    assert len(taken) == 2

    monkeypatch.setattr(ProviderClient, "assertion", lambda client: taken[0])
    revoked = source(world, platform, keyId="unused")
    error = failure(revoked.token)
    assert error.reason == "SignatureRefused"
    assert "first" in error.message
    assert taken[0].value not in error.message


# --- what the provider refuses


def test_an_unknown_client_and_a_wrong_secret_are_told_with_the_secret_to_correct(world: World) -> None:
    world.federate("databricks")
    world.vault.data["client-secret"] = b"wrong-secret-9876543210"
    wrong = failure(world.whoami, "databricks")
    unknown = failure(world.whoami, "databricks", clientId="nobody-knows")
    for error, client in ((wrong, CLIENT), (unknown, "nobody-knows")):
        assert isinstance(error, IdentityError)
        assert (error.reason, error.waiting) == ("ProviderRefusedClient", False)
        assert client in error.message
        assert SECRET in error.message
        assert "wrong-secret" not in error.message


def test_a_key_that_the_provider_does_not_know_is_refused(world: World) -> None:
    world.federate("databricks")
    world.provider.change(clients=[key_client(CLIENT, ("key-1", rsa.generate_private_key(65537, 2048)))])
    world.vault.data = {"private-key": pem_of(rsa.generate_private_key(65537, 2048))}
    error = failure(world.whoami, "databricks", authentication="PrivateKeyJwt", keyId="key-1")
    assert error.reason == "ProviderRefusedClient"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"scope": "deploy"}, "identity.oidc.scope"),
        ({"audience": "https://unknown.example"}, "identity.oidc.audience"),
    ],
)
def test_a_scope_or_audience_that_the_provider_refuses_is_told_with_its_field(
    world: World, fields: dict[str, str], told: str
) -> None:
    world.federate("databricks")
    client = secret_client(CLIENT, CLIENT_SECRET) | {"scope": "train"}
    world.provider.change(scopes=["train", "deploy"], clients=[client])
    error = failure(world.whoami, "databricks", **fields)
    assert error.reason == "ProviderRefusedRequest"
    assert told in error.message


def test_a_way_that_the_provider_does_not_take_is_told_before_the_secret_is_read(world: World) -> None:
    world.federate("databricks")
    world.provider.change(methods=["private_key_jwt"], clients=[])
    tokens = source(world)
    world.vault.read.clear()
    error = failure(tokens.token)
    assert error.reason == "ClientAuthenticationUnsupported"
    assert world.vault.read == []


# --- what is not sent on


@BOTH
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"audience": None}, "no JWT"),
        ({"audience": "kubernetes"}, "API server"),
        ({"audience": "https://kubernetes.default.svc"}, "API server"),
    ],
)
def test_a_token_that_no_platform_should_see_does_not_reach_it(
    world: World, platform: str, settings: dict[str, Any], told: str
) -> None:
    world.federate(platform)
    world.provider.change(**settings)
    world.control.clear_requests()
    error = failure(source(world, platform).token)
    assert error.reason == "AssertionUnusable"
    assert told in error.message
    assert [each for each in world.control.requests() if each["method"] == "POST"] == []


def test_entra_is_not_sent_a_token_for_databricks(world: World) -> None:
    world.federate("azureml")
    world.provider.change(audience=AUDIENCES["databricks"])
    world.control.clear_requests()
    error = failure(source(world, "azureml").token)
    assert error.reason == "AssertionUnusable"
    assert AUDIENCES["azureml"] in error.message
    assert world.control.requests() == []


def test_a_token_that_is_over_by_our_clock_is_told_as_such(world: World) -> None:
    world.federate("databricks")
    tokens = source(world)
    world.clock.ahead = timedelta(hours=1)
    assert failure(tokens.token).reason == "ClockSkew"


@BOTH
def test_a_principal_that_trusts_another_subject_is_told_with_what_it_needs(world: World, platform: str) -> None:
    world.federate(platform, subject="another-client")
    error = failure(world.whoami, platform)
    assert error.reason in ("SubjectNotTrusted", "TokenExchangeRefused")  # Databricks does not tell what differs
    for needed in (world.provider.issuer, CLIENT, AUDIENCES[platform]):
        assert needed in error.message


# --- who may


def test_no_secret_is_read_for_an_issuer_that_is_not_allowed(world: World) -> None:
    world.federate("databricks")
    world.allow("https://other.example")
    error = failure(world.target, "databricks")
    assert error.reason == "IssuerNotAllowed"
    assert "--allowed-issuer" in error.message
    assert world.vault.read == []
    assert world.audit.records() == []


def test_an_attempt_of_an_operator_with_other_flags_is_not_spoken_for_either(world: World) -> None:
    world.federate("databricks")
    target = world.target("databricks")
    world.vault.read.clear()
    world.allow()
    error = failure(world.broker.source(target, NAMESPACE, "").token)
    assert error.reason == "IssuerNotAllowed"
    assert world.vault.read == []
    assert asked(world, "") == []


@pytest.mark.parametrize("noted", [{}, {"trainyard.dev/identity": "EntraClientSecret"}])
def test_a_secret_that_has_not_opted_in_is_not_used(world: World, noted: dict[str, str]) -> None:
    world.federate("databricks")
    target = world.target("databricks")
    world.vault.noted = noted
    assert failure(world.broker.source(target, NAMESPACE, "").token).reason == "SecretNotOptedIn"
    assert asked(world, "/token") == []
    world.allow(world.provider.issuer)  # who opts in is asked for once in a while; this operator has not asked yet
    error = failure(world.target, "databricks")
    assert isinstance(error, IdentityError)
    assert (error.reason, error.waiting) == ("SecretNotOptedIn", True)
    assert "trainyard.dev/identity=oidc" in error.message


def test_the_secret_is_one_of_the_namespace_that_asks(world: World) -> None:
    world.federate("databricks")
    error = failure(world.broker.target, world.workspace("databricks"), "team-b")
    assert error.reason == "SecretNotFound"
    assert world.vault.read == [SecretRef("team-b", SECRET)]


# --- what is told of it


@BOTH
def test_a_sign_in_is_on_record_without_a_secret(world: World, platform: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    principal = world.federate(platform)
    tokens = source(world, platform)
    token = tokens.token()
    told = dict(tokens.describe())
    assert told == {"principal": principal, "mode": "oidc", "secret": f"{NAMESPACE}/{SECRET}"}
    [request] = asked(world, "/token")
    assert {name: request[name] for name in told} == told
    assert token.assertion_jti
    exchange = [record for record in world.audit.records() if record.get("assertion_jti") == token.assertion_jti]
    assert len(exchange) == 1
    world.vault.data["client-secret"] = b"wrong-secret-9876543210"
    tokens.forget()
    error = failure(tokens.token)
    text = world.audit.stream.getvalue() + caplog.text + repr(token) + repr(error) + str(error)
    for secret in (CLIENT_SECRET, token.value, "wrong-secret"):
        assert secret not in text
    assert "eyJ" not in text


def test_a_provider_that_is_down_is_unreachable_in_bounded_time(world: World, unused_tcp_port: int) -> None:
    world.federate("databricks")
    issuer = f"https://localhost:{unused_tcp_port}/oauth2/default"
    world.allow(issuer)
    began = time.monotonic()
    error = failure(world.whoami, "databricks", issuer=issuer)
    assert type(error) is Unreachable
    assert f"localhost:{unused_tcp_port}" in error.message
    assert time.monotonic() - began < 10
