"""Computes in Azure Resource Manager: clusters, instances, attached Kubernetes.

Paths and versions: azure-ai-ml `_restclient/arm_ml_service/operations/_operations.py`, ComputeOperations, and
`operations/_compute_operations.py` (what the SDK sends). Fields: `_models.py`, AmlComputeProperties and the like. A PUT
of a name that exists changes it, whoever made it (Azure Machine Learning REST API, "Compute - Create Or Update": "If
your intent is to create a new compute, do a GET first to verify that it does not exist yet"). Which VM sizes exist is
in compute_sizes.py; the sentences that refuse are ours.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.arm import Action, AzureCall, arm_route, checked
from trainyard_sandbox.azure.compute_sizes import vm_size
from trainyard_sandbox.azure.compute_store import AzureCompute, ComputeStore
from trainyard_sandbox.azure.compute_view import rendered
from trainyard_sandbox.azure.errors import ArmError, user_error
from trainyard_sandbox.azure.job_operations import operation_headers
from trainyard_sandbox.azure.job_shapes import STRINGS, Duration, Kinds
from trainyard_sandbox.azure.job_store import JobEnd, JobError
from trainyard_sandbox.schema import AnyJson, Bool, Int, MapOf, Obj, Str
from trainyard_sandbox.state import SandboxState

VERSIONS = (
    "2022-10-01-preview",
    "2023-04-01",
    "2023-04-01-preview",
    "2023-08-01-preview",
    "2023-10-01",
    "2024-01-01-preview",
    "2024-04-01",
    "2024-10-01",
    "2024-10-01-preview",
    "2025-01-01-preview",
)
_NAME = re.compile(r"[a-zA-Z](?:[a-zA-Z0-9-]{0,30}[a-zA-Z0-9])?")
"""Azure Machine Learning documentation: 3 to 32 letters, digits and hyphens for instances, 2 to 32 for clusters."""

_SUBNET = Obj({"id": Str(min_length=1)}, ("id",))
_SCALE = Obj(
    {
        "maxNodeCount": Int(minimum=0, maximum=1000),
        "minNodeCount": Int(minimum=0),
        "nodeIdleTimeBeforeScaleDown": Duration(),
    },
    ("maxNodeCount",),
)
_CLUSTER = Obj(
    {
        "osType": Str(("Linux", "Windows")),
        "vmSize": Str(min_length=1),
        "vmPriority": Str(("Dedicated", "LowPriority")),
        "isolatedNetwork": Bool(),
        "scaleSettings": _SCALE,
        "userAccountCredentials": AnyJson(),
        "subnet": _SUBNET,
        "remoteLoginPortPublicAccess": Str(("Enabled", "Disabled", "NotSpecified")),
        "enableNodePublicIp": Bool(),
        "propertyBag": AnyJson(),
    },
    ("vmSize",),
)
_INSTANCE = Obj(
    {
        "vmSize": Str(min_length=1),
        "subnet": _SUBNET,
        "applicationSharingPolicy": Str(("Personal", "Shared")),
        "sshSettings": AnyJson(),
        "customServices": AnyJson(),
        "enableSSO": Bool(),
        "personalComputeInstanceSettings": AnyJson(),
        "computeInstanceAuthorizationType": Str(("personal",)),
        "setupScripts": AnyJson(),
        "schedules": AnyJson(),
        "idleTimeBeforeShutdown": Duration(),
        "enableNodePublicIp": Bool(),
    },
    ("vmSize",),
)
_KUBERNETES = Obj(
    {
        "relayConnectionString": Str(),
        "serviceBusConnectionString": Str(),
        "extensionPrincipalId": Str(),
        "extensionInstanceReleaseTrain": Str(),
        "vcName": Str(),
        "namespace": Str(),
        "defaultInstanceType": Str(),
        "instanceTypes": MapOf(Obj({"nodeSelector": STRINGS, "resources": AnyJson()})),
    }
)
_SHARED = {
    "computeLocation": Str(),
    "description": Str(),
    "resourceId": Str(),
    "disableLocalAuth": Bool(),
    "provisioningState": AnyJson(),
    "createdOn": AnyJson(),
    "modifiedOn": AnyJson(),
    "provisioningErrors": AnyJson(),
    "isAttachedCompute": AnyJson(),
}
_BODY = Obj(
    {
        "location": Str(),
        "tags": STRINGS,
        "sku": AnyJson(),
        "identity": Obj(
            {"type": Str(min_length=1), "userAssignedIdentities": MapOf(AnyJson())},
            ("type",),
        ),
        "properties": Kinds(
            "computeType",
            {
                "AmlCompute": Obj(_SHARED | {"properties": _CLUSTER}, ("properties",)),
                "ComputeInstance": Obj(_SHARED | {"properties": _INSTANCE}, ("properties",)),
                "Kubernetes": Obj(_SHARED | {"properties": _KUBERNETES}, ("resourceId",)),
            },
        ),
        "id": AnyJson(),
        "name": AnyJson(),
        "type": AnyJson(),
        "systemData": AnyJson(),
    },
    ("properties",),
)


async def list_computes(call: AzureCall) -> Response:
    """GET /computes."""
    store: ComputeStore = call.azure.computes
    return JSONResponse({"value": [rendered(call.azure, compute) for compute in store.all()]})


async def get_compute(call: AzureCall) -> Response:
    """GET /computes/{name}."""
    return JSONResponse(rendered(call.azure, _found(call)))


async def put_compute(call: AzureCall) -> Response:
    """PUT /computes/{name}: 201 for a new one, 200 for one that exists; both go on for a while."""
    name, store = call.path["name"], call.azure.computes
    if _NAME.fullmatch(name) is None:
        message = f"Invalid compute name '{name}': 1 to 32 letters, digits and '-', beginning with a letter."
        raise user_error(message, "BadArgument", "InvalidComputeName")
    before: AzureCompute | None = store.get(name)
    compute = make_compute(call.azure.region, store, name, await call.body(_BODY))
    if before is not None:
        if before.compute_type != compute.compute_type:
            raise user_error(f"The type of compute {name} cannot change from {before.compute_type}.", "Immutable")
        compute.until_settled, compute.created_at = "Updating", before.created_at
    settle(store, compute)
    now = call.state.now
    headers = operation_headers(
        call,
        f"compute:{name}",
        lambda: now() >= compute.settled_at,
        lambda: compute.errors[0] if compute.errors else None,
    )
    return JSONResponse(rendered(call.azure, compute), 201 if before is None else 200, headers)


async def delete_compute(call: AzureCall) -> Response:
    """DELETE /computes/{name}: with `underlyingResourceAction` Delete or Detach; its jobs fail."""
    compute = _found(call)
    action = call.query.get("underlyingResourceAction")
    if action not in ("Delete", "Detach"):
        message = "The parameter underlyingResourceAction must be Delete or Detach."
        raise ArmError(400, "BadRequest", message)
    if action == "Detach" and compute.compute_type != "Kubernetes":
        raise user_error(f"Compute {compute.name} was not attached, so it cannot be detached.")
    for name in call.azure.computes.delete(compute.name):
        job = call.azure.jobs.get(name)
        if job is not None:
            message = f"The compute {compute.name} was deleted while the job ran."
            call.azure.engine.end(job, JobEnd("Failed", JobError("UserError", message)))
    return Response(status_code=202, headers=operation_headers(call, f"delete:{compute.name}", lambda: True))


def make_compute(region: str, store: ComputeStore, name: str, body: dict[str, Any]) -> AzureCompute:
    """A compute from a body that `_BODY` let through.

    Raises:
        ArmError: 400 UserError.
    """
    given = body["properties"]
    inner: dict[str, Any] = given.get("properties", {})
    size = inner.get("vmSize")
    if size is not None and vm_size(size) is None:
        message = f"The specified VM size {size} is not supported in region {region}."
        raise user_error(message, "BadArgument", "UnsupportedVmSize")
    scale = inner.get("scaleSettings") or {}
    if scale.get("minNodeCount", 0) > scale.get("maxNodeCount", 0) and scale:
        raise user_error("scaleSettings.minNodeCount must not be more than maxNodeCount.", "BadArgument")
    now = store.now()
    return AzureCompute(
        name=name,
        compute_type=given["computeType"],
        location=body.get("location") or region,
        properties=inner,
        created_at=now,
        modified_at=now,
        settled_at=now + store.provisioning_seconds,
        description=given.get("description"),
        resource_id=given.get("resourceId"),
        tags=body.get("tags", {}),
        identity=body.get("identity"),
    )


def settle(store: ComputeStore, compute: AzureCompute) -> None:
    """Put a compute into the store, and have its nodes given out when it has been provisioned."""
    store.put(compute)
    asyncio.get_running_loop().call_later(max(0.0, compute.settled_at - store.now()), store.serve)


def parse_compute(region: str, store: ComputeStore, name: str, properties: Any) -> AzureCompute:
    """A compute from the `properties` that a PUT's body would have, for the control API.

    Raises:
        ArmError: 400 UserError.
    """
    return make_compute(region, store, name, checked({"properties": properties}, _BODY))


def _found(call: AzureCall) -> AzureCompute:
    compute: AzureCompute | None = call.azure.computes.get(call.path["name"])
    if compute is None:
        name = f"{call.azure.workspace_name}/{call.path['name']}"
        message = f"The Resource 'Microsoft.MachineLearningServices/workspaces/computes/{name}' was not found."
        raise ArmError(404, "ResourceNotFound", message)
    return compute


def attach(state: SandboxState) -> None:
    """Give the sandbox its computes: none but serverless."""
    state.azure.computes = ComputeStore(state.now)


def routes() -> list[Route]:
    """The routes of this module."""
    computes = "workspaces/computes"
    return [
        arm_route("/computes", {"GET": Action(list_computes, f"{computes}/read", VERSIONS, ("$skip",))}),
        arm_route(
            "/computes/{name}",
            {
                "GET": Action(get_compute, f"{computes}/read", VERSIONS),
                "PUT": Action(put_compute, f"{computes}/write", VERSIONS),
                "DELETE": Action(delete_compute, f"{computes}/delete", VERSIONS, ("underlyingResourceAction",)),
            },
        ),
    ]
