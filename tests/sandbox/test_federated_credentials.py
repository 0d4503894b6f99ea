"""Who can read federated credentials: an application's in Microsoft Graph, an identity's in the resource manager."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from trainyard_sandbox.client import ControlError, SandboxControl

GRAPH = "https://graph.microsoft.com"
ISSUER = "https://issuer.test"
AUDIENCES = ["api://AzureADTokenExchange"]


@pytest.fixture(autouse=True)
def no_identity_stays(control: SandboxControl) -> Iterator[None]:
    yield
    for application in control.applications():
        if application["kind"] != "application":
            control.remove_application(application["client_id"])


@pytest.fixture
def reader(control: SandboxControl) -> str:
    """Client id of an application that may read applications in Graph and everything in the resource group."""
    client_id = control.add_application("reader", roles={"resource group": ["Reader"]})
    control.permit_graph(client_id, "Application.Read.All")
    return client_id


@pytest.fixture
def graph(control: SandboxControl) -> Callable[..., requests.Response]:
    """One plain request to Graph: `graph(client_id, path, audience=..., **query)`."""

    def get(client_id: str, path: str, audience: str = GRAPH, **query: str) -> requests.Response:
        headers = {"Authorization": f"Bearer {control.issue_azure_token(client_id, audience)}"}
        params = {f"${name}": value for name, value in query.items()}
        url = f"{control.address.azure.graph}/v1.0{path}"
        return requests.get(url, headers=headers, params=params, verify=str(control.address.ca_file), timeout=30)

    return get


def refused(answer: requests.Response) -> tuple[int, str]:
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "innerError"}
    assert set(error["innerError"]) == {"date", "request-id", "client-request-id"}
    return answer.status_code, error["code"]


def of(client_id: str) -> str:
    return f"/applications(appId='{client_id}')/federatedIdentityCredentials"


def test_graph_lists_an_applications_credentials(
    control: SandboxControl, reader: str, graph: Callable[..., requests.Response]
) -> None:
    trainer = control.add_application("trainer")
    assert graph(reader, of(trainer)).json()["value"] == []
    names = [control.add_federated_credential(trainer, ISSUER, f"subject-{n}") for n in range(20)]
    with pytest.raises(ControlError, match="at most 20"):
        control.add_federated_credential(trainer, ISSUER, "subject-20")
    body = graph(reader, of(trainer)).json()
    assert [one["name"] for one in body["value"]] == names
    first = body["value"][0]
    assert first | {"id": "", "name": ""} == {
        "id": "",
        "name": "",
        "issuer": ISSUER,
        "subject": "subject-0",
        "description": None,
        "audiences": AUDIENCES,
    }
    shown = graph(reader, f"/applications(appId='{trainer}')").json()
    assert (shown["appId"], shown["displayName"]) == (trainer, "trainer")
    assert graph(reader, f"/applications/{shown['id']}/federatedIdentityCredentials").json() == body
    found = graph(reader, of(trainer), filter="subject eq 'subject-7'", select="name").json()["value"]
    assert found == [{"name": names[7]}]


def test_graph_shows_applications_only_to_who_has_the_permission(
    control: SandboxControl, reader: str, graph: Callable[..., requests.Response]
) -> None:
    trainer = control.add_application("trainer", roles={"resource group": ["Owner"]})
    assert refused(graph(trainer, of(trainer))) == (403, "Authorization_RequestDenied")
    control.permit_graph(trainer, "Application.ReadWrite.All")
    assert graph(trainer, of(trainer)).status_code == 200
    control.permit_graph(trainer)
    assert refused(graph(trainer, of(trainer))) == (403, "Authorization_RequestDenied")
    arm = control.address.azure.resource_manager
    assert refused(graph(reader, of(trainer), audience=arm)) == (401, "InvalidAuthenticationToken")


def test_graph_knows_neither_strangers_nor_managed_identities(
    control: SandboxControl, reader: str, graph: Callable[..., requests.Response]
) -> None:
    identity = control.add_managed_identity("trainer")
    for client_id in (identity.client_id, "00000000-0000-0000-0000-000000000000"):
        assert refused(graph(reader, of(client_id))) == (404, "Request_ResourceNotFound")
    trainer = control.add_application("trainer")
    for query in ({"filter": "startswith(name, 'x')"}, {"select": "secret"}, {"top": "1"}):
        assert refused(graph(reader, of(trainer), **query)) == (400, "BadRequest")


@pytest.fixture
def identities(control: SandboxControl) -> Callable[..., requests.Response]:
    """One plain request to the resource manager: `identities(client_id, "/name/...", version=..., **query)`."""

    def get(
        client_id: str, path: str = "", version: str = "2024-11-30", group: str = "rg-sandbox", **query: Any
    ) -> requests.Response:
        azure = control.address.azure
        token = control.issue_azure_token(client_id, azure.resource_manager)
        url = f"{azure.resource_manager}/subscriptions/{azure.subscription_id}/resourceGroups/{group}"
        url += f"/providers/Microsoft.ManagedIdentity/userAssignedIdentities{path}"
        params = {"api-version": version} | {f"${name}": value for name, value in query.items()}
        headers = {"Authorization": f"Bearer {token}"}
        return requests.get(url, params=params, headers=headers, verify=str(control.address.ca_file), timeout=30)

    return get


def test_the_resource_manager_lists_identities_and_their_credentials(
    control: SandboxControl, reader: str, identities: Callable[..., requests.Response]
) -> None:
    made = control.add_managed_identity("trainer")
    control.add_managed_identity("vm", system_assigned=True)
    name = control.add_federated_credential(made.client_id, ISSUER, "subject")
    shown = identities(reader, "/trainer").json()
    assert (shown["id"], shown["type"]) == (made.resource_id, "Microsoft.ManagedIdentity/userAssignedIdentities")
    assert shown["properties"] == {
        "tenantId": control.address.azure.tenant_id,
        "principalId": made.object_id,
        "clientId": made.client_id,
    }
    assert identities(reader).json()["value"] == [shown]
    assert identities(reader, "/trainer/federatedIdentityCredentials").json()["value"] == [
        {
            "id": f"{made.resource_id}/federatedIdentityCredentials/{name}",
            "name": name,
            "type": "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials",
            "properties": {"issuer": ISSUER, "subject": "subject", "audiences": AUDIENCES},
        }
    ]


def test_many_credentials_come_page_by_page(
    control: SandboxControl, reader: str, identities: Callable[..., requests.Response]
) -> None:
    made = control.add_managed_identity("trainer")
    names = [control.add_federated_credential(made.client_id, ISSUER, f"subject-{n}") for n in range(20)]
    page = identities(reader, "/trainer/federatedIdentityCredentials", top=12).json()
    token = control.issue_azure_token(reader, control.address.azure.resource_manager)
    rest = requests.get(
        page["nextLink"],
        headers={"Authorization": f"Bearer {token}"},
        verify=str(control.address.ca_file),
        timeout=30,
    ).json()
    assert [one["name"] for one in page["value"] + rest["value"]] == names
    assert "nextLink" not in rest


def test_identities_are_read_with_a_role_and_a_served_version_only(
    control: SandboxControl, reader: str, identities: Callable[..., requests.Response]
) -> None:
    control.add_managed_identity("trainer")
    nobody = control.add_application("nobody", roles={"workspace": ["Owner"]})

    def code(answer: requests.Response) -> tuple[int, str]:
        return answer.status_code, answer.json()["error"]["code"]

    path = "/trainer/federatedIdentityCredentials"
    assert code(identities(nobody, path)) == (403, "AuthorizationFailed")
    assert code(identities(nobody)) == (403, "AuthorizationFailed")
    assert code(identities(reader, path, version="2018-11-30")) == (400, "NoRegisteredProviderFound")
    assert code(identities(reader, "/stranger")) == (404, "ResourceNotFound")
    owner = control.add_application("owner", roles={"subscription": ["Owner"]})
    assert code(identities(owner, path, group="elsewhere")) == (404, "ResourceGroupNotFound")
    assert code(identities(reader, path, top="many")) == (400, "InvalidRequestUri")
