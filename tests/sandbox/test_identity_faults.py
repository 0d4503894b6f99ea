"""What can go wrong on the way to a token: keys, issuers, clocks, certificates, revocation, the token endpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CertificateCredential, ClientAssertionCredential, ClientSecretCredential
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import Unauthenticated

from trainyard_sandbox.client import SandboxControl

from .conftest import AUDIENCE, SUBJECT
from .issuer import TestIssuer
from .test_azure_identity import certificate, msal_options, scope
from .test_identity import exchange

DATABRICKS = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d"
ENTRA_TOKEN = r"/[^/]+/oauth2/v2\.0/token"
IMDS_TOKEN = "/metadata/identity/oauth2/token"


@pytest.fixture(autouse=True)
def as_it_was(control: SandboxControl, issuer: TestIssuer) -> Iterator[None]:
    yield
    control.break_issuer(issuer.url)


@pytest.fixture
def entra_refusal(
    control: SandboxControl, azure_credential: Callable[..., ClientAssertionCredential], data_scientist: str
) -> Callable[[], str]:
    """What Entra says to a fresh sign-in with the issuer's assertion; "" when it signs in."""

    def sign_in() -> str:
        try:
            azure_credential(control, data_scientist).get_token(scope(control))
        except ClientAuthenticationError as error:
            return str(error)
        return ""

    return sign_in


def test_an_issuer_without_its_keys_is_trusted_by_neither_platform_until_it_has_them_again(
    control: SandboxControl, principal: str, issuer: TestIssuer, entra_refusal: Callable[[], str]
) -> None:
    assertion = issuer.assertion(SUBJECT, AUDIENCE)
    assert (exchange(control, assertion, client_id=principal).status_code, entra_refusal()) == (200, "")
    control.break_issuer(issuer.url, "keys-revoked")
    answer = exchange(control, assertion, client_id=principal)
    assert f"the issuer {issuer.url} has no signing key 'first'" in answer.json()["error_description"]
    assert "AADSTS50013" in entra_refusal()
    control.break_issuer(issuer.url)
    assert (exchange(control, assertion, client_id=principal).status_code, entra_refusal()) == (200, "")


def test_an_unreachable_issuer_is_named_by_both_platforms(
    control: SandboxControl, principal: str, issuer: TestIssuer, entra_refusal: Callable[[], str]
) -> None:
    control.break_issuer(issuer.url, "unreachable")
    answer = exchange(control, issuer.assertion(SUBJECT, AUDIENCE), client_id=principal)
    assert f"the issuer {issuer.url} cannot be reached" in answer.json()["error_description"]
    assert "AADSTS90061" in entra_refusal()
    assert issuer.url in entra_refusal()


def test_clocks_that_differ_make_an_assertion_expired_or_not_valid_yet(
    control: SandboxControl, principal: str, issuer: TestIssuer, entra_refusal: Callable[[], str]
) -> None:
    for offset, words in ((601.0, "the token is expired"), (-60.0, "the token is not valid yet")):
        control.settings(clock_offset_seconds=offset)
        answer = exchange(control, issuer.assertion(SUBJECT, AUDIENCE), client_id=principal)
        assert words in answer.json()["error_description"]
        assert "AADSTS700024" in entra_refusal()


def test_a_certificate_outside_its_time_signs_nobody_in(control: SandboxControl, tmp_path: Path) -> None:
    path, pem = certificate(tmp_path)
    client_id = control.add_application("with certificate")
    control.add_certificate(client_id, pem)
    control.settings(clock_offset_seconds=2 * 86400.0)
    options = msal_options(control)
    with (
        CertificateCredential(control.address.azure.tenant_id, client_id, str(path), **options) as credential,
        pytest.raises(ClientAuthenticationError, match="AADSTS1000502"),
    ):
        credential.get_token(scope(control))


def test_a_disabled_application_cannot_sign_in(control: SandboxControl) -> None:
    client_id = control.add_application("trainer")
    secret = control.add_client_secret(client_id)
    tenant, options = control.address.azure.tenant_id, msal_options(control)
    control.enable_application(client_id, False)
    with (
        ClientSecretCredential(tenant, client_id, secret, **options) as entra,
        pytest.raises(ClientAuthenticationError, match="AADSTS7000112"),
    ):
        entra.get_token(scope(control))
    control.enable_application(client_id, True)
    with ClientSecretCredential(tenant, client_id, secret, **options) as entra:  # MSAL keeps a refusal for a minute
        assert entra.get_token(scope(control)).token


def imds(control: SandboxControl, resource: str) -> requests.Response:
    query = {"api-version": "2018-02-01", "resource": resource}
    url = control.address.imds + IMDS_TOKEN
    return requests.get(url, params=query, headers={"Metadata": "true"}, timeout=30)


def test_a_revoked_token_is_refused_everywhere_and_still_what_the_metadata_service_holds(
    control: SandboxControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca_file = str(control.address.ca_file)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca_file)
    identity = control.add_managed_identity("trainer", roles={"workspace": ["Reader"]})
    try:
        control.add_principal("trainer", application_id=identity.client_id)
        azure = control.address.azure
        arm = imds(control, azure.resource_manager).json()["access_token"]
        token = imds(control, DATABRICKS).json()["access_token"]
        client = WorkspaceClient(host=control.address.host, token=token)
        assert client.current_user.me().user_name == identity.client_id
        assert control.revoke_azure_tokens(identity.client_id) == 2
        with pytest.raises(Unauthenticated):
            client.current_user.me()
        url, headers = f"{azure.workspace_url}?api-version=2023-10-01", {"Authorization": f"Bearer {arm}"}
        answer = requests.get(url, headers=headers, verify=ca_file, timeout=30)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "InvalidAuthenticationToken")
        assert imds(control, DATABRICKS).json()["access_token"] == token
        control.enable_application(identity.client_id, False)
        assert imds(control, DATABRICKS).json()["error"] == "unauthorized_client"
    finally:
        control.remove_application(identity.client_id)


@pytest.mark.parametrize("kind", ["reset", "malformed_json", "redirect"])
@pytest.mark.parametrize("endpoint", ["databricks", "entra", "imds"])
def test_each_token_endpoint_can_fail_in_each_way(
    control: SandboxControl, principal: str, issuer: TestIssuer, endpoint: str, kind: str
) -> None:
    paths = {"databricks": "/oidc/v1/token", "entra": ENTRA_TOKEN, "imds": IMDS_TOKEN}
    control.add_fault(kind, paths[endpoint], times=1, location="https://elsewhere.test")
    azure = control.address.azure

    def ask() -> requests.Response:
        options: dict[str, Any] = {"verify": str(control.address.ca_file), "timeout": 30, "allow_redirects": False}
        if endpoint == "imds":
            return imds_plain(control)
        if endpoint == "entra":
            return requests.post(f"{azure.authority}/{azure.tenant_id}/oauth2/v2.0/token", data={}, **options)
        return requests.post(f"{control.address.host}/oidc/v1/token", data={}, **options)

    if kind == "reset":
        with pytest.raises(requests.exceptions.ConnectionError):
            ask()
        return
    answer = ask()
    assert answer.status_code == {"malformed_json": 200, "redirect": 307}[kind]
    assert control.faults()[-1]["hits"] == 1


def imds_plain(control: SandboxControl) -> requests.Response:
    url = control.address.imds + IMDS_TOKEN
    return requests.get(url, headers={"Metadata": "true"}, timeout=30, allow_redirects=False)


def test_an_injected_status_of_each_token_endpoint_has_oauths_shape(control: SandboxControl) -> None:
    ca_file, azure = str(control.address.ca_file), control.address.azure
    for path in ("/oidc/v1/token", ENTRA_TOKEN, IMDS_TOKEN):
        control.add_fault("status", path, status=429, retry_after="7")
    answers = (
        requests.post(f"{control.address.host}/oidc/v1/token", verify=ca_file, timeout=30),
        requests.post(f"{azure.authority}/{azure.tenant_id}/oauth2/v2.0/token", verify=ca_file, timeout=30),
        imds_plain(control),
    )
    for answer in answers:
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
        assert {"error", "error_description"} <= set(answer.json())
