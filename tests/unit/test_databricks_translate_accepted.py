"""Whatever the spec combines, the platform's own checks take the request, or it is refused with a reason before.

The judge is the sandbox, which refuses what it does not know: its shapes and rules for runs/submit.
"""

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
from databricks.sdk.service import jobs as sdk

from tests.unit.translations import MLFLOW, NOTEBOOK, attempt
from trainyard.core.errors import TranslationError
from trainyard.platforms.base import Job
from trainyard.platforms.databricks.learned import with_variables
from trainyard.platforms.databricks.translate import translate
from trainyard_sandbox.databricks.jobs_shapes import SUBMIT_RUN
from trainyard_sandbox.databricks.jobs_submit import check_submit
from trainyard_sandbox.principals import Directory, Principal, new_scim_id
from trainyard_sandbox.state import SandboxState

LTS = "16.4.x-scala2.13"
GPU = "16.4.x-gpu-ml-scala2.12"
CODES: dict[str, Any] = {
    "inline": {"inline": "x"},
    "git": {"git": {"url": "https://git.example.com/x.git"}},
    "workspace path": {"path": "/Workspace/Shared/x"},
    "volume path": {"path": "/Volumes/main/ml/code/x"},
    "wheel package": {"wheel": {"package": "acme-churn==1"}},
    "wheel file": {"wheel": {"path": "/Volumes/main/ml/wheels/acme_churn-1-py3-none-any.whl"}},
}
ENTRYPOINTS: dict[str, Any] = {
    "default": {},
    "file": {"pythonFile": "acme/train.py", "args": ["$(params.day)"]},
    "module": {"module": "acme.train", "args": ["--day", "$(params.day)"]},
    "script": {"consoleScript": "train"},
    "notebook": {"notebook": "look.py"},
    "ipynb": {"notebook": "nb/look.ipynb"},
}
FILES = {"main.py": b"", "acme/__init__.py": b"", "acme/train.py": b"", "look.py": NOTEBOOK, "nb/look.ipynb": b"{}"}
SHAPES = ("alone", "graph", "crowd")
REASONS = frozenset({"EntrypointMissing", "InvalidSpec", "SecretsNeedJobCluster"})


@dataclass(frozen=True)
class Judge:
    """A sandbox's workspace, and the compute classes that it has."""

    state: SandboxState
    admin: Principal
    classes: dict[str, Any]

    def check(self, body: dict[str, Any]) -> None:
        check_submit(self.state, self.admin, SUBMIT_RUN.check(body, ""))


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    nothing = cast(Any, None)
    here = tmp_path_factory.mktemp("sandbox")
    directory = Directory()
    state = SandboxState(here, Path(here / "ca"), directory, nothing, nothing, nothing, nothing, nothing)
    admin = Principal("app-id", "admin", new_scim_id(), groups={"users", "admins"})
    other = Principal("sp-2", "trainer", new_scim_id(), groups={"users", "admins"})
    admin.use_service_principals({"sp-2"})
    for principal in (admin, other):
        directory.add(principal)
    state.compute.budget_policies.add("b-1")
    state.compute.instance_profiles.add("arn:aws:iam::1:instance-profile/x")
    pool = state.compute.pools.create({"instance_pool_name": "p", "node_type_id": "i3.xlarge"}, admin)
    policy = state.compute.policies.create({"name": "p", "definition": "{}"}, admin)
    running = state.compute.clusters.create(
        {"spark_version": LTS, "node_type_id": "i3.xlarge", "num_workers": 0}, admin
    )
    nodes = {"nodeTypeId": "i3.xlarge", "sparkVersion": LTS, "dataSecurityMode": "SINGLE_USER"}
    pooled = {"instancePoolId": pool.pool_id, "sparkVersion": LTS, "dataSecurityMode": "USER_ISOLATION"}
    clusters = {
        "single node": nodes,
        "dedicated": {**nodes, "dataSecurityMode": "DATA_SECURITY_MODE_DEDICATED", "numWorkers": 2},
        "autoscale": {**nodes, "autoscale": {"minWorkers": 1, "maxWorkers": 4}, "runtimeEngine": "PHOTON"},
        "spot": {**nodes, "availability": "SpotWithFallback", "numWorkers": 4, "zoneId": "us-west-2a"},
        "profile": {
            **nodes,
            "instanceProfileArn": "arn:aws:iam::1:instance-profile/x",
            "driverNodeTypeId": "i3.2xlarge",
        },
        "pool": {**pooled, "driverInstancePoolId": pool.pool_id},
        "policy": {**nodes, "policyId": policy.policy_id, "applyPolicyDefaultValues": True, "sparkConf": {"a": "b"}},
        "gpu": {**nodes, "nodeTypeId": "g5.xlarge", "sparkVersion": GPU},
    }
    return Judge(
        state,
        admin,
        {
            **{name: {"jobCluster": shape} for name, shape in clusters.items()},
            "serverless": {"serverless": {"environmentVersion": "5"}},
            "budget": {
                "serverless": {
                    "environmentVersion": "5",
                    "budgetPolicyId": "b-1",
                    "performanceTarget": "STANDARD",
                    "accelerator": "GPU_1xA10",
                }
            },
            "running": {"existingCluster": {"clusterId": running.cluster_id}},
        },
    )


def combined(classes: dict[str, Any], code: str, entrypoint: str, compute: str, shape: str, *, secret: bool) -> Job:
    what: dict[str, Any] = {"entrypoint": ENTRYPOINTS[entrypoint]}
    if shape != "alone":
        count = 2 if shape == "graph" else 12
        first = [{"name": f"t{index}", **what} for index in range(count)]
        last = {"name": "last", "entrypoint": ENTRYPOINTS[entrypoint], "dependsOn": ["t0", "t1"], "runIf": "AllDone"}
        what = {"tasks": [*first, last]}
    spec: dict[str, Any] = {
        "code": CODES[code],
        "compute": {"class": compute},
        "environment": {"pip": ["pandas"]},
        "params": {"day": "1"},
        "inputs": {"x": {"uri": "/Volumes/a/b/c"}},
        "outputs": {"y": {"table": "a.b.t"}},
        "model": {"name": "m"},
        "runAs": "trainer",
        **what,
        **({"secrets": {"TOKEN": {"store": "vault", "key": "k"}}} if secret else {}),
    }
    workspace = {
        "computeClasses": classes,
        "secretStores": {"vault": {"databricksScope": "s"}},
        "runAs": {"identities": {"trainer": {"servicePrincipal": "sp-2"}}},
    }
    return attempt(FILES, workspace=workspace, facts={"cluster": "c"}, **spec)


@pytest.mark.parametrize(("code", "shape"), list(itertools.product(CODES, SHAPES)))
def test_every_combination_is_taken_by_the_platform_or_refused_with_a_reason(
    judge: Judge, code: str, shape: str
) -> None:
    accepted, refused = 0, []
    for entrypoint, compute, secret in itertools.product(ENTRYPOINTS, judge.classes, (False, True)):
        made = combined(judge.classes, code, entrypoint, compute, shape, secret=secret)
        try:
            asked = translate(made)
        except TranslationError as error:
            refused.append(error)
            continue
        body = with_variables(asked.body, MLFLOW)
        judge.check(body)
        for task in body["tasks"]:
            assert sdk.SubmitTask.from_dict(task).as_dict() == _as_the_sdk_writes(task)
            assert "r1" in str(task) or task["environment_variables_key"]
        accepted += 1
    assert accepted >= len(judge.classes)
    assert {error.reason for error in refused} <= REASONS
    assert all(error.field.startswith("spec.") and len(error.message) > 30 for error in refused)


def _as_the_sdk_writes(task: dict[str, Any]) -> dict[str, Any]:
    """The task without what the SDK leaves out because it is empty."""
    python, wheel = task.get("spark_python_task", {}), task.get("python_wheel_task", {})
    if python.get("parameters") == []:
        task = {**task, "spark_python_task": {key: value for key, value in python.items() if key != "parameters"}}
    if wheel.get("parameters") == []:
        task = {**task, "python_wheel_task": {key: value for key, value in wheel.items() if key != "parameters"}}
    return task


def test_a_job_is_taken_alone_and_among_tasks(judge: Judge) -> None:
    job = judge.state.jobs.create(
        {"name": "nightly", "parameters": [{"name": "run", "default": ""}]}, "app-id", "app-id"
    )
    ref = {"id": str(job.job_id), "parameters": {"run": "$(mlflow.runId)"}}
    alone = attempt({}, code=None, compute=None, jobRef=ref)
    graph = attempt(
        workspace={"computeClasses": judge.classes},
        compute={"class": "policy"},
        tasks=[{"name": "fit", "entrypoint": {}}, {"name": "publish", "jobRef": ref, "dependsOn": ["fit"]}],
        databricks={
            "task": {"libraries": [{"pypi": {"package": "x"}}], "email_notifications": {"on_start": ["a@b.c"]}}
        },
    )
    for made in (alone, graph, replace(graph, done_tasks=frozenset({"fit"}))):
        judge.check(with_variables(translate(made).body, MLFLOW))
