"""Small runs, one for each portable field, and a workspace on each platform that gives them the same names.

Used by portability.py, which shows what the translators make of them, and by its tests.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from trainyard.api.training_run import MLTrainingRunSpec
from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.core.snapshot import Target
from trainyard.core.tokens import code_digest, submission_token
from trainyard.platforms.base import Job

UID = "00000000-0000-4000-8000-000000000000"
A_DAY = 86_400
MAIN = {"main.py": b"print('hello')\n"}
NAMES = {"databricks": "Databricks", "azureml": "Azure ML"}
WORKSPACES: dict[str, dict[str, Any]] = {
    name: yaml.safe_load(text)
    for name, text in {
        "databricks": """
            databricks: {host: "https://dbc.cloud.databricks.com"}
            computeClasses:
              small: {serverless: {environmentVersion: "5"}}
              cluster:
                jobCluster:
                  nodeTypeId: m5d.large
                  numWorkers: 4
                  sparkVersion: 16.4.x-scala2.12
                  dataSecurityMode: DATA_SECURITY_MODE_DEDICATED
            runtimes: {sklearn: {pip: [scikit-learn]}}
            dataRoots: {lake: {path: /Volumes/main/lake/raw, schema: main.lake}}
            runAs: {identities: {trainer: {servicePrincipal: 11111111-2222-3333-4444-555555555555}}}
            secretStores: {team: {databricksScope: team}}
            experimentRoot: /Shared/experiments
            modelPrefix: main.ml
        """,
        "azureml": """
            azureML:
              subscriptionId: 00000000-0000-4000-8000-00000000000a
              resourceGroup: ml
              workspaceName: wine
              tenantId: 00000000-0000-4000-8000-00000000000b
            computeClasses:
              small: {azureML: {serverless: {instanceType: Standard_DS3_v2}}}
              cluster: {azureML: {compute: cpu-cluster, instanceCount: 4}}
            runtimes: {sklearn: {pip: [scikit-learn]}}
            dataRoots: {lake: {path: "azureml://datastores/lake/paths/raw"}}
            runAs: {identities: {trainer: {managedIdentity: 11111111-2222-3333-4444-555555555555}}}
            secretStores: {team: {databricksScope: team}}
        """,
    }.items()
}
HOSTS = {
    "databricks": "https://dbc.cloud.databricks.com",
    "azureml": "https://management.azure.com/subscriptions/00000000-0000-4000-8000-00000000000a/resourceGroups/ml"
    "/providers/Microsoft.MachineLearningServices/workspaces/wine",
}


@dataclass(frozen=True)
class Sample:
    """What `fields` of the spec become, where the rest is `given`. `files` are the source's."""

    name: str
    fields: Mapping[str, Any]
    given: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=lambda: MAIN)


CODE: dict[str, Any] = {"code": {"inline": "print('hello')\n"}, "compute": {"class": "small"}}
NO_CODE = dict.fromkeys(CODE)
STEPS = [
    {"name": "load", "entrypoint": {"pythonFile": "main.py"}},
    {"name": "fit", "entrypoint": {"pythonFile": "main.py"}, "dependsOn": ["load"]},
]
NOTEBOOK = {**MAIN, "train.py": b"# Databricks notebook source\nprint(1)\n"}

SAMPLES = (
    Sample("code.path", {"code": {"path": "/Workspace/Shared/wine"}}),
    Sample("code.wheel", {"code": {"wheel": {"package": "wine-train==1.4"}}, "entrypoint": {"module": "wine.train"}}),
    Sample(
        "entrypoint.pythonFile", {"entrypoint": {"pythonFile": "train.py"}}, files={**MAIN, "train.py": b"print(1)\n"}
    ),
    Sample("entrypoint.module", {"entrypoint": {"module": "wine"}}, files={**MAIN, "wine.py": b"print(1)\n"}),
    Sample(
        "entrypoint.consoleScript",
        {"entrypoint": {"consoleScript": "wine-train"}},
        {"code": {"wheel": {"package": "wine-train==1.4"}}, "entrypoint": {"module": "wine.train"}},
    ),
    Sample("entrypoint.notebook", {"entrypoint": {"notebook": "train.py"}}, files=NOTEBOOK),
    Sample("entrypoint.args", {"entrypoint": {"args": ["--name", "it's"]}}),
    Sample("params", {"params": {"trees": "100"}, "entrypoint": {"args": ["$(params.trees)"]}}),
    Sample("tasks", {"tasks": STEPS}),
    Sample("jobRef.name", {"jobRef": {"name": "nightly", "parameters": {"day": "2026-11-23"}}, **NO_CODE}),
    Sample("jobRef.id", {"jobRef": {"id": "4711"}, **NO_CODE}),
    Sample("environment.runtime", {"environment": {"runtime": "sklearn"}}),
    Sample("environment.pip", {"environment": {"pip": ["xgboost==3.1"]}}),
    Sample("compute.class", {"compute": {"class": "cluster"}}),
    Sample(
        "inputs.uri",
        {"inputs": {"wines": {"uri": "data://lake/wines"}}, "entrypoint": {"args": ["$(inputs.wines)"]}},
    ),
    Sample("inputs.table", {"inputs": {"labels": {"table": "data://lake/labels"}}}),
    Sample(
        "inputs.form",
        {"inputs": {"wines": {"uri": "data://lake/wines.csv", "form": "File"}}},
        {"inputs": {"wines": {"uri": "data://lake/wines.csv"}}},
    ),
    Sample(
        "outputs.uri",
        {"outputs": {"scores": {"uri": "data://lake/$(run.name)"}}, "entrypoint": {"args": ["$(outputs.scores)"]}},
    ),
    Sample("outputs.table", {"outputs": {"scores": {"table": "data://lake/scores"}}}),
    Sample("secrets", {"secrets": {"API_KEY": {"store": "team", "key": "api-key"}}}, {"compute": {"class": "cluster"}}),
    Sample("runAs", {"runAs": "trainer"}),
    Sample("experiment", {"experiment": "wine"}),
    Sample("model", {"model": {"name": "wine", "alias": "challenger", "tags": {"data": "2026-11"}}}),
    Sample("tags", {"tags": {"cost-center": "4711"}}),
    Sample("retry", {"retry": {"limit": 5}}),
    Sample("timeoutSeconds", {"timeoutSeconds": 7200}),
    Sample("attemptTimeoutSeconds", {"attemptTimeoutSeconds": 3600}),
    Sample("queueTimeoutSeconds", {"queueTimeoutSeconds": 900}),
    Sample("suspend", {"suspend": True}),
    Sample("cancel", {"cancel": True}),
    Sample("deletionPolicy", {"deletionPolicy": "Orphan"}),
    Sample("ttlSecondsAfterFinished", {"ttlSecondsAfterFinished": 3600}),
    Sample("planOnly", {"planOnly": True}),
    Sample("submissionKey", {"submissionKey": "wine-2026-11"}),
    Sample("databricks", {"databricks": {"notification_settings": {"no_alert_for_canceled_runs": True}}}),
    Sample("azureML", {"azureML": {"queueSettings": {"jobTier": "Premium"}}}),
)


def job_of(platform: str, fields: Mapping[str, Any], files: Mapping[str, bytes]) -> Job:
    """The first attempt of a run with those fields of the spec, in that platform's workspace. A None is left out."""
    described = {"workspaceRef": {"name": "team"}, **CODE, **fields}
    spec = MLTrainingRunSpec.model_validate({key: value for key, value in described.items() if value is not None})
    identity = {"federated": {"serviceAccountName": "trainer"}}
    workspace = {**WORKSPACES[platform], "identity": identity}
    return Job(
        namespace="team",
        name="wine",
        uid=UID,
        attempt=1,
        submission_token=submission_token("team", "wine", UID, spec.submission_key, 1),
        spec=spec,
        workspace=MLWorkspaceSpec.model_validate(workspace),
        target=Target(platform, HOSTS[platform], "P", "federated", "trainer"),
        files=dict(files),
        code_digest=code_digest(dict(files)),
        timeout_seconds=spec.attempt_timeout_seconds or A_DAY,
    )
