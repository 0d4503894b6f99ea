"""Run history of the sandbox's Azure ML workspace: state, errors and logs of a job, for MLClient and plain requests."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import requests

from trainyard_sandbox.client import SandboxControl

from .azure_fixtures import Arm
from .conftest import wait_until

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

HISTORY = "/history/v1.0"
PUT = "2025-01-01-preview"
ENVIRONMENT = "azureml://registries/azureml/environments/sklearn-1.5/versions/1"


@pytest.fixture
def submit(control: SandboxControl, data_scientist: str, arm: Arm) -> Callable[..., str]:
    """Submit a pretended job with a script; returns its name."""

    def put(script: dict[str, Any], **properties: Any) -> str:
        name = f"job-{uuid.uuid4().hex[:8]}"
        control.script_azure_job(name=name, **script)
        body = {"jobType": "Command", "command": "true", "environmentId": ENVIRONMENT, "experimentName": "wine"}
        answer = arm(data_scientist, "PUT", f"/jobs/{name}", version=PUT, json={"properties": body | properties})
        assert answer.status_code == 201, answer.text
        return name

    return put


def read(arm: Arm, client_id: str, path: str, **options: Any) -> Any:
    answer = arm(client_id, "GET", path, plane=HISTORY, **options)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ended(arm: Arm, client_id: str, name: str) -> Any:
    def look() -> Any:
        run = read(arm, client_id, f"/runs/{name}")
        return run if run["status"] in ("Completed", "Failed", "Canceled") else None

    return wait_until(look)


def test_a_run_tells_the_state_and_times_of_its_job(submit: Callable[..., str], data_scientist: str, arm: Arm) -> None:
    name = submit({"states": [("Running", 0.2)]}, displayName="Wine", tags={"team": "wine"})
    run = ended(arm, data_scientist, name)
    assert (run["runId"], run["status"], run["displayName"]) == (name, "Completed", "Wine")
    assert (run["tags"], run["error"], run["hidden"]) == ({"team": "wine"}, None, False)
    assert (run["runType"], run["target"], run["rootRunId"]) == ("azureml.scriptrun", "serverless", name)
    created, started, over = (
        datetime.datetime.fromisoformat(run[key]) for key in ("createdUtc", "startTimeUtc", "endTimeUtc")
    )
    assert created <= started < over
    assert over - started >= datetime.timedelta(seconds=0.2)
    details = read(arm, data_scientist, f"/runs/{name}/details", params={"api-version": "v1.0"})
    assert (details["status"], details["endTimeUtc"]) == ("Completed", run["endTimeUtc"])
    assert details["runDefinition"]["command"] == "true"


def test_a_failed_run_says_who_is_to_act_and_why(submit: Callable[..., str], data_scientist: str, arm: Arm) -> None:
    end = {"status": "Failed", "code": "UserError", "message": "exit 2", "inner": ["ExecutionFailed", "ExitCode"]}
    name = submit({"states": [], "end": end})
    error = ended(arm, data_scientist, name)["error"]["error"]
    assert (error["code"], error["message"]) == ("UserError", "exit 2")
    assert error["innerError"] == {"code": "ExecutionFailed", "innerError": {"code": "ExitCode", "innerError": None}}


def test_logs_are_read_without_a_token_while_the_job_runs_and_no_longer_than_signed(
    control: SandboxControl, submit: Callable[..., str], data_scientist: str, arm: Arm
) -> None:
    name = submit({"states": [("Running", 600)], "logs": {"user_logs/std_log.txt": "epoch 1\nepoch 2\n"}})
    details = read(arm, data_scientist, f"/runs/{name}/details")
    assert list(details["logFiles"]) == ["user_logs/std_log.txt"]
    url: str = details["logFiles"]["user_logs/std_log.txt"]
    assert f"/azureml/ExperimentRun/dcid.{name}/user_logs/std_log.txt?" in url
    ca_file = str(control.address.ca_file)
    assert requests.get(url, verify=ca_file, timeout=10).text == "epoch 1\nepoch 2\n"
    tail = requests.get(url, headers={"Range": "bytes=8-"}, verify=ca_file, timeout=10)
    assert (tail.status_code, tail.text) == (206, "epoch 2\n")
    assert requests.put(url, data=b"forged", verify=ca_file, timeout=10).status_code == 403
    control.settings(clock_offset_seconds=9 * 3600.0)
    assert requests.get(url, verify=ca_file, timeout=10).status_code == 403
    control.settings(clock_offset_seconds=0.0)
    control.complete_azure_job(name)


def test_the_clients_own_stream_reports_how_a_failed_job_ended(
    submit: Callable[..., str],
    data_scientist: str,
    arm: Arm,
    ml_client: Callable[..., MLClient],
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = submit({"states": [], "end": {"status": "Failed", "code": "UserError", "message": "no such column: age"}})
    ended(arm, data_scientist, name)
    from azure.ai.ml.exceptions import JobException

    with pytest.raises(JobException, match="no such column: age"):
        ml_client(data_scientist).jobs.stream(name)
    assert f"RunId: {name}" in capsys.readouterr().out


def test_the_client_changes_and_archives_a_job_through_its_run(
    submit: Callable[..., str], data_scientist: str, arm: Arm, ml_client: Callable[..., MLClient]
) -> None:
    name = submit({}, tags={"team": "wine"})
    jobs = ml_client(data_scientist).jobs
    jobs.archive(name)
    assert read(arm, data_scientist, f"/runs/{name}")["hidden"] is True
    shown = arm(data_scientist, "GET", f"/jobs/{name}", version="2024-01-01-preview").json()["properties"]
    assert (shown["isArchived"], shown["tags"]) == (True, {"team": "wine"})
    place = f"/experiments/wine/runs/{name}"
    changed = arm(data_scientist, "PATCH", place, plane=HISTORY, json={"hidden": False, "tags": {"alias": "best"}})
    assert (changed.json()["hidden"], changed.json()["tags"]) == (False, {"team": "wine", "alias": "best"})
    shown = arm(data_scientist, "GET", f"/jobs/{name}", version="2024-01-01-preview").json()["properties"]
    assert (shown["isArchived"], shown["tags"]) == (False, {"team": "wine", "alias": "best"})


def test_parts_of_a_run_come_only_when_asked_for(submit: Callable[..., str], data_scientist: str, arm: Arm) -> None:
    name = submit({})
    asked = {"runId": name, "selectRunMetadata": True}
    answer = arm(data_scientist, "POST", "/rundata", plane=HISTORY, json=asked).json()
    assert answer["runMetadata"]["runId"] == name
    assert answer["runDefinition"] is None


def test_run_history_is_strict(
    control: SandboxControl, submit: Callable[..., str], data_scientist: str, arm: Arm
) -> None:
    name = submit({})

    def refused(method: str, path: str, client_id: str = data_scientist, **options: Any) -> tuple[int, str, str]:
        answer = arm(client_id, method, path, plane=HISTORY, **options)
        error = answer.json()["error"]
        return answer.status_code, error["code"], error["message"]

    assert refused("GET", "/runs/none") == (404, "UserError", "Run none was not found")
    assert refused("GET", f"/experiments/other/runs/{name}")[0] == 404
    assert refused("GET", f"/runs/{name}", params={"api-version": "v2.0"})[0] == 400
    assert refused("GET", f"/runs/{name}/children", params={"$top": "many"})[0] == 400
    status, code, message = refused("PATCH", f"/runs/{name}", json={"colour": "red"})
    assert (status, code) == (400, "UserError")
    assert "colour" in message
    stranger = control.add_application("stranger", roles={"workspace": ["AzureML Compute Operator"]})
    status, code, message = refused("GET", f"/runs/{name}", stranger)
    assert (status, code) == (403, "AuthorizationFailed")
    assert "Microsoft.MachineLearningServices/workspaces/experiments/runs/read" in message


def test_a_storage_token_opens_no_run(control: SandboxControl, submit: Callable[..., str], data_scientist: str) -> None:
    name = submit({})
    azure = control.address.azure
    token = control.issue_azure_token(data_scientist, "https://storage.azure.com")
    url = f"{azure.resource_manager}{HISTORY}{azure.workspace_scope}/runs/{name}"
    headers = {"Authorization": f"Bearer {token}"}
    answer = requests.get(url, headers=headers, verify=str(control.address.ca_file), timeout=10)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "InvalidAuthenticationTokenAudience")
