"""What Azure Resource Manager and the workspace's services check before anything else, and how they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError

from trainyard_sandbox.client import SandboxControl

Arm = Callable[..., requests.Response]
VERSION = "2024-10-01-preview"


def error(response: requests.Response) -> tuple[int, str, str]:
    body = response.json()["error"]
    return response.status_code, body["code"], body["message"]


@pytest.fixture
def get(control: SandboxControl) -> Callable[..., requests.Response]:
    """GET of any path with a token or without."""

    def send(path: str, token: str | None = None, **params: str) -> requests.Response:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        url = control.address.azure.resource_manager + path
        return requests.get(url, headers=headers, params=params, verify=str(control.address.ca_file), timeout=10)

    return send


def test_every_answer_carries_ids_and_what_is_left_of_the_limit(arm: Arm, data_scientist: str) -> None:
    given = {"x-ms-client-request-id": "mine", "x-ms-correlation-request-id": "theirs"}
    answer = arm(data_scientist, "GET", "", version=VERSION, headers=given)
    assert answer.status_code == 200
    assert answer.headers["x-ms-client-request-id"] == "mine"
    assert answer.headers["x-ms-correlation-request-id"] == "theirs"
    assert len(answer.headers["x-ms-request-id"]) == 36
    assert int(answer.headers["x-ms-ratelimit-remaining-subscription-reads"]) > 0
    refused = arm(data_scientist, "GET", "/models/none", version=VERSION)
    assert refused.status_code == 404
    assert "x-ms-correlation-request-id" in refused.headers


def test_only_a_live_token_for_this_plane_is_taken(
    control: SandboxControl, data_scientist: str, get: Callable[..., requests.Response]
) -> None:
    azure = control.address.azure
    path = azure.workspace_scope
    arm_token = control.issue_azure_token(data_scientist, azure.resource_manager)
    ml_token = control.issue_azure_token(data_scientist, azure.ml_resource)
    old = control.issue_azure_token(data_scientist, azure.resource_manager, lifetime_seconds=-1)
    params = {"api-version": VERSION}
    refused = get(path, **params)
    assert error(refused)[:2] == (401, "AuthenticationFailed")
    assert refused.headers["www-authenticate"].startswith("Bearer authorization_uri=")
    assert error(get(path, "nonsense", **params))[:2] == (401, "InvalidAuthenticationToken")
    assert error(get(path, old, **params))[:2] == (401, "ExpiredAuthenticationToken")
    assert error(get(path, ml_token, **params))[:2] == (401, "InvalidAuthenticationTokenAudience")
    assert get(path, arm_token, **params).status_code == 200
    assert control.expire_azure_tokens(data_scientist) == 2
    assert error(get(path, arm_token, **params))[:2] == (401, "ExpiredAuthenticationToken")
    control.remove_application(data_scientist)
    again = control.add_application("another")
    assert error(get(path, control.issue_azure_token(again, azure.resource_manager), **params))[0] == 403


def test_what_is_not_there_is_named_in_arms_order(
    control: SandboxControl, data_scientist: str, get: Callable[..., requests.Response]
) -> None:
    azure = control.address.azure
    control.assign_role(data_scientist, "Reader", "subscription")
    token = control.issue_azure_token(data_scientist, azure.resource_manager)

    def ask(old: str, new: str, **params: str) -> tuple[int, str, str]:
        path = azure.workspace_scope.replace(old, new)
        return error(get(path, token, **({"api-version": VERSION} | params)))

    other = "00000000-0000-0000-0000-000000000009"
    assert ask(azure.subscription_id, other)[:2] == (404, "SubscriptionNotFound")
    assert ask(azure.subscription_id, "none")[:2] == (400, "InvalidSubscriptionId")
    assert ask(azure.resource_group, "rg-none")[:2] == (404, "ResourceGroupNotFound")
    assert ask(azure.workspace_name, "ws-none")[:2] == (404, "ResourceNotFound")
    assert ask("/workspaces/", "/gardens/")[:2] == (404, "InvalidResourceType")
    status, code, message = ask("x", "x", **{"api-version": "2011-01-01"})
    assert (status, code) == (400, "NoRegisteredProviderFound")
    assert "'2011-01-01' for type 'workspaces'" in message
    assert VERSION in message
    missing = get(azure.workspace_scope, token)
    assert error(missing)[:2] == (400, "MissingApiVersionParameter")


def test_names_in_paths_are_compared_without_regard_to_case(
    control: SandboxControl, data_scientist: str, get: Callable[..., requests.Response]
) -> None:
    azure = control.address.azure
    token = control.issue_azure_token(data_scientist, azure.resource_manager)
    path = azure.workspace_scope.replace(azure.workspace_name, azure.workspace_name.upper())
    assert get(path, token, **{"api-version": VERSION}).status_code == 200


def test_the_workspaces_services_take_tokens_for_azure_ml_and_ask_for_the_same_roles(
    control: SandboxControl, arm: Arm, data_scientist: str, get: Callable[..., requests.Response]
) -> None:
    azure = control.address.azure
    history = "/history/v1.0"
    path = "/runs/no-such-run"
    storage_token = control.issue_azure_token(data_scientist, "https://storage.azure.com")
    full = history + azure.workspace_scope + path
    assert get(full).status_code == 401
    assert error(get(full, storage_token))[:2] == (401, "InvalidAuthenticationTokenAudience")
    assert arm(data_scientist, "GET", path, plane=history).status_code == 404
    nobody = control.add_application("nobody")
    assert error(arm(nobody, "GET", path, plane=history))[:2] == (403, "AuthorizationFailed")
    elsewhere = full.replace(azure.workspace_name, "ws-none")
    ml_token = control.issue_azure_token(data_scientist, azure.ml_resource)
    assert error(get(elsewhere, ml_token))[:2] == (404, "UserError")


def test_a_connection_that_is_reset_is_azures_own(control: SandboxControl, arm: Arm, data_scientist: str) -> None:
    control.add_fault("reset", ".*/models/reset")
    with pytest.raises(requests.ConnectionError):
        arm(data_scientist, "GET", "/models/reset", version=VERSION)
    assert arm(data_scientist, "GET", "/models/reset", version=VERSION).status_code == 404


def test_a_body_that_is_no_json_is_refused(arm: Arm, data_scientist: str) -> None:
    answer = arm(data_scientist, "PUT", "/data/d/versions/1", version=VERSION, data=b"{")
    assert error(answer)[:2] == (400, "InvalidRequestContent")


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        ({"kind": "status", "status": 503}, HttpResponseError),
        ({"kind": "status", "status": 403, "message": "no"}, HttpResponseError),
        ({"kind": "status", "status": 404}, ResourceNotFoundError),
        ({"kind": "status", "status": 401}, ClientAuthenticationError),
    ],
)
def test_a_fault_speaks_as_arm_does(
    control: SandboxControl,
    ml_client: Callable[..., Any],
    data_scientist: str,
    fault: dict[str, Any],
    raised: type[HttpResponseError],
) -> None:
    client = ml_client(data_scientist)
    control.add_fault(path=r".*/models/wine", method="GET", **fault)
    with pytest.raises(raised) as met:
        client.models._model_container_operation.get(
            name="wine",
            resource_group_name=control.address.azure.resource_group,
            workspace_name=control.address.azure.workspace_name,
        )
    assert met.value.status_code == fault["status"]
    assert met.value.error is not None
    assert met.value.error.code


def test_a_fault_of_storage_is_xml_and_one_of_entra_is_oauth(control: SandboxControl) -> None:
    azure = control.address.azure
    control.add_fault("status", "/blob/.*", status=503)
    control.add_fault("status", ".*/oauth2/v2.0/token", status=429, retry_after="60")
    ca_file = str(control.address.ca_file)
    storage = requests.get(f"{azure.resource_manager}/blob/a/b/c", verify=ca_file, timeout=10)
    assert (storage.status_code, "<Code>ServerBusy</Code>" in storage.text) == (503, True)
    url = f"{azure.authority}/{azure.tenant_id}/oauth2/v2.0/token"
    entra = requests.post(url, data={}, verify=ca_file, timeout=10)
    assert (entra.status_code, entra.headers["retry-after"]) == (429, "60")
    assert "error" in entra.json()


def test_a_fault_may_name_its_code(control: SandboxControl, arm: Arm, data_scientist: str) -> None:
    control.add_fault("status", ".*/jobs/j", status=409, error_code="ServerTimeout", message="Too slow.")
    answer = arm(data_scientist, "GET", "/jobs/j", version="2024-01-01-preview")
    assert error(answer) == (409, "ServerTimeout", "Too slow.")


def test_requests_are_logged_with_their_principal(control: SandboxControl, arm: Arm, data_scientist: str) -> None:
    control.clear_requests()
    answer = arm(data_scientist, "GET", "", version=VERSION)
    entry = control.requests()[-1]
    assert (entry["principal"], entry["status"]) == (data_scientist, 200)
    assert entry["request_id"] == answer.headers["x-ms-request-id"]
