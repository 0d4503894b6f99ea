"""Turns an object of the API server into the snapshot that `core` decides on. Pure."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from trainyard.api.training_run import MLTrainingRunSpec, MLTrainingRunStatus
from trainyard.core.snapshot import FINALIZER, RunSnapshot
from trainyard.core.times import parse
from trainyard.core.tokens import spec_digest


def run_snapshot(obj: Mapping[str, Any]) -> RunSnapshot:
    """The MLTrainingRun as decisions see it. A spec that can not be read is told, not raised."""
    meta = obj["metadata"]
    spec, error = None, ""
    try:
        spec = MLTrainingRunSpec.model_validate(obj.get("spec", {}))
    except ValidationError as invalid:
        error = first_error(invalid)
    deleting = meta.get("deletionTimestamp")
    return RunSnapshot(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        generation=int(meta.get("generation", 0)),
        deleting_since=parse(deleting) if deleting else None,
        has_finalizer=FINALIZER in meta.get("finalizers", []),
        spec=spec,
        spec_error=error,
        spec_digest=spec_digest(obj.get("spec", {})),
        status=MLTrainingRunStatus.model_validate(obj.get("status") or {}),
        orphan=is_orphan(obj),
        tracked_by=_tracked_by(meta),
    )


def is_orphan(obj: Mapping[str, Any]) -> bool:
    """Whether deleting the object leaves what it made; read from it as it came, whatever else its spec says."""
    return bool(obj.get("spec", {}).get("deletionPolicy") == "Orphan")


def _tracked_by(meta: Mapping[str, Any]) -> str | None:
    """Who would make the object again. app.kubernetes.io/instance says nothing: most Helm charts set it."""
    annotations, labels = meta.get("annotations") or {}, meta.get("labels") or {}
    if "argocd.argoproj.io/tracking-id" in annotations or "argocd.argoproj.io/instance" in labels:
        return "Argo CD"
    if "kustomize.toolkit.fluxcd.io/name" in labels or "helm.toolkit.fluxcd.io/name" in labels:
        return "Flux"
    return None


def first_error(invalid: ValidationError) -> str:
    """The first complaint, with the field as it is written in YAML."""
    error = invalid.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in ("spec", *error["loc"]))
    return f"{where}: {error['msg']}"
