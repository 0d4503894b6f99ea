"""What the translator makes of a run, really started: arguments of any kind, sweeps, the newest environment."""

import json
from collections.abc import Callable
from typing import Any

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
from trainyard.core.remote import End
from trainyard.platforms.azureml.connection import AzureMLConnection
from trainyard.platforms.azureml.software import DEFAULT_IMAGE
from trainyard.platforms.base import Request, Wanted

__all__ = [
    "accounts",
    "cloud",
    "connect",
    "connection",
    "data_scientist",
    "request_for",
    "target",
    "tokens_for",
]

NASTY = ["it's", '"$HOME"', "`id`", "$$(id)", "a\nb", "${{inputs.none}}", "$[[--x ${{inputs.none}}]]", "; exit 1", ""]
SHOW = "import json, os, sys\nprint('told', json.dumps([sys.argv[1:], os.environ.get('TRAINYARD_OUTPUT_MADE')]))\n"


def told(connection: AzureMLConnection, request: Request) -> str:
    """What the code printed, once it has ended well."""
    remote = ended(connection, connection.submit(request).remote_id)
    result = connection.collect(remote, None, Wanted(log_characters=4000))
    assert remote.end is End.SUCCEEDED, result.error
    return result.logs[0].text


def test_the_code_gets_its_arguments_as_they_were_written(
    connection: AzureMLConnection, request_for: Callable[..., Request]
) -> None:
    text = told(connection, request_for(SHOW, entrypoint={"args": NASTY}))
    found = json.loads(text.partition("told ")[2].splitlines()[0])
    assert found[0] == [arg.replace("$$(", "$(") for arg in NASTY]


def test_the_code_writes_where_it_is_told(connection: AzureMLConnection, request_for: Callable[..., Request]) -> None:
    source = (
        "import os, sys\nmade = sys.argv[1]\n"
        "print('same', made == os.environ['TRAINYARD_OUTPUT_MADE'], os.path.isdir(made))\n"
    )
    outputs = {"made": {"uri": "azureml://datastores/workspaceblobstore/paths/made/$(run.uid)"}}
    text = told(connection, request_for(source, entrypoint={"args": ["$(outputs.made)"]}, outputs=outputs))
    assert "same True True" in text


def test_each_trial_of_a_sweep_has_its_own_value(
    connection: AzureMLConnection, request_for: Callable[..., Request]
) -> None:
    source = "import sys, mlflow\nassert sys.argv[1] in ('1', '2')\nmlflow.log_metric('depth', float(sys.argv[1]))\n"
    block: dict[str, Any] = {
        "jobType": "Sweep",
        "searchSpace": {"depth": ["choice", [[1, 2]]]},
        "objective": {"goal": "Maximize", "primaryMetric": "depth"},
        "samplingAlgorithm": {"samplingAlgorithmType": "Grid"},
        "limits": {"maxTotalTrials": 2, "maxConcurrentTrials": 1},
    }
    request = request_for(source, entrypoint={"args": ["$(params.depth)"]}, params={"depth": "9"}, azureML=block)
    remote = ended(connection, connection.submit(request).remote_id)
    assert remote.end is End.SUCCEEDED


def test_the_newest_environment_is_looked_up_before_it_is_used(
    connection: AzureMLConnection, request_for: Callable[..., Request]
) -> None:
    for version in ("2", "3"):
        properties = {"image": DEFAULT_IMAGE, "osType": "Linux"}
        connection._uploads.environment({"name": "team-env", "version": version, "properties": properties})
    runtimes = {"newest": {"azureML": {"environment": "team-env@latest"}}}
    request = request_for(SHOW, workspace={"runtimes": runtimes}, environment={"runtime": "newest"})
    connection.submit(request)
    sent = connection._jobs.get(request.submission_token)["properties"]
    assert sent["environmentId"].endswith("/environments/team-env/versions/3")
