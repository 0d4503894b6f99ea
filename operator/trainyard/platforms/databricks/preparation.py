"""Makes the MLflow experiment and run that an attempt logs to, each at most once.

Called by `connection` before a run is started. The experiment is found by its path, the run by a tag that holds the
submission token, so that a step repeated after a crash finds what the first one made.
"""

import time
from collections.abc import Mapping
from typing import Any

from trainyard.core.errors import Missing, Refused, Unreachable
from trainyard.platforms.base import Request
from trainyard.platforms.databricks import names
from trainyard.platforms.databricks.answers import ALREADY_EXISTS
from trainyard.platforms.databricks.client import DatabricksClient

MLFLOW = "/api/2.0/mlflow"
WORKSPACE = "/api/2.0/workspace"


class Preparation:
    """Prepares through one client."""

    def __init__(self, client: DatabricksClient) -> None:
        self._client = client

    def experiment(self, path: str) -> str:
        """The id of the experiment, made if it is missing."""
        try:
            return self._experiment_by_name(path)
        except Missing:
            folder = path.rpartition("/")[0] or "/"
            self._client.do("POST", f"{WORKSPACE}/mkdirs", body={"path": folder})
        try:
            answer = self._client.do("POST", f"{MLFLOW}/experiments/create", body={"name": path})
        except Refused as error:
            if error.reason != ALREADY_EXISTS:
                raise
            # Another run of the same experiment was quicker.
            return self._experiment_by_name(path)
        return _text(answer, "experiment_id")

    def _experiment_by_name(self, path: str) -> str:
        answer = self._client.do("GET", f"{MLFLOW}/experiments/get-by-name", query={"experiment_name": path})
        return _text(answer.get("experiment", {}), "experiment_id")

    def run(self, experiment_id: str, request: Request) -> str:
        """The MLflow run of this attempt, made at most once."""
        search = {
            "experiment_ids": [experiment_id],
            "filter": f"tags.`{names.TAG_TOKEN}` = '{request.submission_token}'",
            # Two that submit the same attempt at once may each make one; from then on both take the older.
            "order_by": ["attributes.start_time ASC"],
            "max_results": 1,
        }
        found = self._client.do("POST", f"{MLFLOW}/runs/search", body=search).get("runs", [])
        if found:
            return _text(found[0].get("info", {}), "run_id")
        made = self._client.do(
            "POST",
            f"{MLFLOW}/runs/create",
            body={
                "experiment_id": experiment_id,
                "run_name": request.label,
                "start_time": int(time.time() * 1000),
                "tags": [{"key": key, "value": value} for key, value in request.tags.items()],
            },
        )
        return _text(made.get("run", {}).get("info", {}), "run_id")


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    if not value:
        raise Unreachable(f"the platform's answer lacks {key}", reason="PlatformAnswerMalformed")
    return str(value)
