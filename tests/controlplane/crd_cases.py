"""The mistakes that the CRDs refuse, each with the field and the words of the refusal. Read by test_crds.py only."""

import json
from dataclasses import dataclass
from typing import Any

from tests.controlplane.crd_specs import (
    FULL_RUN,
    FULL_WORKSPACE,
    GIT_RUN,
    JOB_RUN,
    PATH_RUN,
    RUN,
    S3_WORKSPACE,
    SCRIPTS_RUN,
    TASKS,
    TASKS_RUN,
    WHEEL_FILE_RUN,
    WHEEL_RUN,
    WORKSPACE,
    Object,
    patched,
)
from trainyard.api.databricks_block import OWNED_FIELDS

NEW_RUN = "can not be changed once the run exists: create a run with another name"


@dataclass(frozen=True)
class Case:
    """A patch of `base`, with the field and the words of the refusal that it meets."""

    kind: str
    base: Object
    patch: Object
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind}-{self.field}-{json.dumps(self.patch)[:40]}"


def owned(path: str) -> Object:
    kind, _ = OWNED_FIELDS[path]
    value = {"object": {"a": "b"}, "array": [{"a": "b"}], "string": "x", "integer": 1, "boolean": True}[kind]
    block: Any = value
    for key in reversed(path.split(".")):
        block = {key: block}
    return {"databricks": block}


ONE_CODE = (
    "code needs exactly one of inline, configMap, git, path or wheel: add the one that you use, or remove the others"
)
ONE_WHEEL = "a wheel needs exactly one of package or path: add the one that you use, or remove the other"
ONE_ENTRYPOINT = "an entrypoint has at most one of pythonFile, module, consoleScript and notebook: remove the others"
NO_ARGS = "a notebook takes no args: remove them, and read spec.params with its widgets"
NO_PASSWORD = "url must hold no user or password: put them into a Secret and name it in secretRef"
ONE_JOB = "jobRef needs exactly one of id or name: add the one that you use, or remove the other"
ONE_INPUT = "an input needs exactly one of uri or table: add the one that you use, or remove the other"
ONE_OUTPUT = "an output needs exactly one of uri or table: add the one that you use, or remove the other"
JOB_ALONE = "jobRef runs a job that has its own code: remove code, entrypoint and tasks, or use a task with a jobRef"
NO_CODE = "code is missing: give one of inline, configMap, git, path or wheel, or run a job with jobRef"
EITHER = "entrypoint and tasks can not stand together: give each task its own entrypoint"
NO_COMPUTE = "compute is missing: name a class of the workspace's computeClasses, here or in every task"
ONE_STEP = "each task needs exactly one of entrypoint and jobRef, or a task of the platform's in databricks"
NO_SUCH_TASK = "dependsOn names a task that is not there: correct the name, or add the task"
SCRIPT_NEEDS_WHEEL = "consoleScript needs code.wheel: a console script is installed by a wheel"
WHEEL_NEEDS_START = "code.wheel has no files to start: name a consoleScript or a module in the entrypoint"
KEY_63 = "a key must have 1 to 63 characters: shorten it"
KEY_128 = "a key must have 1 to 128 characters: shorten it"
KEY_255 = "a key must have 1 to 255 characters: shorten it"
ALIAS = "alias must not be latest or look like a version (v1), which MLflow keeps: choose another"
BACKOFF = (
    "backoffSeconds (30 when absent) must not exceed maxBackoffSeconds (600 when absent): raise maxBackoffSeconds or "
    "lower backoffSeconds"
)
HOST_FORM = "host must be an https URL without a path, user or query: write https://NAME or https://NAME:PORT"
ONE_CLASS = (
    "a compute class needs exactly one of jobCluster, serverless, existingCluster (Databricks) or azureML, or for "
    "served models one of modelServing (Databricks) or onlineEndpoint (Azure ML), or one of each: add the one that you "
    "use, or remove the others"
)
ONE_MACHINE = (
    "a job cluster needs exactly one of nodeTypeId or instancePoolId: add the one that you use, or remove the other"
)
ONE_SIZE = "numWorkers and autoscale can not stand together: remove one of them"
DRIVER_POOL = "driverInstancePoolId needs instancePoolId: add it, or remove driverInstancePoolId"
AUTOSCALE = "minWorkers must not exceed maxWorkers: raise the one or lower the other"
EMPTY_ROOT = "a data root needs path, or schema, or both: add what it stands for"
DEFAULT_IDENTITY = "default must be one of identities: add it there, or name another"
ONE_IDENTITY = (
    "an identity needs exactly one of servicePrincipal, user (Databricks), managedIdentity or submittedUser (Azure "
    "ML): add the one that you use, or remove the others"
)
ONE_DESTINATION = (
    "a log destination needs exactly one of s3, adls or volume: add the one that you use, or remove the others"
)
ENVIRONMENT_5 = "environmentVersion must be 5 or later, as earlier ones take no environment variables: raise it"
ONE_GRANTEE = "a permission needs exactly one of group, user or servicePrincipal: write one entry for each"


def below(name: str) -> str:
    return f"{name} must be a path below the source folder, without empty, . or .. parts: write it as a/b/c"


def no_dots(name: str) -> str:
    return f"{name} must not have . or .. parts: write the place itself"


def variables(what: str) -> str:
    return f"names of {what} become environment variables: use letters, digits and _, and begin with no digit"


def within(name: str) -> str:
    return f"{name} must not exceed timeoutSeconds, which covers all attempts: lower {name} or raise timeoutSeconds"


def run_case(patch: Object, field: str, message: str) -> Case:
    return Case("MLTrainingRun", RUN, patch, field, message)


CLUSTER: Object = {"nodeTypeId": "Standard_D4s_v5", "dataSecurityMode": "SINGLE_USER"}


def workspace_cases(kind: str) -> list[Case]:
    def case(patch: Object, field: str, message: str) -> Case:
        return Case(kind, WORKSPACE, patch, field, message)

    return [
        *(
            case({"databricks": {"host": host}}, "spec.databricks.host", HOST_FORM)
            for host in (
                "http://adb-1.7.azuredatabricks.net",
                "https://a.b/",
                "https://a@b.c",
                "https://a.b?c",
                "a.b.c.d.e",
            )
        ),
        case({"computeClasses": {"x": {"jobCluster": None}}}, "spec.computeClasses[x]", ONE_CLASS),
        *(
            case({"computeClasses": {"x": {"jobCluster": CLUSTER | patch}}}, f"spec.computeClasses[x].{field}", words)
            for patch, field, words in (
                ({"instancePoolId": "p"}, "jobCluster", ONE_MACHINE),
                ({"numWorkers": 1, "autoscale": {"minWorkers": 1, "maxWorkers": 2}}, "jobCluster", ONE_SIZE),
                ({"driverInstancePoolId": "p"}, "jobCluster", DRIVER_POOL),
                ({"autoscale": {"minWorkers": 3, "maxWorkers": 2}}, "jobCluster.autoscale", AUTOSCALE),
                ({"sparkConf": {"s" * 256: "x"}}, "jobCluster.sparkConf", KEY_255),
            )
        ),
        case(
            {"computeClasses": {"x": {"jobCluster": {"dataSecurityMode": "SINGLE_USER"}}}},
            "spec.computeClasses[x].jobCluster",
            ONE_MACHINE,
        ),
        case(
            {"computeClasses": {"x": {"modelServing": {}, "onlineEndpoint": {"instanceType": "Standard_DS3_v2"}}}},
            "spec.computeClasses[x]",
            ONE_CLASS,
        ),
        case({"dataRoots": {"x": {}}}, "spec.dataRoots[x]", EMPTY_ROOT),
        case({"dataRoots": {"x" * 64: {"schema": "a.b"}}}, "spec.dataRoots", KEY_63),
        case({"secretStores": {"x" * 64: {"databricksScope": "s"}}}, "spec.secretStores", KEY_63),
        case({"runAs": {"identities": {"x": {"user": "u"}}, "default": "y"}}, "spec.runAs", DEFAULT_IDENTITY),
        case({"runAs": {"identities": {"x": {}}}}, "spec.runAs.identities[x]", ONE_IDENTITY),
        case(
            {"runAs": {"identities": {"x": {"user": "u", "servicePrincipal": "p"}}}},
            "spec.runAs.identities[x]",
            ONE_IDENTITY,
        ),
        case({"runAs": {"identities": {"x" * 64: {"user": "u"}}}}, "spec.runAs.identities", KEY_63),
        case({"logDestination": {}}, "spec.logDestination", ONE_DESTINATION),
        case(
            {"logDestination": S3_WORKSPACE["logDestination"] | {"volume": "/Volumes/a/b/c"}},
            "spec.logDestination",
            ONE_DESTINATION,
        ),
        case(
            {
                "computeClasses": {
                    "x": FULL_WORKSPACE["computeClasses"]["small"] | FULL_WORKSPACE["computeClasses"]["quick"]
                }
            },
            "spec.computeClasses[x]",
            ONE_CLASS,
        ),
        case(
            {"computeClasses": {"x": {"serverless": {"environmentVersion": "4"}}}},
            "spec.computeClasses[x].serverless.environmentVersion",
            ENVIRONMENT_5,
        ),
        case({"computeClasses": {"x" * 64: FULL_WORKSPACE["computeClasses"]["quick"]}}, "spec.computeClasses", KEY_63),
        case({"runtimes": {"x" * 64: {"pip": ["a"]}}}, "spec.runtimes", KEY_63),
        case({"defaultPermissions": [{"level": "CAN_VIEW"}]}, "spec.defaultPermissions[0]", ONE_GRANTEE),
        case(
            {"defaultPermissions": [{"level": "CAN_VIEW", "group": "g", "user": "u"}]},
            "spec.defaultPermissions[0]",
            ONE_GRANTEE,
        ),
    ]


def tasks_case(task: Object, field: str, message: str, base: Object = RUN) -> Case:
    """The case of a run whose one task is that, with `a` as its name."""
    return Case("MLTrainingRun", base, {"tasks": [{"name": "a"} | task]}, field, message)


def both_case(entrypoint: Object, field: str, message: str) -> list[Case]:
    """An entrypoint that is refused at the run and in a task."""
    return [
        run_case({"entrypoint": entrypoint}, f"spec.entrypoint{field}", message),
        tasks_case({"entrypoint": entrypoint}, f"spec.tasks[0].entrypoint{field}", message),
    ]


REFUSED_SHAPES = [
    *(
        Case("MLTrainingRun", JOB_RUN, patch, "spec.jobRef", JOB_ALONE)
        for patch in ({"code": {"inline": "x"}}, {"entrypoint": {}}, {"tasks": [{"name": "a", "jobRef": {"id": "1"}}]})
    ),
    run_case({"code": None}, "spec.code", NO_CODE),
    run_case({"code": None, "tasks": []}, "spec.code", NO_CODE),
    tasks_case({"entrypoint": {}}, "spec.code", NO_CODE, patched(RUN, {"code": None})),
    tasks_case({"entrypoint": {}}, "spec.entrypoint", EITHER, RUN | {"entrypoint": {"pythonFile": "a.py"}}),
    run_case({"compute": None}, "spec.compute", NO_COMPUTE),
    tasks_case({"entrypoint": {}}, "spec.compute", NO_COMPUTE, patched(RUN, {"compute": None})),
    tasks_case({}, "spec.tasks", ONE_STEP),
    tasks_case({"entrypoint": {}, "jobRef": {"id": "1"}}, "spec.tasks", ONE_STEP),
    tasks_case({"entrypoint": {}, "dependsOn": ["b"]}, "spec.tasks", NO_SUCH_TASK),
    run_case(
        {"tasks": [{"name": "a", "entrypoint": {}}, {"name": "a", "entrypoint": {}}]},
        "spec.tasks[1]",
        'Duplicate value: {"name":"a"}',
    ),
    run_case({"entrypoint": {"consoleScript": "train"}}, "spec.code", SCRIPT_NEEDS_WHEEL),
    tasks_case({"entrypoint": {"consoleScript": "train"}}, "spec.code", SCRIPT_NEEDS_WHEEL),
    *(
        Case("MLTrainingRun", WHEEL_RUN, {"entrypoint": entrypoint}, "spec.code", WHEEL_NEEDS_START)
        for entrypoint in (None, {"consoleScript": None, "pythonFile": "a.py"}, {"consoleScript": None})
    ),
    tasks_case({"entrypoint": {"notebook": "a.ipynb"}}, "spec.code", WHEEL_NEEDS_START, SCRIPTS_RUN),
]

REFUSED_FIELDS = [
    run_case({"code": {"git": {"url": "https://a.b/c"}}}, "spec.code", ONE_CODE),
    run_case({"code": {"path": "/Volumes/a/b/c"}}, "spec.code", ONE_CODE),
    Case("MLTrainingRun", WHEEL_RUN, {"code": {"wheel": {"package": None}}}, "spec.code.wheel", ONE_WHEEL),
    Case("MLTrainingRun", WHEEL_RUN, {"code": {"wheel": {"path": "data://w/a.whl"}}}, "spec.code.wheel", ONE_WHEEL),
    *(
        Case("MLTrainingRun", GIT_RUN, {"code": {"git": {"url": url}}}, "spec.code.git.url", NO_PASSWORD)
        for url in ("https://ada@a.b/c", "https://ada:secret@a.b/c", "ssh://git:secret@a.b/c")
    ),
    *(
        Case("MLTrainingRun", GIT_RUN, {"code": {"git": {"path": path}}}, "spec.code.git.path", below("path"))
        for path in ("..", "a/../b", "a//b", "./a", "a/")
    ),
    *(
        Case("MLTrainingRun", PATH_RUN, {"code": {"path": path}}, "spec.code.path", no_dots("path"))
        for path in ("data://code/../secret", "/Volumes/a/../b", "/Workspace/Users/./ada")
    ),
    Case(
        "MLTrainingRun",
        WHEEL_FILE_RUN,
        {"code": {"wheel": {"path": "data://wheels/../a.whl"}}},
        "spec.code.wheel.path",
        no_dots("path"),
    ),
    *both_case({"pythonFile": "a.py", "module": "a"}, "", ONE_ENTRYPOINT),
    *both_case({"notebook": "a.ipynb", "args": ["x"]}, "", NO_ARGS),
    *both_case({"pythonFile": "a/../b.py"}, ".pythonFile", below("pythonFile")),
    *both_case({"notebook": "a//b.ipynb"}, ".notebook", below("notebook")),
    tasks_case({"jobRef": {}}, "spec.tasks[0].jobRef", ONE_JOB),
    tasks_case({"jobRef": {"id": "1", "parameters": {"": "x"}}}, "spec.tasks[0].jobRef.parameters", KEY_128),
    Case("MLTrainingRun", JOB_RUN, {"jobRef": {"id": None}}, "spec.jobRef", ONE_JOB),
    Case("MLTrainingRun", JOB_RUN, {"jobRef": {"name": "nightly"}}, "spec.jobRef", ONE_JOB),
    Case("MLTrainingRun", JOB_RUN, {"jobRef": {"parameters": {"p" * 129: ""}}}, "spec.jobRef.parameters", KEY_128),
    *(
        case
        for data, one in (("inputs", ONE_INPUT), ("outputs", ONE_OUTPUT))
        for case in (
            run_case({data: {"my-data": {"uri": "s3://a/b"}}}, f"spec.{data}", variables(data)),
            run_case({data: {"d" * 64: {"uri": "s3://a/b"}}}, f"spec.{data}", KEY_63),
            run_case({data: {"x": {}}}, f"spec.{data}[x]", one),
            run_case({data: {"x": {"uri": "s3://a/b", "table": "a.b.c"}}}, f"spec.{data}[x]", one),
            run_case({data: {"x": {"uri": "data://a/../b"}}}, f"spec.{data}[x].uri", no_dots("uri")),
        )
    ),
    run_case({"secrets": {"1A": {"store": "s", "key": "k"}}}, "spec.secrets", variables("secrets")),
    run_case({"secrets": {"A" * 129: {"store": "s", "key": "k"}}}, "spec.secrets", KEY_128),
]

REFUSED_AT_CREATION = [
    *REFUSED_SHAPES,
    *REFUSED_FIELDS,
    run_case({"code": {"inline": None}}, "spec.code", ONE_CODE),
    run_case({"code": {"configMap": {"name": "code"}}}, "spec.code", ONE_CODE),
    run_case({"params": {"": "x"}}, "spec.params", KEY_63),
    run_case({"tags": {"t" * 64: "x"}}, "spec.tags", KEY_63),
    run_case({"model": {"name": "m", "tags": {"t" * 64: "x"}}}, "spec.model.tags", KEY_63),
    *(run_case({"model": {"name": "m", "alias": a}}, "spec.model.alias", ALIAS) for a in ("latest", "Latest", "v12")),
    run_case({"retry": {"backoffSeconds": 601}}, "spec.retry", BACKOFF),
    run_case({"retry": {"maxBackoffSeconds": 29}}, "spec.retry", BACKOFF),
    *(
        run_case({"timeoutSeconds": 10, name: 11}, f"spec.{name}", within(name))
        for name in ("attemptTimeoutSeconds", "queueTimeoutSeconds")
    ),
    *(
        run_case(owned(path), f"spec.databricks.{path}", f"{path} can not be set here ({instead}): remove it")
        for path, (_, instead) in OWNED_FIELDS.items()
    ),
    *workspace_cases("MLWorkspace"),
    *workspace_cases("ClusterMLWorkspace"),
]


def changed(patch: Object, field: str, message: str, base: Object = FULL_RUN) -> Case:
    return Case("MLTrainingRun", base, patch, field, message)


FIXED: dict[str, Object] = {
    "workspaceRef": {"name": "other"},
    "code": {"inline": "print('else')"},
    "entrypoint": {"args": ["--depth"]},
    "environment": {"pip": []},
    "compute": {"class": "large"},
    "params": {"depth": "4"},
    "model": {"alias": None},
    "tags": {"team": "trees"},
    "inputs": {"raw": {"uri": "data://sales/2027"}},
    "outputs": {"report": None},
    "secrets": {"API_KEY": {"key": "other-key"}},
}
FIXED_SCALARS: dict[str, Any] = {
    "experiment": "else",
    "timeoutSeconds": 601,
    "attemptTimeoutSeconds": 301,
    "queueTimeoutSeconds": 61,
    "submissionKey": "iris-2026-12",
    "runAs": "ada",
    "planOnly": True,
}
OPTIONAL = [name for name in [*FIXED, *FIXED_SCALARS, "databricks"] if name not in RUN]
HOST_FIXED = "host can not be changed, or runs of the old one could not be stopped: create another workspace"
CANCEL = "cancel can not be taken back: create a run with another name"
RETRY_FIXED = {"when": "Infrastructure", "backoffSeconds": 11, "maxBackoffSeconds": 61}

REFUSED_AT_CHANGE = [
    *(changed({name: value}, f"spec.{name}", f"{name} {NEW_RUN}") for name, value in (FIXED | FIXED_SCALARS).items()),
    *(changed({name: None}, f"spec.{name}", f"{name} {NEW_RUN}") for name in OPTIONAL),
    *(changed({name: FULL_RUN[name]}, f"spec.{name}", f"{name} {NEW_RUN}", RUN) for name in OPTIONAL),
    changed({"tasks": TASKS[:1]}, "spec.tasks", f"tasks {NEW_RUN}", TASKS_RUN),
    changed({"tasks": None}, "spec.tasks", f"tasks {NEW_RUN}", TASKS_RUN),
    changed({"tasks": TASKS}, "spec.tasks", f"tasks {NEW_RUN}", RUN),
    changed({"jobRef": {"id": "4321"}}, "spec.jobRef", f"jobRef {NEW_RUN}", JOB_RUN),
    changed({"databricks": {"queue": {"enabled": False}}}, "spec.databricks", f"databricks {NEW_RUN}"),
    changed({"databricks": {"budget_policy_id": "b"}}, "spec.databricks", f"databricks {NEW_RUN}"),
    *(
        changed({"retry": {name: value}}, "spec.retry", f"retry.{name} {NEW_RUN} (only retry.limit may change)")
        for name, value in RETRY_FIXED.items()
    ),
    *(
        changed({"retry": {name: None}}, "spec.retry", f"retry.{name} {NEW_RUN} (only retry.limit may change)")
        for name in RETRY_FIXED
    ),
    changed({"retry": {"when": "Any"}}, "spec.retry", f"retry.when {NEW_RUN} (only retry.limit may change)", RUN),
    changed({"cancel": False}, "spec.cancel", CANCEL, RUN | {"cancel": True}),
    changed({"cancel": None}, "spec.cancel", CANCEL, RUN | {"cancel": True}),
    *(
        Case(
            kind,
            WORKSPACE,
            {"databricks": {"host": "https://adb-2.7.azuredatabricks.net"}},
            "spec.databricks.host",
            HOST_FIXED,
        )
        for kind in ("MLWorkspace", "ClusterMLWorkspace")
    ),
]
