"""Account access control, as a workspace proxies it: who may use and who may manage a service principal.

server.py mounts `routes()`. The rules are the grants on `servicePrincipals/<application id>`, which `run_as` asks for
as well: what is shown is what is enforced. It must never show a rule set to who does not manage the service principal.

Read in: databricks-sdk `service/iam.py` (AccountAccessControlProxyAPI, RuleSetResponse: names, "An empty etag can only
be used in GET"); Databricks documentation, "Roles for managing service principals" (the manager role manages the roles;
managers do not inherit the user role; being a workspace admin is not enough). Only service principals' rule sets are
offered, those of accounts, groups and tag policies are not.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.auth import caller
from trainyard_sandbox.errors import ApiError, invalid_parameter, not_found, permission_denied
from trainyard_sandbox.principals import (
    SERVICE_PRINCIPAL_MANAGER,
    SERVICE_PRINCIPAL_USER,
    NamedIdentity,
    Principal,
)
from trainyard_sandbox.schema import ListOf, Obj, Str, json_body, query
from trainyard_sandbox.state import SandboxState, sandbox_state

BASE = "/api/2.0/preview/accounts/access-control"
ROLES = (SERVICE_PRINCIPAL_MANAGER, SERVICE_PRINCIPAL_USER)
PREFIXES = {"users": "user", "groups": "group", "servicePrincipals": "service_principal"}
GET = Obj({"name": Str(min_length=1), "etag": Str()}, required=("name", "etag"))
RESOURCE = Obj({"resource": Str(min_length=1)}, required=("resource",))
RULE = Obj({"role": Str(choices=ROLES), "principals": ListOf(Str(min_length=1))}, required=("role",))
RULE_SET = Obj({"name": Str(), "etag": Str(min_length=1), "grant_rules": ListOf(RULE)}, required=("name", "etag"))
PUT = Obj({"name": Str(min_length=1), "rule_set": RULE_SET}, required=("name", "rule_set"))
_NAME = re.compile(r"accounts/([^/]+)/servicePrincipals/([^/]+)(/ruleSets/default)?")


def routes() -> list[Route]:
    """The routes of this module."""
    return [
        Route(f"{BASE}/rule-sets", get, methods=["GET"]),
        Route(f"{BASE}/rule-sets", update, methods=["PUT"]),
        Route(f"{BASE}/assignable-roles", assignable_roles, methods=["GET"]),
    ]


async def get(request: Request) -> Response:
    """AccountAccessControlProxyAPI.get_rule_set."""
    principal = caller(request).principal
    asked = query(request, GET)
    state = sandbox_state(request)
    return JSONResponse(_rule_set(state, _managed(state, principal, asked["name"], rule_set=True)))


async def update(request: Request) -> Response:
    """AccountAccessControlProxyAPI.update_rule_set: all rules at once, if nobody changed them since they were read."""
    principal = caller(request).principal
    body = await json_body(request, PUT)
    state = sandbox_state(request)
    target = _managed(state, principal, body["name"], rule_set=True)
    if body["rule_set"]["name"] != body["name"]:
        raise invalid_parameter("The name of the rule set differs from the name in the request.")
    if body["rule_set"]["etag"] != _rule_set(state, target)["etag"]:
        raise ApiError(409, "RESOURCE_CONFLICT", "The rule set was changed since it was read: the etag is not current.")
    rules = body["rule_set"].get("grant_rules", [])
    granted = [(rule["role"], _identity(state, name)) for rule in rules for name in rule.get("principals", [])]
    for identity in state.directory.identities():
        identity.grants.pop(_securable(target), None)
    for role, identity in granted:
        identity.grants.setdefault(_securable(target), set()).add(role)
    return JSONResponse(_rule_set(state, target))


async def assignable_roles(request: Request) -> Response:
    """AccountAccessControlProxyAPI.get_assignable_roles_for_resource."""
    principal = caller(request).principal
    asked = query(request, RESOURCE)
    _managed(sandbox_state(request), principal, asked["resource"], rule_set=False)
    return JSONResponse({"roles": [{"name": role} for role in ROLES]})


def _managed(state: SandboxState, principal: Principal, name: str, *, rule_set: bool) -> Principal:
    """The service principal that a name means, for one of its managers.

    Raises:
        ApiError: 400, 403 and 404.
    """
    match = _NAME.fullmatch(name)
    if match is None or bool(match[3]) != rule_set:
        raise invalid_parameter(f"The sandbox has access control of service principals only, not of {name}.")
    target = state.directory.get(match[2])
    if match[1] != state.account_id or target is None:
        raise not_found(f"The resource {name} does not exist.")
    if SERVICE_PRINCIPAL_MANAGER not in principal.held(_securable(target)):
        raise permission_denied(
            f"{principal.application_id} does not have the role {SERVICE_PRINCIPAL_MANAGER} on {match[2]}."
        )
    return target


def _securable(target: Principal) -> str:
    return f"servicePrincipals/{target.application_id}"


def _rule_set(state: SandboxState, target: Principal) -> dict[str, Any]:
    """The rule set with its etag, which follows from the rules."""
    words = {kind: prefix for prefix, kind in PREFIXES.items()}
    rules: dict[str, list[str]] = {}
    for role, identity in _holders(state, target):
        rules.setdefault(role, []).append(f"{words[identity.kind]}/{identity.name}")
    grant_rules = [{"role": role, "principals": sorted(rules[role])} for role in sorted(rules)]
    digest = hashlib.sha256(json.dumps([target.application_id, grant_rules]).encode()).digest()
    name = f"accounts/{state.account_id}/{_securable(target)}/ruleSets/default"
    shown: dict[str, Any] = {"name": name, "etag": base64.b64encode(digest).decode()}
    return shown | ({"grant_rules": grant_rules} if grant_rules else {})


def _holders(state: SandboxState, target: Principal) -> Iterator[tuple[str, Principal | NamedIdentity]]:
    for identity in state.directory.identities():
        for role in identity.grants.get(_securable(target), ()):
            yield role, identity


def _identity(state: SandboxState, name: str) -> Principal | NamedIdentity:
    """Whom `users/<name>`, `groups/<name>` or `servicePrincipals/<application id>` means."""
    prefix, _, rest = name.partition("/")
    identity = state.directory.identity(rest)
    if prefix not in PREFIXES or identity is None or identity.kind != PREFIXES[prefix]:
        raise invalid_parameter(f"Principal {name} does not exist.")
    return identity
