"""The account's API for federation policies, of a service principal and account-wide: create, get, list, delete.

Only account admins may use it (Databricks documentation, "Configure a federation policy"), with a token of the account
or, on Azure, one of Entra; a personal access token is none for the account ("Authenticate with Databricks personal
access tokens"). What it keeps is what databricks/oidc.py asks.

Read in: databricks-sdk `service/oauth2.py` (AccountFederationPolicyAPI, ServicePrincipalFederationPolicyAPI,
FederationPolicy, OidcFederationPolicy). Updates are not offered; the sentences of refusals are ours.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox import federation
from trainyard_sandbox.account.sign_in import check_account
from trainyard_sandbox.auth import account_admin
from trainyard_sandbox.errors import invalid_parameter, not_found
from trainyard_sandbox.principals import FederationPolicy, Principal
from trainyard_sandbox.schema import Int, ListOf, Obj, Str, json_body, page, query
from trainyard_sandbox.state import SandboxState, sandbox_state

PAGE = 100
_OIDC = Obj(
    {
        "issuer": Str(min_length=1),
        "audiences": ListOf(Str(min_length=1)),
        "subject": Str(min_length=1),
        "subject_claim": Str(min_length=1),
        "jwks_json": Str(min_length=1),
        "jwks_uri": Str(min_length=1),
    },
    required=("issuer",),
)
_POLICY = Obj({"description": Str(), "name": Str(), "oidc_policy": _OIDC}, required=("oidc_policy",))
_POLICY_ID = re.compile(r"[a-z0-9/-]+")


def routes() -> list[Route]:
    """The routes of this module."""
    account = "/api/2.0/accounts/{account}"
    found = []
    for base in (f"{account}/federationPolicies", f"{account}/servicePrincipals/{{principal}}/federationPolicies"):
        found += [
            Route(base, list_policies, methods=["GET"]),
            Route(base, create, methods=["POST"]),
            Route(base + "/{policy_id:path}", get, methods=["GET"]),
            Route(base + "/{policy_id:path}", delete, methods=["DELETE"]),
        ]
    return found


async def list_policies(request: Request) -> Response:
    """`list` of both APIs."""
    state, principal = _asked(request)
    wanted = query(request, Obj({"page_size": Int(minimum=0), "page_token": Str()}))
    asked = {"max_results": wanted.get("page_size", 0)} | wanted
    shown, following = page(_policies(state, principal), asked, PAGE, PAGE)
    body: dict[str, Any] = {"policies": [_shown(state, principal, policy) for policy in shown]} if shown else {}
    return JSONResponse(body | following)


async def create(request: Request) -> Response:
    """`create` of both APIs."""
    state, principal = _asked(request)
    policy_id = query(request, Obj({"policy_id": Str(min_length=1)})).get("policy_id")
    given = await json_body(request, _POLICY, takes_query=True)
    if policy_id is not None and _POLICY_ID.fullmatch(policy_id) is None:
        raise invalid_parameter("policy_id may have lower-case letters, digits, hyphens and slashes only.")
    oidc = given["oidc_policy"] | {"description": given.get("description", "")}
    oidc |= {} if policy_id is None else {"policy_id": policy_id}
    oidc |= {} if principal is None else {"application_id": principal.application_id}
    policy = federation.add_policy(state, oidc)
    return JSONResponse(_shown(state, principal, policy))


async def get(request: Request) -> Response:
    """`get` of both APIs."""
    state, principal = _asked(request)
    return JSONResponse(_shown(state, principal, _one(request, state, principal)))


async def delete(request: Request) -> Response:
    """`delete` of both APIs."""
    state, principal = _asked(request)
    state.directory.policies.remove(_one(request, state, principal))
    return JSONResponse({})


def _asked(request: Request) -> tuple[SandboxState, Principal | None]:
    """The service principal whose policies are meant, None for the account's own; for account admins."""
    state = sandbox_state(request)
    check_account(request, state)
    account_admin(request)
    scim_id = request.path_params.get("principal")
    if scim_id is None:
        return state, None
    for principal in state.directory.all():
        if principal.scim_id == scim_id:
            return state, principal
    raise not_found(f"Service principal {scim_id} does not exist in this account.")


def _policies(state: SandboxState, principal: Principal | None) -> list[FederationPolicy]:
    wanted = principal.application_id if principal else None
    return [policy for policy in state.directory.policies if policy.application_id == wanted]


def _one(request: Request, state: SandboxState, principal: Principal | None) -> FederationPolicy:
    wanted = request.path_params["policy_id"]
    for policy in _policies(state, principal):
        if policy.policy_id == wanted:
            return policy
    raise not_found(f"Federation policy {wanted} does not exist.")


def _shown(state: SandboxState, principal: Principal | None, policy: FederationPolicy) -> dict[str, Any]:
    oidc = {
        "issuer": policy.issuer,
        "audiences": list(policy.audiences),
        "subject": policy.subject,
        "subject_claim": policy.subject_claim,
        "jwks_json": policy.jwks_json,
        "jwks_uri": policy.jwks_uri,
    }
    base = f"accounts/{state.account_id}" + (f"/servicePrincipals/{principal.scim_id}" if principal else "")
    at = datetime.fromtimestamp(policy.created_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    shown = {
        "name": f"{base}/federationPolicies/{policy.policy_id}",
        "policy_id": policy.policy_id,
        "uid": policy.uid,
        "description": policy.description,
        "create_time": at,
        "update_time": at,
        "oidc_policy": {key: value for key, value in oidc.items() if value is not None},
    }
    return shown | ({"service_principal_id": int(principal.scim_id)} if principal else {})
