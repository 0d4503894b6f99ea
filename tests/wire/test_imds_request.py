"""How the machine's metadata service is asked, beside the unmodified credential, and what is taken for its answer."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import jwt
import pytest

from tests.wire.answering import Answering, Asked, Told, serve_answers
from tests.wire.conftest import BOUNDS, Trail
from trainyard.api.identity import MANAGED_IDENTITY, Identity
from trainyard.core.errors import IdentityError, TrainyardError, Unreachable
from trainyard.core.snapshot import Target
from trainyard.identity.base import SYSTEM_ASSIGNED, TokenSource
from trainyard.identity.imds import ImdsToken
from trainyard.identity.managed_identity import Managed
from trainyard.identity.signing_in import DATABRICKS_SCOPE

RESOURCE = "https://management.azure.com"


def failure(tokens: TokenSource) -> TrainyardError:
    with pytest.raises(TrainyardError) as raised:
        tokens.token()
    return raised.value


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Answering]:
    """A metadata service that answers as a test says."""
    with serve_answers(tmp_path, plain=True) as answering:
        yield answering


def token_source(service: Answering, audit: Trail, client_id: str | None = None) -> ImdsToken:
    facts = {"principal": client_id or SYSTEM_ASSIGNED, "mode": "managedIdentity"}
    return ImdsToken(service.origin, RESOURCE, client_id, facts, log=audit.log, bounds=BOUNDS)


def told(expires_in: Any = "3599", **claims: str) -> Told:
    value = jwt.encode(claims, "k" * 32, algorithm="HS256")
    body = {"access_token": value, "refresh_token": "", "expires_in": expires_in, "resource": RESOURCE}
    return Told(200, json.dumps({**body, "token_type": "Bearer"}).encode(), {"Content-Type": "application/json"})


def essence(asked: Asked) -> tuple[str, str, list[tuple[str, str]], Any, bytes]:
    path, _, query = asked.path.partition("?")
    return asked.method, path, sorted(parse_qsl(query)), asked.headers.get("Metadata"), asked.body


@pytest.mark.parametrize("client_id", [None, "3f2504e0-4f89-11d3-9a0c-0305e82c3301"])
def test_the_request_is_that_of_the_vendors_credential(
    service: Answering, audit: Trail, monkeypatch: pytest.MonkeyPatch, client_id: str | None
) -> None:
    from azure.identity import ManagedIdentityCredential

    service.answer = lambda _: told(appid=client_id or "whoever")
    token_source(service, audit, client_id).token()
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", service.origin)
    with ManagedIdentityCredential(client_id=client_id) as credential:
        credential.get_token_info(f"{RESOURCE}/.default")
    ours, theirs = service.asked
    assert essence(ours) == essence(theirs)
    assert "X-Forwarded-For" not in ours.headers


def test_no_proxy_sees_the_request(
    service: Answering, audit: Trail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "proxy").mkdir()
    with serve_answers(tmp_path / "proxy", plain=True) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.origin)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        service.answer = lambda _: told()
        assert token_source(service, audit).token().value
        assert proxy.asked == []


def test_a_redirect_is_not_followed(service: Answering, audit: Trail) -> None:
    service.answer = lambda _: Told(307, headers={"Location": "http://127.0.0.1:1/elsewhere"})
    found = failure(token_source(service, audit))
    assert (type(found), found.reason) == (IdentityError, "RedirectRefused")
    assert len(service.asked) == 1


def test_the_session_reaches_nothing_but_the_endpoint(service: Answering, audit: Trail) -> None:
    from requests.exceptions import InvalidSchema

    session = token_source(service, audit)._session
    elsewhere = [
        "http://169.254.169.254/metadata",
        f"http://localhost.evil.example:{service.port}/",
        f"http://localhost:{service.port}@evil.example/",
        f"http://127.0.0.1:{service.port}/",
        "https://management.azure.com/",
    ]
    for url in elsewhere:
        with pytest.raises(InvalidSchema):
            session.get(url)
    assert service.asked == []


def test_a_user_assigned_identity_that_nobody_named_is_not_used(service: Answering, audit: Trail) -> None:
    kubelet = "/subscriptions/s/resourcegroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/kubelet"
    service.answer = lambda _: told(xms_mirid=kubelet)
    found = failure(token_source(service, audit))
    assert found.reason == "ManagedIdentityMismatch"
    assert "userAssignedIdentities/kubelet" in found.message
    service.answer = lambda _: told(
        xms_mirid="/subscriptions/s/resourcegroups/g/providers/Microsoft.Compute/virtualMachines/vm", appid="own"
    )
    assert token_source(service, audit).token().value
    service.answer = lambda _: told(xms_mirid=kubelet, appid="named")
    assert token_source(service, audit, "named").token().value


def test_a_token_of_another_identity_than_was_named_is_not_used(service: Answering, audit: Trail) -> None:
    service.answer = lambda _: told(appid="somebody")
    found = failure(token_source(service, audit, "named"))
    assert found.reason == "ManagedIdentityMismatch"
    for needed in ("somebody", "named"):
        assert needed in found.message
    service.answer = lambda _: told(appid="NAMED")
    assert token_source(service, audit, "named").token().value


def test_an_attempt_is_not_gone_on_with_as_another_machines_own_identity(service: Answering, audit: Trail) -> None:
    """Each machine has a system-assigned identity of its own, and the operator may be moved to another one."""
    lent = Identity.model_validate({"managedIdentity": {"entra": {"tenantId": "contoso.com"}}})
    target = Target("databricks", "https://adb-1.2.azuredatabricks.net", "first", MANAGED_IDENTITY, "", "", lent)
    tokens = Managed(service.origin, audit.log, bounds=BOUNDS).source(target, "team", DATABRICKS_SCOPE)
    service.answer = lambda _: told(appid="second")
    found = failure(tokens)
    assert found.reason == "ManagedIdentityMismatch"
    for needed in ("second", "first", "another machine"):
        assert needed in found.message
    service.answer = lambda _: told(appid="First")
    again = Managed(service.origin, audit.log, bounds=BOUNDS).source(target, "team", DATABRICKS_SCOPE)
    assert again.token().value


@pytest.mark.parametrize("life", ["", "0", "-1", "soon", None, "1e9", "99999999999", [], True])
def test_a_token_without_a_life_is_no_token(service: Answering, audit: Trail, life: Any) -> None:
    service.answer = lambda _: told(life)
    assert failure(token_source(service, audit)).reason == "PlatformAnswerMalformed"


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'{"access_token": "a b\\n", "expires_in": "60"}', b"<html>"])
def test_an_answer_without_a_token_is_no_answer(service: Answering, audit: Trail, body: bytes) -> None:
    service.answer = lambda _: Told(200, body)
    found = failure(token_source(service, audit))
    assert (type(found), found.reason) == (Unreachable, "PlatformAnswerMalformed")


def test_a_number_counts_as_the_text_of_it(service: Answering, audit: Trail) -> None:
    service.answer = lambda _: told(3599)
    assert token_source(service, audit).token().value
