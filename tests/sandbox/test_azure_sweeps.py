"""Sweep jobs of the sandbox's Azure ML workspace: trials that really run, and the best of them."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from trainyard_sandbox.azure.errors import ArmError
from trainyard_sandbox.azure.sweeps_space import check_space, trials
from trainyard_sandbox.client import SandboxControl

from .azure_fixtures import Arm
from .conftest import wait_until

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

PUT, GET = "2025-01-01-preview", "2024-01-01-preview"
ENVIRONMENT = "azureml://registries/azureml/environments/sklearn-1.5/versions/1"
TRIAL = """
import os, sys, requests
value = float(sys.argv[1])
assert sys.argv[2] == "fixed", sys.argv
url = os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/runs/log-metric"
headers = {"Authorization": "Bearer " + os.environ["MLFLOW_TRACKING_TOKEN"]}
for step, part in enumerate((0.5, 1.0)):
    body = {"run_id": os.environ["MLFLOW_RUN_ID"], "key": "score", "value": -(value - 2) ** 2 * part, "timestamp": step}
    requests.post(url, json=body, headers=headers, timeout=60).raise_for_status()
sys.exit(3 if value == 4 else 0)
"""


def sweep_body(**changes: Any) -> dict[str, Any]:
    return {
        "jobType": "Sweep",
        "experimentName": "tuning",
        "trial": {
            "command": 'python -c "$SOURCE" ${{search_space.x}} ${{inputs.word}}',
            "environmentId": ENVIRONMENT,
            "environmentVariables": {"SOURCE": TRIAL},
        },
        "inputs": {"word": {"jobInputType": "literal", "value": "fixed"}},
        "searchSpace": {"x": ["choice", [[1, 2, 4]]]},
        "samplingAlgorithm": {"samplingAlgorithmType": "Grid"},
        "objective": {"primaryMetric": "score", "goal": "Maximize"},
        "limits": {"jobLimitsType": "Sweep", "maxTotalTrials": 10, "maxConcurrentTrials": 2},
        **changes,
    }


def put(arm: Arm, client_id: str, properties: dict[str, Any]) -> tuple[str, Any]:
    name = f"sweep-{uuid.uuid4().hex[:8]}"
    return name, arm(client_id, "PUT", f"/jobs/{name}", version=PUT, json={"properties": properties})


def ended(arm: Arm, client_id: str, name: str) -> Any:
    def look() -> Any:
        shown = arm(client_id, "GET", f"/jobs/{name}", version=GET).json()["properties"]
        return shown if shown["status"] in ("Completed", "Failed", "Canceled") else None

    return wait_until(look, 120, every=0.2)


def test_a_sweep_runs_every_point_of_its_grid_and_names_the_best(
    data_scientist: str, arm: Arm, ml_client: Callable[..., MLClient]
) -> None:
    name, submitted = put(arm, data_scientist, sweep_body())
    assert submitted.status_code == 201, submitted.text
    shown = ended(arm, data_scientist, name)
    assert shown["status"] == "Completed"
    properties = shown["properties"]
    assert (properties["best_child_run_id"], float(properties["score"])) == (f"{name}_1", 0.0)
    children = {child.name: child.status for child in ml_client(data_scientist).jobs.list(parent_job_name=name)}
    assert children == {f"{name}_0": "Completed", f"{name}_1": "Completed", f"{name}_2": "Failed"}
    child = arm(data_scientist, "GET", f"/runs/{name}_1", plane="/history/v1.0").json()
    assert (child["parentRunId"], child["tags"]) == (name, {"hyperparameters": '{"x": 2}'})
    runs = [arm(data_scientist, "GET", f"/runs/{name}_{n}", plane="/history/v1.0").json() for n in range(3)]
    assert min(run["endTimeUtc"] for run in runs[:2]) <= runs[2]["createdUtc"]  # two at once
    listed = arm(data_scientist, "GET", "/jobs", version=GET).json()["value"]
    assert [job["name"] for job in listed if job["name"].startswith(name)] == [name]


def test_a_sweep_without_a_completed_trial_fails(data_scientist: str, arm: Arm) -> None:
    name, _ = put(arm, data_scientist, sweep_body(searchSpace={"x": ["choice", [[4]]]}))
    shown = ended(arm, data_scientist, name)
    assert shown["status"] == "Failed"
    error = arm(data_scientist, "GET", f"/runs/{name}", plane="/history/v1.0").json()["error"]["error"]
    assert "none of its trials completed" in error["message"]


def test_cancelling_a_sweep_cancels_its_trials_and_starts_no_more(
    control: SandboxControl, data_scientist: str, arm: Arm
) -> None:
    trial = {"command": "sleep 600 # ${{search_space.x}}", "environmentId": ENVIRONMENT}
    name, _ = put(arm, data_scientist, sweep_body(trial=trial))
    wait_until(lambda: jobs_of(control, name).count("Running") == 3)  # the sweep and two trials
    cancelled = arm(data_scientist, "POST", f"/jobs/{name}/cancel", version="2023-04-01-preview")
    assert cancelled.status_code == 202
    ended(arm, data_scientist, name)
    assert jobs_of(control, name) == ["Canceled"] * 3


def jobs_of(control: SandboxControl, name: str) -> list[str]:
    return [job["status"] for job in control.azure_jobs() if job["name"].startswith(name)]


def test_the_clients_own_sweep_is_accepted_and_read_back(
    data_scientist: str, arm: Arm, ml_client: Callable[..., MLClient]
) -> None:
    client = ml_client(data_scientist)
    from azure.ai.ml import command
    from azure.ai.ml.sweep import Choice, Uniform

    base = command(
        command="true # ${{inputs.rate}} ${{inputs.depth}}", environment=ENVIRONMENT, inputs={"rate": 1.0, "depth": 1}
    )
    job = base(rate=Uniform(0.1, 0.2), depth=Choice([1, 2])).sweep(
        sampling_algorithm="random", primary_metric="score", goal="minimize", compute="serverless"
    )
    job.set_limits(max_total_trials=2, max_concurrent_trials=1)
    job.experiment_name = "tuning"
    job.name = f"sweep-{uuid.uuid4().hex[:8]}"
    client.jobs.create_or_update(job)
    ended(arm, data_scientist, job.name)
    read = client.jobs.get(job.name)
    assert (read.status, read.objective.primary_metric, read.limits.max_total_trials) == ("Completed", "score", 2)
    assert read.properties["best_metric_status"] == "Failed"  # no trial logged the metric


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"samplingAlgorithm": {"samplingAlgorithmType": "Bayesian"}}, "supports properties.samplingAlgorithm Random"),
        ({"earlyTermination": {"policyType": "Bandit"}}, "does not support properties.earlyTermination"),
        ({"searchSpace": {"x": ["uniform", [0, 1]]}}, "Grid sampling supports choice only"),
        ({"searchSpace": {"y": ["choice", [[1]]]}}, "refers to search_space.x"),
        ({"searchSpace": {"x": ["choice", [[1]]], "word": ["choice", [[1]]]}}, "both an input and in the search space"),
        ({"objective": {"primaryMetric": "score"}}, "goal"),
        ({"trial": {"command": "true"}}, "environmentId"),
        ({"computeId": "serverless", "resources": {"instanceType": "Standard_None"}}, "Standard_None"),
    ],
)
def test_what_a_sweep_cannot_do_is_refused_by_name(
    data_scientist: str, arm: Arm, changes: dict[str, Any], sentence: str
) -> None:
    _, answer = put(arm, data_scientist, sweep_body(**changes))
    assert answer.status_code == 400
    assert sentence in answer.json()["error"]["message"]


def test_a_grid_has_every_combination_once() -> None:
    space = {"a": ["choice", [[1, 2]]], "b": ["choice", [["x", "y"]]]}
    drawn = list(trials(space, "Grid", None))
    assert drawn == [{"a": a, "b": b} for a in (1, 2) for b in ("x", "y")]


def test_random_trials_keep_to_their_distributions_and_to_the_seed() -> None:
    space: dict[str, Any] = {
        "choice": ["choice", [["x", "y"]]],
        "randint": ["randint", [3]],
        "uniform": ["uniform", [0.5, 1.5]],
        "quniform": ["quniform", [0, 100, 5]],
        "loguniform": ["loguniform", [0, 1]],
        "normal": ["normal", [10, 0.001]],
    }
    check_space(space, "Random")
    drawn = list(itertools.islice(trials(space, "Random", 7), 200))
    assert drawn == list(itertools.islice(trials(space, "Random", 7), 200))
    assert {trial["choice"] for trial in drawn} == {"x", "y"}
    assert {trial["randint"] for trial in drawn} == {0, 1, 2}
    assert all(0.5 <= float(trial["uniform"]) <= 1.5 for trial in drawn)
    assert all(float(trial["quniform"]) % 5 == 0 for trial in drawn)
    assert all(1 <= float(trial["loguniform"]) <= 2.7183 for trial in drawn)
    assert all(9.9 < float(trial["normal"]) < 10.1 for trial in drawn)


@pytest.mark.parametrize(
    "distribution", [["choice", [[]]], ["choice", [1]], ["uniform", [1]], ["guess", [1]], "choice", ["randint", [0]]]
)
def test_a_distribution_that_is_none_is_refused(distribution: Any) -> None:
    with pytest.raises(ArmError, match=r"properties\.searchSpace\.x"):
        check_space({"x": distribution}, "Random")
