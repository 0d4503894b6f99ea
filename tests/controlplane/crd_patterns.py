"""What the patterns of the CRDs refuse, by the field; what they accept is in crd_specs. Read by test_crds.py only."""

from collections.abc import Iterator
from typing import Any

from tests.controlplane.crd_deployment import DEPLOYMENT, FULL_DEPLOYMENT, WRONG_DEPLOYMENTS
from tests.controlplane.crd_identity import LENT, OWN, WRONG_IDENTITIES
from tests.controlplane.crd_specs import (
    ADLS_WORKSPACE,
    FULL_AZURE_WORKSPACE,
    FULL_RUN,
    FULL_WORKSPACE,
    GIT_RUN,
    JOB_RUN,
    NOTEBOOK_RUN,
    PATH_RUN,
    RUN,
    S3_WORKSPACE,
    SCRIPTS_RUN,
    TASKS_RUN,
    WHEEL_FILE_RUN,
    WHEEL_RUN,
    Object,
)

RIGHT = {
    "ModelDeployment": (FULL_DEPLOYMENT, DEPLOYMENT),
    "MLTrainingRun": (
        FULL_RUN,
        GIT_RUN,
        PATH_RUN,
        NOTEBOOK_RUN,
        WHEEL_RUN,
        WHEEL_FILE_RUN,
        JOB_RUN,
        TASKS_RUN,
        SCRIPTS_RUN,
        RUN | {"code": {"configMap": {"name": "code"}}},
    ),
    "MLWorkspace": (FULL_WORKSPACE, S3_WORKSPACE, ADLS_WORKSPACE, FULL_AZURE_WORKSPACE, *OWN, *LENT),
    "ClusterMLWorkspace": (
        FULL_WORKSPACE | {"allowedNamespaces": ["team-a"]},
        S3_WORKSPACE,
        ADLS_WORKSPACE,
        FULL_AZURE_WORKSPACE,
        *OWN,
        *LENT,
    ),
}

UUID = "11111111-2222-3333-4444-555555555555"
NAMES = ("Team", "-team", "team_a")
FILES = ("/etc/passwd.py", "-train.py", "train.sh", "a b.py", "~/a.py")
NOTEBOOKS = ("/Shared/train", "-train", "~train", "a?.ipynb")
MODULES = ("1a", "a-b", "a..b", "a.py/", ".a")
SCRIPTS = ("-train", "train it", "a;b")
PACKAGES = ("--index-url=https://a.b", "-e .", " a")
PLACES = ("/tmp/a", "s3://a/b", "data://", "Volumes/a", "/Volumes/a b", "https://a.b/c.whl")
TASK_NAMES = ("-a", "a b", "a.b", "a/b")
URIS = ("raw/2026", "/tmp/raw", "s3://a b", "S3://a/b", "main.sales.raw")
TABLES = ("sales", "main.sales", "a.b.c.d", "data://sales", "data://sales/a/b", "a b.c.d")
PREFIXES = ("/a", " a", "a b", "a//b", "a/../b", "..", "./a", "a/.", "a\\b", "a\n", "a?b")

WRONG: dict[str, tuple[str, ...]] = {
    "spec.workspaceRef.name": NAMES,
    "spec.code.configMap.name": NAMES,
    "spec.code.git.url": (
        "http://a.b/cdef",
        "git://a.b/cd",
        "file:///a/b",
        "/srv/git/iris",
        "ext::sh -c a",
        "-u@a.b:c",
    ),
    "spec.code.git.ref": ("-main", "--upload-pack=x", "a b", "a:b", "a~1", "a^"),
    "spec.code.git.path": ("/a", "-a", "~a", "a\\b"),
    "spec.code.git.secretRef.name": NAMES,
    "spec.code.path": PLACES,
    "spec.code.wheel.package": PACKAGES,
    "spec.code.wheel.path": PLACES,
    "spec.code.wheel.name": ("-iris", "iris-", "a b", "iris==1"),
    "spec.entrypoint.pythonFile": FILES,
    "spec.entrypoint.module": MODULES,
    "spec.entrypoint.consoleScript": SCRIPTS,
    "spec.entrypoint.notebook": NOTEBOOKS,
    "spec.tasks[].name": TASK_NAMES,
    "spec.tasks[].entrypoint.pythonFile": FILES,
    "spec.tasks[].entrypoint.module": MODULES,
    "spec.tasks[].entrypoint.consoleScript": SCRIPTS,
    "spec.tasks[].entrypoint.notebook": NOTEBOOKS,
    "spec.tasks[].jobRef.id": ("nightly", "0", "-1", "1.5"),
    "spec.tasks[].environment.pip[]": PACKAGES,
    "spec.tasks[].dependsOn[]": TASK_NAMES,
    "spec.jobRef.id": ("nightly", "0", "-1", "1.5"),
    "spec.environment.pip[]": PACKAGES,
    "spec.inputs[].uri": URIS,
    "spec.inputs[].table": TABLES,
    "spec.outputs[].uri": URIS,
    "spec.outputs[].table": TABLES,
    "spec.secrets[].key": ("a b", "a/b", "{{x}}"),
    "spec.experiment": ("/Shared/a", "-a", "a/b"),
    "spec.model.name": ("main.ml.iris", "-a", "a b"),
    "spec.model.alias": ("1a", "-a", "a b"),
    "spec.submissionKey": ("with spaces", "with/slash"),
    "spec.identity.federated.serviceAccountName": NAMES,
    "spec.allowedNamespaces[]": NAMES,
    **WRONG_IDENTITIES,
    **WRONG_DEPLOYMENTS,
    "spec.computeClasses[].modelServing.workloadType": ("cpu", "1_GPU", "GPU SMALL", "GPU-SMALL"),
    "spec.computeClasses[].onlineEndpoint.instanceType": ("Standard DS3", "a/b", "a-b"),
    "spec.endpointPrefix": ("1iris", "-iris", "iris-", "iris_a"),
    "spec.computeClasses[].jobCluster.instanceProfileArn": ("trainer", "iam:arn:"),
    "spec.computeClasses[].serverless.environmentVersion": ("five", "5.0", "-5"),
    "spec.computeClasses[].serverless.accelerator": ("GPU 1xA10", "GPU-1xA10"),
    "spec.runtimes[].pip[]": PACKAGES,
    "spec.modelPrefix": ("main", "a.b.c", "main/ml", "a b.c"),
    "spec.experimentRoot": ("Shared", "/Shared/", "/a b"),
    "spec.dataRoots[].path": ("Volumes/a", "/tmp/a", "/Volumes/a/", "/Volumes/a b"),
    "spec.dataRoots[].schema": ("main", "a.b.c", "a/b"),
    "spec.secretStores[].databricksScope": ("a b", "a/b"),
    "spec.logDestination.s3.bucket": ("Iris", "-iris", "iris-", "s3://iris"),
    "spec.logDestination.s3.prefix": PREFIXES,
    "spec.logDestination.s3.region": ("EU", "eu central", "eu-west", "evil", "eu-west-1.evil"),
    "spec.logDestination.s3.roleArn": ("iris-logs", "arn:aws:iam::1:role/a", "arn:aws:iam::123456789012:user/a"),
    "spec.logDestination.adls.account": ("Iris", "iris-logs"),
    "spec.logDestination.adls.container": ("Training", "-training", "training-", "a--b", "a/b"),
    "spec.logDestination.adls.prefix": PREFIXES,
    "spec.logDestination.adls.tenantId": ("a/b", "a b", ".."),
    "spec.logDestination.adls.clientId": ("a/b", "a b"),
    "spec.azureML.subscriptionId": ("sub-1", "0" * 36, "../x", UUID.replace("1", "g")),
    "spec.azureML.resourceGroup": ("a/b", "a b", "a.", "a?b", "a%2fb", "ä"),
    "spec.azureML.workspaceName": ("-abc", "a/bc", "a.bc", "a bc", "abc?"),
    "spec.azureML.tenantId": ("a/b", "a b", "-a", ".", "a.", "https://a"),
    "spec.azureML.cloud": ("https://a.b", "-a", "a b", "a.b"),
    "spec.computeClasses[].azureML.compute": ("-ab", "1ab", "a/b", "a b"),
    "spec.computeClasses[].azureML.instanceType": ("a b", "a/b"),
    "spec.computeClasses[].azureML.serverless.instanceType": ("Standard DS3", "a/b"),
    "spec.computeClasses[].azureML.shmSize": ("16", "g", "16G", "16gb", "-1g"),
    "spec.runtimes[].azureML.environment": (
        "team-env",
        "team-env@newest",
        "https://a.b/c:1",
        "a b:1",
        "azureml://registries/a/environments/b",
        "azureml://registries/a/models/b/versions/1",
    ),
    "spec.runtimes[].azureML.image": ("-a", "a b", "Image", "a;b", "--privileged"),
    "spec.runtimes[].azureML.pythonVersion": ("3", "2.7", "3.11.1", "latest"),
    "spec.runtimes[].azureML.conda[]": ("--file=x", "a b", " a"),
    "spec.runAs.identities[].managedIdentity": ("trainer", "11111111-2222-3333-4444", UUID.replace("1", "/")),
    "spec.logDestination.volume": (
        "/Volumes/a/b",
        "/Volumes/a/b/c/",
        "/tmp/a/b/c",
        "Volumes/a/b/c",
        "/Volumes/a/b/c//d",
        "/Volumes/a/b/c/../d",
        "/Volumes/a/../b",
        "/Volumes/a/b/c/d\\e",
    ),
}


def put(node: Any, steps: list[str], text: str) -> tuple[Any, str]:
    """The node with that text in place of the first one at the path, and the path as the API server words it."""
    if not steps:
        return text, ""
    step, *left = steps
    if step == "[]":
        keys = list(node) if isinstance(node, dict) else range(len(node))
        for key in keys:
            try:
                changed, path = put(node[key], left, text)
            except KeyError:
                continue
            if isinstance(node, dict):
                return node | {key: changed}, f".{key}{path}"
            return [*node[:key], changed, *node[key + 1 :]], f"[{key}]{path}"
        raise KeyError(step)
    if not isinstance(node, dict):
        raise KeyError(step)
    changed, path = put(node[step], left, text)
    return node | {step: changed}, f".{step}{path}"


def wrong_specs(kind: str, field: str) -> Iterator[tuple[Object, str]]:
    """Specs that are right but for that field, each with the field as the API server words it."""
    steps = [part for step in field.removeprefix("spec.").split(".") for part in step.replace("[]", " []").split()]
    for text in WRONG[field]:
        for base in RIGHT[kind]:
            try:
                spec, path = put(base, steps, text)
            except KeyError:
                continue
            yield spec, f"spec{path}"
            break
        else:
            raise LookupError(f"no right {kind} has {field}")
