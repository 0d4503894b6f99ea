"""Specs that the API server has to accept: each kind small and full, and each shape of a run. For the CRD tests."""

import copy
from typing import Any

Object = dict[str, Any]

RUN: Object = {
    "workspaceRef": {"name": "team"},
    "code": {"inline": "print('hello')"},
    "compute": {"class": "small"},
}
FULL_RUN: Object = RUN | {
    "workspaceRef": {"name": "team", "kind": "MLWorkspace"},
    "entrypoint": {"pythonFile": "train.py", "args": ["--depth", "$(params.depth)"]},
    "environment": {"runtime": "sklearn", "pip": ["scikit-learn==1.9.1"]},
    "params": {"depth": "3"},
    "experiment": "iris",
    "model": {"name": "iris", "alias": "challenger", "tags": {"stage": "trial"}},
    "tags": {"team": "flowers"},
    "retry": {"limit": 1, "when": "Any", "backoffSeconds": 10, "maxBackoffSeconds": 60},
    "timeoutSeconds": 600,
    "attemptTimeoutSeconds": 300,
    "queueTimeoutSeconds": 60,
    "inputs": {"raw": {"uri": "data://sales/2026"}, "labels": {"table": "main.sales.labels"}},
    "outputs": {"scored": {"table": "data://sales/scored"}, "report": {"uri": "/Volumes/main/sales/out/$(run.uid)"}},
    "secrets": {"API_KEY": {"store": "team", "key": "api-key"}},
    "runAs": "trainer",
    "suspend": False,
    "deletionPolicy": "Cancel",
    "ttlSecondsAfterFinished": 3600,
    "planOnly": False,
    "submissionKey": "iris-2026-11",
    "databricks": {"queue": {"enabled": True}, "task": {"new_cluster": {"autoscale": {"max_workers": 2}}}},
}
GIT: Object = {
    "url": "https://git.example.com/flowers/iris.git",
    "ref": "release/1.4",
    "path": "training",
    "secretRef": {"name": "iris-deploy-key"},
}
GIT_RUN: Object = RUN | {"code": {"git": GIT}, "entrypoint": {"module": "iris.train"}}
PATH_RUN: Object = RUN | {"code": {"path": "/Volumes/main/code/iris-1.4"}}
NOTEBOOK_RUN: Object = RUN | {"entrypoint": {"notebook": "train iris.ipynb"}}
WHEEL_RUN: Object = RUN | {
    "code": {"wheel": {"package": "iris==1.4.0", "name": "iris"}},
    "entrypoint": {"consoleScript": "train-iris"},
}
WHEEL_FILE_RUN: Object = WHEEL_RUN | {"code": {"wheel": {"path": "data://wheels/iris-1.4.0-py3-none-any.whl"}}}
JOB_RUN: Object = {"workspaceRef": {"name": "team"}, "jobRef": {"id": "1234", "parameters": {"day": "$(params.day)"}}}
NAMED_JOB_RUN: Object = JOB_RUN | {"jobRef": {"name": "nightly iris"}}
TASKS: list[Object] = [
    {"name": "fetch", "entrypoint": {"pythonFile": "fetch.py"}},
    {
        "name": "train",
        "entrypoint": {"module": "iris.train"},
        "compute": {"class": "large"},
        "environment": {"pip": ["lightgbm==4.6.0"]},
        "dependsOn": ["fetch"],
        "runIf": "AllSucceeded",
        "timeoutSeconds": 60,
        "retry": {"limit": 1, "when": "Any"},
    },
    {"name": "report", "entrypoint": {"notebook": "report.ipynb"}, "dependsOn": ["fetch", "train"], "runIf": "AllDone"},
    {"name": "publish", "jobRef": {"id": "7"}, "dependsOn": ["train"]},
    {"name": "tell", "databricks": {"sql_task": {"warehouse_id": "0123"}}, "dependsOn": ["publish"]},
]
TASKS_RUN: Object = RUN | {"tasks": TASKS}
SCRIPTS_RUN: Object = WHEEL_RUN | {"entrypoint": None, "tasks": [{"name": "a", "entrypoint": {"consoleScript": "b"}}]}
SCRIPTS_RUN.pop("entrypoint")
WORKSPACE: Object = {
    "databricks": {"host": "https://adb-1.7.azuredatabricks.net"},
    "identity": {"federated": {"serviceAccountName": "trainer"}},
}
FULL_WORKSPACE: Object = WORKSPACE | {
    "computeClasses": {
        "small": {"jobCluster": {"nodeTypeId": "Standard_D4s_v5", "dataSecurityMode": "SINGLE_USER"}},
        "quick": {"serverless": {"environmentVersion": "5", "accelerator": "GPU_1xA10"}},
        "shared": {"existingCluster": {"clusterId": "0101-120000-abcdefgh"}},
        "serving": {"modelServing": {"workloadType": "GPU_SMALL", "workloadSize": "Medium"}},
        "both": {"serverless": {"environmentVersion": "5"}, "modelServing": {}},
        "pooled": {
            "jobCluster": {
                "instancePoolId": "pool-1",
                "driverInstancePoolId": "pool-2",
                "autoscale": {"minWorkers": 0, "maxWorkers": 4},
                "availability": "SpotWithFallback",
                "firstOnDemand": 1,
                "instanceProfileArn": "arn:aws:iam::123456789012:instance-profile/trainer",
                "sparkConf": {"spark.sql.shuffle.partitions": "64"},
                "policyId": "ABC123",
                "applyPolicyDefaultValues": True,
                "dataSecurityMode": "SINGLE_USER",
            }
        },
    },
    "runtimes": {"sklearn": {"sparkVersion": "16.4.x-scala2.13", "pip": ["scikit-learn==1.9.1"]}},
    "modelPrefix": "main.ml",
    "experimentRoot": "/Shared/experiments",
    "endpointPrefix": "iris",
    "dataRoots": {
        "sales": {"path": "/Volumes/main/sales/raw", "schema": "main.sales"},
        "lake": {"path": "abfss://raw@account.dfs.core.windows.net/sales"},
    },
    "secretStores": {"team": {"databricksScope": "team-iris"}},
    "runAs": {
        "identities": {
            "trainer": {"servicePrincipal": "11111111-2222-3333-4444-555555555555"},
            "ada": {"user": "a@b.c"},
        },
        "default": "trainer",
        "required": True,
    },
    "logDestination": {"volume": "/Volumes/main/ops/logs/training"},
    "defaultPermissions": [{"group": "data-science", "level": "CAN_VIEW"}, {"user": "a@b.c", "level": "CAN_MANAGE"}],
}
S3_WORKSPACE: Object = WORKSPACE | {
    "logDestination": {
        "s3": {
            "bucket": "iris-logs",
            "prefix": "training/iris",
            "region": "eu-central-1",
            "roleArn": "arn:aws:iam::123456789012:role/iris-logs",
        }
    }
}
ADLS_WORKSPACE: Object = WORKSPACE | {
    "logDestination": {
        "adls": {
            "account": "irislogs",
            "container": "training",
            "prefix": "iris",
            "tenantId": "11111111-2222-3333-4444-555555555555",
            "clientId": "11111111-2222-3333-4444-555555555555",
        }
    }
}
AZURE_TARGET: Object = {
    "subscriptionId": "00000000-0000-0000-0000-000000000001",
    "resourceGroup": "ml_(team).a",
    "workspaceName": "wine-1",
    "tenantId": "contoso.onmicrosoft.com",
}
AZURE_WORKSPACE: Object = {"azureML": AZURE_TARGET, "identity": WORKSPACE["identity"]}
FULL_AZURE_WORKSPACE: Object = AZURE_WORKSPACE | {
    "azureML": AZURE_TARGET | {"cloud": "AzureUSGovernment"},
    "computeClasses": {
        "small": {"azureML": {"serverless": {"instanceType": "Standard_DS3_v2"}, "instanceCount": 1, "tier": "Spot"}},
        "big": {
            "azureML": {
                "compute": "gpu-cluster",
                "instanceCount": 4,
                "distribution": {"type": "PyTorch", "processCountPerInstance": 8},
                "shmSize": "16g",
            }
        },
        "attached": {"azureML": {"compute": "k8s-cluster", "instanceType": "gpu.large"}},
        "elsewhere": {"serverless": {"environmentVersion": "5"}},
        "serving": {"onlineEndpoint": {"instanceType": "Standard_DS3_v2"}},
    },
    "runtimes": {
        "sklearn": {"pip": ["scikit-learn==1.9.1", "azureml-mlflow"]},
        "conda": {
            "azureML": {
                "image": "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest",
                "pythonVersion": "3.11",
                "conda": ["libgomp=14"],
            }
        },
        "curated": {"azureML": {"environment": "azureml://registries/azureml/environments/sklearn-1.5/labels/latest"}},
        "team": {"azureML": {"environment": "team-env:7"}},
    },
    "dataRoots": {"lake": {"path": "azureml://datastores/lake/paths/sales"}},
    "runAs": {
        "identities": {
            "trainer": {"managedIdentity": "11111111-2222-3333-4444-555555555555"},
            "me": {"submittedUser": True},
        }
    },
    "logDestination": ADLS_WORKSPACE["logDestination"],
}
SWEEP_RUN: Object = RUN | {
    "inputs": {
        "raw": {"uri": "azureml:wine:1", "form": "File"},
        "model": {"uri": "azureml:churn:3", "form": "MLflowModel"},
    },
    "azureML": {
        "jobType": "Sweep",
        "searchSpace": {"depth": ["choice", [[1, 2]]]},
        "limits": {"maxTotalTrials": 4},
        "trial": {"resources": {"dockerArgs": "--ipc=host"}},
    },
}
PIPELINE_RUN: Object = {
    "workspaceRef": {"name": "team"},
    "azureML": {"jobType": "Pipeline", "jobs": {"train": {"type": "command", "componentId": "azureml:train:1"}}},
}
RUN_LOG: Object = {
    "runName": "iris",
    "runUid": "5b3c",
    "attempt": 2,
    "remoteId": "42",
    "at": "2026-11-23T12:00:00Z",
    "uri": "/Volumes/main/ops/logs/iris.log",
    "tasks": [
        {"name": "train", "text": "epoch 1\n", "truncated": True},
        {"name": "skipped", "text": "", "missing": "x"},
    ],
}


def patched(target: Object, patch: Object) -> Object:
    """RFC 7396, so that a case says only what is different."""
    result = copy.deepcopy(target)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = patched(result.get(key, {}), value)
        else:
            result[key] = value
    return result
