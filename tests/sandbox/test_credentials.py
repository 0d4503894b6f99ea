"""Long-lived credentials at the Databricks workspace, and Entra tokens there, with the unmodified SDKs."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from azure.identity import ClientAssertionCredential, ClientSecretCredential
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, PermissionDenied, Unauthenticated
from databricks.sdk.service import jobs
from databricks.sdk.service.workspace import ImportFormat

from trainyard_sandbox.client import ControlError, SandboxControl

from .conftest import ended
from .test_azure_identity import msal_options
from .test_jobs import output, submit

DATABRICKS_SCOPE = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d/.default"
TWO_YEARS = 730 * 86400


@pytest.fixture(autouse=True)
def trusting(control: SandboxControl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(control.address.ca_file))


@pytest.fixture
def trainer(control: SandboxControl) -> str:
    """Application id of a service principal without any federation policy."""
    return control.add_principal("trainer")


def with_secret(control: SandboxControl, application_id: str, secret: str) -> WorkspaceClient:
    return WorkspaceClient(host=control.address.host, client_id=application_id, client_secret=secret)


def with_token(control: SandboxControl, token: str) -> WorkspaceClient:
    return WorkspaceClient(host=control.address.host, token=token)


def name_of(client: WorkspaceClient) -> str | None:
    return client.current_user.me().user_name


@pytest.fixture
def ask(control: SandboxControl) -> Iterator[Callable[..., httpx.Response]]:
    """One plain request to the token endpoint: `ask(basic=(id, secret), grant_type=...)`; None takes a field out."""
    context = ssl.create_default_context(cafile=str(control.address.ca_file))
    with httpx.Client(verify=context, trust_env=False) as client:

        def post(basic: tuple[str, str] | None, **fields: str | None) -> httpx.Response:
            form = {"grant_type": "client_credentials", "scope": "all-apis"} | fields
            sent = {name: value for name, value in form.items() if value is not None}
            auth = httpx.BasicAuth(*basic) if basic else None
            return client.post(f"{control.address.host}/oidc/v1/token", data=sent, auth=auth)

        yield post


def refused(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["cache-control"] == "no-store"
    return answer.status_code, answer.json()["error"]


def test_an_oauth_secret_signs_the_sdk_in(control: SandboxControl, trainer: str) -> None:
    secret = control.add_oauth_secret(trainer)
    assert secret.value.startswith("dose")
    assert name_of(with_secret(control, trainer, secret.value)) == trainer
    assert control.tokens()[-1]["purpose"] == "secret"


def test_a_secrets_token_lives_an_hour(
    control: SandboxControl, trainer: str, ask: Callable[..., httpx.Response]
) -> None:
    answer = ask((trainer, control.add_oauth_secret(trainer).value)).json()
    assert {key: answer[key] for key in ("token_type", "expires_in", "scope")} == {
        "token_type": "Bearer",
        "expires_in": 3600,
        "scope": "all-apis",
    }


def test_a_wrong_expired_revoked_or_foreign_secret_is_an_invalid_client(
    control: SandboxControl, trainer: str, ask: Callable[..., httpx.Response]
) -> None:
    live, short = control.add_oauth_secret(trainer), control.add_oauth_secret(trainer, lifetime_seconds=60)
    other = control.add_oauth_secret(control.add_principal("other"))
    assert ask((trainer, short.value)).status_code == 200
    control.settings(clock_offset_seconds=61)
    assert ask((trainer, live.value)).status_code == 200
    control.revoke_oauth_secret(live.credential_id)
    for secret in ("wrong", short.value, live.value, other.value):
        answer = ask((trainer, secret))
        assert refused(answer) == (401, "invalid_client")
        assert answer.headers["www-authenticate"].startswith("Basic ")
    assert refused(ask(("nobody", other.value))) == (401, "invalid_client")
    with pytest.raises(ValueError, match="invalid_client: Client authentication failed"):
        name_of(with_secret(control, trainer, "wrong"))


def test_a_secret_is_taken_by_http_basic_with_the_scope_of_all_apis_only(
    control: SandboxControl, trainer: str, ask: Callable[..., httpx.Response]
) -> None:
    basic = (trainer, control.add_oauth_secret(trainer).value)
    assert refused(ask(None)) == (401, "invalid_client")
    assert refused(ask(None, client_id=basic[0], client_secret=basic[1])) == (401, "invalid_client")
    assert refused(ask(basic, client_secret=basic[1])) == (401, "invalid_client")  # one way at a time
    assert refused(ask(basic, scope=None)) == (400, "invalid_scope")
    assert refused(ask(basic, scope="sql")) == (400, "invalid_scope")
    assert refused(ask(basic, subject_token="x")) == (400, "invalid_request")
    assert refused(ask(basic, grant_type="password")) == (400, "unsupported_grant_type")


def test_a_sixth_secret_and_one_of_more_than_two_years_are_refused(control: SandboxControl, trainer: str) -> None:
    made = [control.add_oauth_secret(trainer) for _ in range(5)]
    with pytest.raises(ControlError, match="at most 5"):
        control.add_oauth_secret(trainer)
    control.revoke_oauth_secret(made[0].credential_id)
    with pytest.raises(ControlError, match="730 days"):
        control.add_oauth_secret(trainer, lifetime_seconds=TWO_YEARS + 1)
    control.add_oauth_secret(trainer, lifetime_seconds=TWO_YEARS)
    assert len(control.oauth_secrets(trainer)) == 5


def test_a_personal_access_token_speaks_for_its_owner(control: SandboxControl, trainer: str) -> None:
    token = control.add_personal_access_token(trainer)
    assert token.value.startswith("dapi")
    assert len(token.value) == 36
    assert name_of(with_token(control, token.value)) == trainer
    control.change_user("ann@example.com", entitlements=["workspace-access"], groups=["data"])
    ann = with_token(control, control.add_personal_access_token("ann@example.com").value)
    me = ann.current_user.me()
    assert me.user_name == "ann@example.com"
    assert {group.display for group in me.groups or []} == {"users", "data"}
    with pytest.raises(ControlError, match=r"nobody@example\.com"):
        control.add_personal_access_token("nobody@example.com")


def test_a_run_of_a_user_runs_as_the_user(control: SandboxControl) -> None:
    control.change_user("ben@example.com", entitlements=["workspace-access"])
    ben = with_token(control, control.add_personal_access_token("ben@example.com").value)
    source = base64.b64encode(b"import os; print('hello')").decode()
    ben.workspace.import_("/Users/ben@example.com/hello.py", content=source, format=ImportFormat.RAW)
    for run_as in (None, jobs.JobRunAs(user_name="ben@example.com")):
        run_id = submit(ben, "/Users/ben@example.com/hello.py", run_as=run_as)
        run = ended(ben, run_id)
        assert run.creator_user_name == "ben@example.com"
        assert output(ben, run_id).logs == "hello\n"
    with pytest.raises(PermissionDenied, match=r"not allowed to run jobs as ann@example\.com"):
        submit(ben, "/Users/ben@example.com/hello.py", run_as=jobs.JobRunAs(user_name="ann@example.com"))


def test_a_revoked_expired_or_unknown_personal_access_token_is_forbidden(control: SandboxControl, trainer: str) -> None:
    revoked = control.add_personal_access_token(trainer)
    expired = control.add_personal_access_token(trainer, lifetime_seconds=60)
    control.revoke_personal_access_token(revoked.credential_id)
    control.settings(clock_offset_seconds=61)
    for value in (revoked.value, expired.value, "dapi" + "0" * 32):
        with pytest.raises(PermissionDenied, match="Invalid access token") as caught:
            name_of(with_token(control, value))
        assert caught.value.error_code == 403  # a number, as the platform writes it


def test_the_credentials_of_a_removed_principal_are_gone_for_good(
    control: SandboxControl, trainer: str, ask: Callable[..., httpx.Response]
) -> None:
    secret, token = control.add_oauth_secret(trainer), control.add_personal_access_token(trainer)
    control.remove_principal(trainer)
    control.add_principal("again", application_id=trainer)
    assert refused(ask((trainer, secret.value))) == (401, "invalid_client")
    with pytest.raises(PermissionDenied, match="Invalid access token"):
        name_of(with_token(control, token.value))


@pytest.fixture
def entra(control: SandboxControl) -> Iterator[Callable[[str], ClientSecretCredential]]:
    """azure-identity's credential of an Entra application: `entra(client_id)`."""
    made: list[ClientSecretCredential] = []

    def build(client_id: str) -> ClientSecretCredential:
        tenant, secret = control.address.azure.tenant_id, control.add_client_secret(client_id)
        made.append(ClientSecretCredential(tenant, client_id, secret, **msal_options(control)))
        return made[-1]

    yield build
    for credential in made:
        credential.close()


def test_an_entra_token_for_databricks_speaks_for_the_principal_of_its_application(
    control: SandboxControl, entra: Callable[[str], ClientSecretCredential]
) -> None:
    client_id = control.add_application("trainer")
    token = entra(client_id).get_token(DATABRICKS_SCOPE).token
    with pytest.raises(PermissionDenied, match=r"User not authorized\."):
        name_of(with_token(control, token))
    control.add_principal("trainer", application_id=client_id)
    assert name_of(with_token(control, token)) == client_id
    control.change_principal(client_id, workspace_access=False)
    with pytest.raises(PermissionDenied, match="Unauthorized access to Org"):
        name_of(with_token(control, token))


def test_an_entra_token_of_another_audience_is_a_bad_request_and_an_expired_one_unauthenticated(
    control: SandboxControl, entra: Callable[[str], ClientSecretCredential]
) -> None:
    client_id = control.add_application("trainer")
    control.add_principal("trainer", application_id=client_id)
    credential = entra(client_id)
    wrong = credential.get_token("https://ml.azure.com/.default").token
    with pytest.raises(BadRequest, match=r"Expected aud claim to be: 2ff814a6-\S+, but was: https://ml\.azure\.com\."):
        name_of(with_token(control, wrong))
    right = with_token(control, credential.get_token(DATABRICKS_SCOPE).token)
    assert name_of(right) == client_id
    control.expire_azure_tokens(client_id)
    with pytest.raises(Unauthenticated, match="Token is expired"):
        name_of(right)


def test_a_federated_assertion_reaches_databricks_through_entra(
    control: SandboxControl, data_scientist: str, azure_credential: Callable[..., ClientAssertionCredential]
) -> None:
    control.add_principal("trainer", application_id=data_scientist)
    token = azure_credential(control, data_scientist).get_token(DATABRICKS_SCOPE).token
    assert name_of(with_token(control, token)) == data_scientist


@pytest.mark.parametrize(
    ("fault", "status", "headers"),
    [
        ({"status": 429, "retry_after": "7"}, 429, {"retry-after": "7"}),
        ({"status": 500}, 500, {}),
        ({"status": 503, "error_code": "temporarily_unavailable"}, 503, {}),
    ],
)
def test_the_token_endpoint_fails_as_it_is_told(
    control: SandboxControl,
    trainer: str,
    ask: Callable[..., httpx.Response],
    fault: dict[str, Any],
    status: int,
    headers: dict[str, str],
) -> None:
    basic = (trainer, control.add_oauth_secret(trainer).value)
    control.add_fault("status", "/oidc/v1/token", **fault)
    answer = ask(basic)
    assert answer.status_code == status
    assert headers.items() <= dict(answer.headers).items()
    assert ask(basic).status_code == 200


def test_no_secret_or_token_reaches_the_request_log(
    control: SandboxControl, trainer: str, ask: Callable[..., httpx.Response]
) -> None:
    secret, token = control.add_oauth_secret(trainer), control.add_personal_access_token(trainer)
    value = ask((trainer, secret.value)).json()["access_token"]
    name_of(with_token(control, token.value))
    logged = str([entry for entry in control.requests() if entry["principal"] == trainer])
    assert "/oidc/v1/token" in logged
    assert "/scim/v2/Me" in logged
    for credential in (secret.value, token.value, value):
        assert credential not in logged
