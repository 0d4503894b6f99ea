"""Plain requests about online endpoints, as one application, and a real MLflow model to serve, for their tests."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import requests

from trainyard_sandbox.client import SandboxControl

from .azure_fixtures import Arm
from .conftest import wait_until

ENDPOINT, DEPLOYMENT = "2022-02-01-preview", "2023-04-01-preview"
"""The api-versions that azure-ai-ml uses."""
SIZE = "Standard_DS3_v2"
COLUMNS = [f"{part} {side} (cm)" for part in ("sepal", "petal") for side in ("length", "width")]
ROWS = [[5.1, 3.5, 1.4, 0.2], [5.9, 3.0, 4.2, 1.5], [6.9, 3.1, 5.4, 2.1]]
"""One iris of each kind."""
INPUT = {"input_data": {"columns": COLUMNS, "index": [0, 1, 2], "data": ROWS}}
_SAVE = """
import sys

import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

X, y = load_iris(return_X_y=True, as_frame=True)
model = LogisticRegression(max_iter=500).fit(X, y)
signature = mlflow.models.infer_signature(X, model.predict(X))
for folder, *requirements in map(str.split, sys.argv[1:]):
    mlflow.sklearn.save_model(model, folder, signature=signature, pip_requirements=["scikit-learn", *requirements])
"""


def save_models(*asked: str) -> None:
    """Classifiers of irises as MLflow models, each "folder requirement ...", saved by a process of its own."""
    subprocess.run([sys.executable, "-c", _SAVE, *asked], check=True, capture_output=True, timeout=240)


def new_name(prefix: str = "ep") -> str:
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


class Online:
    """Plain requests as one application."""

    def __init__(self, control: SandboxControl, arm: Arm, client_id: str) -> None:
        self.control, self.arm, self.client_id = control, arm, client_id

    def register(self, folder: Path, name: str, version: str = "1", **properties: Any) -> str:
        """Put a model's files where a job's MLflow run keeps them and register them; the version's resource id."""
        job = f"job-{uuid.uuid4().hex[:8]}"
        for file in filter(Path.is_file, folder.rglob("*")):
            blob = f"ExperimentRun/dcid.{job}/model/{file.relative_to(folder)}"
            self.control.put_azure_blob("workspaceartifactstore", blob, file.read_bytes())
        uri = f"azureml://jobs/{job}/outputs/artifacts/paths/model"
        body = {"properties": {"modelUri": uri, "modelType": "mlflow_model"} | properties}
        below = f"/models/{name}/versions/{version}"
        answer = self.arm(self.client_id, "PUT", below, version="2023-08-01-preview", json=body)
        assert answer.status_code == 201, answer.text
        found: str = answer.json()["id"]
        return found

    def pretended(self) -> str:
        """A version whose files do not matter, where nothing is loaded; its resource id."""
        name = new_name("m")
        properties = {"modelUri": "azureml://datastores/workspaceblobstore/paths/m", "modelType": "mlflow_model"}
        self.control.add_azure_asset("models", name, "1", **properties)
        return f"{self.control.address.azure.workspace_scope}/models/{name}/versions/1"

    def call(self, method: str, path: str, body: Any = None, version: str = ENDPOINT) -> requests.Response:
        options = {} if body is None else {"json": body}
        return self.arm(self.client_id, method, f"/onlineEndpoints{path}", version=version, **options)

    def body(self, mode: str = "AADToken", **properties: Any) -> dict[str, Any]:
        return {
            "location": self.control.address.azure.region,
            "identity": {"type": "SystemAssigned"},
            "tags": {"team": "a"},
            "properties": {"authMode": mode} | properties,
        }

    def put(self, name: str, mode: str = "AADToken", **properties: Any) -> requests.Response:
        return self.call("PUT", f"/{name}", self.body(mode, **properties))

    def make(self, mode: str = "AADToken", **properties: Any) -> str:
        """A new endpoint that is there."""
        name = new_name()
        answer = self.put(name, mode, **properties)
        assert answer.status_code == 201, answer.text
        self.settled(name)
        return name

    def deployment_body(self, model: str, capacity: int = 1, **properties: Any) -> dict[str, Any]:
        given = {"endpointComputeType": "Managed", "model": model, "instanceType": SIZE} | properties
        sku = {"name": "Default", "capacity": capacity}
        return {"location": self.control.address.azure.region, "sku": sku, "properties": given}

    def deploy(self, endpoint: str, name: str, model: str, capacity: int = 1, **properties: Any) -> requests.Response:
        body = self.deployment_body(model, capacity, **properties)
        return self.call("PUT", f"/{endpoint}/deployments/{name}", body, DEPLOYMENT)

    def deployed(self, endpoint: str, name: str, model: str, **properties: Any) -> dict[str, Any]:
        """A deployment that has come to an end, with success or not."""
        answer = self.deploy(endpoint, name, model, **properties)
        assert answer.status_code in (200, 201), answer.text
        self.settled(endpoint)
        return self.deployment(endpoint, name)

    def get(self, name: str) -> dict[str, Any]:
        answer = self.call("GET", f"/{name}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def deployment(self, endpoint: str, name: str) -> dict[str, Any]:
        answer = self.call("GET", f"/{endpoint}/deployments/{name}", version=DEPLOYMENT)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def settled(self, name: str) -> str:
        """The endpoint's state once nothing is under way."""
        ends = ("Succeeded", "Failed")

        def look() -> str | None:
            state: str = self.get(name)["properties"]["provisioningState"]
            return state if state in ends else None

        found: str = wait_until(look, 60)
        return found

    def share(self, name: str, **traffic: int) -> None:
        """Give deployments these shares."""
        answer = self.put(name, traffic=traffic)
        assert answer.status_code == 200, answer.text
        self.settled(name)

    def score(self, endpoint: str, body: Any = None, token: str | None = None, **headers: str) -> requests.Response:
        """A request to the scoring URI that the endpoint tells of."""
        azure = self.control.address.azure
        shown = token or self.control.issue_azure_token(self.client_id, azure.ml_resource)
        sent = {"Authorization": f"Bearer {shown}"} | {key.replace("_", "-"): value for key, value in headers.items()}
        uri = self.get(endpoint)["properties"]["scoringUri"]
        given = INPUT if body is None else body
        return requests.post(uri, json=given, headers=sent, verify=str(self.control.address.ca_file), timeout=60)

    def logs(self, endpoint: str, name: str, **asked: Any) -> str:
        answer = self.call("POST", f"/{endpoint}/deployments/{name}/getLogs", asked, DEPLOYMENT)
        assert answer.status_code == 200, answer.text
        content: str = answer.json()["content"]
        return content


def refused_because(answer: requests.Response) -> tuple[int, str, str]:
    """Status, code and all sentences of a refusal."""
    error = answer.json()["error"]
    details = " ".join(str(detail["message"]) for detail in error.get("details", []))
    return answer.status_code, error["code"], f"{error['message']} {details}".strip()
