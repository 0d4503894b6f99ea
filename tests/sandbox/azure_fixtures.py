"""The Azure half of a served sandbox: a federated application, the unmodified Azure SDKs, and single plain requests.

conftest.py imports the fixtures for every test of the sandbox.
"""

from __future__ import annotations

import socket
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import requests
from azure.identity import ClientAssertionCredential

from trainyard_sandbox.client import SandboxControl

from .issuer import TestIssuer

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

AZURE_AUDIENCE = "api://AzureADTokenExchange"
AZURE_SUBJECT = "system:serviceaccount:team-a:trainer"
ARM_LIMITS = {
    "reads": {"size": 5000, "per_second": 500},
    "writes": {"size": 5000, "per_second": 500},
    "deletes": {"size": 5000, "per_second": 500},
}
"""Wide enough for tests that are not about limits."""


@pytest.fixture
def data_scientist(control: SandboxControl, issuer: TestIssuer) -> str:
    """Client id of an application with the role AzureML Data Scientist, federated with `AZURE_SUBJECT`."""
    control.azure_settings(limits=ARM_LIMITS)
    client_id = control.add_application("trainer", roles={"workspace": ["AzureML Data Scientist"]})
    control.add_federated_credential(client_id, issuer.url, AZURE_SUBJECT)
    return client_id


@pytest.fixture
def azure_credential(
    issuer: TestIssuer,
) -> Iterator[Callable[..., ClientAssertionCredential]]:
    """Build azure-identity's credential: `azure_credential(control, client_id)`."""
    made: list[ClientAssertionCredential] = []

    def build(control: SandboxControl, client_id: str, subject: str = AZURE_SUBJECT) -> ClientAssertionCredential:
        address = control.address
        credential = ClientAssertionCredential(
            address.azure.tenant_id,
            client_id,
            lambda: issuer.assertion(subject, AZURE_AUDIENCE),
            authority=address.azure.authority,
            connection_verify=str(address.ca_file),
            retry_total=0,
        )
        made.append(credential)
        return credential

    yield build
    for credential in made:
        credential.close()


@pytest.fixture
def ml_client(
    control: SandboxControl,
    azure_credential: Callable[..., ClientAssertionCredential],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., MLClient]:
    """Build the unmodified MLClient: `ml_client(client_id)`, of another sandbox with `control=`."""
    session_control = control

    def build(client_id: str, control: SandboxControl | None = None) -> MLClient:
        chosen = control or session_control
        azure = chosen.address.azure
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(chosen.address.ca_file))
        cloud = {
            "azure_portal": "https://portal.sandbox.test",
            "resource_manager": azure.resource_manager,
            "active_directory": azure.authority,
            "aml_resource_id": azure.ml_resource,
            "storage_endpoint": azure.storage_suffix,
            "registry_discovery_endpoint": azure.resource_manager,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its schemas use what marshmallow 3 says marshmallow 4 will not have
            from azure.ai.ml import MLClient
        return MLClient(
            azure_credential(chosen, client_id),
            azure.subscription_id,
            azure.resource_group,
            azure.workspace_name,
            cloud="TrainyardSandbox",
            cloud_metadata=cloud,
            show_progress=False,
            enable_telemetry=False,
            connection_verify=str(chosen.address.ca_file),
            retry_total=0,
        )

    return build


@pytest.fixture
def connect_here(control: SandboxControl, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the name of the storage account's own host lead to the sandbox, as a resolver would."""
    real = socket.getaddrinfo
    azure = control.address.azure
    port = int(azure.resource_manager.rpartition(":")[2])

    def resolve(host: Any, service: Any, *args: Any, **options: Any) -> Any:
        if isinstance(host, str) and host.endswith(f".blob.{azure.storage_suffix}"):
            return real("127.0.0.1", port, *args, **options)
        return real(host, service, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


Arm = Callable[..., requests.Response]


@pytest.fixture
def arm(control: SandboxControl) -> Arm:
    """One plain request below the workspace: `arm(client_id, "GET", "/jobs/x", version="...", json=..., params=...)`.

    With `plane="/history/v1.0"` it goes to that service, with a token for Azure ML. Nothing is retried.
    """
    session_control = control

    def send(
        client_id: str,
        method: str,
        path: str,
        *,
        version: str = "",
        plane: str = "",
        control: SandboxControl | None = None,
        params: dict[str, Any] | None = None,
        **options: Any,
    ) -> requests.Response:
        chosen = control or session_control
        azure = chosen.address.azure
        audience = azure.ml_resource if plane else azure.resource_manager
        headers = {"Authorization": f"Bearer {chosen.issue_azure_token(client_id, audience)}"}
        headers |= options.pop("headers", {})
        query = (params or {}) | ({"api-version": version} if version else {})
        url = f"{azure.resource_manager}{plane}{azure.workspace_scope}{path}"
        ca_file = str(chosen.address.ca_file)
        defaults = {"timeout": 30, "verify": ca_file, "allow_redirects": False}
        return requests.request(method, url, headers=headers, params=query, **(defaults | options))

    return send
