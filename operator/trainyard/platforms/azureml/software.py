"""From a runtime of the workspace and the run's packages to an environment of Azure ML. Pure.

Called by translate.py. An environment that is not there yet is described as azure-ai-ml describes one that stands in a
job (entities/_assets/environment.py): anonymous, named alike, with a version that comes from its content.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from trainyard.api.azureml import AzureMLRuntime
from trainyard.core.errors import TranslationError
from trainyard.platforms import short_names
from trainyard.platforms.azureml import names
from trainyard.platforms.base import Job

# Azure ML's image for CPUs (https://github.com/Azure/AzureML-Containers), which has conda.
DEFAULT_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04"
DEFAULT_PYTHON = "3.11"

# Environments that Azure ML itself keeps; it takes their short form only (azure-ai-ml
# operations/_operation_orchestrator.py, get_asset_arm_id).
_CURATED = "AzureML-"
_REGISTRY = "azureml://"
_FIELD = "spec.environment"
# One of a workspace; Azure ML takes the label of a registry's as it is.
_LATEST = re.compile(r"(/workspaces/[^/]+/environments/)([A-Za-z0-9_.-]+)/labels/latest$")


@dataclass(frozen=True, slots=True)
class Software:
    """The environment of a job: its id, and the definition to be registered before where it is described here.

    `named` is what a named one is called (NAME:VERSION, NAME@latest or a registry's id); None for a described one.
    """

    environment_id: str
    definition: Mapping[str, Any] | None = None
    named: str | None = None


def software_of(job: Job, wheel: str | None) -> Software:
    """The environment of the run. `wheel` is the requirement of code.wheel, if that is how it is installed.

    Raises:
        TranslationError: RuntimeUnknown; InvalidSpec for packages beside an environment that is used as it is.
    """
    environment = job.spec.environment
    runtime = short_names.runtime(environment, _FIELD, job.workspace)
    base = runtime.azure_ml if runtime is not None else None
    added = list(environment.pip) if environment is not None else []
    if base is not None and base.environment is not None:
        if added:
            raise TranslationError(
                f"{_FIELD}.pip",
                f"the runtime is the environment {base.environment} of Azure ML, which is used as it is; leave pip "
                "out, or name a runtime that is described by packages",
            )
        return _named(base.environment, names.workspace_id(job.target))
    packages = [*(runtime.pip if runtime is not None else []), *added, *([wheel] if wheel is not None else [])]
    return _described(base or AzureMLRuntime(conda=[]), packages, names.workspace_id(job.target))


def unpinned(body: Any) -> str | None:
    """The environment of the workspace that a job's body names by its label latest; None where it names none so.

    Azure ML takes versions only, which its own tools look up before they send a job (get_asset_arm_id). So does
    `Connection.submit`, and puts what it found in with `pinned`.
    """
    return next((match[2] for text in _texts(body) if (match := _LATEST.search(text))), None)


def pinned(value: Any, named: str, version: str) -> Any:
    """The body with that version of the environment of that name in place of the label latest."""
    if isinstance(value, Mapping):
        return {key: pinned(each, named, version) for key, each in value.items()}
    if isinstance(value, list):
        return [pinned(each, named, version) for each in value]
    match = _LATEST.search(value) if isinstance(value, str) else None
    if match is None or match[2] != named:
        return value
    return f"{value[: match.start()]}{match[1]}{named}/versions/{version}"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(each)


def is_used_as_it_is(job: Job) -> bool:
    """Whether the run's runtime is an environment that nothing can be added to."""
    runtime = short_names.runtime(job.spec.environment, _FIELD, job.workspace)
    return runtime is not None and runtime.azure_ml is not None and runtime.azure_ml.environment is not None


def _named(text: str, workspace_id: str) -> Software:
    name = text.removeprefix("azureml:") if not text.startswith(_REGISTRY) else text
    if name.startswith(_REGISTRY):
        return Software(name, named=name)
    if name.startswith(_CURATED):
        return Software(f"azureml:{name}", named=name)
    if name.endswith("@latest"):
        return Software(f"{workspace_id}/environments/{name.removesuffix('@latest')}/labels/latest", named=name)
    short, _, version = name.partition(":")
    return Software(f"{workspace_id}/environments/{short}/versions/{version}", named=name)


def _described(base: AzureMLRuntime, packages: Sequence[str], workspace_id: str) -> Software:
    properties: dict[str, Any] = {"image": base.image or DEFAULT_IMAGE, "osType": "Linux", "isAnonymous": True}
    if packages or base.conda or base.python_version or base.image is None:
        properties["condaFile"] = _conda_file(base, packages)
    version = hashlib.sha256(json.dumps(properties, sort_keys=True).encode()).hexdigest()[:32]
    definition = {"name": names.ANONYMOUS_ENVIRONMENT, "version": version, "properties": properties}
    return Software(f"{workspace_id}/environments/{names.ANONYMOUS_ENVIRONMENT}/versions/{version}", definition)


def _conda_file(base: AzureMLRuntime, packages: Sequence[str]) -> str:
    dependencies: list[Any] = [f"python={base.python_version or DEFAULT_PYTHON}", *base.conda]
    if packages:
        dependencies += ["pip", {"pip": list(packages)}]
    described = {"name": "trainyard", "channels": ["conda-forge"], "dependencies": dependencies}
    text: str = yaml.safe_dump(described, sort_keys=False, width=1000)
    return text
