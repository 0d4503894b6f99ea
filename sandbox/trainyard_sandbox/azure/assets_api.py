"""What the HTTP of all versioned assets has in common: bodies as ARM shows them, pages, and what a second PUT may do.

codes.py, environments.py, data_assets.py and models.py call it. The SDK reads the id of each resource, and pages by
`nextLink` (azure-ai-ml `_restclient/arm_ml_service/operations`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.arm import PROVIDER, Action, AzureCall, Handler, arm_route
from trainyard_sandbox.azure.assets import AssetContainer, AssetStore, AssetVersion, Author, system_data
from trainyard_sandbox.azure.errors import ArmError, not_found, user_error
from trainyard_sandbox.schema import AnyJson, Bool, MapOf, Obj, Shape, Str

VERSIONS = (
    "2023-04-01",
    "2023-04-01-preview",
    "2023-08-01-preview",
    "2023-10-01",
    "2024-04-01",
    "2024-04-01-preview",
    "2024-10-01-preview",
    "2025-01-01-preview",
)
"""api-versions served for assets: the bodies are alike in all of them, but for fields that the sandbox refuses."""

LIST_QUERY = ("$orderBy", "$top", "$skip", "listViewType", "tags")
CONTAINER_QUERY = ("$skip", "listViewType")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9\-_.]{0,254}")
_VERSION = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9\-_.]{0,29}|[0-9a-f-]{32,64}")
_READ_ONLY = ("provisioningState", "environmentType")
_FREE = ("description", "tags", "properties", "isArchived", "stage", "autoDeleteSetting")
PAGE = 100

COMMON_FIELDS: Mapping[str, Shape] = {
    "description": Str(),
    "tags": MapOf(Str()),
    "properties": MapOf(AnyJson()),
    "isAnonymous": Bool(),
    "isArchived": Bool(),
}


def asset_routes(
    kind: str,
    list_versions: Action | None = None,
    **methods: Handler,
) -> list[Route]:
    """The routes that every kind of asset has: its names, one of them, its versions, one of them.

    Args:
        kind: as in paths and roles; the state's attribute of that name is its store.
        list_versions: the list of versions, where it can be asked for more than others.
        methods: what else may be done to a version, for example PUT=put_data.
    """

    def store_of(call: AzureCall) -> AssetStore:
        store: AssetStore = getattr(call.azure, kind)
        return store

    async def list_names(call: AzureCall) -> Response:
        return listed_containers(call, store_of(call))

    async def get_name(call: AzureCall) -> Response:
        store = store_of(call)
        return JSONResponse(container_body(call, store, require_container(store, call.path["name"])))

    async def all_versions(call: AzureCall) -> Response:
        store = store_of(call)
        require_container(store, call.path["name"])
        return listed_versions(call, store, store.versions(call.path["name"]))

    async def get_version(call: AzureCall) -> Response:
        store = store_of(call)
        return JSONResponse(version_body(call, store, require_version(store, call.path["name"], call.path["version"])))

    names, versions = f"workspaces/{kind}", f"workspaces/{kind}/versions"
    actions = {"PUT": f"{versions}/write", "DELETE": f"{versions}/delete"}
    one = {method: Action(handler, actions[method], VERSIONS) for method, handler in methods.items()}
    listed = list_versions or Action(all_versions, f"{versions}/read", VERSIONS, LIST_QUERY)
    return [
        arm_route(f"/{kind}", {"GET": Action(list_names, f"{names}/read", VERSIONS, CONTAINER_QUERY)}),
        arm_route(f"/{kind}/{{name}}", {"GET": Action(get_name, f"{names}/read", VERSIONS)}),
        arm_route(f"/{kind}/{{name}}/versions", {"GET": listed}),
        arm_route(
            f"/{kind}/{{name}}/versions/{{version}}", {"GET": Action(get_version, f"{versions}/read", VERSIONS), **one}
        ),
    ]


def put_shape(fields: Mapping[str, Shape], required: Sequence[str] = ()) -> Obj:
    """The body of a PUT with these `properties` beside the common ones.

    What a GET tells may come back: ARM takes its read-only fields and leaves them alone.
    """
    properties = Obj({**COMMON_FIELDS, **fields, **dict.fromkeys(_READ_ONLY, AnyJson())}, required=required)
    envelope = dict.fromkeys(("id", "name", "type", "systemData"), AnyJson())
    return Obj({"properties": properties, **envelope}, required=("properties",))


async def put_properties(call: AzureCall, shape: Obj) -> dict[str, Any]:
    """The `properties` of a PUT's body, without those that only ARM writes.

    Raises:
        ArmError: 400, see `AzureCall.body`.
    """
    given = (await call.body(shape))["properties"]
    return {name: value for name, value in given.items() if name not in _READ_ONLY}


def check_name(name: str, version: str) -> None:
    """Refuse what Azure ML takes for neither a name nor a version.

    Raises:
        ArmError: 400 UserError.
    """
    if not _NAME.fullmatch(name):
        message = f"Asset name '{name}' is invalid. It must start with an alphanumeric character and may only contain "
        raise user_error(message + "a-z, A-Z, 0-9, '-', '_' and '.', up to 255 characters.", "BadArgument")
    if not _VERSION.fullmatch(version):
        raise user_error(f"Asset version '{version}' is invalid.", "BadArgument")


def put_version(
    call: AzureCall, store: AssetStore, properties: dict[str, Any], uri_field: str | None
) -> tuple[AssetVersion, bool]:
    """Make or change the version that the path names; returns it, and whether it is new.

    Raises:
        ArmError: 400 UserError when the asset's path would change, 409 when anything else would that may not.
    """
    name, version = call.path["name"], call.path["version"]
    check_name(name, version)
    if "properties" in properties:
        properties = properties | {"properties": {key: str(value) for key, value in properties["properties"].items()}}
    known = store.get(name, version)
    if known is not None:
        _check_unchanged(store, known, properties, uri_field)
    kept = store.put(name, version, properties, Author.of(call.principal))
    return kept, known is None


def _check_unchanged(
    store: AssetStore, known: AssetVersion, properties: Mapping[str, Any], uri_field: str | None
) -> None:
    def differs(name: str) -> bool:
        return (known.properties.get(name) or None) != (properties.get(name) or None)

    if uri_field is not None and differs(uri_field):
        # Sentence: azure-ai-ml `_artifacts/_constants.py`, ASSET_PATH_ERROR.
        raise user_error("Asset paths cannot be updated.", "Immutable")
    fixed = (set(known.properties) | set(properties)) - {*_FREE, *_READ_ONLY}
    changed = sorted(name for name in fixed if name in properties and differs(name))
    if changed:
        message = (
            f"{store.kind}/{known.name}/versions/{known.version} already exists and {changed[0]} cannot be changed."
        )
        raise ArmError(409, "UserError", message, inner=("Conflict",))


def require_version(store: AssetStore, name: str, version: str) -> AssetVersion:
    """The version. Raises ArmError (404) when there is none."""
    found = store.get(name, version)
    if found is None:
        raise not_found(f"{store.kind} version {name}:{version} was not found in this workspace.")
    return found


def require_container(store: AssetStore, name: str) -> AssetContainer:
    """The container. Raises ArmError (404) when there is none."""
    found = store.container(name)
    if found is None:
        raise not_found(f"{store.kind} container {name} was not found in this workspace.")
    return found


def version_body(call: AzureCall, store: AssetStore, version: AssetVersion) -> dict[str, Any]:
    """A version as ARM shows it."""
    return {
        "id": f"{call.azure.workspace_scope}/{store.kind}/{version.name}/versions/{version.version}",
        "name": version.version,
        "type": f"{PROVIDER}/workspaces/{store.kind}/versions",
        "properties": {**_DEFAULTS, **_DEFAULTS_OF_KIND.get(store.kind, {}), **version.properties},
        "systemData": system_data(version.author, version.created_at, version.modified_at),
    }


_DEFAULTS: dict[str, Any] = {
    "description": None,
    "tags": {},
    "properties": {},
    "isArchived": False,
    "isAnonymous": False,
    "provisioningState": "Succeeded",
}
_DEFAULTS_OF_KIND: dict[str, dict[str, Any]] = {"models": {"flavors": {}, "jobName": None, "stage": ""}}


def container_body(call: AzureCall, store: AssetStore, container: AssetContainer) -> dict[str, Any]:
    """A container as ARM shows it."""
    latest = container.latest
    properties: dict[str, Any] = {
        "description": None,
        "tags": {},
        "properties": {},
        "isArchived": False,
        "latestVersion": None if latest is None else latest.version,
        "nextVersion": container.next_version,
        "provisioningState": "Succeeded",
    }
    changed = latest.modified_at if latest else container.created_at
    return {
        "id": f"{call.azure.workspace_scope}/{store.kind}/{container.name}",
        "name": container.name,
        "type": f"{PROVIDER}/workspaces/{store.kind}",
        "properties": properties | container.properties,
        "systemData": system_data(container.author, container.created_at, changed),
    }


def listed_containers(call: AzureCall, store: AssetStore) -> Response:
    """A page of containers; none is ever archived here."""
    shown = [] if _view(call) == "ArchivedOnly" else list(store.containers.values())
    return page_response(call, [container_body(call, store, container) for container in shown])


def _view(call: AzureCall) -> str:
    view = call.query.get("listViewType", "ActiveOnly")
    if view not in ("ActiveOnly", "ArchivedOnly", "All"):
        raise user_error(f"listViewType '{view}' is invalid.", "BadArgument", target="listViewType")
    return view


def listed_versions(call: AzureCall, store: AssetStore, keep: Sequence[AssetVersion]) -> Response:
    """A page of versions: the archived ones as `listViewType` says, in the order of `$orderBy`, filtered by tags."""
    view = _view(call)
    shown = [v for v in keep if view == "All" or bool(v.properties.get("isArchived")) == (view == "ArchivedOnly")]
    for wanted in filter(None, call.query.get("tags", "").split(",")):
        key, equals, value = wanted.partition("=")
        shown = [
            v
            for v in shown
            if key in v.properties.get("tags", {}) and (not equals or v.properties["tags"][key] == value)
        ]
    bodies = [version_body(call, store, version) for version in _ordered(call, shown)]
    return page_response(call, bodies)


def _ordered(call: AzureCall, versions: list[AssetVersion]) -> list[AssetVersion]:
    order = call.query.get("$orderBy", "createdtime desc").split()
    keys = {"createdtime": "created_at", "modifiedtime": "modified_at"}
    if order[0].lower() not in keys or order[1:] not in ([], ["asc"], ["desc"]):
        raise user_error(f"$orderBy '{' '.join(order)}' is invalid.", "BadArgument", target="$orderBy")
    attribute = keys[order[0].lower()]
    oldest_first = sorted(versions, key=lambda version: float(getattr(version, attribute)))
    return oldest_first if order[1:] != ["desc"] else list(reversed(oldest_first))


def page_response(call: AzureCall, bodies: Sequence[Mapping[str, Any]], length_from: str = "$top") -> Response:
    """One page of a list, with `nextLink` if there is more; it begins at `$skip`.

    `length_from` is the parameter that says how long the page may be; `$top` ends the list there, others do not.
    """
    begin, length = _number(call, "$skip", 0), min(_number(call, length_from, PAGE), PAGE)
    answer: dict[str, Any] = {"value": list(bodies[begin : begin + length])}
    if begin + length < len(bodies) and "$top" not in call.query:
        query = {**call.query, "api-version": call.api_version, "$skip": str(begin + length)}
        answer["nextLink"] = f"{call.azure.url}{call.request.url.path}?{urlencode(query)}"
    return JSONResponse(answer)


def _number(call: AzureCall, name: str, default: int) -> int:
    text = call.query.get(name, str(default))
    if not text.isascii() or not text.isdigit():
        raise user_error(f"{name} '{text}' is invalid.", "BadArgument", target=name)
    return int(text)
