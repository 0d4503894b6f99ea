"""Unity Catalog API 2.1, grants: permissions and effective permissions of securables over `Securables`.

server.py mounts `routes()`; what is shown here is what the stores enforce. It must never show a caller more than the
platform would.

Read in: databricks-sdk `service/catalog.py` (GrantsAPI; EffectivePrivilege: "omitted when privilege is not inherited";
names with underscores); Databricks documentation, "Manage privileges in Unity Catalog": owners of the object, catalog
or schema and holders of MANAGE see and change all grants, everybody else sees "only your own grants"; "Unity Catalog
privileges and securable objects" for what applies to what. `principal` selects grants to exactly that name; without it
a caller who does not manage the object sees its own and its groups' grants (our reading, no page is so precise). The
sentence about privileges that do not apply: databricks/terraform-provider-databricks#1566 and others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.auth import caller
from trainyard_sandbox.errors import ApiError, invalid_parameter, permission_denied
from trainyard_sandbox.principals import Principal, normal_privilege
from trainyard_sandbox.schema import Int, ListOf, Obj, Str, json_body, query
from trainyard_sandbox.state import sandbox_state
from trainyard_sandbox.stores.securables import Securables, SecurableType, securables_of, type_of_name

ON_ANY = frozenset({"ALL PRIVILEGES", "APPLY TAG", "MANAGE"})
ON_MODEL = ON_ANY | {"CREATE MODEL VERSION", "EXECUTE"}
ON_TABLE = ON_ANY | {"MODIFY", "REFRESH", "SELECT"}
ON_VOLUME = ON_ANY | {"READ VOLUME", "WRITE VOLUME"}
CREATE_IN_SCHEMA = frozenset(f"CREATE {what}" for what in ("FUNCTION", "MATERIALIZED VIEW", "MODEL", "TABLE", "VOLUME"))
ON_SCHEMA = ON_MODEL | ON_TABLE | ON_VOLUME | CREATE_IN_SCHEMA | {"EXTERNAL USE SCHEMA", "USE SCHEMA"}
ON_CATALOG = ON_SCHEMA | {"BROWSE", "CREATE SCHEMA", "USE CATALOG"}
APPLICABLE: dict[SecurableType, frozenset[str]] = {
    "CATALOG": ON_CATALOG,
    "SCHEMA": ON_SCHEMA,
    "FUNCTION": ON_MODEL,
    "TABLE": ON_TABLE,
    "VOLUME": ON_VOLUME,
}

PAGE_LENGTH = 1000
MIN_PAGE_LENGTH = 150
ASKED = Obj({"principal": Str(min_length=1), "max_results": Int(0), "page_token": Str()})
CHANGE = Obj(
    {"principal": Str(min_length=1), "add": ListOf(Str(min_length=1)), "remove": ListOf(Str(min_length=1))},
    required=("principal",),
)
CHANGES = Obj({"changes": ListOf(CHANGE)}, required=("changes",))


def routes() -> list[Route]:
    """The routes of this module."""
    base = "/api/2.1/unity-catalog"
    return [
        Route(f"{base}/permissions/{{securable_type}}/{{full_name}}", get, methods=["GET"]),
        Route(f"{base}/permissions/{{securable_type}}/{{full_name}}", update, methods=["PATCH"]),
        Route(f"{base}/effective-permissions/{{securable_type}}/{{full_name}}", get_effective, methods=["GET"]),
    ]


def control_routes() -> list[Route]:
    """PUT /owners: gives a catalog, schema, model, volume or table to a principal, user or group."""
    return [Route("/owners", change_owner, methods=["PUT"])]


async def change_owner(request: Request) -> Response:
    """PUT /owners (control API): `full_name` and `owner`; a catalog or schema is made if it is missing."""
    shape = Obj({"full_name": Str(min_length=1), "owner": Str(min_length=1)}, required=("full_name", "owner"))
    given = await json_body(request, shape)
    securables: Securables = sandbox_state(request).securables
    name = given["full_name"].lower()
    if name.count(".") == 1:
        securables.add_schema(name)
    elif "." not in name:
        securables.add_schema(f"{name}.default")
    securables.change_owner(name, given["owner"])
    return JSONResponse({"full_name": name, "owner": securables.owner(name)})


async def get(request: Request) -> Response:
    """GrantsAPI.get: what was granted on exactly this."""
    principal = caller(request).principal
    asked = query(request, ASKED)
    securables = securables_of(request)
    name, _ = _securable(request, securables)
    show = _filter(securables, principal, name, asked)
    found = [(who, [_wire(one) for one in privileges]) for who, privileges in securables.assigned(name) if show(who)]
    return _answer(found, asked)


async def get_effective(request: Request) -> Response:
    """GrantsAPI.get_effective: with what is inherited from schema and catalog."""
    principal = caller(request).principal
    asked = query(request, ASKED)
    securables = securables_of(request)
    name, _ = _securable(request, securables)
    show = _filter(securables, principal, name, asked)
    found: list[tuple[str, list[Any]]] = []
    for who, privileges in securables.effective(name).items():
        if show(who):
            found.append((who, [_effective(held.privilege, held.inherited_from) for held in privileges]))
    return _answer(found, asked)


async def update(request: Request) -> Response:
    """GrantsAPI.update."""
    principal = caller(request).principal
    body = await json_body(request, CHANGES)
    securables = securables_of(request)
    name, securable_type = _securable(request, securables)
    if not securables.manages(principal, name):
        raise permission_denied(f"User does not have MANAGE on {securable_type.capitalize()} '{name}'.")
    for change in body["changes"]:
        for privilege in (*change.get("add", ()), *change.get("remove", ())):
            if normal_privilege(name, privilege) not in APPLICABLE[securable_type]:
                words = normal_privilege(name, privilege)
                raise invalid_parameter(
                    f"Privilege {words} is not applicable to this entity [{name}:{securable_type}]."
                )
        if sandbox_state(request).directory.identity(change["principal"]) is None:
            message = f"Could not find principal with name {change['principal']}"
            raise ApiError(404, "PRINCIPAL_DOES_NOT_EXIST", message)
    for change in body["changes"]:
        securables.change_grants(name, change["principal"], change.get("add", ()), change.get("remove", ()))
    found = [(who, [_wire(one) for one in privileges]) for who, privileges in securables.assigned(name)]
    return _answer(found, {})


def _securable(request: Request, securables: Securables) -> tuple[str, SecurableType]:
    """The stored name and the type of the securable that the path names."""
    asked: str = request.path_params["securable_type"]
    if asked.upper() not in APPLICABLE:
        # A model's is FUNCTION, also where the SDK's enumeration has MODEL (docstring of RegisteredModelsAPI).
        raise invalid_parameter(f"The sandbox knows no securable type '{asked}'; it has {', '.join(APPLICABLE)}.")
    securable_type = cast(SecurableType, asked.upper())
    return securables.require_known(request.path_params["full_name"], securable_type), securable_type


def _filter(securables: Securables, principal: Principal, name: str, asked: dict[str, Any]) -> Callable[[str], bool]:
    """Whose grants are shown to this caller."""
    wanted = asked.get("principal")
    everybody = securables.manages(principal, name)
    own = principal.names()
    return lambda who: wanted in (None, who) and (everybody or who in own)


def _wire(privilege: str) -> str:
    return privilege.replace(" ", "_")


def _effective(privilege: str, inherited_from: str | None) -> dict[str, str]:
    shown = {"privilege": _wire(privilege)}
    if inherited_from is not None:
        shown |= {"inherited_from_type": type_of_name(inherited_from), "inherited_from_name": inherited_from}
    return shown


def _answer(found: list[tuple[str, list[Any]]], asked: dict[str, Any]) -> Response:
    """The assignments of one page: whole assignments, as many privileges as `max_results` allows, one at least."""
    length = asked.get("max_results")
    if length is not None and 0 < length < MIN_PAGE_LENGTH:
        raise invalid_parameter(f"max_results must be 0 or at least {MIN_PAGE_LENGTH}.")
    token = asked.get("page_token", "0")
    if not token.isascii() or not token.isdigit():
        raise invalid_parameter("The page token is not valid.")
    begin = end = int(token)
    room = len(found) * 1000 if length is None else (length or PAGE_LENGTH)
    while end < len(found) and (end == begin or room >= len(found[end][1])):
        room -= len(found[end][1])
        end += 1
    answer: dict[str, Any] = {}
    if found[begin:end]:
        answer["privilege_assignments"] = [{"principal": who, "privileges": held} for who, held in found[begin:end]]
    if end < len(found):
        answer["next_page_token"] = str(end)
    return JSONResponse(answer)
