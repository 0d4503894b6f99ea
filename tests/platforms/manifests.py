"""Manifests that mean the same on each platform. Pure."""

from collections.abc import Mapping
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
