"""From one attempt in portable terms to the body of an Azure ML job's PUT. Pure.

Called by `controllers` before anything is sent. The parts: entry.py and command.py (what is started), computing.py
(where), software.py (with what), data.py (on what), overrides.py (spec.azureML), copying.py (spec.jobRef), asking.py
(what all this takes). Field names are those of azure-ai-ml's `_restclient/arm_ml_service/models/_models.py`
(JobBaseProperties, CommandJob, SweepJob, PipelineJob).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trainyard.api.workspace import RunAsIdentity
from trainyard.core.errors import TranslationError
from trainyard.platforms import lacking, short_names, told
from trainyard.platforms.azureml import names, overrides
from trainyard.platforms.azureml.asking import Asked, needs_of
from trainyard.platforms.azureml.computing import machine_count, machines_of
from trainyard.platforms.azureml.data import Data, as_inputs, as_outputs, data_of, outputs_of
from trainyard.platforms.azureml.entry import Source, command_of, source_of
from trainyard.platforms.azureml.software import software_of
from trainyard.platforms.base import Job, ModelWanted, Request, RunsAs, Wanted
from trainyard.platforms.merging import joined, merge_patch
from trainyard.platforms.references import References

__all__ = ["translate", "wanted"]


def translate(job: Job) -> Request:
    """The attempt as a request.

    Raises:
        TranslationError: naming the field, with one of these reasons: ComputeClassInvalid, ComputeClassUnknown,
            DataRootUnknown, EntrypointMissing, InvalidSpec, OverrideForbidden, ParameterUnknown, ReferenceUnknown,
            RunAsRequired, RunAsUnknown, RuntimeUnknown, UnsupportedOnPlatform.
    """
    lacking.refuse("azureml", job)
    overrides.refuse_owned(job.spec.azure_ml)
    if job.spec.job_ref is not None:
        return _copied(job)
    overrides.check_type(job.spec.azure_ml)
    if overrides.job_type(job.spec.azure_ml) == "Pipeline":
        return _pipeline(job)
    return _started(job)


def wanted(job: Job) -> Wanted:
    """What has to be fetched when the job has ended.

    Raises:
        TranslationError: as `translate` does of model and outputs.
    """
    outputs: dict[str, tuple[str | None, str | None]] = {
        name: (place.uri, None) for name, place in outputs_of(job).items()
    }
    return Wanted(model=_model_wanted(job), outputs=outputs)


def _started(job: Job) -> Request:
    """A Command, or a Sweep of it."""
    machines = machines_of(job)
    data, source = data_of(job), source_of(job, machines.processes)
    software = software_of(job, source.requirement)
    space = overrides.search_space(job.spec.azure_ml)
    references = References(
        job,
        params={**job.spec.params, **dict.fromkeys(space, "")},
        inputs=data.expressions("inputs"),
        outputs=data.expressions("outputs"),
    )
    starts: dict[str, Any] = {
        **({"codeId": f"{names.workspace_id(job.target)}/{source.upload}"} if source.files is not None else {}),
        "command": command_of(job, source, references, space, data.variables()),
        "environmentId": software.environment_id,
        "environmentVariables": _variables(job),
        **machines.how,
    }
    timeout = f"PT{job.timeout_seconds}S"
    shared = {**_common(job), **machines.where, **_data(data, source)}
    if overrides.job_type(job.spec.azure_ml) == "Sweep":
        limits = {"jobLimitsType": "Sweep", "timeout": timeout}
        # azure-ai-ml says the machines twice, for the search and for its trials (entities/_job/sweep/sweep_job.py).
        resources = {"resources": machines.how["resources"]}
        properties = {"jobType": "Sweep", **shared, **resources, "trial": starts, "limits": limits}
    else:
        limits = {"jobLimitsType": "Command", "timeout": timeout}
        properties = {"jobType": "Command", **shared, **starts, "limits": limits}
    asked = Asked(data, source, machines, software)
    return _request(job, merge_patch(properties, job.spec.azure_ml or {}), asked)


def _pipeline(job: Job) -> Request:
    """A graph of the user's own, which may use what the operator makes of code, environment and compute."""
    if job.spec.entrypoint is not None:
        raise TranslationError("spec.entrypoint", "a Pipeline starts what its jobs say: remove it")
    block = dict(job.spec.azure_ml or {})
    data = data_of(job)
    source = source_of(job, 1) if job.spec.code is not None else Source("")
    if source.files is None and job.spec.code is not None:
        raise TranslationError("spec.code", "a Pipeline takes files alone: use inline, configMap or git")
    machines = machines_of(job) if job.spec.compute is not None else None
    software = software_of(job, None) if job.spec.environment is not None else None
    used: set[str] = set()
    standing_for = {
        "code": f"{names.workspace_id(job.target)}/{source.upload}" if job.spec.code is not None else None,
        "environment": software.environment_id if software is not None else None,
        # A node's word for it (azure-ai-ml constants/_common.py, SERVERLESS_COMPUTE).
        "compute": (machines.compute_id or "serverless") if machines is not None else None,
    }
    block["jobs"] = overrides.filled_in(block["jobs"], standing_for, used, f"{overrides.FIELD}.jobs")
    properties = {"jobType": "Pipeline", **_common(job), **_data(data, source, _literals(job, data))}
    asked = Asked(
        data,
        source if "code" in used else Source(source.upload),
        machines if "compute" in used else None,
        software if "environment" in used else None,
    )
    return _request(job, merge_patch(properties, block), asked)


def _copied(job: Job) -> Request:
    """A job that is there already, to be started once more with other parameters."""
    reference = job.spec.job_ref
    assert reference is not None  # noqa: S101  (asked for such runs only)
    assert reference.name is not None  # noqa: S101  (lacking.py refuses an id)
    references = References(job, mlflow={"runId": job.submission_token})
    literals = {
        name: _literal(references.replaced(value, f"spec.jobRef.parameters[{name}]"))
        for name, value in reference.parameters.items()
    }
    data = data_of(job)
    inputs = {**as_inputs(data.inputs), **literals}
    properties = {
        **_common(job),
        "environmentVariables": _variables(job),
        "limits": {"timeout": f"PT{job.timeout_seconds}S"},
        **({"inputs": inputs} if inputs else {}),
        **({"outputs": as_outputs(data.outputs)} if data.outputs else {}),
    }
    block = {key: value for key, value in (job.spec.azure_ml or {}).items() if key != "jobType"}
    asked = Asked(data, Source(""), None, None, copied=reference.name)
    # The whole is a patch of a definition that is read later, in which a null of the block still has to tell.
    return _request(job, joined(properties, block), asked)


def _request(job: Job, body: dict[str, Any], asked: Asked) -> Request:
    _check_tags(body["tags"])
    runs_as = _runs_as(job)
    asked = replace(asked, machine_count=machine_count(body))
    return Request(
        body={"properties": body},
        label=job.submission_token,
        code_folder=names.code_folder(job.target.principal, job.upload_scope or job.cluster, job.code_digest),
        files=dict(asked.source.files or {}),
        experiment=None,  # Azure ML makes the MLflow run itself, under the job's name
        tags=_tags(job),
        submission_token=job.submission_token,
        runs_as=runs_as,
        needs=needs_of(job, runs_as, _model_wanted(job), asked),
        environment=asked.software.definition if asked.software is not None else None,
        copied=asked.copied,
    )


def _common(job: Job) -> dict[str, Any]:
    """What every type of job has. Without an identity the code has a token of the run (JobBaseProperties.identity:
    "Defaults to AmlToken if null"), with which it may log and register.
    """
    return {
        "displayName": f"{job.namespace}/{job.name}"[: names.MAX_DISPLAY_NAME],
        "experimentName": job.spec.experiment or job.namespace,
        "tags": _tags(job),
        **_identity(_runs_as(job)),
    }


def _data(data: Data, source: Source, literals: dict[str, Any] | None = None) -> dict[str, Any]:
    inputs = {**as_inputs({**data.inputs, **source.inputs}), **(literals or {})}
    outputs = as_outputs(data.outputs)
    return {**({"inputs": inputs} if inputs else {}), **({"outputs": outputs} if outputs else {})}


def _literals(job: Job, data: Data) -> dict[str, Any]:
    """The params of a Pipeline, which its jobs get as ${{parent.inputs.NAME}}."""
    for name in job.spec.params:
        if name in data.inputs:
            raise TranslationError(f"spec.params[{name}]", "an input has that name as well; give one another name")
    return {name: _literal(value) for name, value in job.spec.params.items()}


def _literal(value: str) -> dict[str, Any]:
    return {"jobInputType": "literal", "value": value}


def _runs_as(job: Job) -> RunsAs | None:
    """Whom the code runs as, where the run or the workspace names somebody.

    Raises:
        TranslationError: RunAsUnknown, RunAsRequired or UnsupportedOnPlatform.
    """
    identity = short_names.run_as(job, _is_apart)
    if identity is None:
        return None
    if identity.managed_identity is not None:
        return RunsAs("managed_identity", identity.managed_identity)
    return RunsAs("submitted_user", job.target.principal)


def _is_apart(identity: RunAsIdentity) -> bool:
    return identity.managed_identity is not None


def _identity(runs_as: RunsAs | None) -> dict[str, Any]:
    if runs_as is None:
        return {}
    if runs_as.kind == "managed_identity":
        return {"identity": {"identityType": "Managed", "clientId": runs_as.name}}
    return {"identity": {"identityType": "UserIdentity"}}


def _variables(job: Job) -> dict[str, str]:
    found = told.variables(job)
    if job.spec.model is not None:
        found[told.MODEL_VARIABLE] = job.spec.model.name
    return found


def _model_wanted(job: Job) -> ModelWanted | None:
    model = job.spec.model
    if model is None:
        return None
    told.refuse_our_tags(model.tags, "spec.model.tags")
    if names.ALIAS_TAG in model.tags:
        raise TranslationError(
            "spec.model.tags",
            f"{names.ALIAS_TAG!r} is the tag that an alias is kept in on Azure ML; use spec.model.alias",
        )
    # The name of a model in the OpenAPI document: ^[a-zA-Z0-9][a-zA-Z0-9\-_]{0,254}$.
    if model.name.startswith("_"):
        raise TranslationError("spec.model.name", "names of models on Azure ML begin with a letter or digit")
    return ModelWanted(model.name, model.alias, {**model.tags, **_our_tags(job)})


def _tags(job: Job) -> dict[str, str]:
    told.refuse_our_tags(job.spec.tags, "spec.tags")
    ours = {**_our_tags(job), names.TAG_ATTEMPT: str(job.attempt), names.TAG_TOKEN: job.submission_token}
    return {**job.spec.tags, **ours}


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
    return {key: value[: names.MAX_TAG_VALUE] for key, value in tags.items() if value}


def _check_tags(tags: Mapping[str, str | None]) -> None:
    """Refuses what Azure ML would cut or refuse; the schema of spec.tags is stricter, but not spec.azureML.tags."""
    field = f"{overrides.FIELD}.tags"
    if len(tags) > names.MAX_TAGS:
        raise TranslationError(field, f"{len(tags)} tags with ours, of which Azure ML takes {names.MAX_TAGS}")
    for key, value in tags.items():
        if len(key) > names.MAX_TAG_KEY or len(value or "") > names.MAX_TAG_VALUE:
            raise TranslationError(
                f"{field}.{key[: names.MAX_TAG_KEY]}",
                f"Azure ML takes {names.MAX_TAG_KEY} characters of a key and {names.MAX_TAG_VALUE} of a value",
            )
