"""MLflow model folders made by hand, and a way into Unity Catalog without a training run: quick, since no MLflow is
imported here. The sandbox really loads them."""

from __future__ import annotations

import json

import requests
from databricks.sdk import WorkspaceClient

SIGNATURE = {
    "inputs": json.dumps([{"name": "x", "type": "double", "required": True}]),
    "outputs": json.dumps([{"type": "double", "required": True}]),
}

DOUBLES = """
import os

class Model:
    def __init__(self):
        self.factor = float(os.environ.get("FACTOR", "2"))

    def predict(self, rows):
        return [self.factor * x for x in rows["x"]]

def _load_pyfunc(path):
    return Model()
"""
"""Answers x times FACTOR, or twice x."""

TRIPLES = DOUBLES.replace('"2"', '"3"')
RAISES = DOUBLES.replace(
    "return [self.factor * x", 'raise RuntimeError("no such leaf")\n        return [self.factor * x'
)
BROKEN = """
print("looking for the weights")

def _load_pyfunc(path):
    raise FileNotFoundError("weights.bin")
"""


def model_files(code: str, *, signed: bool = True, requirements: str = "scikit-learn\n") -> dict[str, bytes]:
    """The files of a model whose `_load_pyfunc` is in `code`; it takes a column x."""
    description = {
        "flavors": {"python_function": {"loader_module": "handmade", "code": "code", "python_version": "3.11.0"}},
        **({"signature": SIGNATURE} if signed else {}),
    }
    return {
        "MLmodel": json.dumps(description).encode(),  # JSON is YAML
        "requirements.txt": requirements.encode(),
        "code/handmade.py": code.encode(),
    }


def register(workspace: WorkspaceClient, name: str, files: dict[str, bytes], ca_file: str) -> str:
    """A new version of a model in Unity Catalog with these files, made as MLflow's client makes it; its number."""
    registry, do = "/api/2.0/mlflow/unity-catalog", workspace.api_client.do
    if name not in [model.full_name for model in workspace.registered_models.list()]:
        do("POST", f"{registry}/registered-models/create", body={"name": name})
    made = do("POST", f"{registry}/model-versions/create", body={"name": name, "source": "dbfs:/handmade"})
    assert isinstance(made, dict)
    version: str = str(made["model_version"]["version"])
    for path, content in files.items():
        target = f"/Models/{name.replace('.', '/')}/{version}/{path}"
        url = do("POST", "/api/2.0/fs/create-upload-url", body={"path": target})
        assert isinstance(url, dict)
        requests.put(url["url"], data=content, verify=ca_file, timeout=30).raise_for_status()
    do("POST", f"{registry}/model-versions/finalize", body={"name": name, "version": version})
    return version
