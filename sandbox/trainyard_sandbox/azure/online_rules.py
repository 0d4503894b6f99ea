"""What is refused of a change of an online endpoint or a deployment, and in which words.

online_endpoints.py and online_deployments.py call it before anything is changed.

Sentences that public issue threads and runbooks quote: "Cannot create a deployment in endpoint ... because it is in
... provisioning state" (Azure/azure-sdk-for-net#36961), "There is already an endpoint with this name ..."
(Azure/azureml-examples#1931), "Endpoint Quota reached ..." (Azure/azureml-examples#1635), "Not enough quota available
for ..." (MicrosoftLearning/mslearn-azure-ml#30), "Specified deployment [...] failed during initial provisioning ...",
"Can't delete deployment [...] with non-zero traffic weight". The other sentences are ours. That a busy endpoint
answers 409: "When an operation is already in progress, any new operation on that same online endpoint responds with a
409 conflict error" (Azure documentation, "Troubleshoot online endpoint deployment"); the control API can make it 400,
since that table is of Kubernetes endpoints. Names: azure-ai-ml `_endpoint_helpers.py`. Limits: "Manage and increase
quotas and limits for resources with Azure Machine Learning". That an endpoint's identity stays: "Access Azure
resources from an online endpoint with a managed identity".
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from trainyard_sandbox.azure.arm import AzureCall
from trainyard_sandbox.azure.compute_sizes import vm_size
from trainyard_sandbox.azure.compute_store import ComputeStore
from trainyard_sandbox.azure.errors import ArmError, user_error
from trainyard_sandbox.azure.job_shapes import duration_seconds
from trainyard_sandbox.azure.online_store import (
    SERVING_SIZES,
    OnlineDeployment,
    OnlineEndpoint,
    OnlineStore,
    reserved_cores,
)
from trainyard_sandbox.azure.state import AzureState

_NAME = re.compile(r"[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?")
_TROUBLESHOOT = "Please see troubleshooting guide, available here: https://aka.ms/oe-tsg"
SECRETS_FLAG = "enforce_access_to_default_secret_stores"
SECRETS_ACTION = "workspaces/connections/listsecrets/action"
_MAX_TIMEOUT_SECONDS = 180
_MAX_MIRRORED = 50


def validation_error(errors: Mapping[str, Sequence[str]], code: str = "InferencingClientCallFailed") -> ArmError:
    """400 BadRequest in which Azure ML wraps what the service behind online endpoints refused."""
    problem = {
        "errors": errors,
        "type": "https://tools.ietf.org/html/rfc7231#section-6.5.1",
        "title": "One or more validation errors occurred.",
        "status": 400,
        "traceId": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01",
    }
    detail = {"code": code, "message": json.dumps(problem), "details": [], "additionalInfo": []}
    return ArmError(400, "BadRequest", "The request is invalid.", details=[detail], inner=("BadArgument",))


def check_name(kind: str, name: str) -> None:
    """Refuse a name that an endpoint or a deployment cannot have.

    Raises:
        ArmError: 400 UserError.
    """
    if not 3 <= len(name) <= 32 or _NAME.fullmatch(name) is None:
        message = f"Invalid {kind} name '{name}': 3 to 32 letters, digits and '-', beginning with a letter and ending "
        raise user_error(message + "with a letter or a digit.", "BadArgument", "InvalidName")


def check_idle(store: OnlineStore, endpoint: OnlineEndpoint, doing: str) -> None:
    """Refuse a change while another is under way; `doing` begins the sentence: "Cannot create a deployment in".

    Raises:
        ArmError: 409 (or 400, as the control API has it) UserError.
    """
    if endpoint.busy:
        message = f"{doing} endpoint {endpoint.name} because it is in {endpoint.shown_state} provisioning state."
        raise user_error(message, "Conflict", "EndpointNotReady", status=store.busy_status)


def check_new_endpoint(store: OnlineStore, azure: AzureState, name: str) -> None:
    """Refuse a name that another workspace of the region has, and one endpoint too many.

    Raises:
        ArmError: 400 BadRequest.
    """
    if name.lower() in store.taken:
        message = "There is already an endpoint with this name, Endpoint name needs to be unique within a region. "
        raise validation_error({"": [message + "Try some other name."]})
    have = len(store.all())
    if have >= store.endpoint_limit:
        message = f"Endpoint Quota reached for subscription {azure.subscription_id}.Current usage/limit: "
        message += f"{have}/{store.endpoint_limit}.Please clean up existing endpoints and try again"
        raise validation_error({"": [message]})


def check_location(azure: AzureState, location: str) -> str:
    """The region's name; an endpoint is where its workspace is.

    Raises:
        ArmError: 400 LocationNotAvailableForResourceType.
    """
    found = location.replace(" ", "").lower()
    if found != azure.region:
        message = f"The provided location '{location}' is not available for resource type "
        message += "'Microsoft.MachineLearningServices/workspaces/onlineEndpoints'. List of available regions for the "
        message += f"resource type is '{azure.region}'."
        raise ArmError(400, "LocationNotAvailableForResourceType", message)
    return found


def check_identity(azure: AzureState, identity: Mapping[str, Any] | None) -> None:
    """Refuse a managed endpoint without an identity, or with one that is not there.

    Raises:
        ArmError: 400 UserError.
    """
    if identity is None or identity.get("type") == "None":
        raise user_error("A managed online endpoint needs an identity: SystemAssigned or UserAssigned.", "BadArgument")
    assigned = identity.get("userAssignedIdentities") or {}
    if ("UserAssigned" in identity["type"].split(",")) != bool(assigned):
        message = "userAssignedIdentities must name an identity with type UserAssigned, and only then."
        raise user_error(message, "BadArgument", target="identity")
    known = {azure.identity_scope(one.display_name).lower() for one in azure.directory.all()}
    for resource_id in assigned:
        if resource_id.lower() not in known:
            message = f"The identity '{resource_id}' was not found."
            raise ArmError(400, "FailedIdentityOperation", message)


def check_same_identity(endpoint: OnlineEndpoint, identity: Mapping[str, Any] | None) -> None:
    """Refuse another identity than the endpoint was made with.

    Raises:
        ArmError: 400 UserError Immutable.
    """
    if identity is None:
        return
    have, wanted = endpoint.identity, dict(identity)
    same_ids = {key.lower() for key in have.get("userAssignedIdentities") or {}} == {
        key.lower() for key in wanted.get("userAssignedIdentities") or {}
    }
    if wanted.get("type", have["type"]) != have["type"] or not same_ids:
        raise user_error("The identity of an online endpoint cannot be changed after it was created.", "Immutable")


def check_secret_stores(call: AzureCall, properties: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Who has an endpoint read the workspace's connections must be able to read them.

    "If a user identity doesn't have the permissions ... the endpoint creation is rejected" (Azure documentation,
    "Authentication for managed online endpoints").

    Raises:
        ArmError: 403 AuthorizationFailed, 400 UserError for a user-assigned identity.
    """
    if (properties.get("properties") or {}).get(SECRETS_FLAG, "").lower() != "enabled":
        return
    if identity["type"] != "SystemAssigned":
        raise user_error(f"{SECRETS_FLAG} is for endpoints with a system-assigned identity only.", "BadArgument")
    call.require(SECRETS_ACTION)


def check_traffic(endpoint: OnlineEndpoint | None, properties: Mapping[str, Any]) -> None:
    """Refuse shares that do not sum to 100 (or 0), or that name what is not there or has never been ready.

    The sum and the limit of mirrored traffic: "Safe rollout for online endpoints".

    Raises:
        ArmError: 400 UserError.
    """
    traffic: dict[str, int] = properties.get("traffic") or {}
    mirror: dict[str, int] = properties.get("mirrorTraffic") or {}
    if sum(traffic.values()) not in (0, 100):
        message = f"The sum of traffic values must be 0 or 100, but it is {sum(traffic.values())}."
        raise user_error(message, "BadArgument", "InvalidTraffic", target="traffic")
    if len(mirror) > 1 or any(share > _MAX_MIRRORED for share in mirror.values()):
        message = f"Traffic can be mirrored to one deployment, at most {_MAX_MIRRORED} percent."
        raise user_error(message, "BadArgument", "InvalidTraffic", target="mirrorTraffic")
    for name, share in (traffic | mirror).items():
        found = endpoint.deployment(name) if endpoint else None
        if found is None:
            message = f"The deployment {name} in traffic was not found in the endpoint."
            raise user_error(message, "NotFound", "DeploymentNotFound", target="traffic")
        if share and not found.answers:
            message = f"Cannot set traffic to deployment {name} because it is in {found.state} provisioning state."
            raise user_error(message, "BadArgument", "DeploymentNotReady", target="traffic")


def check_usable(endpoint: OnlineEndpoint) -> None:
    """Refuse deployments of an endpoint that was never made.

    Raises:
        ArmError: 400 BadRequest.
    """
    if endpoint.state == "Failed" and not endpoint.made:
        message = (
            f"Specified endpoint [{endpoint.name}] has not been created successfully. Please recreate the endpoint."
        )
        raise validation_error({"": [message]})


def check_deployment(properties: Mapping[str, Any]) -> None:
    """Refuse what the shape alone does not: the size, and what this sandbox cannot run.

    Raises:
        ArmError: 400 BadRequest or UserError.
    """
    size = properties["instanceType"]
    if vm_size(size) is None or size.lower() not in SERVING_SIZES:
        raise validation_error(
            {"VmSize": [f"Not supported VM Size {size}."]}, "InferencingClientCreateDeploymentFailed"
        )
    if "codeConfiguration" in properties:
        raise user_error("This sandbox serves MLflow models without code: leave out codeConfiguration.", "BadArgument")
    if "model" not in properties:
        raise user_error("A deployment without code needs a model.", "BadArgument", target="model")
    timeout = (properties.get("requestSettings") or {}).get("requestTimeout")
    if timeout is not None and timeout_seconds(properties) > _MAX_TIMEOUT_SECONDS:
        message = f"requestSettings.requestTimeout may be at most {_MAX_TIMEOUT_SECONDS} seconds."
        raise user_error(message, "BadArgument", target="requestTimeout")


def check_change(deployment: OnlineDeployment, properties: Mapping[str, Any]) -> None:
    """Refuse a second PUT of what failed at first, and another size (`instanceType` is for creation only).

    Raises:
        ArmError: 400 BadRequest or UserError Immutable.
    """
    if deployment.state == "Failed" and deployment.server is None:
        message = f"Specified deployment [{deployment.name}] failed during initial provisioning and is in an "
        raise validation_error({"": [message + "unrecoverable state. Delete and re-create."]})
    if properties["instanceType"].lower() != deployment.instance_type.lower():
        message = f"The instanceType of deployment {deployment.name} cannot be changed from {deployment.instance_type}."
        raise user_error(message, "Immutable", target="instanceType")


def check_quota(azure: AzureState, size_name: str, instances: int, instead_of: OnlineDeployment | None = None) -> None:
    """Refuse machines beyond the quota of their family.

    Raises:
        ArmError: 400 BadRequest with InferencingClientCreateDeploymentFailed.
    """
    size = vm_size(size_name)
    computes: ComputeStore = azure.computes
    limit = computes.family_cores.get(size.family) if size else None
    if size is None or limit is None:
        return
    used = cores_in_use(azure).get(size.family, 0)
    additional = reserved_cores(size_name, instances) - (instead_of.reserved_cores if instead_of else 0)
    if additional > 0 and used + additional > limit:
        message = f"Not enough quota available for {size.name} in SubscriptionId {azure.subscription_id}. Current "
        message += f"usage/limit: {used}/{limit}. Additional needed: {additional} {_TROUBLESHOOT}#error-outofquota"
        raise validation_error({"VmSize": [message]}, "InferencingClientCreateDeploymentFailed")


def cores_in_use(azure: AzureState) -> dict[str, int]:
    """vCPUs of clusters and of online deployments, by family of sizes."""
    store: ComputeStore = azure.computes
    online: OnlineStore = azure.online
    used = dict(online.reserved_by_family())
    for compute in store.all():
        size, pool = vm_size(compute.properties.get("vmSize", "")), store.pool(compute.name)
        if size is not None and pool is not None:
            used[size.family] = used.get(size.family, 0) + pool.in_use * size.cores
    return used


def timeout_seconds(properties: Mapping[str, Any]) -> float:
    """How long a request may take; 5 seconds by default ("CLI (v2) managed online deployment YAML schema")."""
    return duration_seconds((properties.get("requestSettings") or {}).get("requestTimeout", "PT5S"))
