"""From one attempt in portable terms to the request of Databricks' jobs/runs/submit. Pure.

Called by `controllers` before anything is sent. The parts: steps.py (which tasks), entry.py (what each starts),
computing.py (where), data.py (on what), tasks.py (put together), overrides.py (spec.databricks), asking.py (the rights
that all this takes). Field names and limits are those of databricks-sdk service/jobs.py (SubmitRun).
"""

from typing import Any

from trainyard.api.training_run import MLTrainingRunSpec
from trainyard.api.workspace import MLWorkspaceSpec, Permission, RunAsIdentity
from trainyard.core.errors import TranslationError
from trainyard.core.tokens import submission_token
from trainyard.platforms import lacking, short_names, told
from trainyard.platforms.base import Job, ModelWanted, Request, RunsAs, Wanted
from trainyard.platforms.databricks import names, overrides
from trainyard.platforms.databricks.asking import needs_of
from trainyard.platforms.databricks.data import Data, data_of, secret_references, variables
from trainyard.platforms.databricks.entry import Source, is_launched, notebooks_of, source_of
from trainyard.platforms.databricks.learned import with_variables
from trainyard.platforms.databricks.references import References, mentions_mlflow
from trainyard.platforms.databricks.steps import remaining, steps_of
from trainyard.platforms.databricks.tasks import RUNS_CODE, Made, Wanting, tasks_of, with_looped

__all__ = ["translate", "wanted", "with_variables"]


def translate(job: Job) -> Request:
    """The attempt as a request.

    Raises:
        TranslationError: naming the field, with one of these reasons: CloudUnknown, ComputeClassInvalid,
            ComputeClassUnknown, ComputeClassesDiffer, DataRootUnknown, EntrypointMissing, InvalidSpec,
            ModelPrefixMissing, OverrideForbidden, ParameterUnknown, ReferenceUnknown, RunAsRequired, RunAsUnknown,
            RuntimeUnknown, SecretStoreUnknown, SecretsNeedJobCluster, SparkVersionMissing, TooManyEnvironments,
            UnsupportedOnPlatform.
    """
    lacking.refuse("databricks", job)
    overrides.refuse_owned(job.spec.databricks)
    steps = remaining(steps_of(job.spec), job.done_tasks)
    if not steps:
        raise TranslationError("spec.tasks", "every task has been done by an earlier attempt")
    runs_as = _runs_as(job)
    data, source = data_of(job), source_of(job)
    secrets = secret_references(job.spec, job.workspace)
    references = References(
        job,
        inputs={name: place.text for name, place in data.inputs.items()},
        outputs={name: place.text for name, place in data.outputs.items()},
    )
    made = tasks_of(Wanting(job, source, references, _variables(job, data), secrets), steps)
    label = names.label(job.namespace, job.name, job.attempt, job.submission_token)
    return Request(
        body=overrides.merged(_body(job, label, runs_as, made), job.spec.databricks),
        label=label,
        code_folder=source.upload,
        files=_files(job, source, made),
        experiment=_experiment(job, made),
        tags=_tags(job),
        submission_token=job.submission_token,
        notebooks=notebooks_of(source.files or {}, [step.entrypoint for step in steps if step.entrypoint]),
        jobs=made.jobs,
        runs_as=runs_as,
        needs=needs_of(job, runs_as, _model_wanted(job), data, secrets, source, steps, made.tasks),
    )


def wanted(job: Job) -> Wanted:
    """What has to be fetched when the job has ended.

    Raises:
        TranslationError: as `translate` does of model, outputs and tasks.
    """
    outputs = {name: (place.uri, place.table) for name, place in data_of(job).outputs.items()}
    steps = remaining(steps_of(job.spec), job.done_tasks) if job.spec.tasks else []
    before = range(job.attempt - 1, 0, -1) if job.done_tasks else ()
    return Wanted(
        model=_model_wanted(job),
        outputs=outputs,
        tasks=tuple(step.name for step in steps),
        earlier=tuple(
            submission_token(job.namespace, job.name, job.uid, job.spec.submission_key, number) for number in before
        ),
    )


def _body(job: Job, label: str, runs_as: RunsAs | None, made: Made) -> dict[str, Any]:
    body: dict[str, Any] = {
        "run_name": label,
        "idempotency_token": job.submission_token,
        "timeout_seconds": job.timeout_seconds,
        "queue": {"enabled": True},
    }
    if job.workspace.default_permissions:
        body["access_control_list"] = [_access(grant) for grant in job.workspace.default_permissions]
    if runs_as is not None:
        body["run_as"] = {f"{runs_as.kind}_name": runs_as.name}
    return {**body, **made.shared, "tasks": made.tasks}


def _files(job: Job, source: Source, made: Made) -> dict[str, bytes]:
    """What is uploaded: the code, and the launcher where one is needed."""
    files = dict(job.files) if source.files is not None else {}
    if any(is_launched(task) for task in made.tasks):
        files[names.LAUNCHER_FILE] = names.LAUNCHER
    return files


def _runs_as(job: Job) -> RunsAs | None:
    """Whom the code runs as, where that is not the submitter.

    Raises:
        TranslationError: RunAsUnknown or RunAsRequired.
    """
    principal = job.target.principal
    identity = short_names.run_as(job, lambda each: _identity(each).name != principal)
    runs_as = _identity(identity) if identity is not None else None
    return runs_as if runs_as is not None and runs_as.name != principal else None


def _identity(identity: RunAsIdentity) -> RunsAs:
    if identity.service_principal is not None:
        return RunsAs("service_principal", identity.service_principal)
    return RunsAs("user", identity.user or "")


def _variables(job: Job, data: Data) -> dict[str, str]:
    found = told.variables(job)
    model = _model_name(job.spec, job.workspace)
    if model is not None:
        found[told.MODEL_VARIABLE] = model
        # MLflow 2 would register in the workspace's own registry; the name is one of Unity Catalog's.
        found[names.REGISTRY_VARIABLE] = "databricks-uc"
    return {**found, **variables(data)}


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


def _model_wanted(job: Job) -> ModelWanted | None:
    name, model = _model_name(job.spec, job.workspace), job.spec.model
    if name is None or model is None:
        return None
    told.refuse_our_tags(model.tags, "spec.model.tags")
    for key in model.tags:
        if names.NOT_IN_MODEL_TAG.intersection(key):
            raise TranslationError(
                "spec.model.tags",
                f"{key!r}: Unity Catalog takes none of {' '.join(sorted(names.NOT_IN_MODEL_TAG))} in keys",
            )
    ours = {names.model_tag(key): value for key, value in _our_tags(job).items()}
    return ModelWanted(name, model.alias, {**model.tags, **ours})


def _experiment(job: Job, made: Made) -> str | None:
    """Where the attempt's MLflow run is made; None where nothing would know of it."""
    tasks = list(with_looped(made.tasks))
    runs_code = any(RUNS_CODE.intersection(task) for task in tasks)
    if not runs_code and not any(mentions_mlflow(task.get("run_job_task", {})) for task in tasks):
        if job.spec.model is not None:
            raise TranslationError(
                "spec.model",
                "the model is found by the MLflow run that made it, and no job is told of that run; give one the "
                "parameter $(mlflow.runId), or leave spec.model out",
            )
        return None
    root = job.workspace.experiment_root or names.home(job.target.principal)
    return f"{root.removeprefix('/Workspace')}/{job.spec.experiment or job.namespace}"


def _tags(job: Job) -> dict[str, str]:
    told.refuse_our_tags(job.spec.tags, "spec.tags")
    return {
        **job.spec.tags,
        **_our_tags(job),
        names.TAG_ATTEMPT: str(job.attempt),
        names.TAG_TOKEN: job.submission_token,
    }


def _our_tags(job: Job) -> dict[str, str]:
    """What says whose it is: as far as it is known."""
    tags = {
        names.TAG_CLUSTER: job.cluster,
        names.TAG_NAMESPACE: job.namespace,
        names.TAG_NAME: job.name,
        names.TAG_UID: job.uid,
        names.TAG_COMMIT: job.commit,
        names.TAG_REQUESTED_BY: job.requested_by,
    }
    return {key: value for key, value in tags.items() if value}


def _access(grant: Permission) -> dict[str, str]:
    # JobAccessControlRequest: exactly one of the three names.
    who = {
        "group_name": grant.group,
        "user_name": grant.user,
        "service_principal_name": grant.service_principal,
    }
    return {**{key: value for key, value in who.items() if value is not None}, "permission_level": grant.level}
