"""User-assigned managed identities and their federated credentials, as Azure Resource Manager shows them.

Bodies: Azure/azure-rest-api-specs, Microsoft.ManagedIdentity examples IdentityGet, IdentityListByResourceGroup and
FederatedIdentityCredentialList of 2024-11-30. Only reading is offered; the control API makes and changes them.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.arm import Action, AzureCall, group_route, resource_not_found
from trainyard_sandbox.azure.errors import ArmError
from trainyard_sandbox.azure.principals import AzurePrincipal
from trainyard_sandbox.azure.state import AzureState

PROVIDER = "Microsoft.ManagedIdentity"
VERSIONS = ("2018-11-30", "2023-01-31", "2024-11-30")
CREDENTIAL_VERSIONS = VERSIONS[1:]
_IDENTITIES = "/userAssignedIdentities"
_READ = f"{PROVIDER}/userAssignedIdentities/read"
_READ_CREDENTIALS = f"{PROVIDER}/userAssignedIdentities/federatedIdentityCredentials/read"


def routes() -> list[Route]:
    """Mounted by server.py."""
    one = _IDENTITIES + "/{name}"
    listed = Action(list_credentials, _READ_CREDENTIALS, CREDENTIAL_VERSIONS, ("$top", "$skiptoken"))
    return [
        group_route(PROVIDER, _IDENTITIES, {"GET": Action(list_identities, _READ, VERSIONS)}),
        group_route(PROVIDER, one, {"GET": Action(get, _READ, VERSIONS)}),
        group_route(PROVIDER, one + "/federatedIdentityCredentials", {"GET": listed}),
    ]


async def list_identities(call: AzureCall) -> Response:
    """Every user-assigned identity of the resource group."""
    return JSONResponse({"value": [_shown(call.azure, one) for one in _identities(call.azure)]})


async def get(call: AzureCall) -> Response:
    """One identity by its name."""
    return JSONResponse(_shown(call.azure, _one(call)))


async def list_credentials(call: AzureCall) -> Response:
    """The federated credentials of one identity, `$top` at a time."""
    identity = _one(call)
    scope = call.azure.identity_scope(identity.display_name)
    shown = [
        {
            "id": f"{scope}/federatedIdentityCredentials/{credential.name}",
            "name": credential.name,
            "type": f"{PROVIDER}/userAssignedIdentities/federatedIdentityCredentials",
            "properties": {
                "issuer": credential.issuer,
                "subject": credential.subject,
                "audiences": list(credential.audiences),
            },
        }
        for credential in identity.credentials
    ]
    begin, length = _number(call, "$skiptoken", 0), _number(call, "$top", len(shown))
    body: dict[str, Any] = {"value": shown[begin : begin + length]}
    if begin + length < len(shown):
        query = {"api-version": call.api_version, "$top": length, "$skiptoken": begin + length}
        body["nextLink"] = f"{call.azure.url}{call.request.url.path}?{urlencode(query)}"
    return JSONResponse(body)


def _number(call: AzureCall, name: str, default: int) -> int:
    text = call.query.get(name, str(default))
    if not (text.isascii() and text.isdigit()):
        raise ArmError(400, "InvalidRequestUri", f"The query parameter '{name}' is not a number.")
    return int(text)


def _identities(azure: AzureState) -> list[AzurePrincipal]:
    return [one for one in azure.directory.all() if one.kind == "user-assigned"]


def _one(call: AzureCall) -> AzurePrincipal:
    name = call.path["name"]
    for identity in _identities(call.azure):
        if identity.display_name.lower() == name.lower():
            return identity
    raise resource_not_found(f"{PROVIDER}/userAssignedIdentities/{name}", call.path["group"])


def _shown(azure: AzureState, identity: AzurePrincipal) -> dict[str, Any]:
    return {
        "id": azure.identity_scope(identity.display_name),
        "name": identity.display_name,
        "type": f"{PROVIDER}/userAssignedIdentities",
        "location": azure.region,
        "tags": {},
        "properties": {
            "tenantId": azure.tenant_id,
            "principalId": identity.object_id,
            "clientId": identity.client_id,
        },
    }
