"""The mode secretRef at Databricks on the wire: OAuth secrets and personal access tokens, rotated and refused."""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.vault import Vault
from tests.wire.conftest import BOUNDS, Clock, Trail
from trainyard.api.identity import SECRET_REF, Identity
from trainyard.audit.transport import Bounds
from trainyard.core.errors import Denied, IdentityError, Throttled, TrainyardError, Unreachable
from trainyard.core.snapshot import Target
from trainyard.identity.base import TokenSource
from trainyard.identity.hosts import HostPolicy
from trainyard.identity.secret_ref import SecretMode
from trainyard.identity.whoami import ME
from trainyard.platforms.databricks.connection import DatabricksConnection
from trainyard_sandbox.client import SandboxControl

TOKEN = "/oidc/v1/token"
OAUTH, PERSONAL = "DatabricksOAuthSecret", "PersonalAccessToken"
ADA = "ada@example.com"
WAITS_FOR_MLFLOW = Bounds(read=60.0, total=90.0)
Source = Callable[..., TokenSource]
Connect = Callable[[TokenSource, str], DatabricksConnection]


@pytest.fixture
def principal(control: SandboxControl) -> str:
    """A service principal that nothing federates."""
    return control.add_principal("trainer", entitlements=["workspace-access"])


@pytest.fixture
def vault(control: SandboxControl, principal: str) -> Vault:
    return Vault(OAUTH, client_id=principal, client_secret=control.add_oauth_secret(principal).value + "\n")


@pytest.fixture
def personal(control: SandboxControl) -> Vault:
    """A Secret with Ada's token."""
    control.change_user(ADA, entitlements=["workspace-access"])
    return Vault(PERSONAL, token=control.add_personal_access_token(ADA).value + "\n")


@pytest.fixture
def source(control: SandboxControl, audit: Trail, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Source:
    """A token source by the vault's one Secret: `source(vault, principal)`."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(control.address.ca_file))
    control.clear_requests()

    def build(vault: Vault, principal: str, *, allowed: str | None = None) -> TokenSource:
        hosts = HostPolicy([allowed or control.address.host.removeprefix("https://")])
        mode = SecretMode(vault, hosts, audit.log, clock, BOUNDS)
        return mode.source(target(control, vault, principal), "team-a", "")

    return build


@pytest.fixture
def connect(control: SandboxControl, audit: Trail) -> Callable[[TokenSource, Vault], DatabricksConnection]:
    def build(tokens: TokenSource, vault: Vault) -> DatabricksConnection:
        pinned = target(control, vault, tokens.describe()["principal"])
        return DatabricksConnection(pinned, tokens, audit.log, WAITS_FOR_MLFLOW)

    return build


def target(control: SandboxControl, vault: Vault, principal: str) -> Target:
    kind = vault.annotations["trainyard.dev/identity"]
    given: dict[str, Any] = {"name": "kept", "type": kind, "allowPersonalAccessToken": True}
    identity = Identity.model_validate({SECRET_REF: given})
    return Target("databricks", control.address.host, principal, SECRET_REF, "", identity=identity)


def failure(tokens: TokenSource) -> TrainyardError:
    with pytest.raises(TrainyardError) as raised:
        tokens.token()
    return raised.value


def clear(told: str, *secrets: str) -> None:
    """No part of any of them is told."""
    for secret in secrets:
        for part in (secret, *secret.split(".")):
            assert part[:24] not in told


# OAuth secrets.


def test_an_oauth_secret_brings_a_token_that_works(
    source: Source, connect: Any, vault: Vault, principal: str, control: SandboxControl
) -> None:
    tokens = source(vault, principal)
    assert connect(tokens, vault).whoami().principal == principal
    assert tokens.token() == tokens.token()
    assert len(control.requests(path=TOKEN)) == 1
    assert len(vault.read) == 1


def test_many_cold_threads_read_the_secret_once(
    source: Source, vault: Vault, principal: str, control: SandboxControl
) -> None:
    tokens = source(vault, principal)
    values: list[str] = []
    threads = [threading.Thread(target=lambda: values.append(tokens.token().value)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(values), len(set(values))) == (16, 1)
    assert (len(control.requests(path=TOKEN)), len(vault.read)) == (1, 1)


def test_a_rotated_secret_is_used_at_the_next_mint(
    source: Source, vault: Vault, principal: str, control: SandboxControl, clock: Clock
) -> None:
    first = control.add_oauth_secret(principal)
    vault.put(client_secret=first.value)
    tokens = source(vault, principal)
    old = tokens.token()
    control.revoke_oauth_secret(first.credential_id)
    vault.put(client_secret=control.add_oauth_secret(principal).value)
    assert tokens.token() == old
    clock.ahead = timedelta(seconds=3600 * 0.85)
    assert tokens.token() != old
    assert len(vault.read) == 2


def test_a_rotated_secret_is_used_after_a_401(
    source: Source, connect: Any, vault: Vault, principal: str, control: SandboxControl
) -> None:
    tokens = source(vault, principal)
    connection = connect(tokens, vault)
    connection.whoami()
    vault.put(client_secret=control.add_oauth_secret(principal).value)
    assert control.expire_tokens(principal) == 1
    assert connection.whoami().principal == principal
    assert len(vault.read) == 2


def test_a_secret_that_is_too_old_brings_no_token_and_the_live_one_lives_on(
    source: Source, vault: Vault, principal: str, control: SandboxControl, clock: Clock
) -> None:
    vault.changed_at = clock() - timedelta(days=30) + timedelta(minutes=10)
    tokens = source(vault, principal)
    token = tokens.token()
    clock.ahead = timedelta(minutes=55)
    assert tokens.token() == token
    clock.ahead = timedelta(minutes=61)
    assert failure(tokens).reason == "SecretTooOld"
    assert len(control.requests(path=TOKEN)) == 1


@pytest.mark.parametrize("wrong", ["value", "revoked", "expired", "principal"])
def test_a_secret_that_databricks_does_not_take_is_told_without_it(
    source: Source, vault: Vault, principal: str, control: SandboxControl, audit: Trail, wrong: str
) -> None:
    made = control.add_oauth_secret(principal, lifetime_seconds=1e-6 if wrong == "expired" else None)
    vault.put(client_secret="dose0123456789abcdef0123456789abcdef" if wrong == "value" else made.value)
    if wrong == "revoked":
        control.revoke_oauth_secret(made.credential_id)
    if wrong == "principal":
        control.remove_principal(principal)
    error = failure(source(vault, principal))
    assert isinstance(error, IdentityError)
    assert (error.reason, error.waiting) == ("ClientSecretWrong", False)
    assert "key client-secret of Secret team-a/kept" in error.message
    clear(error.message + repr(error) + audit.stream.getvalue(), vault.data["client-secret"].decode())


@pytest.mark.parametrize(
    "discovery",
    [
        {"oidc": {"token_endpoint": "https://evil.example/token"}},
        {"oidc": {"token_endpoint": "http://127.0.0.1/token"}},
        {"metadata": {"oidc_endpoint": "https://evil.example/oidc"}},
    ],
)
def test_a_hostile_host_has_no_secret_read_for_it(
    source: Source, vault: Vault, principal: str, control: SandboxControl, discovery: dict[str, Any]
) -> None:
    control.override_discovery(**discovery)
    assert failure(source(vault, principal)).reason == "TokenEndpointNotAllowed"
    assert vault.read == []


@pytest.mark.parametrize("kind", [OAUTH, PERSONAL])
def test_a_host_off_the_allow_list_has_no_secret_read_for_it(
    source: Source, vault: Vault, personal: Vault, principal: str, audit: Trail, kind: str
) -> None:
    tokens = source(vault if kind == OAUTH else personal, principal, allowed="elsewhere.example")
    assert failure(tokens).reason == "HostNotAllowed"
    assert vault.read == personal.read == []
    assert audit.records() == []


FAULTS: list[tuple[str, dict[str, Any], type[TrainyardError]]] = [
    ("hang", {}, Unreachable),
    ("malformed_json", {}, Unreachable),
    ("status", {"status": 429, "retry_after": "3"}, Throttled),
    ("status", {"status": 503}, Unreachable),
    ("redirect", {"location": "https://evil.example/"}, IdentityError),
]


@pytest.mark.parametrize(("kind", "fields", "error"), FAULTS)
def test_a_broken_token_endpoint_is_asked_once_and_in_bounded_time(
    source: Source,
    vault: Vault,
    principal: str,
    control: SandboxControl,
    kind: str,
    fields: dict[str, Any],
    error: type[TrainyardError],
) -> None:
    control.add_fault(kind, TOKEN, **fields)
    assert type(failure(source(vault, principal))) is error
    assert len(vault.read) == 1


# Personal access tokens.


@pytest.mark.parametrize("principal_named", ["secret/kept", ADA, ADA.upper()])
def test_a_personal_token_works_as_its_owner(
    source: Source, connect: Any, personal: Vault, principal_named: str
) -> None:
    tokens = source(personal, principal_named)
    assert connect(tokens, personal).whoami().principal == ADA
    assert tokens.token().value == personal.data["token"].decode().strip()


def test_a_personal_token_is_read_again_within_five_minutes(
    source: Source, personal: Vault, control: SandboxControl, clock: Clock
) -> None:
    tokens = source(personal, ADA)
    old = tokens.token().value
    personal.put(token=control.add_personal_access_token(ADA).value)
    clock.ahead = timedelta(minutes=3)
    assert tokens.token().value == old
    clock.ahead = timedelta(minutes=4, seconds=5)
    assert tokens.token().value == personal.data["token"].decode()
    assert len(personal.read) == 2


def test_a_personal_token_that_was_revoked_is_replaced_by_the_rotated_one_at_once(
    source: Source, connect: Any, personal: Vault, control: SandboxControl
) -> None:
    """Databricks answers 403 to it, and not 401."""
    first = control.add_personal_access_token(ADA)
    personal.put(token=first.value)
    connection = connect(source(personal, ADA), personal)
    connection.whoami()
    control.revoke_personal_access_token(first.credential_id)
    personal.put(token=control.add_personal_access_token(ADA).value)
    assert connection.whoami().principal == ADA
    assert len(personal.read) == 2


@pytest.mark.parametrize("wrong", ["value", "revoked", "expired"])
def test_a_personal_token_that_databricks_refuses_is_told_without_it(
    source: Source, personal: Vault, control: SandboxControl, audit: Trail, wrong: str
) -> None:
    made = control.add_personal_access_token(ADA, lifetime_seconds=1e-6 if wrong == "expired" else None)
    personal.put(token="dapi0123456789abcdef0123456789abcdef" if wrong == "value" else made.value)
    if wrong == "revoked":
        control.revoke_personal_access_token(made.credential_id)
    error = failure(source(personal, "secret/kept"))
    assert error.reason == "PersonalAccessTokenRefused"
    assert "key token of Secret team-a/kept" in error.message
    clear(error.message + repr(error) + audit.stream.getvalue(), personal.data["token"].decode())


def test_a_token_of_somebody_else_is_not_used_for_what_was_pinned(
    source: Source, personal: Vault, control: SandboxControl
) -> None:
    control.change_user("grace@example.com", entitlements=["workspace-access"])
    personal.put(token=control.add_personal_access_token("grace@example.com").value)
    error = failure(source(personal, ADA))
    assert error.reason == "ClientIdMismatch"
    assert "grace@example.com" in error.message
    assert [each["path"] for each in control.requests()] == [ME]


def test_an_owner_without_rights_is_told_as_that(source: Source, personal: Vault, control: SandboxControl) -> None:
    control.change_user(ADA, entitlements=[])
    error = failure(source(personal, ADA))
    assert isinstance(error, Denied)
    assert "workspace-access" in error.message


# What is on record.


@pytest.mark.parametrize("kind", [OAUTH, PERSONAL])
def test_everything_is_on_record_with_the_secrets_name_and_without_what_it_holds(
    source: Source,
    connect: Any,
    vault: Vault,
    personal: Vault,
    principal: str,
    audit: Trail,
    caplog: pytest.LogCaptureFixture,
    kind: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    used, named = (vault, principal) if kind == OAUTH else (personal, ADA)
    tokens = source(used, named)
    connect(tokens, used).whoami()
    requests = [record for record in audit.records() if record["event"] == "request"]
    assert len(requests) >= 2
    for record in requests:
        assert (record["principal"], record["mode"], record["secret"]) == (named, "secretRef", "team-a/kept")
    token = tokens.token()
    told = audit.stream.getvalue() + caplog.text + repr(token) + repr(tokens)
    clear(told, token.value, *(value.decode().strip() for key, value in used.data.items() if key != "client-id"))
