"""Attempts for an Azure ML workspace, built in a line; used by the tests of its translator."""

from dataclasses import replace
from typing import Any

import pytest

from trainyard.api.training_run import MLTrainingRunSpec
from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.core.errors import TranslationError
from trainyard.core.snapshot import Target
from trainyard.core.tokens import code_digest, submission_token
from trainyard.platforms.azureml.translate import translate
from trainyard.platforms.base import Job, Request

UID = "6a5ee04b-6d47-44e5-8b2f-4fcd20e6b5d0"
SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
WS = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/ml/providers/Microsoft.MachineLearningServices/workspaces/wine"
HOST = f"https://management.azure.com{WS}"
TARGET = {
    "subscriptionId": SUBSCRIPTION,
    "resourceGroup": "ml",
    "workspaceName": "wine",
    "tenantId": "00000000-0000-0000-0000-00000000000f",
}
CLASSES = {
    "small": {"azureML": {"serverless": {"instanceType": "Standard_DS3_v2"}}},
    "cluster": {"azureML": {"compute": "cpu-cluster"}},
    "big": {
        "azureML": {
            "compute": "gpu-cluster",
            "instanceCount": 4,
            "distribution": {"type": "PyTorch", "processCountPerInstance": 8},
            "shmSize": "16g",
        }
    },
    "databricks": {"serverless": {"environmentVersion": "5"}},
}
ROOTS = {
    "raw": {"path": "azureml://datastores/lake/paths/raw"},
    "volume": {"path": "/Volumes/main/sales/raw"},
    "wheels": {"path": "abfss://wheels@acme.dfs.core.windows.net/py"},
}
RUN_AS = {
    "identities": {
        "trainer": {"managedIdentity": "11111111-2222-3333-4444-555555555555"},
        "me": {"submittedUser": True},
        "principal": {"servicePrincipal": "app-2"},
    }
}


def attempt(
    files: dict[str, bytes] | None = None,
    *,
    workspace: dict[str, Any] | None = None,
    facts: dict[str, Any] | None = None,
    **spec: Any,
) -> Job:
    """An attempt. `facts` are further fields of the Job, such as its commit."""
    files = {"main.py": b"print('hello')"} if files is None else files
    described = {"workspaceRef": {"name": "aml"}, "code": {"inline": "unused"}, "compute": {"class": "small"}, **spec}
    mapped = {
        "azureML": TARGET,
        "identity": {"federated": {"serviceAccountName": "trainer"}},
        "computeClasses": CLASSES,
        "dataRoots": ROOTS,
        "runAs": RUN_AS,
        **(workspace or {}),
    }
    job = Job(
        namespace="team-a",
        name="iris",
        uid=UID,
        attempt=1,
        submission_token=submission_token("team-a", "iris", UID, None, 1),
        spec=MLTrainingRunSpec.model_validate({key: value for key, value in described.items() if value is not None}),
        workspace=MLWorkspaceSpec.model_validate(mapped),
        target=Target("azureml", HOST, "app-id", "federated", "trainer", TARGET["tenantId"]),
        files=files,
        code_digest=code_digest(files),
        timeout_seconds=600,
    )
    return replace(job, **(facts or {}))


def request(*args: Any, **kwargs: Any) -> Request:
    return translate(attempt(*args, **kwargs))


def properties(*args: Any, **kwargs: Any) -> dict[str, Any]:
    found: dict[str, Any] = request(*args, **kwargs).body["properties"]
    return found


def refusal(*args: Any, **kwargs: Any) -> TranslationError:
    with pytest.raises(TranslationError) as raised:
        translate(attempt(*args, **kwargs))
    return raised.value
