"""What the PUT of a job is refused for beyond its shape: its name, its second PUT, its references.

jobs.py calls it; the job types call the checks of references.

The second PUT: MicrosoftDocs/azure-docs#122250 and Azure/azure-sdk-for-python#47389 (sentence, inner codes); that a
property once set does not change is in a comment of azure-ai-ml `_job_operations.py`. The pattern of names is the one
of the published API description. "Requested n nodes but ..." is quoted in public issue threads. Sentences marked
(recalled) are the service's as engineers remember them, without a page to cite; the others are ours.
"""

from __future__ import annotations

import re
from typing import Any

from trainyard_sandbox.azure.arm import AzureCall
from trainyard_sandbox.azure.compute_sizes import vm_size
from trainyard_sandbox.azure.compute_store import AzureCompute
from trainyard_sandbox.azure.errors import ArmError, user_error
from trainyard_sandbox.azure.job_store import MUTABLE, AzureJob
from trainyard_sandbox.azure.job_view import default_output
from trainyard_sandbox.azure.state import ML_RESOURCE, AzureState

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,254}")
_GENERATED_SERVICES = ("Tracking", "Studio")


def check_name(name: str) -> None:
    """Refuse a name that no job may have.

    Raises:
        ArmError: 400 UserError.
    """
    if _NAME.fullmatch(name) is None:
        message = f"Invalid job name '{name}': 1 to 255 letters, digits, '-' and '_', beginning with a letter or digit."
        raise user_error(message, "BadArgument", "InvalidJobName")


def check_change(job: AzureJob, properties: dict[str, Any]) -> None:
    """Refuse a second PUT that changes more than `MUTABLE`, or a property that has a value.

    Raises:
        ArmError: 400 UserError, inner codes Immutable and JobPropertyImmutable.
    """
    wanted = without_generated(job, properties)
    have = job.definition | {"experimentName": job.experiment}
    wanted.setdefault("experimentName", job.experiment)
    changed = sorted(key for key in have.keys() | wanted.keys() if have.get(key) != wanted.get(key))
    given = properties.get("properties") or {}
    if any(job.properties.get(key, value) != value for key, value in given.items()):
        changed.append("properties")
    if changed:
        names = ",  ".join(name[0].upper() + name[1:] for name in changed)
        message = (
            "A job with this name already exists. If you are trying to create a new job, use a different name. If you "
            f"are trying to update an existing job, the existing job's {names} cannot be changed. Only description, "
            "tags, displayName, properties, and isArchived can be updated."
        )
        raise user_error(message, "Immutable", "JobPropertyImmutable")


def without_generated(job: AzureJob, properties: dict[str, Any]) -> dict[str, Any]:
    """A body's definition without what the service itself had put into a body that is sent back."""
    wanted = {key: value for key, value in properties.items() if key not in MUTABLE}
    endpoints = {key: one for key, one in wanted.pop("services", {}).items() if key not in _GENERATED_SERVICES}
    outputs = dict(wanted.pop("outputs", {}))
    if outputs.get("default") == default_output(job):
        del outputs["default"]
    return wanted | ({"services": endpoints} if endpoints else {}) | ({"outputs": outputs} if outputs else {})


def check_identity(call: AzureCall, properties: dict[str, Any]) -> None:
    """Refuse a job that is to run as its submitter without a token of the submitter's for Azure ML.

    The SDK sends one in `x-azureml-token` with such a job (`_job_operations.py`, `_set_headers_with_user_aml_token`);
    what the service says without it is not published.

    Raises:
        ArmError: 400 UserError.
    """
    if (properties.get("identity") or {}).get("identityType") != "UserIdentity":
        return
    token = call.azure.tokens.find(call.request.headers.get("x-azureml-token", ""))
    if token is None or token.audience.rstrip("/") != ML_RESOURCE or token.expires_at <= call.state.now():
        message = (
            "A job with user identity needs a valid token for Azure Machine Learning in the x-azureml-token header."
        )
        raise user_error(message, "BadArgument", "InvalidUserToken")


def check_compute(azure: AzureState, properties: dict[str, Any]) -> None:
    """Refuse a compute, a VM size or a number of nodes that cannot be.

    Raises:
        ArmError: 400 UserError.
    """
    resources = properties.get("resources") or {}
    compute_id = properties.get("computeId") or "serverless"
    name = compute_name(azure, compute_id)
    if name == "serverless":
        size = resources.get("instanceType")
        if size is not None and vm_size(size) is None:
            message = f"The VM size '{size}' is not available for serverless compute in region {azure.region}."
            raise user_error(message, "BadArgument", "InvalidInstanceType")
        return
    compute: AzureCompute | None = azure.computes.get(name)
    if compute is None:
        # (recalled)
        raise user_error(f"Unknown compute target '{name}'.", "BadArgument", "UnknownComputeTarget")
    maximum, instances = compute.maximum_nodes, int(resources.get("instanceCount", 1))
    if maximum is not None and instances > maximum:
        message = f"Requested {instances} nodes but AzureMLCompute cluster only has {maximum} maximum nodes."
        raise user_error(message, "BadArgument", "InvalidNodeCount")
    wanted = resources.get("instanceType")
    if compute.compute_type == "Kubernetes" and wanted:
        offered = compute.properties.get("instanceTypes") or {}
        if wanted not in offered:
            message = f"InstanceType {wanted} is not found in the cluster {name}."
            raise user_error(message, "BadArgument", "InstanceTypeNotFound")


def compute_name(azure: AzureState, compute_id: str) -> str:
    """The name of the workspace's compute that `computeId` names, `serverless` included.

    Raises:
        ArmError: 400 UserError, it is none of this workspace.
    """
    if compute_id.lower() == "serverless":
        return "serverless"
    return child_of_workspace(azure, compute_id, "computes")[0]


def child_of_workspace(azure: AzureState, resource_id: str, *kinds: str) -> list[str]:
    """The names in a resource id below the workspace: `.../environments/a/versions/1` gives ["a", "1"].

    Args:
        kinds: the types between the names: ("environments", "versions").

    Raises:
        ArmError: 400 UserError, the id is of another workspace or another kind.
    """
    text = resource_id.removeprefix("azureml:")
    prefix = azure.workspace_scope.lower() + "/"
    parts = text[len(prefix) :].split("/") if text.lower().startswith(prefix) else []
    if [part.lower() for part in parts[::2]] != [kind.lower() for kind in kinds] or not all(parts):
        raise _malformed(resource_id, kinds)
    return parts[1::2]


def _malformed(resource_id: str, kinds: tuple[str, ...]) -> ArmError:
    form = "/".join(f"{kind}/<name>" for kind in kinds)
    message = f"'{resource_id}' is not a valid ARM resource id of this workspace; expected <workspace id>/{form}."
    return user_error(message, "BadArgument", "InvalidResourceId")
