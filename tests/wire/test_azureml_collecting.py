"""What the operator reads of an ended Azure ML job: metrics, model, outputs, logs, and why it failed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.wire.azureml import (
    accounts,
    cloud,
    connect,
    connection,
    data_scientist,
    ended,
    request_for,
    target,
    tokens_for,
)
from trainyard.core.errors import Refused
from trainyard.core.remote import End, RemoteRun, Result
from trainyard.platforms.azureml.connection import AzureMLConnection
from trainyard.platforms.base import ModelWanted, Request, Wanted
from trainyard_sandbox.client import SandboxControl

__all__ = ["accounts", "cloud", "connect", "connection", "data_scientist", "request_for", "target", "tokens_for"]

LOGS = Wanted(log_characters=2000)
TRAINING = (
    "import os, mlflow, numpy as np\n"
    "from sklearn.linear_model import LinearRegression\n"
    "x, y = np.array([[1.0], [2.0]]), np.array([1.0, 2.0])\n"
    "with mlflow.start_run():\n"
    "    mlflow.log_param('points', 2)\n"
    "    mlflow.log_metric('accuracy', 0.75)\n"
    "    mlflow.log_metric('loss', float('nan'))\n"
    "    mlflow.sklearn.log_model(LinearRegression().fit(x, y), 'model', input_example=x,\n"
    "        registered_model_name=os.environ['TRAINYARD_MODEL_NAME'])\n"
)


@pytest.fixture
def run(connection: AzureMLConnection, request_for: Callable[..., Request]) -> Callable[..., tuple[RemoteRun, Result]]:
    """Runs some code and collects what it left."""

    def build(source: str, wanted: Wanted = LOGS, **fields: Any) -> tuple[RemoteRun, Result]:
        submitted = connection.submit(request_for(source, **fields))
        remote = ended(connection, submitted.remote_id, 120)
        return remote, connection.collect(remote, submitted.mlflow_run_id, wanted)

    return build


def test_a_training_leaves_metrics_and_its_model_version_with_alias_and_tags(
    connection: AzureMLConnection, run: Callable[..., tuple[RemoteRun, Result]], control: SandboxControl
) -> None:
    wanted = Wanted(ModelWanted("wire", "challenger", {"data": "two points"}))
    first, one = run(TRAINING, wanted, model={"name": "wire"})
    assert (first.end, one.error, one.shortfall) == (End.SUCCEEDED, "", None)
    assert one.metrics == {"accuracy": "0.75", "loss": "NaN"}
    assert one.params["points"] == "2"
    assert one.model is not None
    assert (one.model.name, one.model.version, one.model.alias) == ("wire", "1", "challenger")
    assert one.started_at is not None
    assert one.ended_at is not None
    assert one.started_at <= one.ended_at
    assert connection.collect(first, first.remote_id, wanted) == one
    _second, two = run(TRAINING, wanted, model={"name": "wire"})
    assert two.model is not None
    assert (two.model.version, two.model.alias) == ("2", "challenger")
    rows = connection._history.mlflow("GET", "model-versions/search", query={"filter": "name='wire'"})
    tags = {row["version"]: {tag["key"]: tag["value"] for tag in row["tags"]} for row in rows["model_versions"]}
    assert tags["2"].items() >= {"alias": "challenger", "data": "two points"}.items()
    assert "alias" not in tags["1"]


def test_a_training_that_registers_nothing_falls_short(run: Callable[..., tuple[RemoteRun, Result]]) -> None:
    _remote, result = run("print('done')", Wanted(ModelWanted("nothing", None, {})))
    assert result.model is None
    assert result.shortfall is not None
    assert result.shortfall[0] == "ModelNotRegistered"


def test_what_was_printed_is_kept_without_tokens(run: Callable[..., tuple[RemoteRun, Result]]) -> None:
    kept: dict[str, str] = {}

    def keep(name: str, text: str) -> str:
        kept[name] = text
        return f"s3://logs/{name}.log"

    source = "print('x' * 5000)\nprint('MLFLOW_TRACKING_TOKEN=abc')\nprint('the end')"
    _remote, result = run(source, Wanted(log_characters=50, keep=keep))
    (text,) = result.logs
    assert (text.name, text.truncated, text.missing) == ("train", True, "")
    assert text.text.endswith("TOKEN=[token]\nthe end\n")
    assert len(kept["train"]) > 5000
    assert result.logs_uri == "s3://logs/train.log"


def test_the_last_part_of_a_long_log_is_read_and_no_more(
    connection: AzureMLConnection, run: Callable[..., tuple[RemoteRun, Result]], control: SandboxControl
) -> None:
    remote, _ = run("for line in range(100000): print('line', line)")
    control.clear_requests()
    result = connection.collect(remote, remote.remote_id, Wanted(log_characters=100))
    assert result.logs[0].text.endswith("line 99999\n")
    assert result.logs[0].truncated
    assert [row["status"] for row in control.requests(path="/blob/.*", method="GET")] == [206]


FAILURES = [
    ("import nowhere", End.CODE, "add the package that holds module 'nowhere'"),
    ("raise MemoryError('too much')", End.OUT_OF_MEMORY, "MemoryError: too much"),
    ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", End.OUT_OF_MEMORY, ""),
    ("raise ValueError('nan in column 3')", End.CODE, "ValueError: nan in column 3"),
    ("import sys\nsys.exit(4)", End.CODE, "4"),
]


@pytest.mark.parametrize(("source", "end", "said"), FAILURES)
def test_a_failure_of_the_code_is_told_by_what_it_printed(
    run: Callable[..., tuple[RemoteRun, Result]], source: str, end: End, said: str
) -> None:
    remote, result = run(source)
    assert remote.end is End.CODE
    assert (result.end or End.CODE) is end
    assert said in result.error


def test_an_environment_that_can_not_be_built_is_told_with_what_pip_said(
    run: Callable[..., tuple[RemoteRun, Result]],
) -> None:
    remote, result = run("print(1)", environment={"pip": ["no-such-package-in-any-index==9.9"]})
    assert (remote.end, result.end) == (End.CODE, End.PACKAGES)
    assert "no-such-package-in-any-index" in result.error


def test_a_job_that_the_service_ended_is_told_by_what_the_service_says(
    connection: AzureMLConnection, request_for: Callable[..., Request], control: SandboxControl
) -> None:
    message = "AzureMLCompute job failed. PreemptionError: Nodes of this job got pre-empted."
    submitted = connection.submit(request_for("import time\ntime.sleep(60)"))
    control.end_azure_job(submitted.remote_id, status="Failed", code="UserError", message=message)
    remote = ended(connection, submitted.remote_id)
    result = connection.collect(remote, None, Wanted())
    assert result.end is End.INFRASTRUCTURE
    assert message in result.error


def test_an_output_is_told_with_its_size_or_why_it_has_none(
    connection: AzureMLConnection, request_for: Callable[..., Request], control: SandboxControl
) -> None:
    source = (
        "import os, pathlib\n"
        "folder = pathlib.Path(os.environ['TRAINYARD_OUTPUT_SCORES'])\n"
        "(folder / 'deep').mkdir(parents=True)\n"
        "(folder / 'deep' / 'a.csv').write_text('12345')\n"
        "(folder / 'b.csv').write_text('123')\n"
    )
    request = request_for(source, outputs={"scores": {"uri": "azureml://datastores/workspaceblobstore/paths/scores/1"}})
    remote = ended(connection, connection.submit(request).remote_id)
    wanted = {"scores": ("azureml://datastores/workspaceblobstore/paths/scores/1", None), "other": ("wasbs://x", None)}
    outputs = connection.collect(remote, None, Wanted(outputs=wanted)).outputs
    # The sandbox's storage account has no name that resolves, as behind a private endpoint.
    assert "can not be looked at" in outputs["scores"].message
    assert sorted(control.azure_blobs("workspaceblobstore", "scores/1")) == ["scores/1/b.csv", "scores/1/deep/a.csv"]
    assert "not measured" in outputs["other"].message


def test_logs_are_never_read_from_a_host_that_is_not_the_clouds(
    connection: AzureMLConnection, run: Callable[..., tuple[RemoteRun, Result]], control: SandboxControl
) -> None:
    remote, _ = run("print('hello')")
    details = connection._history.details

    def astray(name: str) -> dict[str, Any]:
        return {**details(name), "logFiles": {"user_logs/std_log.txt": "https://evil.example/log?sig=secret"}}

    connection._history.details = astray  # type: ignore[method-assign]
    result = connection.collect(remote, None, LOGS)
    assert result.logs[0].text == ""
    assert "evil.example" in result.logs[0].missing
    assert "secret" not in result.logs[0].missing


def test_a_workspace_whose_services_are_elsewhere_gets_no_token(
    connection: AzureMLConnection, run: Callable[..., tuple[RemoteRun, Result]]
) -> None:
    remote, _ = run("print('hello')")
    found = connection._history.services()
    connection._history._services = replace(found, history="https://evil.example", mlflow="https://evil.example/mlflow")
    with pytest.raises(Refused) as raised:
        connection._history.details(remote.remote_id)
    assert raised.value.reason == "HostNotAllowed"
    result = connection.collect(remote, None, LOGS)
    assert result.shortfall is not None
    assert "evil.example" in result.shortfall[1]
