"""What a job logged to MLflow, and the model version that it registered, with its tags and alias.

Called by `outcome` in a lane's thread. A job's name is its MLflow run's id. Azure ML's registry has no aliases (Azure
documentation, "Manage models registry in Azure Machine Learning with MLflow"): an alias is kept as the tag `alias` of
one version, and taken off the version that had it before. What can not be read is a shortfall, never passed over.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainyard.core.errors import Denied, Missing, Refused
from trainyard.core.remote import ModelVersion
from trainyard.platforms.azureml.history import History
from trainyard.platforms.azureml.names import ALIAS_TAG
from trainyard.platforms.base import ModelWanted
from trainyard.platforms.logged import MAX_METRICS, MAX_PARAMS, first, metrics_of, params_of

PAGE = 200
MOST_PAGES = 50

# A (reason, message), see `core.remote.Result`.
Shortfall = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Logged:
    """What was found; `unread` is the (reason, message) why there is nothing though there may be."""

    metrics: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    unread: Shortfall | None = None


class MlflowRuns:
    """Asks through one workspace's services."""

    def __init__(self, history: History) -> None:
        self._history = history

    def read(self, run_ids: Sequence[str]) -> Logged:
        """What these runs hold; of what several logged, the first counts."""
        metrics: dict[str, str] = {}
        params: dict[str, str] = {}
        for run_id in reversed(run_ids):
            try:
                answer = self._history.mlflow("GET", "runs/get", query={"run_id": run_id})
            except Missing:
                # A job that never began may have none.
                continue
            except (Denied, Refused) as error:
                message = f"the training ended well, but the metrics of its run {run_id} can not be read: "
                return Logged(unread=("MetricsNotReadable", message + error.message))
            data = (answer.get("run") or {}).get("data") or {}
            metrics |= metrics_of(data)
            params |= params_of(data)
        return Logged(first(metrics, MAX_METRICS), first(params, MAX_PARAMS))

    def model_of(self, run_ids: Sequence[str], wanted: ModelWanted) -> tuple[ModelVersion | None, Shortfall | None]:
        """The version that these runs registered, with its tags and alias, or why there is none."""
        try:
            versions = list(self.versions(wanted.full_name))
        except Missing:
            versions = []
        except (Denied, Refused) as error:
            return None, ("ModelNotReadable", f"model {wanted.full_name} can not be read: {error.message}")
        by_run = ([row for row in versions if row.get("run_id") == run_id] for run_id in run_ids)
        found = next(filter(None, by_run), [])
        if not found:
            return None, (
                "ModelNotRegistered",
                f"the training ended well, but registered no version of {wanted.full_name}. Have the code log its "
                "model with registered_model_name=os.environ['TRAINYARD_MODEL_NAME'], in the MLflow run it is given.",
            )
        newest = max(found, key=version_number)
        version = str(newest["version"])
        if newest.get("status") not in (None, "", "READY"):
            return None, (
                "ModelNotReady",
                f"version {version} of {wanted.full_name} is {newest['status']}: its files were not all uploaded. "
                "Look at the run's log and start a new run.",
            )
        return self._decorated(wanted, version, versions)

    def versions(self, name: str) -> Iterator[dict[str, Any]]:
        """The versions of a registered model. Raises Missing if there is none of that name."""
        query: dict[str, Any] = {"filter": f"name='{name}'", "max_results": PAGE}
        for _ in range(MOST_PAGES):
            answer = self._history.mlflow("GET", "model-versions/search", query=query)
            yield from answer.get("model_versions") or []
            if not answer.get("next_page_token"):
                return
            query["page_token"] = answer["next_page_token"]
        raise Refused(f"it has more than {PAGE * MOST_PAGES} versions; remove old ones, or use another name")

    def _decorated(
        self, wanted: ModelWanted, version: str, versions: Sequence[dict[str, Any]]
    ) -> tuple[ModelVersion, Shortfall | None]:
        """Tags first, the alias last: who follows the alias finds a version that is complete."""
        bare = ModelVersion(wanted.full_name, version, f"models:/{wanted.full_name}/{version}")
        try:
            for key, value in wanted.tags.items():
                self._tag(wanted.full_name, version, key, value)
        except (Denied, Missing, Refused) as error:
            message = f"version {version} of {wanted.full_name} is registered, but not tagged: {error.message}"
            return bare, ("ModelTagsDenied", message)
        if wanted.alias is None:
            return bare, None
        try:
            self._tag(wanted.full_name, version, ALIAS_TAG, wanted.alias)
            for row in versions:
                if str(row.get("version")) != version and version_tags(row).get(ALIAS_TAG) == wanted.alias:
                    self._untag(wanted.full_name, str(row["version"]), ALIAS_TAG)
        except (Denied, Missing, Refused) as error:
            message = f"version {version} is registered, but alias {wanted.alias!r} is not its alone: {error.message}"
            return bare, ("ModelAliasDenied", message)
        return ModelVersion(bare.name, bare.version, bare.uri, wanted.alias), None

    def _tag(self, name: str, version: str, key: str, value: str) -> None:
        body = {"name": name, "version": version, "key": key, "value": value}
        self._history.mlflow("POST", "model-versions/set-tag", body=body)

    def _untag(self, name: str, version: str, key: str) -> None:
        body = {"name": name, "version": version, "key": key}
        self._history.mlflow("DELETE", "model-versions/delete-tag", body=body)


def version_tags(row: dict[str, Any]) -> dict[str, str]:
    """The tags of a version."""
    return {str(tag.get("key")): str(tag.get("value")) for tag in row.get("tags") or ()}


def version_number(row: dict[str, Any]) -> int:
    """Its number, for comparing; 0 where it is none."""
    text = str(row.get("version", ""))
    return int(text) if text.isdecimal() else 0
