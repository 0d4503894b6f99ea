"""The pretend engine: scripted states and outcomes, thousands of runs at once."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from databricks.sdk import WorkspaceClient
from databricks.sdk.service import jobs

from trainyard_sandbox.client import ControlError, SandboxControl
from trainyard_sandbox.engine.runs import LIFE_CYCLE_STATES, RESULT_STATES, TERMINAL_STATES, TERMINATION_CODES

from .conftest import AUDIENCE, SUBJECT, ended, wait_until
from .issuer import TestIssuer

SUBMIT = "/api/2.2/jobs/runs/submit"


@pytest.fixture(scope="module")
def pretending(
    serve: Callable[..., tuple[SandboxControl, subprocess.Popen[bytes]]], issuer: TestIssuer
) -> tuple[SandboxControl, str]:
    control, _ = serve("--engine", "pretend")
    application_id = control.add_principal("trainer")
    control.add_policy(application_id, issuer.url, SUBJECT, [AUDIENCE])
    return control, application_id


@pytest.fixture
def scripted(pretending: tuple[SandboxControl, str]) -> Iterator[SandboxControl]:
    yield pretending[0]
    pretending[0].clear_scripts()


@pytest.fixture
def pretend(pretending: tuple[SandboxControl, str], client_for: Callable[..., WorkspaceClient]) -> WorkspaceClient:
    return client_for(*pretending)


def submission(name: str) -> dict[str, Any]:
    task = {"task_key": "a", "environment_key": "default", "spark_python_task": {"python_file": "/a.py"}}
    environments = [{"environment_key": "default", "spec": {"environment_version": "5"}}]
    return {"run_name": name, "tasks": [task], "environments": environments}


def start(workspace: WorkspaceClient, name: str, **fields: Any) -> int:
    answer = workspace.api_client.do("POST", SUBMIT, body=submission(name) | fields)
    assert isinstance(answer, dict)
    run_id: int = answer["run_id"]
    return run_id


def test_every_state_and_result_of_the_platform_is_one_the_sdk_knows() -> None:
    assert set(LIFE_CYCLE_STATES) == {state.value for state in jobs.RunLifeCycleState}
    assert set(RESULT_STATES) == {state.value for state in jobs.RunResultState}
    assert set(TERMINATION_CODES) == {code.value for code in jobs.TerminationCodeCode}


@pytest.mark.parametrize("state", sorted(set(LIFE_CYCLE_STATES) - TERMINAL_STATES))
def test_a_run_can_be_in_each_state(scripted: SandboxControl, pretend: WorkspaceClient, state: str) -> None:
    scripted.add_script(run_name="state", states=[(state, 600)])
    run = pretend.jobs.get_run(start(pretend, "state"))
    assert run.state is not None
    assert run.status is not None
    assert run.state.life_cycle_state is jobs.RunLifeCycleState(state)
    expected = "WAITING" if state == "WAITING_FOR_RETRY" else state
    assert run.status.state is jobs.RunLifecycleStateV2State(expected)
    assert (run.state.queue_reason is not None) == (state == "QUEUED")
    paid = next(entry["paid"] for entry in scripted.runs() if entry["run_id"] == str(run.run_id))
    assert paid == (state in ("RUNNING", "TERMINATING", "WAITING_FOR_RETRY"))


@pytest.mark.parametrize("result", RESULT_STATES)
def test_a_run_can_end_with_each_result(scripted: SandboxControl, pretend: WorkspaceClient, result: str) -> None:
    outcome = {"result_state": result, "message": f"because {result}"}
    scripted.add_script(run_name="result", states=[("RUNNING", 0)], outcome=outcome)
    run = ended(pretend, start(pretend, "result"))
    assert run.state is not None
    assert run.state.result_state is jobs.RunResultState(result)
    assert run.state.state_message == f"because {result}"
    assert run.status is not None
    assert run.status.termination_details is not None
    assert run.status.termination_details.message == f"because {result}"


@pytest.mark.parametrize(("state", "result"), [("INTERNAL_ERROR", "FAILED"), ("SKIPPED", "EXCLUDED")])
def test_a_run_can_end_in_each_other_terminal_state(
    scripted: SandboxControl, pretend: WorkspaceClient, state: str, result: str
) -> None:
    scripted.add_script(run_name="terminal", states=[("PENDING", 0)], outcome={"life_cycle_state": state})
    run = ended(pretend, start(pretend, "terminal"))
    assert run.state is not None
    assert run.state.life_cycle_state is jobs.RunLifeCycleState(state)
    assert run.state.result_state is jobs.RunResultState(result)


def test_a_script_applies_as_often_as_said_and_by_tag(scripted: SandboxControl, pretend: WorkspaceClient) -> None:
    scripted.add_script(run_name="twice", times=1, states=[("RUNNING", 0)], outcome={"result_state": "FAILED"})
    results = []
    for _ in range(2):
        run = ended(pretend, start(pretend, "twice"))
        assert run.state is not None
        results.append(run.state.result_state)
    assert results == [jobs.RunResultState.FAILED, jobs.RunResultState.SUCCESS]
    with pytest.raises(ControlError, match="terminal state belongs"):
        scripted.add_script(states=[("TERMINATED", 1)])


def test_a_pretended_run_is_cancelled_and_times_out(scripted: SandboxControl, pretend: WorkspaceClient) -> None:
    scripted.add_script(run_name="long", states=[("RUNNING", 600)], cancel_seconds=0.3)
    cancelled, timed_out = start(pretend, "long"), start(pretend, "long", timeout_seconds=1)
    pretend.jobs.cancel_run(cancelled)
    run = pretend.jobs.get_run(cancelled)
    assert run.state is not None
    assert run.state.life_cycle_state is jobs.RunLifeCycleState.TERMINATING
    assert run.state.result_state is None
    assert run.status is not None
    assert run.status.termination_details is not None
    assert run.status.termination_details.code is jobs.TerminationCodeCode.USER_CANCELED
    for run_id, result in ((cancelled, jobs.RunResultState.CANCELED), (timed_out, jobs.RunResultState.TIMEDOUT)):
        run = ended(pretend, run_id)
        assert run.state is not None
        assert run.state.result_state is result


def test_the_platform_can_end_a_run_by_itself(scripted: SandboxControl, pretend: WorkspaceClient) -> None:
    scripted.add_script(run_name="doomed", states=[("RUNNING", 600)])
    run_id = start(pretend, "doomed")
    scripted.end_run(run_id, life_cycle_state="INTERNAL_ERROR", code="CLOUD_FAILURE", type="CLOUD_FAILURE")
    run = ended(pretend, run_id)
    assert run.status is not None
    assert run.status.termination_details is not None
    assert run.status.termination_details.code is jobs.TerminationCodeCode.CLOUD_FAILURE


def test_a_thousand_runs_live_at_once_without_threads(scripted: SandboxControl, pretend: WorkspaceClient) -> None:
    process = psutil.Process(scripted.address.pid)
    start(pretend, "warm-up")
    threads = process.num_threads()
    scripted.add_script(run_name="many", states=[("PENDING", 0.1), ("RUNNING", 600)])
    with requests.Session() as session:
        session.verify = str(scripted.address.ca_file)
        session.headers.update(pretend.config.authenticate())
        made = [session.post(f"{scripted.address.host}{SUBMIT}", json=submission("many")).json() for _ in range(1000)]
    assert process.num_threads() <= threads + 1
    assert len({answer["run_id"] for answer in made}) == 1000
    wait_until(lambda: all(run["paid"] for run in scripted.runs() if run["run_name"] == "many"), 5)


def test_pretended_metrics_reach_the_mlflow_run(
    scripted: SandboxControl, pretend: WorkspaceClient, pretending: tuple[SandboxControl, str]
) -> None:
    experiment = pretend.experiments.create_experiment(f"/Users/{pretending[1]}/pretended").experiment_id
    made = pretend.experiments.create_run(experiment_id=experiment).run
    assert made is not None
    assert made.info is not None
    run_id = made.info.run_id
    scripted.add_script(run_name="metrics", states=[("RUNNING", 0)], metrics={"accuracy": 0.9, "loss": "NaN"})
    body = submission("metrics")
    body["tasks"][0]["environment_variables_key"] = "vars"
    variables = [{"environment_variables_key": "vars", "spec": {"variables": {"MLFLOW_RUN_ID": run_id}}}]
    run = ended(pretend, start(pretend, "metrics", tasks=body["tasks"], environment_variables=variables))
    assert run.state is not None
    assert run.state.result_state is jobs.RunResultState.SUCCESS, run.state.state_message
    assert run_id is not None
    logged = pretend.experiments.get_run(run_id).run
    assert logged is not None
    assert logged.data is not None
    assert {metric.key for metric in logged.data.metrics or []} == {"accuracy", "loss"}


def test_the_request_log_holds_no_token(
    pretending: tuple[SandboxControl, str], pretend: WorkspaceClient, tmp_path: Path
) -> None:
    control, application_id = pretending
    pretend.current_user.me()
    entries = control.requests(path=".*scim.*")
    assert entries[-1]["principal"] == application_id
    assert entries[-1]["status"] == 200
    assert "databricks-sdk-py" in entries[-1]["user_agent"]
    assert entries[-1]["workspace_header"] == control.address.workspace_id
    text = repr(control.requests())
    for token in control.tokens():
        assert token["value"] not in text
        assert token["value"].split(".")[2] not in text


def test_a_pretended_model_version_is_registered_for_the_run(
    scripted: SandboxControl, pretend: WorkspaceClient, pretending: tuple[SandboxControl, str]
) -> None:
    scripted.grant(pretending[1], "main", "USE CATALOG")
    scripted.grant(pretending[1], "main.ml", "USE SCHEMA", "CREATE MODEL")
    experiment = pretend.experiments.create_experiment(f"/Users/{pretending[1]}/models").experiment_id
    created = pretend.experiments.create_run(experiment_id=experiment).run
    assert created is not None
    assert created.info is not None
    scripted.add_script(run_name="model", states=[("RUNNING", 0)], registered_model_name="main.ml.iris")
    run_id = created.info.run_id
    variables = [{"environment_variables_key": "vars", "spec": {"variables": {"MLFLOW_RUN_ID": run_id}}}]
    body = submission("model")
    body["tasks"][0]["environment_variables_key"] = "vars"
    run = ended(pretend, start(pretend, "model", tasks=body["tasks"], environment_variables=variables))
    assert run.state is not None
    assert run.state.result_state is jobs.RunResultState.SUCCESS, run.state.state_message
    [version] = pretend.model_versions.list("main.ml.iris")
    assert version.run_id == run_id
    assert version.status is not None
    assert version.status.value == "READY"
