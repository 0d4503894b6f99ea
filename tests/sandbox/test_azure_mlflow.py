"""MLflow in the sandbox's Azure ML workspace: code of jobs that really runs, with the unmodified client."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import ResourceDoesNotExist
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split

from trainyard_sandbox.client import SandboxControl

from .azure_fixtures import Arm
from .conftest import wait_until

MLFLOW = "/mlflow/v1.0"
API = "/api/2.0/mlflow"
PUT, GET = "2025-01-01-preview", "2024-01-01-preview"
ENVIRONMENT = "azureml://registries/azureml/environments/sklearn-1.5/versions/1"

TRACKING = """
import math, os
import mlflow

with mlflow.start_run() as run:
    mlflow.log_param("trees", 100)
    mlflow.log_metric("loss", 1.5, step=0)
    mlflow.log_metric("loss", 0.5, step=1)
    mlflow.log_metric("undefined", math.nan)
    mlflow.set_tag("stage", "tested")
    mlflow.log_text("hello", "notes/hello.txt")
client = mlflow.MlflowClient()
run_id = run.info.run_id
assert [m.value for m in client.get_metric_history(run_id, "loss")] == [1.5, 0.5]
assert [f.path for f in client.list_artifacts(run_id)] == ["notes", "user_logs"], client.list_artifacts(run_id)
assert [(f.path, f.file_size) for f in client.list_artifacts(run_id, "notes")] == [("notes/hello.txt", 5)]
assert mlflow.artifacts.load_text(f"runs:/{run_id}/notes/hello.txt") == "hello"
same = client.get_experiment_by_name(os.environ["MLFLOW_EXPERIMENT_NAME"])
assert same.experiment_id == run.info.experiment_id == os.environ["MLFLOW_EXPERIMENT_ID"]
assert run_id == os.environ["AZUREML_RUN_ID"]
print(client.get_run(run_id).info.status)
"""

NESTED = """
import mlflow

with mlflow.start_run() as parent:
    for depth in (2, 3):
        with mlflow.start_run(nested=True, run_name=f"depth-{depth}") as child:
            mlflow.log_metric("depth", depth)
experiment = parent.info.experiment_id
found = mlflow.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'", output_format="list")
assert sorted(run.info.run_name for run in found) == ["depth-2", "depth-3"]
found = mlflow.search_runs([experiment], f"attributes.run_id = '{parent.info.run_id}'", output_format="list")
assert [run.info.run_id for run in found] == [parent.info.run_id]
assert len(child.info.run_id) == 36
"""

TRAINING = """
import os
import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

X, y = load_iris(return_X_y=True)
model = LogisticRegression(max_iter=500).fit(X, y)
with mlflow.start_run() as run:
    mlflow.sklearn.log_model(model, "model", input_example=X[:2], registered_model_name=os.environ["MODEL"],
                             pip_requirements=["scikit-learn"])
loaded = mlflow.pyfunc.load_model(f"models:/{os.environ['MODEL']}/1")
assert (loaded.predict(X) == model.predict(X)).all()
again = mlflow.sklearn.load_model(f"runs:/{run.info.run_id}/model")
assert (again.predict(X) == model.predict(X)).all()
client = mlflow.MlflowClient()
found = client.search_model_versions(f"name = '{os.environ['MODEL']}' and run_id = '{run.info.run_id}'")
assert [(version.version, version.status, version.aliases) for version in found] == [("1", "READY", [])]
try:
    client.set_registered_model_alias(os.environ["MODEL"], "champion", "1")
except mlflow.MlflowException as error:
    print("no alias:", error)
"""


@dataclass(frozen=True)
class Ended:
    """A job that has ended."""

    name: str
    status: str
    logs: str


@pytest.fixture
def run_code(control: SandboxControl, data_scientist: str, arm: Arm) -> Callable[..., Ended]:
    """Run source as a command job with environment variables."""

    def run(source: str, experiment: str = "wine", **variables: str) -> Ended:
        name = f"train-{uuid.uuid4().hex[:8]}"
        properties = {
            "jobType": "Command",
            "command": 'python -c "$SOURCE"',
            "environmentId": ENVIRONMENT,
            "environmentVariables": {"SOURCE": source, **variables},
            "experimentName": experiment,
        }
        submitted = arm(data_scientist, "PUT", f"/jobs/{name}", version=PUT, json={"properties": properties})
        assert submitted.status_code == 201, submitted.text

        def look() -> str | None:
            shown = arm(data_scientist, "GET", f"/jobs/{name}", version=GET).json()
            status: str = shown["properties"]["status"]
            return status if status in ("Completed", "Failed", "Canceled") else None

        status = wait_until(look, 240, every=0.2)
        details = arm(data_scientist, "GET", f"/runs/{name}/details", plane="/history/v1.0").json()
        url = details["logFiles"].get("user_logs/std_log.txt")
        logs = requests.get(url, verify=str(control.address.ca_file), timeout=10).text if url else ""
        return Ended(name, status, logs + str(details["error"]))

    return run


@pytest.fixture
def mlflow_call(data_scientist: str, arm: Arm) -> Callable[..., Any]:
    """One plain call from outside: `mlflow_call("POST", "/runs/search", {...})`; the answer's JSON."""

    def call(method: str, path: str, payload: dict[str, Any], client_id: str = data_scientist) -> Any:
        options: dict[str, Any] = {"params": payload} if method == "GET" else {"json": payload}
        return arm(client_id, method, API + path, plane=MLFLOW, **options).json()

    return call


@pytest.fixture
def job(control: SandboxControl, data_scientist: str, arm: Arm) -> Callable[..., str]:
    """A pretended job that runs until it is told to end; its name."""

    def put(experiment: str = "wine", **properties: Any) -> str:
        name = f"job-{uuid.uuid4().hex[:8]}"
        control.script_azure_job(name=name, states=[("Running", 600)])
        body = {"jobType": "Command", "command": "true", "environmentId": ENVIRONMENT, "experimentName": experiment}
        answer = arm(data_scientist, "PUT", f"/jobs/{name}", version=PUT, json={"properties": body | properties})
        assert answer.status_code == 201, answer.text
        wait_until(lambda: control.azure_job(name)["status"] == "Running")
        return name

    return put


def test_code_that_sees_only_a_run_id_tracks_into_the_run_named_like_its_job(
    run_code: Callable[..., Ended], mlflow_call: Callable[..., Any], data_scientist: str, arm: Arm
) -> None:
    ended = run_code(TRACKING)
    assert ended.status == "Completed", ended.logs
    assert "RUNNING" in ended.logs  # the run ends with the job, not with mlflow.end_run
    run = mlflow_call("GET", "/runs/get", {"run_id": ended.name})["run"]
    assert (run["info"]["run_id"], run["info"]["status"]) == (ended.name, "FINISHED")
    assert run["data"]["params"] == [{"key": "trees", "value": "100"}]
    metrics = {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}
    assert (metrics["loss"], metrics["undefined"]) == (0.5, "NaN")
    shown = arm(data_scientist, "GET", f"/jobs/{ended.name}", version=GET).json()["properties"]
    assert shown["tags"]["stage"] == "tested"


def test_runs_beside_a_job_have_ids_of_their_own_and_are_found(run_code: Callable[..., Ended]) -> None:
    ended = run_code(NESTED)
    assert ended.status == "Completed", ended.logs


def test_a_model_that_code_registers_is_the_workspaces_own_and_names_its_job(
    run_code: Callable[..., Ended], data_scientist: str, arm: Arm
) -> None:
    model = f"iris-{uuid.uuid4().hex[:8]}"
    ended = run_code(TRAINING, MODEL=model)
    assert ended.status == "Completed", ended.logs
    assert "no alias: API request to endpoint /api/2.0/mlflow/registered-models/alias failed with error code 404" in (
        ended.logs
    )
    version = arm(data_scientist, "GET", f"/models/{model}/versions/1", version="2023-08-01-preview").json()
    shown = version["properties"]
    assert (shown["jobName"], shown["modelType"]) == (ended.name, "mlflow_model")
    assert shown["modelUri"].endswith(f"/datastores/workspaceartifactstore/paths/ExperimentRun/dcid.{ended.name}/model")
    assert set(shown["flavors"]) == {"python_function", "sklearn"}


def test_the_quickstart_trains_as_it_is_written(
    run_code: Callable[..., Ended], mlflow_call: Callable[..., Any]
) -> None:
    model = f"wine-{uuid.uuid4().hex[:8]}"
    ended = run_code(quickstart(), TRAINYARD_MODEL_NAME=model)
    assert ended.status == "Completed", ended.logs
    assert "trained 50 trees on 124 wines" in ended.logs
    run = mlflow_call("GET", "/runs/get", {"run_id": ended.name})["run"]
    assert {param["key"]: param["value"] for param in run["data"]["params"]} == {"trees": "50", "seed": "0"}
    metrics = {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}
    assert metrics == pytest.approx(expected_metrics())
    found = mlflow_call("GET", "/model-versions/search", {"filter": f"run_id='{ended.name}'"})["model_versions"]
    assert [(version["name"], version["version"]) for version in found] == [(model, "1")]


def quickstart() -> str:
    """The code of examples/quickstart/run.yaml."""
    path = Path(__file__).parents[2] / "examples" / "quickstart" / "run.yaml"
    source: str = yaml.safe_load(path.read_text())["spec"]["code"]["inline"]
    return source


def expected_metrics() -> dict[str, float]:
    """What the quickstart's forest scores without any platform."""
    features, kinds = load_wine(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(features, kinds, test_size=0.3, stratify=kinds, random_state=0)
    forest = RandomForestClassifier(50, random_state=0).fit(train_x, train_y)
    probable = forest.predict_proba(test_x)
    return {"accuracy": accuracy_score(test_y, probable.argmax(axis=1)), "log_loss": log_loss(test_y, probable)}


def test_a_job_is_found_by_its_present_state_and_tags(
    control: SandboxControl, job: Callable[..., str], mlflow_call: Callable[..., Any]
) -> None:
    experiment = f"wine-{uuid.uuid4().hex[:8]}"
    first, second = job(experiment, tags={"team": "red"}), job(experiment, tags={"team": "white"})
    found = mlflow_call("GET", "/experiments/get-by-name", {"experiment_name": experiment})["experiment"]

    def search(text: str) -> list[str]:
        asked = {"experiment_ids": [found["experiment_id"]], "filter": text}
        return sorted(run["info"]["run_id"] for run in mlflow_call("POST", "/runs/search", asked)["runs"])

    assert search("") == sorted([first, second])
    assert search("attributes.status = 'RUNNING' and tags.team = 'red'") == [first]
    mlflow_call("POST", "/runs/set-tag", {"run_id": second, "key": "team", "value": "red"})
    assert search("tags.team = 'red'") == sorted([first, second])
    assert search(f"attributes.run_id IN ('{first}', 'none')") == [first]
    control.end_azure_job(first, status="Failed", code="UserError", message="x")
    wait_until(lambda: control.azure_job(first)["status"] == "Failed")
    assert search("attributes.status = 'FAILED'") == [first]
    control.delete_azure_job(second)
    assert search("") == [first]


def test_code_cannot_say_how_its_job_ended(
    control: SandboxControl, job: Callable[..., str], mlflow_call: Callable[..., Any]
) -> None:
    name = job()
    info = mlflow_call("POST", "/runs/update", {"run_id": name, "status": "FINISHED", "end_time": 5})["run_info"]
    assert (info["run_id"], info["status"], "end_time" in info) == (name, "RUNNING", False)
    control.complete_azure_job(name)
    wait_until(lambda: control.azure_job(name)["status"] == "Completed")
    assert mlflow_call("GET", "/runs/get", {"run_id": name})["run"]["info"]["status"] == "FINISHED"


def test_a_runs_own_token_ends_with_the_job_and_reaches_no_other_experiment(
    control: SandboxControl, run_code: Callable[..., Ended], job: Callable[..., str]
) -> None:
    other = job("secret")
    source = """
import os, mlflow
print("TOKEN", os.environ["MLFLOW_TRACKING_TOKEN"])
try:
    mlflow.MlflowClient().log_metric(os.environ["OTHER"], "a", 1)
except mlflow.MlflowException as error:
    print("refused:", error)
"""
    ended = run_code(source, OTHER=other)
    assert ended.status == "Completed", ended.logs
    assert f"refused: PERMISSION_DENIED: The token of run {ended.name} does not permit access to experiment secret" in (
        ended.logs
    )
    token = ended.logs.split("TOKEN ")[1].split()[0]
    assert token in [issued["value"] for issued in control.azure_tokens()]
    azure = control.address.azure
    url = f"{azure.resource_manager}{MLFLOW}{azure.workspace_scope}{API}/runs/get"
    headers = {"Authorization": f"Bearer {token}"}
    ca_file = str(control.address.ca_file)
    answer = requests.get(url, params={"run_id": ended.name}, headers=headers, verify=ca_file, timeout=10)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "ExpiredAuthenticationToken")


def test_what_azure_ml_does_not_serve_is_answered_with_nothing(data_scientist: str, arm: Arm) -> None:
    for method, path in (
        ("POST", "/logged-models"),
        ("POST", "/registered-models/alias"),
        ("POST", "/registered-models/rename"),
        ("DELETE", "/registered-models/delete"),
    ):
        answer = arm(data_scientist, method, API + path, plane=MLFLOW, json={})
        assert (answer.status_code, answer.text) == (404, ""), path


def test_not_even_a_databricks_admin_sees_the_experiments_of_azure_ml(
    control: SandboxControl,
    job: Callable[..., str],
    mlflow_call: Callable[..., Any],
    workspace: WorkspaceClient,
    principal: str,
) -> None:
    control.change_principal(principal, groups=["admins"])
    name = job("hidden")
    mlflow_call("POST", "/runs/log-metric", {"run_id": name, "key": "a", "value": 1, "timestamp": 1})
    listed = [experiment.name or "" for experiment in workspace.experiments.search_experiments()]
    assert all(name.startswith("/") for name in listed)
    for number in range(1, 20):
        with contextlib.suppress(ResourceDoesNotExist):
            found = workspace.experiments.get_experiment(str(number)).experiment
            assert found is not None
            assert (found.name or "").startswith("/")
    shown = mlflow_call("POST", "/experiments/search", {"filter": "name LIKE 'hid%'"})["experiments"]
    assert [experiment["name"] for experiment in shown] == ["hidden"]


def test_the_tracking_api_of_the_workspace_is_strict(
    control: SandboxControl, job: Callable[..., str], mlflow_call: Callable[..., Any]
) -> None:
    name = job()
    refused = mlflow_call("POST", "/runs/set-tag", {"run_id": name, "key": "a", "colour": "red"})
    assert refused["error_code"] == "INVALID_PARAMETER_VALUE"
    assert "unknown field 'colour'" in refused["message"]
    refused = mlflow_call("POST", "/runs/log-metric", {"run_id": name, "key": "a", "value": "high", "timestamp": 1})
    assert "expects a number" in refused["message"]
    refused = mlflow_call("GET", "/runs/get", {"run_id": "none"})
    assert refused == {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Run with id=none not found"}
    for experiment in ("/Shared/wine", "wine forest"):
        refused = mlflow_call("POST", "/experiments/create", {"name": experiment})
        assert "Invalid experiment name" in refused["message"]
    reader = control.add_application("reader", roles={"workspace": ["Reader"]})
    metric = {"run_id": name, "key": "a", "value": 1, "timestamp": 1}
    refused = mlflow_call("POST", "/runs/log-metric", metric, reader)
    assert refused["error"]["code"] == "AuthorizationFailed"
    assert mlflow_call("GET", "/runs/get", {"run_id": name}, reader)["run"]["info"]["run_id"] == name


@pytest.mark.parametrize("path", ["../../other", "ExperimentRun/dcid.x/../dcid.y/a", "azureml-logs/a", "ExperimentRun"])
def test_no_artifact_path_leaves_the_runs(data_scientist: str, arm: Arm, path: str) -> None:
    place = "/api/2.0/mlflow-artifacts/artifacts"
    answer = arm(data_scientist, "GET", place, plane=MLFLOW, params={"path": path})
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    missing = arm(data_scientist, "GET", f"{place}/ExperimentRun/dcid.none/a", plane=MLFLOW)
    assert missing.json()["message"] == "Run with id=none not found"
