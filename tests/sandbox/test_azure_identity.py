"""Signing in at the sandbox's Entra tenant, with the unmodified azure-identity and with plain requests."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import (
    CertificateCredential,
    ClientAssertionCredential,
    ClientSecretCredential,
    WorkloadIdentityCredential,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from trainyard_sandbox.client import ControlError, SandboxControl

from .azure_fixtures import AZURE_AUDIENCE, AZURE_SUBJECT
from .issuer import TestIssuer

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def scope(control: SandboxControl) -> str:
    return control.address.azure.resource_manager + "/.default"


def msal_options(control: SandboxControl) -> dict[str, Any]:
    """Options of the credentials that are built on MSAL, which asks Microsoft about an unknown authority by default."""
    return {
        "authority": control.address.azure.authority,
        "connection_verify": str(control.address.ca_file),
        "disable_instance_discovery": True,
        "retry_total": 0,
    }


@pytest.fixture
def ask(control: SandboxControl, issuer: TestIssuer, data_scientist: str) -> Callable[..., requests.Response]:
    """One plain token request; fields given replace those of a good one, None takes a field out."""

    def post(tenant: str | None = None, **fields: Any) -> requests.Response:
        good = {
            "client_id": data_scientist,
            "grant_type": "client_credentials",
            "scope": scope(control),
            "client_assertion_type": JWT_BEARER,
            "client_assertion": issuer.assertion(AZURE_SUBJECT, AZURE_AUDIENCE),
        }
        form = {name: value for name, value in (good | fields).items() if value is not None}
        url = f"{control.address.azure.authority}/{tenant or control.address.azure.tenant_id}/oauth2/v2.0/token"
        return requests.post(url, data=form, verify=str(control.address.ca_file), timeout=30)

    return post


def refused(response: requests.Response, status: int, error: str, number: int) -> str:
    """Checks every field of Entra's error body; returns the description."""
    body = response.json()
    assert (response.status_code, body["error"], body["error_codes"]) == (status, error, [number]), body
    description: str = body["error_description"]
    assert description.startswith(f"AADSTS{number}: ")
    for part in (f"Trace ID: {body['trace_id']}", f"Correlation ID: {body['correlation_id']}"):
        assert part in description
    assert description.endswith(f"Timestamp: {body['timestamp']}")
    assert response.headers["x-ms-request-id"] == body["trace_id"]
    assert body["error_uri"].endswith(f"/error?code={number}")
    return description


def test_an_assertion_that_a_federated_credential_names_signs_the_application_in(
    control: SandboxControl, data_scientist: str, azure_credential: Callable[..., ClientAssertionCredential]
) -> None:
    token = azure_credential(control, data_scientist).get_token(scope(control))
    claims = jwt.decode(token.token, options={"verify_signature": False})
    assert claims["aud"] == control.address.azure.resource_manager
    assert (claims["appid"], claims["tid"]) == (data_scientist, control.address.azure.tenant_id)
    assert claims["exp"] - claims["iat"] == 3599
    assert control.azure_tokens()[-1]["value"] == token.token


def test_a_workload_identity_signs_in_with_the_token_file_of_its_pod(
    control: SandboxControl, data_scientist: str, issuer: TestIssuer, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(issuer.assertion(AZURE_SUBJECT, AZURE_AUDIENCE))
    options = msal_options(control) | {"token_file_path": str(tmp_path / "token")}
    tenant = control.address.azure.tenant_id
    with WorkloadIdentityCredential(tenant_id=tenant, client_id=data_scientist, **options) as credential:
        assert credential.get_token("https://ml.azure.com/.default").token == control.azure_tokens()[-1]["value"]


def test_tokens_live_as_long_as_the_tenant_says(control: SandboxControl, ask: Callable[..., requests.Response]) -> None:
    control.azure_settings(token_lifetime_seconds=90)
    assert ask().json()["expires_in"] == 90


@pytest.mark.parametrize(
    ("claims", "number", "words"),
    [
        ({"iss": "https://elsewhere.test"}, 700211, "presented assertion issuer 'https://elsewhere.test'"),
        ({"sub": "system:serviceaccount:team-b:trainer"}, 700213, "subject 'system:serviceaccount:team-b:trainer'"),
        ({"sub": AZURE_SUBJECT.title()}, 7002138, "case-insensitive"),
        ({"aud": ["https://kubernetes.default.svc"]}, 700212, "audience 'https://kubernetes.default.svc'"),
        ({"exp": 1000}, 700024, "expiry time of assertion 1970-01-01T00:16:40.0000000Z"),
    ],
)
def test_an_assertion_that_differs_in_anything_is_refused_with_entras_number(
    ask: Callable[..., requests.Response], issuer: TestIssuer, claims: dict[str, Any], number: int, words: str
) -> None:
    assertion = issuer.assertion(AZURE_SUBJECT, AZURE_AUDIENCE, **claims)
    assert words in refused(ask(client_assertion=assertion), 401, "invalid_client", number)


def test_an_assertion_signed_with_another_key_is_refused(
    ask: Callable[..., requests.Response], issuer: TestIssuer
) -> None:
    claims = jwt.decode(issuer.assertion(AZURE_SUBJECT, AZURE_AUDIENCE), options={"verify_signature": False})
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    forged = jwt.encode(claims, other, algorithm="RS256", headers={"kid": issuer.key_id})
    refused(ask(client_assertion=forged), 401, "invalid_client", 50013)


def test_an_issuer_that_cannot_be_reached_is_named(
    control: SandboxControl, ask: Callable[..., requests.Response], issuer: TestIssuer, data_scientist: str
) -> None:
    gone = "https://127.0.0.1:1"
    control.trust_issuer(gone, issuer.ca_file)
    control.add_federated_credential(data_scientist, gone, AZURE_SUBJECT)
    assertion = issuer.assertion(AZURE_SUBJECT, AZURE_AUDIENCE, iss=gone)
    assert gone in refused(ask(client_assertion=assertion), 400, "invalid_request", 90061)


def test_a_new_credential_is_unknown_until_entra_has_spread_it(
    control: SandboxControl, ask: Callable[..., requests.Response], issuer: TestIssuer
) -> None:
    fresh = control.add_application("fresh")
    control.add_federated_credential(fresh, issuer.url, AZURE_SUBJECT, unknown_for_seconds=300)
    refused(ask(client_id=fresh), 401, "invalid_client", 70025)
    control.settings(clock_offset_seconds=301)
    assert ask(client_id=fresh).status_code == 200


def test_the_twenty_first_credential_of_an_application_is_refused(control: SandboxControl, issuer: TestIssuer) -> None:
    full = control.add_application("full")
    names = [control.add_federated_credential(full, issuer.url, f"subject-{n}") for n in range(20)]
    with pytest.raises(ControlError, match="at most 20"):
        control.add_federated_credential(full, issuer.url, "subject-20")
    control.remove_federated_credential(full, names[0])
    control.add_federated_credential(full, issuer.url, "subject-20")


def test_what_entra_cannot_place_is_refused_by_name(
    control: SandboxControl, ask: Callable[..., requests.Response]
) -> None:
    nobody = "00000000-0000-0000-0000-00000000abcd"
    assert nobody in refused(ask(client_id=nobody), 400, "unauthorized_client", 700016)
    assert nobody in refused(ask(tenant=nobody), 400, "invalid_request", 90002)
    refused(ask(tenant="nodots"), 400, "invalid_request", 900023)
    assert "'client_id'" in refused(ask(client_id=None), 400, "invalid_request", 900144)
    assert "'scope'" in refused(ask(scope=None), 400, "invalid_request", 900144)
    refused(ask(grant_type="password"), 400, "unsupported_grant_type", 70003)
    refused(ask(scope=scope(control) + " openid"), 400, "invalid_scope", 70011)
    refused(ask(scope="https://ml.azure.com/user_impersonation"), 400, "invalid_scope", 1002012)
    refused(ask(scope="https://vault.azure.net/.default"), 400, "invalid_resource", 500011)
    refused(ask(client_assertion=None), 401, "invalid_client", 7000218)
    refused(ask(client_assertion="no.jwt.here"), 400, "invalid_request", 50027)
    refused(ask(resource="x"), 400, "invalid_request", 900144)


def test_a_client_secret_signs_in_until_it_expires(
    control: SandboxControl, ask: Callable[..., requests.Response]
) -> None:
    client_id = control.add_application("with secret")
    secret = control.add_client_secret(client_id, lifetime_seconds=60)
    options = msal_options(control)
    with ClientSecretCredential(control.address.azure.tenant_id, client_id, secret, **options) as credential:
        assert credential.get_token(scope(control)).token
    fields = {"client_id": client_id, "client_assertion": None, "client_assertion_type": None}
    refused(ask(client_secret="wrong", **fields), 401, "invalid_client", 7000215)
    control.settings(clock_offset_seconds=61)
    refused(ask(client_secret=secret, **fields), 401, "invalid_client", 7000222)


def certificate(directory: Path) -> tuple[Path, str]:
    """A key with its self-signed certificate in one PEM file, and the certificate alone."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "trainer")])
    now = dt.datetime.now(dt.UTC)
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    built = built.serial_number(7).not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
    pem = built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = directory / "trainer.pem"
    path.write_bytes(private + pem)
    return path, pem.decode()


def test_a_registered_certificate_signs_in_and_another_does_not(control: SandboxControl, tmp_path: Path) -> None:
    path, pem = certificate(tmp_path)
    client_id = control.add_application("with certificate")
    options = msal_options(control)
    with CertificateCredential(control.address.azure.tenant_id, client_id, str(path), **options) as credential:
        with pytest.raises(ClientAuthenticationError, match="AADSTS700027"):
            credential.get_token(scope(control))
        control.add_certificate(client_id, pem)
        assert credential.get_token(scope(control)).token


def test_no_token_reaches_the_request_log(control: SandboxControl, ask: Callable[..., requests.Response]) -> None:
    value = ask().json()["access_token"]
    logged = [entry for entry in control.requests() if entry["path"].endswith("/oauth2/v2.0/token")]
    assert logged
    assert value not in str(logged)
