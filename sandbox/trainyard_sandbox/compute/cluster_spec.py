"""What a new cluster may be: the checks behind `clusters/create` and `new_cluster` of a task.

databricks/clusters.py and databricks/jobs_submit.py call `effective_spec`. It changes nothing.

Read in: databricks-sdk `service/compute.py` (docstrings of ClusterSpec, AwsAttributes, AzureAttributes, GcpAttributes);
Databricks documentation, "Manage entitlements" (unrestricted cluster creation), "GPU-enabled compute", "Connect to
pools" (nodes come from the pool: prefect-archive/prefect-databricks#26 shows node_type_id beside it refused). The
sentence about node_type_id is the one in databricks/terraform-provider-databricks#2521.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainyard_sandbox.compute.node_types import NODE_TYPES, SPARK_VERSIONS, NodeType, is_gpu_runtime
from trainyard_sandbox.compute.policies import applied
from trainyard_sandbox.errors import invalid_parameter, permission_denied
from trainyard_sandbox.principals import Principal

if TYPE_CHECKING:
    from trainyard_sandbox.compute import Compute

CLOUDS = {"aws_attributes": "aws", "azure_attributes": "azure", "gcp_attributes": "gcp"}


def effective_spec(compute: Compute, principal: Principal, spec: dict[str, Any], cluster_type: str) -> dict[str, Any]:
    """The specification with its policy's values.

    Args:
        compute: what the workspace has.
        principal: who asks for the cluster.
        spec: a cluster specification of the right shape.
        cluster_type: `job` or `all-purpose`.

    Raises:
        ApiError: 400 or 403, as the platform would refuse it.
    """
    policy_id = spec.get("policy_id")
    if policy_id is not None:
        policy = compute.policies.usable(policy_id, principal)
        spec = applied(policy.rules, spec, cluster_type)
    elif not principal.is_entitled("allow-cluster-create"):
        # (recalled)
        raise permission_denied("You are not authorized to create clusters. Please contact your administrator.")
    if "spark_version" not in spec:
        raise invalid_parameter("Missing required field 'spark_version'")
    _check_kind(spec)
    _check_size(spec)
    nodes = _nodes(compute, principal, spec)
    _check_runtime(spec, nodes)
    _check_cloud(spec, nodes)
    _check_identity(compute, spec)
    return spec


def _check_kind(spec: dict[str, Any]) -> None:
    for name in ("is_single_node", "use_ml_runtime"):
        if name in spec and spec.get("kind") != "CLASSIC_PREVIEW":
            raise invalid_parameter(f"{name} can only be used when kind = CLASSIC_PREVIEW.")


def _check_size(spec: dict[str, Any]) -> None:
    sizes = [name for name in ("num_workers", "autoscale") if name in spec]
    if len(sizes) > 1 or (not sizes and not spec.get("is_single_node")):
        raise invalid_parameter("Exactly one of num_workers or autoscale is required for a cluster.")
    if spec.get("is_single_node") and "autoscale" in spec:
        raise invalid_parameter("A single node cluster cannot autoscale.")
    autoscale = spec.get("autoscale", {})
    if autoscale and autoscale.get("min_workers", 0) > autoscale.get("max_workers", 0):
        raise invalid_parameter("autoscale.min_workers must not be greater than autoscale.max_workers.")


def _nodes(compute: Compute, principal: Principal, spec: dict[str, Any]) -> list[NodeType]:
    """The kinds of its machines: named, or its pools'."""
    pool_id, driver_pool_id = spec.get("instance_pool_id"), spec.get("driver_instance_pool_id")
    if pool_id is None:
        if driver_pool_id is not None:
            raise invalid_parameter("driver_instance_pool_id needs an instance_pool_id.")
        if "node_type_id" not in spec:
            raise invalid_parameter("Missing required field 'node_type_id'")
        return [_node(spec[name]) for name in ("node_type_id", "driver_node_type_id") if name in spec]
    for name in ("node_type_id", "driver_node_type_id", "enable_elastic_disk"):
        if name in spec:
            raise invalid_parameter(f"The field '{name}' cannot be supplied when an instance pool ID is provided.")
    pools = [compute.pools.attachable(found, principal) for found in (pool_id, driver_pool_id) if found is not None]
    return [_node(pool.node_type_id) for pool in pools]


def _node(node_type_id: str) -> NodeType:
    node = NODE_TYPES.get(node_type_id)
    if node is None:
        # (recalled)
        raise invalid_parameter(f"Node type {node_type_id} is not supported. Supported node types: {_known()}.")
    return node


def _known() -> str:
    return ", ".join(sorted(NODE_TYPES))


def known_node_type(node_type_id: str) -> NodeType:
    """The node type.

    Raises:
        ApiError: 400.
    """
    return _node(node_type_id)


def _check_runtime(spec: dict[str, Any], nodes: list[NodeType]) -> None:
    version = spec["spark_version"]
    if version not in SPARK_VERSIONS:
        # (recalled)
        raise invalid_parameter(f"Invalid spark version {version}.")
    if spec.get("runtime_engine") == "PHOTON" and ("-photon-" in version or is_gpu_runtime(version)):
        raise invalid_parameter(f"runtime_engine PHOTON is not compatible with the spark version {version}.")
    if spec.get("use_ml_runtime"):
        return  # "effective_spark_version is determined by spark_version, use_ml_runtime, and whether it is a gpu node"
    with_gpus = [node.node_type_id for node in nodes if node.gpus]
    if with_gpus and not is_gpu_runtime(version):
        raise invalid_parameter(f"The node type {with_gpus[0]} has GPUs and needs a GPU runtime, not {version}.")
    if is_gpu_runtime(version) and len(with_gpus) < len(nodes):
        raise invalid_parameter(f"The spark version {version} needs node types with GPUs.")


def _check_cloud(spec: dict[str, Any], nodes: list[NodeType]) -> None:
    for name, cloud in CLOUDS.items():
        if name in spec and any(node.cloud != cloud for node in nodes):
            raise invalid_parameter(f"{name} cannot be used with the node type {nodes[0].node_type_id}.")
    price = spec.get("azure_attributes", {}).get("spot_bid_max_price", -1)
    if price != -1 and price <= 0:
        raise invalid_parameter("azure_attributes.spot_bid_max_price must be greater than 0, or -1.")


def _check_identity(compute: Compute, spec: dict[str, Any]) -> None:
    profile = spec.get("aws_attributes", {}).get("instance_profile_arn")
    if profile is not None and profile not in compute.instance_profiles:
        raise invalid_parameter(f"The instance profile {profile} has not been added to this workspace.")
