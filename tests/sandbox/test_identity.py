"""Token exchange and authentication: which assertions are accepted, and what a token is good for."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config
from databricks.sdk.errors import PermissionDenied, Unauthenticated

from trainyard_sandbox.client import SandboxControl

from .conftest import AUDIENCE, SUBJECT
from .issuer import TestIssuer

EXCHANGE = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "scope": "all-apis",
}


def post(control: SandboxControl, path: str, **fields: Any) -> httpx.Response:
    with httpx.Client(verify=_trusting(control), trust_env=False) as client:
        return client.post(control.address.host + path, **fields)


def _trusting(control: SandboxControl) -> Any:
    return ssl.create_default_context(cafile=str(control.address.ca_file))


def exchange(control: SandboxControl, assertion: str, **form: str) -> httpx.Response:
    return post(control, "/oidc/v1/token", data=EXCHANGE | {"subject_token": assertion} | form)


def test_a_federated_assertion_signs_in_the_principal_of_its_policy(workspace: WorkspaceClient, principal: str) -> None:
    me = workspace.current_user.me()
    assert me.user_name == principal
    assert me.display_name == "trainer"
    assert {entry.value for entry in me.entitlements or []} == {"workspace-access", "allow-cluster-create"}


def test_the_sdk_learns_the_account_and_workspace_from_the_host(
    workspace: WorkspaceClient, control: SandboxControl
) -> None:
    assert workspace.config.account_id == control.address.account_id
    assert workspace.config.workspace_id == control.address.workspace_id


def test_file_oidc_works_as_the_sdk_ships_it(
    control: SandboxControl, principal: str, issuer: TestIssuer, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(control.address.ca_file))
    (tmp_path / "token").write_text(issuer.assertion(SUBJECT, AUDIENCE))
    config = Config(
        host=control.address.host,
        client_id=principal,
        auth_type="file-oidc",
        oidc_token_filepath=str(tmp_path / "token"),
    )
    client = WorkspaceClient(config=config)
    assert client.current_user.me().user_name == principal


def test_a_tokens_life_follows_the_assertions_and_the_cap(
    control: SandboxControl, principal: str, issuer: TestIssuer
) -> None:
    answer = exchange(control, issuer.assertion(SUBJECT, AUDIENCE, lifetime=120), client_id=principal).json()
    assert 110 <= answer["expires_in"] <= 120
    assert answer["token_type"] == "Bearer"
    control.settings(max_token_lifetime_seconds=30.0)
    answer = exchange(control, issuer.assertion(SUBJECT, AUDIENCE, lifetime=120), client_id=principal).json()
    assert answer["expires_in"] <= 30


REFUSED_ASSERTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "another subject": ({"sub": "system:serviceaccount:team-b:trainer"}, "subject"),
    "another audience": ({"aud": ["someone-else"]}, "audience"),
    "another issuer": ({"iss": "https://127.0.0.1:1"}, "issuer"),
    "expired": ({"exp": 1_000_000_000}, "expired"),
    "not valid yet": ({"nbf": 4_000_000_000}, "not valid yet"),
    "issued in the future": ({"iat": 4_000_000_000}, "not valid yet"),
}


@pytest.mark.parametrize("case", REFUSED_ASSERTIONS)
def test_an_assertion_that_no_policy_accepts_is_refused(
    control: SandboxControl, principal: str, issuer: TestIssuer, case: str
) -> None:
    claims, sentence = REFUSED_ASSERTIONS[case]
    assertion = issuer.assertion(SUBJECT, AUDIENCE, **claims)
    issued_before = len(control.tokens())
    answer = exchange(control, assertion, client_id=principal)
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"
    assert sentence in answer.json()["error_description"]
    assert assertion not in answer.text
    assert len(control.tokens()) == issued_before


def test_an_assertion_signed_by_another_key_is_refused(
    control: SandboxControl, principal: str, issuer: TestIssuer
) -> None:
    claims = jwt.decode(issuer.assertion(SUBJECT, AUDIENCE), options={"verify_signature": False})
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    forged = jwt.encode(claims, stranger, algorithm="RS256", headers={"kid": issuer.key_id})
    assert exchange(control, forged, client_id=principal).json()["error"] == "invalid_request"
    unsigned = jwt.encode(claims, "", algorithm="none", headers={"kid": issuer.key_id})
    assert exchange(control, unsigned, client_id=principal).json()["error"] == "invalid_request"


def test_an_issuer_whose_certificate_another_ca_signed_is_not_asked_for_keys(
    control: SandboxControl, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with TestIssuer(tmp_path_factory.mktemp("stranger")) as stranger:
        application_id = control.add_principal("trainer")
        control.add_policy(application_id, stranger.url, SUBJECT, [AUDIENCE])
        control.trust_issuer(stranger.url, control.address.ca_file)
        answer = exchange(control, stranger.assertion(SUBJECT, AUDIENCE), client_id=application_id)
        assert "cannot be reached" in answer.json()["error_description"]
        control.trust_issuer(stranger.url, stranger.ca_file)
        answer = exchange(control, stranger.assertion(SUBJECT, AUDIENCE), client_id=application_id)
        assert answer.status_code == 200


def test_a_rotated_key_is_fetched_and_the_old_one_forgotten(
    control: SandboxControl, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with TestIssuer(tmp_path_factory.mktemp("rotating")) as rotating:
        application_id = control.add_principal("trainer")
        control.add_policy(application_id, rotating.url, SUBJECT, [AUDIENCE])
        control.trust_issuer(rotating.url, rotating.ca_file)
        old = rotating.assertion(SUBJECT, AUDIENCE)
        assert exchange(control, old, client_id=application_id).status_code == 200
        rotating.rotate("second")
        control.trust_issuer(rotating.url, rotating.ca_file)  # forgets the keys, as the passing of five minutes does
        fresh = rotating.assertion(SUBJECT, AUDIENCE)
        assert exchange(control, fresh, client_id=application_id).status_code == 200
        assert "no signing key" in exchange(control, old, client_id=application_id).json()["error_description"]


def test_the_audience_defaults_to_the_account_id(control: SandboxControl, issuer: TestIssuer) -> None:
    application_id = control.add_principal("trainer")
    control.add_policy(application_id, issuer.url, SUBJECT)
    accepted = issuer.assertion(SUBJECT, control.address.account_id)
    assert exchange(control, accepted, client_id=application_id).status_code == 200


def test_an_account_wide_policy_maps_a_claim_to_the_principal(
    control: SandboxControl, issuer: TestIssuer, client_for: Callable[..., WorkspaceClient]
) -> None:
    application_id = control.add_principal("trainer")
    policy = control.add_policy(None, issuer.url, None, ["account-wide"])
    client = client_for(control, None, subject=application_id, audience="account-wide")
    assert client.current_user.me().user_name == application_id
    control.remove_policy(policy)
    answer = exchange(control, issuer.assertion(application_id, "account-wide"))
    assert answer.status_code == 400


def test_an_unknown_client_and_other_grants_are_refused_in_oauths_words(
    control: SandboxControl, principal: str, issuer: TestIssuer
) -> None:
    assertion = issuer.assertion(SUBJECT, AUDIENCE)
    unknown = exchange(control, assertion, client_id="nobody")
    assert (unknown.status_code, unknown.json()["error"]) == (401, "invalid_client")
    secret = post(control, "/oidc/v1/token", data={"grant_type": "client_credentials", "client_id": principal})
    assert secret.json()["error"] == "invalid_scope"
    other = post(control, "/oidc/v1/token", data={"grant_type": "password", "client_id": principal})
    assert other.json()["error"] == "unsupported_grant_type"
    scope = exchange(control, assertion, client_id=principal, scope="sql")
    assert scope.json()["error"] == "invalid_scope"
    extra = exchange(control, assertion, client_id=principal, resource="x")
    assert extra.json()["error"] == "invalid_request"
    json_body = post(control, "/oidc/v1/token", json=EXCHANGE)
    assert json_body.json()["error"] == "invalid_request"


def test_a_principal_outside_the_workspace_is_refused_everywhere(
    control: SandboxControl, principal: str, workspace: WorkspaceClient
) -> None:
    control.change_principal(principal, workspace_access=False)
    with pytest.raises(PermissionDenied, match=f"Unauthorized access to Org: {control.address.workspace_id}"):
        workspace.current_user.me()
    control.change_principal(principal, workspace_access=True, entitlements=[])
    with pytest.raises(PermissionDenied, match="workspace-access entitlement"):
        list(workspace.jobs.list_runs())


def test_an_expired_or_unknown_token_is_unauthenticated(
    control: SandboxControl, principal: str, workspace: WorkspaceClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.current_user.me()
    assert control.expire_tokens(principal) == 1
    with pytest.raises(Unauthenticated):
        workspace.current_user.me()
    stranger = WorkspaceClient(host=control.address.host, token="not-a-token")
    with pytest.raises(Unauthenticated):
        stranger.current_user.me()


def test_a_removed_principals_token_stops_working(
    control: SandboxControl, principal: str, workspace: WorkspaceClient
) -> None:
    workspace.current_user.me()
    control.remove_principal(principal)
    with pytest.raises(Unauthenticated):
        workspace.current_user.me()
