"""The contract that every platform keeps. Called by `controllers` and `observe`, always in a lane's thread.

A platform is a folder beside this file. `translate` is pure; a `Connection` talks to one host as one principal and is
safe to use from several threads. Errors are those of `core.errors`; anything else that escapes is a bug.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from trainyard.api.training_run import MLTrainingRunSpec
from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.audit.log import AuditLog
from trainyard.core.remote import RemoteRun, Result, Submitted
from trainyard.core.snapshot import Target
from trainyard.identity.base import TokenSource

# Seconds that `Connection.submit` may take, and of these, after which it must not start a run any more: whoever waited
# for it gives up at the first, and may then find that nothing was started and settle a cancel or a deletion on that.
SUBMIT_SECONDS = 90.0
START_WITHIN = 60.0


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt of a run, in portable terms."""

    namespace: str
    name: str
    uid: str
    attempt: int
    submission_token: str
    spec: MLTrainingRunSpec
    workspace: MLWorkspaceSpec
    target: Target
    files: Mapping[str, bytes]
    code_digest: str
    timeout_seconds: int


@dataclass(frozen=True, slots=True)
class Request:
    """One attempt in the platform's terms, complete before anything is sent.

    `body` is the request that starts the run; what the operator only learns while preparing (the MLflow run's id) is
    put in by `Connection.submit`. `label` finds the run again by listing when its id was lost.
    """

    body: Mapping[str, Any]
    label: str
    code_folder: str
    files: Mapping[str, bytes]
    experiment: str
    tags: Mapping[str, str]
    submission_token: str


@dataclass(frozen=True, slots=True)
class ModelWanted:
    """The registered model that a run has to leave behind."""

    full_name: str
    alias: str | None
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Account:
    """Who the platform says we are."""

    principal: str
    workspace_id: str | None


class Connection(Protocol):
    """One host as one principal."""

    def whoami(self) -> Account:
        """Proves that the identity works and may use the workspace."""

    def submit(self, request: Request) -> Submitted:
        """Uploads the code, makes or finds the MLflow run, and starts the run; the same token never starts two.

        Starts nothing once START_WITHIN seconds have passed since it was called; raises Unreachable instead.
        """

    def locate(self, label: str, since: datetime) -> RemoteRun | None:
        """The run that carries the label, if the platform has it; starts nothing."""

    def get(self, remote_id: str) -> RemoteRun:
        """One run now. Raises Missing if the platform no longer has it."""

    def sweep(self, since: datetime) -> Iterator[list[RemoteRun]]:
        """Pages of runs that started since then, newest first. A page is fetched when it is asked for."""

    def cancel(self, remote_id: str) -> None:
        """Asks the platform to stop the run. Ended already is fine; Missing if it is not there."""

    def collect(self, remote: RemoteRun, mlflow_run_id: str | None, model: ModelWanted | None) -> Result:
        """What an ended run left: metrics, the model version made by its MLflow run, the error's last lines."""


class Platform(Protocol):
    """A kind of platform."""

    name: str

    def label(self, namespace: str, name: str, attempt: int, submission_token: str) -> str:
        """What `translate` puts on the run so that `Connection.locate` finds exactly that attempt. Pure.

        Needs neither spec nor workspace: a run may have to be stopped when both have gone.
        """

    def translate(self, job: Job) -> Request:
        """The job in the platform's terms. Pure. Raises TranslationError naming the field."""

    def model_wanted(self, job: Job) -> ModelWanted | None:
        """The registered model that the job has to leave behind, by its full name. Pure."""

    def forbidden_overrides(self) -> frozenset[str]:
        """Fields of the platform block that the operator owns."""

    def connect(self, target: Target, tokens: TokenSource, log: AuditLog) -> Connection:
        """A connection to target.host as target.principal. Sends nothing."""
