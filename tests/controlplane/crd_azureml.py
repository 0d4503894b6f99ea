"""The mistakes with Azure ML that the CRDs refuse, as in crd_cases. Read by test_crds.py only."""

from typing import Any

from tests.controlplane.crd_cases import NEW_RUN, ONE_CLASS, ONE_IDENTITY, Case
from tests.controlplane.crd_specs import (
    AZURE_TARGET,
    AZURE_WORKSPACE,
    FULL_AZURE_WORKSPACE,
    FULL_WORKSPACE,
    PIPELINE_RUN,
    RUN,
    SWEEP_RUN,
    WORKSPACE,
    Object,
)
from trainyard.api.azureml_block import OWNED_FIELDS

ONE_PLATFORM = (
    "a workspace needs exactly one of databricks or azureML: add the one that runs go to, or remove the other"
)
OF_DATABRICKS = (
    "modelPrefix, experimentRoot and defaultPermissions are of Databricks, and Azure ML has nothing like them: remove "
    "them"
)
NO_VOLUME = "logDestination.volume is of Databricks, and Azure ML can not write it: use s3 or adls, or remove it"
MOVED = "a workspace can not move to another platform, or its runs could not be stopped: create another workspace"
ONE_MACHINE = "azureML needs exactly one of compute or serverless: add the one that you use, or remove the other"
TIER = "tier is for serverless alone, as a cluster has its own: remove it"
INSTANCE_TYPE = "instanceType beside compute is of an attached Kubernetes cluster: write serverless.instanceType"
AS_IT_IS = (
    "environment is used as it is: remove image, pythonVersion and conda, or describe the environment by them alone"
)
GRAPH = "jobs is the graph of a Pipeline: write jobType: Pipeline with it, and jobs with jobType: Pipeline"
ELSEWHERE = "can not be changed, or runs of the old one could not be stopped: create another workspace"

CLUSTER: Object = {"compute": "cpu-cluster"}
SERVERLESS: Object = {"serverless": {"instanceType": "Standard_DS3_v2"}}


def owned(path: str) -> Object:
    kind, _ = OWNED_FIELDS[path]
    block: Any = {"object": {"a": "b"}, "string": "x", "boolean": True}[kind]
    for key in reversed(path.split(".")):
        block = {key: block}
    return {"azureML": block}


def workspace_cases(kind: str) -> list[Case]:
    def case(patch: Object, field: str, message: str, base: Object = AZURE_WORKSPACE) -> Case:
        return Case(kind, base, patch, field, message)

    def shape(machines: Object, message: str) -> Case:
        return case({"computeClasses": {"x": {"azureML": machines}}}, "spec.computeClasses[x].azureML", message)

    return [
        case({"azureML": AZURE_TARGET}, "spec", ONE_PLATFORM, WORKSPACE),
        case({"azureML": None}, "spec", ONE_PLATFORM),
        *(
            case({name: FULL_WORKSPACE[name]}, "spec", OF_DATABRICKS)
            for name in ("modelPrefix", "experimentRoot", "defaultPermissions")
        ),
        case({"logDestination": {"volume": "/Volumes/a/b/c"}}, "spec", NO_VOLUME),
        case({"computeClasses": {"x": {}}}, "spec.computeClasses[x]", ONE_CLASS),
        case(
            {"computeClasses": {"x": {"azureML": CLUSTER, "serverless": {"environmentVersion": "5"}}}},
            "spec.computeClasses[x]",
            ONE_CLASS,
        ),
        shape({"instanceCount": 1}, ONE_MACHINE),
        shape(CLUSTER | SERVERLESS, ONE_MACHINE),
        shape(CLUSTER | {"tier": "Standard"}, TIER),
        shape(SERVERLESS | {"instanceType": "gpu"}, INSTANCE_TYPE),
        *(
            case(
                {"runtimes": {"x": {"azureML": {"environment": "team:1"} | beside}}},
                "spec.runtimes[x].azureML",
                AS_IT_IS,
            )
            for beside in ({"image": "python:3.11"}, {"pythonVersion": "3.11"}, {"conda": ["a"]})
        ),
        case(
            {"runAs": {"identities": {"x": {"submittedUser": True, "user": "u"}}}},
            "spec.runAs.identities[x]",
            ONE_IDENTITY,
        ),
    ]


AZURE_REFUSED_AT_CREATION = [
    *(
        Case(
            "MLTrainingRun",
            RUN,
            owned(path),
            f"spec.azureML.{path}",
            f"{path} can not be set here ({instead}): remove it",
        )
        for path, (_, instead) in OWNED_FIELDS.items()
    ),
    Case("MLTrainingRun", SWEEP_RUN, {"azureML": {"jobs": {"a": {}}}}, "spec.azureML.jobs", GRAPH),
    Case("MLTrainingRun", RUN, {"azureML": {"jobType": "Pipeline"}}, "spec.azureML.jobs", GRAPH),
    *workspace_cases("MLWorkspace"),
    *workspace_cases("ClusterMLWorkspace"),
]


def moved_cases(kind: str) -> list[Case]:
    others: dict[str, str] = {
        "subscriptionId": "00000000-0000-0000-0000-000000000002",
        "resourceGroup": "other",
        "workspaceName": "other",
        "tenantId": "fabrikam.onmicrosoft.com",
    }
    return [
        *(
            Case(kind, AZURE_WORKSPACE, {"azureML": {name: value}}, f"spec.azureML.{name}", f"{name} {ELSEWHERE}")
            for name, value in others.items()
        ),
        *(
            Case(kind, base, {"azureML": {"cloud": cloud}}, "spec.azureML", f"cloud {ELSEWHERE}")
            for base, cloud in (
                (AZURE_WORKSPACE, "AzureChina"),
                (FULL_AZURE_WORKSPACE, None),
                (FULL_AZURE_WORKSPACE, "AzurePublic"),
            )
        ),
        Case(kind, WORKSPACE, {"databricks": None, "azureML": AZURE_TARGET}, "spec", MOVED),
        Case(kind, AZURE_WORKSPACE, {"azureML": None, "databricks": WORKSPACE["databricks"]}, "spec", MOVED),
    ]


AZURE_REFUSED_AT_CHANGE = [
    *(
        Case("MLTrainingRun", base, {"azureML": block}, "spec.azureML", f"azureML {NEW_RUN}")
        for base, block in (
            (RUN, {"tags": {"a": "b"}}),
            (PIPELINE_RUN, {"jobs": {"train": {"type": "spark"}}}),
            (SWEEP_RUN, None),
        )
    ),
    *moved_cases("MLWorkspace"),
    *moved_cases("ClusterMLWorkspace"),
]
