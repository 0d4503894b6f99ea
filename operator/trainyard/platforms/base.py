"""The contract that every platform keeps. Called by `controllers` and `observe`, always in a lane's thread.

A platform is a folder beside this file. `translate` is pure; a `Connection` talks to one host as one principal and is
safe to use from several threads. Errors are those of `core.errors`; anything else that escapes is a bug.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from trainyard.api.training_run import MLTrainingRunSpec
from trainyard.api.workspace import MLWorkspaceSpec, WorkspaceDetails
from trainyard.audit.log import AuditLog
from trainyard.core.remote import Finding, RemoteRun, Result, Submitted
from trainyard.core.snapshot import Target
from trainyard.identity.base import TokenSource
from trainyard.platforms.limits import Quota

# Seconds that `Connection.submit` may take, and of these, after which it must not start a run any more: whoever waited
# for it gives up at the first, and may then find that nothing was started and settle a cancel or a deletion on that.
SUBMIT_SECONDS = 90.0
START_WITHIN = 60.0

# Tokens for one resource of a platform, by OAuth scope.
TokensFor = Callable[[str], TokenSource]


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
    cluster: str = ""  # what this Kubernetes cluster is called, for tags
    upload_scope: str = ""  # what the folder of uploads is named after; the cluster, if it is empty
    commit: str | None = None
    requested_by: str | None = None  # who asked, once it is stamped; never guessed
    done_tasks: frozenset[str] = frozenset()  # tasks that an earlier attempt has done: left out of this one


@dataclass(frozen=True, slots=True)
class Need:
    """A right, or a thing that has to be there, that a request will fail without. Made by `translate`, pure.

    `kind` and `name` say on what (catalog main, schema main.ml, cluster-policy 0123), `right` what has to be held
    there, in the platform's own words; `holder` is the identity that needs it, `field` the field of the spec that asks.
    """

    kind: str
    name: str
    right: str
    holder: str
    field: str


@dataclass(frozen=True, slots=True)
class RunsAs:
    """An identity that the code runs as, apart from the submitter.

    `kind` is service_principal or user (Databricks), managed_identity or submitted_user (Azure ML).
    """

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Request:
    """One attempt in the platform's terms, complete before anything is sent.

    `body` is the request that starts the run; what the operator only learns while preparing (the ids of the MLflow run
    and of jobs that are named) is put in by `Connection.submit`. `label` finds the run again by listing when its id was
    lost. `notebooks` are those of `files` that have to become notebooks. `jobs` holds, by task key, the name of the job
    whose id has to be looked up. Without an `experiment`, no MLflow run is made.

    Of Azure ML alone: `environment` is the software to be registered before (name, version, properties), `copied` the
    job whose definition is taken.
    """

    body: Mapping[str, Any]
    label: str
    code_folder: str
    files: Mapping[str, bytes]
    experiment: str | None
    tags: Mapping[str, str]
    submission_token: str
    notebooks: frozenset[str] = frozenset()
    jobs: Mapping[str, str] = field(default_factory=dict)
    runs_as: RunsAs | None = None
    needs: tuple[Need, ...] = ()
    environment: Mapping[str, Any] | None = None
    copied: str | None = None


@dataclass(frozen=True, slots=True)
class ModelWanted:
    """The registered model that a run has to leave behind."""

    full_name: str
    alias: str | None
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What has to be fetched of an ended attempt.

    `outputs` holds, by name, the uri and the table (one of them None) as `translate` gave them to the code. `tasks` are
    the tasks of a run of several, by the name that the platform knows them by; empty for a run of one. `earlier` are
    the submission tokens of the attempts before, newest first, if they have done tasks that this one left out: what
    these logged and registered belongs to the result.
    `log_characters` is the most of each task's text that is kept; `keep` is called with (task name, text) for the
    workspace's log destination, and gives the URI; None where there is none.
    """

    model: ModelWanted | None = None
    outputs: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    earlier: tuple[str, ...] = ()
    log_characters: int = 0
    keep: Callable[[str, str], str] | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """Who the platform says we are."""

    principal: str
    workspace_id: str | None
    details: WorkspaceDetails | None = None


class Files(Protocol):
    """Files of the platform's own storage, by absolute path; for logs that a workspace keeps there."""

    def put(self, path: str, data: bytes) -> None:
        """Writes a file, over what was there, with the folders above it."""

    def get(self, path: str) -> bytes | None:
        """A file's content, or None when there is none."""

    def delete(self, path: str) -> None:
        """Deletes a file, or a folder with all that is in it. That it is already gone is no error."""


class Connection(Protocol):
    """One host as one principal."""

    @property
    def files(self) -> Files | None:
        """Files of the platform's own storage; None where it has none."""

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

    def collect(self, remote: RemoteRun, mlflow_run_id: str | None, wanted: Wanted) -> Result:
        """What an ended run left: metrics, the model version of its MLflow run, outputs, tasks, logs, the error."""

    def preflight(self, request: Request) -> tuple[Finding, ...]:
        """Looks at each need of the request, and at nothing else; starts and changes nothing.

        What the platform does not let this identity find out is Unknown, never Missing.
        """

    def reach_storage(self) -> str:
        """Proves that what uploads go to answers from here, to the credential that uploads use. Says what was found.

        Starts nothing and leaves nothing but, at most, an empty place for an upload. For `trainyard doctor`. Raises the
        errors of `core.errors`.
        """

    def clean(self, code_folder: str) -> bool:
        """Removes an uploaded folder. Returns whether there was one."""

    def retire(self, remote_id: str) -> None:
        """Takes an ended run of ours out of the platform's lists (archives it); nothing where they forget it anyway."""


class Platform(Protocol):
    """A kind of platform."""

    name: str

    def label(self, namespace: str, name: str, attempt: int, submission_token: str) -> str:
        """What `translate` puts on the run so that `Connection.locate` finds exactly that attempt. Pure.

        Needs neither spec nor workspace: a run may have to be stopped when both have gone.
        """

    def translate(self, job: Job) -> Request:
        """The job in the platform's terms. Pure. Raises TranslationError naming the field."""

    def wanted(self, job: Job) -> Wanted:
        """What has to be fetched when the job has ended: model, outputs, tasks. Pure; says nothing about logs."""

    def code_folder(self, principal: str, scope: str, code_digest: str) -> str:
        """Where `translate` has the source uploaded. Pure; needs neither spec nor workspace."""

    def forbidden_overrides(self) -> frozenset[str]:
        """Fields of the platform block that the operator owns."""

    def quota(self, target: Target) -> Quota:
        """How often the platform lets that principal ask, and what it counts together. Pure."""

    def load(self) -> None:
        """Imports the vendor's packages. It takes seconds, once in a process; that is no slowness of the platform's."""

    def connect(self, target: Target, tokens_for: TokensFor, log: AuditLog) -> Connection:
        """A connection to target.host as target.principal. Sends nothing."""
