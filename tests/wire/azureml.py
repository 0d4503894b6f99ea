"""The operator's connection to the sandbox's Azure ML workspace: fixtures, and attempts built in a line.

Tokens come from the sandbox's Entra by the operator's own token source; a test of the connection needs no cluster.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.sandbox.azure_fixtures import data_scientist
from tests.sandbox.issuer import TestIssuer
from tests.wire.conftest import ACCOUNT, BOUNDS, Accounts, Clock, Trail
from trainyard.api.training_run import MLTrainingRunSpec
from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.audit.transport import Bounds
from trainyard.core.remote import RemoteRun, Stage
from trainyard.core.snapshot import Target
from trainyard.core.tokens import code_digest, submission_token
from trainyard.identity import clouds
from trainyard.identity.base import AZURE_CLIENT_ID, TokenSource
from trainyard.identity.clouds import Cloud
from trainyard.identity.federated import Federated
from trainyard.identity.hosts import HostPolicy
from trainyard.platforms.azureml.connection import AzureMLConnection
from trainyard.platforms.azureml.translate import translate
from trainyard.platforms.base import Job, Request
from trainyard_sandbox.client import SandboxControl

__all__ = [
    "accounts",
    "cloud",
    "connect",
    "connection",
    "data_scientist",
    "hasty",
    "request_for",
    "target",
    "tokens_for",
]

SIZE = "Standard_DS3_v2"
TokensFor = Callable[[str], TokenSource]


@pytest.fixture
def cloud(control: SandboxControl, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """The sandbox as a cloud that this process knows."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(control.address.ca_file))
    azure = control.address.azure
    found = clouds.parse(
        {
            "name": "Sandbox",
            "resourceManager": azure.resource_manager,
            "authority": azure.authority,
            "storageSuffix": azure.storage_suffix,
            "mlResource": azure.ml_resource,
            "dataHosts": list(azure.data_hosts),
        }
    )
    clouds.install([found])
    yield found
    clouds.install([])


@pytest.fixture
def accounts(issuer: TestIssuer, data_scientist: str) -> Accounts:
    made = Accounts(issuer, "")
    made.noted = {AZURE_CLIENT_ID: data_scientist}
    return made


def entra_source(
    cloud: Cloud, tenant: str, scope: str, client_id: str, accounts: Accounts, audit: Trail, clock: Clock
) -> TokenSource:
    """A source of the mode federated for an Azure ML workspace of that cloud and tenant."""
    workspace = clouds.Workspace(cloud, "00000000-0000-0000-0000-000000000000", "ml", "wine")
    target = Target("azureml", workspace.url, client_id, "federated", ACCOUNT.name, tenant)
    mode = Federated(accounts, HostPolicy(), "unused", audit.log, clock, BOUNDS)
    clouds.install([cloud])
    return mode.source(target, ACCOUNT.namespace, scope)


@pytest.fixture
def tokens_for(
    control: SandboxControl, cloud: Cloud, accounts: Accounts, data_scientist: str, audit: Trail, clock: Clock
) -> TokensFor:
    """The application's token sources, one for each scope."""
    made: dict[str, TokenSource] = {}

    def source(scope: str) -> TokenSource:
        if scope not in made:
            tenant = control.address.azure.tenant_id
            made[scope] = entra_source(cloud, tenant, scope, data_scientist, accounts, audit, clock)
        return made[scope]

    return source


@pytest.fixture
def target(control: SandboxControl, data_scientist: str) -> Target:
    azure = control.address.azure
    return Target("azureml", azure.workspace_url, data_scientist, "federated", "trainer", azure.tenant_id)


@pytest.fixture
def connect(target: Target, tokens_for: TokensFor, audit: Trail) -> Callable[[Bounds], AzureMLConnection]:
    """The operator's connection as the application, with the bounds given."""
    return lambda bounds: AzureMLConnection(target, tokens_for, audit.log, bounds)


@pytest.fixture
def connection(connect: Callable[[Bounds], AzureMLConnection]) -> AzureMLConnection:
    # The sandbox's MLflow server takes its time to start; the first request to it waits.
    return connect(Bounds(read=60.0, total=90.0))


@pytest.fixture
def hasty(connect: Callable[[Bounds], AzureMLConnection]) -> AzureMLConnection:
    return connect(BOUNDS)


@pytest.fixture
def request_for(control: SandboxControl, target: Target) -> Callable[..., Request]:
    """An attempt of a run of its own, translated: `request_for("print(1)", params={...})`."""

    def build(source: str = "print('hello')", **fields: Any) -> Request:
        return translate(attempt(control, target, {"main.py": source.encode()}, **fields))

    return build


def attempt(
    control: SandboxControl,
    target: Target,
    files: Mapping[str, bytes],
    *,
    workspace: Mapping[str, Any] | None = None,
    timeout_seconds: int = 600,
    uid: str | None = None,
    **spec: Any,
) -> Job:
    """One attempt on the sandbox's workspace."""
    azure = control.address.azure
    described = {"workspaceRef": {"name": "aml"}, "code": {"inline": "unused"}, "compute": {"class": "small"}, **spec}
    mapped = {
        "azureML": {
            "subscriptionId": azure.subscription_id,
            "resourceGroup": azure.resource_group,
            "workspaceName": azure.workspace_name,
            "tenantId": azure.tenant_id,
            "cloud": "Sandbox",
        },
        "identity": {"federated": {"serviceAccountName": "trainer"}},
        "computeClasses": {
            "small": {"azureML": {"serverless": {"instanceType": SIZE}}},
            "cluster": {"azureML": {"compute": "cpu-cluster"}},
        },
        **(workspace or {}),
    }
    uid = uid or str(uuid.uuid4())
    return Job(
        namespace="team-a",
        name="iris",
        uid=uid,
        attempt=1,
        submission_token=submission_token("team-a", "iris", uid, None, 1),
        spec=MLTrainingRunSpec.model_validate({key: value for key, value in described.items() if value is not None}),
        workspace=MLWorkspaceSpec.model_validate(mapped),
        target=target,
        files=dict(files),
        code_digest=code_digest(files),
        timeout_seconds=timeout_seconds,
    )


def ended(connection: AzureMLConnection, remote_id: str, seconds: float = 60) -> RemoteRun:
    """The job once it has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        remote = connection.get(remote_id)
        if remote.stage is Stage.ENDED:
            return remote
        time.sleep(0.05)
    raise AssertionError(f"still {remote.state} after {seconds} s")
