"""Manifests that mean the same on each platform. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any


def training_run(
    workspace: str, namespace: str, name: str, code: str | Mapping[str, Any] | None = "print('hello')", **spec: Any
) -> dict[str, Any]:
    """An MLTrainingRun on the compute class small. `code` is inline source or spec.code; a None is left out."""
    source = {"inline": code} if isinstance(code, str) else code
    fields = {"workspaceRef": {"name": workspace}, "code": source, "compute": {"class": "small"}, **spec}
    return {
        "apiVersion": "trainyard.dev/v1alpha1",
        "kind": "MLTrainingRun",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {field: value for field, value in fields.items() if value is not None},
    }


def served_from(source: Mapping[str, Any], name: str = "champion", **fields: Any) -> dict[str, Any]:
    """One of spec.models: what that names, on the compute class serving. A None is left out."""
    made = {"name": name, "model": dict(source), "compute": {"class": "serving"}, **fields}
    return {field: value for field, value in made.items() if value is not None}


def served(version: str, name: str = "champion", model: str = "wine", **fields: Any) -> dict[str, Any]:
    """The same of a version of a registered model."""
    return served_from({"name": model, "version": version}, name, **fields)


def model_deployment(
    workspace: str, namespace: str, name: str, models: Sequence[Mapping[str, Any]], **spec: Any
) -> dict[str, Any]:
    """A ModelDeployment. A field that is None is left out."""
    fields = {"workspaceRef": {"name": workspace}, "models": [dict(each) for each in models], **spec}
    return {
        "apiVersion": "trainyard.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {field: value for field, value in fields.items() if value is not None},
    }
