"""Online endpoints really answer: with the model that was registered, by shares, to who may ask."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from trainyard_sandbox.client import SandboxControl

from .azure_fixtures import Arm
from .azure_online import COLUMNS, DEPLOYMENT, INPUT, ROWS, Online, new_name, save_models
from .conftest import wait_until


@pytest.fixture
def online(control: SandboxControl, arm: Arm, data_scientist: str) -> Iterator[Online]:
    yield Online(control, arm, data_scientist)
    control.clear_serving_scripts()
    control.azure_serving_settings()
    for endpoint in control.azure_endpoints():
        control.delete_azure_endpoint(endpoint["name"])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models: `iris`, and `bare`, whose environment lacks the inference server."""
    path = tmp_path_factory.mktemp("models")
    save_models(f"{path}/iris azureml-inference-server-http", f"{path}/bare")
    return path


@pytest.fixture
def model(online: Online) -> str:
    return online.pretended()


def test_a_registered_model_is_loaded_and_answers_with_its_own_predictions(online: Online, folders: Path) -> None:
    model = online.register(folders / "iris", new_name("iris"))
    endpoint = online.make()
    assert online.score(endpoint).status_code == 404, "nothing has a share yet"
    made = online.deployed(endpoint, "blue", model)
    assert made["properties"]["provisioningState"] == "Succeeded", online.logs(endpoint, "blue")
    assert online.score(endpoint).status_code == 404
    assert online.score(endpoint, azureml_model_deployment="blue").json() == [0, 1, 2]
    assert online.score(endpoint, azureml_model_deployment="green").status_code == 404
    online.share(endpoint, blue=100)
    answer = online.score(endpoint)
    assert (answer.status_code, answer.json()) == (200, [0, 1, 2])
    assert answer.headers["azureml-model-deployment"] == "blue"
    assert "UserContainerStart: Succeeded" in online.logs(endpoint, "blue")
    assert "Model download succeeded" in online.logs(endpoint, "blue", containerType="StorageInitializer")
    wrong = online.score(endpoint, {"dataframe_split": {"columns": COLUMNS, "data": ROWS}})
    assert (wrong.status_code, wrong.headers["ms-azureml-model-error-statuscode"]) == (424, "500")
    assert "input_data" in online.logs(endpoint, "blue")
    misshapen = online.score(endpoint, {"input_data": {"columns": ["x"], "index": [0], "data": [[1]]}})
    assert misshapen.status_code == 424


def test_a_model_without_the_inference_server_fails_with_logs_that_say_so(online: Online, folders: Path) -> None:
    endpoint = online.make()
    made = online.deployed(endpoint, "blue", online.register(folders / "bare", new_name("bare")))
    assert made["properties"]["provisioningState"] == "Failed"
    assert "A required package azureml-inference-server-http is missing" in online.logs(endpoint, "blue")
    uri = made["properties"]["properties"]["AzureAsyncOperationUri"]
    token = online.control.issue_azure_token(online.client_id, online.control.address.azure.resource_manager)
    headers = {"Authorization": f"Bearer {token}"}
    told = requests.get(uri, headers=headers, verify=str(online.control.address.ca_file), timeout=10).json()
    assert (told["status"], told["error"]["code"]) == ("Failed", "ResourceNotReady")
    refused = online.put(endpoint, traffic={"blue": 100})
    assert "Failed provisioning state" in refused.json()["error"]["message"]
    again = online.deploy(endpoint, "blue", made["properties"]["model"])
    assert "unrecoverable state. Delete and re-create" in again.text
    assert online.control.azure_deployment(endpoint, "blue")["reserved_cores"] == 8, "it keeps its machines"


def test_requests_are_shared_as_the_traffic_says(online: Online, model: str) -> None:
    online.control.script_serving(platform="azure", pretend=True, served="green", predictions=["green"])
    online.control.script_serving(platform="azure", pretend=True, served="blue", predictions=["blue"])
    endpoint = online.make()
    for name in ("blue", "green"):
        online.deployed(endpoint, name, model)
    online.share(endpoint, blue=90, green=10)
    answers = Counter(online.score(endpoint).json()[0] for _ in range(50))
    assert answers == {"blue": 45, "green": 5}
    assert online.control.azure_deployment(endpoint, "green")["statuses"] == {"200": 5}


def test_what_serves_answers_on_while_its_deployment_is_updated_or_that_fails(online: Online, model: str) -> None:
    online.control.script_serving(platform="azure", pretend=True, predictions=["old"])
    endpoint = online.make()
    online.deployed(endpoint, "blue", model)
    online.share(endpoint, blue=100)
    online.control.script_serving(platform="azure", provisioning_seconds=0.4, provisioning_error="no machines")
    changed = online.deploy(endpoint, "blue", model, environmentVariables={"A": "1"})
    assert (changed.status_code, changed.json()["properties"]["provisioningState"]) == (200, "Updating")
    assert online.get(endpoint)["properties"]["provisioningState"] == "Updating"
    assert online.score(endpoint).json() == ["old"] * 3
    online.settled(endpoint)
    assert online.deployment(endpoint, "blue")["properties"]["provisioningState"] == "Failed"
    assert "no machines" in online.logs(endpoint, "blue")
    assert online.score(endpoint).json() == ["old"] * 3


def test_only_who_may_score_is_answered(online: Online, model: str) -> None:
    online.control.script_serving(platform="azure", pretend=True)
    control, azure = online.control, online.control.address.azure
    endpoint = online.make()
    online.deployed(endpoint, "blue", model)
    online.share(endpoint, blue=100)
    stranger = control.add_application("stranger")
    token = control.issue_azure_token(stranger, azure.ml_resource)
    assert online.score(endpoint, token=token).status_code == 403
    scope = f"{azure.workspace_scope}/onlineEndpoints/{endpoint}"
    control.assign_role(stranger, "AzureML Data Scientist", scope)
    assert online.score(endpoint, token=token).status_code == 200
    assert online.score(endpoint, token=control.issue_azure_token(stranger, azure.resource_manager)).status_code == 401
    assert online.score(endpoint, token="nonsense").status_code == 401
    assert online.score(endpoint, token=control.issue_azure_token(stranger, azure.ml_resource, 0)).status_code == 401


def test_keys_and_tokens_of_the_endpoint_open_it(online: Online, model: str) -> None:
    online.control.script_serving(platform="azure", pretend=True)
    endpoint = online.make("Key")
    online.deployed(endpoint, "blue", model)
    assert online.put(endpoint, "Key", traffic={"blue": 100}).status_code == 200
    online.settled(endpoint)
    keys = online.call("POST", f"/{endpoint}/listKeys").json()
    assert online.score(endpoint, token=keys["primaryKey"]).status_code == 200
    assert online.score(endpoint, token=keys["secondaryKey"]).status_code == 200
    refused = online.score(endpoint)
    assert (refused.status_code, refused.text) == (401, "key_auth_access_denied")
    assert online.call("POST", f"/{endpoint}/regenerateKeys", {"keyType": "Primary"}).status_code == 202
    assert online.score(endpoint, token=keys["primaryKey"]).status_code == 401
    assert online.call("POST", f"/{endpoint}/token").status_code == 400
    assert online.put(endpoint, "AMLToken", traffic={"blue": 100}).status_code == 200
    online.settled(endpoint)
    token = online.call("POST", f"/{endpoint}/token").json()
    assert online.score(endpoint, token=token["accessToken"]).status_code == 200
    assert token["expiryTimeUtc"] > token["refreshAfterTimeUtc"] > time.time()


def test_requests_beyond_twice_the_concurrency_and_slow_ones_are_refused(online: Online, model: str) -> None:
    online.control.script_serving(platform="azure", pretend=True, latency_seconds=0.6)
    endpoint = online.make()
    settings = {"requestTimeout": "PT1S", "maxConcurrentRequestsPerInstance": 1}
    online.deployed(endpoint, "blue", model, requestSettings=settings)
    online.share(endpoint, blue=100)
    with ThreadPoolExecutor(6) as pool:
        statuses = Counter(answer.status_code for answer in pool.map(lambda _: online.score(endpoint), range(6)))
    assert statuses == {200: 2, 429: 4}
    online.control.script_serving(platform="azure", latency_seconds=3)
    assert online.score(endpoint).status_code == 408
    online.control.script_serving(platform="azure", latency_seconds=0, error_rate=1.0, error_status=502)
    failed = online.score(endpoint)
    assert (failed.status_code, failed.headers["ms-azureml-model-error-statuscode"]) == (424, "502")
    online.control.fail_azure_deployment(endpoint, "blue")
    assert online.score(endpoint).status_code == 503


def test_secrets_reach_the_model_only_through_an_endpoint_that_may_read_them(online: Online, model: str) -> None:
    online.control.script_serving(platform="azure", pretend=True)
    online.control.azure_serving_settings(secrets={"azureml://connections/hub/credentials/key": "s3cret"})
    variables = {"HUB_KEY": "${{azureml://connections/hub/credentials/key}}"}
    closed = online.make()
    failed = online.deployed(closed, "blue", model, environmentVariables=variables)
    assert failed["properties"]["provisioningState"] == "Failed"
    failure = online.control.azure_deployment(closed, "blue")["failure"]
    assert failure[0] == "SecretsInjectionError"
    assert "s3cret" not in failure[1]
    opened = online.make(properties={"enforce_access_to_default_secret_stores": "enabled"})
    made = online.deployed(opened, "blue", model, environmentVariables=variables)
    assert made["properties"]["provisioningState"] == "Succeeded"
    assert made["properties"]["environmentVariables"] == variables, "a GET never tells the secret"


def test_a_deleted_deployment_and_endpoint_answer_no_more(online: Online, model: str) -> None:
    online.control.script_serving(platform="azure", pretend=True)
    endpoint = online.make()
    online.deployed(endpoint, "blue", model)
    online.share(endpoint, blue=100)
    uri = online.get(endpoint)["properties"]["scoringUri"]
    assert online.call("DELETE", f"/{endpoint}").status_code == 202
    wait_until(lambda: online.call("GET", f"/{endpoint}").status_code == 404)
    ca_file = str(online.control.address.ca_file)
    assert requests.post(uri, json={}, verify=ca_file, timeout=10).status_code == 404
    assert online.control.served_models("azure", endpoint) == []


def test_no_request_fails_while_shares_move_and_what_has_none_is_deleted(online: Online, model: str) -> None:
    online.control.script_serving(platform="azure", pretend=True, latency_seconds=0.02)
    settings = {"maxConcurrentRequestsPerInstance": 20}
    endpoint = online.make()
    online.deployed(endpoint, "blue", model, requestSettings=settings)
    online.share(endpoint, blue=100)
    azure, ca_file = online.control.address.azure, str(online.control.address.ca_file)
    headers = {"Authorization": f"Bearer {online.control.issue_azure_token(online.client_id, azure.ml_resource)}"}
    uri = online.get(endpoint)["properties"]["scoringUri"]
    stop = threading.Event()

    def ask() -> list[int]:
        statuses: list[int] = []
        with requests.Session() as session:
            while not stop.is_set():
                answer = session.post(uri, json=INPUT, headers=headers, verify=ca_file, timeout=30)
                statuses.append(answer.status_code)
        return statuses

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        try:
            online.deployed(endpoint, "green", model, requestSettings=settings)
            online.share(endpoint, blue=50, green=50)
            online.share(endpoint, blue=0, green=100)
            assert online.call("DELETE", f"/{endpoint}/deployments/blue", version=DEPLOYMENT).status_code == 202
            online.settled(endpoint)
            online.deployed(endpoint, "green", model, requestSettings=settings, environmentVariables={"A": "1"})
        finally:
            stop.set()
    statuses = Counter(status for asked in asking for status in asked.result())
    assert set(statuses) == {200}
    assert statuses.total() > 20
    assert online.get(endpoint)["properties"]["traffic"] == {"green": 100}
