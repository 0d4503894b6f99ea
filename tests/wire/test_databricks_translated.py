"""What the translator asks for really runs: each kind of code and entrypoint, on the compute that it is meant for."""

import base64
import time
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.sandbox.wheels import a_wheel
from tests.wire.jobs import SERVERLESS, SINGLE_NODE, job
from tests.wire.test_databricks_connection import ended
from trainyard.core.remote import End, Result
from trainyard.core.tokens import code_digest
from trainyard.platforms.base import Job, Wanted
from trainyard.platforms.databricks.connection import DatabricksConnection
from trainyard.platforms.databricks.translate import translate, wanted
from trainyard_sandbox.client import SandboxControl

TELL = (
    "import os, sys\n"
    "names = ('TRAINYARD_NAME', 'MLFLOW_RUN_ID', 'TRAINYARD_TASK')\n"
    "print('told', sys.argv[1:], *map(os.environ.get, names))\n"
)
PACKAGE = {"src/acme/__init__.py": b"", "src/acme/words.py": b"WORD = 'imported'\n"}
IMPORTING = f"from acme.words import WORD\nprint(WORD)\n{TELL}".encode()


@dataclass
class Platform:
    """A workspace of the sandbox in which attempts run to their end."""

    connection: DatabricksConnection
    control: SandboxControl
    principal: str
    classes: dict[str, Any]

    def attempt(self, files: dict[str, bytes], workspace: dict[str, Any] | None = None, **spec: Any) -> Job:
        made = job(
            host=self.control.address.host,
            principal=self.principal,
            uid=f"{time.time_ns():032x}",
            workspace={"computeClasses": self.classes, **(workspace or {})},
            **spec,
        )
        return replace(made, files=files, code_digest=code_digest(files))

    def run(self, made: Job) -> tuple[str, Result]:
        """The id of the MLflow run, and what the attempt left; it has to succeed."""
        submitted = self.connection.submit(translate(made))
        remote = ended(self.connection, submitted.remote_id)
        asked: Wanted = replace(wanted(made), log_characters=20_000)
        result = self.connection.collect(remote, submitted.mlflow_run_id, asked)
        assert remote.end is End.SUCCEEDED, (remote.message, result.error, result.logs)
        return submitted.mlflow_run_id or "", result

    def put(self, path: str, content: bytes) -> None:
        """A file of the workspace."""
        do = self.connection._client.do
        do("POST", "/api/2.0/workspace/mkdirs", body={"path": path.rpartition("/")[0]})
        body = {"path": path, "content": base64.b64encode(content).decode(), "format": "RAW", "overwrite": True}
        do("POST", "/api/2.0/workspace/import", body=body)


@pytest.fixture
def platform(connection: DatabricksConnection, control: SandboxControl, principal: str) -> Platform:
    spec = {
        "cluster_name": "shared",
        "spark_version": "16.4.x-scala2.13",
        "node_type_id": "i3.xlarge",
        "num_workers": 1,
    }
    running = connection._client.do("POST", "/api/2.1/clusters/create", body=spec)["cluster_id"]
    shared = {"existingCluster": {"clusterId": running}}
    return Platform(connection, control, principal, {"small": SERVERLESS, "cluster": SINGLE_NODE, "shared": shared})


def text(result: Result) -> str:
    return "\n".join(each.text for each in result.logs)


@pytest.mark.parametrize("where", ["small", "shared"])
def test_a_module_finds_its_package_its_arguments_and_its_variables(platform: Platform, where: str) -> None:
    files = {**{name.removeprefix("src/"): body for name, body in PACKAGE.items()}, "acme/train.py": IMPORTING}
    made = platform.attempt(files, compute={"class": where}, entrypoint={"module": "acme.train", "args": ["--x", "1"]})
    mlflow_run, result = platform.run(made)
    assert f"imported\ntold ['--x', '1'] iris {mlflow_run} None" in text(result)


def test_a_file_on_a_running_cluster_finds_its_variables_and_what_lies_beside_it(platform: Platform) -> None:
    files = {**PACKAGE, "src/train.py": IMPORTING + b"print(open('acme/words.py').read())\n"}
    made = platform.attempt(files, compute={"class": "shared"}, entrypoint={"pythonFile": "src/train.py"})
    mlflow_run, result = platform.run(made)
    assert f"imported\ntold [] iris {mlflow_run} None\nWORD = 'imported'" in text(result)


@pytest.mark.parametrize("where", ["small", "shared"])
def test_a_notebook_gets_its_parameters_and_the_mlflow_run(platform: Platform, where: str) -> None:
    source = (
        "# Databricks notebook source\n"
        "import os\n"
        "told = os.environ.get('MLFLOW_RUN_ID') or dbutils.widgets.get('MLFLOW_RUN_ID')\n"
        "# COMMAND ----------\n"
        "dbutils.notebook.exit(f\"{dbutils.widgets.get('depth')} {told}\")\n"
    )
    files = {"nb/look.py": source.encode()}
    spec: dict[str, Any] = {"entrypoint": {"notebook": "nb/look.py"}, "params": {"depth": "4"}}
    mlflow_run, result = platform.run(platform.attempt(files, compute={"class": where}, **spec))
    assert f"4 {mlflow_run}" in text(result)


@pytest.mark.parametrize("where", ["small", "cluster", "shared"])
def test_a_console_script_runs_from_a_wheel_in_the_workspace(platform: Platform, where: str) -> None:
    path = f"/Users/{platform.principal}/churn-1.0-py3-none-any.whl"
    source = "def main():\n" + "".join(f"    {line}\n" for line in TELL.splitlines())
    platform.put(path, a_wheel("churn", "1.0", source, {"train": "churn:main"}))
    entrypoint = {"consoleScript": "train", "args": ["--x"]}
    code = {"wheel": {"path": f"/Workspace{path}"}}
    made = platform.attempt({}, code=code, compute={"class": where}, entrypoint=entrypoint)
    mlflow_run, result = platform.run(made)
    assert f"told ['--x'] iris {mlflow_run} None" in text(result)


@pytest.mark.parametrize("where", ["small", "shared"])
def test_code_in_the_workspace_is_run_where_it_lies(platform: Platform, where: str) -> None:
    folder = f"/Users/{platform.principal}/churn"
    platform.put(f"{folder}/train.py", TELL.encode())
    made = platform.attempt(
        {}, code={"path": f"/Workspace{folder}"}, compute={"class": where}, entrypoint={"pythonFile": "train.py"}
    )
    mlflow_run, result = platform.run(made)
    assert f"told [] iris {mlflow_run} None" in text(result)


def test_code_on_a_volume_is_run_where_it_lies(platform: Platform) -> None:
    volume = f"main.ml.code_{time.time_ns()}"
    platform.control.add_volume(volume)
    for securable, right in (("main", "USE CATALOG"), ("main.ml", "USE SCHEMA"), (volume, "READ VOLUME")):
        platform.control.grant(platform.principal, securable, right)
    folder = f"/Volumes/{volume.replace('.', '/')}/v1"
    for name, body in {**PACKAGE, "src/train.py": IMPORTING}.items():
        platform.control.add_volume_file(f"{folder}/{name}", body)
    roots = {"dataRoots": {"code": {"path": folder.removesuffix("/v1")}}}
    code = {"path": "data://code/v1"}
    file = platform.attempt({}, roots, code=code, entrypoint={"pythonFile": "src/train.py"})
    mlflow_run, result = platform.run(file)
    assert f"imported\ntold [] iris {mlflow_run} None" in text(result)


def test_every_task_of_a_graph_knows_its_name_and_a_job_is_told_of_the_mlflow_run(platform: Platform) -> None:
    path = f"/Users/{platform.principal}/job.py"
    platform.put(path, b"import sys\nprint('job', sys.argv[1:])\n")
    settings = {
        "name": f"publish {time.time_ns()}",
        "parameters": [{"name": "run", "default": ""}],
        "environments": [{"environment_key": "e", "spec": {"environment_version": "4"}}],
        "tasks": [
            {
                "task_key": "only",
                "environment_key": "e",
                "spark_python_task": {"python_file": f"/Workspace{path}", "parameters": ["{{job.parameters.run}}"]},
            }
        ],
    }
    platform.connection._client.do("POST", "/api/2.2/jobs/create", body=settings)
    job_ref = {"name": settings["name"], "parameters": {"run": "$(mlflow.runId)"}}
    made = platform.attempt(
        {"main.py": TELL.encode()},
        tasks=[
            {"name": "prepare", "entrypoint": {"args": ["a"]}},
            {"name": "fit", "entrypoint": {"args": ["b"]}, "dependsOn": ["prepare"], "compute": {"class": "cluster"}},
            {"name": "publish", "jobRef": job_ref, "dependsOn": ["fit"]},
        ],
    )
    mlflow_run, result = platform.run(made)
    logs = {each.name: each.text for each in result.logs}
    assert f"told ['a'] iris {mlflow_run} prepare" in logs["prepare"]
    assert f"told ['b'] iris {mlflow_run} fit" in logs["fit"]
    assert {task.name: task.end for task in result.tasks} == dict.fromkeys(("prepare", "fit", "publish"), End.SUCCEEDED)
    runs = platform.connection._client.do("GET", "/api/2.2/jobs/runs/list", query={"run_type": "JOB_RUN", "limit": 1})
    child = platform.connection._client.do("GET", "/api/2.2/jobs/runs/get", query={"run_id": runs["runs"][0]["run_id"]})
    output = platform.connection._client.do(
        "GET", "/api/2.2/jobs/runs/get-output", query={"run_id": child["tasks"][0]["run_id"]}
    )
    assert f"job ['{mlflow_run}']" in output["logs"]
