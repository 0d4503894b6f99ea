"""SCIM 2.0 as far as reading: who am I, and service principals, users and groups by id or filter.

server.py mounts `routes()`; the control API makes and changes identities. It must never show an entitlement that
`Principal.is_entitled` would not count, nor more to a caller than an admin lets it see.

Read in: databricks-sdk `service/iam.py` (CurrentUserAPI.me; list of ServicePrincipalsV2API, UsersV2API, GroupsV2API:
filters, paging, "count"; class User, ServicePrincipal, Group); RFC 7643 and 7644 for schemas and messages; Databricks
documentation, "SCIM API": administrators see everything, others their own `Me` and "display names and IDs".
Entitlements are those assigned to the identity itself; what a group has, its members inherit ("Manage entitlements")
without its being shown on them. `roles` (AWS instance profiles) is left out: they are not granted to identities here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.auth import caller
from trainyard_sandbox.errors import invalid_parameter, not_found
from trainyard_sandbox.principals import Directory, NamedIdentity, Principal
from trainyard_sandbox.schema import Int, Obj, Str, query
from trainyard_sandbox.state import sandbox_state

BASE = "/api/2.0/preview/scim/v2"
CORE = "urn:ietf:params:scim:schemas:core:2.0"
MAX_COUNT = 10_000
_SELECT = {"attributes": Str(), "excludedAttributes": Str()}
ONE = Obj(_SELECT)
MANY = Obj({**_SELECT, "filter": Str(), "startIndex": Int(1), "count": Int(0)})
ALWAYS = ("schemas", "id")
OPEN_TO_ALL = (*ALWAYS, "displayName", "userName", "applicationId")
_CONDITION = re.compile(r'\s*(\w+)\s+(eq|ne|co|sw)\s+"([^"]*)"\s*', re.IGNORECASE)
_TESTS: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda value, wanted: value == wanted,
    "ne": lambda value, wanted: value != wanted,
    "co": lambda value, wanted: wanted in value,
    "sw": lambda value, wanted: value.startswith(wanted),
}

Document = dict[str, Any]


def routes() -> list[Route]:
    """The routes of this module."""
    found = [Route(f"{BASE}/Me", me, methods=["GET"])]
    for name in ("ServicePrincipals", "Users", "Groups"):
        found.append(Route(f"{BASE}/{name}", _list_of(name), methods=["GET"]))
        found.append(Route(f"{BASE}/{name}/{{id}}", _one_of(name), methods=["GET"]))
    return found


async def me(request: Request) -> Response:
    """CurrentUserAPI.me: for a service principal userName is its application id."""
    principal = caller(request).principal
    wanted = query(request, ONE)
    document = {
        "schemas": [f"{CORE}:User", "urn:ietf:params:scim:schemas:extension:workspace:2.0:User"],
        "id": principal.scim_id,
        "userName": principal.application_id,
        "displayName": principal.display_name,
        "active": True,
        "groups": _groups(principal, sandbox_state(request).directory),
        "entitlements": _entitlements(principal),
    }
    return _answer(_selected(document, wanted))


def _one_of(name: str) -> Callable[[Request], Any]:
    async def get(request: Request) -> Response:
        principal = caller(request).principal
        wanted = query(request, ONE)
        asked = request.path_params["id"]
        for document in _documents(name, sandbox_state(request).directory):
            if document["id"] == asked:
                return _answer(_selected(_visible(document, principal), wanted))
        raise not_found(f"{name.removesuffix('s')} with id {asked} not found.")

    return get


def _list_of(name: str) -> Callable[[Request], Any]:
    async def list_all(request: Request) -> Response:
        principal = caller(request).principal
        wanted = query(request, MANY)
        fits = _filter(wanted.get("filter"))
        found = [
            document
            for document in (_visible(one, principal) for one in _documents(name, sandbox_state(request).directory))
            if fits(document)
        ]
        begin = wanted.get("startIndex", 1) - 1
        shown = found[begin : begin + min(wanted.get("count", MAX_COUNT), MAX_COUNT)]
        answer: Document = {
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
            "totalResults": len(found),
            "startIndex": begin + 1,
            "itemsPerPage": len(shown),
        }
        if shown:
            answer["Resources"] = [_selected(document, wanted) for document in shown]
        return _answer(answer)

    return list_all


def _documents(name: str, directory: Directory) -> Iterable[Document]:
    """Every resource of one kind, as an administrator sees it."""
    if name == "ServicePrincipals":
        for principal in directory.all():
            yield {
                "schemas": [f"{CORE}:ServicePrincipal"],
                "id": principal.scim_id,
                "applicationId": principal.application_id,
                "displayName": principal.display_name,
                "active": True,
                "groups": _groups(principal, directory),
                "entitlements": _entitlements(principal),
            }
    elif name == "Users":
        for user in directory.users.values():
            yield {
                "schemas": [f"{CORE}:User"],
                "id": user.scim_id,
                "userName": user.name,
                "displayName": user.name,
                "active": True,
                "emails": [{"type": "work", "value": user.name, "primary": True}],
                "groups": _groups(user, directory),
                "entitlements": _entitlements(user),
            }
    else:
        for group in directory.groups.values():
            yield {
                "schemas": [f"{CORE}:Group"],
                "id": group.scim_id,
                "displayName": group.name,
                "groups": _groups(group, directory),
                "members": _members(group, directory),
                "entitlements": _entitlements(group),
            }


def _groups(identity: Principal | NamedIdentity, directory: Directory) -> list[Document]:
    """The groups it is in, and those that these are in, as `indirect`."""
    direct = sorted(identity.groups)
    found, waiting = list(direct), list(direct)
    while waiting:
        above = sorted(directory.add_group(waiting.pop(0)).groups - set(found))
        found += above
        waiting += above
    return [
        {
            "display": name,
            "type": "direct" if name in direct else "indirect",
            "value": directory.add_group(name).scim_id,
            "$ref": f"Groups/{directory.add_group(name).scim_id}",
        }
        for name in found
    ]


def _members(group: NamedIdentity, directory: Directory) -> list[Document]:
    folders = {"service_principal": "ServicePrincipals", "user": "Users", "group": "Groups"}
    return [
        {"display": one.name, "value": one.scim_id, "$ref": f"{folders[one.kind]}/{one.scim_id}"}
        for one in directory.identities()
        if group.name in one.groups
    ]


def _entitlements(identity: Principal | NamedIdentity) -> list[Document]:
    return [{"value": name} for name in sorted(identity.entitlements)]


def _visible(document: Document, principal: Principal) -> Document:
    """What this caller may see of a resource."""
    if principal.is_admin or document["id"] == principal.scim_id:
        return document
    return {key: value for key, value in document.items() if key in OPEN_TO_ALL}


def _filter(text: str | None) -> Callable[[Document], bool]:
    """A SCIM filter: conditions on strings joined by `and` or by `or`.

    Raises:
        ApiError: 400 for anything more.
    """
    if text is None:
        return bool  # no document is empty
    joined_by_or = re.search(r'"\s+or\s+\w', text, re.IGNORECASE) is not None
    parts = re.split(r'(?<=")\s+(?:and|or)\s+(?=\w)', text, flags=re.IGNORECASE)
    conditions = [_CONDITION.fullmatch(part) for part in parts]
    if not all(conditions) or (joined_by_or and re.search(r'"\s+and\s+\w', text, re.IGNORECASE)):
        raise invalid_parameter(f"Given filter operator is not supported: {text}")

    def fits(document: Document) -> bool:
        results = [_TESTS[one[2].lower()](str(_attribute(document, one[1])), one[3]) for one in conditions if one]
        return any(results) if joined_by_or else all(results)

    return fits


def _attribute(document: Document, name: str) -> Any:
    """The value of an attribute, whose name is compared without regard to case (RFC 7643, section 2.1)."""
    return next((value for key, value in document.items() if key.lower() == name.lower()), "")


def _selected(document: Document, wanted: dict[str, Any]) -> Document:
    keep = {name for name in wanted.get("attributes", "").split(",") if name}
    drop = {name for name in wanted.get("excludedAttributes", "").split(",") if name}
    return {
        key: value
        for key, value in document.items()
        if key in ALWAYS or ((not keep or key in keep) and key not in drop)
    }


def _answer(document: Document) -> Response:
    return JSONResponse(document, media_type="application/scim+json")
