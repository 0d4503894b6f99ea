"""The workspace's models as MLflow shows them, and how a run's files become a model version; no HTTP.

mlflow_registry.py calls it. The versions are those that Azure Resource Manager shows, in `state.azure.models`.

Azure Machine Learning documentation, "Manage models registry in Azure Machine Learning with MLflow"; the model's path
below `workspaceartifactstore` and `jobName`: azure-ai-ml `entities/_assets/_artifacts/model.py` and what `az ml model
show` prints of a model that a run registered. `flavors` are read from the file MLmodel (mlflow documentation, "MLflow
model format").
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from trainyard_sandbox.azure.assets import AssetContainer, AssetVersion
from trainyard_sandbox.azure.blob_store import AzureBlobs
from trainyard_sandbox.azure.engine.logs import LOG_CONTAINER
from trainyard_sandbox.azure.mlflow_errors import invalid
from trainyard_sandbox.azure.mlflow_tracking import ARTIFACT_ROOT
from trainyard_sandbox.azure.state import AzureState

STORE = "workspaceartifactstore"
STAGES = ("None", "Staging", "Production", "Archived")

_SOURCE = re.compile(
    rf"(?:runs:/(?P<run>[^/]+)/|mlflow-artifacts:/*{re.escape(ARTIFACT_ROOT)}(?P<dcid>[^/]+)/|"
    rf"azureml://(?:subscriptions/.+?/)?datastores/{STORE}/paths/{re.escape(ARTIFACT_ROOT)}(?P<stored>[^/]+)/)"
    r"(?P<path>.+?)/?"
)


def located(source: str, run_id: str) -> tuple[str, str]:
    """The run and the path below its artifacts that a source names.

    Raises:
        MlflowError: 400, it is nothing that a run of the workspace has.
    """
    found = _SOURCE.fullmatch(source)
    if found is None:
        raise invalid(
            f"Invalid model version source: '{source}'. In this workspace a version is registered from a run: "
            "runs:/<run id>/<path>."
        )
    run = found["run"] or found["dcid"] or found["stored"]
    if run_id not in ("", run):
        raise invalid(f"Invalid model version source: '{source}' is not of run {run_id}.")
    if ".." in found["path"].split("/"):
        raise invalid(f"Invalid model version source: '{source}'.")
    return run, found["path"]


def flavors(azure: AzureState, run_id: str, path: str) -> dict[str, Any]:
    """The flavors of the model in a run's artifacts; none while there is no file MLmodel."""
    blobs: AzureBlobs = azure.blobs
    name = f"{ARTIFACT_ROOT}{run_id}/{path}/MLmodel"
    if not blobs.exists(LOG_CONTAINER, name):
        return {}
    document = yaml.safe_load(blobs.read(LOG_CONTAINER, name))
    declared = document.get("flavors", {}) if isinstance(document, dict) else {}
    return {
        flavor: {"data": {key: str(value) for key, value in (fields or {}).items()}}
        for flavor, fields in declared.items()
    }


def shown_model(container: AssetContainer) -> dict[str, Any]:
    """A registered model, with the newest version of each stage."""
    changed = max([container.created_at, *(version.modified_at for version in container.versions.values())])
    latest: dict[str, AssetVersion] = {}
    for version in container.versions.values():
        latest[stage_of(version)] = version
    model = {
        "name": container.name,
        "creation_timestamp": int(container.created_at * 1000),
        "last_updated_timestamp": int(changed * 1000),
        "description": container.properties.get("description") or "",
        "tags": _tags(container.properties.get("tags")),
        "latest_versions": [shown_version(version) for version in latest.values()],
    }
    return {key: value for key, value in model.items() if value not in ("", [])}


def shown_version(version: AssetVersion) -> dict[str, Any]:
    """A model version; there are no aliases in this registry."""
    properties = version.properties
    shown = {
        "name": version.name,
        "version": version.version,
        "creation_timestamp": int(version.created_at * 1000),
        "last_updated_timestamp": int(version.modified_at * 1000),
        "user_id": version.author.name,
        "current_stage": stage_of(version),
        "description": properties.get("description") or "",
        "source": source_of(version),
        "run_id": properties.get("jobName") or "",
        "status": "READY",
        "tags": _tags(properties.get("tags")),
    }
    return {key: value for key, value in shown.items() if value not in ("", [])}


def source_of(version: AssetVersion) -> str:
    """Where MLflow's own client finds the files of a version that a run registered; else the path that ARM shows."""
    uri: str = version.properties.get("modelUri") or ""
    found = _SOURCE.fullmatch(uri)
    return f"mlflow-artifacts:/{ARTIFACT_ROOT}{found['stored']}/{found['path']}" if found and found["stored"] else uri


def stage_of(version: AssetVersion) -> str:
    """The stage of a version, `None` (the word) without one."""
    return version.properties.get("stage") or "None"


def version_fields(version: AssetVersion) -> dict[str, str]:
    """What a search may compare."""
    fields = {"name": version.name, "run_id": version.properties.get("jobName") or "", "source": source_of(version)}
    return fields | {f"tags.{key}": value for key, value in (version.properties.get("tags") or {}).items()}


def model_fields(container: AssetContainer) -> dict[str, str]:
    """What a search may compare."""
    tags = container.properties.get("tags") or {}
    return {"name": container.name} | {f"tags.{key}": value for key, value in tags.items()}


def _tags(tags: dict[str, str] | None) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in (tags or {}).items()]
