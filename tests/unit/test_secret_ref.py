"""Which Secrets the mode secretRef uses, and what it says of those that it does not; nothing here asks a platform."""

import io
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.pem import certificate_pem, ec_key, key_pem, rsa_key
from tests.vault import Vault
from trainyard.api.identity import SECRET_REF
from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.audit.log import AuditLog
from trainyard.core.errors import IdentityError
from trainyard.core.snapshot import Target
from trainyard.identity.base import SecretData, SecretRef, Speaker
from trainyard.identity.broker import Broker
from trainyard.identity.certificate import certificate_of
from trainyard.identity.hosts import HostPolicy
from trainyard.identity.secret_age import CHANGED_AT
from trainyard.identity.secret_reading import OPT_IN
from trainyard.identity.secret_ref import SecretMode

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
HOST = "https://adb-1.2.azuredatabricks.net"
AZURE = {
    "subscriptionId": "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
    "resourceGroup": "ml",
    "workspaceName": "wine",
    "tenantId": "contoso.com",
}
CANARY = "canary-0123456789abcdef"
OAUTH, CLIENT, CERTIFICATE, PERSONAL = (
    "DatabricksOAuthSecret",
    "EntraClientSecret",
    "EntraCertificate",
    "PersonalAccessToken",
)
ENTRA = {"tenantId": "contoso.com"}


def mode(vault: Vault, now: datetime = NOW) -> SecretMode:
    return SecretMode(vault, HostPolicy(), AuditLog(io.StringIO()), lambda: now)


def spec(kind: str, where: Mapping[str, Any] | None = None, **given: Any) -> MLWorkspaceSpec:
    entra = {"entra": ENTRA} if kind.startswith("Entra") and where is None else {}
    allowed = {"allowPersonalAccessToken": True} if kind == PERSONAL else {}
    identity = {SECRET_REF: {"name": "kept", "type": kind, **entra, **allowed, **given}}
    return MLWorkspaceSpec.model_validate(
        {**(where or {"databricks": {"host": HOST}}), "identity": identity, "computeClasses": {}}
    )


def speaker(vault: Vault, workspace: MLWorkspaceSpec, now: datetime = NOW) -> Speaker:
    platform = "azureml" if workspace.azure_ml is not None else "databricks"
    return mode(vault, now).speaker(workspace.identity, "team", platform)


def refused(vault: Vault, workspace: MLWorkspaceSpec, now: datetime = NOW) -> IdentityError:
    with pytest.raises(IdentityError) as raised:
        speaker(vault, workspace, now)
    assert CANARY not in raised.value.message + repr(raised.value)
    assert "team" in raised.value.message or "identity" in raised.value.message or "token" in raised.value.message
    return raised.value


def kept(kind: str, changed_at: datetime = NOW) -> Vault:
    data = {
        OAUTH: {"client_id": "app", "client_secret": CANARY},
        CLIENT: {"client_id": "app", "client_secret": CANARY},
        CERTIFICATE: {"client_id": "app", "certificate": certificate_pem() + key_pem()},
        PERSONAL: {"token": CANARY},
    }[kind]
    return Vault(kind, changed_at, **data)


@pytest.mark.parametrize("kind", [OAUTH, CLIENT, CERTIFICATE, PERSONAL])
def test_a_secret_of_the_runs_own_namespace_speaks_for_its_principal(kind: str) -> None:
    vault = kept(kind)
    assert speaker(vault, spec(kind)) == Speaker("secret/kept" if kind == PERSONAL else "app")
    assert vault.read == [SecretRef("team", "kept")]


def test_the_workspaces_client_id_counts_before_the_secrets() -> None:
    vault = Vault(OAUTH, client_secret=CANARY)
    assert speaker(vault, spec(OAUTH, clientId="named")).principal == "named"
    assert refused(vault, spec(OAUTH)).reason == "SecretKeyMissing"


def test_azure_ml_takes_the_secrets_of_entra_alone() -> None:
    where = {"azureML": AZURE}
    assert speaker(kept(CLIENT), spec(CLIENT, where)).principal == "app"
    for kind in (OAUTH, PERSONAL):
        vault = kept(kind)
        assert refused(vault, spec(kind, where)).reason == "InvalidSpec"
        assert vault.read == []


@pytest.mark.parametrize("value", [None, "", CLIENT, "oidc", "true"])
def test_a_secret_that_does_not_opt_in_as_that_type_is_not_used(value: str | None) -> None:
    vault = kept(OAUTH)
    vault.annotations = {} if value is None else {OPT_IN: value}
    error = refused(vault, spec(OAUTH))
    assert (error.reason, error.waiting) == ("SecretNotOptedIn", True)
    assert f"{OPT_IN}={OAUTH}" in error.message


def test_a_personal_token_is_used_only_where_the_workspace_says_so() -> None:
    """The schema says the same; this holds where somebody has another schema installed, and for what was pinned."""
    vault = kept(PERSONAL)
    for workspace in (spec(PERSONAL, allowPersonalAccessToken=None), spec(PERSONAL, allowPersonalAccessToken=False)):
        assert refused(vault, workspace).reason == "ModeNotAllowed"
        target = Target("databricks", HOST, "secret/kept", SECRET_REF, "", "", workspace.identity)
        tokens = mode(vault).source(target, "team", "")
        with pytest.raises(IdentityError) as raised:
            tokens.token()
        assert raised.value.reason == "ModeNotAllowed"
    assert vault.read == []


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n\n"])
def test_the_newline_of_a_hand_made_secret_is_no_part_of_it(end: str) -> None:
    vault = Vault(OAUTH, client_id="app" + end, client_secret=CANARY + end)
    assert speaker(vault, spec(OAUTH)).principal == "app"


@pytest.mark.parametrize(
    ("kind", "key", "value", "reason"),
    [
        (OAUTH, "client-secret", "", "SecretKeyMissing"),
        (OAUTH, "client-secret", " \n", "SecretKeyMissing"),
        (OAUTH, "client-secret", f"{CANARY} {CANARY}", "SecretUnusable"),
        (OAUTH, "client-secret", f"{CANARY}\r\nX-Header: 1", "SecretUnusable"),
        (OAUTH, "client-secret", f"{CANARY}\x00", "SecretUnusable"),
        (OAUTH, "client-secret", f"{CANARY}é", "SecretUnusable"),
        (OAUTH, "client-secret", CANARY * 200, "SecretUnusable"),
        (OAUTH, "client-id", f"{CANARY}:x", "SecretUnusable"),
        (OAUTH, "client-id", "a" * 65, "SecretUnusable"),
        (CLIENT, "client-secret", f"{CANARY}\t{CANARY}", "SecretUnusable"),
        (PERSONAL, "token", f"Bearer {CANARY}", "SecretUnusable"),
        (PERSONAL, "token", "", "SecretKeyMissing"),
        (CERTIFICATE, "certificate", CANARY, "SecretUnusable"),
        (CERTIFICATE, "certificate", CANARY * 4000, "SecretUnusable"),
    ],
)
def test_an_entry_that_can_not_be_one_is_told_by_its_key_alone(kind: str, key: str, value: str, reason: str) -> None:
    vault = kept(kind)
    vault.data[key] = value.encode()
    error = refused(vault, spec(kind))
    assert error.reason == reason
    assert f"key {key}" in error.message
    assert "team/kept" in error.message


def test_an_entry_that_is_no_text_is_told() -> None:
    vault = kept(OAUTH)
    vault.data["client-secret"] = b"\xff\xfe"
    assert refused(vault, spec(OAUTH)).reason == "SecretUnusable"


AGES = [
    (0 * DAY, None, ""),
    (23 * DAY - timedelta(seconds=1), None, ""),
    (23 * DAY, None, "SecretExpiring"),
    (30 * DAY - timedelta(seconds=1), None, "SecretExpiring"),
    (30 * DAY, None, "SecretTooOld"),
    (30 * DAY, "90d", ""),
    (83 * DAY, "90d", "SecretExpiring"),
    (90 * DAY, "90d", "SecretTooOld"),
    (6 * DAY, "12d", "SecretExpiring"),
    (timedelta(minutes=31), "60m", "SecretExpiring"),
    (timedelta(minutes=60), "60m", "SecretTooOld"),
]


@pytest.mark.parametrize("kind", [OAUTH, CLIENT, CERTIFICATE, PERSONAL])
@pytest.mark.parametrize(("age", "max_age", "expected"), AGES)
def test_a_secret_is_warned_of_and_then_refused_by_its_age(
    kind: str, age: timedelta, max_age: str | None, expected: str
) -> None:
    vault, workspace = kept(kind, NOW - age), spec(kind, maxAge=max_age)
    if expected == "SecretTooOld":
        error = refused(vault, workspace)
        assert (error.reason, error.waiting) == ("SecretTooOld", False)
        assert (max_age or "30d") in error.message
        return
    told = speaker(vault, workspace).cautions
    assert [caution.reason for caution in told] == ([expected] if expected else [])
    assert all(caution.condition == "CredentialExpiring" for caution in told)


def test_the_words_of_a_warning_stay_until_the_secret_changes() -> None:
    """They go into a status, which is written whenever they change."""
    first, later = (speaker(kept(OAUTH, NOW - 25 * DAY), spec(OAUTH), NOW + days * DAY).cautions for days in (0, 3))
    assert first == later
    assert (NOW + 5 * DAY).strftime("%Y-%m-%dT%H:%M:%SZ") in first[0].message


def test_an_annotation_makes_the_secret_older_and_no_newer() -> None:
    vault = kept(OAUTH, NOW - 10 * DAY)
    vault.annotations[CHANGED_AT] = (NOW - 40 * DAY).isoformat()
    assert refused(vault, spec(OAUTH)).reason == "SecretTooOld"
    vault = kept(OAUTH, NOW - 40 * DAY)
    vault.annotations[CHANGED_AT] = NOW.isoformat()
    assert refused(vault, spec(OAUTH)).reason == "SecretTooOld"


def test_an_annotation_that_is_no_time_is_told() -> None:
    vault = kept(OAUTH)
    vault.annotations[CHANGED_AT] = "last week"
    error = refused(vault, spec(OAUTH))
    assert error.reason == "SecretUnusable"
    assert CHANGED_AT in error.message


def test_writing_the_same_data_again_does_not_make_it_younger_but_a_corrected_annotation_does() -> None:
    vault = kept(OAUTH, NOW - 20 * DAY)
    clock = [NOW]
    made = SecretMode(vault, HostPolicy(), AuditLog(io.StringIO()), lambda: clock[0])

    def ask() -> Speaker:
        return made.speaker(spec(OAUTH).identity, "team", "databricks")

    ask()
    vault.annotations[CHANGED_AT] = (NOW - 40 * DAY).isoformat()
    with pytest.raises(IdentityError):
        ask()
    del vault.annotations[CHANGED_AT]
    assert ask().cautions == ()
    vault.changed_at, clock[0] = NOW, NOW + 10 * DAY
    with pytest.raises(IdentityError) as raised:
        ask()
    assert raised.value.reason == "SecretTooOld"
    vault.data["client-secret"] = b"another"
    assert ask().cautions == ()


def test_a_secret_that_now_stands_for_somebody_else_is_not_used_for_what_was_pinned() -> None:
    vault, workspace = kept(CLIENT), spec(CLIENT, {"azureML": AZURE})
    target = Broker(HostPolicy(), {SECRET_REF: mode(vault)}).target(workspace, "team")
    assert (target.principal, target.identity) == ("app", workspace.identity)
    vault.data["client-id"] = b"other"
    tokens = mode(vault).source(target, "team", "https://management.azure.com/.default")
    with pytest.raises(IdentityError) as raised:
        tokens.token()
    assert raised.value.reason == "ClientIdMismatch"


def test_the_broker_passes_on_what_has_to_be_told_and_reads_no_secret_for_it_twice() -> None:
    vault = kept(OAUTH, NOW - 25 * DAY)
    broker = Broker(HostPolicy(), {SECRET_REF: mode(vault)})
    broker.target(spec(OAUTH), "team")
    assert [caution.reason for caution in broker.cautions(spec(OAUTH), "team")] == ["SecretExpiring"]
    assert len(vault.read) == 1


@pytest.mark.parametrize("kind", [OAUTH, PERSONAL, CLIENT])
def test_a_source_says_which_secret_it_speaks_by(kind: str) -> None:
    target = Target("databricks", HOST, "app", SECRET_REF, "", "", spec(kind).identity)
    scope = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d/.default" if kind == CLIENT else ""
    told = mode(kept(kind)).source(target, "team", scope).describe()
    assert told == {"principal": "app", "mode": "secretRef", "secret": "team/kept"}


# Certificates.

TLS = SecretRef("team", "kept")


def tls(**entries: str) -> SecretData:
    return SecretData({}, {key.replace("_", "."): value.encode() for key, value in entries.items()}, NOW)


def bad(found: SecretData, now: datetime = NOW) -> IdentityError:
    with pytest.raises(IdentityError) as raised:
        certificate_of(found, TLS, now)
    assert "-----BEGIN PRIVATE KEY-----\n" not in raised.value.message
    return raised.value


def test_a_certificate_and_its_key_are_found_in_one_entry_or_two_in_any_order() -> None:
    own, other = certificate_pem(), certificate_pem(rsa_key("authority"), name="authority")
    for found in (
        tls(certificate=own + key_pem()),
        tls(certificate=key_pem() + own),
        tls(certificate=other + own + key_pem()),
        tls(tls_crt=own + other, tls_key=key_pem(), ca_crt=other),
    ):
        pem = certificate_of(found, TLS, NOW).pem.decode()
        assert pem.startswith(own)
        assert other not in pem
        assert pem.rstrip().endswith("-----END PRIVATE KEY-----")


@pytest.mark.parametrize(
    ("entries", "key", "words"),
    [
        ({"certificate": "{certificate}"}, "certificate", "no private key"),
        ({"certificate": "{key}"}, "certificate", "no certificate"),
        ({"tls_crt": "{certificate}"}, "tls.key", "no key tls.key"),
        ({"tls_crt": "{certificate}", "tls_key": "{encrypted}"}, "tls.key", "password"),
        ({"tls_crt": "{certificate}", "tls_key": "{legacy}"}, "tls.key", "password"),
        ({"tls_crt": "{certificate}", "tls_key": "{broken}"}, "tls.key", "can not be read"),
        ({"tls_crt": "{curve_certificate}", "tls_key": "{curve}"}, "tls.key", "RSA"),
        ({}, "certificate", "no key certificate"),
    ],
)
def test_what_is_no_certificate_with_its_key_is_told(entries: dict[str, str], key: str, words: str) -> None:
    parts = {
        "certificate": certificate_pem(),
        "key": key_pem(),
        "encrypted": key_pem(password=b"x"),
        "legacy": key_pem().replace("KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\n", 1),
        "broken": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        "curve": key_pem(ec_key()),
        "curve_certificate": certificate_pem(ec_key()),
    }
    error = bad(tls(**{name: value.format(**parts) for name, value in entries.items()}))
    assert words in error.message
    assert f"key {key}" in error.message


def test_a_certificate_of_a_version_that_does_not_exist_is_told() -> None:
    der = ssl.PEM_cert_to_DER_cert(certificate_pem())
    version = b"\xa0\x03\x02\x01"  # RFC 5280, 4.1: [0] EXPLICIT INTEGER
    assert der.count(version + b"\x02") == 1
    odd = ssl.DER_cert_to_PEM_cert(der.replace(version + b"\x02", version + b"\x07"))
    assert bad(tls(tls_crt=odd, tls_key=key_pem())).reason == "SecretUnusable"


def test_a_key_of_another_certificate_is_told_before_anything_is_signed() -> None:
    error = bad(tls(tls_crt=certificate_pem(), tls_key=key_pem(rsa_key("two"))))
    assert error.reason == "CertificateKeyMismatch"


def test_a_certificate_is_used_from_its_first_second_to_before_its_last() -> None:
    found = tls(certificate=certificate_pem(begins=NOW, ends=NOW + DAY) + key_pem())
    assert certificate_of(found, TLS, NOW).ends_at == NOW + DAY
    assert certificate_of(found, TLS, NOW + DAY - timedelta(seconds=1))
    late, early = bad(found, NOW + DAY), bad(found, NOW - timedelta(seconds=1))
    assert (late.reason, late.waiting) == ("CertificateExpired", False)
    assert (early.reason, early.waiting) == ("CertificateNotYetValid", True)


def test_a_certificate_that_ends_before_the_secret_is_too_old_is_warned_of() -> None:
    ends = NOW + 6 * DAY
    vault = Vault(CERTIFICATE, client_id="app", certificate=certificate_pem(ends=ends) + key_pem())
    [caution] = speaker(vault, spec(CERTIFICATE)).cautions
    assert caution.condition == "CredentialExpiring"
    assert "its certificate ends then" in caution.message
    assert ends.strftime("%Y-%m-%dT%H:%M:%SZ") in caution.message
