"""What an ended run left behind: metrics, the error's last lines, the model version that its MLflow run made.

Called by `connection` in a lane's thread. Every step may be repeated. What is missing is reported as a shortfall, never
passed over: a training whose model is not there has not done what was asked.
"""

import math
import re
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import structlog

from trainyard.core.errors import Denied, Missing, Refused
from trainyard.core.remote import End, ModelVersion, RemoteRun, Result
from trainyard.platforms.base import ModelWanted
from trainyard.platforms.databricks.client import DatabricksClient

log = structlog.get_logger(__name__)

# A (reason, message), see `core.remote.Result`.
Shortfall = tuple[str, str]

JOBS = "/api/2.2/jobs"
MLFLOW = "/api/2.0/mlflow"
UNITY_CATALOG = "/api/2.1/unity-catalog"
MAX_METRICS = 100
MAX_METRIC_NAME = 250
# As the status holds them (api/run_status.py); a float's repr has at most 24 characters.
MAX_METRIC_VALUE = 32
ERROR_LINES = 20
ERROR_LENGTH = 2000

# A training may print its environment; a token in it must not reach the status (invariant 4).
_TOKENS = re.compile(r"eyJ[\w-]+\.[\w-]+(\.[\w-]*)?|\bdapi[0-9a-f-]{16,}|(?<=Bearer )\S+|(?<=TOKEN=)\S+")
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

_LIVE = frozenset({"RUNNING", "SCHEDULED"})
_MLFLOW_STATUS = {End.SUCCEEDED: "FINISHED", End.CANCELLED: "KILLED", End.TIMED_OUT: "KILLED"}


class Outcome:
    """Collects results through one client."""

    def __init__(self, client: DatabricksClient) -> None:
        self._client = client

    def collect(self, remote: RemoteRun, mlflow_run_id: str | None, wanted: ModelWanted | None) -> Result:
        """See `platforms.base.Connection.collect`."""
        metrics, unread = self._metrics(remote, mlflow_run_id) if mlflow_run_id else ({}, None)
        if remote.end is not End.SUCCEEDED:
            return Result(metrics=metrics, error=self._error(remote))
        if wanted is None:
            return Result(metrics=metrics, shortfall=unread)
        model, shortfall = self._model(mlflow_run_id, wanted)
        return Result(metrics=metrics, model=model, shortfall=shortfall or unread)

    def _metrics(self, remote: RemoteRun, mlflow_run_id: str) -> tuple[dict[str, str], Shortfall | None]:
        """Last values, or why there are none."""
        try:
            run = self._client.do("GET", f"{MLFLOW}/runs/get", query={"run_id": mlflow_run_id}).get("run", {})
        except Missing:
            # Deleted by a person: no metrics, but no reason to call the training anything else than it was.
            return {}, None
        except (Denied, Refused) as error:
            return {}, (
                "MetricsNotReadable",
                f"the training ended well, but the metrics of its MLflow run {mlflow_run_id} can not be read: "
                f"{error.message} Grant the principal CAN READ on the experiment and create a new run.",
            )
        if run.get("info", {}).get("status") in _LIVE:
            self._close(remote, mlflow_run_id)
        logged = run.get("data", {}).get("metrics", [])
        values = sorted((str(metric["key"])[:MAX_METRIC_NAME], spoken(metric.get("value"))) for metric in logged)
        return dict(values[:MAX_METRICS]), None

    def _close(self, remote: RemoteRun, mlflow_run_id: str) -> None:
        """Closes an MLflow run that the code never closed, or it would show as running for ever. A courtesy only."""
        status = _MLFLOW_STATUS.get(remote.end or End.CODE, "FAILED")
        ended = int((remote.ended_at.timestamp() if remote.ended_at else time.time()) * 1000)
        body = {"run_id": mlflow_run_id, "status": status, "end_time": ended}
        try:
            self._client.do("POST", f"{MLFLOW}/runs/update", body=body)
        except (Denied, Missing, Refused) as error:
            log.info("MLflow run left open", mlflow_run=mlflow_run_id, reason=error.reason, error=error.message)

    def _error(self, remote: RemoteRun) -> str:
        """Why the platform says that it failed, and the end of what the code printed."""
        try:
            run = self._client.do("GET", f"{JOBS}/runs/get", query={"run_id": remote.remote_id})
            # Output belongs to the task's run; the parent's is refused.
            task_id = next((task["run_id"] for task in run.get("tasks", []) if task.get("run_id")), None)
            if task_id is None:
                return remote.message
            output = self._client.do("GET", f"{JOBS}/runs/get-output", query={"run_id": task_id})
        except (Denied, Missing, Refused):
            # A run that never started has no output, and one that ended has ended, readable or not.
            return remote.message
        return last_words(output) or remote.message

    def _model(self, mlflow_run_id: str | None, wanted: ModelWanted) -> tuple[ModelVersion | None, Shortfall | None]:
        """The version that this MLflow run registered, with its alias and tags, or why there is none."""
        try:
            found = [row for row in self._versions(wanted.full_name) if row.get("run_id") == mlflow_run_id]
        except Missing:
            found = []
        except (Denied, Refused) as error:
            return None, ("ModelNotReadable", f"{error.message} Grant EXECUTE on {wanted.full_name} and its schema.")
        if mlflow_run_id is None or not found:
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


def spoken(value: Any) -> str:
    """A metric's value as text. MLflow writes what JSON has no number for as NaN, Infinity and -Infinity.

    Its SQL stores put the largest float in the place of an infinity (documentation of mlflow.log_metric); no metric
    has that value of its own accord, so it is told as what it stands for.
    """
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        if math.isinf(value) or abs(value) == sys.float_info.max:
            return "Infinity" if value > 0 else "-Infinity"
        return repr(value)
    # ProtoJSON leaves out a value that is the type's default.
    return "0.0" if value is None else str(value)[:MAX_METRIC_VALUE]


def last_words(output: Mapping[str, Any]) -> str:
    """The error and the last lines of what was printed, without colours and tokens, bounded."""
    error = str(output.get("error") or "").strip()
    printed = str(output.get("error_trace") or output.get("logs") or "")
    lines = [line.rstrip() for line in printed[-64 * 1024 :].splitlines() if line.strip()][-ERROR_LINES:]
    tail = "\n".join(lines)
    text = tail if error in tail else f"{error}\n{tail}".strip()
    return _TOKENS.sub("[token]", _ANSI.sub("", text))[-ERROR_LENGTH:]
