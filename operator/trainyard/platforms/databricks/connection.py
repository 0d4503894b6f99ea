"""Talks to one Databricks workspace as one principal: the Connection of `platforms.base`.

Called in a lane's threads. Each step may be repeated after a crash: files are named by their content, the experiment by
its path, the MLflow run by a tag that holds the submission token, the run itself by its idempotency token.
"""

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from trainyard.audit.log import AuditLog
from trainyard.audit.transport import Bounds
from trainyard.core.errors import Denied, Missing, Refused, Throttled, Unreachable
from trainyard.core.remote import Finding, RemoteRun, Result, Submitted
from trainyard.core.snapshot import Target
from trainyard.identity.base import TokenSource
from trainyard.identity.whoami import LONGEST_NAME
from trainyard.platforms.base import START_WITHIN, Account, Files, Request, Wanted
from trainyard.platforms.databricks import preflight
from trainyard.platforms.databricks.client import DatabricksClient
from trainyard.platforms.databricks.grants import Grants
from trainyard.platforms.databricks.named_jobs import NamedJobs, with_job_ids
from trainyard.platforms.databricks.names import home, is_code_folder
from trainyard.platforms.databricks.outcome import Outcome
from trainyard.platforms.databricks.preparation import Preparation
from trainyard.platforms.databricks.serving import DatabricksEndpoints
from trainyard.platforms.databricks.states import remote_run
from trainyard.platforms.databricks.translate import with_variables
from trainyard.platforms.databricks.uploads import Uploads
from trainyard.platforms.databricks.volume_files import DatabricksVolumeFiles
from trainyard.platforms.limits import QuotaReached

JOBS = "/api/2.2/jobs"
WORKSPACE = "/api/2.0/workspace"
# The most that runs/list gives (databricks-sdk service/jobs.py, list_runs).
PAGE = 25
# A run's start time is the platform's clock, `since` is ours. A sweep that misses a run finds it by its id; a lost run
# that is not located is taken for never started, so that there no clock may be wrong enough.
CLOCK_MARGIN = timedelta(minutes=5)
LOCATE_MARGIN = timedelta(days=1)
# Characters that a workspace's status has room for.
LONGEST_WORKSPACE_ID = 64


class DatabricksConnection:
    """One host as one principal."""

    def __init__(self, target: Target, tokens: TokenSource, log: AuditLog, bounds: Bounds | None = None) -> None:
        self._principal = target.principal
        self._client = DatabricksClient(target.host, tokens, log, bounds or Bounds())
        self._uploads = Uploads(self._client)
        self._grants = Grants(self._client)
        self._jobs = NamedJobs(self._client)
        self._mlflow = Preparation(self._client)
        self._outcome = Outcome(self._client, target.host)
        self._endpoints = DatabricksEndpoints(self._client, target.host, target.principal)

    @property
    def endpoints(self) -> DatabricksEndpoints:
        """Endpoints of Model Serving."""
        return self._endpoints

    @property
    def files(self) -> Files:
        """Files of Unity Catalog volumes."""
        return DatabricksVolumeFiles(self._client)

    def whoami(self) -> Account:
        """Proves that the identity works and may use the workspace."""
        me = self._client.call(
            lambda workspace: workspace.api_client.do(
                "GET", "/api/2.0/preview/scim/v2/Me", response_headers=["x-databricks-org-id"]
            )
        )
        name = me.get("userName") if isinstance(me, dict) else None
        # Both go into a status, which has room for these, and could not be written with more.
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
            raise Unreachable("the workspace does not say who we are", reason="PlatformAnswerMalformed")
        workspace_id = me.get("x-databricks-org-id")
        fits = isinstance(workspace_id, str) and len(workspace_id) <= LONGEST_WORKSPACE_ID
        return Account(name, workspace_id if fits else None)

    def submit(self, request: Request) -> Submitted:
        """Uploads the code, makes or finds the MLflow run, and starts the run, unless that took too long."""
        deadline = time.monotonic() + START_WITHIN
        try:
            body, mlflow_run_id = self._prepared(request, deadline)
        except Refused as error:
            # A path that is taken or a full store is for a person to clear; only runs/submit judges the run itself.
            raise Denied(error.message, reason=error.reason) from error
        answer = self._start(body, deadline)
        if "run_id" not in answer:
            raise Unreachable("runs/submit answered without a run id", reason="PlatformAnswerMalformed")
        return Submitted(str(answer["run_id"]), mlflow_run_id, datetime.now(UTC))

    def _prepared(self, request: Request, deadline: float) -> tuple[Mapping[str, Any], str | None]:
        """The request complete, and the MLflow run of this attempt: all that has to be there before it is started."""
        body = request.body
        if request.jobs:
            # First, for it is cheap and may well need a person.
            body = with_job_ids(body, {task: self._jobs.id_of(name) for task, name in sorted(request.jobs.items())})
        if request.files:
            self._uploads.upload(request, deadline)
            if request.runs_as is not None:
                self._grants.source(request.runs_as, request.code_folder)
        if request.experiment is None:
            return body, None
        experiment_id = self._mlflow.experiment(request.experiment)
        mlflow_run_id = self._mlflow.run(experiment_id, request)
        if request.runs_as is not None:
            self._grants.experiment(request.runs_as, experiment_id)
        ids = {"MLFLOW_RUN_ID": mlflow_run_id, "MLFLOW_EXPERIMENT_ID": experiment_id}
        return with_variables(body, ids), mlflow_run_id

    def _start(self, body: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        try:
            return self._client.do("POST", f"{JOBS}/runs/submit", body=body, until=deadline)
        except Throttled as error:
            # 429 here also means that too many runs are under way (https://docs.databricks.com/api, runs/submit);
            # neither that nor a limit on submissions is a reason not to look at those runs, or to cancel one.
            raise QuotaReached(error.message, retry_after=error.retry_after) from error

    def locate(self, label: str, since: datetime) -> RemoteRun | None:
        """The run that carries the label and that we made."""
        for rows in self._pages(since - LOCATE_MARGIN):
            for row in rows:
                # Anybody may name a run as they like; only our own principal's run is ours.
                if row.get("run_name") == label and row.get("creator_user_name") in (None, self._principal):
                    return self.get(str(row["run_id"]))  # the list does not show its variables
        return None

    def get(self, remote_id: str) -> RemoteRun:
        """One run now."""
        return remote_run(self._client.do("GET", f"{JOBS}/runs/get", query={"run_id": remote_id}))

    def sweep(self, since: datetime) -> Iterator[list[RemoteRun]]:
        """Pages of runs that started since then, newest first."""
        for rows in self._pages(since - CLOCK_MARGIN):
            yield [remote_run(row) for row in rows]

    def cancel(self, remote_id: str) -> None:
        """Asks the platform to stop the run."""
        try:
            self._client.do("POST", f"{JOBS}/runs/cancel", body={"run_id": int(remote_id)})
        except Refused:
            # A refusal to cancel is no answer to whether the run still runs; the run itself is.
            remote = self.get(remote_id)
            if remote.end is None:
                raise

    def collect(self, remote: RemoteRun, mlflow_run_id: str | None, wanted: Wanted) -> Result:
        """What an ended run left."""
        return self._outcome.collect(remote, mlflow_run_id, wanted)

    def preflight(self, request: Request) -> tuple[Finding, ...]:
        """What each need of the request meets."""
        return preflight.findings(self._client, self._principal, request.needs)

    def reach_storage(self) -> str:
        """The workspace's own files take a request; uploads go to the principal's home folder there."""
        return self._uploads.reach(home(self._principal))

    def clean(self, code_folder: str) -> bool:
        """Removes an uploaded folder, and only such a one: where it lies is told by a status, which is data."""
        if not is_code_folder(code_folder, self._principal):
            raise Refused(f"{code_folder[:200]!r} is no folder of code that was uploaded as {self._principal}")
        try:
            self._client.do("POST", f"{WORKSPACE}/delete", body={"path": code_folder, "recursive": True})
        except Missing:
            return False
        return True

    def retire(self, remote_id: str) -> None:
        """Nothing: runs vanish from the lists by themselves after 60 days."""

    def _pages(self, since: datetime) -> Iterator[list[dict[str, Any]]]:
        """Pages of raw rows. The filter by time is the platform's; each row is judged by its own state."""
        query: dict[str, Any] = {
            "limit": PAGE,
            "run_type": "SUBMIT_RUN",
            "start_time_from": int(since.timestamp() * 1000),
        }
        while True:
            answer = self._client.do("GET", f"{JOBS}/runs/list", query=query)
            rows = answer.get("runs", [])
            if rows:
                yield rows
            following = answer.get("next_page_token")
            if not following:
                return
            query["page_token"] = following
