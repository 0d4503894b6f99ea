"""Clusters API 2.1: create, get, list, start, delete, permanent-delete, node types and Spark versions.

server.py mounts `routes()` and, on the control API, `control_routes()`: how long clusters take, which starts fail,
which cluster breaks down, and what an administrator added (instance profiles, budget policies). The states are
ClusterStore's.

Read in: databricks-sdk `service/compute.py` ClustersAPI (docstrings), ClusterDetails, ListClustersResponse; Databricks
documentation, "Compute permissions" (attach, restart, manage).
"""

from __future__ import annotations

import base64
import re
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.auth import caller
from trainyard_sandbox.compute.cluster_spec import effective_spec
from trainyard_sandbox.compute.clusters import TERMINATION_TYPES, Cluster, StartFailure, Termination, no_such_cluster
from trainyard_sandbox.compute.node_types import NODE_TYPES, SPARK_VERSIONS
from trainyard_sandbox.compute.rights import CLUSTER_ATTACH, CLUSTER_MANAGE, CLUSTER_RESTART
from trainyard_sandbox.databricks import cluster_shapes as shapes
from trainyard_sandbox.errors import invalid_parameter
from trainyard_sandbox.principals import Principal
from trainyard_sandbox.schema import Bool, Int, ListOf, MapOf, Number, Obj, Str, json_body, query
from trainyard_sandbox.state import SandboxState, sandbox_state

DEFAULT_PAGE = 20

_FAILURE = Obj(
    {
        "code": Str(min_length=1),
        "type": Str(choices=TERMINATION_TYPES),
        "parameters": MapOf(Str()),
        "times": Int(minimum=0),
        "run_name": Str(min_length=1),
        "spot_only": Bool(),
    },
    required=("code",),
)
_SETTINGS = Obj(
    {
        "cluster_start_seconds": Number(),
        "instance_profiles": ListOf(Str(min_length=1)),
        "budget_policies": ListOf(Str(min_length=1)),
    }
)


async def create(request: Request) -> Response:
    """POST create: PENDING at first."""
    state, principal = sandbox_state(request), caller(request).principal
    body = await json_body(request, shapes.CREATE_CLUSTER)
    if "clone_from" in body:
        raise invalid_parameter("clone_from is not offered by this sandbox.")
    minutes = body.get("autotermination_minutes", 0)
    if 0 < minutes < 10:
        raise invalid_parameter("autotermination_minutes must be 0, or between 10 and 10000.")
    spec = effective_spec(state.compute, principal, body, "all-purpose")
    return JSONResponse({"cluster_id": state.compute.clusters.create(spec, principal).cluster_id})


async def get(request: Request) -> Response:
    """GET get."""
    state, principal = sandbox_state(request), caller(request).principal
    cluster = _found(state, principal, query(request, shapes.ONE_CLUSTER)["cluster_id"], CLUSTER_ATTACH, "Attach")
    return JSONResponse(_shown(state, cluster))


async def list_clusters(request: Request) -> Response:
    """GET list: those that the caller may attach to, newest first."""
    state, principal = sandbox_state(request), caller(request).principal
    wanted = query(request, shapes.LIST_CLUSTERS)
    states, sources = wanted.get("filter_by.cluster_states"), wanted.get("filter_by.cluster_sources")
    policy = wanted.get("filter_by.policy_id")
    found = [
        cluster
        for cluster in state.compute.clusters.visible(principal)
        if (states is None or state.compute.clusters.state(cluster) in states)
        and (sources is None or cluster.source in sources)
        and (policy is None or cluster.spec.get("policy_id") == policy)
        and not wanted.get("filter_by.is_pinned")
    ]
    size, start = wanted.get("page_size", DEFAULT_PAGE), _start(wanted.get("page_token"))
    # "If the value is "", it means no further results for the request" (ListClustersResponse).
    following = _token(start + size) if len(found) > start + size else ""
    preceding = _token(max(0, start - size)) if start else ""
    page = [_shown(state, cluster) for cluster in found[start : start + size]]
    return JSONResponse({"clusters": page, "next_page_token": following, "prev_page_token": preceding})


def _token(start: int) -> str:
    return base64.urlsafe_b64encode(f"clusters:{start}".encode()).decode()


def _start(token: str | None) -> int:
    if token is None:
        return 0
    try:
        kind, _, start = base64.urlsafe_b64decode(token).decode().partition(":")
        if kind == "clusters":
            return int(start)
    except ValueError:
        pass
    raise invalid_parameter("The page token is not valid.")


async def start(request: Request) -> Response:
    """POST start: nothing happens unless it is terminated."""
    state, principal = sandbox_state(request), caller(request).principal
    cluster_id = (await json_body(request, shapes.ONE_CLUSTER))["cluster_id"]
    state.compute.clusters.start(_found(state, principal, cluster_id, CLUSTER_RESTART, "Restart"))
    return JSONResponse({})


async def delete(request: Request) -> Response:
    """POST delete: terminates it; Can Restart is enough (documentation, "Compute permissions": terminate cluster)."""
    state, principal = sandbox_state(request), caller(request).principal
    cluster_id = (await json_body(request, shapes.ONE_CLUSTER))["cluster_id"]
    cluster = _found(state, principal, cluster_id, CLUSTER_RESTART, "Restart")
    state.compute.clusters.terminate(cluster, _by(principal))
    return JSONResponse({})


async def permanent_delete(request: Request) -> Response:
    """POST permanent-delete: it is no longer there for anybody."""
    state, principal = sandbox_state(request), caller(request).principal
    cluster_id = (await json_body(request, shapes.ONE_CLUSTER))["cluster_id"]
    cluster = _found(state, principal, cluster_id, CLUSTER_MANAGE, "Manage")
    state.compute.clusters.terminate(cluster, _by(principal))
    state.compute.clusters.forget(cluster)
    return JSONResponse({})


def _by(principal: Principal) -> Termination:
    return Termination("USER_REQUEST", "SUCCESS", {"username": principal.application_id})


def _found(state: SandboxState, principal: Principal, cluster_id: str, levels: frozenset[str], action: str) -> Cluster:
    cluster = state.compute.clusters.get(cluster_id)
    state.compute.clusters.require(principal, cluster, levels, action)
    return cluster


def _shown(state: SandboxState, cluster: Cluster) -> dict[str, Any]:
    current = state.compute.clusters.state(cluster)
    spec = {key: value for key, value in cluster.spec.items() if key != "apply_policy_default_values"}
    shown = {
        **spec,
        "cluster_id": cluster.cluster_id,
        "cluster_name": spec.get("cluster_name", ""),
        "cluster_source": cluster.source,
        "creator_user_name": cluster.creator,
        "driver_node_type_id": spec.get("driver_node_type_id", spec.get("node_type_id")),
        "start_time": cluster.start_time,
        "state": current,
        "state_message": cluster.error or "",
        "spec": cluster.spec,
        "default_tags": {"Vendor": "Databricks", "Creator": cluster.creator, "ClusterId": cluster.cluster_id},
    }
    if current in ("TERMINATING", "TERMINATED") and cluster.reason is not None:
        reason = cluster.reason
        shown["termination_reason"] = {"code": reason.code, "type": reason.type, "parameters": reason.parameters}
        shown["state_message"] = reason.sentence
        shown["terminated_time"] = cluster.terminated_time or int(state.now() * 1000)
    return shown


async def list_node_types(request: Request) -> Response:
    """GET list-node-types."""
    caller(request)
    return JSONResponse({"node_types": [node.shown() for node in NODE_TYPES.values()]})


async def spark_versions(request: Request) -> Response:
    """GET spark-versions."""
    caller(request)
    return JSONResponse({"versions": [{"key": key, "name": name} for key, name in SPARK_VERSIONS.items()]})


def routes() -> list[Route]:
    """The routes of this module."""
    base = "/api/2.1/clusters"
    return [
        Route(f"{base}/create", create, methods=["POST"]),
        Route(f"{base}/get", get, methods=["GET"]),
        Route(f"{base}/list", list_clusters, methods=["GET"]),
        Route(f"{base}/start", start, methods=["POST"]),
        Route(f"{base}/delete", delete, methods=["POST"]),
        Route(f"{base}/permanent-delete", permanent_delete, methods=["POST"]),
        Route(f"{base}/list-node-types", list_node_types, methods=["GET"]),
        Route(f"{base}/spark-versions", spark_versions, methods=["GET"]),
    ]


async def add_failure(request: Request) -> Response:
    """Control, POST /cluster-failures: the next starts that match end so; `times: 0` means all."""
    given = await json_body(request, _FAILURE)
    try:
        re.compile(given.get("run_name", ""))
    except re.error as error:
        raise invalid_parameter(f"run_name is not a regular expression: {error}") from error
    termination = Termination.of(given["code"], given.get("type"), given.get("parameters"))
    times = given.get("times", 1)
    failure = StartFailure(termination, times or None, given.get("run_name"), given.get("spot_only", False))
    sandbox_state(request).compute.clusters.failures.append(failure)
    return JSONResponse({"code": termination.code, "type": termination.type})


async def clear_failures(request: Request) -> Response:
    """Control, DELETE /cluster-failures: clusters start again."""
    sandbox_state(request).compute.clusters.failures.clear()
    return JSONResponse({})


async def break_down(request: Request) -> Response:
    """Control, POST /clusters/{cluster_id}/error: it goes into ERROR, and what runs on it fails."""
    clusters = sandbox_state(request).compute.clusters
    given = await json_body(request, Obj({"message": Str(min_length=1)}, ("message",)))
    cluster = clusters.find(request.path_params["cluster_id"])
    if cluster is None:
        raise no_such_cluster(request.path_params["cluster_id"])
    clusters.break_down(cluster, given["message"])
    return JSONResponse({})


async def settings(request: Request) -> Response:
    """Control, PUT /compute: how long a cluster is PENDING; adds instance profiles and budget policies."""
    compute = sandbox_state(request).compute
    given = await json_body(request, _SETTINGS)
    compute.clusters.start_seconds = float(given.get("cluster_start_seconds", compute.clusters.start_seconds))
    compute.instance_profiles.update(given.get("instance_profiles", []))
    compute.budget_policies.update(given.get("budget_policies", []))
    return JSONResponse({})


def control_routes() -> list[Route]:
    """This module's part of the control API."""
    return [
        Route("/cluster-failures", add_failure, methods=["POST"]),
        Route("/cluster-failures", clear_failures, methods=["DELETE"]),
        Route("/clusters/{cluster_id}/error", break_down, methods=["POST"]),
        Route("/compute", settings, methods=["PUT"]),
    ]
