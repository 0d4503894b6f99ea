"""Manifests of what some platform lacks, each under the name that the product's own table gives to it.

Nothing is started: where a platform has it, the run is only planned. Read by test_conformance.py.
"""

from collections.abc import Mapping
from typing import Any

from tests.conformance.case import Case

CLIENT_ID = "11111111-2222-3333-4444-555555555555"
NOTEBOOK = "# Databricks notebook source\nprint(1)\n"
DATABRICKS_MACHINES = {"serverless": {"environmentVersion": "5"}}
AZURE_MACHINES = {"azureML": {"serverless": {"instanceType": "Standard_DS3_v2"}}}
NODE = {"type": "command", "command": "true", "componentId": "azureml:prepare:1"}
JOB = {"code": None, "compute": None}


def lacking(what: str, spec: Mapping[str, Any], code: Any = "print('hello')", **workspace: Any) -> Case:
    """A run that asks for it."""
    fields = {"planOnly": True, **{name: value for name, value in spec.items() if name != "code"}}
    return Case(
        what,
        "Pending? Failed",
        "UnsupportedOnPlatform",
        fields,
        spec.get("code", code),
        pretences=(),
        workspace=workspace,
        ends=("Failed", "Succeeded"),
    )


def run_as(**identity: Any) -> dict[str, Any]:
    """The workspace's runAs with one identity, called other."""
    return {"identities": {"other": identity}}


UNSUPPORTED = (
    lacking("a graph of tasks", {"tasks": [{"name": "only", "entrypoint": {"pythonFile": "main.py"}}]}),
    lacking("notebooks", {"entrypoint": {"notebook": "train.py"}}, NOTEBOOK),
    lacking(
        "a secret store that fills variables",
        {
            "secrets": {"KEY": {"store": "team", "key": "key"}},
            "compute": {"class": "cluster"},
            "environment": {"runtime": "sklearn"},
        },
        secretStores={"team": {"databricksScope": "team"}},
    ),
    lacking("tables", {"inputs": {"labels": {"table": "main.wine.labels"}}}),
    lacking("volumes and DBFS", {"inputs": {"wines": {"uri": "/Volumes/main/ml/data/wines"}}}),
    lacking("folders of a Databricks workspace", {"code": {"path": "/Workspace/Shared/wine"}}),
    lacking("ids of jobs", {"jobRef": {"id": "4711"}, **JOB}),
    lacking("service principals and users to run as", {"runAs": "other"}, runAs=run_as(servicePrincipal=CLIENT_ID)),
    lacking("machines of Databricks", {"compute": {"class": "odd"}}, computeClasses={"odd": DATABRICKS_MACHINES}),
    lacking("Pipelines of Azure ML", {"azureML": {"jobType": "Pipeline", "jobs": {"prepare": NODE}}, **JOB}),
    lacking("data assets and datastores", {"inputs": {"wines": {"uri": "azureml:wines:1"}}}),
    lacking(
        "datastores to hold code",
        {"code": {"path": "data://code"}},
        dataRoots={"code": {"path": "azureml://datastores/workspaceblobstore/paths/code"}},
    ),
    lacking("managed identities to run as", {"runAs": "other"}, runAs=run_as(managedIdentity=CLIENT_ID)),
    lacking("machines of Azure ML", {"compute": {"class": "odd"}}, computeClasses={"odd": AZURE_MACHINES}),
)
# The API server takes no such workspace (tests/controlplane/crd_azureml.py), so that no run ever asks for it.
REFUSED_BEFORE = {"volumes to keep logs in"}
