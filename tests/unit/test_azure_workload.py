"""What the operator takes for its workload identity in AKS, and what it never sends."""

import io
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from trainyard.api.identity import Identity
from trainyard.audit.log import AuditLog
from trainyard.core.errors import IdentityError
from trainyard.identity.azure_workload import (
    LARGEST_TOKEN,
    AzureWorkload,
    WorkloadVariables,
    assertion_in,
    captured,
)
from trainyard.identity.entra import AUDIENCE

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
Written = Callable[..., str]


def token(**changes: Any) -> str:
    claims = {
        "iss": "https://oidc.example/cluster",
        "sub": "system:serviceaccount:trainyard-system:trainyard",
        "aud": [AUDIENCE],
        "iat": NOW - timedelta(minutes=40),
        "nbf": NOW - timedelta(minutes=40),
        "exp": NOW + timedelta(minutes=20),
        "jti": "one",
    }
    kept = {name: value for name, value in {**claims, **changes}.items() if value is not None}
    return jwt.encode(kept, "k" * 32, algorithm="HS256", headers={"kid": "first"})


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """A token file with that text."""

    def write(text: str | bytes) -> str:
        file = tmp_path / "azure-identity-token"
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(file)

    return write


def refusal(path: str) -> IdentityError:
    with pytest.raises(IdentityError) as raised:
        assertion_in(path, NOW)
    return raised.value


def identity(**fields: str) -> Identity:
    return Identity.model_validate({"azureWorkloadIdentity": fields})


def mode(**variables: str) -> AzureWorkload:
    return AzureWorkload(WorkloadVariables(**variables), AuditLog(io.StringIO()))


def test_the_webhooks_variables_are_taken_and_nothing_else() -> None:
    said = {
        "AZURE_CLIENT_ID": "app",
        "AZURE_TENANT_ID": "contoso.com",
        "AZURE_FEDERATED_TOKEN_FILE": "/var/run/secrets/azure/tokens/azure-identity-token",
        "AZURE_AUTHORITY_HOST": "https://login.microsoftonline.com/",
        "AZURE_CLIENT_SECRET": "canary",
    }
    found = captured(said)
    assert found == WorkloadVariables(
        "app", "/var/run/secrets/azure/tokens/azure-identity-token", "https://login.microsoftonline.com/"
    )
    assert "canary" not in repr(found)
    assert captured({}) == WorkloadVariables()


def test_the_workspaces_client_id_goes_before_the_webhooks() -> None:
    made = mode(client_id="webhook", token_file="/token")
    assert made.speaker(identity(clientId="named"), "team", "azureml").principal == "named"
    assert made.speaker(identity(), "team", "azureml").principal == "webhook"


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"client_id": "webhook"}, "AZURE_FEDERATED_TOKEN_FILE"),
        ({}, "AZURE_FEDERATED_TOKEN_FILE"),
        ({"token_file": "/token"}, "AZURE_CLIENT_ID"),
    ],
)
def test_what_the_webhook_did_not_say_is_told_with_what_to_do(variables: dict[str, str], named: str) -> None:
    with pytest.raises(IdentityError) as refused:
        mode(**variables).speaker(identity(), "team", "azureml")
    assert refused.value.reason == "WorkloadIdentityMissing"
    assert named in refused.value.message
    assert "azureWorkloadIdentity.clientId" in refused.value.message


def test_a_token_is_read_with_what_entra_has_to_be_told(written: Written) -> None:
    value = token()
    found = assertion_in(written(value + "\n"), NOW)
    assert (found.value, found.issuer, found.subject, found.audience, found.jti, found.key_id) == (
        value,
        "https://oidc.example/cluster",
        "system:serviceaccount:trainyard-system:trainyard",
        AUDIENCE,
        "one",
        "first",
    )
    assert found.expires_at == NOW + timedelta(minutes=20)
    assert value not in repr(found)


@pytest.mark.parametrize(
    "audience",
    [
        ["https://kubernetes.default.svc"],
        [AUDIENCE, "https://kubernetes.default.svc"],
        ["trainyard-databricks"],
        [],
        None,
    ],
)
def test_a_token_for_anybody_else_is_not_sent(written: Written, audience: list[str] | None) -> None:
    error = refusal(written(token(aud=audience)))
    assert error.reason == "AssertionUnusable"
    assert AUDIENCE in error.message


def test_an_audience_may_be_one_word(written: Written) -> None:
    assert assertion_in(written(token(aud=AUDIENCE)), NOW).audience == AUDIENCE


@pytest.mark.parametrize("ends", [NOW, NOW - timedelta(hours=1), None, "never"])
def test_a_token_that_is_over_is_not_sent(written: Written, ends: datetime | str | None) -> None:
    error = refusal(written(token(exp=ends)))
    assert error.reason == "AssertionUnusable"
    assert "over" in error.message


def test_a_token_of_a_clock_that_is_ahead_is_not_sent(written: Written) -> None:
    later = {"iat": NOW + timedelta(minutes=6), "nbf": NOW + timedelta(minutes=6), "exp": NOW + timedelta(hours=1)}
    assert refusal(written(token(**later))).reason == "ClockSkew"
    soon = {**later, "iat": NOW + timedelta(minutes=4), "nbf": NOW + timedelta(minutes=4)}
    assert assertion_in(written(token(**soon)), NOW).audience == AUDIENCE


@pytest.mark.parametrize("text", ["", "not a token", "a.b.c", "e30.W10.x", b"\xff\xfe", "\x00" * 100])
def test_what_is_no_token_is_not_sent_and_not_repeated(written: Written, text: str | bytes) -> None:
    error = refusal(written(text))
    assert error.reason == "AssertionUnusable"
    assert "not a token" not in error.message


def test_a_file_of_any_size_is_read_only_so_far(written: Written) -> None:
    error = refusal(written("a" * (LARGEST_TOKEN + 1)))
    assert (error.reason, str(LARGEST_TOKEN) in error.message) == ("AssertionUnusable", True)


def test_a_file_that_is_not_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    error = refusal(str(tmp_path / "gone"))
    assert error.reason == "WorkloadIdentityMissing"
    for needed in ("gone", "No such file", "azure.workload.identity/use"):
        assert needed in error.message


def test_a_pipe_or_folder_does_not_hold_the_operator_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    began = time.monotonic()
    assert refusal(str(tmp_path / "pipe")).reason == "AssertionUnusable"
    assert refusal(str(tmp_path)).reason in ("AssertionUnusable", "WorkloadIdentityMissing")
    assert time.monotonic() - began < 1
