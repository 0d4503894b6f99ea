"""Registered models as an endpoint serves them: which version is meant, and whether it can be served without code.

Called by `serving` in a lane's thread. A version is looked up in the workspace's MLflow registry, where an alias is a
tag (`mlflow_runs`). What serving takes is read from the model's own files, through a signature of the datastore that
they lie in: with a signature the platform knows the columns, and the server that it starts comes from the model's
environment, which has to hold it (Azure documentation, "Deploy MLflow models to online endpoints": the package
azureml-inference-server-http).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import yaml

from trainyard.api.deployment_status import Origin
from trainyard.core.errors import Denied, Missing, Refused, Unreachable
from trainyard.core.serving.seen import ResolvedModel
from trainyard.platforms.azureml.client import AzureMLClient
from trainyard.platforms.azureml.history import History
from trainyard.platforms.azureml.mlflow_runs import MlflowRuns, version_number, version_tags
from trainyard.platforms.azureml.names import ALIAS_TAG, TAG_COMMIT, TAG_NAME, TAG_REQUESTED_BY, TAG_UID
from trainyard.platforms.azureml.outputs import datastore_path, signed_container
from trainyard.platforms.base import Need
from trainyard.platforms.limits import BesideUnreachable
from trainyard.platforms.verdicts import Found, NotToldError, missing, passed

MODEL_VERSION = "2023-08-01-preview"
MLFLOW_MODEL = "mlflow_model"
SERVER = "azureml-inference-server-http"
DESCRIPTION = "MLmodel"
# Files that name packages (MLflow documentation, "MLflow model format"), and the most that is read of one, in bytes.
PACKAGE_FILES = ("conda.yaml", "requirements.txt")
MOST_BYTES = 512 * 1024

_REQUIREMENT = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")
_REMEDY = (
    f"log the model with extra_pip_requirements=[{SERVER!r}], for example mlflow.sklearn.log_model(model, "
    f'"model", signature=..., extra_pip_requirements=["{SERVER}"]), register a new version and serve that'
)


class Models:
    """Looks through one workspace."""

    def __init__(self, client: AzureMLClient, history: History) -> None:
        self._client = client
        self._history = history
        self._versions = MlflowRuns(history)

    def resolve(self, model: str, version: str | None, alias: str | None) -> ResolvedModel:
        """See `platforms.serving.Endpoints.resolve`."""
        row = self._version(model, version) if version is not None else self._aliased(model, alias or "")
        if row.get("status") not in (None, "", "READY"):
            raise Missing(
                f"version {row.get('version')} of model {model} is {row['status']}: its files are not all there"
            )
        return ResolvedModel(model, str(row.get("version") or version), origin_of(row))

    def servable(self, need: Need) -> Found:
        """Whether a version can be served as it is, without code of one's own."""
        model, _, version = need.name.rpartition(":")
        path = f"/models/{quote(model, safe='')}/versions/{quote(version, safe='')}"
        try:
            properties = self._client.do("GET", path, MODEL_VERSION).get("properties") or {}
        except Missing:
            return missing(f"the workspace has no version {version} of model {model}; correct it, or register it")
        kind = str(properties.get("modelType") or "")
        if kind.lower() != MLFLOW_MODEL:
            return missing(f"it is of type {kind or 'unknown'}: only MLflow models are served without code; {_REMEDY}")
        files = self._files(str(properties.get("modelUri") or ""))
        lacks = lacking(files)
        return missing(f"{' and '.join(lacks)}: {_REMEDY}") if lacks else passed(f"it has a signature and {SERVER}")

    def _version(self, model: str, version: str) -> dict[str, Any]:
        answer = self._history.mlflow("GET", "model-versions/get", query={"name": model, "version": version})
        found: dict[str, Any] = answer.get("model_version") or {}
        return found

    def _aliased(self, model: str, alias: str) -> dict[str, Any]:
        rows = [row for row in self._versions.versions(model) if version_tags(row).get(ALIAS_TAG) == alias]
        if not rows:
            raise Missing(
                f"no version of model {model} has the alias {alias}, which on Azure ML is its tag {ALIAS_TAG!r}"
            )
        return max(rows, key=version_number)

    def _files(self, uri: str) -> dict[str, str]:
        """The texts of the model's description and of what names its packages, by file; those that are there."""
        place = datastore_path(uri)
        if place is None:
            raise NotToldError("its files are in no datastore of the workspace, so that they are not looked at")
        try:
            signed = signed_container(self._client, place[0])
            if not signed:
                raise NotToldError(f"datastore {place[0]} gives no signature to look at its files with")
            folder = place[1].strip("/")
            return self._client.in_container(signed, lambda container: dict(_texts(container, folder)))
        except (Denied, Missing, Refused, BesideUnreachable) as error:
            raise NotToldError(f"its files can not be looked at: {error.message}") from error


def origin_of(row: Mapping[str, Any]) -> Origin | None:
    """What made a version, by its MLflow run and the tags that runs of ours put on it (docs/decisions/0011)."""
    tags = version_tags(dict(row))
    known = {
        "run": tags.get(TAG_NAME, "")[:253],
        "uid": tags.get(TAG_UID, "")[:63],
        "mlflow_run_id": str(row.get("run_id") or "")[:128],
        "commit": tags.get(TAG_COMMIT, "")[:64],
        "requested_by": tags.get(TAG_REQUESTED_BY, "")[:255],
    }
    known = {name: value for name, value in known.items() if value}
    return Origin(**known) if known else None


def lacking(files: Mapping[str, str]) -> list[str]:
    """What a model lacks to be served without code, by the texts of its files. Pure.

    Raises:
        NotToldError: its description can not be read.
    """
    described = _yaml(files.get(DESCRIPTION, ""))
    if not isinstance(described, Mapping):
        raise NotToldError(f"it has no file {DESCRIPTION} that can be read")
    signature = described.get("signature")
    found = [] if isinstance(signature, Mapping) and signature.get("inputs") else ["it has no signature"]
    packages = {_plain(name) for name in _requirements(files)}
    return found if SERVER in packages else [*found, f"its environment lacks {SERVER}"]


def _requirements(files: Mapping[str, str]) -> Iterator[str]:
    """The names of the packages that the model's files ask for."""
    lines = files.get("requirements.txt", "").splitlines()
    conda = _yaml(files.get("conda.yaml", ""))
    for each in (conda.get("dependencies") or ()) if isinstance(conda, Mapping) else ():
        lines += [str(line) for line in each.get("pip") or ()] if isinstance(each, Mapping) else [str(each)]
    for line in lines:
        named = _REQUIREMENT.match(line.strip())
        if named:
            yield named[0]


def _plain(name: str) -> str:
    """A package's name as PyPI compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        return None


def _texts(container: Any, folder: str) -> Iterator[tuple[str, str]]:
    wanted = {f"{folder}/{name}" if folder else name: name for name in (DESCRIPTION, *PACKAGE_FILES)}
    for path, name in wanted.items():
        # Asking for a blob that is not there is an error; a list of those that begin so is none.
        there = next((blob for blob in container.list_blobs(name_starts_with=path) if blob.name == path), None)
        if there is None or not there.size:
            continue
        if there.size > MOST_BYTES:
            raise Unreachable(f"{name} has {there.size} bytes, which is no file of a model's", reason="AnswerTooLarge")
        yield name, bytes(container.download_blob(path).readall()).decode("utf-8", "replace")
