"""Whether Databricks' files, which uploads go to, answer; asked without uploading."""

import pytest

from trainyard.core.errors import Denied
from trainyard.platforms.databricks.connection import DatabricksConnection
from trainyard_sandbox.client import SandboxControl

STATUS = "/api/2.0/workspace/get-status"


def test_databricks_files_are_looked_at_and_nothing_is_made(
    connection: DatabricksConnection, control: SandboxControl, principal: str
) -> None:
    control.clear_requests()
    assert f"/Users/{principal}" in connection.reach_storage()
    asked = [(row["method"], row["path"]) for row in control.requests() if row["path"].startswith("/api/2.0/workspace")]
    assert asked == [("GET", STATUS)]


def test_databricks_files_that_refuse_are_told(connection: DatabricksConnection, control: SandboxControl) -> None:
    control.add_fault("status", STATUS, status=403)
    try:
        with pytest.raises(Denied):
            connection.reach_storage()
    finally:
        control.clear_faults()
