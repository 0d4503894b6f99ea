"""What a platform does not have of what a run, an endpoint or its workspace can say, refused from one place. Pure.

Called by the translators before anything else. What names such a thing is refused with reason
UnsupportedOnPlatform, so that the same run is done the same way on every platform, or not at all. A platform's own
block (spec.databricks, spec.azureML) is not lacking elsewhere: it is for its platform alone, and others pass it over.
Nor is `form` of an input, which only helps where data is mounted.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from trainyard.api.compute import ComputeClass
from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.core.errors import TranslationError
from trainyard.core.serving.plan import EndpointPlan
from trainyard.platforms import short_names
from trainyard.platforms.base import Job
from trainyard.platforms.short_names import SCHEME

REASON = "UnsupportedOnPlatform"


@dataclass(frozen=True, slots=True)
class Lack:
    """One thing that a platform does not have. `asked` gives the fields of a run that ask for it."""

    what: str
    sentence: str
    asked: Callable[[Job], Iterator[str]]


def refuse(platform: str, job: Job) -> None:
    """Checks the run, with its workspace, against the platform's table.

    Raises:
        TranslationError: UnsupportedOnPlatform, naming the field.
    """
    for lack in LACKING[platform]:
        for field in lack.asked(job):
            raise TranslationError(field, lack.sentence, reason=REASON)


@dataclass(frozen=True, slots=True)
class ServingLack:
    """One thing of endpoints that a platform does not have. `asked` gives the fields of a deployment that ask for it.

    A field is named as spec.models[NAME]... also where an earlier revision asks for it.
    """

    what: str
    sentence: str
    asked: Callable[[EndpointPlan, MLWorkspaceSpec], Iterator[str]]


def refuse_endpoint(platform: str, plan: EndpointPlan, workspace: MLWorkspaceSpec) -> None:
    """Checks the plan of an endpoint against the platform's table.

    Raises:
        TranslationError: UnsupportedOnPlatform, naming the field.
    """
    for lack in SERVING_LACKING[platform]:
        for field in lack.asked(plan, workspace):
            raise TranslationError(field, lack.sentence, reason=REASON)


def _tasks(job: Job) -> Iterator[str]:
    if job.spec.tasks:
        yield "spec.tasks"


def _notebook(job: Job) -> Iterator[str]:
    if job.spec.entrypoint is not None and job.spec.entrypoint.notebook is not None:
        yield "spec.entrypoint.notebook"


def _secrets(job: Job) -> Iterator[str]:
    if job.spec.secrets:
        yield "spec.secrets"


def _only_a_pipeline(job: Job) -> Iterator[str]:
    if (job.spec.azure_ml or {}).get("jobs") and not (job.spec.code or job.spec.tasks or job.spec.job_ref):
        yield "spec.azureML.jobs"


def _tables(job: Job) -> Iterator[str]:
    for kind, data in (("inputs", job.spec.inputs), ("outputs", job.spec.outputs)):
        yield from (f"spec.{kind}[{name}].table" for name, each in data.items() if each.table is not None)


def _job_id(job: Job) -> Iterator[str]:
    if job.spec.job_ref is not None and job.spec.job_ref.id is not None:
        yield "spec.jobRef.id"


def _data_in(*beginnings: str) -> Callable[[Job], Iterator[str]]:
    def asked(job: Job) -> Iterator[str]:
        for kind, data in (("inputs", job.spec.inputs), ("outputs", job.spec.outputs)):
            for name, each in data.items():
                if each.uri is not None and _place(job, each.uri).startswith(beginnings):
                    yield f"spec.{kind}[{name}].uri"

    return asked


def _code_in(*beginnings: str) -> Callable[[Job], Iterator[str]]:
    def asked(job: Job) -> Iterator[str]:
        code = job.spec.code
        if code is None:
            return
        if code.path is not None and _place(job, code.path).startswith(beginnings):
            yield "spec.code.path"
        if (
            code.wheel is not None
            and code.wheel.path is not None
            and _place(job, code.wheel.path).startswith(beginnings)
        ):
            yield "spec.code.wheel.path"

    return asked


def _identity_of(*kinds: str) -> Callable[[Job], Iterator[str]]:
    def asked(job: Job) -> Iterator[str]:
        mapping = job.workspace.run_as
        name = job.spec.run_as or (mapping.default if mapping is not None else None)
        identity = mapping.identities.get(name or "") if mapping is not None else None
        if identity is not None and any(getattr(identity, kind) is not None for kind in kinds):
            yield "spec.runAs"

    return asked


def _machines(is_lacking: Callable[[ComputeClass], bool]) -> Callable[[Job], Iterator[str]]:
    def asked(job: Job) -> Iterator[str]:
        named = [("spec.compute.class", job.spec.compute)] if job.spec.compute is not None else []
        named += [(f"spec.tasks[{task.name}].compute.class", task.compute) for task in job.spec.tasks if task.compute]
        for field, compute in named:
            shape = job.workspace.compute_classes.get(compute.class_)
            if shape is not None and is_lacking(shape):
                yield field

    return asked


def _log_volume(job: Job) -> Iterator[str]:
    where = job.workspace.log_destination
    if where is not None and where.volume is not None:
        yield "spec.workspaceRef"


def _place(job: Job, location: str) -> str:
    """A place with its data root replaced as far as it is known; what is not is refused elsewhere."""
    if not location.startswith(SCHEME):
        return location
    root = job.workspace.data_roots.get(location.removeprefix(SCHEME).partition("/")[0])
    return (root.path or "") if root is not None else ""


LACKING: dict[str, tuple[Lack, ...]] = {
    "azureml": (
        Lack(
            "a graph of tasks",
            "Azure ML runs no graph of spec.tasks: give each its own run, write the graph as a Pipeline of Azure ML in "
            "spec.azureML (jobType: Pipeline), or use a workspace of Databricks",
            _tasks,
        ),
        Lack(
            "notebooks",
            "Azure ML starts no notebooks: save it as a Python file and name that in pythonFile, or use a workspace of "
            "Databricks",
            _notebook,
        ),
        Lack(
            "a secret store that fills variables",
            "Azure ML fills no variables from a secret store: read the secret from a key vault in the code, as the "
            "identity in spec.runAs",
            _secrets,
        ),
        Lack("tables", "Azure ML has no tables: name files by uri, or use a workspace of Databricks", _tables),
        Lack(
            "volumes and DBFS",
            "lies in a volume or DBFS of Databricks, which Azure ML can not reach: use azureml://datastores/NAME/paths/"
            "PATH, abfss:// or wasbs://, or a data root that stands for one of these",
            _data_in("/Volumes/", "/Workspace/", "dbfs:"),
        ),
        Lack(
            "folders of a Databricks workspace",
            "lies in a workspace or volume of Databricks, which Azure ML can not reach: use git, or a data root that "
            "stands for a datastore of the workspace",
            _code_in("/Volumes/", "/Workspace/", "dbfs:"),
        ),
        Lack("ids of jobs", "jobs of Azure ML have names and no numbers: use jobRef.name", _job_id),
        Lack(
            "service principals and users to run as",
            "Azure ML runs code as no other service principal or user: name an identity of the workspace's runAs that "
            "is a managedIdentity or submittedUser",
            _identity_of("service_principal", "user"),
        ),
        Lack(
            "machines of Databricks",
            "is a compute class of Databricks: name one with azureML, or have it added to the workspace",
            _machines(lambda shape: shape.azure_ml is None and not short_names.serves_alone(shape)),
        ),
        Lack(
            "volumes to keep logs in",
            "logDestination of the workspace is a volume of Databricks, which Azure ML can not write: have it changed "
            "to s3 or adls, or removed",
            _log_volume,
        ),
    ),
    "databricks": (
        Lack(
            "Pipelines of Azure ML",
            "is all that this run starts, and Databricks can not run it: write the graph in spec.tasks, or use a "
            "workspace of Azure ML",
            _only_a_pipeline,
        ),
        Lack(
            "data assets and datastores",
            "is of Azure ML, which Databricks can not reach: use a volume, a URI of cloud storage, or a data root that "
            "stands for one of these",
            _data_in("azureml:"),
        ),
        Lack(
            "datastores to hold code",
            "is of Azure ML, which Databricks can not reach: use git, or a folder below /Workspace or /Volumes",
            _code_in("azureml:"),
        ),
        Lack(
            "managed identities to run as",
            "Databricks runs code as a service principal or user: name such an identity of the workspace's runAs",
            _identity_of("managed_identity", "submitted_user"),
        ),
        Lack(
            "machines of Azure ML",
            "is a compute class of Azure ML: name one with jobCluster, serverless or existingCluster, or have it added "
            "to the workspace",
            _machines(lambda shape: shape.azure_ml is not None),
        ),
    ),
}


def _key(plan: EndpointPlan, _workspace: MLWorkspaceSpec) -> Iterator[str]:
    if plan.auth == "Key":
        yield "spec.auth"


def _sampled(plan: EndpointPlan, _workspace: MLWorkspaceSpec) -> Iterator[str]:
    if plan.request_logging is not None and plan.request_logging.sampling_percent not in (None, 100):
        yield "spec.requestLogging.samplingPercent"


def _scaled_to_zero(plan: EndpointPlan, _workspace: MLWorkspaceSpec) -> Iterator[str]:
    yield from (f"spec.models[{each.name}].scaleToZero" for each in plan.served if each.scale_to_zero)


def _scaled(plan: EndpointPlan, _workspace: MLWorkspaceSpec) -> Iterator[str]:
    yield from (
        f"spec.models[{each.name}].replicas.max" for each in plan.served if each.max_replicas > each.min_replicas
    )


def _stored_secrets(plan: EndpointPlan, _workspace: MLWorkspaceSpec) -> Iterator[str]:
    yield from (f"spec.models[{each.name}].secrets" for each in plan.served if each.secrets)


def _shape(serves: Callable[[ComputeClass], bool]) -> Callable[[EndpointPlan, MLWorkspaceSpec], Iterator[str]]:
    def asked(plan: EndpointPlan, workspace: MLWorkspaceSpec) -> Iterator[str]:
        for each in plan.served:
            shape = workspace.compute_classes.get(each.compute_class)
            if shape is not None and not serves(shape):
                yield f"spec.models[{each.name}].compute.class"

    return asked


SERVING_LACKING: dict[str, tuple[ServingLack, ...]] = {
    "azureml": (
        ServingLack(
            "endpoints that scale to zero",
            "a managed online endpoint of Azure ML keeps at least one machine up: leave scaleToZero out, or use a "
            "workspace of Databricks",
            _scaled_to_zero,
        ),
        ServingLack(
            "replicas added under load",
            "Azure ML adds replicas by rules of Azure Monitor, which the operator does not make: leave max out, or as "
            "large as min",
            _scaled,
        ),
        ServingLack(
            "a secret store that fills variables of served models",
            "Azure ML fills no variables from a secret store: have the model read a key vault as the endpoint's "
            "identity, or use a workspace of Databricks",
            _stored_secrets,
        ),
        ServingLack(
            "machines of Databricks to serve on",
            "is no compute class for endpoints of Azure ML: name one with onlineEndpoint, or have it added to the "
            "workspace",
            _shape(lambda shape: shape.online_endpoint is not None),
        ),
    ),
    "databricks": (
        ServingLack(
            "keys of endpoints",
            "endpoints of Databricks are asked with tokens alone: leave auth out, or use a workspace of Azure ML",
            _key,
        ),
        ServingLack(
            "a share of the requests to log",
            "Databricks logs every request of an endpoint, or none: leave samplingPercent out",
            _sampled,
        ),
        ServingLack(
            "machines of Azure ML to serve on",
            "is no compute class for endpoints of Databricks: name one with modelServing, or have it added to the "
            "workspace",
            _shape(lambda shape: shape.model_serving is not None),
        ),
    ),
}
