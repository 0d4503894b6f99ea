"""The doctor at an issuer: read as a platform reads it, with keys that are current, gone, or somebody else's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.sandbox.issuer import TestIssuer
from tests.wire.conftest import Trail
from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.client.doctor import issuer as link
from trainyard.client.doctor.case import Case, Means, Subject
from trainyard.client.doctor.results import Result
from trainyard.client.errors import NotAllowed
from trainyard.identity.assertion import Assertion
from trainyard.identity.base import ServiceAccountRef
from trainyard_sandbox.client import SandboxControl

SUBJECT, AUDIENCE = "system:serviceaccount:team-a:trainer", "trainyard-databricks"
DISCOVERY = "/.well-known/openid-configuration"
NOWHERE = "https://127.0.0.1:1"


class ApiServer:
    """What the API server itself shows of its issuer."""

    def __init__(self, issuer: str, keys: dict[str, Any] | None) -> None:
        self._issuer, self._keys = issuer, keys

    def issuer_documents(self) -> tuple[dict[str, Any], dict[str, Any]]:
        if self._keys is None:
            raise NotAllowed("the API server hides them")
        return {"issuer": self._issuer}, self._keys


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[TestIssuer]:
    """An issuer of this test's own."""
    with TestIssuer(tmp_path) as running:
        yield running


@pytest.fixture(autouse=True)
def trusted(
    provider: TestIssuer, control: SandboxControl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    bundle = tmp_path / "cas.pem"
    bundle.write_bytes(provider.ca_file.read_bytes() + control.address.ca_file.read_bytes())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    yield
    control.clear_faults()


def look(token: str, issuer: str, audit: Trail, *, entra: bool = False, server: ApiServer | None = None) -> Result:
    means = Means(
        cast(Any, server), cast(Any, None), audit.log, cast(Any, None), ServiceAccountRef("system", "trainyard"), "ada"
    )
    case = Case(Subject("MLWorkspace", "w", "team-a"), means)
    federated: dict[str, Any] = {"serviceAccountName": "trainer", **({"entra": {"tenantId": "t"}} if entra else {})}
    spec = {"databricks": {"host": "https://adb-1.azuredatabricks.net"}, "identity": {"federated": federated}}
    case.found_workspace = MLWorkspaceSpec.model_validate({**spec, "computeClasses": {}})
    case.assertion = Assertion(token, issuer, SUBJECT, AUDIENCE, None)
    return link.look(case)


def test_an_issuer_that_publishes_the_key_passes_and_gets_no_token(provider: TestIssuer, audit: Trail) -> None:
    token = provider.assertion(SUBJECT, AUDIENCE)
    found = look(token, provider.url, audit)
    assert (found.outcome.value, dict(found.facts)) == ("Passed", {"issuer": provider.url, "keyId": "first"})
    paths = [record["path"] for record in audit.records() if record["event"] == "request"]
    assert paths == [DISCOVERY, "/openid/v1/jwks"]
    assert token not in found.message + audit.stream.getvalue()


def test_a_document_that_names_another_issuer_is_told(provider: TestIssuer, audit: Trail) -> None:
    provider.discovery["issuer"] = provider.url + "/"
    assert look(provider.assertion(SUBJECT, AUDIENCE), provider.url, audit).word == "IssuerDiffers"


def test_a_document_without_keys_is_told(provider: TestIssuer, audit: Trail) -> None:
    del provider.discovery["jwks_uri"]
    assert look(provider.assertion(SUBJECT, AUDIENCE), provider.url, audit).word == "KeysNotNamed"


def test_a_key_that_is_not_published_any_more_is_told_with_those_that_are(provider: TestIssuer, audit: Trail) -> None:
    token = provider.assertion(SUBJECT, AUDIENCE)
    provider.rotate("second")
    found = look(token, provider.url, audit)
    assert found.word == "KeyNotPublished"
    assert "first" in found.message
    assert "it has second" in found.message
    assert look(provider.assertion(SUBJECT, AUDIENCE), provider.url, audit).outcome.value == "Passed"


def test_another_key_of_the_same_name_is_told(provider: TestIssuer, audit: Trail) -> None:
    token = provider.assertion(SUBJECT, AUDIENCE)
    provider.rotate("first")
    assert look(token, provider.url, audit).word == "SignatureWrong"


def test_an_issuer_that_can_not_be_reached_is_not_called_wrong_and_its_keys_come_from_the_api_server(
    provider: TestIssuer, audit: Trail
) -> None:
    token, keys = provider.assertion(SUBJECT, AUDIENCE), provider.jwks()
    found = look(token, NOWHERE, audit, server=ApiServer(NOWHERE, keys))
    assert (found.outcome.value, found.word) == ("NotSeen", "IssuerNotReached")
    assert "keys fit the token" in found.message
    provider.rotate("second")
    assert look(token, NOWHERE, audit, server=ApiServer(NOWHERE, provider.jwks())).word == "KeyNotPublished"
    hidden = look(token, NOWHERE, audit, server=ApiServer(NOWHERE, None))
    assert (hidden.outcome.value, hidden.goes_on) == ("NotSeen", False)
    assert "can not be seen" in hidden.message


def test_an_issuer_that_hides_its_documents_fails_for_entra_and_is_not_seen_for_databricks(
    provider: TestIssuer, audit: Trail, control: SandboxControl
) -> None:
    control.add_fault("status", DISCOVERY, status=403, times=0)
    token, host = provider.assertion(SUBJECT, AUDIENCE), control.address.host
    assert look(token, host, audit).outcome.value == "NotSeen"  # the policy may have the keys in it
    found = look(token, host, audit, entra=True)
    assert (found.outcome.value, found.word) == ("Failed", "IssuerHidden")
    assert found.remedies[0].command.startswith("kubectl create clusterrolebinding")


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 404}, {"kind": "redirect", "location": NOWHERE}])
def test_something_else_in_the_issuers_place_is_told(
    provider: TestIssuer, audit: Trail, control: SandboxControl, fault: dict[str, Any]
) -> None:
    control.add_fault(path=DISCOVERY, times=0, **fault)
    found = look(provider.assertion(SUBJECT, AUDIENCE), control.address.host, audit)
    assert (found.outcome.value, found.word) == ("Failed", "IssuerUnreadable")


def test_an_issuer_without_tls_is_never_asked(provider: TestIssuer, audit: Trail) -> None:
    found = look(provider.assertion(SUBJECT, AUDIENCE), provider.url.replace("https", "http"), audit)
    assert (found.outcome.value, found.word) == ("Failed", "IssuerUnreadable")


def test_a_token_that_is_signed_with_a_shared_secret_is_refused(provider: TestIssuer) -> None:
    import jwt

    token = jwt.encode({"sub": SUBJECT}, "x" * 64, algorithm="HS256", headers={"kid": "first"})
    with pytest.raises(Exception, match="SignatureWrong"):
        link.verify(token, provider.jwks()["keys"][0])
