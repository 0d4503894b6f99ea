"""Request shapes of clusters, pools and policies: which fields each request may have.

clusters.py, pools.py, policies.py and jobs_shapes.py validate with them. Fields, limits and words as in databricks-sdk
`service/compute.py`: ClusterSpec, AwsAttributes, AzureAttributes, GcpAttributes, Library, ClustersAPI,
InstancePoolsAPI, ClusterPoliciesAPI.
"""

from __future__ import annotations

from trainyard_sandbox.schema import AnyJson, Bool, Int, ListOf, MapOf, Number, Obj, Shape, Str

DATA_SECURITY_MODES = (
    "DATA_SECURITY_MODE_AUTO",
    "DATA_SECURITY_MODE_DEDICATED",
    "DATA_SECURITY_MODE_STANDARD",
    "LEGACY_PASSTHROUGH",
    "LEGACY_SINGLE_USER",
    "LEGACY_SINGLE_USER_STANDARD",
    "LEGACY_TABLE_ACL",
    "NONE",
    "SINGLE_USER",
    "USER_ISOLATION",
)

_AWS_AVAILABILITY = Str(choices=("ON_DEMAND", "SPOT", "SPOT_WITH_FALLBACK"))
_AZURE_AVAILABILITY = Str(choices=("ON_DEMAND_AZURE", "SPOT_AZURE", "SPOT_WITH_FALLBACK_AZURE"))
_GCP_AVAILABILITY = Str(choices=("ON_DEMAND_GCP", "PREEMPTIBLE_GCP", "PREEMPTIBLE_WITH_FALLBACK_GCP"))
_BID_PERCENT = Int(minimum=1, maximum=10000)

AWS_ATTRIBUTES = Obj(
    {
        "availability": _AWS_AVAILABILITY,
        "ebs_volume_count": Int(minimum=0, maximum=10),
        "ebs_volume_iops": Int(minimum=0),
        "ebs_volume_size": Int(minimum=100, maximum=4096),
        "ebs_volume_throughput": Int(minimum=0),
        "ebs_volume_type": Str(choices=("GENERAL_PURPOSE_SSD", "THROUGHPUT_OPTIMIZED_HDD")),
        "first_on_demand": Int(minimum=0),
        "instance_profile_arn": Str(min_length=1),
        "spot_bid_price_percent": _BID_PERCENT,
        "zone_id": Str(min_length=1),
    }
)
AZURE_ATTRIBUTES = Obj(
    {
        "availability": _AZURE_AVAILABILITY,
        "capacity_reservation_group": Str(min_length=1),
        "first_on_demand": Int(minimum=1),
        "log_analytics_info": Obj({"log_analytics_primary_key": Str(), "log_analytics_workspace_id": Str()}),
        "spot_bid_max_price": Number(),
    }
)
GCP_ATTRIBUTES = Obj(
    {
        "availability": _GCP_AVAILABILITY,
        "boot_disk_size": Int(minimum=0),
        "confidential_compute_type": Str(choices=("CONFIDENTIAL_COMPUTE_TYPE_NONE", "SEV_SNP")),
        "first_on_demand": Int(minimum=0),
        "google_service_account": Str(min_length=1),
        "local_ssd_count": Int(minimum=0),
        "use_preemptible_executors": Bool(),
        "zone_id": Str(min_length=1),
    }
)

LIBRARY = Obj(
    {
        "pypi": Obj({"package": Str(min_length=1), "repo": Str()}, required=("package",)),
        "whl": Str(min_length=1),
        "requirements": Str(min_length=1),
        "jar": Str(),
        "egg": Str(),
        "maven": AnyJson(),
        "cran": AnyJson(),
    }
)

_CLUSTER_FIELDS: dict[str, Shape] = {
    "apply_policy_default_values": Bool(),
    "autoscale": Obj({"min_workers": Int(minimum=0), "max_workers": Int(minimum=1)}),
    "autotermination_minutes": Int(minimum=0, maximum=10000),
    "aws_attributes": AWS_ATTRIBUTES,
    "azure_attributes": AZURE_ATTRIBUTES,
    "cluster_log_conf": MapOf(AnyJson()),
    "cluster_name": Str(),
    "custom_tags": MapOf(Str(), maximum=45),
    "data_security_mode": Str(choices=DATA_SECURITY_MODES),
    "dependency_mode": Str(),
    "docker_image": MapOf(AnyJson()),
    "driver_instance_pool_id": Str(),
    "driver_node_type_flexibility": MapOf(AnyJson()),
    "driver_node_type_id": Str(min_length=1),
    "enable_elastic_disk": Bool(),
    "enable_local_disk_encryption": Bool(),
    "gcp_attributes": GCP_ATTRIBUTES,
    "init_scripts": ListOf(MapOf(AnyJson()), maximum=10),
    "instance_pool_id": Str(min_length=1),
    "is_single_node": Bool(),
    "kind": Str(choices=("CLASSIC_PREVIEW",)),
    "node_type_id": Str(min_length=1),
    "num_workers": Int(minimum=0),
    "policy_id": Str(min_length=1),
    "remote_disk_throughput": Int(),
    "runtime_engine": Str(choices=("NULL", "PHOTON", "STANDARD")),
    "single_user_name": Str(min_length=1),
    "spark_conf": MapOf(Str()),
    "spark_env_vars": MapOf(Str()),
    "spark_version": Str(min_length=1),
    "ssh_public_keys": ListOf(Str(), maximum=10),
    "total_initial_remote_disk_size": Int(),
    "use_ml_runtime": Bool(),
    "worker_node_type_flexibility": MapOf(AnyJson()),
    "workload_type": Obj({"clients": Obj({"jobs": Bool(), "notebooks": Bool()})}, required=("clients",)),
}
CLUSTER_SPEC = Obj(_CLUSTER_FIELDS)
"""`spark_version` may come from a policy: compute/cluster_spec.py asks for it."""

CREATE_CLUSTER = Obj(_CLUSTER_FIELDS | {"clone_from": MapOf(AnyJson())})
ONE_CLUSTER = Obj({"cluster_id": Str(min_length=1)}, required=("cluster_id",))
LIST_CLUSTERS = Obj(
    {
        "filter_by.cluster_sources": ListOf(Str()),
        "filter_by.cluster_states": ListOf(Str()),
        "filter_by.is_pinned": Bool(),
        "filter_by.policy_id": Str(),
        "page_size": Int(minimum=1, maximum=100),
        "page_token": Str(min_length=1),
        "sort_by.direction": Str(choices=("ASC", "DESC")),
        "sort_by.field": Str(choices=("CLUSTER_NAME", "DEFAULT")),
    }
)

CREATE_POOL = Obj(
    {
        "instance_pool_name": Str(min_length=1, max_length=100),
        "node_type_id": Str(min_length=1),
        "aws_attributes": Obj(
            {
                "availability": Str(choices=("ON_DEMAND", "SPOT", "SPOT_WITH_FALLBACK")),
                "instance_profile_arn": Str(min_length=1),
                "spot_bid_price_percent": _BID_PERCENT,
                "zone_id": Str(min_length=1),
            }
        ),
        "azure_attributes": Obj(
            {
                "availability": _AZURE_AVAILABILITY,
                "capacity_reservation_group": Str(min_length=1),
                "spot_bid_max_price": Number(),
            }
        ),
        "gcp_attributes": Obj(
            {"gcp_availability": _GCP_AVAILABILITY, "local_ssd_count": Int(minimum=0), "zone_id": Str(min_length=1)}
        ),
        "custom_tags": MapOf(Str(), maximum=45),
        "disk_spec": MapOf(AnyJson()),
        "enable_elastic_disk": Bool(),
        "idle_instance_autotermination_minutes": Int(minimum=0, maximum=10000),
        "max_capacity": Int(minimum=1),
        "min_idle_instances": Int(minimum=0),
        "node_type_flexibility": MapOf(AnyJson()),
        "preloaded_docker_images": ListOf(MapOf(AnyJson())),
        "preloaded_spark_versions": ListOf(Str(), maximum=1),
        "remote_disk_throughput": Int(),
        "total_initial_remote_disk_size": Int(),
    },
    required=("instance_pool_name", "node_type_id"),
)
ONE_POOL = Obj({"instance_pool_id": Str(min_length=1)}, required=("instance_pool_id",))

CREATE_POLICY = Obj(
    {
        "name": Str(min_length=1, max_length=100),
        "definition": Str(min_length=2),
        "description": Str(),
        "libraries": ListOf(LIBRARY, maximum=500),
        "max_clusters_per_user": Int(minimum=1),
        "policy_family_id": Str(),
        "policy_family_definition_overrides": Str(),
    },
    required=("name",),
)
ONE_POLICY = Obj({"policy_id": Str(min_length=1)}, required=("policy_id",))
LIST_POLICIES = Obj(
    {
        "sort_column": Str(choices=("POLICY_CREATION_TIME", "POLICY_NAME")),
        "sort_order": Str(choices=("ASC", "DESC")),
    }
)
