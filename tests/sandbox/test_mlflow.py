"""MLflow in the sandbox: user code that really trains, tracks and registers, with the unmodified clients."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import uuid
from collections.abc import Callable
from typing import Any

import psutil
import pytest
import requests
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import (
    InvalidParameterValue,
    NotFound,
    PermissionDenied,
    ResourceAlreadyExists,
    ResourceDoesNotExist,
)
from databricks.sdk.service import compute, jobs
from databricks.sdk.service.catalog import ModelVersionInfoStatus
from databricks.sdk.service.ml import RunInfoStatus, RunTag

from trainyard_sandbox.client import SandboxControl

from .conftest import ended, wait_until
from .members import MemberFactory, member

__all__ = ["member"]  # the fixture

TRAINING = """
import math, os
import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

X, y = load_iris(return_X_y=True)
model = LogisticRegression(max_iter=500).fit(X, y)
mlflow.log_param("max_iter", 500)
mlflow.log_metric("accuracy", model.score(X, y))
mlflow.log_metric("undefined", math.nan)
mlflow.log_metrics({"up": math.inf, "down": -math.inf})
mlflow.sklearn.log_model(model, "model", input_example=X[:2], registered_model_name=os.environ["MODEL"],
                         pip_requirements=["scikit-learn"])
loaded = mlflow.pyfunc.load_model(f"models:/{os.environ['MODEL']}/1")
assert (loaded.predict(X) == model.predict(X)).all()
again = mlflow.sklearn.load_model(f"runs:/{mlflow.active_run().info.run_id}/model")
assert (again.predict(X) == model.predict(X)).all()
print("loaded and scored")
"""

OWN_RUN = """
import os
import mlflow

mlflow.set_experiment(os.environ["EXPERIMENT"])
with mlflow.start_run(run_name="mine") as run:
    mlflow.log_metric("loss", 1.5, step=0)
    mlflow.log_metric("loss", 0.5, step=1)
    mlflow.log_text("hello", "notes/hello.txt")
client = mlflow.MlflowClient()
assert [m.value for m in client.get_metric_history(run.info.run_id, "loss")] == [1.5, 0.5]
assert [f.path for f in client.list_artifacts(run.info.run_id, "notes")] == ["notes/hello.txt"]
assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/notes/hello.txt") == "hello"
print(run.info.run_id)
"""

NO_SIGNATURE = """
import mlflow
from sklearn.linear_model import LinearRegression

with mlflow.start_run():
    try:
        mlflow.sklearn.log_model(LinearRegression(), "model", registered_model_name="main.ml.unsigned")
    except mlflow.MlflowException as error:
        print("refused:", error)
"""

LARGE_ARTIFACT = """
import os
from pathlib import Path
import mlflow

Path("weights.bin").write_bytes(os.urandom(12 * 1024 * 1024))
with mlflow.start_run() as run:
    mlflow.log_artifact("weights.bin")
    read = Path(mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/weights.bin"))
    assert read.read_bytes() == Path("weights.bin").read_bytes()
print("same bytes")
"""


@pytest.fixture
def experiment(workspace: WorkspaceClient, principal: str) -> str:
    """A new experiment in the principal's home; its id."""
    name = f"/Users/{principal}/experiment-{uuid.uuid4().hex[:8]}"
    return workspace.experiments.create_experiment(name).experiment_id or ""


@pytest.fixture
def run_code(workspace: WorkspaceClient, upload: Callable[[str], str]) -> Callable[..., tuple[jobs.Run, str]]:
    """Run source as a job of the principal, with environment variables; returns the ended run and its logs."""

    def run(source: str, **variables: str) -> tuple[jobs.Run, str]:
        cluster = compute.ClusterSpec(
            spark_version="15.4.x-cpu-ml-scala2.12",
            node_type_id="i3.xlarge",
            num_workers=0,
            data_security_mode=compute.DataSecurityMode.SINGLE_USER,
            spark_env_vars=variables,
        )
        python = jobs.SparkPythonTask(python_file=upload(source))
        task = jobs.SubmitTask(task_key="train", spark_python_task=python, new_cluster=cluster)
        submitted = workspace.jobs.submit(run_name="training", tasks=[task])
        finished = ended(workspace, submitted.response.run_id, timeout_seconds=240)
        assert finished.tasks
        output = workspace.jobs.get_run_output(finished.tasks[0].run_id or 0)
        return finished, f"{output.logs or ''}{output.error or ''}{output.error_trace or ''}"

    return run


def succeeded(finished: jobs.Run) -> bool:
    return finished.state is not None and finished.state.result_state is jobs.RunResultState.SUCCESS


def test_training_code_that_sees_only_a_run_id_tracks_registers_loads_and_scores(
    control: SandboxControl,
    workspace: WorkspaceClient,
    principal: str,
    experiment: str,
    run_code: Callable[..., tuple[jobs.Run, str]],
) -> None:
    control.grant(principal, "main", "USE_CATALOG")
    control.grant(principal, "main.ml", "USE_SCHEMA", "CREATE_MODEL")
    name = f"main.ml.iris-{uuid.uuid4().hex[:8]}"
    created = workspace.experiments.create_run(
        experiment_id=experiment, run_name="attempt-1", tags=[RunTag("trainyard.dev/uid", "42")]
    )
    assert created.run is not None
    assert created.run.info is not None
    run_id = created.run.info.run_id or ""

    finished, logs = run_code(TRAINING, MLFLOW_RUN_ID=run_id, MODEL=name)

    assert succeeded(finished), logs
    assert "loaded and scored" in logs
    run = workspace.experiments.get_run(run_id).run
    assert run is not None
    assert run.info is not None
    assert run.data is not None
    assert run.info.status is RunInfoStatus.FINISHED
    assert run.info.user_id == principal
    tags = {tag.key: tag.value for tag in run.data.tags or []}
    assert (tags["trainyard.dev/uid"], tags["mlflow.user"]) == ("42", principal)
    metrics: dict[str | None, Any] = {metric.key: metric.value for metric in run.data.metrics or []}
    assert metrics["accuracy"] > 0.9
    assert math.isnan(float(metrics["undefined"]))
    assert (metrics["up"], metrics["down"]) == (1.7976931348623157e308, -1.7976931348623157e308)
    (version,) = workspace.model_versions.list(name)
    assert (version.version, version.run_id, version.status) == (1, run_id, ModelVersionInfoStatus.READY)
    assert version.run_workspace_id == int(control.address.workspace_id)


def test_not_a_number_is_a_string_on_the_wire(workspace: WorkspaceClient, experiment: str) -> None:
    run_id = new_run(workspace, experiment)
    body = {"run_id": run_id, "key": "loss", "value": "NaN", "timestamp": 1, "step": 0}
    workspace.api_client.do("POST", "/api/2.0/mlflow/runs/log-metric", body=body)
    answer: Any = workspace.api_client.do("GET", "/api/2.0/mlflow/runs/get", query={"run_id": run_id})
    assert answer["run"]["data"]["metrics"][0]["value"] == "NaN"


def new_run(workspace: WorkspaceClient, experiment: str) -> str:
    created = workspace.experiments.create_run(experiment_id=experiment).run
    assert created is not None
    assert created.info is not None
    return created.info.run_id or ""


def test_code_may_make_its_own_experiment_run_and_artifacts(
    workspace: WorkspaceClient, principal: str, run_code: Callable[..., tuple[jobs.Run, str]]
) -> None:
    path = f"/Users/{principal}/own-{uuid.uuid4().hex[:8]}"
    finished, logs = run_code(OWN_RUN, EXPERIMENT=path)
    assert succeeded(finished), logs
    found = workspace.experiments.get_by_name(path).experiment
    assert found is not None
    runs = list(workspace.experiments.search_runs(experiment_ids=[found.experiment_id or ""]))
    assert [run.info.run_name for run in runs if run.info] == ["mine"]


def test_a_model_without_a_signature_is_not_registered(
    control: SandboxControl,
    workspace: WorkspaceClient,
    principal: str,
    experiment: str,
    run_code: Callable[..., tuple[jobs.Run, str]],
) -> None:
    control.grant(principal, "main", "USE_CATALOG")
    control.grant(principal, "main.ml", "USE_SCHEMA", "CREATE_MODEL")
    finished, logs = run_code(NO_SIGNATURE, MLFLOW_EXPERIMENT_ID=experiment)
    assert succeeded(finished), logs
    assert "refused: Model passed for registration did not contain any signature" in logs
    assert list(workspace.model_versions.list("main.ml.unsigned")) == []


def test_a_large_artifact_goes_up_in_parts(experiment: str, run_code: Callable[..., tuple[jobs.Run, str]]) -> None:
    finished, logs = run_code(
        LARGE_ARTIFACT,
        MLFLOW_EXPERIMENT_ID=experiment,
        MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE=str(1024 * 1024),
        MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE=str(5 * 1024 * 1024),
    )
    assert succeeded(finished), logs
    assert "same bytes" in logs


def test_code_without_an_experiment_is_told_to_set_one(
    run_code: Callable[..., tuple[jobs.Run, str]],
) -> None:
    finished, logs = run_code("import mlflow\nmlflow.log_metric('a', 1)\n")
    assert not succeeded(finished)
    assert "No experiment was found." in logs


def test_an_experiment_is_named_by_a_path_whose_folder_exists(workspace: WorkspaceClient, principal: str) -> None:
    create = workspace.experiments.create_experiment
    with pytest.raises(InvalidParameterValue, match="must be an absolute path within the Databricks workspace"):
        create("iris")
    with pytest.raises(ResourceDoesNotExist, match=f"Parent directory /Users/{principal}/none does not exist."):
        create(f"/Users/{principal}/none/iris")
    create(f"/Users/{principal}/iris")
    with pytest.raises(ResourceAlreadyExists, match="Node named 'iris' already exists"):
        create(f"/Workspace/Users/{principal}/iris")
    with pytest.raises(ResourceDoesNotExist):
        workspace.experiments.get_by_name(f"/Users/{principal}/other")


def test_nobody_touches_the_experiments_of_another(
    workspace: WorkspaceClient, experiment: str, member: MemberFactory
) -> None:
    run_id = new_run(workspace, experiment)
    stranger = member("stranger").client
    artifacts = {"run_id": run_id, "path": ["model/MLmodel"]}
    attempts: list[Callable[[], Any]] = [
        lambda: stranger.experiments.get_experiment(experiment),
        lambda: stranger.experiments.create_run(experiment_id=experiment),
        lambda: stranger.experiments.get_run(run_id),
        lambda: stranger.experiments.set_tag("a", "b", run_id=run_id),
        lambda: list(stranger.experiments.search_runs(experiment_ids=[experiment])),
        lambda: list(stranger.experiments.list_artifacts(run_id=run_id)),
        lambda: stranger.api_client.do("POST", "/api/2.0/mlflow/artifacts/credentials-for-read", body=artifacts),
    ]
    for attempt in attempts:
        with pytest.raises(PermissionDenied):
            attempt()
    assert experiment not in [found.experiment_id for found in stranger.experiments.search_experiments()]
    assert experiment in [found.experiment_id for found in workspace.experiments.search_experiments()]


@pytest.mark.parametrize("path", ["../../other/secret", "/absolute", "a//b"])
def test_no_artifact_path_leaves_its_run(workspace: WorkspaceClient, experiment: str, path: str) -> None:
    body = {"run_id": new_run(workspace, experiment), "path": [path]}
    with pytest.raises(InvalidParameterValue, match="Invalid path"):
        workspace.api_client.do("POST", "/api/2.0/mlflow/artifacts/credentials-for-write", body=body)


def test_a_presigned_url_works_once_signed_for_its_method_and_until_it_expires(
    control: SandboxControl, workspace: WorkspaceClient, experiment: str
) -> None:
    body = {"run_id": new_run(workspace, experiment), "path": ["notes.txt"]}
    signed: Any = workspace.api_client.do("POST", "/api/2.0/mlflow/artifacts/credentials-for-write", body=body)
    url: str = signed["credential_infos"][0]["signed_uri"]
    ca_file = str(control.address.ca_file)
    assert requests.put(url, data=b"hello", verify=ca_file, timeout=10).ok
    refused = requests.get(url, verify=ca_file, timeout=10)
    assert (refused.status_code, "AccessDenied" in refused.text) == (403, True)
    other_file = requests.put(url.replace("notes.txt", "other.txt"), data=b"x", verify=ca_file, timeout=10)
    assert other_file.status_code == 403
    control.settings(clock_offset_seconds=3600.0)
    expired = requests.put(url, data=b"again", verify=ca_file, timeout=10)
    assert (expired.status_code, "Request has expired" in expired.text) == (403, True)


def test_the_tracking_api_is_strict(workspace: WorkspaceClient, experiment: str) -> None:
    run_id = new_run(workspace, experiment)
    with pytest.raises(InvalidParameterValue, match="unknown field 'colour'"):
        workspace.api_client.do("POST", "/api/2.0/mlflow/runs/set-tag", body={"run_id": run_id, "colour": "red"})
    body = {"run_id": run_id, "key": "a", "value": "high", "timestamp": 1}
    with pytest.raises(InvalidParameterValue, match="expects a number"):
        workspace.api_client.do("POST", "/api/2.0/mlflow/runs/log-metric", body=body)
    for absent in ("logged-models", "registered-models/create"):
        with pytest.raises(NotFound, match="No API found"):
            workspace.api_client.do("POST", f"/api/2.0/mlflow/{absent}", body={})
    with pytest.raises(ResourceDoesNotExist, match="Run with id=0 not found"):
        workspace.experiments.get_run("0")


def test_the_tracking_server_dies_with_a_sandbox_that_is_killed(
    serve: Callable[..., tuple[SandboxControl, subprocess.Popen[bytes]]],
) -> None:
    _, process = serve()
    children = wait_until(lambda: tracking_processes(process.pid))
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    gone, alive = psutil.wait_procs(children, timeout=20)
    assert (len(gone), alive) == (len(children), [])


def tracking_processes(pid: int) -> list[psutil.Process]:
    """The tracking server's master and worker, once both are there."""
    found = [child for child in psutil.Process(pid).children(recursive=True) if "gunicorn" in " ".join(child.cmdline())]
    return found if len(found) == 2 else []
