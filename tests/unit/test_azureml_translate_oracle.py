"""What azure-ai-ml itself would send for the same job: the translator's body has the same properties.

The SDK is unmodified and sends through a session that raises what it is given.
"""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
import requests
import yaml
from azure.ai.ml import Input, MLClient, MpiDistribution, Output, PyTorchDistribution, command
from azure.ai.ml.entities import (
    Command,
    Environment,
    ManagedIdentityConfiguration,
    UserIdentityConfiguration,
)
from azure.ai.ml.sweep import Choice, Uniform
from azure.core.credentials import AccessToken, TokenCredential
from azure.core.pipeline.transport import RequestsTransport
from requests.adapters import BaseAdapter

from tests.unit.azureml_jobs import CLASSES, SUBSCRIPTION, UID, WS, attempt, properties, request
from trainyard.platforms.azureml.putting import USER_TOKEN_HEADER, hands_on_user_token, put_version
from trainyard.platforms.azureml.translate import translate

CODE = f"{WS}/{request().code_folder}"
ENVIRONMENT = f"{WS}/environments/sklearn/versions/3"
RUNTIMES = {"sklearn": {"azureML": {"environment": "sklearn:3"}}}
IDENTITY = "11111111-2222-3333-4444-555555555555"
TAGS = request().tags
# What the SDK writes of every job, and what is the same when it is absent.
EMPTY: tuple[Any, ...] = ({}, [], None, False)


class SentError(Exception):
    """The SDK has sent this to that path, in that version, with or without the token of the user."""

    def __init__(self, request: requests.PreparedRequest) -> None:
        url = urlsplit(request.url or "")
        self.path = f"{request.method} {url.path}"
        super().__init__(self.path)
        self.body: dict[str, Any] = json.loads(request.body or "{}")
        self.version = parse_qs(url.query)["api-version"][0]
        self.has_user_token = USER_TOKEN_HEADER in request.headers


class Caught(BaseAdapter):
    """Sends nothing; what its adapter raises, the SDK lets through."""

    def send(self, request: requests.PreparedRequest, *_args: Any, **_kwargs: Any) -> requests.Response:
        """Raises SentError."""
        raise SentError(request)

    def close(self) -> None:
        """Nothing is open."""


class Anybody(TokenCredential):
    """Gives a token that nobody looks at."""

    def get_token(self, *_scopes: str, **_kwargs: Any) -> AccessToken:
        # The SDK reads the tenant and the user out of it.
        claims = {"tid": "t", "oid": "o", "aud": "https://ml.azure.com"}
        return AccessToken(jwt.encode(claims, "k" * 32), 2**40)


def sent(job: Any) -> dict[str, Any]:
    """The properties that the SDK sends for its job, without what it writes as empty."""
    session = requests.Session()
    session.mount("https://", Caught())
    client = MLClient(
        Anybody(),
        SUBSCRIPTION,
        "ml",
        "wine",
        show_progress=False,
        enable_telemetry=False,
        transport=RequestsTransport(session=session, session_owner=False),
        retry_total=0,
    )
    with pytest.raises(SentError) as caught:
        client.jobs.create_or_update(job)
    assert caught.value.path == f"PUT {WS}/jobs/{job.name}"
    assert caught.value.version == put_version(caught.value.body)
    assert caught.value.has_user_token == hands_on_user_token(caught.value.body)
    found: dict[str, Any] = without_empty(caught.value.body["properties"])
    # What the SDK finds out about the repository that it is called in.
    return {key: value for key, value in found.items() if key != "properties"}


def without_empty(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {key: without_empty(each) for key, each in value.items()}
    return {key: each for key, each in inner.items() if not any(each is empty or each == empty for empty in EMPTY)}


def sdk(**changes: Any) -> Command:
    """The SDK's own job for the attempt of azureml_jobs."""
    fields = {
        "name": f"ty-{UID}-1",
        "display_name": "team-a/iris",
        "experiment_name": "team-a",
        "tags": dict(TAGS),
        "code": CODE,
        "command": "python main.py",
        "environment": ENVIRONMENT,
        "environment_variables": {
            "TRAINYARD_NAMESPACE": "team-a",
            "TRAINYARD_NAME": "iris",
            "TRAINYARD_ATTEMPT": "1",
        },
        "timeout": 600,
        "instance_count": 1,
    }
    return command(**{**fields, **changes})


def ours(**spec: Any) -> dict[str, Any]:
    found = properties(workspace={"runtimes": RUNTIMES}, environment={"runtime": "sklearn"}, **spec)
    limits = found["limits"]
    # PT600S and PT10M are the same time.
    assert limits["timeout"] == "PT600S"
    return {**found, "limits": {**limits, "timeout": "PT10M"}}


def test_a_job_on_a_cluster() -> None:
    assert ours(compute={"class": "cluster"}) == sent(sdk(compute="cpu-cluster"))


def test_a_serverless_job() -> None:
    assert ours() == sent(sdk(instance_type="Standard_DS3_v2"))


def test_a_serverless_job_on_spot_machines() -> None:
    spot = {"small": {"azureML": {"serverless": {"instanceType": "Standard_NC6"}, "tier": "Spot", "instanceCount": 2}}}
    found = properties(workspace={"runtimes": RUNTIMES, "computeClasses": spot}, environment={"runtime": "sklearn"})
    job = sdk(instance_type="Standard_NC6", instance_count=2, queue_settings={"job_tier": "spot"})
    assert {**found, "limits": None} == {**sent(job), "limits": None}


def test_a_distributed_job() -> None:
    job = sdk(
        compute="gpu-cluster",
        instance_count=4,
        shm_size="16g",
        distribution=PyTorchDistribution(process_count_per_instance=8),
    )
    assert ours(compute={"class": "big"}) == sent(job)


def test_a_job_started_by_mpi() -> None:
    shape = {"azureML": {"compute": "gpu-cluster", "distribution": {"type": "MPI", "processCountPerInstance": 2}}}
    found = translate(attempt(workspace={"computeClasses": {**CLASSES, "mpi": shape}}, compute={"class": "mpi"})).body[
        "properties"
    ]
    job = sent(sdk(compute="gpu-cluster", distribution=MpiDistribution(process_count_per_instance=2)))
    assert (found["distribution"], found["computeId"]) == (job["distribution"], job["computeId"])


def test_a_job_with_data() -> None:
    spec = {
        "inputs": {
            "folder": {"uri": "azureml://datastores/lake/paths/raw"},
            "file": {"uri": "wasbs://raw@acme.blob.core.windows.net/a.csv", "form": "File"},
            "model": {"uri": "azureml:churn:3", "form": "MLflowModel"},
            "asset": {"uri": "azureml:wine:1"},
        },
        "outputs": {"made": {"uri": "azureml://datastores/lake/paths/made"}},
    }
    found = ours(**spec)
    job = sdk(
        instance_type="Standard_DS3_v2",
        command=found["command"],
        inputs={
            "folder": Input(type="uri_folder", path="azureml://datastores/lake/paths/raw", mode="ro_mount"),
            "file": Input(type="uri_file", path="wasbs://raw@acme.blob.core.windows.net/a.csv", mode="ro_mount"),
            "model": Input(type="mlflow_model", path="azureml:churn:3", mode="ro_mount"),
            "asset": Input(type="uri_folder", path="azureml:wine:1", mode="ro_mount"),
        },
        outputs={"made": Output(type="uri_folder", path="azureml://datastores/lake/paths/made", mode="rw_mount")},
    )
    assert found == sent(job)


@pytest.mark.parametrize(
    ("name", "identity"),
    [("trainer", lambda: ManagedIdentityConfiguration(client_id=IDENTITY)), ("me", UserIdentityConfiguration)],
)
def test_a_job_as_another_identity(name: str, identity: Callable[[], Any]) -> None:
    assert ours(runAs=name) == sent(sdk(instance_type="Standard_DS3_v2", identity=identity()))


def test_a_sweep() -> None:
    block = {
        "jobType": "Sweep",
        "searchSpace": {"lr": ["uniform", [0.01, 0.1]], "depth": ["choice", [[1, 2]]]},
        "objective": {"goal": "maximize", "primaryMetric": "accuracy"},
        "samplingAlgorithm": {"samplingAlgorithmType": "Random"},
        "limits": {"maxTotalTrials": 4, "maxConcurrentTrials": 2},
    }
    found = ours(entrypoint={"args": ["--lr=$(params.lr)", "$(params.depth)"]}, params={"lr": "0.5"}, azureML=block)
    assert found["trial"]["command"] == 'python main.py --lr="${{search_space.lr}}" "${{search_space.depth}}"'
    # The SDK itself makes search_space of the inputs that are searched.
    written = found["trial"]["command"].replace("search_space", "inputs")
    job = sdk(instance_type="Standard_DS3_v2", command=written, inputs={"lr": 0.5, "depth": 1})
    sweep = job(lr=Uniform(0.01, 0.1), depth=Choice([1, 2])).sweep(
        primary_metric="accuracy", goal="maximize", sampling_algorithm="random"
    )
    for name in ("name", "experiment_name", "display_name", "tags"):
        setattr(sweep, name, getattr(job, name))
    sweep.set_limits(max_total_trials=4, max_concurrent_trials=2, timeout=600)
    assert found == sent(sweep)


def test_an_environment_that_is_described() -> None:
    found = request(environment={"pip": ["scikit-learn==1.9.1"]}).environment
    assert found is not None
    described = Environment(
        image=found["properties"]["image"],
        conda_file={
            "name": "trainyard",
            "channels": ["conda-forge"],
            "dependencies": ["python=3.11", "pip", {"pip": ["scikit-learn==1.9.1"]}],
        },
    )
    described._is_anonymous = True
    expected = without_empty(described._to_rest_object().as_dict())["properties"]
    mine = dict(found["properties"])
    assert mine.pop("osType") == "Linux"
    assert yaml.safe_load(mine.pop("condaFile")) == yaml.safe_load(expected.pop("condaFile"))
    assert mine == expected
