"""What a deployment's model is, where its files lie, and what its server gets: identity, environment, secrets.

online_deployments.py refuses a model that is not there; online_provisioning.py fails a deployment whose container could
not start.

Read in: Azure documentation, "Deploy MLflow models to online endpoints" (no code and no environment needed;
`azureml-inference-server-http` must be in the model's environment, or the container ends:
MicrosoftLearning/mslearn-aml-cli issue 5, Azure/azureml-examples issue 2760, which shows the sentence); "Troubleshoot
online endpoint deployment" (BadArgument, SecretsInjectionError: codes of failed deployments); "Authentication for
managed online endpoints" (what an endpoint's identity may read by itself); "Access secrets from online deployment
using secret injection" (patterns). The sentences of failures are ours where these pages have none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from packaging.utils import canonicalize_name

from trainyard_sandbox.azure import job_rules
from trainyard_sandbox.azure.assets import AssetVersion
from trainyard_sandbox.azure.blob_store import AzureBlobs
from trainyard_sandbox.azure.engine.images import parse_conda
from trainyard_sandbox.azure.engine.stores import image_spec
from trainyard_sandbox.azure.errors import ArmError, StorageError, not_found, user_error
from trainyard_sandbox.azure.online_rules import SECRETS_ACTION, SECRETS_FLAG
from trainyard_sandbox.azure.online_store import OnlineDeployment, OnlineEndpoint, OnlineStore
from trainyard_sandbox.azure.principals import AzurePrincipal
from trainyard_sandbox.azure.state import AzureState

INFERENCE_SERVER = "azureml-inference-server-http"
PROVIDED = (INFERENCE_SERVER, "azureml-ai-monitoring", "azureml-mlflow", "azureml-contrib-services")
"""Packages of Azure ML's own that stand for themselves here: the sandbox has its own server."""
_DATASTORE = re.compile(r"azureml://(?:subscriptions/.+?/)?datastores/([^/]+)/paths/(.*)")
_SHORT = re.compile(r"azureml:([\w.-]+):([\w.-]+)")
_REFERENCE = re.compile(r"\$\{\{(azureml://connections/[^}]+|keyvault:https://[^}]+)\}\}")
_BLOB_READ = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read"


class DeploymentFailed(Exception):
    """The deployment cannot become ready: `code` and message as its operation tells, and what the containers said."""

    def __init__(self, code: str, message: str, *, storage_log: str = "", server_log: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.storage_log = storage_log
        self.server_log = server_log


@dataclass(frozen=True)
class Prepared:
    """What a model's server is started with."""

    folder: Path
    environment: Mapping[str, str]
    storage_log: str


def model_of(azure: AzureState, model_id: str) -> AssetVersion:
    """The version that `model` of a deployment names: a resource id, or `azureml:name:version`.

    Raises:
        ArmError: 400 UserError, another workspace's or another kind of id; 404, there is none.
    """
    short = _SHORT.fullmatch(model_id)
    if short:
        name, version = short[1], short[2]
    else:
        name, version = job_rules.child_of_workspace(azure, model_id.removeprefix("azureml:"), "models", "versions")
    found: AssetVersion | None = azure.models.get(name, version)
    if found is None:
        raise not_found(f"models version {name}:{version} was not found in this workspace.")
    return found


def check_model(azure: AzureState, properties: Mapping[str, Any], *, pretended: bool) -> None:
    """Refuse a deployment without code of what is no MLflow model.

    Raises:
        ArmError: 400 UserError, or as `model_of`.
    """
    version = model_of(azure, properties["model"])
    if version.properties.get("modelType") != "mlflow_model" and not pretended:
        message = (
            f"Model {version.name}:{version.version} is no MLflow model: it needs codeConfiguration and environmentId."
        )
        raise user_error(message, "BadArgument", target="model")
    if properties.get("environmentId"):
        try:
            image_spec(azure, properties["environmentId"])
        except ValueError as error:
            raise user_error(f"The environment is not valid: {error}", "BadArgument", target="environmentId") from error


def prepared(azure: AzureState, endpoint: OnlineEndpoint, deployment: OnlineDeployment, *, pretended: bool) -> Prepared:
    """Everything that a deployment's server needs, as of now.

    Raises:
        DeploymentFailed: the model's files or a secret cannot be read, or the environment has no inference server.
    """
    given = deployment.properties.get("environmentVariables") or {}
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": str(azure.data_dir)}
    environment |= _environment(azure, endpoint, given)
    if pretended:
        return Prepared(Path(), environment, "")
    _check_identity(azure, endpoint)
    try:
        version = model_of(azure, deployment.properties["model"])
        folder = _folder(azure, version)
    except ArmError as error:
        raise DeploymentFailed("BadArgument", f"Unable to download user model: {error.message}") from error
    storage_log = f"Downloading model {version.name}:{version.version}\nModel download succeeded.\n"
    try:
        requirements = _requirements(azure, deployment, folder)
    except ValueError as error:
        message = f"ImageBuildFailure: {error}"
        raise DeploymentFailed(
            "ImageBuildFailure", message, storage_log=storage_log, server_log=f"{error}\n"
        ) from error
    if INFERENCE_SERVER not in requirements:
        raise _crashed(storage_log)
    return Prepared(folder, environment, storage_log)


def _crashed(storage_log: str) -> DeploymentFailed:
    log = (
        f"A required package {INFERENCE_SERVER} is missing. Please install {INFERENCE_SERVER} before trying again\n"
        "2023-11-01 12:00:00,000 | gunicorn/finish 100 0\nError 100. Killing all runit services.\n"
    )
    message = "ResourceNotReady: User container has crashed or terminated. Please see troubleshooting guide, available "
    message += "here: https://aka.ms/oe-tsg#error-resourcenotready"
    return DeploymentFailed("ResourceNotReady", message, storage_log=storage_log, server_log=log)


def _folder(azure: AzureState, version: AssetVersion) -> Path:
    uri = version.properties["modelUri"]
    found = _DATASTORE.fullmatch(uri)
    store = azure.datastores.get(found[1]) if found else None
    if found is None or store is None:
        raise not_found(f"The model's files at {uri} are in no datastore of this workspace.")
    blobs: AzureBlobs = azure.blobs
    path = found[2].rstrip("/")
    try:
        folder = blobs.path(store.container, path)
    except StorageError as error:
        raise not_found(f"The model's files at {uri} cannot be read: {error.message}") from error
    if not (folder / "MLmodel").is_file():
        raise not_found(f"There is no file MLmodel at {uri}.")
    return folder


def _requirements(azure: AzureState, deployment: OnlineDeployment, folder: Path) -> set[str]:
    """Names of the packages that the container has: of the deployment's environment, else of the model's own."""
    environment_id = deployment.properties.get("environmentId")
    if environment_id:
        return _names(image_spec(azure, environment_id).requirements)
    lines: list[str] = []
    conda = _conda_file(folder)
    if conda is not None:
        lines += parse_conda(conda.read_text("utf-8"))
    file = folder / "requirements.txt"
    if file.is_file():
        lines += file.read_text("utf-8").splitlines()
    return _names(lines)


def _conda_file(folder: Path) -> Path | None:
    """The conda file that MLmodel names, `conda.yaml` as a rule (mlflow documentation, "MLflow model format")."""
    document = yaml.safe_load((folder / "MLmodel").read_text("utf-8"))
    pyfunc = (document.get("flavors") or {}).get("python_function") or {} if isinstance(document, dict) else {}
    env = pyfunc.get("env")
    name = env.get("conda") if isinstance(env, dict) else env
    file = folder / str(name or "conda.yaml")
    return file if file.is_file() and file.resolve().is_relative_to(folder.resolve()) else None


def _names(lines: Any) -> set[str]:
    found = (re.match(r"\s*([A-Za-z0-9][\w.-]*)", line) for line in lines)
    return {canonicalize_name(match[1]) for match in found if match}


def _check_identity(azure: AzureState, endpoint: OnlineEndpoint) -> None:
    """A user-assigned identity must be able to read the model; a system-assigned one is given that by the service."""
    for identity in _assigned(azure, endpoint):
        if not identity.may(_BLOB_READ, azure.storage_scope, data=True):
            message = "BadArgument: Startup task failed due to authorization error. The identity "
            message += (
                f"'{identity.display_name}' needs the role Storage Blob Data Reader on the workspace's storage account."
            )
            raise DeploymentFailed("BadArgument", message, storage_log=f"{message}\n")


def _assigned(azure: AzureState, endpoint: OnlineEndpoint) -> list[AzurePrincipal]:
    ids = {key.lower() for key in endpoint.identity.get("userAssignedIdentities") or {}}
    return [one for one in azure.directory.all() if azure.identity_scope(one.display_name).lower() in ids]


def _environment(azure: AzureState, endpoint: OnlineEndpoint, given: Mapping[str, str]) -> dict[str, str]:
    """Environment variables with their secret references resolved by the endpoint's identity."""
    return {name: _injected(azure, endpoint, name, value) for name, value in given.items()}


def _injected(azure: AzureState, endpoint: OnlineEndpoint, name: str, value: str) -> str:
    found = _REFERENCE.fullmatch(value.strip())
    if found is None:
        return value
    reference = found[1].removeprefix("keyvault:")
    store: OnlineStore = azure.online
    if not _may_read(azure, endpoint, reference) or reference not in store.secrets:
        message = f"SecretsInjectionError: The secret of environment variable {name} could not be read: the endpoint's "
        message += "identity may not read it, or it does not exist."
        raise DeploymentFailed("SecretsInjectionError", message)
    return store.secrets[reference]


def _may_read(azure: AzureState, endpoint: OnlineEndpoint, reference: str) -> bool:
    """Whether the endpoint's identity may read a connection; rights on key vaults are not kept here."""
    if not reference.startswith("azureml://connections/"):
        return True
    if endpoint.identity["type"] == "SystemAssigned":
        return str(endpoint.properties["properties"].get(SECRETS_FLAG, "")).lower() == "enabled"
    action = f"Microsoft.MachineLearningServices/{SECRETS_ACTION}"
    return any(one.may(action, azure.workspace_scope) for one in _assigned(azure, endpoint))
