"""Which providers may be asked, how a client proves itself, and what a token must be before it is sent on."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from trainyard.api.identity import OidcIdentity
from trainyard.core.errors import IdentityError
from trainyard.identity.base import SecretData, SecretRef
from trainyard.identity.oidc_claims import assertion_of
from trainyard.identity.oidc_client import by_key, by_secret, key_of, require_method
from trainyard.identity.oidc_issuers import IssuerPolicy
from trainyard.identity.oidc_provider import request_form

ISSUER = "https://example.okta.com/oauth2/default"
AUDIENCE = "https://acme.example/databricks"
ENTRA = "api://AzureADTokenExchange"
SECRET = SecretRef("team", "okta")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RSA_KEY = rsa.generate_private_key(65537, 2048)


def refused(call: Any, *arguments: Any, **named: Any) -> IdentityError:
    with pytest.raises(IdentityError) as raised:
        call(*arguments, **named)
    return raised.value


# --- issuers


@pytest.mark.parametrize(
    ("allowed", "issuer"),
    [
        ([ISSUER], ISSUER),
        (["example.okta.com"], ISSUER),
        (["*.okta.com"], ISSUER),
        (["https://tenant.auth0.com/"], "https://tenant.auth0.com/"),
        (["idp.acme.example:8443"], "https://idp.acme.example:8443/realms/ml"),
    ],
)
def test_an_issuer_on_the_list_may_be_asked(allowed: list[str], issuer: str) -> None:
    IssuerPolicy(allowed).check(issuer)


@pytest.mark.parametrize(
    ("allowed", "issuer"),
    [
        ([], ISSUER),
        ([ISSUER], ISSUER + "/"),
        ([ISSUER], "https://example.okta.com/oauth2/other"),
        ([ISSUER], "https://example.okta.com"),
        ([ISSUER], ISSUER.upper()),
        (["https://tenant.auth0.com/"], "https://tenant.auth0.com"),
        (["example.okta.com"], "https://evil.example/example.okta.com"),
        (["example.okta.com"], "https://example.okta.com.evil.example"),
        (["example.okta.com"], "https://example.okta.com@evil.example"),
        (["example.okta.com"], "https://example.okta.com:8443"),
        (["example.okta.com"], "http://example.okta.com"),
        (["example.okta.com"], "https://example.okta.com/?x=1"),
        (["example.okta.com"], "https://example.okta.com/#x"),
        (["example.okta.com"], "https://evil.example\\@example.okta.com"),
        (["*.okta.com"], "https://okta.com"),
        (["*.okta.com"], "https://evilokta.com"),
    ],
)
def test_no_other_issuer_is_asked(allowed: list[str], issuer: str) -> None:
    assert refused(IssuerPolicy(allowed).check, issuer).reason == "IssuerNotAllowed"


@pytest.mark.parametrize(
    "text", ["http://idp.example/", "https://", "*", "*.com/x", "idp example", "https://a@b/", "/x"]
)
def test_an_entry_that_means_nothing_is_told_with_its_flag(text: str) -> None:
    with pytest.raises(ValueError, match="--allowed-issuer"):
        IssuerPolicy([text])


@pytest.mark.parametrize(
    ("token_hosts", "endpoint", "allowed"),
    [
        ([], "https://example.okta.com/oauth2/default/v1/token", True),
        (["tokens.okta.example"], "https://tokens.okta.example/v1/token", True),
        ([], "https://tokens.okta.example/v1/token", False),
        ([], "https://example.okta.com:444/v1/token", False),
        ([], "http://example.okta.com/v1/token", False),
        ([], "https://example.okta.com@evil.example/token", False),
        # What Databricks may name for itself is no place for a provider's secret.
        ([], "https://accounts.cloud.databricks.com/oidc/v1/token", False),
    ],
)
def test_a_secret_goes_to_the_issuers_own_host_or_one_that_is_allowed(
    token_hosts: list[str], endpoint: str, allowed: bool
) -> None:
    policy = IssuerPolicy([ISSUER], token_hosts)
    if allowed:
        assert policy.check_token_endpoint(ISSUER, endpoint) == endpoint
    else:
        assert refused(policy.check_token_endpoint, ISSUER, endpoint).reason == "TokenEndpointNotAllowed"


# --- clients


def secret_with(**data: bytes) -> SecretData:
    return SecretData({}, {name.replace("_", "-"): value for name, value in data.items()}, NOW)


def test_a_client_and_its_secret_are_form_encoded_before_they_are_joined() -> None:
    proof = by_secret("app:1", secret_with(client_secret=b" a:b+c %/~ \n"), SECRET)
    encoded = proof.headers["Authorization"].removeprefix("Basic ")
    assert base64.b64decode(encoded) == b"app%3A1:a%3Ab%2Bc+%25%2F~"
    assert encoded not in repr(proof)


@pytest.mark.parametrize("value", [b"", b" \n", b"two\nlines", b"\x00", b"\xff\xfe"])
def test_a_secret_that_can_not_be_one_is_told_by_its_key_and_never_by_its_value(value: bytes) -> None:
    error = refused(by_secret, "app", secret_with(client_secret=value), SECRET)
    assert error.reason in ("SecretKeyMissing", "SecretUnusable")
    assert "team/okta" in error.message
    assert "client-secret" in error.message
    assert "lines" not in error.message.replace("more than one line", "")


def pem(key: Any, encryption: Any = None) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def identity_with(**given: str | None) -> OidcIdentity:
    named = {"issuer": ISSUER, "clientId": "app", "secretName": "s", "authentication": "PrivateKeyJwt"}
    return OidcIdentity.model_validate({**named, "principal": "p", **given})


@pytest.mark.parametrize(
    ("private", "algorithm"), [(RSA_KEY, "RS256"), (ec.generate_private_key(ec.SECP256R1()), "ES256")]
)
def test_a_client_assertion_is_for_one_request_and_soon_over(private: Any, algorithm: str) -> None:
    key = key_of(secret_with(private_key=pem(private)), SECRET)
    forms = [by_key(identity_with(), f"{ISSUER}/v1/token", key, NOW).form for _ in range(2)]
    assert forms[0]["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    read = [jwt.decode_complete(form["client_assertion"], options={"verify_signature": False}) for form in forms]
    lax = {"verify_exp": False, "verify_iat": False, "verify_aud": False}
    jwt.decode(forms[0]["client_assertion"], private.public_key(), algorithms=[algorithm], options=lax)
    claims = read[0]["payload"]
    assert (claims["iss"], claims["sub"]) == ("app", "app")
    assert claims["iat"] == NOW.timestamp()
    assert 0 < claims["exp"] - claims["iat"] <= 300
    assert claims["jti"] != read[1]["payload"]["jti"]


@pytest.mark.parametrize(
    ("said", "kept", "sent"),
    [(None, {}, None), ("one", {}, "one"), ("one", {"key_id": b"two\n"}, "two"), (None, {"key_id": b"two"}, "two")],
)
def test_the_keys_id_beside_it_in_the_secret_counts_first(
    said: str | None, kept: dict[str, bytes], sent: str | None
) -> None:
    """A key is rotated by changing the Secret alone, also for attempts that were made before."""
    key = key_of(secret_with(private_key=pem(RSA_KEY), **kept), SECRET)
    form = by_key(identity_with(keyId=said), f"{ISSUER}/v1/token", key, NOW).form
    assert jwt.get_unverified_header(form["client_assertion"]).get("kid") == sent


@pytest.mark.parametrize(
    ("said", "audience", "kind"),
    [
        (None, f"{ISSUER}/v1/token", "JWT"),
        ("TokenEndpoint", f"{ISSUER}/v1/token", "JWT"),
        ("Issuer", ISSUER, "client-authentication+jwt"),
    ],
)
def test_a_client_assertion_is_for_whom_the_workspace_says(said: str | None, audience: str, kind: str) -> None:
    key = key_of(secret_with(private_key=pem(RSA_KEY)), SECRET)
    form = by_key(identity_with(assertionAudience=said), f"{ISSUER}/v1/token", key, NOW).form
    read = jwt.decode_complete(form["client_assertion"], options={"verify_signature": False})
    assert (read["payload"]["aud"], read["header"]["typ"]) == (audience, kind)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (pem(rsa.generate_private_key(65537, 1024)), "2048 bits"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "P-256"),
        (pem(ed25519.Ed25519PrivateKey.generate()), "neither"),
        (pem(RSA_KEY, BestAvailableEncryption(b"hush")), "password"),
        (b"-----BEGIN PRIVATE KEY-----\nhush\n-----END PRIVATE KEY-----", "PEM"),
        (b"hush", "PEM"),
    ],
)
def test_a_key_that_can_not_sign_is_told_without_its_value(value: bytes, told: str) -> None:
    error = refused(key_of, secret_with(private_key=value), SECRET)
    assert error.reason == "SecretUnusable"
    assert told in error.message
    assert "hush" not in error.message


def test_a_secret_without_the_key_is_told_with_the_keys_that_it_has() -> None:
    error = refused(key_of, secret_with(client_secret=b"hush"), SECRET)
    assert error.reason == "SecretKeyMissing"
    assert "client-secret" in error.message
    assert "hush" not in error.message


BASIC, BY_KEY = "ClientSecretBasic", "PrivateKeyJwt"
METHODS, ALGORITHMS = "token_endpoint_auth_methods_supported", "token_endpoint_auth_signing_alg_values_supported"


@pytest.mark.parametrize(
    ("method", "algorithm", "metadata", "taken"),
    [
        (BASIC, None, {}, True),
        (BY_KEY, "RS256", {}, True),
        (BASIC, None, {METHODS: ["client_secret_basic"], ALGORITHMS: ["RS256"]}, True),
        (BASIC, None, {METHODS: ["client_secret_post", "private_key_jwt"]}, False),
        (BY_KEY, "RS256", {METHODS: ["client_secret_basic"]}, False),
        (BY_KEY, "ES256", {METHODS: ["private_key_jwt"], ALGORITHMS: ["RS256"]}, False),
        (BY_KEY, "ES256", {METHODS: ["private_key_jwt"], ALGORITHMS: ["ES256"]}, True),
    ],
)
def test_a_client_proves_itself_only_as_its_provider_says_that_it_takes(
    method: str, algorithm: str | None, metadata: dict[str, Any], taken: bool
) -> None:
    if taken:
        require_method(method, algorithm, metadata, ISSUER)
    else:
        error = refused(require_method, method, algorithm, metadata, ISSUER)
        assert error.reason == "ClientAuthenticationUnsupported"


@pytest.mark.parametrize(
    ("given", "form"),
    [
        ({}, {}),
        ({"scope": "a b"}, {"scope": "a b"}),
        ({"audience": ENTRA}, {"audience": ENTRA, "resource": ENTRA}),
        ({"audience": "databricks"}, {"audience": "databricks"}),
        ({"audience": "https://x.example/#f"}, {"audience": "https://x.example/#f"}),
    ],
)
def test_only_what_the_workspace_says_is_asked_for(given: dict[str, Any], form: dict[str, str]) -> None:
    """`resource` must be an absolute URI without a fragment (RFC 8707, section 2)."""
    named = {"issuer": ISSUER, "clientId": "app", "secretName": "s", "authentication": BASIC, "principal": "p"}
    identity = OidcIdentity.model_validate({**named, **given})
    assert request_form(identity) == {"grant_type": "client_credentials", **form}


# --- tokens


def token(algorithm: str = "RS256", **changed: Any) -> str:
    seconds = int(NOW.timestamp())
    claims = {"iss": ISSUER, "sub": "app", "aud": AUDIENCE, "iat": seconds, "exp": seconds + 600, "jti": "AT.1"}
    given = {name: value for name, value in {**claims, **changed}.items() if value is not None}
    keys: dict[str, Any] = {"RS256": RSA_KEY, "RS512": RSA_KEY, "HS256": "k" * 32, "none": None}
    return jwt.encode(given, keys[algorithm], algorithm=algorithm, headers={"kid": "first"})


def read(value: str, audience: str | None = None, *, for_entra: bool = False) -> Any:
    return assertion_of(value, ISSUER, audience, NOW, for_entra=for_entra)


def test_a_good_token_is_the_assertion_with_what_a_policy_has_to_say() -> None:
    value = token(aud=["other", AUDIENCE])
    found = read(value, AUDIENCE)
    assert (found.value, found.issuer, found.subject, found.audience) == (value, ISSUER, "app", AUDIENCE)
    assert found.jti == "AT.1"
    assert value not in repr(found)
    assert read(token(jti=None)).jti is None
    assert read(token(aud=[ENTRA, "other"]), for_entra=True).audience == ENTRA


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"iss": ISSUER + "/"}, "another issuer"),
        ({"iss": None}, "another issuer"),
        ({"sub": None}, "no subject"),
        ({"sub": ""}, "no subject"),
        ({"aud": None}, "no audience"),
        ({"aud": []}, "no audience"),
        ({"exp": None}, "no expiry"),
        ({"algorithm": "HS256"}, "HS256"),
        ({"algorithm": "none"}, "none"),
        ({"algorithm": "RS512"}, "RS512"),
        ({"aud": "kubernetes"}, "API server"),
        ({"aud": [AUDIENCE, "api"]}, "API server"),
        ({"aud": "https://kubernetes.default.svc.cluster.local"}, "API server"),
    ],
)
def test_a_token_that_no_platform_should_see_is_not_sent(changed: dict[str, Any], told: str) -> None:
    error = refused(read, token(**changed))
    assert error.reason == "AssertionUnusable"
    assert told in error.message
    assert ISSUER in error.message


@pytest.mark.parametrize("value", ["opaque-token", "a.b.c", "a.b.c.d.e", "...", ""])
def test_a_token_that_is_no_jwt_is_told_without_its_value(value: str) -> None:
    error = refused(read, value)
    assert error.reason == "AssertionUnusable"
    assert "no JWT" in error.message
    assert "opaque-token" not in error.message


def test_a_token_without_the_audience_that_was_asked_for_is_told() -> None:
    error = refused(read, token(), "https://other.example")
    assert error.reason == "AssertionUnusable"
    assert AUDIENCE in error.message
    assert "https://other.example" in error.message


@pytest.mark.parametrize("audience", [AUDIENCE, ENTRA.lower(), [AUDIENCE]])
def test_entra_is_sent_nothing_but_what_is_meant_for_it(audience: Any) -> None:
    error = refused(read, token(aud=audience), for_entra=True)
    assert error.reason == "AssertionUnusable"
    assert ENTRA in error.message


def after(**delta: float) -> int:
    return int((NOW + timedelta(**delta)).timestamp())


@pytest.mark.parametrize(
    "times",
    [
        {"exp": after(seconds=0)},
        {"exp": after(hours=-1)},
        {"nbf": after(minutes=10)},
        {"iat": after(minutes=10), "exp": after(minutes=20)},
    ],
)
def test_a_token_that_is_not_valid_now_is_told_as_a_clock_that_is_wrong(times: dict[str, int]) -> None:
    error = refused(read, token(**times))
    assert error.reason == "ClockSkew"
    assert "clock" in error.message


@pytest.mark.parametrize("times", [{"iat": after(seconds=30), "nbf": after(seconds=30)}, {"iat": None}])
def test_clocks_may_differ_a_little(times: dict[str, Any]) -> None:
    assert read(token(**times)).subject == "app"


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", ["soon", True, {}])
def test_times_that_are_no_times_are_refused(name: str, value: Any) -> None:
    assert refused(read, token(**{name: value})).reason == "AssertionUnusable"
