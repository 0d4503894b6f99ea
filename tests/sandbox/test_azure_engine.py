"""Command jobs of the Azure ML half that really run: shell, variables, data, logs, ends."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from trainyard_sandbox.client import SandboxControl

from .azure_fixtures import Arm
from .azure_jobs import ENVIRONMENT, PUT, Jobs
from .conftest import wait_until
from .wheels import a_wheel


class Runs(Jobs):
    """Jobs that really run."""

    def __init__(self, arm: Arm, client_id: str, control: SandboxControl) -> None:
        super().__init__(arm, client_id)
        self._control = control

    def run(self, command: str, **properties: Any) -> str:
        """Submit a command; returns its name."""
        name = f"run-{uuid.uuid4().hex[:12]}"
        answer = self.put(name, command=command, **properties)
        assert answer.status_code == 201, answer.text
        return name

    def log(self, name: str, file: str = "user_logs/std_log.txt") -> str:
        """A log file, read by its signed URL as run history gives it."""
        details = self._arm(self._client_id, "GET", f"/runs/{name}/details", plane="/history/v1.0")
        assert details.status_code == 200, details.text
        url = details.json()["logFiles"].get(file)
        if url is None:
            return ""
        answer = requests.get(url, verify=str(self._control.address.ca_file), timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.text

    def output(self, command: str, **properties: Any) -> str:
        """The log of a command that must end well."""
        name = self.run(command, **properties)
        assert self.ended(name) == "Completed", self._control.azure_job(name)["error"]
        return self.log(name)

    def error(self, name: str) -> dict[str, Any]:
        """Why a job failed."""
        assert self.ended(name) == "Failed"
        error: dict[str, Any] = self._control.azure_job(name)["error"]
        return error


@pytest.fixture
def runs(arm: Arm, data_scientist: str, control: SandboxControl) -> Iterator[Runs]:
    yield Runs(arm, data_scientist, control)
    for job in control.azure_jobs():
        if job["active"]:
            control.delete_azure_job(job["name"])
    control.azure_compute_settings(no_serverless_limit=True, node_start_seconds=0, build_seconds=0, fail_builds="")


def test_a_command_runs_in_a_shell_and_its_output_is_the_jobs_log(runs: Runs, control: SandboxControl) -> None:
    name = runs.run("echo one && echo two >&2; A=3; echo $A")
    assert runs.ended(name) == "Completed"
    assert sorted(runs.log(name).split()) == ["3", "one", "two"]
    assert control.azure_job(name)["history"] == [
        *("NotStarted", "Preparing", "Queued", "Running", "Finalizing", "Completed")
    ]


def test_the_log_grows_while_the_job_runs(runs: Runs) -> None:
    name = runs.run("echo begun; sleep 30")
    assert wait_until(lambda: runs.status(name) == "Running" and "begun" in runs.log(name))
    runs.cancel(name)
    assert runs.ended(name) == "Canceled"
    assert "begun" in runs.log(name)


def test_the_code_sees_what_azure_gives_a_job_and_nothing_of_the_sandboxs_own_environment(
    runs: Runs, control: SandboxControl
) -> None:
    source = "import json, os; print(json.dumps(dict(os.environ)))"
    name = runs.run(f"python -c '{source}'", experimentName="iris", environmentVariables={"SEED": "7"})
    assert runs.ended(name) == "Completed"
    seen = json.loads(runs.log(name))
    assert (seen["SEED"], seen["AZUREML_RUN_ID"], seen["MLFLOW_RUN_ID"]) == ("7", name, name)
    assert seen["MLFLOW_EXPERIMENT_NAME"] == "iris"
    azure = control.address.azure
    assert seen["MLFLOW_TRACKING_URI"] == f"{azure.resource_manager}/mlflow/v1.0{azure.workspace_scope}"
    assert seen["MLFLOW_TRACKING_TOKEN"] == seen["AZUREML_RUN_TOKEN"]
    ours = set(os.environ) - set(seen) - {"PATH", "HOME", "LANG"}
    assert ours, "this test needs a variable of its own to miss"
    assert not {key for key in seen if key.startswith(("PYTEST", "TRAINYARD", "KUBE"))}


def environment(arm: Arm, client_id: str, *packages: str) -> str:
    """Make an environment of its own; returns its id."""
    path = f"/environments/e{uuid.uuid4().hex[:8]}/versions/1"
    conda = json.dumps({"dependencies": [{"pip": list(packages)}]})
    made = arm(
        client_id,
        "PUT",
        path,
        version="2023-04-01-preview",
        json={"properties": {"image": "mcr.sandbox.test/base:1", "condaFile": conda}},
    )
    assert made.status_code == 201, made.text
    found: str = made.json()["id"]
    return found


def test_what_a_command_installs_is_the_jobs_own(runs: Runs, control: SandboxControl) -> None:
    wheel = a_wheel("sandbox_tool", "1.0", "def main():\n    print('at work')\n", {"tool": "sandbox_tool:main"})
    control.put_azure_blob("workspaceblobstore", "wheels/sandbox_tool-1.0-py3-none-any.whl", wheel)
    folder = {"jobInputType": "uri_folder", "uri": "azureml://datastores/workspaceblobstore/paths/wheels"}
    install = "python -m pip install ${{inputs.wheels}}/sandbox_tool-1.0-py3-none-any.whl"
    assert runs.output(f"{install} && env tool", inputs={"wheels": folder}).splitlines()[-1] == "at work"
    assert runs.error(runs.run("env tool"))["inner"] == ["ExecutionFailed"]
    assert importlib.util.find_spec("sandbox_tool") is None


def test_the_first_job_of_an_environment_is_preparing_while_its_image_is_built(
    runs: Runs, control: SandboxControl, arm: Arm, data_scientist: str
) -> None:
    control.azure_compute_settings(build_seconds=60)
    environment_id = environment(arm, data_scientist, "packaging")
    name = runs.run("true", environmentId=environment_id)
    assert wait_until(lambda: runs.status(name) == "Preparing")
    assert "packaging" in runs.log(name, "azureml-logs/20_image_build_log.txt")
    runs.cancel(name)
    assert runs.ended(name) == "Canceled"
    assert not control.azure_job(name)["paid"]
    control.azure_compute_settings(build_seconds=0)
    assert "ran" in runs.output("echo ran", environmentId=environment_id)


def test_a_build_that_fails_fails_the_job_before_it_costs_anything(
    runs: Runs, control: SandboxControl, arm: Arm, data_scientist: str
) -> None:
    control.azure_compute_settings(fail_builds="no space left on device")
    name = runs.run("true", environmentId=environment(arm, data_scientist, "requests"))
    error = runs.error(name)
    assert error["message"].startswith("Image build failed. For more details, check log file azureml-logs/")
    assert error["message"].endswith("Error: no space left on device")
    assert (error["inner"], control.azure_job(name)["paid"]) == (["ImageBuildFailure"], False)


def test_a_job_may_take_the_name_of_one_that_was_deleted_while_it_ran(runs: Runs, control: SandboxControl) -> None:
    name = runs.run("trap '' TERM; sleep 60")
    wait_until(lambda: runs.status(name) == "Running")
    control.delete_azure_job(name)
    assert runs.put(name, command="sleep 1; echo again > outputs.txt; cat outputs.txt").status_code == 201
    assert runs.ended(name) == "Completed", control.azure_job(name)["error"]
    assert runs.log(name).endswith("again\n")


def test_no_process_of_a_job_outlives_the_sandbox(
    serve: Callable[..., tuple[SandboxControl, subprocess.Popen[bytes]]], arm: Arm, tmp_path: Path
) -> None:
    control, sandbox = serve()
    client_id = control.add_application("trainer", roles={"workspace": ["AzureML Data Scientist"]})
    marker = tmp_path / "pid"
    command = {"jobType": "Command", "command": f"echo $$ > {marker}; sleep 300", "environmentId": ENVIRONMENT}
    arm(client_id, "PUT", "/jobs/left", version=PUT, json={"properties": command}, control=control)
    process = int(wait_until(lambda: marker.exists() and marker.read_text()))
    assert _alive(process)
    sandbox.terminate()
    sandbox.wait(60)
    assert wait_until(lambda: not _alive(process))


def test_a_command_that_fails_fails_the_job_with_what_it_said(runs: Runs) -> None:
    error = runs.error(runs.run("python -c 'raise ValueError(\"no rows\")'"))
    assert error["code"] == "UserError"
    assert error["message"].startswith("Execution failed. User process 'python' exited with status code 1. ")
    assert "Please check log file 'user_logs/std_log.txt' for error details." in error["message"]
    assert error["message"].endswith("ValueError: no rows")


def test_a_cancelled_job_is_gone_with_all_its_processes(runs: Runs, tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    name = runs.run(f"(sleep 300 & echo $! > {marker}; wait)")
    wait_until(marker.exists)
    process = int(wait_until(marker.read_text))
    runs.cancel(name)
    assert runs.ended(name) == "Canceled"
    assert not _alive(process)


def _alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_job_that_runs_longer_than_its_timeout_is_cancelled_by_the_service(
    runs: Runs, control: SandboxControl
) -> None:
    name = runs.run("sleep 60", limits={"jobLimitsType": "Command", "timeout": "PT1S"})
    assert runs.ended(name) == "Canceled"
    assert "its timeout of PT1S" in control.azure_job(name)["error"]["message"]


def test_inputs_are_values_files_and_folders_and_outputs_are_uploaded(runs: Runs) -> None:
    store = "azureml://datastores/workspaceblobstore/paths"
    folder = f"{store}/data-{uuid.uuid4().hex}"
    runs.output(
        "mkdir ${{outputs.d}}/deep; echo ex > ${{outputs.d}}/x.txt; echo why > ${{outputs.d}}/deep/y.txt",
        outputs={"d": {"jobOutputType": "uri_folder", "uri": folder}},
    )
    command = (
        "echo ${{inputs.word}} > ${{outputs.made}}/word.txt; cat ${{inputs.file}} ${{inputs.folder}}/deep/y.txt "
        "> ${{outputs.made}}/data.txt; echo $AZURE_ML_INPUT_word; echo ${{inputs.direct}}"
    )
    name = runs.run(
        command,
        inputs={
            "word": {"jobInputType": "literal", "value": "hello"},
            "file": {"jobInputType": "uri_file", "uri": f"{folder}/x.txt"},
            "folder": {"jobInputType": "uri_folder", "uri": f"{folder}/"},
            "direct": {"jobInputType": "uri_folder", "uri": folder, "mode": "Direct"},
        },
        outputs={"made": {"jobOutputType": "uri_folder"}},
    )
    assert runs.ended(name) == "Completed", runs.log(name)
    assert runs.log(name).split() == ["hello", folder]
    uploaded = {"jobInputType": "uri_folder", "uri": f"{store}/azureml/{name}/made/"}
    read = runs.output("cd ${{inputs.made}} && cat word.txt data.txt", inputs={"made": uploaded})
    assert read.split() == ["hello", "ex", "why"]


def test_an_output_of_one_job_is_an_input_of_the_next(runs: Runs) -> None:
    uri = f"azureml://datastores/workspaceblobstore/paths/models/{uuid.uuid4().hex}"
    made = {"m": {"jobOutputType": "custom_model", "uri": uri}}
    runs.output("echo weights > ${{outputs.m}}/w.bin", outputs=made)
    assert "weights" in runs.output(
        "cat ${{inputs.m}}/w.bin", inputs={"m": {"jobInputType": "custom_model", "uri": uri}}
    )


def test_data_that_is_not_there_fails_the_job_and_not_its_submission(runs: Runs) -> None:
    uri = "azureml://datastores/workspaceblobstore/paths/nowhere"
    error = runs.error(runs.run("true", inputs={"x": {"jobInputType": "uri_folder", "uri": uri}}))
    assert (error["code"], error["message"]) == ("UserError", f"Nothing was found at {uri}.")


def test_each_process_of_a_pytorch_job_knows_its_place_and_has_its_log(runs: Runs) -> None:
    name = runs.run(
        "echo $RANK/$WORLD_SIZE node $NODE_RANK local $LOCAL_RANK $MASTER_ADDR",
        distribution={"distributionType": "PyTorch", "processCountPerInstance": 2},
        resources={"instanceCount": 2},
    )
    assert runs.ended(name) == "Completed"
    said = [runs.log(name, f"user_logs/std_log_process_{rank}.txt").strip() for rank in range(4)]
    assert said == [
        "0/4 node 0 local 0 127.0.0.1",
        "1/4 node 0 local 1 127.0.0.1",
        "2/4 node 1 local 0 127.0.0.1",
        "3/4 node 1 local 1 127.0.0.1",
    ]


def test_one_process_that_fails_ends_the_others(runs: Runs) -> None:
    name = runs.run(
        'if [ "$OMPI_COMM_WORLD_RANK" = 1 ]; then echo broken; exit 3; fi; sleep 60',
        distribution={"distributionType": "Mpi", "processCountPerInstance": 2},
    )
    error = runs.error(name)
    assert "exited with status code 3" in error["message"]
    assert "std_log_process_1.txt" in error["message"]


def test_a_preempted_job_begins_again_from_the_start(runs: Runs, control: SandboxControl, tmp_path: Path) -> None:
    marker = tmp_path / "starts"
    name = runs.run(f"echo x >> {marker}; if [ $(wc -l < {marker}) = 1 ]; then sleep 60; fi")
    wait_until(lambda: marker.exists() and runs.status(name) == "Running")
    control.preempt_azure_job(name)
    assert runs.ended(name) == "Completed"
    assert marker.read_text() == "x\nx\n"
    assert control.azure_job(name)["history"].count("Running") == 2


def test_a_job_waits_for_a_node_of_its_cluster_and_a_deleted_cluster_fails_it(
    runs: Runs, control: SandboxControl, arm: Arm
) -> None:
    control.add_azure_compute("one", scaleSettings={"minNodeCount": 0, "maxNodeCount": 1})
    compute = f"{control.address.azure.workspace_scope}/computes/one"
    first, second = runs.run("sleep 60", computeId=compute), runs.run("echo ran", computeId=compute)
    wait_until(lambda: runs.status(first) == "Running")
    assert runs.status(second) == "Queued"
    runs.cancel(first)
    assert runs.ended(second) == "Completed"
    third = runs.run("sleep 60", computeId=compute)
    wait_until(lambda: runs.status(third) == "Running")
    owner = control.add_application("owner", roles={"workspace": ["Contributor"]})
    deletion = {"underlyingResourceAction": "Delete"}
    assert arm(owner, "DELETE", "/computes/one", version="2023-08-01-preview", params=deletion).status_code == 202
    assert "was deleted" in runs.error(third)["message"]


def test_what_the_code_leaves_in_outputs_is_an_artifact_of_its_run(runs: Runs) -> None:
    name = runs.run("mkdir outputs && echo kept > outputs/note.txt")
    assert runs.ended(name) == "Completed"
    uri = f"azureml://datastores/workspaceartifactstore/paths/ExperimentRun/dcid.{name}/outputs/note.txt"
    assert runs.output("cat ${{inputs.x}}", inputs={"x": {"jobInputType": "uri_file", "uri": uri}}) == "kept\n"


def test_a_pretended_job_logs_metrics_and_registers_a_model_as_code_would(
    runs: Runs, control: SandboxControl, arm: Arm, data_scientist: str
) -> None:
    name = f"run-{uuid.uuid4().hex[:12]}"
    model = f"model-{uuid.uuid4().hex[:8]}"
    control.script_azure_job(
        name=name, metrics={"accuracy": 0.5}, registered_model_name=model, logs={"user_logs/std_log.txt": "said\n"}
    )
    runs.put(name)
    # The first request that needs MLflow waits until it has started.
    assert runs.ended(name, 120) == "Completed", control.azure_job(name)["error"]
    answer = arm(data_scientist, "GET", "/api/2.0/mlflow/runs/get", plane="/mlflow/v1.0", params={"run_id": name})
    metrics = answer.json()["run"]["data"]["metrics"]
    assert [(metric["key"], metric["value"]) for metric in metrics] == [("accuracy", 0.5)]
    versions = arm(data_scientist, "GET", f"/models/{model}/versions", version="2023-08-01-preview").json()["value"]
    assert [version["name"] for version in versions] == ["1"]
    assert runs.log(name) == "said\n"


def test_an_output_with_an_asset_name_becomes_a_version_that_other_jobs_take(
    runs: Runs, arm: Arm, data_scientist: str, control: SandboxControl
) -> None:
    data, model = f"d{uuid.uuid4().hex[:8]}", f"m{uuid.uuid4().hex[:8]}"
    outputs = {
        "d": {"jobOutputType": "uri_folder", "assetName": data, "assetVersion": "7"},
        "m": {"jobOutputType": "custom_model", "assetName": model},
    }
    name = runs.run("echo rows > ${{outputs.d}}/a; echo weights > ${{outputs.m}}/b", outputs=outputs)
    assert runs.ended(name) == "Completed"
    shown = arm(data_scientist, "GET", f"/models/{model}/versions/1", version="2023-08-01-preview").json()
    assert shown["properties"]["jobName"] == name
    scope = control.address.azure.workspace_scope
    inputs = {
        "d": {"jobInputType": "uri_folder", "uri": f"azureml:{data}:7"},
        "m": {"jobInputType": "custom_model", "uri": f"{scope}/models/{model}/versions/1"},
        "o": {"jobInputType": "uri_file", "uri": f"azureml://jobs/{name}/outputs/d/paths/a"},
    }
    assert runs.output("cat ${{inputs.d}}/a ${{inputs.m}}/b ${{inputs.o}}", inputs=inputs).split() == [
        *("rows", "weights", "rows")
    ]


def test_a_version_of_data_that_is_not_there_fails_the_job(runs: Runs) -> None:
    name = runs.run("true", inputs={"x": {"jobInputType": "uri_folder", "uri": "azureml:nothing:1"}})
    assert runs.error(name)["message"] == "data version nothing:1 was not found."


def test_a_pretended_job_also_keeps_its_time_limit(runs: Runs, control: SandboxControl) -> None:
    name = f"run-{uuid.uuid4().hex[:12]}"
    control.script_azure_job(name=name, states=[("Running", 600)])
    runs.put(name, limits={"jobLimitsType": "Command", "timeout": "PT1S"})
    assert runs.ended(name) == "Canceled"
    assert "its timeout of PT1S" in control.azure_job(name)["error"]["message"]
