"""Whether the storage that uploads go to answers to their signature, asked without uploading; and the quota alone."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.wire.azureml import (
    accounts,
    cloud,
    connect,
    connection,
    data_scientist,
    request_for,
    target,
    tokens_for,
)
from trainyard.core.errors import Denied, Missing, Unreachable
from trainyard.platforms.azureml import needs
from trainyard.platforms.azureml.connection import AzureMLConnection
from trainyard.platforms.base import Need, Request
from trainyard_sandbox.client import SandboxControl

__all__ = ["accounts", "cloud", "connect", "connection", "data_scientist", "request_for", "target", "tokens_for"]

SIZE, FAMILY = "Standard_DS3_v2", "standardDSv2Family"


@pytest.fixture(autouse=True)
def no_faults_left(control: SandboxControl) -> Iterator[None]:
    yield
    control.clear_faults()
    control.azure_compute_settings(family_cores={})


def test_storage_takes_the_signature_of_an_upload_and_nothing_is_registered_or_written(
    connection: AzureMLConnection, control: SandboxControl
) -> None:
    control.clear_requests()
    assert "takes the signature" in connection.reach_storage()
    asked = [(row["method"], row["path"].rpartition("/")[2]) for row in control.requests()]
    assert ("POST", "startPendingUpload") in asked
    assert not [row for row in asked if row[0] in ("PUT", "PATCH", "DELETE")]
    (blob,) = [row for row in control.requests() if row["path"].startswith("/blob/")]
    assert blob["method"] in ("GET", "HEAD")


def test_an_identity_that_may_not_upload_is_told(
    connection: AzureMLConnection, control: SandboxControl, data_scientist: str
) -> None:
    control.assign_role(data_scientist, "Reader")
    control.remove_role(data_scientist, "AzureML Data Scientist")
    try:
        with pytest.raises(Denied, match="codes/versions/write"):
            connection.reach_storage()
    finally:
        control.assign_role(data_scientist, "AzureML Data Scientist")


def test_something_else_in_the_place_of_storage_is_no_storage(
    connection: AzureMLConnection, control: SandboxControl
) -> None:
    control.add_fault("status", "/blob/.*", status=404, times=0)
    with pytest.raises(Missing):
        connection.reach_storage()


def test_storage_that_can_not_be_reached_is_told(connection: AzureMLConnection, control: SandboxControl) -> None:
    control.add_fault("reset", "/blob/.*", times=0)
    with pytest.raises(Unreachable):
        connection.reach_storage()


def test_the_quota_is_told_apart_from_the_size(
    connection: AzureMLConnection, request_for: Callable[..., Request], control: SandboxControl, data_scientist: str
) -> None:
    control.assign_role(data_scientist, "Reader", "subscription")
    kinds = (needs.VM_SIZE, needs.VM_QUOTA)
    wanted = tuple(Need(kind, SIZE, needs.EXISTS, data_scientist, "spec.compute.class") for kind in kinds)
    request = replace(request_for(), needs=wanted)
    assert [each.outcome for each in connection.preflight(request)] == ["Passed", "Passed"]
    control.azure_compute_settings(family_cores={FAMILY: 1})
    size, quota = connection.preflight(request)
    assert (size.outcome, quota.outcome) == ("Missing", "Missing")
    assert "1 vCPUs and the run asks for 4" in quota.message
    absent = replace(request, needs=(replace(wanted[1], name="Standard_NoSuch"),))
    assert connection.preflight(absent)[0].outcome == "Unknown"
