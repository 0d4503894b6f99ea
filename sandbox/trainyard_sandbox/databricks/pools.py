"""Instance Pools API 2.0: create, get, list, delete.

server.py mounts `routes()`; the pools are PoolStore's.

Read in: databricks-sdk `service/compute.py` InstancePoolsAPI, InstancePoolAndStats.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.auth import caller
from trainyard_sandbox.compute.cluster_spec import CLOUDS, known_node_type
from trainyard_sandbox.compute.node_types import SPARK_VERSIONS
from trainyard_sandbox.compute.rights import POOL_ATTACH
from trainyard_sandbox.databricks import cluster_shapes as shapes
from trainyard_sandbox.errors import invalid_parameter
from trainyard_sandbox.schema import json_body, query
from trainyard_sandbox.state import sandbox_state


async def create(request: Request) -> Response:
    """POST create."""
    state, principal = sandbox_state(request), caller(request).principal
    body = await json_body(request, shapes.CREATE_POOL)
    node = known_node_type(body["node_type_id"])
    for name, cloud in CLOUDS.items():
        if name in body and node.cloud != cloud:
            raise invalid_parameter(f"{name} cannot be used with the node type {node.node_type_id}.")
    for version in body.get("preloaded_spark_versions", []):
        if version not in SPARK_VERSIONS:
            raise invalid_parameter(f"Invalid spark version {version}.")
    profile = body.get("aws_attributes", {}).get("instance_profile_arn")
    if profile is not None and profile not in state.compute.instance_profiles:
        raise invalid_parameter(f"The instance profile {profile} has not been added to this workspace.")
    return JSONResponse({"instance_pool_id": state.compute.pools.create(body, principal).pool_id})


async def get(request: Request) -> Response:
    """GET get."""
    state, principal = sandbox_state(request), caller(request).principal
    pool = state.compute.pools.get(query(request, shapes.ONE_POOL)["instance_pool_id"])
    state.compute.pools.require(principal, pool, POOL_ATTACH, "Attach To")
    return JSONResponse(pool.shown())


async def list_pools(request: Request) -> Response:
    """GET list."""
    state, principal = sandbox_state(request), caller(request).principal
    pools = [pool.shown() for pool in state.compute.pools.visible(principal)]
    return JSONResponse({"instance_pools": pools} if pools else {})


async def delete(request: Request) -> Response:
    """POST delete."""
    state, principal = sandbox_state(request), caller(request).principal
    state.compute.pools.delete((await json_body(request, shapes.ONE_POOL))["instance_pool_id"], principal)
    return JSONResponse({})


def routes() -> list[Route]:
    """The routes of this module."""
    base = "/api/2.0/instance-pools"
    return [
        Route(f"{base}/create", create, methods=["POST"]),
        Route(f"{base}/get", get, methods=["GET"]),
        Route(f"{base}/list", list_pools, methods=["GET"]),
        Route(f"{base}/delete", delete, methods=["POST"]),
    ]
