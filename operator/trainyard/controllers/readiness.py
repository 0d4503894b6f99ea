"""Gathers what a new attempt needs (workspace, identity, code, translation) and says what is missing.

Called by the run controller before it asks `core.decide`. Sends nothing that costs money.
"""

from datetime import UTC, datetime

from pydantic import ValidationError

from trainyard.api.code import DEFAULT_FILE
from trainyard.api.training_run import Attempt, Entrypoint
from trainyard.api.workspace import ClusterMLWorkspaceSpec, MLWorkspaceSpec, WorkspaceStatus
from trainyard.controllers.apiserver import ApiServer
from trainyard.controllers.kube import CLUSTER_WORKSPACE, ForbiddenError, KubeError, NotFoundError
from trainyard.controllers.sessions import Sessions
from trainyard.controllers.snapshots import first_error
from trainyard.controllers.store import Key, Store
from trainyard.core.errors import IdentityError, PlatformError, TranslationError, Unreachable
from trainyard.core.snapshot import Blocked, Limits, Ready, RunSnapshot, Target
from trainyard.core.times import parse
from trainyard.core.tokens import code_digest, submission_token
from trainyard.core.transition import live
from trainyard.platforms.base import Job, Request, Wanted
from trainyard.platforms.registry import platform_of


class Readiness:
    """Looks references up in the store, and code in the API server."""

    def __init__(self, store: Store, api: ApiServer, sessions: Sessions, limits: Limits) -> None:
        self._store = store
        self._api = api
        self._sessions = sessions
        self._limits = limits

    async def of(self, run: RunSnapshot) -> Ready | Blocked:
        """Ready with the target of a new attempt, or what is in the way."""
        found = await self._gather(run)
        if isinstance(found, Blocked):
            return found
        workspace, target, files = found
        try:
            number = len(run.status.attempts) + 1
            platform_of(workspace).translate(self._job(run, workspace, target, files, number))
        except TranslationError as error:
            return Blocked(error.reason, error.message, waiting=False)
        return Ready(target, code_digest(files))

    async def request(self, run: RunSnapshot, attempt: Attempt) -> Request:
        """The newest attempt in its platform's terms. Raises TranslationError, or IdentityError for what is missing."""
        found = await self._gather(run)
        if isinstance(found, Blocked):
            raise IdentityError(found.message, reason=found.reason, waiting=found.waiting)
        workspace, _, files = found
        return platform_of(workspace).translate(self._job(run, workspace, _target(attempt), files, attempt.number))

    async def wanted(self, run: RunSnapshot, attempt: Attempt) -> Wanted:
        """What has to be fetched of the ended attempt."""
        if run.spec is None:
            return Wanted()
        spec = self._workspace_spec(run)
        if isinstance(spec, Blocked):
            raise IdentityError(spec.message, reason=spec.reason, waiting=spec.waiting)
        return platform_of(spec).wanted(self._job(run, spec, _target(attempt), {}, attempt.number))

    async def _gather(self, run: RunSnapshot) -> Blocked | tuple[MLWorkspaceSpec, Target, dict[str, bytes]]:
        workspace = self._workspace(run)
        if isinstance(workspace, Blocked):
            return workspace
        try:
            target = await self._sessions.target(workspace, run.namespace)
        except IdentityError as error:
            return Blocked(error.reason, error.message, waiting=error.waiting)
        except Unreachable as error:
            return Blocked(error.reason, error.message, waiting=True)
        except PlatformError as error:
            return Blocked(error.reason, error.message, waiting=False)
        files = await self._files(run)
        return files if isinstance(files, Blocked) else (workspace, target, files)

    def _workspace(self, run: RunSnapshot) -> MLWorkspaceSpec | Blocked:
        """The workspace's spec, if a new attempt may use it now."""
        spec = self._workspace_spec(run)
        if isinstance(spec, Blocked):
            return spec
        key = self._workspace_key(run)
        obj = self._store.get(key)
        assert obj is not None  # noqa: S101  (the spec came from it)
        # An intent that is written waits for its submission, and the workspace for the run: one of them has to go on.
        if obj["metadata"].get("deletionTimestamp") and live(run.status) is None:
            return Blocked("WorkspaceDeleting", f"{key.kind} {key.name} is being deleted", waiting=True)
        if isinstance(spec, ClusterMLWorkspaceSpec) and run.namespace not in spec.allowed_namespaces:
            message = (
                f"ClusterMLWorkspace {key.name} does not allow namespace {run.namespace}; ask its administrator to add "
                "it to spec.allowedNamespaces"
            )
            return Blocked("NamespaceNotAllowed", message, waiting=False)
        status = WorkspaceStatus.model_validate(obj.get("status") or {})
        ready = status.condition("Ready")
        current = status.observed_generation == obj["metadata"].get("generation")
        if ready is None or not current:
            return Blocked("WorkspaceNotReady", f"{key.kind} {key.name} is being checked", waiting=True)
        if ready.status != "True":
            message = f"{key.kind} {key.name} is not ready ({ready.reason}): {ready.message}"
            return Blocked("WorkspaceNotReady", message, waiting=True)
        return spec

    def _workspace_spec(self, run: RunSnapshot) -> MLWorkspaceSpec | Blocked:
        key = self._workspace_key(run)
        obj = self._store.get(key)
        if obj is None:
            where = f" in namespace {run.namespace}" if key.namespace else ""
            return Blocked("WorkspaceNotFound", f"{key.kind} {key.name} does not exist{where}; create it", waiting=True)
        model = ClusterMLWorkspaceSpec if key.kind == CLUSTER_WORKSPACE.name else MLWorkspaceSpec
        try:
            return model.model_validate(obj.get("spec", {}))
        except ValidationError as invalid:
            return Blocked("WorkspaceInvalid", f"{key.kind} {key.name}: {first_error(invalid)}", waiting=True)

    def _workspace_key(self, run: RunSnapshot) -> Key:
        assert run.spec is not None  # noqa: S101  (rules without a spec ask for nothing)
        ref = run.spec.workspace_ref
        return Key(ref.kind, "" if ref.kind == CLUSTER_WORKSPACE.name else run.namespace, ref.name)

    async def _files(self, run: RunSnapshot) -> dict[str, bytes] | Blocked:
        """The source files by name, or why they can not be had."""
        assert run.spec is not None  # noqa: S101
        entry = (run.spec.entrypoint or Entrypoint()).file or DEFAULT_FILE
        code = run.spec.code
        if code is None:
            return {}
        if code.inline is not None:
            return {entry: code.inline.encode()}
        if code.config_map is None:
            return Blocked("InvalidSpec", "this way to name code is not understood", waiting=False)
        name = code.config_map.name
        try:
            files = await self._api.config_map(run.namespace, name)
        except NotFoundError:
            return Blocked(
                "CodeNotFound", f"ConfigMap {name} does not exist in {run.namespace}; create it", waiting=True
            )
        except ForbiddenError:
            message = f"the operator may not read ConfigMap {run.namespace}/{name}; grant it 'get' there"
            return Blocked("OperatorForbidden", message, waiting=False)
        except KubeError as error:
            return Blocked(error.reason, error.message, waiting=True)
        if entry not in files:
            found = ", ".join(sorted(files)) or "nothing"
            message = f"spec.entrypoint.pythonFile {entry} is not a key of ConfigMap {name}, which holds {found}"
            return Blocked("CodeNotFound", message, waiting=True)
        return files

    def _job(
        self, run: RunSnapshot, workspace: MLWorkspaceSpec, target: Target, files: dict[str, bytes], number: int
    ) -> Job:
        assert run.spec is not None  # noqa: S101
        return Job(
            namespace=run.namespace,
            name=run.name,
            uid=run.uid,
            attempt=number,
            submission_token=submission_token(run.spec.submission_key or run.uid, number),
            spec=run.spec,
            workspace=workspace,
            target=target,
            files=files,
            code_digest=code_digest(files),
            timeout_seconds=self._timeout(run),
        )

    def _timeout(self, run: RunSnapshot) -> int:
        """Seconds that the platform may give the attempt, so that an orphan ends by itself."""
        assert run.spec is not None  # noqa: S101
        allowed = run.spec.attempt_timeout_seconds or self._limits.default_attempt_timeout
        if run.spec.timeout_seconds is None:
            return allowed
        started = parse(run.status.started_at) if run.status.started_at else datetime.now(UTC)
        left = run.spec.timeout_seconds - int((datetime.now(UTC) - started).total_seconds())
        return max(1, min(allowed, left))


def _target(attempt: Attempt) -> Target:
    return Target(attempt.platform, attempt.host, attempt.principal, attempt.mode, attempt.service_account)
