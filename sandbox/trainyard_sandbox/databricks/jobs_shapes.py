"""Request shapes of Jobs 2.2: which fields each request may have.

jobs.py and jobs_saved.py validate with them. Fields and limits as in databricks-sdk `service/jobs.py` and
`service/compute.py`: JobsAPI.submit, create, list and run_now, SubmitTask, Task, SparkPythonTask, NotebookTask,
PythonWheelTask, RunJobTask, JobEnvironment, Environment, JobEnvironmentVariablesSpec, JobAccessControlRequest,
JobRunAs, JobParameterDefinition, ListRuns. Clusters and libraries are in cluster_shapes.py.
"""

from __future__ import annotations

from trainyard_sandbox.databricks.cluster_shapes import CLUSTER_SPEC, LIBRARY
from trainyard_sandbox.schema import AnyJson, Bool, Int, ListOf, MapOf, Obj, Shape, Str

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

SPARK_PYTHON_TASK = Obj(
    {
        "python_file": Str(min_length=1),
        "parameters": ListOf(Str()),
        "source": Str(choices=("WORKSPACE", "GIT")),
    },
    required=("python_file",),
)

NOTEBOOK_TASK = Obj(
    {
        "notebook_path": Str(min_length=1),
        "base_parameters": MapOf(Str()),
        "source": Str(choices=("WORKSPACE", "GIT")),
        "warehouse_id": Str(),
    },
    required=("notebook_path",),
)
PYTHON_WHEEL_TASK = Obj(
    {
        "package_name": Str(min_length=1),
        "entry_point": Str(min_length=1),
        "named_parameters": MapOf(Str()),
        "parameters": ListOf(Str()),
    },
    required=("package_name", "entry_point"),
)
RUN_JOB_TASK = Obj(
    {
        "job_id": Int(minimum=1),
        "job_parameters": MapOf(Str()),
        "dbt_commands": ListOf(Str()),
        "jar_params": ListOf(Str()),
        "notebook_params": MapOf(Str()),
        "pipeline_params": MapOf(AnyJson()),
        "python_named_params": MapOf(Str()),
        "python_params": ListOf(Str()),
        "spark_submit_params": ListOf(Str()),
        "sql_params": MapOf(Str()),
    },
    required=("job_id",),
)

_OTHER_TASKS: dict[str, Shape] = {name: MapOf(AnyJson()) for name in TASK_TYPES}
_TASK_FIELDS: dict[str, Shape] = _OTHER_TASKS | {
    "spark_python_task": SPARK_PYTHON_TASK,
    "notebook_task": NOTEBOOK_TASK,
    "python_wheel_task": PYTHON_WHEEL_TASK,
    "run_job_task": RUN_JOB_TASK,
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
}
SUBMIT_TASK = Obj(_TASK_FIELDS, required=("task_key",))
JOB_TASK = Obj(_TASK_FIELDS | {"job_cluster_key": Str(min_length=1)}, required=("task_key",))

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

_COMMON: dict[str, Shape] = {
    "access_control_list": ListOf(Obj(_NAMES | {"permission_level": Str(choices=PERMISSION_LEVELS)})),
    "budget_policy_id": Str(),
    "duration_target": Str(choices=("NO_FLEXIBILITY", "4h", "12h", "24h", "72h")),
    "email_notifications": EMAIL_NOTIFICATIONS,
    "environment_variables": ListOf(ENVIRONMENT_VARIABLES, maximum=10),
    "environments": ListOf(ENVIRONMENT, maximum=10),
    "git_source": MapOf(AnyJson()),
    "health": _HEALTH,
    "notification_settings": Obj(_NO_ALERTS),
    "performance_target": Str(choices=("PERFORMANCE_OPTIMIZED", "STANDARD", "COST_OPTIMIZED")),
    "queue": Obj({"enabled": Bool()}, required=("enabled",)),
    "run_as": Obj(_NAMES),
    "timeout_seconds": Int(minimum=0, maximum=2**31 - 1),
    "usage_policy_id": Str(),
    "webhook_notifications": WEBHOOK_NOTIFICATIONS,
}
SUBMIT_RUN = Obj(
    _COMMON
    | {
        "idempotency_token": Str(max_length=64),
        "run_name": Str(max_length=4096),
        "tasks": ListOf(SUBMIT_TASK, maximum=100),
    },
    required=("tasks",),
)

NOT_OFFERED_OF_A_JOB = ("continuous", "parent_path", "schedule", "trigger", "triggers")
_JOB_CLUSTER = Obj(
    {"job_cluster_key": Str(min_length=1, max_length=100), "new_cluster": CLUSTER_SPEC},
    required=("job_cluster_key", "new_cluster"),
)
CREATE_JOB = Obj(
    _COMMON
    | dict.fromkeys(NOT_OFFERED_OF_A_JOB, AnyJson())
    | {
        "deployment": MapOf(AnyJson()),
        "description": Str(max_length=27700),
        "edit_mode": Str(choices=("EDITABLE", "UI_LOCKED")),
        "format": Str(choices=("SINGLE_TASK", "MULTI_TASK")),
        "job_clusters": ListOf(_JOB_CLUSTER, maximum=100),
        "max_concurrent_runs": Int(minimum=0, maximum=1000),
        "name": Str(max_length=4096),
        "parameters": ListOf(Obj({"name": Str(min_length=1), "default": Str()}, ("name", "default"))),
        "tags": MapOf(Str(), maximum=25),
        "tasks": ListOf(JOB_TASK, maximum=100),
    }
)
ONE_JOB = Obj({"job_id": Int(minimum=1)}, required=("job_id",))
GET_JOB = Obj({"job_id": Int(minimum=1), "include_trigger_state": Bool(), "page_token": Str()}, required=("job_id",))
LIST_JOBS = Obj(
    {
        "expand_tasks": Bool(),
        "limit": Int(minimum=1, maximum=100),
        "name": Str(min_length=1),
        "offset": Int(minimum=0),
        "page_token": Str(min_length=1),
    }
)
LEGACY_PARAMETERS = (
    "dbt_commands",
    "jar_params",
    "notebook_params",
    "pipeline_params",
    "python_named_params",
    "python_params",
    "spark_submit_params",
    "sql_params",
)
"""What the SDK's docstrings call deprecated in favour of job parameters; not offered here."""
RUN_NOW = Obj(
    dict.fromkeys((*LEGACY_PARAMETERS, "only", "duration_target"), AnyJson())
    | {
        "job_id": Int(minimum=1),
        "idempotency_token": Str(max_length=64),
        "job_parameters": MapOf(Str()),
        "performance_target": Str(choices=("PERFORMANCE_OPTIMIZED", "STANDARD", "COST_OPTIMIZED")),
        "queue": Obj({"enabled": Bool()}, required=("enabled",)),
    },
    required=("job_id",),
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
