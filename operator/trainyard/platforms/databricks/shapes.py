"""Whether a platform block has the types that the translator, and whoever fills the request in later, go on with. Pure.

Called by overrides.py before anything is merged. The CRD leaves the block free in form, so that the platform may judge
what it alone knows; what the operator reads itself has to be what it takes it for. Types are those of databricks-sdk
service/jobs.py (SubmitTask) and service/compute.py (ClusterSpec).
"""

from collections.abc import Mapping
from typing import Any

from trainyard.core.errors import TranslationError
from trainyard.platforms.merging import look

# What the status and a check's name have room for.
LONGEST_TEXT = 255

_TEXT_BY_NAME = (
    "new_cluster.custom_tags",
    "new_cluster.spark_env_vars",
    "notebook_task.base_parameters",
    "run_job_task.job_parameters",
)
_TEXT = (
    "new_cluster.driver_instance_pool_id",
    "new_cluster.driver_node_type_id",
    "new_cluster.instance_pool_id",
    "new_cluster.node_type_id",
    "new_cluster.policy_id",
    "new_cluster.spark_version",
)


def check_task(task: Mapping[str, Any], field: str) -> None:
    """Checks the fields of one task that are looked at. Null takes a field away, whatever its type.

    Raises:
        TranslationError: InvalidSpec, naming the field and what has to stand there.
    """
    for name, value in task.items():
        if name == "new_cluster" or name.endswith("_task"):
            _object(value, f"{field}.{name}")
    for path in _TEXT_BY_NAME:
        values = look(task, path)[1]
        _object(values, f"{field}.{path}")
        for name, value in (values or {}).items():
            _require(value is None or isinstance(value, str), f"{field}.{path}.{name}", "text; put it in quotes")
    for path in _TEXT:
        value = look(task, path)[1]
        fits = isinstance(value, str) and len(value) <= LONGEST_TEXT
        _require(value is None or fits, f"{field}.{path}", f"text of at most {LONGEST_TEXT} characters")
    _check_python(task, field)
    job = look(task, "run_job_task.job_id")[1]
    whole = (isinstance(job, int) and not isinstance(job, bool)) or (isinstance(job, str) and job.isdecimal())
    _require(job is None or (whole and len(str(job)) < 20), f"{field}.run_job_task.job_id", "a whole number")


def _check_python(task: Mapping[str, Any], field: str) -> None:
    path = f"{field}.spark_python_task"
    file, parameters = (look(task, f"spark_python_task.{name}")[1] for name in ("python_file", "parameters"))
    _require(file is None or isinstance(file, str), f"{path}.python_file", "text")
    listed = isinstance(parameters, list) and all(isinstance(each, str) for each in parameters)
    _require(parameters is None or listed, f"{path}.parameters", "a list of texts")


def _object(value: Any, field: str) -> None:
    _require(value is None or isinstance(value, Mapping), field, "an object")


def _require(is_met: bool, field: str, what: str) -> None:
    if not is_met:
        raise TranslationError(field, f"must be {what}")
