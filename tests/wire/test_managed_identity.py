"""The machine's managed identity on the wire: the request of the unmodified credential, on both platforms, bounded."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.wire.azureml import cloud
from tests.wire.conftest import BOUNDS, Clock, Trail
from trainyard.api.workspace import ClusterMLWorkspaceSpec
from trainyard.audit.transport import Bounds
from trainyard.core.errors import IdentityError, Throttled, TrainyardError, Unreachable
from trainyard.core.snapshot import Target
from trainyard.identity.base import SYSTEM_ASSIGNED, TokenSource
from trainyard.identity.broker import Broker
from trainyard.identity.clouds import Cloud
from trainyard.identity.hosts import HostPolicy
from trainyard.identity.imds import PATH, ImdsToken
from trainyard.identity.managed_identity import Managed
from trainyard.platforms.azureml.connection import AzureMLConnection
from trainyard.platforms.databricks.connection import DatabricksConnection
from trainyard_sandbox.client import SandboxControl
from trainyard_sandbox.identity_client import ManagedIdentity

__all__ = ["cloud"]

LONG = Bounds(read=60.0, total=90.0)
RESOURCE = "https://management.azure.com"
Lend = Callable[..., tuple[Broker, Target]]


@pytest.fixture
def identity(control: SandboxControl) -> Iterator[ManagedIdentity]:
    """A user-assigned identity of the machine, known to both platforms."""
    made = control.add_managed_identity("lent", roles={"workspace": ["AzureML Data Scientist"]})
    control.add_principal("lent", application_id=made.client_id, entitlements=["workspace-access"])
    control.clear_requests()
    yield made
    control.remove_application(made.client_id)


@pytest.fixture
def machines_own(control: SandboxControl) -> Iterator[ManagedIdentity]:
    """The machine's system-assigned identity, known to both platforms."""
    made = control.add_managed_identity("vm", system_assigned=True, roles={"workspace": ["AzureML Data Scientist"]})
    control.add_principal("vm", application_id=made.client_id, entitlements=["workspace-access"])
    control.clear_requests()
    yield made
    control.remove_application(made.client_id)


@pytest.fixture
def lend(control: SandboxControl, cloud: Cloud, audit: Trail, clock: Clock) -> Lend:
    """A broker with the machine's identities, and the target of that workspace for the namespace team-a."""

    def build(platform: str, client_id: str | None = None) -> tuple[Broker, Target]:
        mode = Managed(control.address.imds, audit.log, clock, BOUNDS)
        made = Broker(HostPolicy([control.address.host.removeprefix("https://")]), {"managedIdentity": mode})
        return made, made.target(workspace(control, platform, client_id), "team-a")

    return build


def workspace(control: SandboxControl, platform: str, client_id: str | None) -> ClusterMLWorkspaceSpec:
    azure = control.address.azure
    entra = {"tenantId": azure.tenant_id, "cloud": "Sandbox"}
    named = {} if client_id is None else {"clientId": client_id}
    where: dict[str, Any] = {"databricks": {"host": control.address.host}}
    lent: dict[str, Any] = {**named, "entra": entra}
    if platform == "azureml":
        where = {
            "azureML": {
                "subscriptionId": azure.subscription_id,
                "resourceGroup": azure.resource_group,
                "workspaceName": azure.workspace_name,
                **entra,
            }
        }
        lent = named
    return ClusterMLWorkspaceSpec.model_validate(
        {**where, "identity": {"managedIdentity": lent}, "computeClasses": {}, "allowedNamespaces": ["team-a"]}
    )


def failure(tokens: TokenSource) -> TrainyardError:
    with pytest.raises(TrainyardError) as raised:
        tokens.token()
    return raised.value


def asked_of_imds(control: SandboxControl) -> list[Any]:
    return control.requests(path=PATH)


# What it gives


def test_databricks_sees_the_user_assigned_identity(
    lend: Lend, control: SandboxControl, identity: ManagedIdentity, audit: Trail
) -> None:
    broker, target = lend("databricks", identity.client_id)
    connection = DatabricksConnection(target, broker.source(target, "team-a", ""), audit.log, LONG)
    assert connection.whoami().principal == identity.client_id == target.principal
    assert len(asked_of_imds(control)) == 1


def test_databricks_tells_who_the_system_assigned_identity_is(
    lend: Lend, machines_own: ManagedIdentity, audit: Trail
) -> None:
    broker, target = lend("databricks")
    assert target.principal == SYSTEM_ASSIGNED
    connection = DatabricksConnection(target, broker.source(target, "team-a", ""), audit.log, LONG)
    assert connection.whoami().principal == machines_own.client_id


@pytest.mark.parametrize("named", [True, False], ids=["user-assigned", "system-assigned"])
def test_azure_ml_takes_a_token_for_each_plane(
    lend: Lend,
    control: SandboxControl,
    cloud: Cloud,
    identity: ManagedIdentity,
    machines_own: ManagedIdentity,
    audit: Trail,
    named: bool,
) -> None:
    broker, target = lend("azureml", identity.client_id if named else None)
    connection = AzureMLConnection(target, lambda scope: broker.source(target, "team-a", scope), audit.log, LONG)
    assert connection.whoami().workspace_id
    assert broker.source(target, "team-a", cloud.ml_scope).token().value
    issued = [token for token in control.azure_tokens() if token["purpose"] == "managed-identity"]
    whose = (identity if named else machines_own).client_id
    assert {token["audience"] for token in issued if token["client_id"] == whose} == {
        cloud.resource_manager,
        cloud.ml_resource,
    }


def test_a_team_that_the_workspace_does_not_name_gets_nothing(
    lend: Lend, control: SandboxControl, identity: ManagedIdentity
) -> None:
    broker, _ = lend("databricks", identity.client_id)
    with pytest.raises(IdentityError) as refused:
        broker.target(workspace(control, "databricks", identity.client_id), "team-b")
    assert refused.value.reason == "NamespaceNotAllowed"
    assert asked_of_imds(control) == []


def test_many_cold_threads_make_one_request(lend: Lend, control: SandboxControl, identity: ManagedIdentity) -> None:
    broker, target = lend("databricks", identity.client_id)
    tokens = broker.source(target, "team-a", "")
    values: list[str] = []
    threads = [threading.Thread(target=lambda: values.append(tokens.token().value)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(values), len(set(values))) == (16, 1)
    assert len(asked_of_imds(control)) == 1


def test_a_token_lives_as_long_as_the_service_says(
    lend: Lend, control: SandboxControl, identity: ManagedIdentity, clock: Clock
) -> None:
    broker, target = lend("databricks", identity.client_id)
    tokens = broker.source(target, "team-a", "")
    assert timedelta(seconds=3580) < tokens.token().expires_at - clock() <= timedelta(seconds=3599)
    clock.ahead = timedelta(seconds=3599 * 0.65)
    tokens.token()
    assert len(asked_of_imds(control)) == 1
    clock.ahead = timedelta(seconds=3599 * 0.85)
    tokens.token()
    assert len(asked_of_imds(control)) == 2


def test_no_record_has_the_token(lend: Lend, identity: ManagedIdentity, audit: Trail) -> None:
    broker, target = lend("databricks", identity.client_id)
    value = broker.source(target, "team-a", "").token().value
    records = audit.records()
    assert value not in audit.stream.getvalue()
    assert [each["event"] for each in records] == ["request", "response"]
    assert (records[0]["mode"], records[0]["principal"]) == ("managedIdentity", identity.client_id)
    assert records[0]["query"] == ["api-version", "client_id", "resource"]


# What it refuses


def test_an_identity_that_the_machine_does_not_have_is_told_with_what_to_do(
    lend: Lend, control: SandboxControl, identity: ManagedIdentity
) -> None:
    control.assign_managed_identity(identity.client_id, assigned=False)
    broker, target = lend("azureml", identity.client_id)
    error = failure(broker.source(target, "team-a", ""))
    assert isinstance(error, IdentityError)
    assert (error.reason, error.waiting) == ("ManagedIdentityNotFound", False)
    for needed in (identity.client_id, "az vmss identity assign", "identity.managedIdentity.clientId"):
        assert needed in error.message


def test_a_machine_with_several_identities_and_no_own_asks_for_a_name(
    lend: Lend, control: SandboxControl, identity: ManagedIdentity
) -> None:
    second = control.add_managed_identity("second")
    try:
        broker, target = lend("azureml")
        error = failure(broker.source(target, "team-a", ""))
        assert error.reason == "ManagedIdentityNotFound"
        assert "clientId" in error.message
    finally:
        control.remove_application(second.client_id)


def test_the_only_identity_of_a_machine_is_not_taken_for_its_own(
    lend: Lend, control: SandboxControl, identity: ManagedIdentity
) -> None:
    """The service gives it to whoever names none; on AKS it would be the kubelet's."""
    broker, target = lend("databricks")
    error = failure(broker.source(target, "team-a", ""))
    assert error.reason == "ManagedIdentityMismatch"
    for needed in (identity.resource_id, "identity.managedIdentity.clientId"):
        assert needed in error.message


def test_a_refusal_for_another_reason_is_told_in_the_services_words(
    lend: Lend, control: SandboxControl, identity: ManagedIdentity
) -> None:
    control.add_fault("status", PATH, status=403, message="blocked by policy")
    broker, target = lend("azureml", identity.client_id)
    error = failure(broker.source(target, "team-a", ""))
    assert error.reason == "TokenExchangeRefused"
    assert "blocked by policy" in error.message


PASSING: list[tuple[str, dict[str, Any], type[TrainyardError], str]] = [
    ("hang", {}, Unreachable, "MetadataServiceUnreachable"),
    ("reset", {}, Unreachable, "MetadataServiceUnreachable"),
    ("slow_body", {"seconds": 30.0}, Unreachable, "MetadataServiceUnreachable"),
    ("malformed_json", {}, Unreachable, "PlatformAnswerMalformed"),
    ("status", {"status": 404}, Unreachable, "MetadataServiceUnreachable"),
    ("status", {"status": 410}, Unreachable, "MetadataServiceUnreachable"),
    ("status", {"status": 500}, Unreachable, "MetadataServiceUnreachable"),
    ("status", {"status": 503}, Unreachable, "MetadataServiceUnreachable"),
    ("status", {"status": 429, "retry_after": "7"}, Throttled, "PlatformThrottled"),
]


@pytest.mark.parametrize(("kind", "fields", "error", "reason"), PASSING)
def test_what_passes_is_waited_for_in_bounded_time_and_asked_once(
    lend: Lend,
    control: SandboxControl,
    identity: ManagedIdentity,
    kind: str,
    fields: dict[str, Any],
    error: type[TrainyardError],
    reason: str,
) -> None:
    control.add_fault(kind, PATH, **fields)
    broker, target = lend("azureml", identity.client_id)
    tokens = broker.source(target, "team-a", "")
    began = time.monotonic()
    found = failure(tokens)
    assert (type(found), found.reason) == (error, reason)
    assert time.monotonic() - began < 5
    failure(tokens)  # while the failure holds, it answers for itself
    assert len(asked_of_imds(control)) <= 1


def test_a_pause_that_is_asked_for_is_kept(
    lend: Lend, control: SandboxControl, identity: ManagedIdentity, clock: Clock
) -> None:
    control.add_fault("status", PATH, status=429, retry_after="7", times=1)
    broker, target = lend("azureml", identity.client_id)
    tokens = broker.source(target, "team-a", "")
    found = failure(tokens)
    assert isinstance(found, Throttled)
    assert found.retry_after == 7
    clock.ahead = timedelta(seconds=6)
    failure(tokens)
    clock.ahead = timedelta(seconds=8)
    assert tokens.token().value


def test_a_machine_that_is_none_of_azure_is_told_so(audit: Trail) -> None:
    """Port 9 of this machine: nobody listens there."""
    tokens = ImdsToken("http://127.0.0.1:9", RESOURCE, None, {"principal": "x", "mode": "m"}, log=audit.log)
    found = failure(tokens)
    assert (type(found), found.reason) == (Unreachable, "MetadataServiceUnreachable")
    assert "only machines of Azure" in found.message
