"""What the caller may do in the workspace, as Azure Resource Manager tells anybody of himself.

Azure REST API reference, "Permissions - List For Resource": one entry for each role that reaches the resource. Whoever
has a token may ask, and hears of nothing when he has no role (recalled; the page names no right that it takes).
"""

from __future__ import annotations

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.arm import Action, AzureCall, arm_route

VERSIONS = ("2015-07-01", "2018-01-01-preview", "2022-04-01")


def routes() -> list[Route]:
    """Mounted by server.py."""
    return [
        arm_route("/providers/Microsoft.Authorization/permissions", {"GET": Action(permissions, "", VERSIONS)}),
    ]


async def permissions(call: AzureCall) -> Response:
    """The roles that count for the caller here."""
    held = [given for given in call.principal.assignments if given.covers(call.azure.workspace_scope)]
    roles = [given.definition for given in held]
    return JSONResponse(
        {
            "value": [
                {
                    "actions": list(role.actions),
                    "notActions": list(role.not_actions),
                    "dataActions": list(role.data_actions),
                    "notDataActions": [],
                }
                for role in roles
            ]
        }
    )
