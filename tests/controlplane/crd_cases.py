"""The mistakes that the CRDs refuse, each with the field and the words of the refusal. Read by test_crds.py only."""

import copy
import json
from dataclasses import dataclass
from typing import Any

from trainyard.api.databricks_block import OWNED_FIELDS

Object = dict[str, Any]

NEW_RUN = "can not be changed once the run exists: create a run with another name"
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
    "deletionPolicy": "Cancel",
    "submissionKey": "iris-2026-11",
    "databricks": {"queue": {"enabled": True}, "task": {"new_cluster": {"autoscale": {"max_workers": 2}}}},
}
WORKSPACE: Object = {
    "databricks": {"host": "https://adb-1.7.azuredatabricks.net"},
    "identity": {"federated": {"serviceAccountName": "trainer"}},
}
FULL_WORKSPACE: Object = WORKSPACE | {
    "computeClasses": {
        "small": {"jobCluster": {"nodeTypeId": "Standard_D4s_v5", "dataSecurityMode": "SINGLE_USER"}},
        "quick": {"serverless": {"environmentVersion": "5"}},
    },
    "runtimes": {"sklearn": {"sparkVersion": "16.4.x-scala2.13", "pip": ["scikit-learn==1.9.1"]}},
    "modelPrefix": "main.ml",
    "experimentRoot": "/Shared/experiments",
    "defaultPermissions": [{"group": "data-science", "level": "CAN_VIEW"}, {"user": "a@b.c", "level": "CAN_MANAGE"}],
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


ONE_CODE = "code needs exactly one of inline or configMap: add the one that you use, or remove the other"
KEY_63 = "a key must have 1 to 63 characters: shorten it"
ALIAS = "alias must not be latest or look like a version (v1), which MLflow keeps: choose another"
BACKOFF = (
    "backoffSeconds (30 when absent) must not exceed maxBackoffSeconds (600 when absent): raise maxBackoffSeconds or "
    "lower backoffSeconds"
)
HOST_FORM = "host must be an https URL without a path, user or query: write https://NAME or https://NAME:PORT"
ONE_CLASS = (
    "a compute class needs exactly one of jobCluster or serverless: add the one that you use, or remove the other"
)
ENVIRONMENT_5 = "environmentVersion must be 5 or later, as earlier ones take no environment variables: raise it"
ONE_GRANTEE = "a permission needs exactly one of group, user or servicePrincipal: write one entry for each"


def within(name: str) -> str:
    return f"{name} must not exceed timeoutSeconds, which covers all attempts: lower {name} or raise timeoutSeconds"


def run_case(patch: Object, field: str, message: str) -> Case:
    return Case("MLTrainingRun", RUN, patch, field, message)


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


REFUSED_AT_CREATION = [
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
}
FIXED_SCALARS: dict[str, Any] = {
    "experiment": "else",
    "timeoutSeconds": 601,
    "attemptTimeoutSeconds": 301,
    "queueTimeoutSeconds": 61,
    "submissionKey": "iris-2026-12",
}
OPTIONAL = [name for name in [*FIXED, *FIXED_SCALARS, "databricks"] if name not in RUN]
HOST_FIXED = "host can not be changed, or runs of the old one could not be stopped: create another workspace"
CANCEL = "cancel can not be taken back: create a run with another name"
RETRY_FIXED = {"when": "Infrastructure", "backoffSeconds": 11, "maxBackoffSeconds": 61}

REFUSED_AT_CHANGE = [
    *(changed({name: value}, f"spec.{name}", f"{name} {NEW_RUN}") for name, value in (FIXED | FIXED_SCALARS).items()),
    *(changed({name: None}, f"spec.{name}", f"{name} {NEW_RUN}") for name in OPTIONAL),
    *(changed({name: FULL_RUN[name]}, f"spec.{name}", f"{name} {NEW_RUN}", RUN) for name in OPTIONAL),
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
