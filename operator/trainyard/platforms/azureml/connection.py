"""Talks to one Azure ML workspace as one principal: the Connection of `platforms.base`.

Called in a lane's threads. Each step may be repeated after a crash: the job is named by the submission token, the code
asset and the environment by their content. Azure ML has no idempotency token, but a second PUT of a name changes
nothing that matters and starts nothing (`jobs`), so that the same token never starts two.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from trainyard.api.workspace import WorkspaceDetails
from trainyard.audit.log import AuditLog
from trainyard.audit.transport import Bounds
from trainyard.core.errors import Denied, Missing, Refused, Throttled, Unreachable
from trainyard.core.remote import Finding, RemoteRun, Result, Submitted
from trainyard.core.snapshot import Target
from trainyard.platforms.azureml import preflight
from trainyard.platforms.azureml.answers import ALREADY_EXISTS
from trainyard.platforms.azureml.client import AzureMLClient
from trainyard.platforms.azureml.copying import copied_body
from trainyard.platforms.azureml.history import WORKSPACE_VERSION, History
from trainyard.platforms.azureml.jobs import Jobs, is_ours
from trainyard.platforms.azureml.outcome import Outcome
from trainyard.platforms.azureml.serving import AzureMLEndpoints
from trainyard.platforms.azureml.serving_scoring import Scoring
from trainyard.platforms.azureml.software import pinned, unpinned
from trainyard.platforms.azureml.states import remote_run
from trainyard.platforms.azureml.uploads import Uploads
from trainyard.platforms.base import START_WITHIN, Account, Request, TokensFor, Wanted
from trainyard.platforms.limits import QuotaReached

# A job's creation is told by the platform's clock, `since` is ours. A sweep that misses a job finds it by its name.
CLOCK_MARGIN = timedelta(minutes=5)


class AzureMLConnection:
    """One workspace as one principal.

    Raises:
        IdentityError: HostNotAllowed: this operator does not know the workspace's cloud.
    """

    # Azure ML's own storage is no place for logs by path (`lacking`).
    files = None

    def __init__(self, target: Target, tokens_for: TokensFor, log: AuditLog, bounds: Bounds | None = None) -> None:
        self._client = AzureMLClient(target, tokens_for, log, bounds or Bounds())
        self._history = History(self._client)
        self._jobs = Jobs(self._client, self._history)
        self._uploads = Uploads(self._client)
        self._outcome = Outcome(self._client, self._history)
        scoring = Scoring(self._client.cloud, tokens_for(self._client.cloud.ml_scope), log)
        self.endpoints = AzureMLEndpoints(self._client, self._history, scoring)

    def whoami(self) -> Account:
        """Proves that the identity works, may read the workspace, and that its services are where they may be asked.

        Without these (a private endpoint, a cloud whose dataHosts lack them) no run would ever be seen to its end.
        """
        workspace = self._client.do("GET", "", WORKSPACE_VERSION)
        self._history.services()
        properties = workspace.get("properties") or {}
        details = WorkspaceDetails(
            region=_text(workspace.get("location"), 64),
            tracking_uri=_text(properties.get("mlFlowTrackingUri"), 1024),
            default_datastore=self._default_datastore(),
            public_network_access=_text(properties.get("publicNetworkAccess"), 32),
        )
        return Account(self._client.principal, _text(properties.get("workspaceId"), 64), details)

    def _default_datastore(self) -> str | None:
        try:
            return self._client.typed(lambda ml: _text(ml.datastores.get_default().name, 255))
        except (Denied, Missing, Refused):
            return None

    def submit(self, request: Request) -> Submitted:
        """Uploads the code, registers the environment and makes the job, unless that took too long."""
        deadline = time.monotonic() + START_WITHIN
        token = request.submission_token
        there = self._jobs.ours(token)
        if there is None:
            try:
                body = self._prepared(request, deadline)
            except Refused as error:
                # What is refused so far is for a person to clear; only the job's own PUT judges the run itself.
                raise Denied(error.message, reason=error.reason) from error
            there = self._start(token, body, deadline)
        return Submitted(token, token, remote_run(there).started_at or datetime.now(UTC))

    def _prepared(self, request: Request, deadline: float) -> dict[str, Any]:
        """The body of the job; what it refers to is there."""
        body = dict(request.body)
        if request.copied is not None:
            # First, for it is cheap and may well need a person.
            body = copied_body(self._jobs.get(request.copied), request.body)
        while (named := unpinned(body)) is not None:
            body = pinned(body, named, self._newest(named))
        if request.files:
            self._uploads.code(request, deadline)
        if request.environment is not None:
            self._uploads.environment(request.environment)
        return body

    def _newest(self, environment: str) -> str:
        return str(self._client.typed(lambda ml: ml.environments.get(environment, label="latest").version))

    def _start(self, token: str, body: dict[str, Any], deadline: float) -> dict[str, Any]:
        try:
            made = self._jobs.put(token, body, deadline)
        except Throttled as error:
            # A limit on submissions is no reason not to look at jobs, or to cancel one.
            raise QuotaReached(error.message, retry_after=error.retry_after) from error
        except Refused as error:
            if error.reason != ALREADY_EXISTS:
                raise
            there = self._jobs.ours(token)
            if there is None:
                # Refused would end the run while its job, made by a request whose answer was lost, goes on.
                raise Unreachable(f"what is made already is not shown yet: {error.message}") from error
            return there
        if not is_ours(made):
            raise Unreachable("the job was made, but the answer does not show it", reason="PlatformAnswerMalformed")
        return made

    def locate(self, label: str, since: datetime) -> RemoteRun | None:  # noqa: ARG002 - a name needs no time
        """The job of that name, if it is there and ours."""
        try:
            job = self._jobs.get(label)
        except Missing:
            return None
        return self._seen(job) if is_ours(job) else None

    def get(self, remote_id: str) -> RemoteRun:
        """One job now."""
        return self._seen(self._jobs.followed(remote_id))

    def sweep(self, since: datetime) -> Iterator[list[RemoteRun]]:
        """Pages of our jobs that were made since then, newest first."""
        for page in self._jobs.pages(since - CLOCK_MARGIN):
            yield [self._with_page(run) for run in page]

    def cancel(self, remote_id: str) -> None:
        """Asks the platform to stop the job; waits for nothing."""
        self._jobs.cancel(remote_id)

    def collect(self, remote: RemoteRun, mlflow_run_id: str | None, wanted: Wanted) -> Result:  # noqa: ARG002
        """What an ended job left. Its MLflow run has its name."""
        return self._outcome.collect(self._with_page(remote), wanted)

    def preflight(self, request: Request) -> tuple[Finding, ...]:
        """What each need of the request meets."""
        return preflight.findings(self._client, request)

    def reach_storage(self) -> str:
        """A place for an upload can be had, and its storage account answers to the signature."""
        return self._uploads.reach()

    def clean(self, code_folder: str) -> bool:  # noqa: ARG002 - the contract's signature
        """Nothing, and says so: False.

        A code asset is what Azure ML shows as a job's source for as long as the job is kept, and its files lie in the
        workspace's storage, which the identity has no right to (it is given a signature for an upload alone). To take
        away the asset would leave the files.
        """
        return False

    def retire(self, remote_id: str) -> None:
        """Archives an ended job of ours: the lists of jobs hold all others for ever."""
        self._jobs.archive(remote_id)

    def _seen(self, job: dict[str, Any]) -> RemoteRun:
        return self._with_page(remote_run(job))

    def _with_page(self, run: RemoteRun) -> RemoteRun:
        """With the run's page in the studio, where the service does not name it itself."""
        if run.url is not None:
            return run
        client = self._client
        query = urlencode(
            {"wsid": client.workspace.path, **({"tid": client.tenant} if client.tenant else {})}, safe="/"
        )
        return replace(run, url=f"{client.cloud.studio}/runs/{run.remote_id}?{query}"[:1024])


def _text(value: Any, most: int) -> str | None:
    return str(value)[:most] if value else None
