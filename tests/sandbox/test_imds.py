"""The instance metadata service, with the unmodified ManagedIdentityCredential and with plain requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CredentialUnavailableError, ManagedIdentityCredential
from databricks.sdk import WorkspaceClient

from trainyard_sandbox.client import ControlError, SandboxControl

ML = "https://ml.azure.com"
DATABRICKS = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d"
TOKEN_PATH = "/metadata/identity/oauth2/token"
GOOD = {"api-version": "2018-02-01", "resource": ML}


@pytest.fixture(autouse=True)
def on_the_machine(control: SandboxControl, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """azure-identity asks the sandbox's service; afterwards the machine has no identity any more."""
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", control.address.imds)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(control.address.ca_file))
    yield
    for application in control.applications():
        if application["kind"] != "application":
            control.remove_application(application["client_id"])


@pytest.fixture
def ask(control: SandboxControl) -> Callable[..., requests.Response]:
    """One plain request: `ask({...query...}, headers={...})`, good unless told."""

    def get(
        query: dict[str, str] | list[tuple[str, str]] = GOOD, method: str = "GET", **headers: str
    ) -> requests.Response:
        sent = {"Metadata": "true"} | {name.replace("_", "-"): value for name, value in headers.items()}
        return requests.request(method, control.address.imds + TOKEN_PATH, params=query, headers=sent, timeout=30)

    return get


def refused(answer: requests.Response) -> tuple[int, str, str]:
    body = answer.json()
    assert set(body) == {"error", "error_description"}
    return answer.status_code, body["error"], body["error_description"]


def credential(**options: Any) -> ManagedIdentityCredential:
    return ManagedIdentityCredential(retry_total=0, retry_status=0, **options)


def claims_of(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def test_the_system_assigned_identity_answers_whoever_names_none(control: SandboxControl) -> None:
    system = control.add_managed_identity("vm", system_assigned=True)
    control.add_managed_identity("other")
    with credential() as asked:
        token = asked.get_token(f"{ML}/.default")
    claims = claims_of(token.token)
    assert (claims["appid"], claims["oid"], claims["aud"]) == (system.client_id, system.object_id, ML)
    assert claims["tid"] == control.address.azure.tenant_id
    assert abs(token.expires_on - claims["exp"]) <= 2


def test_a_token_tells_what_its_identity_belongs_to(control: SandboxControl) -> None:
    """So that whoever asked for the machine's own identity sees that it got the one other that there is."""
    only = control.add_managed_identity("only")
    with credential() as asked:
        assert claims_of(asked.get_token(f"{ML}/.default").token)["xms_mirid"] == only.resource_id
    system = control.add_managed_identity("vm", system_assigned=True)
    with credential() as asked:
        claims = claims_of(asked.get_token(f"{ML}/.default").token)
    assert claims["appid"] == system.client_id
    assert claims["xms_mirid"].endswith("/providers/Microsoft.Compute/virtualMachines/vm")


def test_a_user_assigned_identity_is_named_by_any_of_its_three_names(control: SandboxControl) -> None:
    control.add_managed_identity("vm", system_assigned=True)
    control.add_managed_identity("first")
    second = control.add_managed_identity("second")
    for naming in (
        {"client_id": second.client_id},
        {"identity_config": {"object_id": second.object_id}},
        {"identity_config": {"resource_id": second.resource_id}},
    ):
        with credential(**naming) as asked:
            assert claims_of(asked.get_token(f"{ML}/.default").token)["appid"] == second.client_id


def test_the_answer_is_all_strings_as_documented(
    control: SandboxControl, ask: Callable[..., requests.Response]
) -> None:
    control.add_managed_identity("only")
    body = ask().json()
    names = ("access_token", "refresh_token", "expires_in", "expires_on", "not_before", "resource", "token_type")
    assert set(body) == set(names)
    assert all(isinstance(value, str) for value in body.values())
    claims = claims_of(body["access_token"])
    assert (int(body["expires_on"]), int(body["not_before"])) == (claims["exp"], claims["nbf"])
    assert int(body["expires_in"]) in (3598, 3599)
    assert (body["refresh_token"], body["resource"], body["token_type"]) == ("", ML, "Bearer")


def test_a_machine_with_several_user_assigned_identities_must_be_told_which(
    control: SandboxControl, ask: Callable[..., requests.Response]
) -> None:
    assert refused(ask()) == (400, "invalid_request", "Identity not found")
    only = control.add_managed_identity("only")
    assert claims_of(ask().json()["access_token"])["appid"] == only.client_id
    control.add_managed_identity("another")
    status, error, words = refused(ask())
    assert (status, error) == (400, "invalid_request")
    assert words.startswith("Multiple user assigned identities exist")


def test_an_identity_that_the_machine_does_not_have_is_not_found(control: SandboxControl) -> None:
    elsewhere = control.add_managed_identity("elsewhere", assigned=False)
    application = control.add_application("application")
    for client_id in (elsewhere.client_id, application, "00000000-0000-0000-0000-000000000000"):
        with credential(client_id=client_id) as asked, pytest.raises(CredentialUnavailableError, match="not found"):
            asked.get_token(f"{ML}/.default")
    control.assign_managed_identity(elsewhere.client_id, True)
    with credential(client_id=elsewhere.client_id) as asked:
        assert asked.get_token(f"{ML}/.default").token
    control.remove_application(elsewhere.client_id)
    with credential(client_id=elsewhere.client_id) as asked, pytest.raises(CredentialUnavailableError):
        asked.get_token(f"{ML}/.default")


@pytest.mark.parametrize(
    ("query", "headers", "error", "words"),
    [
        (GOOD, {"Metadata": "True"}, "bad_request_102", "Required metadata header not specified"),
        (GOOD, {"Metadata": ""}, "bad_request_102", "Required metadata header not specified"),
        (GOOD, {"X_Forwarded_For": "10.0.0.1"}, "bad_request", "X-Forwarded-For"),
        ({"resource": ML}, {}, "invalid_request", "api-version was not specified"),
        (GOOD | {"api-version": "2017-12-01"}, {}, "invalid_request", "'2017-12-01' is not supported"),
        ({"api-version": "2018-02-01"}, {}, "invalid_request", "Required query variable 'resource' is missing"),
        (
            GOOD | {"resource": "https://vault.azure.net"},
            {},
            "invalid_resource",
            "AADSTS500011: The resource principal",
        ),
        (GOOD | {"client_id": "a", "object_id": "b"}, {}, "invalid_request", "exclude each other"),
        (GOOD | {"scope": "x"}, {}, "invalid_request", "'scope' is not known"),
        ([*GOOD.items(), ("resource", ML)], {}, "invalid_request", "more than once"),
    ],
)
def test_a_request_that_the_service_does_not_take_is_refused(
    control: SandboxControl,
    ask: Callable[..., requests.Response],
    query: Any,
    headers: dict[str, str],
    error: str,
    words: str,
) -> None:
    control.add_managed_identity("only")
    status, code, description = refused(ask(query, **headers))
    assert (status, code) == (400, error)
    assert words in description


def test_other_methods_and_paths_are_refused(control: SandboxControl, ask: Callable[..., requests.Response]) -> None:
    assert refused(ask(method="POST"))[:2] == (405, "method_not_allowed")
    elsewhere = requests.get(f"{control.address.imds}/metadata/instance", headers={"Metadata": "true"}, timeout=30)
    assert refused(elsewhere)[:2] == (404, "not_found")


def test_the_service_gives_the_same_token_until_it_is_expired(
    control: SandboxControl, ask: Callable[..., requests.Response]
) -> None:
    control.add_managed_identity("only")
    control.azure_settings(token_lifetime_seconds=100.0)
    first = ask().json()
    control.settings(clock_offset_seconds=60)
    held = ask().json()
    assert held["access_token"] == first["access_token"]
    assert int(held["expires_in"]) <= 40
    assert ask(GOOD | {"resource": DATABRICKS}).json()["access_token"] != first["access_token"]
    control.settings(clock_offset_seconds=101)
    assert ask().json()["access_token"] != first["access_token"]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, "not_found"),
        (410, "gone"),
        (429, "too_many_requests"),
        (500, "server_error"),
        (503, "service_unavailable"),
    ],
)
def test_the_service_fails_as_it_is_told(
    control: SandboxControl, ask: Callable[..., requests.Response], status: int, error: str
) -> None:
    control.add_managed_identity("only")
    control.add_fault("status", TOKEN_PATH, status=status, retry_after="3")
    answer = ask()
    assert refused(answer)[:2] == (status, error)
    assert answer.headers["retry-after"] == "3"
    assert ask().status_code == 200


def test_azure_identity_tries_again_while_the_service_updates(control: SandboxControl) -> None:
    control.add_managed_identity("only")
    control.add_fault("status", TOKEN_PATH, status=404, times=1)
    with ManagedIdentityCredential(retry_backoff_factor=0.01) as asked:
        assert asked.get_token(f"{ML}/.default").token
    control.add_fault("status", TOKEN_PATH, status=500, times=0)
    with credential() as asked, pytest.raises(ClientAuthenticationError, match="server_error"):
        asked.get_token(f"{ML}/.default")


def test_a_hanging_service_is_as_slow_as_the_client_lets_it_be(control: SandboxControl) -> None:
    control.add_managed_identity("only")
    control.add_fault("hang", TOKEN_PATH)
    began = time.monotonic()
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.get(control.address.imds + TOKEN_PATH, params=GOOD, headers={"Metadata": "true"}, timeout=0.2)
    assert time.monotonic() - began < 5


def test_a_managed_identity_is_a_principal_of_both_platforms(
    control: SandboxControl, ask: Callable[..., requests.Response]
) -> None:
    identity = control.add_managed_identity("trainer", roles={"workspace": ["Reader"]})
    azure = control.address.azure
    with credential() as asked:
        arm = asked.get_token(f"{azure.resource_manager}/.default").token
        databricks = asked.get_token(f"{DATABRICKS}/.default").token
    headers = {"Authorization": f"Bearer {arm}"}
    url, ca_file = f"{azure.workspace_url}?api-version=2023-10-01", str(control.address.ca_file)
    assert requests.get(url, headers=headers, verify=ca_file, timeout=30).status_code == 200
    control.remove_role(identity.client_id, "Reader")
    answer = requests.get(url, headers=headers, verify=ca_file, timeout=30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "AuthorizationFailed")
    control.add_principal("trainer", application_id=identity.client_id)
    client = WorkspaceClient(host=control.address.host, token=databricks)
    assert client.current_user.me().user_name == identity.client_id


def test_a_managed_identity_has_no_credentials_that_somebody_could_hold(control: SandboxControl) -> None:
    system = control.add_managed_identity("vm", system_assigned=True)
    user = control.add_managed_identity("user")
    for client_id in (system.client_id, user.client_id):
        with pytest.raises(ControlError, match="no secrets"):
            control.add_client_secret(client_id)
    with pytest.raises(ControlError, match="no federated credentials"):
        control.add_federated_credential(system.client_id, "https://issuer.test", "subject")
    control.add_federated_credential(user.client_id, "https://issuer.test", "subject")
    with pytest.raises(ControlError, match="system-assigned identity already"):
        control.add_managed_identity("second", system_assigned=True)


def test_no_token_reaches_the_request_log(control: SandboxControl, ask: Callable[..., requests.Response]) -> None:
    identity = control.add_managed_identity("only")
    value = ask().json()["access_token"]
    logged = [entry for entry in control.requests(path=TOKEN_PATH) if entry["principal"] == identity.client_id]
    assert logged
    assert value not in str(logged)
    assert value in [entry["value"] for entry in control.azure_tokens()]
