"""What the workspace's own services tell of a job: its times, its error, its logs, and its MLflow run.

Called by `connection` and `outcome` in a lane's thread. Where these services are is told by the workspace
(`discoveryUrl`, `mlFlowTrackingUri`); none is asked that is not one of its cloud's hosts (`planes`). Paths and fields:
azure-ai-ml `_restclient/runhistory` (RunDetails), azureml-mlflow for the tracking URI.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from trainyard.core.errors import Denied, Missing, Refused, Unreachable
from trainyard.platforms.azureml.client import AzureMLClient

WORKSPACE_VERSION = "2024-10-01-preview"
HISTORY = "/history/v1.0"
MLFLOW = "/api/2.0/mlflow"


@dataclass(frozen=True, slots=True)
class Services:
    """Where the services of a workspace are: `history` an origin, `mlflow` a URL without a slash at its end."""

    history: str
    mlflow: str


class History:
    """Asks through one client; where to ask is found out once."""

    def __init__(self, client: AzureMLClient) -> None:
        self._client = client
        self._finding = threading.Lock()
        self._services: Services | None = None

    def services(self) -> Services:
        """Where the services are."""
        with self._finding:
            if self._services is None:
                workspace = self._client.do("GET", "", WORKSPACE_VERSION).get("properties") or {}
                discovery = str(workspace.get("discoveryUrl") or "")
                found = self._client.open_document(discovery)
                api = str(found.get("history") or found.get("api") or "").rstrip("/")
                if not api:
                    raise Unreachable(
                        "the workspace's discovery document does not name its run history",
                        reason="PlatformAnswerMalformed",
                    )
                self._services = Services(api, tracking_url(workspace))
            return self._services

    def details(self, name: str) -> dict[str, Any]:
        """The job's run: status, times, error, `logFiles` (name to signed URL). Raises Missing if there is none."""
        return self._client.data("GET", f"{self._runs()}/runs/{quote(name, safe='')}/details")

    def has(self, name: str) -> bool:
        """Whether there is a run of the job; where that may not be told, there is none to be told of."""
        try:
            self.details(name)
        except (Missing, Denied, Refused):
            return False
        return True

    def children(self, name: str) -> list[str]:
        """The ids of the runs that it started, as far as one page shows them."""
        answer = self._client.data("GET", f"{self._runs()}/runs/{quote(name, safe='')}/children")
        return [str(row["runId"]) for row in answer.get("value") or () if row.get("runId")]

    def hide(self, name: str, experiment: str) -> None:
        """Archives the job (its run's `hidden`)."""
        path = f"/experiments/{quote(experiment, safe='')}/runs/{quote(name, safe='')}"
        self._client.data("PATCH", self._runs() + path, body={"hidden": True})

    def mlflow(
        self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """One request to the workspace's MLflow, for example GET runs/get."""
        return self._client.data(method, f"{self.services().mlflow}{MLFLOW}/{path}", query=query, body=body)

    def _runs(self) -> str:
        return f"{self.services().history}{HISTORY}{self._client.workspace.path}"


def tracking_url(workspace: Mapping[str, Any]) -> str:
    """The https URL behind a workspace's tracking URI, azureml://HOST/mlflow/v1.0/subscriptions/..."""
    split = urlsplit(str(workspace.get("mlFlowTrackingUri") or ""))
    if split.scheme not in ("azureml", "https") or not split.netloc:
        raise Unreachable("the workspace does not name its MLflow tracking URI", reason="PlatformAnswerMalformed")
    return f"https://{split.netloc}{split.path}".rstrip("/")
