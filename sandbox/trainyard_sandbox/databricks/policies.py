"""Cluster Policies API 2.0: create, get, list, delete.

server.py mounts `routes()`; the policies and what they mean are PolicyStore's. Policy families are not offered.

Read in: databricks-sdk `service/compute.py` ClusterPoliciesAPI, Policy.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.auth import caller
from trainyard_sandbox.databricks import cluster_shapes as shapes
from trainyard_sandbox.errors import invalid_parameter
from trainyard_sandbox.schema import json_body, query
from trainyard_sandbox.state import sandbox_state


async def create(request: Request) -> Response:
    """POST create: by an admin."""
    state, principal = sandbox_state(request), caller(request).principal
    body = await json_body(request, shapes.CREATE_POLICY)
    for name in ("policy_family_id", "policy_family_definition_overrides", "libraries", "max_clusters_per_user"):
        if name in body:
            raise invalid_parameter(f"{name} is not offered by this sandbox.")
    return JSONResponse({"policy_id": state.compute.policies.create(body, principal).policy_id})


async def get(request: Request) -> Response:
    """GET get."""
    state, principal = sandbox_state(request), caller(request).principal
    policy = state.compute.policies.get(query(request, shapes.ONE_POLICY)["policy_id"], principal)
    return JSONResponse(policy.shown())


async def list_policies(request: Request) -> Response:
    """GET list: those that the caller may use."""
    state, principal = sandbox_state(request), caller(request).principal
    wanted = query(request, shapes.LIST_POLICIES)
    by_name = wanted.get("sort_column") == "POLICY_NAME"
    found = sorted(
        state.compute.policies.visible(principal),
        key=lambda policy: policy.spec["name"] if by_name else policy.created_at,
        reverse=wanted.get("sort_order", "DESC") == "DESC",
    )
    return JSONResponse({"policies": [policy.shown() for policy in found]} if found else {})


async def delete(request: Request) -> Response:
    """POST delete: by an admin."""
    state, principal = sandbox_state(request), caller(request).principal
    state.compute.policies.delete((await json_body(request, shapes.ONE_POLICY))["policy_id"], principal)
    return JSONResponse({})


def routes() -> list[Route]:
    """The routes of this module."""
    base = "/api/2.0/policies/clusters"
    return [
        Route(f"{base}/create", create, methods=["POST"]),
        Route(f"{base}/get", get, methods=["GET"]),
        Route(f"{base}/list", list_policies, methods=["GET"]),
        Route(f"{base}/delete", delete, methods=["POST"]),
    ]
