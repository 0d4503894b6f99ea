"""Where the workspace keeps code, environments and data, as the engine reads and writes them.

data.py and command.py call it; it is the only module of the engine that knows the stores of assets and blobs.

Forms of URIs: Azure Machine Learning documentation, "Data concepts" (`azureml://datastores/<name>/paths/<path>`, the
long form with the workspace before it, `https://<account>.blob...`), and ids of data and model versions.
"""

from __future__ import annotations

import re
from typing import Any

from trainyard_sandbox.azure import job_rules
from trainyard_sandbox.azure.assets import SYSTEM, AssetStore, Author
from trainyard_sandbox.azure.engine.images import ImageSpec, parse_conda
from trainyard_sandbox.azure.errors import ArmError, user_error
from trainyard_sandbox.azure.job_store import AzureJob
from trainyard_sandbox.azure.state import AzureState

_DATASTORE = re.compile(r"azureml://(?:subscriptions/.+?/)?datastores/([^/]+)/paths/(.*)")
_REGISTRY = re.compile(r"azureml://registries/[^/]+/environments/[^/]+/(?:versions|labels)/[^/]+")
_JOB_OUTPUT = re.compile(r"azureml://jobs/([^/]+)/outputs/([^/]+)(?:/paths)?(?:/(.*))?")
_SHORT = re.compile(r"azureml:([\w.-]+):([\w.-]+)")


class DataNotThere(Exception):
    """Data or code that a job needs cannot be read."""

    inner = ("StreamAccess", "NotFound")


def check_code(azure: AzureState, code_id: str) -> None:
    """Refuse a code version that is not there. The sentence is ours.

    Raises:
        ArmError: 400 UserError.
    """
    name, version = job_rules.child_of_workspace(azure, code_id, "codes", "versions")
    if azure.codes.get(name, version) is None:
        raise user_error(f"Code asset {name}:{version} was not found.", "NotFound", "CodeNotFound")


def check_environment(azure: AzureState, environment_id: str) -> None:
    """Refuse an environment version that is not there, or cannot be read. The sentence about one that is not there is
    (recalled).

    Raises:
        ArmError: 400 UserError.
    """
    if _REGISTRY.fullmatch(environment_id):
        return
    try:
        image_spec(azure, environment_id)
    except ValueError as error:
        raise user_error(f"The environment is not valid: {error}", "BadArgument", "InvalidEnvironment") from error


def image_spec(azure: AzureState, environment_id: str) -> ImageSpec:
    """What an environment asks for; a curated one of a registry is there already.

    Raises:
        ArmError: 400 UserError, there is none.
        ValueError: its conda file cannot be read.
    """
    if _REGISTRY.fullmatch(environment_id):
        return ImageSpec(environment_id)
    properties = _environment(azure, environment_id)
    return ImageSpec(properties.get("image") or "", parse_conda(properties.get("condaFile") or ""))


def _environment(azure: AzureState, environment_id: str) -> dict[str, Any]:
    short = _SHORT.fullmatch(environment_id)
    if short:
        name, version = short[1], short[2]
    else:
        name, version = job_rules.child_of_workspace(azure, environment_id, "environments", "versions")
    found = azure.environments.get(name, version)
    if found is None:
        message = f"No environment exists for name: {name}, version: {version}"
        raise user_error(message, "NotFound", "EnvironmentNotFound")
    properties: dict[str, Any] = found.properties
    return properties


def code_files(azure: AzureState, code_id: str) -> dict[str, bytes]:
    """The files of a code version by relative path.

    Raises:
        DataNotThere: it is gone.
    """
    name, version = job_rules.child_of_workspace(azure, code_id, "codes", "versions")
    found = azure.codes.get(name, version)
    if found is None:
        raise DataNotThere(f"Code asset {name}:{version} was not found.")
    return _below(azure, found.container, f"{found.prefix}/" if found.prefix else "")


def resolved(azure: AzureState, uri: str, asset_type: str) -> str:
    """The URI in a datastore of data: of a data or model version, or of a job's output.

    Args:
        asset_type: of the input, such as `uri_folder` or `mlflow_model`.

    Raises:
        DataNotThere: there is no such version or job.
    """
    short = _SHORT.fullmatch(uri)
    if short:
        return _asset_uri(azure, "models" if asset_type.endswith("_model") else "data", short[1], short[2])
    output = _JOB_OUTPUT.fullmatch(uri)
    if output:
        return _output_uri(azure, output[1], output[2], output[3] or "")
    for kind in ("data", "models"):
        try:
            name, version = job_rules.child_of_workspace(azure, uri, kind, "versions")
        except ArmError:
            continue
        return _asset_uri(azure, kind, name, version)
    return uri


def _output_uri(azure: AzureState, job_name: str, output: str, path: str) -> str:
    job: AzureJob | None = azure.jobs.get(job_name)
    if output in ("artifacts", "default"):
        return f"azureml://datastores/workspaceartifactstore/paths/ExperimentRun/dcid.{job_name}/{path}"
    if job is None or output not in job.output_uris:
        raise DataNotThere(f"The job {job_name} or its output {output} was not found.")
    return f"{job.output_uris[output].rstrip('/')}/{path}"


def _asset_uri(azure: AzureState, kind: str, name: str, version: str) -> str:
    store, field = (azure.data, "dataUri") if kind == "data" else (azure.models, "modelUri")
    found = store.get(name, version)
    if found is None:
        raise DataNotThere(f"{kind} version {name}:{version} was not found.")
    uri: str = found.properties[field]
    return uri


def register(azure: AzureState, job: AzureJob, output: dict[str, Any], uri: str) -> None:
    """Make the version of a data asset or model that an output is to become (`assetName`, `assetVersion`)."""
    kind, name = output["jobOutputType"], output["assetName"]
    is_model = kind.endswith("_model")
    store: AssetStore = azure.models if is_model else azure.data
    principal = azure.directory.get(job.creator)
    author = Author.of(principal) if principal else SYSTEM
    version = output.get("assetVersion") or store.ensure_container(name, author).next_version
    shared: dict[str, Any] = {
        "description": output.get("description"),
        "tags": {},
        "isArchived": False,
        "isAnonymous": False,
    }
    if is_model:
        shared |= {"modelType": kind, "modelUri": uri, "jobName": job.name, "flavors": {}, "properties": {}}
    else:
        shared |= {"dataType": kind, "dataUri": uri, "properties": {}}
    store.put(name, version, shared, author)


def read_uri(azure: AzureState, uri: str) -> dict[str, bytes]:
    """The files at a URI: of a folder by relative path, of a file under the name "".

    Raises:
        DataNotThere: nothing is there, or the URI is of a kind that is not offered.
    """
    container, path = located(azure, uri)
    folder = path.rstrip("/") + "/" if path else ""
    if azure.blobs.exists(container, path):
        return {"": azure.blobs.read(container, path)}
    files = _below(azure, container, folder)
    if not files:
        raise DataNotThere(f"Nothing was found at {uri}.")
    return files


def write_uri(azure: AzureState, uri: str, content: bytes) -> None:
    """Write one file."""
    container, path = located(azure, uri)
    azure.blobs.write(container, path, content)


def located(azure: AzureState, uri: str) -> tuple[str, str]:
    """Container and path of a URI.

    Raises:
        DataNotThere: it is of a kind that is not offered, or its datastore is not there.
    """
    found = _DATASTORE.fullmatch(uri)
    if found is None:
        raise DataNotThere(f"{uri} is of a kind that this sandbox does not offer; use azureml://datastores/...")
    datastore = azure.datastores.get(found[1])
    if datastore is None:
        raise DataNotThere(f"The datastore {found[1]} was not found.")
    container: str = datastore.container
    return container, found[2]


def _below(azure: AzureState, container: str, prefix: str) -> dict[str, bytes]:
    names = [blob.name for blob in azure.blobs.list(container, prefix)]
    return {name.removeprefix(prefix).lstrip("/"): azure.blobs.read(container, name) for name in names}
