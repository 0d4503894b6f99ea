"""The part of the control API about managed identities: made, assigned to the virtual machine, taken away.

identity_client.py is its client. A managed identity is a service principal like an application's, without secrets and
certificates that anybody could hold (Microsoft Entra documentation, "What are managed identities for Azure
resources?"). It signs in by imds.py; a user-assigned one also by federated credentials.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.control_identity import resolved_scope
from trainyard_sandbox.azure.principals import AzurePrincipal
from trainyard_sandbox.azure.roles import ROLES, RoleAssignment
from trainyard_sandbox.errors import invalid_parameter
from trainyard_sandbox.schema import Bool, ListOf, MapOf, Obj, Str, json_body
from trainyard_sandbox.state import sandbox_state

_IDENTITY = Obj(
    {
        "name": Str(min_length=1),
        "system_assigned": Bool(),
        "assigned": Bool(),
        "roles": MapOf(ListOf(Str(choices=tuple(ROLES)))),
    },
    required=("name",),
)
_ASSIGNED = Obj({"assigned": Bool()}, required=("assigned",))


def control_routes() -> list[Route]:
    """Mounted on the control API by server.py."""
    return [
        Route("/azure/managed-identities", add, methods=["POST"]),
        Route("/azure/managed-identities/{client_id}", assign, methods=["PUT"]),
    ]


async def add(request: Request) -> Response:
    """POST /azure/managed-identities: a machine has one system-assigned identity and any number of user-assigned."""
    azure = sandbox_state(request).azure
    given = await json_body(request, _IDENTITY)
    system = given.get("system_assigned", False)
    if system and any(one.kind == "system-assigned" for one in azure.directory.all()):
        raise invalid_parameter("the virtual machine has a system-assigned identity already")
    if any(one.kind != "application" and one.display_name == given["name"] for one in azure.directory.all()):
        raise invalid_parameter(f"there is a managed identity {given['name']} already")
    principal = AzurePrincipal(given["name"], kind="system-assigned" if system else "user-assigned")
    principal.assigned = given.get("assigned", True)
    for scope, roles in given.get("roles", {}).items():
        principal.assignments += [RoleAssignment(role, resolved_scope(azure, scope)) for role in roles]
    azure.directory.add(principal)
    resource_id = "" if system else azure.identity_scope(principal.display_name)
    return JSONResponse(
        {"client_id": principal.client_id, "object_id": principal.object_id, "resource_id": resource_id}
    )


async def assign(request: Request) -> Response:
    """PUT /azure/managed-identities/{client_id}: whether it is assigned to the virtual machine."""
    principal = sandbox_state(request).azure.directory.require(request.path_params["client_id"])
    if principal.kind == "application":
        raise invalid_parameter(f"{principal.client_id} is no managed identity")
    principal.assigned = (await json_body(request, _ASSIGNED))["assigned"]
    return JSONResponse({})
