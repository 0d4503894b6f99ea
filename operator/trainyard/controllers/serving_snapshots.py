"""Turns a ModelDeployment of the API server into what `core.serving` decides on, and a run into a model's origin.

Used by the controller of deployments and its readiness. Pure.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from trainyard.api.deployment_status import EndpointStatus, Origin
from trainyard.api.model_deployment import ModelDeploymentSpec, ModelDeploymentStatus
from trainyard.api.training_run import MLTrainingRunStatus
from trainyard.controllers.snapshots import first_error, is_orphan
from trainyard.controllers.store import Object
from trainyard.core.conditions import FINAL
from trainyard.core.serving.seen import ResolvedModel
from trainyard.core.serving.snapshot import ENDPOINT_FINALIZER, DeploymentSnapshot
from trainyard.core.snapshot import Blocked, Target
from trainyard.core.times import parse
from trainyard.core.transition import newest


def deployment_snapshot(obj: Mapping[str, Any]) -> DeploymentSnapshot:
    """The ModelDeployment as decisions see it. A spec that can not be read is told, not raised."""
    meta = obj["metadata"]
    spec, error = None, ""
    try:
        spec = ModelDeploymentSpec.model_validate(obj.get("spec", {}))
    except ValidationError as invalid:
        error = first_error(invalid)
    deleting = meta.get("deletionTimestamp")
    return DeploymentSnapshot(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        generation=int(meta.get("generation", 0)),
        created_at=parse(meta["creationTimestamp"]),
        deleting_since=parse(deleting) if deleting else None,
        has_finalizer=ENDPOINT_FINALIZER in meta.get("finalizers", []),
        spec=spec,
        spec_error=error,
        status=ModelDeploymentStatus.model_validate(obj.get("status") or {}),
        orphan=is_orphan(obj),
    )


def endpoint_target(endpoint: EndpointStatus) -> Target:
    """Where the endpoint was made and as whom, whatever its workspace says now."""
    return Target(
        endpoint.platform,
        endpoint.host,
        endpoint.principal,
        endpoint.mode,
        endpoint.service_account or "",
        endpoint.tenant or "",
        endpoint.identity,
    )


def run_status(run: Object) -> MLTrainingRunStatus:
    """The run's status; the spec of a finished run is not kept whole."""
    return MLTrainingRunStatus.model_validate(run.get("status") or {})


def run_origin(run: Object) -> Origin:
    """What the run tells of the model version that it made."""
    attempt = newest(run_status(run))
    return Origin(
        run=run["metadata"]["name"],
        uid=run["metadata"]["uid"],
        mlflow_run_id=attempt.mlflow_run_id if attempt is not None else None,
        commit=attempt.commit if attempt is not None else None,
        code_digest=attempt.code_digest if attempt is not None else None,
        submitted_as=attempt.principal if attempt is not None else None,
    )


def completed(found: Origin | None, told: Origin | None) -> Origin | None:
    """What the platform knows of a version's origin, completed by what our own run of the same uid tells."""
    if found is None or told is None:
        return found or told
    if found.uid is not None and found.uid != told.uid:
        return found
    return Origin.model_validate({**told.model_dump(exclude_none=True), **found.model_dump(exclude_none=True)})


def model_of_run(name: str, namespace: str, run: Object | None, target: Target) -> ResolvedModel | Blocked:
    """The model version that the run has registered, or why there is none (yet). `target` is where it is to serve."""
    if run is None:
        return Blocked("RunNotFound", f"MLTrainingRun {name} does not exist in namespace {namespace}", waiting=True)
    status = run_status(run)
    attempt = newest(status)
    # Unity Catalog may be shared by workspaces; on Azure ML another workspace's version is another model.
    near = attempt is None or attempt.platform == target.platform
    if attempt is not None and (not near or (target.platform == "azureml" and attempt.host != target.host)):
        where = (attempt.host, target.host) if near else (attempt.platform, target.platform)
        message = (
            f"MLTrainingRun {name} ran on {where[0]}, and this deployment's workspace is on {where[1]}: name a "
            f"workspace of the same platform{', the same one on Azure ML' if near else ''}"
        )
        return Blocked("RunElsewhere", message, waiting=False)
    if status.model is not None:
        return ResolvedModel(status.model.name, status.model.version, run_origin(run))
    if status.phase in FINAL and status.phase != "Succeeded":
        message = f"MLTrainingRun {name} ended as {status.phase} and has registered no model: serve another one"
        return Blocked("RunFailed", message, waiting=False)
    if status.phase == "Succeeded" or "model" not in run.get("spec", {}):
        message = f"MLTrainingRun {name} registers no model: give it spec.model, in a new run, or serve another one"
        return Blocked("RunHasNoModel", message, waiting=False)
    return Blocked("RunNotFinished", f"MLTrainingRun {name} has not registered its model yet", waiting=True)
