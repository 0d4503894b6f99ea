"""What the region offers and what the subscription uses of it: VM sizes and vCPU usages.

Only clients call it (azure-ai-ml `compute.list_sizes`, `compute.list_usage`). Paths: azure-ai-ml
`_restclient/arm_ml_service/operations/_operations.py`, `locations/{location}/vmSizes` and `usages`; fields:
`_models.py`, VirtualMachineSize and Usage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.arm import PROVIDER, authenticated, authorization_failed, full_action
from trainyard_sandbox.azure.compute_sizes import SIZES
from trainyard_sandbox.azure.compute_store import SERVERLESS, ComputeStore
from trainyard_sandbox.azure.computes import VERSIONS
from trainyard_sandbox.azure.errors import ArmError, AzureError
from trainyard_sandbox.azure.online_rules import cores_in_use
from trainyard_sandbox.azure.state import AzureState
from trainyard_sandbox.state import sandbox_state

_BASE = f"/subscriptions/{{subscription}}/providers/{PROVIDER}/locations/{{location}}"
_NO_LIMIT = -1
"""How a usage without a limit is shown."""


def sizes(_azure: AzureState) -> list[dict[str, Any]]:
    """Every VM size as the API shows it."""
    kinds = ["AmlCompute", "ComputeInstance"]
    return [
        {
            "name": size.name,
            "family": size.family,
            "vCPUs": size.cores,
            "gpus": size.gpus,
            "lowPriorityCapable": True,
            "premiumIO": True,
            "supportedComputeTypes": kinds,
        }
        for size in SIZES
    ]


def usages(azure: AzureState) -> list[dict[str, Any]]:
    """vCPUs in use: of clusters and online deployments by family, and of serverless jobs together."""
    store: ComputeStore = azure.computes
    used = dict.fromkeys(sorted({size.family for size in SIZES}), 0)
    used |= cores_in_use(azure)
    serverless = store.pool(SERVERLESS)
    rows = [(family, cores, store.family_cores.get(family, _NO_LIMIT)) for family, cores in used.items()]
    limit = store.serverless_cores
    rows.append(("serverless", serverless.in_use if serverless else 0, _NO_LIMIT if limit is None else limit))
    kind = "Microsoft.MachineLearningServices/workspaces/usages"
    base = f"{azure.subscription_scope}/providers/{PROVIDER}/locations/{azure.region}/usages"
    return [
        {
            "id": f"{base}/{name}",
            "type": kind,
            "unit": "Count",
            "currentValue": cores,
            "limit": limit,
            "name": {"value": name, "localizedValue": name},
        }
        for name, cores, limit in rows
    ]


def _route(path: str, action: str, listed: Callable[[AzureState], list[dict[str, Any]]]) -> Route:
    async def endpoint(request: Request) -> Response:
        azure = sandbox_state(request).azure
        try:
            principal, _ = authenticated(request, {azure.url, azure.url + "/"}, ArmError)
            if request.query_params.get("api-version") not in VERSIONS:
                raise ArmError(400, "InvalidApiVersionParameter", f"Supported api-versions: {', '.join(VERSIONS)}.")
            if not principal.may(full_action(action), azure.subscription_scope):
                raise authorization_failed(principal, full_action(action), request.url.path)
            if request.path_params["location"].lower() != azure.region:
                message = f"The provided location '{request.path_params['location']}' is not available."
                raise ArmError(400, "LocationNotAvailableForResourceType", message)
            return JSONResponse({"value": listed(azure)})
        except AzureError as error:
            return error.response(request)

    return Route(_BASE + path, endpoint, methods=["GET"])


def routes() -> list[Route]:
    """The routes of this module."""
    return [
        _route("/vmSizes", "locations/vmsizes/read", sizes),
        _route("/usages", "locations/usages/read", usages),
    ]
