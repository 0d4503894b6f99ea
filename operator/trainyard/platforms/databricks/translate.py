"""From one attempt in portable terms to the request of Databricks' jobs/runs/submit. Pure.

Called by `controllers` before anything is sent. Field names and limits are those of databricks-sdk service/jobs.py and
service/compute.py (SubmitRun, SubmitTask, ClusterSpec, JobEnvironmentVariablesSpec).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from trainyard.api.training_run import Entrypoint, MLTrainingRunSpec
from trainyard.api.workspace import ComputeClass, JobCluster, MLWorkspaceSpec, Permission, Runtime
from trainyard.core.errors import TranslationError
from trainyard.platforms.base import Job, ModelWanted, Request, Wanted
from trainyard.platforms.databricks import names
from trainyard.platforms.databricks.overrides import merged

# JobEnvironmentVariablesSpec: at most 20 entries, values of at most 512 characters. Kept on job clusters as well, so
# that a run does not depend on its compute class.
MAX_VARIABLES = 20
MAX_VARIABLE_LENGTH = 512

_PARAM = re.compile(r"\$\$\(|\$\(params\.([^()]*)\)")


def translate(job: Job) -> Request:
    """The attempt as a request.

    Raises:
        TranslationError: ComputeClassUnknown, RuntimeUnknown, ModelPrefixMissing, EntrypointMissing, ParameterUnknown,
            OverrideForbidden or InvalidSpec; names the field.
    """
    entrypoint = job.spec.entrypoint or Entrypoint()
    if entrypoint.file not in job.files:
        raise TranslationError(
            "spec.entrypoint.pythonFile",
            f"{entrypoint.file!r} is not in the code, which has {_listed(job.files)}",
            reason="EntrypointMissing",
        )
    folder = names.code_folder(job.target.principal, job.cluster, job.code_digest)
    label = names.label(job.namespace, job.name, job.attempt, job.submission_token)
    body = merged(_body(job, entrypoint, folder, label), job.spec.databricks)
    return Request(
        body=body,
        label=label,
        code_folder=folder,
        files=job.files,
        experiment=_experiment(job),
        tags=_tags(job),
        submission_token=job.submission_token,
    )


def wanted(job: Job) -> Wanted:
    """What has to be fetched when the job has ended.

    Raises:
        TranslationError: ModelPrefixMissing.
    """
    model = job.spec.model
    if model is None:
        return Wanted()
    return Wanted(model=ModelWanted(_model_name(job.spec, job.workspace) or "", model.alias, dict(model.tags)))


def with_variables(body: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    """The request with more environment variables for the code, wherever its compute takes them."""
    task = dict(body["tasks"][0])
    if "new_cluster" in task:
        cluster = task["new_cluster"]
        task["new_cluster"] = {**cluster, "spark_env_vars": {**cluster.get("spark_env_vars", {}), **variables}}
        return {**body, "tasks": [task]}
    (entry,) = body["environment_variables"]
    spec = {**entry["spec"], "variables": {**entry["spec"].get("variables", {}), **variables}}
    return {**body, "environment_variables": [{**entry, "spec": spec}]}


def _body(job: Job, entrypoint: Entrypoint, folder: str, label: str) -> dict[str, Any]:
    task = {
        "task_key": names.TASK_KEY,
        "spark_python_task": {
            "python_file": f"/Workspace{folder}/{entrypoint.file}",
            "parameters": _arguments(entrypoint.args, job.spec.params),
            "source": "WORKSPACE",
        },
        # The platform must never start a second, paid attempt behind the operator's back; serverless
        # auto-optimization does just that unless told not to.
        "max_retries": 0,
        "retry_on_timeout": False,
        "disable_auto_optimization": True,
    }
    body: dict[str, Any] = {
        "run_name": label,
        "idempotency_token": job.submission_token,
        "timeout_seconds": job.timeout_seconds,
        "queue": {"enabled": True},
    }
    if job.workspace.default_permissions:
        body["access_control_list"] = [_access(grant) for grant in job.workspace.default_permissions]
    variables = _variables(job)
    packages = _packages(job)
    compute = _compute_class(job.spec, job.workspace)
    if compute.serverless is not None:
        environment = {"environment_version": compute.serverless.environment_version, "dependencies": packages}
        body["environments"] = [{"environment_key": names.ENVIRONMENT_KEY, "spec": environment}]
        body["environment_variables"] = [
            {"environment_variables_key": names.ENVIRONMENT_KEY, "spec": {"variables": variables}}
        ]
        task |= {"environment_key": names.ENVIRONMENT_KEY, "environment_variables_key": names.ENVIRONMENT_KEY}
    elif compute.job_cluster is not None:
        task["new_cluster"] = _cluster(job, compute.job_cluster, variables)
        if packages:
            task["libraries"] = [{"pypi": {"package": package}} for package in packages]
    return {**body, "tasks": [task]}


def _cluster(job: Job, shape: JobCluster, variables: dict[str, str]) -> dict[str, Any]:
    runtime = _runtime(job.spec, job.workspace)
    spark_version = shape.spark_version or (runtime.spark_version if runtime else None)
    if spark_version is None:
        raise TranslationError(
            "spec.environment.runtime",
            f"neither compute class {_class(job.spec)!r} nor a runtime names a sparkVersion; name a runtime "
            "that has one, or have it added to the workspace",
            reason="SparkVersionMissing",
        )
    cluster: dict[str, Any] = {
        "spark_version": spark_version,
        "node_type_id": shape.node_type_id,
        "data_security_mode": shape.data_security_mode,
        "spark_env_vars": variables,
        "custom_tags": names.cluster_tags(
            {
                **job.spec.tags,
                "trainyard-namespace": job.namespace,
                "trainyard-name": job.name,
                "trainyard-uid": job.uid,
                "trainyard-attempt": str(job.attempt),
            }
        ),
    }
    # ClusterSpec: is_single_node, and modes named DATA_SECURITY_MODE_*, belong to this kind; with is_single_node the
    # platform sets the number of workers and the Spark settings itself.
    if not shape.num_workers:
        cluster |= {"kind": "CLASSIC_PREVIEW", "is_single_node": True}
    else:
        cluster["num_workers"] = shape.num_workers
        if shape.data_security_mode.startswith("DATA_SECURITY_MODE_"):
            cluster["kind"] = "CLASSIC_PREVIEW"
    if shape.policy_id is not None:
        cluster["policy_id"] = shape.policy_id
    return cluster


def _arguments(args: list[str], params: Mapping[str, str]) -> list[str]:
    return [_substituted(arg, f"spec.entrypoint.args[{index}]", params) for index, arg in enumerate(args)]


def _substituted(arg: str, field: str, params: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        if match[0] == "$$(":
            return "$("
        if match[1] not in params:
            raise TranslationError(
                field,
                f"$(params.{match[1]}) is not in spec.params, which has {_listed(params)}",
                reason="ParameterUnknown",
            )
        return params[match[1]]

    return _PARAM.sub(value, arg)


def _variables(job: Job) -> dict[str, str]:
    variables = {
        "TRAINYARD_NAMESPACE": job.namespace,
        "TRAINYARD_NAME": job.name,
        "TRAINYARD_ATTEMPT": str(job.attempt),
    }
    model = _model_name(job.spec, job.workspace)
    if model is not None:
        variables["TRAINYARD_MODEL_NAME"] = model
        # MLflow 2 would register in the workspace's own registry; the name is one of Unity Catalog's.
        variables["MLFLOW_REGISTRY_URI"] = "databricks-uc"
    for name, value in variables.items():
        if len(value) > MAX_VARIABLE_LENGTH:
            raise TranslationError("spec", f"variable {name} is longer than {MAX_VARIABLE_LENGTH} characters")
    if len(variables) + len(names.MLFLOW_VARIABLES) > MAX_VARIABLES:
        raise TranslationError("spec", f"more than {MAX_VARIABLES} environment variables")
    return variables


def _packages(job: Job) -> list[str]:
    runtime = _runtime(job.spec, job.workspace)
    own = job.spec.environment.pip if job.spec.environment else []
    return [*(runtime.pip if runtime else []), *own]


def _compute_class(spec: MLTrainingRunSpec, workspace: MLWorkspaceSpec) -> ComputeClass:
    compute = workspace.compute_classes.get(_class(spec))
    if compute is None:
        raise TranslationError(
            "spec.compute.class",
            f"{_class(spec)!r} is not a compute class of the workspace, which has {_listed(workspace.compute_classes)}",
            reason="ComputeClassUnknown",
        )
    return compute


def _class(spec: MLTrainingRunSpec) -> str:
    return spec.compute.class_ if spec.compute is not None else ""


def _runtime(spec: MLTrainingRunSpec, workspace: MLWorkspaceSpec) -> Runtime | None:
    name = spec.environment.runtime if spec.environment else None
    if name is None:
        return None
    runtime = workspace.runtimes.get(name)
    if runtime is None:
        raise TranslationError(
            "spec.environment.runtime",
            f"{name!r} is not a runtime of the workspace, which has {_listed(workspace.runtimes)}",
            reason="RuntimeUnknown",
        )
    return runtime


def _model_name(spec: MLTrainingRunSpec, workspace: MLWorkspaceSpec) -> str | None:
    if spec.model is None:
        return None
    if workspace.model_prefix is None:
        raise TranslationError(
            "spec.model",
            "the workspace has no modelPrefix (catalog.schema), so that no model can be registered; have it set, or "
            "leave spec.model out",
            reason="ModelPrefixMissing",
        )
    return f"{workspace.model_prefix}.{spec.model.name}"


def _experiment(job: Job) -> str:
    root = job.workspace.experiment_root or names.home(job.target.principal)
    return f"{root.removeprefix('/Workspace')}/{job.spec.experiment or job.namespace}"


def _tags(job: Job) -> dict[str, str]:
    for key in job.spec.tags:
        if key.lower().startswith(names.OUR_TAGS):
            raise TranslationError("spec.tags", f"{key!r}: keys that start with {names.OUR_TAGS} are the operator's")
    return {
        **job.spec.tags,
        names.TAG_NAMESPACE: job.namespace,
        names.TAG_NAME: job.name,
        names.TAG_UID: job.uid,
        names.TAG_ATTEMPT: str(job.attempt),
        names.TAG_TOKEN: job.submission_token,
    }


def _access(grant: Permission) -> dict[str, str]:
    # JobAccessControlRequest: exactly one of the three names.
    who = {
        "group_name": grant.group,
        "user_name": grant.user,
        "service_principal_name": grant.service_principal,
    }
    return {**{key: value for key, value in who.items() if value is not None}, "permission_level": grant.level}


def _listed(found: Iterable[str]) -> str:
    return ", ".join(sorted(found)) or "none"
