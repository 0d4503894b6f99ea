"""What a run logged to MLflow: last metrics, parameters, its page. Closes an MLflow run that nobody closed.

Called by `outcome`. What can not be read is a shortfall, never passed over; closing is a courtesy only.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from trainyard.core.errors import Denied, Missing, Refused
from trainyard.core.remote import End, RemoteRun
from trainyard.platforms.databricks import names
from trainyard.platforms.databricks.client import DatabricksClient
from trainyard.platforms.logged import MAX_METRICS, MAX_PARAMS, first, metrics_of, params_of

log = structlog.get_logger(__name__)

MLFLOW = "/api/2.0/mlflow"
_LIVE = frozenset({"RUNNING", "SCHEDULED"})
_MLFLOW_STATUS = {End.SUCCEEDED: "FINISHED", End.CANCELLED: "KILLED", End.TIMED_OUT: "KILLED"}


@dataclass(frozen=True, slots=True)
class Logged:
    """What was found; `unread` is the (reason, message) why there is nothing though there may be.

    `run_ids` are the MLflow runs that the result is made of, this attempt's own first.
    """

    metrics: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    url: str | None = None
    unread: tuple[str, str] | None = None
    run_ids: tuple[str, ...] = ()


class MlflowRuns:
    """Reads through one client. `host` is the workspace's origin, for the pages."""

    def __init__(self, client: DatabricksClient, host: str) -> None:
        self._client = client
        self._host = host.rstrip("/")

    def read(self, remote: RemoteRun, mlflow_run_id: str, earlier: Sequence[str] = ()) -> Logged:
        """What the MLflow run holds, or why it can not be told.

        Args:
            earlier: submission tokens of attempts before, newest first, whose MLflow runs belong to the result as well.
        """
        try:
            run = self._client.do("GET", f"{MLFLOW}/runs/get", query={"run_id": mlflow_run_id}).get("run", {})
            before = self._before(run, earlier)
        except Missing:
            # Deleted by a person: no metrics, but no reason to call the training anything else than it was.
            return Logged(run_ids=(mlflow_run_id,))
        except (Denied, Refused) as error:
            advice = f"{error.message} Grant the principal CAN READ on the experiment and create a new run."
            return Logged(
                unread=(
                    "MetricsNotReadable",
                    f"the training ended well, but the metrics of its MLflow run {mlflow_run_id} can not be read: "
                    f"{advice}",
                ),
                run_ids=(mlflow_run_id,),
            )
        info = run.get("info", {})
        if info.get("status") in _LIVE:
            self._close(remote, mlflow_run_id)
        metrics: dict[str, str] = {}
        params: dict[str, str] = {}
        # The newest last: what was logged again counts as it was logged last.
        for data in [each.get("data", {}) for each in (*reversed(before), run)]:
            metrics |= metrics_of(data)
            params |= params_of(data)
        ids = (mlflow_run_id, *(str(each["info"]["run_id"]) for each in before))
        page = self._page(info, mlflow_run_id)
        return Logged(first(metrics, MAX_METRICS), first(params, MAX_PARAMS), page, run_ids=ids)

    def _before(self, run: Mapping[str, Any], tokens: Sequence[str]) -> list[dict[str, Any]]:
        """The MLflow runs of those attempts, in the experiment of this one."""
        found: list[dict[str, Any]] = []
        for token in tokens:
            search = {
                "experiment_ids": [run.get("info", {}).get("experiment_id")],
                "filter": f"tags.`{names.TAG_TOKEN}` = '{token}'",
                # As `preparation` chooses among several.
                "order_by": ["attributes.start_time ASC"],
                "max_results": 1,
            }
            found += self._client.do("POST", f"{MLFLOW}/runs/search", body=search).get("runs") or []
        return found

    def _page(self, info: Mapping[str, Any], mlflow_run_id: str) -> str | None:
        """The page that mlflow itself prints (mlflow tracking/_tracking_service/client.py, _log_url)."""
        experiment_id = info.get("experiment_id")
        return f"{self._host}/ml/experiments/{experiment_id}/runs/{mlflow_run_id}" if experiment_id else None

    def _close(self, remote: RemoteRun, mlflow_run_id: str) -> None:
        """Closes an MLflow run that the code never closed, or it would show as running for ever."""
        status = _MLFLOW_STATUS.get(remote.end or End.CODE, "FAILED")
        ended = int((remote.ended_at.timestamp() if remote.ended_at else time.time()) * 1000)
        body = {"run_id": mlflow_run_id, "status": status, "end_time": ended}
        try:
            self._client.do("POST", f"{MLFLOW}/runs/update", body=body)
        except (Denied, Missing, Refused) as error:
            log.info("MLflow run left open", mlflow_run=mlflow_run_id, reason=error.reason, error=error.message)
