"""What Azure ML says about an endpoint and its deployments, in the core's words. Pure; called by `serving`.

Reads the JSON as it came: a state of tomorrow must neither be dropped nor look like another (invariant 9). Words:
azure-ai-ml `_restclient/arm_ml_service/models/_enums.py` (EndpointProvisioningState, DeploymentProvisioningState).
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from trainyard.api.deployment_status import PermissionStatus
from trainyard.api.model_deployment import EndpointPermission
from trainyard.core.serving.seen import RemoteEndpoint, RemoteServed, ServedState
from trainyard.platforms.azureml import remedies
from trainyard.platforms.azureml.serving_steps import (
    BROKEN,
    DONE,
    Seen,
    capacity_of,
    is_busy,
    is_ours,
    state_of,
    traffic_of,
)

STATES: Mapping[str, ServedState] = {
    "Creating": "Creating",
    "Updating": "Updating",
    "Scaling": "Updating",
    "Succeeded": "Ready",
    "Failed": "Failed",
    "Canceled": "Failed",
    "Deleting": "Deleting",
}
_MODEL = re.compile(r"(?:/models/|^azureml:)([^/:]+)(?:/versions/|:)([^/]+)$")
MAX_STATE = 64
MAX_REASON = 400
# As status.permissions allows.
MAX_COMMAND, MAX_WHO = 1024, 300
# Roles that permit it, at the scope of the endpoint ("Manage access to an Azure Machine Learning workspace").
_ROLES = {"CAN_VIEW": "Reader", "CAN_QUERY": remedies.DATA_SCIENTIST, "CAN_MANAGE": remedies.DATA_SCIENTIST}


def endpoint_of(
    seen: Seen,
    uid: str,
    *,
    page: str | None = None,
    permissions: Sequence[PermissionStatus] = (),
    why: Mapping[str, str] = MappingProxyType({}),
) -> RemoteEndpoint | None:
    """One look at the endpoint; None: there is none. `why` says why what failed did, the endpoint itself as ""."""
    endpoint = seen.endpoint
    if endpoint is None:
        return None
    properties = endpoint.get("properties") or {}
    system = endpoint.get("systemData") or {}
    state = state_of(endpoint)
    shares = traffic_of(endpoint)
    return RemoteEndpoint(
        name=str(endpoint.get("name") or ""),
        ours=is_ours(endpoint, uid),
        busy=is_busy(seen),
        state=state[:MAX_STATE],
        served=tuple(
            _served(name, each, shares.get(name, 0), why.get(name, ""))
            for name, each in sorted(seen.deployments.items())
        ),
        url=str(properties.get("scoringUri") or "")[:1024] or None,
        page=page,
        creator=str(system.get("createdBy") or "")[:255] or None,
        deleting=state == "Deleting",
        failed=_broken("the last change of the endpoint", state, why.get("", "")) if state in BROKEN else "",
        permissions=tuple(permissions),
    )


def permission_status(permission: EndpointPermission, scope: str) -> PermissionStatus:
    """What a person has to run: to give roles takes a right that the operator must not have.

    Who asks an endpoint with a token of Entra needs `onlineEndpoints/score/action` there: the role below has it, and
    so may one of your own.
    """
    if permission.group is not None:
        kind, name = "group", permission.group
        lookup = f"az ad group show --group {shlex.quote(name)} --query id -o tsv"
        whom = f'--assignee-object-id "$({lookup})" --assignee-principal-type Group'
    elif permission.user is not None:
        kind, name = "user", permission.user
        whom = f"--assignee {shlex.quote(name)}"
    else:
        kind, name = "servicePrincipal", permission.service_principal or ""
        whom = f"--assignee {shlex.quote(name)}"
    rest = f"--role {shlex.quote(_ROLES[permission.level])} --scope {shlex.quote(scope)}"
    command = f"az role assignment create {whom} {rest}"
    if len(command) > MAX_COMMAND:
        command = f"az role assignment create --assignee-object-id OBJECT_ID_OF_THE_{kind.upper()} {rest}"
    who = f"{kind}:{name}"[:MAX_WHO]
    return PermissionStatus(who=who, level=permission.level, granted=False, command=command[:MAX_COMMAND])


def operation_of(resource: Mapping[str, Any]) -> str:
    """The URL of the last operation on an endpoint or deployment, which tells why it failed; "" if there is none."""
    inner = (resource.get("properties") or {}).get("properties") or {}
    return str(inner.get("AzureAsyncOperationUri") or "")


def reason_of(operation: Mapping[str, Any]) -> str:
    """Why an operation failed, in the service's words; "" if it does not tell."""
    error = operation.get("error")
    if not isinstance(error, Mapping):
        return ""
    code, message = str(error.get("code") or ""), " ".join(str(error.get("message") or "").split())
    return f"{code}: {message}".strip(": ")[:MAX_REASON]


def _served(name: str, deployment: Mapping[str, Any], share: int, why: str) -> RemoteServed:
    state = state_of(deployment)
    properties = deployment.get("properties") or {}
    model = _MODEL.search(str(properties.get("model") or ""))
    return RemoteServed(
        served=name,
        state=STATES.get(state, "Unknown"),
        traffic=share,
        model=model[1] if model else "",
        version=model[2] if model else "",
        replicas=capacity_of(deployment) if state == DONE else None,
        message=_message(state, why),
    )


def _message(state: str, why: str) -> str:
    if state in BROKEN:
        return _broken("its provisioning", state, why)
    return "" if state in STATES else f"the platform says {state[:MAX_STATE]!r}, which this version does not know"


def _broken(what: str, state: str, why: str) -> str:
    return f"{what} {'was canceled' if state == 'Canceled' else 'failed'}{f': {why}' if why else ''}"
