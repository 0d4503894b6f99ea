"""Attempts to submit, built in a line."""

from typing import Any

from trainyard.api.training_run import MLTrainingRunSpec
from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.core.snapshot import Target
from trainyard.core.tokens import code_digest, submission_token
from trainyard.platforms.base import Job

SERVERLESS = {"serverless": {"environmentVersion": "5"}}
SINGLE_NODE = {
    "jobCluster": {"nodeTypeId": "i3.xlarge", "sparkVersion": "16.4.x-scala2.13", "dataSecurityMode": "SINGLE_USER"}
}


def workspace_spec(host: str = "https://dbc.cloud.databricks.com", **changes: Any) -> MLWorkspaceSpec:
    return MLWorkspaceSpec.model_validate(
        {
            "databricks": {"host": host},
            "identity": {"federated": {"serviceAccountName": "trainer"}},
            "computeClasses": {"small": SERVERLESS, "cluster": SINGLE_NODE},
            "modelPrefix": "main.ml",
            **changes,
        }
    )


def run_spec(**changes: Any) -> MLTrainingRunSpec:
    return MLTrainingRunSpec.model_validate(
        {
            "workspaceRef": {"name": "dbx"},
            "code": {"inline": "unused"},
            "compute": {"class": "small"},
            **changes,
        }
    )


def job(
    source: str = "print('hello')",
    *,
    host: str = "https://dbc.cloud.databricks.com",
    principal: str = "app-id",
    attempt: int = 1,
    uid: str = "6a5ee04b-6d47-44e5-8b2f-4fcd20e6b5d0",
    workspace: dict[str, Any] | None = None,
    timeout_seconds: int = 600,
    **spec: Any,
) -> Job:
    files = {"main.py": source.encode()}
    return Job(
        namespace="team-a",
        name="iris",
        uid=uid,
        attempt=attempt,
        submission_token=submission_token("team-a", "iris", uid, None, attempt),
        spec=run_spec(**spec),
        workspace=workspace_spec(host, **(workspace or {})),
        target=Target("databricks", host, principal, "federated", "trainer"),
        files=files,
        code_digest=code_digest(files),
        timeout_seconds=timeout_seconds,
    )
