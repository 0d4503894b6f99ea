"""Registered models: names and versions, with the job that made each.

MLflow's registry of the workspace adds versions to the same store, so that both show the same ones.

Bodies: Azure/azure-rest-api-specs, examples `Workspace/ModelVersion/*` and `ModelContainer/*`; azure-ai-ml reads
`flavors` as an object in every version. There are no aliases (Azure Machine Learning documentation, "Manage models
registry in Azure Machine Learning with MLflow", support matrix); tags are all that can be changed.
"""

from __future__ import annotations

import re
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.arm import Action, AzureCall
from trainyard_sandbox.azure.assets import AssetStore, AssetVersion
from trainyard_sandbox.azure.assets_api import (
    LIST_QUERY,
    VERSIONS,
    asset_routes,
    listed_versions,
    put_properties,
    put_shape,
    put_version,
    require_container,
    version_body,
)
from trainyard_sandbox.azure.errors import user_error
from trainyard_sandbox.azure.state import AzureState
from trainyard_sandbox.schema import MapOf, Obj, Str
from trainyard_sandbox.state import SandboxState

TYPES = ("custom_model", "mlflow_model", "triton_model")
_PUT = put_shape(
    {
        "modelUri": Str(min_length=1),
        "modelType": Str(choices=TYPES),
        "jobName": Str(),
        "flavors": MapOf(Obj({"data": MapOf(Str())})),
        "stage": Str(),
    },
    required=("modelUri",),
)
_JOB_ARTIFACTS = re.compile(r"(?:azureml://jobs/([^/]+)/outputs/artifacts/(?:paths/)?|runs:/([^/]+)/)(.*)")
_JOB_OUTPUT = re.compile(r"azureml://jobs/([^/]+)/outputs/([^/]+)(?:/paths)?/?(.*)")
_DATASTORE = re.compile(r"azureml://(?:subscriptions/[^/]+/resource[gG]roups/[^/]+/workspaces/[^/]+/)?datastores/.+")
_QUERY = (*LIST_QUERY, "version", "description", "stage")


def attach(state: SandboxState) -> None:
    """Hang the models on the state."""
    state.azure.models = AssetStore("models", state.azure.now)


def routes() -> list[Route]:
    """Mounted by server.py."""
    listed = Action(list_versions, "workspaces/models/versions/read", VERSIONS, _QUERY)
    return asset_routes("models", listed, PUT=put_model, DELETE=delete_version)


async def list_versions(call: AzureCall) -> Response:
    """Versions of a name."""
    store: AssetStore = call.azure.models
    require_container(store, call.path["name"])
    found = store.versions(call.path["name"])
    for asked, field in (("version", "version"), ("description", "description"), ("stage", "stage")):
        if asked in call.query:
            found = [v for v in found if _value(v, field) == call.query[asked]]
    return listed_versions(call, store, found)


def _value(version: AssetVersion, field: str) -> Any:
    return version.version if field == "version" else version.properties.get(field)


async def put_model(call: AzureCall) -> Response:
    """Make a version of what a job or a datastore holds, or change the tags of one."""
    store: AssetStore = call.azure.models
    properties = await put_properties(call, _PUT)
    uri, job = located(call.azure, properties["modelUri"])
    properties = {"modelType": "custom_model"} | properties | {"modelUri": uri}
    known = store.get(call.path["name"], call.path["version"])
    properties["jobName"] = properties.get("jobName") or job or (known and known.properties.get("jobName"))
    version, made = put_version(call, store, properties, "modelUri")
    return JSONResponse(version_body(call, store, version), 201 if made else 200)


async def delete_version(call: AzureCall) -> Response:
    """Delete a version."""
    call.azure.models.delete(call.path["name"], call.path["version"])
    return Response(status_code=200)


def located(azure: AzureState, uri: str) -> tuple[str, str | None]:
    """The URI in a datastore that the URI of a model means, and the job in it.

    Raises:
        ArmError: 400 UserError for a URI of another kind.
    """
    artifacts = _JOB_ARTIFACTS.fullmatch(uri)
    if artifacts:
        job = artifacts[1] or artifacts[2]
        return artifact_uri(azure, job, artifacts[3]), job
    output = _JOB_OUTPUT.fullmatch(uri)
    if output:
        path = f"azureml/{output[1]}/{output[2]}/{output[3]}"
        return f"azureml:/{_long(azure)}/datastores/workspaceblobstore/paths/{path}", output[1]
    if _DATASTORE.fullmatch(uri):
        short = uri.removeprefix("azureml://")
        return (f"azureml:/{_long(azure)}/{short}" if short.startswith("datastores/") else uri), None
    raise user_error(f"The model's URI {uri} is neither of a job nor in a datastore.", "BadArgument", target="modelUri")


def artifact_uri(azure: AzureState, job: str, path: str) -> str:
    """The URI of a path among a job's MLflow artifacts."""
    where = f"workspaceartifactstore/paths/ExperimentRun/dcid.{job}/{path}"
    return f"azureml:/{_long(azure)}/datastores/{where}"


def _long(azure: AzureState) -> str:
    group = f"/subscriptions/{azure.subscription_id}/resourceGroups/{azure.resource_group}"
    return f"{group}/workspaces/{azure.workspace_name}"
