"""How run history writes a job: `Run`, `RunDetails` and the error of a failed run; no I/O.

history.py answers with them, mlflow_tracking.py takes the ids of experiments from here.

Fields: azure-ai-ml `_restclient/runhistory/models/_models.py` (Run, RunDetails, RunHistoryErrorResponse, RootError).
What the service does not say about a job is null there, and here.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from trainyard_sandbox.azure.job_shapes import duration_seconds
from trainyard_sandbox.azure.job_store import AzureJob, JobError, timestamp
from trainyard_sandbox.azure.state import AzureState

RUN_TYPES = {"Command": "azureml.scriptrun", "Sweep": "azureml.HyperDriveRun", "Pipeline": "azureml.PipelineRun"}
"""`runType` by `jobType`, as public listings of runs show them."""


def experiment_id(azure: AzureState, name: str) -> str:
    """The id of the experiment with this name, a GUID that is the same for the sandbox's whole life."""
    return str(uuid.uuid5(uuid.UUID(azure.workspace_guid), f"experiment/{name}"))


def run_uuid(azure: AzureState, run_id: str) -> str:
    """The GUID that run history gives a run beside its name."""
    return str(uuid.uuid5(uuid.UUID(azure.workspace_guid), f"run/{run_id}"))


def run(azure: AzureState, job: AzureJob) -> dict[str, Any]:
    """The job as a `Run`."""
    return _common(azure, job) | {
        "createdUtc": timestamp(job.created_at),
        "runId": job.name,
        "experimentId": experiment_id(azure, job.experiment),
        "displayName": job.display_name,
        "name": None,
        "description": job.description,
        "dataContainerId": f"dcid.{job.name}",
        "hidden": job.is_archived,
        "runType": RUN_TYPES.get(job.job_type, job.job_type),
        "isVirtual": False,
        "options": None,
        "actionUris": {},
        "scriptName": None,
        "uniqueChildRunComputeTargets": [],
        "primaryMetricName": (job.definition.get("objective") or {}).get("primaryMetric"),
        "createdFrom": None,
        "cancelUri": None,
        "completeUri": None,
        "diagnosticsUri": None,
        "retainForLifetimeOfWorkspace": False,
        "queueingInfo": None,
        "activeChildRunId": None,
        "hasVirtualParent": False,
        "token": None,
        "tokenExpiryTimeUtc": None,
    }


def run_details(azure: AzureState, job: AzureJob, log_files: Mapping[str, str]) -> dict[str, Any]:
    """The job as `RunDetails`.

    Args:
        log_files: a URL that may be read as it is, by name of the log file.
    """
    return _common(azure, job) | {
        "runId": job.name,
        "createdTimeUtc": timestamp(job.created_at),
        "runDefinition": run_definition(job),
        "logFiles": dict(log_files),
        "jobCost": None,
    }


def run_definition(job: AzureJob) -> dict[str, Any]:
    """What the job runs and on what, in run history's older words."""
    resources: dict[str, Any] = job.definition.get("resources") or {}
    limits: dict[str, Any] = job.definition.get("limits") or {}
    instance_type = resources.get("instanceType")
    return {
        "script": None,
        "command": job.definition.get("command"),
        "useAbsolutePath": False,
        "arguments": [],
        "communicator": (job.definition.get("distribution") or {}).get("distributionType", "None"),
        "target": job.compute,
        "jobName": job.display_name,
        "maxRunDurationSeconds": int(duration_seconds(limits.get("timeout", ""))) or None,
        "nodeCount": resources.get("instanceCount", 1),
        "instanceTypes": [instance_type] if instance_type else [],
        "environmentVariables": dict(job.definition.get("environmentVariables") or {}),
    }


def error_response(azure: AzureState, job: AzureJob, error: JobError) -> dict[str, Any]:
    """Why the job failed, as `RunHistoryErrorResponse`."""
    nested: dict[str, Any] | None = None
    for code in reversed(error.inner):
        nested = {"code": code, "innerError": nested}
    return {
        "error": {
            "code": error.code,
            "severity": None,
            "message": error.message,
            "messageFormat": None,
            "messageParameters": {},
            "referenceCode": None,
            "detailsUri": None,
            "target": None,
            "details": [],
            "innerError": nested,
            "debugInfo": None,
            "additionalInfo": None,
        },
        "correlation": {"operation": run_uuid(azure, job.name).replace("-", ""), "request": None},
        "environment": azure.region,
        "location": azure.region,
        "time": timestamp(job.ended_at or job.modified_at),
        "componentName": None,
    }


def _common(azure: AzureState, job: AzureJob) -> dict[str, Any]:
    started = timestamp(job.started_at) if job.started_at else None
    now = azure.now()
    user = _user(azure, job)
    return {
        "runNumber": job.number,
        "runUuid": run_uuid(azure, job.name),
        "rootRunId": job.root,
        "rootRunUuid": run_uuid(azure, job.root),
        "parentRunId": job.parent,
        "parentRunUuid": run_uuid(azure, job.parent) if job.parent else None,
        "target": job.compute,
        "status": job.status_to_show,
        "startTimeUtc": started,
        "lastStartTimeUtc": started,
        "effectiveStartTimeUtc": started if not job.terminal else None,
        "endTimeUtc": timestamp(job.ended_at) if job.ended_at else None,
        "error": error_response(azure, job, job.error) if job.error else None,
        "warnings": None,
        "tags": dict(job.tags),
        "properties": dict(job.properties),
        "parameters": {},
        "settings": {},
        "services": {},
        "inputDatasets": [],
        "outputDatasets": [],
        "inputs": {},
        "outputs": {},
        "createdBy": user,
        "userId": job.creator_object_id,
        "lastModifiedBy": user,
        "lastModifiedUtc": timestamp(job.modified_at),
        "revision": len(job.history),
        "statusRevision": len(job.history) - 1,
        "runTypeV2": {"orchestrator": None, "traits": [], "attribution": None, "computeType": None},
        "compute": _compute(job),
        "computeRequest": None,
        "computeDuration": _duration(job, job.ended_at),
        "currentComputeTime": None if job.terminal else _duration(job, now),
        "duration": _duration(job, job.ended_at),
    }


def _user(azure: AzureState, job: AzureJob) -> dict[str, Any]:
    creator = azure.directory.get(job.creator)
    return {
        "userObjectId": job.creator_object_id,
        "userPuId": None,
        "userIdp": None,
        "userAltSecId": None,
        "userIss": f"https://sts.windows.net/{azure.tenant_id}/",
        "userTenantId": azure.tenant_id,
        "userName": creator.display_name if creator else job.creator,
        "upn": None,
    }


def _compute(job: AzureJob) -> dict[str, Any]:
    resources: dict[str, Any] = job.definition.get("resources") or {}
    return {
        "target": job.compute,
        "targetType": "Serverless" if job.compute == "serverless" else "AmlCompute",
        "vmSize": resources.get("instanceType"),
        "instanceCount": resources.get("instanceCount", 1),
        "gpuCount": None,
        "priority": (job.definition.get("queueSettings") or {}).get("jobTier"),
        "region": None,
    }


def _duration(job: AzureJob, until: float | None) -> str | None:
    """From the start to the end as .NET writes a time span: `00:01:02.5000000`."""
    if job.started_at is None or until is None:
        return None
    seconds = max(0.0, until - job.started_at)
    hours, minutes = divmod(int(seconds) // 60, 60)
    return f"{hours:02d}:{minutes:02d}:{int(seconds) % 60:02d}.{int(seconds % 1 * 10**7):07d}"
