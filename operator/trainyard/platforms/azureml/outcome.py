"""What an ended job left behind: times, metrics, model version, outputs, logs, and who has to act if it failed.

Called by `connection` in a lane's thread; the parts live in `history`, `mlflow_runs`, `logs`, `outputs`, `failures`.
Every step may be repeated. What is missing is reported as a shortfall, never passed over.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from trainyard.core.errors import Denied, Missing, Refused
from trainyard.core.remote import End, RemoteRun, Result
from trainyard.platforms.azureml.client import AzureMLClient
from trainyard.platforms.azureml.failures import Evidence, evidence_of, judge
from trainyard.platforms.azureml.history import History
from trainyard.platforms.azureml.logs import LogFiles, Logs
from trainyard.platforms.azureml.mlflow_runs import MlflowRuns
from trainyard.platforms.azureml.outputs import Outputs
from trainyard.platforms.azureml.states import moment
from trainyard.platforms.base import Wanted
from trainyard.platforms.failures import Verdict
from trainyard.platforms.redaction import last_lines

ERROR_LINES = 20
ERROR_LENGTH = 2000
# Seconds from the beginning in which outputs and logs have to be asked for. The controller waits for 120
# (controllers/runs.py): by then the last request, and a log on its way, have to be over as well.
SECONDS = 50.0
# A job is stopped soon after its time is up, rarely to the second.
OVERRUN_MARGIN = timedelta(seconds=2)


class Outcome:
    """Collects results through one client."""

    def __init__(self, client: AzureMLClient, history: History, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._history = history
        self._clock = clock
        self._mlflow = MlflowRuns(history)
        self._logs = LogFiles(client, clock)
        self._outputs = Outputs(client, clock)

    def collect(self, remote: RemoteRun, wanted: Wanted) -> Result:
        """See `platforms.base.Connection.collect`. What may take long comes last, and is told if it was too long."""
        until = self._clock() + SECONDS
        failed = remote.end is not End.SUCCEEDED
        try:
            details, unread = self._history.details(remote.remote_id), ""
        except (Denied, Missing, Refused) as error:
            details, unread = {}, f"the job's run history can not be read: {error.message}"
        run_ids = [remote.remote_id, *_best_child(details)]
        logged = self._mlflow.read(run_ids)
        found = Result(
            metrics=logged.metrics,
            params=logged.params,
            mlflow_url=remote.url,
            started_at=moment(details.get("startTimeUtc")),
            ended_at=moment(details.get("endTimeUtc")),
        )
        if not failed:
            found = replace(found, shortfall=logged.unread)
            if wanted.model is not None:
                model, shortfall = self._mlflow.model_of([*run_ids, *self._children(details)], wanted.model)
                found = replace(found, model=model, shortfall=shortfall or logged.unread)
        logs = Logs.none(unread) if unread else self._logs.of(details, wanted, until, failed=failed)
        reads = wanted.log_characters > 0 or wanted.keep is not None
        found = replace(found, logs=logs.texts if reads else (), logs_uri=logs.uri)
        if failed:
            return _with_failure(found, remote, details, logs, unread)
        return replace(found, outputs=self._outputs.found(remote.remote_id, wanted.outputs, until))

    def _children(self, details: Mapping[str, Any]) -> list[str]:
        """Runs that the job started, of a sweep or pipeline: the code that registers is in one of them."""
        if details.get("runDefinition") and (details["runDefinition"] or {}).get("command"):
            return []
        try:
            return self._history.children(str(details.get("runId") or ""))
        except (Denied, Missing, Refused):
            return []


def _best_child(details: Mapping[str, Any]) -> list[str]:
    """The run that a sweep ended with: what it logged is the result."""
    best = (details.get("properties") or {}).get("best_child_run_id")
    return [str(best)] if best else []


def _with_failure(found: Result, remote: RemoteRun, details: Mapping[str, Any], logs: Logs, unread: str) -> Result:
    evidence = evidence_of(remote.end or End.INFRASTRUCTURE, details, logs.printed, _overran(details))
    verdict = judge(evidence)
    error = _error(verdict, _said(verdict.end, evidence) or unread or remote.message)
    return replace(found, end=None if verdict.end is remote.end else verdict.end, error=error)


def _said(end: End, evidence: Evidence) -> str:
    """What says most of why: of code what it printed last, of all else what the service says."""
    tail = last_lines(evidence.printed, ERROR_LINES, ERROR_LENGTH)
    if end in (End.CANCELLED, End.TIMED_OUT, End.INFRASTRUCTURE, End.QUOTA, End.CONFIGURATION):
        return evidence.message or tail
    return tail or evidence.message


def _error(verdict: Verdict, said: str) -> str:
    """Bounded; of what was said, the last part is kept."""
    if not verdict.advice:
        return said[-ERROR_LENGTH:]
    before = verdict.advice[: ERROR_LENGTH // 2]
    return f"{before}: {said[-(ERROR_LENGTH - len(before) - 2) :]}" if said else before


def _overran(details: Mapping[str, Any]) -> bool:
    """Whether it ran for as long as it was allowed to (limits.timeout)."""
    began, ended = moment(details.get("startTimeUtc")), moment(details.get("endTimeUtc"))
    allowed = (details.get("runDefinition") or {}).get("maxRunDurationSeconds")
    if not isinstance(allowed, int) or isinstance(allowed, bool) or allowed <= 0:
        return False
    return _lasted(began, ended) >= timedelta(seconds=allowed) - OVERRUN_MARGIN


def _lasted(began: datetime | None, ended: datetime | None) -> timedelta:
    return ended - began if began is not None and ended is not None else timedelta(0)
