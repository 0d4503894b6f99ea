"""The control API: what an account admin, an operator of the platform or bad luck would do, for tests and the demo.

client.py is its client. It is served on its own loopback port, never through the platform's host, and has no
authentication: whoever may talk to this machine's loopback may change the sandbox. It must never act on the platform's
behalf in a way the platform could not (a run is moved only into states it has, except the one made for testing that).

A module of the databricks package may add its own part with `control_routes()`.
"""

from __future__ import annotations

import dataclasses
import re
import uuid
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from trainyard_sandbox import control_runs, federation
from trainyard_sandbox.errors import ApiError, invalid_parameter, not_found, render_api_error
from trainyard_sandbox.faults import FAULT_KINDS, Fault
from trainyard_sandbox.issuers import ISSUER_FAULTS
from trainyard_sandbox.principals import (
    ENTITLEMENTS,
    Principal,
    new_scim_id,
    normal_privilege,
)
from trainyard_sandbox.request_log import LoggedRequest
from trainyard_sandbox.schema import AnyJson, Bool, Int, ListOf, MapOf, Number, Obj, Str, json_body, query
from trainyard_sandbox.serving import control as serving_control
from trainyard_sandbox.state import sandbox_state
from trainyard_sandbox.tokens import PURPOSES

_PRINCIPAL = Obj(
    {
        "application_id": Str(min_length=1),
        "display_name": Str(),
        "workspace_access": Bool(),
        "entitlements": ListOf(Str(choices=ENTITLEMENTS)),
        "groups": ListOf(Str(min_length=1)),
        "grants": MapOf(ListOf(Str(min_length=1))),
        "usable_service_principals": ListOf(Str(min_length=1)),
    }
)
_POLICY = Obj(
    {
        "application_id": Str(min_length=1),
        "issuer": Str(min_length=1),
        "audiences": ListOf(Str(min_length=1)),
        "subject": Str(min_length=1),
        "subject_claim": Str(min_length=1),
        "jwks_json": Str(min_length=1),
        "jwks_uri": Str(min_length=1),
    },
    required=("issuer",),
)
_GRANT = Obj(
    {"principal": Str(), "securable": Str(min_length=1), "privileges": ListOf(Str(min_length=1))},
    required=("principal", "securable", "privileges"),
)
_FAULT = Obj(
    {
        "kind": Str(choices=FAULT_KINDS),
        "path": Str(min_length=1),
        "method": Str(choices=("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")),
        "times": Int(minimum=0),
        "after_effect": Bool(),
        "status": Int(minimum=400, maximum=599),
        "retry_after": Str(),
        "message": Str(),
        "error_code": Str(min_length=1),
        "seconds": Number(),
        "location": Str(),
    },
    required=("kind", "path"),
)
_REQUESTS = Obj({"since": Int(minimum=0), "method": Str(), "path": Str(), "principal": Str()})


async def add_principal(request: Request) -> Response:
    """POST /principals: a new service principal; without an application id it gets one."""
    state = sandbox_state(request)
    given = await json_body(request, _PRINCIPAL)
    application_id = given.pop("application_id", None) or str(uuid.uuid4())
    principal = Principal(application_id, given.pop("display_name", application_id), new_scim_id())
    _change(principal, given)
    state.directory.add(principal)
    return JSONResponse(_shown(principal))


async def change_principal(request: Request) -> Response:
    """PATCH /principals/{application_id}: replaces the fields given."""
    state = sandbox_state(request)
    principal = state.directory.require(request.path_params["application_id"])
    given = await json_body(request, _PRINCIPAL)
    if given.pop("application_id", principal.application_id) != principal.application_id:
        raise invalid_parameter("The application id of a principal cannot change.")
    _change(principal, given)
    state.directory.add(principal)
    return JSONResponse(_shown(principal))


def _change(principal: Principal, given: dict[str, Any]) -> None:
    if "entitlements" in given:
        principal.entitlements = set(given["entitlements"])
    if "groups" in given:
        principal.groups = {"users", *given["groups"]}
    if "grants" in given:
        roles = {name: held for name, held in principal.grants.items() if name.startswith("servicePrincipals/")}
        principal.grants = roles | {
            securable: {normal_privilege(securable, privilege) for privilege in privileges}
            for securable, privileges in given["grants"].items()
        }
    if "usable_service_principals" in given:
        principal.use_service_principals(set(given["usable_service_principals"]))
    principal.display_name = given.get("display_name", principal.display_name)
    principal.workspace_access = given.get("workspace_access", principal.workspace_access)


def _shown(principal: Principal) -> dict[str, Any]:
    return {
        "application_id": principal.application_id,
        "display_name": principal.display_name,
        "scim_id": principal.scim_id,
        "workspace_access": principal.workspace_access,
        "entitlements": sorted(principal.entitlements),
        "groups": sorted(principal.groups),
        "grants": {securable: sorted(privileges) for securable, privileges in principal.grants.items()},
        "usable_service_principals": sorted(principal.usable_service_principals),
    }


async def list_principals(request: Request) -> Response:
    """GET /principals."""
    return JSONResponse([_shown(principal) for principal in sandbox_state(request).directory.all()])


async def remove_principal(request: Request) -> Response:
    """DELETE /principals/{application_id}: with its policies and credentials; its tokens stop working."""
    state = sandbox_state(request)
    principal = state.directory.require(request.path_params["application_id"])
    state.directory.remove(principal.application_id)
    state.tokens.expire(principal.application_id, "pat")
    for secret in state.oauth_secrets.of(principal.application_id):
        state.oauth_secrets.revoke(secret.secret_id)
    return JSONResponse({})


async def grant(request: Request) -> Response:
    """POST /grants adds, DELETE /grants removes: privileges on a full name, levels on a path or `type/id`, roles.

    `principal` is an application id, a user's or a group's name.
    """
    given = await json_body(request, _GRANT)
    identity = sandbox_state(request).directory.identity(given["principal"])
    if identity is None:
        raise not_found(f"Nobody is called {given['principal']}.")
    held = identity.grants.setdefault(given["securable"], set())
    changed = {normal_privilege(given["securable"], privilege) for privilege in given["privileges"]}
    if request.method == "POST":
        held.update(changed)
    else:
        held.difference_update(changed)
        if not held:
            del identity.grants[given["securable"]]
    return JSONResponse({"principal": identity.name, "securable": given["securable"], "privileges": sorted(held)})


async def add_names(request: Request) -> Response:
    """POST /directory: users and groups that exist in the workspace, for access control lists."""
    directory = sandbox_state(request).directory
    given = await json_body(request, Obj({"users": ListOf(Str(min_length=1)), "groups": ListOf(Str(min_length=1))}))
    for name in given.get("users", []):
        directory.add_user(name)
    for name in given.get("groups", []):
        directory.add_group(name)
    return JSONResponse({"users": sorted(directory.users), "groups": sorted(directory.groups)})


async def change_group(request: Request) -> Response:
    """PUT /groups/{name}: makes the group if it is missing; `entitlements` and `groups` (that it is in) replace."""
    directory = sandbox_state(request).directory
    shape = Obj({"entitlements": ListOf(Str(choices=ENTITLEMENTS)), "groups": ListOf(Str(min_length=1))})
    given = await json_body(request, shape)
    group = directory.add_group(request.path_params["name"])
    group.entitlements = set(given.get("entitlements", group.entitlements))
    group.groups = {directory.add_group(name).name for name in given.get("groups", group.groups)}
    return JSONResponse(
        {"name": group.name, "entitlements": sorted(group.entitlements), "groups": sorted(group.groups)}
    )


async def add_policy(request: Request) -> Response:
    """POST /policies: of one service principal, or account-wide without an application id."""
    given = await json_body(request, _POLICY)
    policy = federation.add_policy(sandbox_state(request), given)
    return JSONResponse(dataclasses.asdict(policy))


async def list_policies(request: Request) -> Response:
    """GET /policies."""
    return JSONResponse([dataclasses.asdict(policy) for policy in sandbox_state(request).directory.policies])


async def remove_policy(request: Request) -> Response:
    """DELETE /policies/{policy_id}."""
    directory = sandbox_state(request).directory
    kept = [policy for policy in directory.policies if policy.policy_id != request.path_params["policy_id"]]
    if len(kept) == len(directory.policies):
        raise not_found("No such federation policy.")
    directory.policies = kept
    return JSONResponse({})


async def trust_issuer(request: Request) -> Response:
    """POST /issuers: which CA file vouches for an issuer's https."""
    state = sandbox_state(request)
    given = await json_body(request, Obj({"issuer": Str(), "ca_file": Str()}, required=("issuer", "ca_file")))
    try:
        state.issuers.trust(given["issuer"], state.data_dir / given["ca_file"])
    except ValueError as error:
        raise invalid_parameter(str(error)) from error
    return JSONResponse(state.issuers.trusted())


async def forget_issuer(request: Request) -> Response:
    """POST /issuers/forget: an issuer's keys are fetched again, as after their five minutes, also by Entra."""
    given = await json_body(request, Obj({"issuer": Str()}, required=("issuer",)))
    sandbox_state(request).issuers.forget_keys(given["issuer"])
    return JSONResponse({})


async def break_issuer(request: Request) -> Response:
    """PUT /issuers/fault: an issuer seems unreachable or without its keys, to Databricks and to Entra."""
    shape = Obj({"issuer": Str(), "fault": Str(choices=ISSUER_FAULTS)}, required=("issuer",))
    given = await json_body(request, shape)
    sandbox_state(request).issuers.break_issuer(given["issuer"], given.get("fault"))
    return JSONResponse({})


async def add_fault(request: Request) -> Response:
    """POST /faults: see `Fault`; `times: 0` means every request."""
    given = await json_body(request, _FAULT)
    if given.get("times") == 0:
        given["times"] = None
    try:
        re.compile(given["path"])
    except re.error as error:
        raise invalid_parameter(f"path is not a regular expression: {error}") from error
    return JSONResponse({"fault_id": sandbox_state(request).faults.add(Fault(**given))})


async def list_faults(request: Request) -> Response:
    """GET /faults: with how often each was hit."""
    shown = []
    for fault in sandbox_state(request).faults.all():
        fields = {f.name: getattr(fault, f.name) for f in dataclasses.fields(fault) if f.name != "released"}
        shown.append(fields)
    return JSONResponse(shown)


async def clear_faults(request: Request) -> Response:
    """DELETE /faults: none is in force any more, and what hangs goes on."""
    sandbox_state(request).faults.clear()
    return JSONResponse({})


async def release_faults(request: Request) -> Response:
    """POST /faults/release: hanging requests go on, of one fault or of all."""
    given = await json_body(request, Obj({"fault_id": Int()}))
    return JSONResponse({"released": sandbox_state(request).faults.release(given.get("fault_id"))})


async def list_tokens(request: Request) -> Response:
    """GET /tokens: every token ever issued, with its value: for the canary scan."""
    return JSONResponse([dataclasses.asdict(token) for token in sandbox_state(request).tokens.all_issued()])


async def issue_token(request: Request) -> Response:
    """POST /tokens: a token without a federated assertion, for people who have no identity provider at hand."""
    state = sandbox_state(request)
    shape = Obj({"application_id": Str(), "lifetime_seconds": Number()}, ("application_id",))
    given = await json_body(request, shape)
    principal = state.directory.require(given["application_id"])
    token = state.tokens.issue(principal.application_id, float(given.get("lifetime_seconds", 3600)), "manual")
    return JSONResponse(dataclasses.asdict(token))


async def expire_tokens(request: Request) -> Response:
    """POST /tokens/expire: all live tokens of a principal expire now."""
    shape = Obj({"application_id": Str(), "purpose": Str(choices=PURPOSES)}, ("application_id",))
    given = await json_body(request, shape)
    expired = sandbox_state(request).tokens.expire(given["application_id"], given.get("purpose"))
    return JSONResponse({"expired": expired})


async def settings(request: Request) -> Response:
    """PUT /settings: `max_token_lifetime_seconds` caps new tokens, `clock_offset_seconds` sets the clock off."""
    state = sandbox_state(request)
    shape = Obj({"max_token_lifetime_seconds": Number(), "clock_offset_seconds": Number()})
    for name, value in (await json_body(request, shape)).items():
        setattr(state, name, float(value))
    return JSONResponse({"now": state.now(), "max_token_lifetime_seconds": state.max_token_lifetime_seconds})


async def override_discovery(request: Request) -> Response:
    """PUT /discovery: fields to say in the host metadata and the OIDC document; what is not given is true again."""
    state = sandbox_state(request)
    given = await json_body(request, Obj({"metadata": MapOf(AnyJson()), "oidc": MapOf(AnyJson())}))
    state.overrides.metadata = given.get("metadata")
    state.overrides.oidc = given.get("oidc")
    return JSONResponse({})


async def list_requests(request: Request) -> Response:
    """GET /requests: the platform's request log, oldest first; `since` is a sequence number, exclusive."""
    state = sandbox_state(request)
    wanted = query(request, _REQUESTS)

    def keep(entry: LoggedRequest) -> bool:
        return (
            entry.sequence > wanted.get("since", 0)
            and wanted.get("method") in (None, entry.method)
            and wanted.get("principal") in (None, entry.principal)
            and re.fullmatch(wanted.get("path", ".*"), entry.path) is not None
        )

    entries = [dataclasses.asdict(entry) for entry in state.request_log.select(keep)]
    return JSONResponse({"total": state.request_log.total, "requests": entries})


async def clear_requests(request: Request) -> Response:
    """DELETE /requests."""
    sandbox_state(request).request_log.clear()
    return JSONResponse({})


def build(state: Any, extra: list[BaseRoute]) -> Starlette:
    """The control application; `extra` are the routes of platform modules."""
    routes: list[BaseRoute] = [
        Route("/principals", list_principals, methods=["GET"]),
        Route("/principals", add_principal, methods=["POST"]),
        Route("/principals/{application_id}", change_principal, methods=["PATCH"]),
        Route("/principals/{application_id}", remove_principal, methods=["DELETE"]),
        Route("/grants", grant, methods=["POST", "DELETE"]),
        Route("/directory", add_names, methods=["POST"]),
        Route("/groups/{name}", change_group, methods=["PUT"]),
        Route("/policies", list_policies, methods=["GET"]),
        Route("/policies", add_policy, methods=["POST"]),
        Route("/policies/{policy_id}", remove_policy, methods=["DELETE"]),
        Route("/issuers", trust_issuer, methods=["POST"]),
        Route("/issuers/forget", forget_issuer, methods=["POST"]),
        Route("/issuers/fault", break_issuer, methods=["PUT"]),
        Route("/faults", list_faults, methods=["GET"]),
        Route("/faults", add_fault, methods=["POST"]),
        Route("/faults", clear_faults, methods=["DELETE"]),
        Route("/faults/release", release_faults, methods=["POST"]),
        Route("/tokens", list_tokens, methods=["GET"]),
        Route("/tokens", issue_token, methods=["POST"]),
        Route("/tokens/expire", expire_tokens, methods=["POST"]),
        Route("/settings", settings, methods=["PUT"]),
        Route("/discovery", override_discovery, methods=["PUT"]),
        Route("/requests", list_requests, methods=["GET"]),
        Route("/requests", clear_requests, methods=["DELETE"]),
        *control_runs.routes(),
        *serving_control.routes(),
        *extra,
    ]
    app = Starlette(routes=routes, exception_handlers={ApiError: render_api_error})
    app.state.sandbox = state
    return app
