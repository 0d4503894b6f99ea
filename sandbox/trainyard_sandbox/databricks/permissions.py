"""Permissions API 2.0: who may do what to folders, files, notebooks, experiments, compute, jobs and serving endpoints.

server.py mounts `routes()`. It must never let anybody see or change a list who may not manage the object.

Read in: databricks-sdk `service/iam.py` (PermissionsAPI: PUT replaces, PATCH adds; "Deletes all direct permissions if
none are specified"); docs.databricks.com/api, "Permissions" (object_id "/clusters/<id>", object_type "cluster"). No
page says who may read a list: only who may manage the object, here, so that nobody relies on more. The job of a
one-time run has its run's list: it can be seen, and changed only by submitting another run. `registered-models` means
the workspace registry, which the sandbox lacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.auth import caller
from trainyard_sandbox.engine.runs import Run
from trainyard_sandbox.errors import invalid_parameter, not_found, permission_denied
from trainyard_sandbox.principals import Principal
from trainyard_sandbox.schema import ListOf, Obj, Str, json_body, query
from trainyard_sandbox.state import SandboxState, sandbox_state
from trainyard_sandbox.stores.object_acl import NAME_FIELDS, OBJECT_TYPES, OWNER, AccessLists, ObjectType, Place
from trainyard_sandbox.stores.tracking import tracking_of
from trainyard_sandbox.stores.workspace_tree import implied_levels, tree_of, with_parents

ENTRY = Obj({**{field: Str(min_length=1) for field in NAME_FIELDS.values()}, "permission_level": Str()})
LIST = Obj({"access_control_list": ListOf(ENTRY)})


@dataclass(frozen=True)
class Target:
    """The object that a request names."""

    kind: ObjectType
    request_type: str
    object_id: str
    chain: tuple[Place, ...]
    run: Run | None = None
    """The one-time run, when the object is its job."""


def routes() -> list[Route]:
    """The routes of this module."""
    path = "/api/2.0/permissions/{object_type}/{object_id}"
    return [
        Route(path, get, methods=["GET"]),
        Route(path, replace, methods=["PUT"]),
        Route(path, update, methods=["PATCH"]),
        Route(f"{path}/permissionLevels", permission_levels, methods=["GET"]),
    ]


async def get(request: Request) -> Response:
    """PermissionsAPI.get."""
    principal = caller(request).principal
    query(request, Obj({}))
    target = await _target(request, principal)
    _require_manage(request, principal, target)
    return _answer(request, target)


async def replace(request: Request) -> Response:
    """PermissionsAPI.set."""
    return await _change(request, replaces=True)


async def update(request: Request) -> Response:
    """PermissionsAPI.update."""
    return await _change(request, replaces=False)


async def permission_levels(request: Request) -> Response:
    """PermissionsAPI.get_permission_levels: for who holds any level."""
    principal = caller(request).principal
    query(request, Obj({}))
    target = await _target(request, principal)
    if not principal.is_admin and not _lists(request).levels(principal, target.chain):
        raise _denied(principal, target)
    levels = [
        {"permission_level": level, "description": f"{level.replace('_', ' ').capitalize()} the {target.kind.name}"}
        for level in target.kind.levels
    ]
    return JSONResponse({"permission_levels": levels})


async def _change(request: Request, *, replaces: bool) -> Response:
    principal = caller(request).principal
    sent = (await json_body(request, LIST)).get("access_control_list", [])
    target = await _target(request, principal)
    _require_manage(request, principal, target)
    if target.run is not None:
        raise invalid_parameter(
            f"Job {target.object_id} is a one-time run's, whose permissions are those it came with."
        )
    lists = _lists(request)
    lists.change(target.kind, target.chain[-1], lists.entries(target.kind, sent), replace=replaces)
    return _answer(request, target)


def _answer(request: Request, target: Target) -> Response:
    shown: dict[str, Any] = {
        "object_id": f"/{target.request_type}/{target.object_id}",
        "object_type": target.kind.name,
        "access_control_list": _lists(request).shown(target.chain),
    }
    if target.run is not None:
        shown["access_control_list"] += _of_run(target.run)
    return JSONResponse(shown)


def _of_run(run: Run) -> list[dict[str, Any]]:
    owner = {"service_principal_name": run.creator, "permission_level": OWNER}
    return [
        {key: value for key, value in entry.items() if key != "permission_level"}
        | {"all_permissions": [{"permission_level": entry["permission_level"], "inherited": False}]}
        for entry in (owner, *run.request.get("access_control_list", ()))
    ]


def _lists(request: Request) -> AccessLists:
    return AccessLists(sandbox_state(request).directory)


def _require_manage(request: Request, principal: Principal, target: Target) -> None:
    own_run = target.run is not None and target.run.creator == principal.application_id
    if not own_run and not _lists(request).may_manage(principal, target.kind, target.chain):
        raise _denied(principal, target)


def _denied(principal: Principal, target: Target) -> Exception:
    return permission_denied(
        f"{principal.application_id} does not have Manage permissions on {target.kind.name} {target.object_id}."
    )


async def _target(request: Request, principal: Principal) -> Target:
    """The object of the request.

    Raises:
        ApiError: 404 when there is no such object; 400 for a type that the sandbox lacks.
    """
    state = sandbox_state(request)
    request_type, object_id = request.path_params["object_type"], request.path_params["object_id"]
    kind = OBJECT_TYPES.get(request_type)
    if kind is None:
        raise invalid_parameter(f"The sandbox has no permissions of {request_type}; it has {', '.join(OBJECT_TYPES)}.")
    if request_type == "experiments":
        path = await tracking_of(request).experiment_name(object_id)
        return Target(kind, request_type, object_id, _folders(state, path, f"/experiments/{object_id}"))
    if request_type in ("directories", "files", "notebooks"):
        found = tree_of(state).by_id(object_id)
        if found is None or found.object_type != kind.name.upper():
            raise not_found(f"{kind.name.capitalize()} {object_id} does not exist.")
        return Target(kind, request_type, object_id, _folders(state, found.path, f"/{request_type}/{object_id}"))
    root = Place(f"/{request_type}/", f"{request_type}/", implied=(("admins", kind.admins_level),))
    chain = (root, Place(f"/{request_type}/{object_id}", f"{request_type}/{object_id}"))
    run = _require_flat(state, request_type, object_id, principal)
    return Target(kind, request_type, object_id, chain, run)


def _require_flat(state: SandboxState, request_type: str, object_id: str, principal: Principal) -> Run | None:
    """Check that an object outside the folders exists; the run, when it is the job of a one-time run."""
    if request_type == "clusters":
        state.compute.clusters.get(object_id)
    elif request_type == "instance-pools":
        state.compute.pools.get(object_id)
    elif request_type == "cluster-policies":
        state.compute.policies.get(object_id, principal)
    elif request_type == "serving-endpoints":
        state.model_serving.by_id(object_id)
    elif not (object_id.isascii() and object_id.isdigit()):
        raise invalid_parameter(f"Invalid job id: {object_id}")
    elif state.jobs.find(int(object_id)) is None:
        for run in state.runs.newest_first():
            if run.job_id == int(object_id) and run.run_type == "SUBMIT_RUN":
                return run
        raise not_found(f"Job {object_id} does not exist.")
    return None


def _folders(state: SandboxState, path: str, shown: str) -> tuple[Place, ...]:
    """The folders above a path, the root first, then itself."""
    tree = tree_of(state)
    places = []
    for folder in with_parents(path):
        object_id = tree.object_id(folder)
        name = "/directories/" if folder == "/" else f"/directories/{object_id}"
        places.append(Place(shown if folder == path else name, folder, implied_levels(folder)))
    return tuple(places)
