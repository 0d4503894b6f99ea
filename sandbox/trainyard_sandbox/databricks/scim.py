"""SCIM, as far as "who am I": what `WorkspaceClient.current_user.me()` asks.

Read in: databricks-sdk `service/iam.py` `CurrentUserAPI.me` and class `User`; RFC 7643 for the schemas.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.auth import caller
from trainyard_sandbox.principals import Principal
from trainyard_sandbox.schema import Obj, Str, query

_ME = Obj({"attributes": Str(), "excludedAttributes": Str()})


async def me(request: Request) -> Response:
    """GET /api/2.0/preview/scim/v2/Me."""
    principal = caller(request).principal
    wanted = query(request, _ME)
    document = _document(principal)
    keep = {name for name in wanted.get("attributes", "").split(",") if name}
    drop = {name for name in wanted.get("excludedAttributes", "").split(",") if name}
    selected = {
        key: value
        for key, value in document.items()
        if key in ("schemas", "id") or ((not keep or key in keep) and key not in drop)
    }
    return JSONResponse(selected, media_type="application/scim+json")


def _document(principal: Principal) -> dict[str, Any]:
    # For a service principal, userName is its application id: that is how a workspace shows who a token speaks for.
    return {
        "schemas": [
            "urn:ietf:params:scim:schemas:core:2.0:User",
            "urn:ietf:params:scim:schemas:extension:workspace:2.0:User",
        ],
        "id": principal.scim_id,
        "userName": principal.application_id,
        "displayName": principal.display_name,
        "active": True,
        "groups": [{"display": name, "type": "direct", "value": name} for name in sorted(principal.groups)],
        "entitlements": [{"value": name} for name in sorted(principal.entitlements)],
    }


def routes() -> list[Route]:
    """The routes of this module."""
    return [Route("/api/2.0/preview/scim/v2/Me", me, methods=["GET"])]
