"""Request shapes of Jobs 2.2 runs: which fields each request may have.

jobs_submit.py and jobs.py validate with them. Fields and limits as in databricks-sdk `service/jobs.py` and
`service/compute.py`: JobsAPI.submit, SubmitTask, SparkPythonTask, JobEnvironment, Environment,
JobEnvironmentVariablesSpec, ClusterSpec, JobAccessControlRequest, JobRunAs, ListRuns.
"""

from __future__ import annotations

from trainyard_sandbox.schema import AnyJson, Bool, Int, ListOf, MapOf, Obj, Shape, Str

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
RUN_IF = ("ALL_DONE", "ALL_FAILED", "ALL_SUCCESS", "AT_LEAST_ONE_FAILED", "AT_LEAST_ONE_SUCCESS", "NONE_FAILED")
PERMISSION_LEVELS = ("CAN_MANAGE", "CAN_MANAGE_RUN", "CAN_VIEW", "IS_OWNER")
TASK_TYPES = (
    "ai_runtime_task",
    "alert_task",
    "clean_rooms_notebook_task",
    "condition_task",
    "dashboard_task",
    "dbt_cloud_task",
    "dbt_platform_task",
    "dbt_task",
    "for_each_task",
    "gen_ai_compute_task",
    "notebook_task",
    "pipeline_task",
    "power_bi_task",
    "python_operator_task",
    "python_wheel_task",
    "run_job_task",
    "spark_jar_task",
    "spark_python_task",
    "spark_submit_task",
    "sql_task",
)

RUN_ID = Int(minimum=1)
_MILLISECONDS = Int(minimum=0)
_EMAILS = ListOf(Str())
_WEBHOOKS = ListOf(Obj({"id": Str(min_length=1)}, required=("id",)), maximum=3)
_EVENTS = (
    "on_start",
    "on_success",
    "on_failure",
    "on_duration_warning_threshold_exceeded",
    "on_streaming_backlog_exceeded",
    "on_maintenance_start",
    "on_maintenance_complete",
)
EMAIL_NOTIFICATIONS = Obj(dict.fromkeys(_EVENTS, _EMAILS) | {"no_alert_for_skipped_runs": Bool()})
WEBHOOK_NOTIFICATIONS = Obj(dict.fromkeys(_EVENTS, _WEBHOOKS))
_NO_ALERTS: dict[str, Shape] = {"no_alert_for_canceled_runs": Bool(), "no_alert_for_skipped_runs": Bool()}
_HEALTH = Obj(
    {
        "rules": ListOf(
            Obj({"metric": Str(), "op": Str(choices=("GREATER_THAN",)), "value": Int()}, ("metric", "op", "value"))
        )
    }
)

LIBRARY = Obj(
    {
        "pypi": Obj({"package": Str(min_length=1), "repo": Str()}, required=("package",)),
        "whl": Str(),
        "requirements": Str(),
        "jar": Str(),
        "egg": Str(),
        "maven": AnyJson(),
        "cran": AnyJson(),
    }
)

CLUSTER_SPEC = Obj(
    {
        "apply_policy_default_values": Bool(),
        "autoscale": Obj({"min_workers": Int(minimum=0), "max_workers": Int(minimum=1)}),
        "autotermination_minutes": Int(minimum=0),
        "aws_attributes": MapOf(AnyJson()),
        "azure_attributes": MapOf(AnyJson()),
        "cluster_log_conf": MapOf(AnyJson()),
        "cluster_name": Str(),
        "custom_tags": MapOf(Str(), maximum=45),
        "data_security_mode": Str(choices=DATA_SECURITY_MODES),
        "dependency_mode": Str(),
        "docker_image": MapOf(AnyJson()),
        "driver_instance_pool_id": Str(),
        "driver_node_type_flexibility": MapOf(AnyJson()),
        "driver_node_type_id": Str(),
        "enable_elastic_disk": Bool(),
        "enable_local_disk_encryption": Bool(),
        "gcp_attributes": MapOf(AnyJson()),
        "init_scripts": ListOf(MapOf(AnyJson()), maximum=10),
        "instance_pool_id": Str(),
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
        "workload_type": MapOf(AnyJson()),
    },
    required=("spark_version",),
)

SPARK_PYTHON_TASK = Obj(
    {
        "python_file": Str(min_length=1),
        "parameters": ListOf(Str()),
        "source": Str(choices=("WORKSPACE", "GIT")),
    },
    required=("python_file",),
)

_OTHER_TASKS: dict[str, Shape] = {name: MapOf(AnyJson()) for name in TASK_TYPES}
SUBMIT_TASK = Obj(
    _OTHER_TASKS
    | {
        "spark_python_task": SPARK_PYTHON_TASK,
        "task_key": Str(min_length=1, max_length=100),
        "compute": Obj({"hardware_accelerator": Str()}),
        "depends_on": ListOf(Obj({"task_key": Str(), "outcome": Str()}, required=("task_key",))),
        "description": Str(),
        "disable_auto_optimization": Bool(),
        "disabled": Bool(),
        "email_notifications": EMAIL_NOTIFICATIONS,
        "environment_key": Str(min_length=1),
        "environment_variables_key": Str(min_length=1),
        "existing_cluster_id": Str(min_length=1),
        "health": _HEALTH,
        "libraries": ListOf(LIBRARY),
        "max_retries": Int(minimum=-1, maximum=2**31 - 1),
        "min_retry_interval_millis": Int(minimum=0),
        "new_cluster": CLUSTER_SPEC,
        "notification_settings": Obj(_NO_ALERTS | {"alert_on_last_attempt": Bool()}),
        "retry_on_timeout": Bool(),
        "run_if": Str(choices=RUN_IF),
        "timeout_seconds": Int(minimum=0, maximum=2**31 - 1),
        "webhook_notifications": WEBHOOK_NOTIFICATIONS,
    },
    required=("task_key",),
)

ENVIRONMENT = Obj(
    {
        "environment_key": Str(min_length=1),
        "spec": Obj(
            {
                "base_environment": Str(min_length=1),
                "client": Str(),
                "dependencies": ListOf(Str()),
                "environment_version": Str(),
                "java_dependencies": ListOf(Str()),
                "project_environment": Str(),
            }
        ),
    },
    required=("environment_key",),
)

ENVIRONMENT_VARIABLES = Obj(
    {
        "environment_variables_key": Str(min_length=1),
        "spec": Obj({"files": ListOf(Str(), maximum=5), "variables": MapOf(Str(max_length=512), maximum=20)}),
    },
    required=("environment_variables_key",),
)

_NAMES: dict[str, Shape] = {
    "user_name": Str(min_length=1),
    "group_name": Str(min_length=1),
    "service_principal_name": Str(min_length=1),
}

SUBMIT_RUN = Obj(
    {
        "access_control_list": ListOf(Obj(_NAMES | {"permission_level": Str(choices=PERMISSION_LEVELS)})),
        "budget_policy_id": Str(),
        "duration_target": Str(choices=("NO_FLEXIBILITY", "4h", "12h", "24h", "72h")),
        "email_notifications": EMAIL_NOTIFICATIONS,
        "environment_variables": ListOf(ENVIRONMENT_VARIABLES, maximum=10),
        "environments": ListOf(ENVIRONMENT, maximum=10),
        "git_source": MapOf(AnyJson()),
        "health": _HEALTH,
        "idempotency_token": Str(max_length=64),
        "notification_settings": Obj(_NO_ALERTS),
        "performance_target": Str(choices=("PERFORMANCE_OPTIMIZED", "STANDARD", "COST_OPTIMIZED")),
        "queue": Obj({"enabled": Bool()}, required=("enabled",)),
        "run_as": Obj(_NAMES),
        "run_name": Str(max_length=4096),
        "tasks": ListOf(SUBMIT_TASK, maximum=100),
        "timeout_seconds": Int(minimum=0, maximum=2**31 - 1),
        "usage_policy_id": Str(),
        "webhook_notifications": WEBHOOK_NOTIFICATIONS,
    },
    required=("tasks",),
)

GET_RUN = Obj(
    {"run_id": RUN_ID, "include_history": Bool(), "include_resolved_values": Bool(), "page_token": Str()},
    required=("run_id",),
)
ONE_RUN = Obj({"run_id": RUN_ID}, required=("run_id",))
CANCEL_ALL = Obj({"all_queued_runs": Bool(), "job_id": Int(minimum=1)})
LIST_RUNS = Obj(
    {
        "active_only": Bool(),
        "completed_only": Bool(),
        "expand_tasks": Bool(),
        "job_id": Int(minimum=1),
        "limit": Int(minimum=0, maximum=25),
        "offset": Int(minimum=0),
        "page_token": Str(min_length=1),
        "run_type": Str(choices=("JOB_RUN", "SUBMIT_RUN", "WORKFLOW_RUN")),
        "start_time_from": _MILLISECONDS,
        "start_time_to": _MILLISECONDS,
    }
)
