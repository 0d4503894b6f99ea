"""What the short names of a run stand for in its workspace: compute classes, runtimes, identities, data roots. Pure.

Used by the translators, so that every platform refuses an unknown name in the same words.
"""

from collections.abc import Callable, Mapping

from trainyard.api.compute import ComputeClass, Runtime
from trainyard.api.mappings import DataRoot, RunAsIdentity
from trainyard.api.training_run import Compute, Environment
from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.core.errors import TranslationError
from trainyard.platforms.base import Job
from trainyard.platforms.references import listed

SCHEME = "data://"


def compute_class(compute: Compute | None, field: str, workspace: MLWorkspaceSpec) -> tuple[str, ComputeClass]:
    """The name in the run, and what it stands for.

    Raises:
        TranslationError: ComputeClassUnknown, or ComputeClassInvalid for one that is for served models alone.
    """
    name = compute.class_ if compute is not None else ""
    shape = workspace.compute_classes.get(name)
    if shape is None:
        raise TranslationError(
            field,
            f"{name!r} is not a compute class of the workspace, which has {listed(workspace.compute_classes)}",
            reason="ComputeClassUnknown",
        )
    if serves_alone(shape):
        raise TranslationError(
            field,
            f"{name!r} is a compute class for served models alone, which no run can use: name one with jobCluster, "
            "serverless, existingCluster or azureML, or have one of these added to it",
            reason="ComputeClassInvalid",
        )
    return name, shape


def serves_alone(shape: ComputeClass) -> bool:
    """Whether a compute class has machines for served models, and none for runs."""
    return not (shape.job_cluster or shape.serverless or shape.existing_cluster or shape.azure_ml)


def runtime(environment: Environment | None, field: str, workspace: MLWorkspaceSpec) -> Runtime | None:
    """What the runtime stands for; None where none is named. `field` is where the environment stands.

    Raises:
        TranslationError: RuntimeUnknown.
    """
    name = environment.runtime if environment else None
    if name is None:
        return None
    found = workspace.runtimes.get(name)
    if found is None:
        raise TranslationError(
            f"{field}.runtime",
            f"{name!r} is not a runtime of the workspace, which has {listed(workspace.runtimes)}",
            reason="RuntimeUnknown",
        )
    return found


def run_as(job: Job, is_apart: Callable[[RunAsIdentity], bool]) -> RunAsIdentity | None:
    """The identity that the run names, or the workspace's default. `is_apart` tells whether it is not the submitter.

    Raises:
        TranslationError: RunAsUnknown or RunAsRequired.
    """
    mapping = job.workspace.run_as
    identities = mapping.identities if mapping is not None else {}
    name = job.spec.run_as or (mapping.default if mapping is not None else None)
    if name is not None and name not in identities:
        raise TranslationError(
            "spec.runAs",
            f"{name!r} is not an identity of the workspace's runAs, which has {listed(identities)}",
            reason="RunAsUnknown",
        )
    apart = [each for each, identity in identities.items() if is_apart(identity)]
    if mapping is not None and mapping.required and name not in apart:
        raise TranslationError(
            "spec.runAs",
            "the workspace requires that code does not run as the identity that submits it; name one of "
            f"{listed(apart)}",
            reason="RunAsRequired",
        )
    return identities.get(name or "")


def files(uri: str, field: str, roots: Mapping[str, DataRoot]) -> str:
    """A place of files with data://ROOT replaced.

    Raises:
        TranslationError: DataRootUnknown, or InvalidSpec for a part of `..`.
    """
    if ".." in uri.split("/"):
        raise TranslationError(field, "must have no .. part")
    if not uri.startswith(SCHEME):
        return uri
    name, _, rest = uri.removeprefix(SCHEME).partition("/")
    path = data_root(name, field, roots).path
    if path is None:
        raise TranslationError(
            field, f"data root {name!r} of the workspace holds tables only: it has no path", reason="DataRootUnknown"
        )
    return f"{path}/{rest}" if rest else path


def data_root(name: str, field: str, roots: Mapping[str, DataRoot]) -> DataRoot:
    """What data://NAME stands for.

    Raises:
        TranslationError: DataRootUnknown.
    """
    root = roots.get(name)
    if root is None:
        raise TranslationError(
            field, f"{name!r} is not a data root of the workspace, which has {listed(roots)}", reason="DataRootUnknown"
        )
    return root
