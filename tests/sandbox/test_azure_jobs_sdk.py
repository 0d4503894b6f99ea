"""Jobs of the Azure ML half by the unmodified MLClient: code from a folder, an inline environment, a run to its end."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from trainyard_sandbox.client import SandboxControl

from .conftest import wait_until

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Job

CONDA = """
name: env
dependencies:
  - python=3.11
  - pip:
      - numpy
      - azureml-mlflow
"""
TRAIN = """
import pathlib, sys
import numpy
from helpers.words import WORD

pathlib.Path(sys.argv[2], "model.txt").write_text(WORD * int(sys.argv[1]))
print("trained", sys.argv[1])
"""


@pytest.fixture
def client(ml_client: Callable[..., MLClient], data_scientist: str, control: SandboxControl) -> Iterator[MLClient]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield ml_client(data_scientist)
    for job in control.azure_jobs():
        if job["active"]:
            control.delete_azure_job(job["name"])


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    (folder / "helpers").mkdir(parents=True)
    (folder / "train.py").write_text(TRAIN)
    (folder / "helpers" / "words.py").write_text("WORD = 'ab'\n")
    return folder


def training(code: Path, conda: Path, **fields: Any) -> Any:
    from azure.ai.ml import Output, command
    from azure.ai.ml.entities import Environment

    conda.write_text(CONDA)
    given = {
        "code": str(code),
        "command": "python train.py ${{inputs.times}} ${{outputs.model}}",
        "inputs": {"times": 3},
        "outputs": {"model": Output(type="custom_model")},
        "environment": Environment(image="mcr.sandbox.test/base:1", conda_file=str(conda)),
        "experiment_name": "iris",
        "instance_type": "Standard_DS3_v2",
        "tags": {"owner": "team-a"},
    }
    return command(**(given | fields))


def ended(client: MLClient, job: Job) -> Job:
    def look() -> Job | None:
        found = client.jobs.get(job.name)
        return found if found.status in ("Completed", "Failed", "Canceled") else None

    found: Job = wait_until(look)
    return found


def test_a_folder_of_code_runs_with_an_inline_environment(
    client: MLClient, control: SandboxControl, code: Path, tmp_path: Path
) -> None:
    submitted = client.jobs.create_or_update(training(code, tmp_path / "conda.yaml"))
    job = ended(client, submitted)
    shown = control.azure_job(job.name)
    assert (job.status, job.experiment_name, job.tags) == ("Completed", "iris", {"owner": "team-a"}), shown["error"]
    assert job.compute == "serverless" or job.compute is None
    assert job.outputs["default"].path.endswith(f"dcid.{job.name}")
    assert "Preparing" in shown["history"]


def test_the_same_code_is_not_uploaded_twice_and_the_image_is_built_once(
    client: MLClient, control: SandboxControl, code: Path, tmp_path: Path
) -> None:
    conda = tmp_path / "conda.yaml"
    first = ended(client, client.jobs.create_or_update(training(code, conda)))
    builds = control.azure_compute_settings()
    second = ended(client, client.jobs.create_or_update(training(code, conda)))
    codes = [control.azure_job(job.name)["definition"]["codeId"] for job in (first, second)]
    assert codes[0] == codes[1]
    assert control.azure_compute_settings() == builds


def test_a_package_that_does_not_exist_fails_the_build_of_the_image(
    client: MLClient, control: SandboxControl, code: Path, tmp_path: Path
) -> None:
    from azure.ai.ml.entities import Environment

    conda = tmp_path / "bad.yaml"
    conda.write_text("dependencies:\n  - pip:\n      - ./no-such-folder-of-a-package\n")
    environment = Environment(image="mcr.sandbox.test/base:1", conda_file=str(conda))
    job = ended(client, client.jobs.create_or_update(training(code, tmp_path / "conda.yaml", environment=environment)))
    shown = control.azure_job(job.name)
    assert (job.status, shown["paid"]) == ("Failed", False)
    assert shown["error"]["message"].startswith("Image build failed.")
    assert shown["log_files"] == ["azureml-logs/20_image_build_log.txt"]


def test_a_job_is_listed_cancelled_and_archived_by_the_sdk(
    client: MLClient, control: SandboxControl, code: Path, tmp_path: Path
) -> None:
    job = training(code, tmp_path / "conda.yaml", command="sleep 60")
    name = client.jobs.create_or_update(job).name
    wait_until(lambda: client.jobs.get(name).status == "Running")
    assert name in [listed.name for listed in client.jobs.list()]
    client.jobs.begin_cancel(name).result()
    assert client.jobs.get(name).status == "Canceled"
    client.jobs.archive(name)
    assert name not in [listed.name for listed in client.jobs.list()]


def test_a_job_on_a_compute_that_is_not_there_is_refused(client: MLClient, code: Path, tmp_path: Path) -> None:
    job = training(code, tmp_path / "conda.yaml", compute="nowhere", instance_type=None)
    with pytest.raises(HttpResponseError, match="Unknown compute target 'nowhere'"):
        client.jobs.create_or_update(job)


def test_a_job_that_is_not_there_is_not_found(client: MLClient) -> None:
    with pytest.raises(ResourceNotFoundError, match="Job nowhere not found"):
        client.jobs.get("nowhere")
