"""Registered model versions in Unity Catalog: which one a number or an alias names, and what made it.

Called by `serving`. Asked of MLflow's own view of Unity Catalog, which shows a version's tags, where our own stand
since the run that made it ended well (models.py). Paths and fields: mlflow protos/databricks_uc_registry_messages.proto
(ModelVersion) and databricks_uc_registry_service.proto (GetModelVersion, GetModelVersionByAlias).
"""

from collections.abc import Mapping
from typing import Any

from trainyard.api.deployment_status import Origin
from trainyard.core.errors import Denied, Missing, Refused
from trainyard.core.serving.seen import ResolvedModel
from trainyard.platforms.databricks import names, needs, remedies
from trainyard.platforms.databricks.client import DatabricksClient

REGISTRY = "/api/2.0/mlflow/unity-catalog"
# Not finished yet, or never will be (ModelVersionStatus).
_PENDING = frozenset({"PENDING_REGISTRATION", "MODEL_VERSION_STATUS_UNKNOWN"})


def resolve(
    client: DatabricksClient, principal: str, model: str, *, version: str | None, alias: str | None
) -> ResolvedModel:
    """The version of that number, or the one that the alias names now.

    Raises:
        Missing: there is no such model, version or alias, or the version is still being registered.
        Denied: it may not be seen.
        Refused: `reason` ModelNotReady: it was never registered in full.
        Unreachable: no usable answer.
    """
    spoken = f"version {version} of {model}" if version is not None else f"alias {alias} of {model}"
    if version is not None and not version.isdecimal():
        raise Missing(f"there is no {spoken}: versions in Unity Catalog are numbers")
    try:
        if version is not None:
            query = {"name": model, "version": str(int(version))}
            answer = client.do("GET", f"{REGISTRY}/model-versions/get", query=query)
        else:
            answer = client.do("GET", f"{REGISTRY}/registered-models/alias", query={"name": model, "alias": alias})
    except Missing as error:
        raise Missing(f"there is no {spoken}, or {principal} may not see it: {error.message}") from error
    except Denied as error:
        grant = remedies.grant(needs.EXECUTE, needs.MODEL, model, principal)
        raise Denied(
            f"{spoken} can not be seen: {error.message} Beside USE CATALOG and USE SCHEMA it takes {grant}"
        ) from (error)
    return _resolved(answer.get("model_version") or {}, model, spoken)


def _resolved(found: Mapping[str, Any], model: str, spoken: str) -> ResolvedModel:
    status, number = str(found.get("status") or "READY"), str(found.get("version") or "")
    if not number or status in _PENDING:
        raise Missing(f"{spoken} is {status}: it is not registered in full yet")
    if status != "READY":
        raise Refused(
            f"{spoken} is {status}: its files were not all uploaded. Register another version.", reason="ModelNotReady"
        )
    return ResolvedModel(str(found.get("name") or model), number, _origin(found))


def _origin(found: Mapping[str, Any]) -> Origin | None:
    tags = {str(tag.get("key")): str(tag.get("value") or "") for tag in found.get("tags") or ()}

    def told(key: str, longest: int) -> str | None:
        return tags.get(names.model_tag(key), "")[:longest] or None

    run_id = str(found.get("run_id") or "")[:128]
    if not run_id and names.model_tag(names.TAG_UID) not in tags:
        return None
    return Origin(
        run=told(names.TAG_NAME, 253),
        uid=told(names.TAG_UID, 63),
        mlflow_run_id=run_id or None,
        commit=told(names.TAG_COMMIT, 64),
        requested_by=told(names.TAG_REQUESTED_BY, 255),
    )
