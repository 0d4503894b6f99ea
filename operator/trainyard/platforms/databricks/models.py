"""The model version that a run's MLflow run registered in Unity Catalog, with its tags and alias.

Called by `outcome`. The version is found by the MLflow run that made it, never as the latest. What is missing is a
shortfall: a training whose model is not there has not done what was asked.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from trainyard.core.errors import Denied, Missing, Refused
from trainyard.core.remote import ModelVersion
from trainyard.platforms.base import ModelWanted
from trainyard.platforms.databricks.client import DatabricksClient

MLFLOW = "/api/2.0/mlflow"
UNITY_CATALOG = "/api/2.1/unity-catalog"

# A (reason, message), see `core.remote.Result`.
Shortfall = tuple[str, str]


class Models:
    """Looks for model versions through one client."""

    def __init__(self, client: DatabricksClient) -> None:
        self._client = client

    def made_by(
        self, mlflow_run_ids: Sequence[str], wanted: ModelWanted
    ) -> tuple[ModelVersion | None, Shortfall | None]:
        """The version that these MLflow runs registered, with its alias and tags, or why there is none.

        Of several runs, the first that registered any counts.
        """
        try:
            versions = list(self._versions(wanted.full_name))
            by_run = ([row for row in versions if row.get("run_id") == run_id] for run_id in mlflow_run_ids)
            found = next(filter(None, by_run), [])
        except Missing:
            found = []
        except (Denied, Refused) as error:
            return None, ("ModelNotReadable", f"{error.message} Grant EXECUTE on {wanted.full_name} and its schema.")
        if not found:
            return None, (
                "ModelNotRegistered",
                f"the training ended well, but registered no version of {wanted.full_name}. Have the code log its "
                "model with registered_model_name=os.environ['TRAINYARD_MODEL_NAME'], in the MLflow run it is given.",
            )
        newest = max(found, key=lambda row: int(row["version"]))
        version = str(newest["version"])
        if newest.get("status") not in (None, "READY"):
            return None, (
                "ModelNotReady",
                f"version {version} of {wanted.full_name} is {newest['status']}: its files were not all "
                "uploaded. Look at the run's log and start a new run.",
            )
        return self._decorate(wanted, version)

    def _versions(self, full_name: str) -> Iterator[dict[str, Any]]:
        """Every version; the platform guarantees no order, and a page may be empty though more follow."""
        query: dict[str, Any] = {"max_results": 1000}
        while True:
            answer = self._client.do("GET", f"{UNITY_CATALOG}/models/{full_name}/versions", query=query)
            yield from answer.get("model_versions", [])
            if not answer.get("next_page_token"):
                return
            query["page_token"] = answer["next_page_token"]

    def _decorate(self, wanted: ModelWanted, version: str) -> tuple[ModelVersion, Shortfall | None]:
        """Tags first, the alias last: who follows the alias finds a version that is complete."""
        bare = ModelVersion(wanted.full_name, version, f"models:/{wanted.full_name}/{version}")
        try:
            for key, value in wanted.tags.items():
                body = {"name": wanted.full_name, "version": version, "key": key, "value": value}
                self._client.do("POST", f"{MLFLOW}/unity-catalog/model-versions/set-tag", body=body)
        except (Denied, Missing, Refused) as error:
            advice = f"{error.message} Grant APPLY TAG on {wanted.full_name} to the principal."
            return bare, ("ModelTagsDenied", f"version {version} is registered, but not tagged: {advice}")
        if wanted.alias is None:
            return bare, None
        try:
            path = f"{UNITY_CATALOG}/models/{wanted.full_name}/aliases/{wanted.alias}"
            self._client.do("PUT", path, body={"version_num": int(version)})
        except (Denied, Missing, Refused) as error:
            advice = f"{error.message} Only the model's owner, or who has MANAGE on it, may set an alias."
            return bare, (
                "ModelAliasDenied",
                f"version {version} is registered, but does not have alias {wanted.alias!r}: {advice}",
            )
        return ModelVersion(bare.name, bare.version, bare.uri, wanted.alias), None
