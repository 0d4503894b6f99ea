"""How Azure Resource Manager shows a job: the resource with its `properties`.

jobs.py renders with it, sweeps.py and pipelines.py may.

Fields: azure-ai-ml `_restclient/arm_ml_service/models/_models.py`, JobBase and CommandJob. Fields that a job does not
have are null. That a pipeline's child has no properties here is in azure-ai-ml `entities/_job/job.py`,
`_is_pipeline_child_job`. The output named `default` is what `az ml job show` prints for every command job.
"""

from __future__ import annotations

from typing import Any

from trainyard_sandbox.azure.errors import iso_time
from trainyard_sandbox.azure.job_store import AzureJob
from trainyard_sandbox.azure.principals import AzurePrincipal
from trainyard_sandbox.azure.state import AzureState

JOB_TYPE = "Microsoft.MachineLearningServices/workspaces/jobs"

_ALWAYS = {
    "": ("description", "services", "computeId", "identity", "componentId", "notificationSetting"),
    "Command": (
        *("resources", "codeId", "command", "environmentId", "distribution", "limits", "environmentVariables"),
        "queueSettings",
    ),
}
"""Fields shown also when the job does not have them, of every type ("") and of some."""


def rendered(azure: AzureState, job: AzureJob) -> dict[str, Any]:
    """The job as a resource."""
    created_by = name_of(azure.directory.get(job.creator)) or job.creator
    return {
        "id": f"{azure.workspace_scope}/jobs/{job.name}",
        "name": job.name,
        "type": JOB_TYPE,
        "properties": None if _is_pipeline_child(azure, job) else _properties(azure, job),
        "systemData": {
            "createdAt": iso_time(job.created_at),
            "createdBy": created_by,
            "createdByType": "Application",
            "lastModifiedAt": iso_time(job.modified_at),
            "lastModifiedBy": created_by,
            "lastModifiedByType": "Application",
        },
    }


def name_of(principal: AzurePrincipal | None) -> str:
    """What `createdBy` says of a principal."""
    return principal.display_name if principal else ""


def default_output(job: AzureJob) -> dict[str, Any]:
    """The output that every command job has: its artifacts."""
    uri = f"azureml://datastores/workspaceartifactstore/ExperimentRun/dcid.{job.name}"
    return {"jobOutputType": "uri_folder", "uri": uri, "mode": "ReadWriteMount"}


def services(azure: AzureState, job: AzureJob) -> dict[str, Any]:
    """The endpoints that every job has. The studio's address is the sandbox's own: it must never lead outside."""
    studio = f"{azure.url}/studio/runs/{job.name}?wsid={azure.workspace_scope}"
    host = azure.url.removeprefix("https://")
    tracking = f"azureml://{host}/mlflow/v1.0{azure.workspace_scope}?"
    return {
        name: {
            "jobServiceType": name,
            "port": None,
            "endpoint": endpoint,
            "status": None,
            "errorMessage": None,
            "properties": None,
            "nodes": None,
        }
        for name, endpoint in (("Tracking", tracking), ("Studio", studio))
    }


def _is_pipeline_child(azure: AzureState, job: AzureJob) -> bool:
    parent = azure.jobs.get(job.parent) if job.parent else None
    return parent is not None and parent.job_type == "Pipeline"


def _properties(azure: AzureState, job: AzureJob) -> dict[str, Any]:
    shown: dict[str, Any] = dict.fromkeys((*_ALWAYS[""], *_ALWAYS.get(job.job_type, ())))
    shown |= job.definition
    shown |= {
        "description": job.description,
        "tags": dict(job.tags),
        "properties": dict(job.properties),
        "displayName": job.display_name,
        "status": job.status_to_show,
        "experimentName": job.experiment,
        "services": services(azure, job) | job.definition.get("services", {}),
        "isArchived": job.is_archived,
        "jobType": job.job_type,
        "inputs": job.definition.get("inputs", {}),
        "outputs": dict(job.definition.get("outputs", {})),
        "parameters": {},
    }
    if job.job_type == "Command":
        shown["outputs"]["default"] = default_output(job)
    if job.parent:
        shown["parentJobName"] = job.parent
    return shown
