"""How the Azure ML connection stands faults: bounded, told apart, repeated by nobody, and without a token astray."""

import json
import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.wire.azureml import (
    TokensFor,
    accounts,
    cloud,
    connect,
    connection,
    data_scientist,
    ended,
    hasty,
    request_for,
    target,
    tokens_for,
)
from tests.wire.conftest import Accounts, Clock, Trail
from trainyard.core.errors import (
    Denied,
    Missing,
    PlatformError,
    Refused,
    Throttled,
    Unauthenticated,
    Unreachable,
)
from trainyard.identity.cached import FORGET_HOLDS
from trainyard.identity.clouds import Cloud
from trainyard.platforms.azureml.connection import AzureMLConnection
from trainyard.platforms.base import Request, Wanted
from trainyard.telemetry.logs import _QUIET as QUIET
from trainyard_sandbox.client import SandboxControl

__all__ = [
    "accounts",
    "cloud",
    "connect",
    "connection",
    "data_scientist",
    "hasty",
    "request_for",
    "target",
    "tokens_for",
]

JOB = ".*/jobs/[^/]+"


def sent(audit: Trail, path: str) -> int:
    """How many requests to a path have left."""
    asked = [record["path"] for record in audit.records() if record["event"] == "request"]
    return len([each for each in asked if re.fullmatch(path, each)])


FAULTS: list[tuple[str, dict[str, Any], type[PlatformError], str]] = [
    ("status", {"status": 429, "retry_after": "7"}, Throttled, "PlatformThrottled"),
    ("status", {"status": 500}, Unreachable, "PlatformUnreachable"),
    ("status", {"status": 503}, Unreachable, "PlatformUnreachable"),
    ("status", {"status": 403}, Denied, "PermissionDenied"),
    ("status", {"status": 400}, Refused, "RequestRefused"),
    ("status", {"status": 404}, Missing, "NotFound"),
    ("status", {"status": 409}, Unreachable, "PlatformUnreachable"),
    ("status", {"status": 412}, Unreachable, "PlatformUnreachable"),
    ("reset", {}, Unreachable, "PlatformUnreachable"),
    ("reset", {"after_effect": True}, Unreachable, "PlatformUnreachable"),
    ("hang", {}, Unreachable, "PlatformUnreachable"),
    ("slow_body", {"seconds": 30.0}, Unreachable, "PlatformUnreachable"),
    ("malformed_json", {}, Unreachable, "PlatformAnswerMalformed"),
    ("redirect", {"location": "https://evil.example/"}, Unreachable, "RedirectRefused"),
]


@pytest.mark.parametrize(("kind", "fields", "error", "reason"), FAULTS)
def test_each_fault_is_its_own_error_in_bounded_time(
    hasty: AzureMLConnection,
    control: SandboxControl,
    audit: Trail,
    kind: str,
    fields: dict[str, Any],
    error: type[PlatformError],
    reason: str,
) -> None:
    with pytest.raises(Missing):
        hasty.get("none")
    before = sent(audit, JOB)
    control.add_fault(kind, JOB, **fields)
    began = time.monotonic()
    with pytest.raises(PlatformError) as raised:
        hasty.get("none")
    assert time.monotonic() - began < 5
    assert (type(raised.value), raised.value.reason) == (error, reason)
    if isinstance(raised.value, Throttled):
        assert raised.value.retry_after == 7
    assert sent(audit, JOB) == before + 1


TYPED: list[tuple[str, dict[str, Any], type[PlatformError]]] = [
    ("status", {"status": 429, "retry_after": "7"}, Throttled),
    ("status", {"status": 503}, Unreachable),
    ("reset", {}, Unreachable),
    ("hang", {}, Unreachable),
    ("malformed_json", {}, Unreachable),
    ("redirect", {"location": "https://evil.example/"}, Unreachable),
]


@pytest.mark.parametrize(("kind", "fields", "error"), TYPED)
def test_a_typed_read_is_bounded_and_repeated_by_nobody(
    hasty: AzureMLConnection,
    control: SandboxControl,
    audit: Trail,
    kind: str,
    fields: dict[str, Any],
    error: type[PlatformError],
) -> None:
    path = ".*/computes/[^/]+"
    with pytest.raises(Missing):
        hasty._client.typed(lambda ml: ml.compute.get("none"))
    before = sent(audit, path)
    control.add_fault(kind, path, **fields)
    began = time.monotonic()
    with pytest.raises(error):
        hasty._client.typed(lambda ml: ml.compute.get("none"))
    assert time.monotonic() - began < 5
    assert sent(audit, path) == before + 1


STORAGE: list[tuple[str, dict[str, Any], type[PlatformError]]] = [
    ("status", {"status": 503}, Unreachable),
    ("status", {"status": 403}, Denied),
    ("reset", {}, Unreachable),
    ("hang", {}, Unreachable),
    ("redirect", {"location": "https://evil.example/"}, Unreachable),
]


@pytest.mark.parametrize(("kind", "fields", "error"), STORAGE)
def test_an_upload_is_bounded_and_repeated_by_nobody(
    hasty: AzureMLConnection,
    request_for: Callable[..., Request],
    control: SandboxControl,
    audit: Trail,
    kind: str,
    fields: dict[str, Any],
    error: type[PlatformError],
) -> None:
    request = request_for(f"print({time.time_ns()})")
    control.add_fault(kind, "/blob/.*", method="PUT", **fields)
    began = time.monotonic()
    with pytest.raises(error):
        hasty.submit(request)
    assert time.monotonic() - began < 8
    assert sent(audit, "/blob/.*") == 1


def test_a_missing_role_is_told_with_the_command_that_gives_it(
    connection: AzureMLConnection, request_for: Callable[..., Request], control: SandboxControl, data_scientist: str
) -> None:
    control.remove_role(data_scientist, "AzureML Data Scientist")
    control.assign_role(data_scientist, "Reader")
    with pytest.raises(Denied) as raised:
        connection.submit(request_for(f"print({time.time_ns()})"))
    scope = control.address.azure.workspace_scope
    assert "az role assignment create --assignee" in raised.value.message
    assert f'--role "AzureML Data Scientist" --scope {scope}.' in raised.value.message


def test_an_expired_token_is_replaced_once_and_the_request_made_again(
    connection: AzureMLConnection, control: SandboxControl, data_scientist: str, accounts: Accounts, clock: Clock
) -> None:
    def ask() -> None:
        assert connection.locate("none", clock()) is None

    ask()
    minted = len(accounts.minted)
    control.expire_azure_tokens(data_scientist)
    ask()
    assert len(accounts.minted) == minted + 1
    control.add_fault("status", JOB, status=401, times=0)
    clock.ahead = FORGET_HOLDS
    with pytest.raises(Unauthenticated):
        ask()
    assert len(accounts.minted) == minted + 2


def test_an_expired_token_is_replaced_under_the_sdks_as_well(
    connection: AzureMLConnection,
    request_for: Callable[..., Request],
    control: SandboxControl,
    data_scientist: str,
    clock: Clock,
) -> None:
    remote = ended(connection, connection.submit(request_for()).remote_id)
    connection.collect(remote, None, Wanted(log_characters=100))
    connection.whoami()
    control.expire_azure_tokens(data_scientist)
    assert connection.whoami().details is not None
    clock.ahead = FORGET_HOLDS
    control.expire_azure_tokens(data_scientist)
    assert connection.collect(remote, None, Wanted(log_characters=100)).logs[0].text == "hello\n"


def test_every_request_has_a_record_before_and_after_and_none_has_a_token(
    connection: AzureMLConnection,
    request_for: Callable[..., Request],
    control: SandboxControl,
    audit: Trail,
    accounts: Accounts,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in QUIET:  # as the operator has them, also with --log-level debug
        caplog.set_level(logging.WARNING, logger=name)
    control.clear_requests()
    request = request_for(f"print({time.time_ns()})")
    remote = ended(connection, connection.submit(request).remote_id)
    connection.whoami()
    connection.collect(remote, None, Wanted(log_characters=100))
    records = audit.records()
    asked = [record for record in records if record["event"] == "request"]
    answered = {record["id"]: record for record in records if record["event"] == "response"}
    assert sorted((r["method"], r["path"]) for r in asked) == sorted(
        (r["method"], r["path"]) for r in control.requests()
    )
    assert {record["id"] for record in asked} == set(answered)
    assert all(record["service_account"] == "team-a/trainer" for record in asked)
    put = next(r for r in asked if r["method"] == "PUT" and r["path"].endswith(f"/jobs/{request.submission_token}"))
    assert put["assertion_jti"].startswith("jti-")
    assert answered[put["id"]]["remote_id"] == request.submission_token
    assert any(record["path"].startswith("/blob/") and "sig" in record["query"] for record in asked)
    told = json.dumps(records) + caplog.text
    secrets = [token["value"] for token in control.azure_tokens()] + accounts.minted
    assert secrets
    assert not [secret for secret in secrets if secret in told]
    assert "sig=" not in told


def test_a_token_goes_only_where_its_audience_is(
    connection: AzureMLConnection,
    request_for: Callable[..., Request],
    control: SandboxControl,
    cloud: Cloud,
    tokens_for: TokensFor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: dict[str, set[str]] = {}
    names = {tokens_for(cloud.arm_scope).token().value: "arm", tokens_for(cloud.ml_scope).token().value: "ml"}
    from trainyard.audit.transport import AuditedAdapter

    send = AuditedAdapter.send

    def noted(self: AuditedAdapter, request: Any, **options: Any) -> Any:
        plane = "/" + request.path_url.lstrip("/").partition("/")[0].partition("?")[0]
        value = str(request.headers.get("Authorization", "")).removeprefix("Bearer ")
        sent.setdefault(plane, set()).add(names.get(value, value))
        return send(self, request, **options)

    monkeypatch.setattr(AuditedAdapter, "send", noted)
    remote = ended(connection, connection.submit(request_for(f"print({time.time_ns()})")).remote_id)
    connection.whoami()
    connection.collect(remote, None, Wanted(log_characters=100))
    assert sent["/subscriptions"] == {"arm"}
    assert sent["/history"] == sent["/mlflow"] == {"ml"}
    assert sent["/discovery"] == sent["/blob"] == {""}


def test_no_sdk_leaves_a_thread_behind(
    connection: AzureMLConnection, request_for: Callable[..., Request], control: SandboxControl
) -> None:
    connection.whoami()
    before = set(threading.enumerate())
    remote = ended(connection, connection.submit(request_for(f"print({time.time_ns()})")).remote_id)
    connection.cancel(remote.remote_id)
    connection.collect(remote, None, Wanted(log_characters=100))
    connection.retire(remote.remote_id)
    assert set(threading.enumerate()) <= before
