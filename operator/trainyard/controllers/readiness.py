"""Gathers what a new attempt needs (workspace, identity, code, translation, rights) and says what is missing.

Called by the run controller before it asks `core.decide`. Starts nothing and changes nothing on a platform.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ValidationError

from trainyard.api.training_run import Attempt
from trainyard.api.workspace import ClusterMLWorkspaceSpec, LogDestination, MLWorkspaceSpec, WorkspaceStatus
from trainyard.controllers.code import CodeFinder, Source
from trainyard.controllers.kube import CLUSTER_WORKSPACE
from trainyard.controllers.planning import plan_of
from trainyard.controllers.preflight import Findings, Preflight
from trainyard.controllers.sessions import Sessions, target_of
from trainyard.controllers.snapshots import first_error
from trainyard.controllers.store import Key, Store
from trainyard.core.errors import IdentityError, PlatformError, TrainyardError, TranslationError, Unreachable
from trainyard.core.snapshot import Blocked, Limits, Ready, RunSnapshot, Target
from trainyard.core.times import parse
from trainyard.core.tokens import submission_token
from trainyard.core.transition import live, newest
from trainyard.platforms.base import Job, Request, Wanted
from trainyard.platforms.registry import platform_of


@dataclass(frozen=True, slots=True)
class _Gathered:
    """What a run refers to, found."""

    workspace: MLWorkspaceSpec
    target: Target
    source: Source


class Readiness:
    """Looks references up in the store, and asks for what is not there.

    Args:
        cluster: what this cluster is called.
        upload_scope: what the folders of uploads are named after.
    """

    def __init__(
        self,
        store: Store,
        sessions: Sessions,
        code: CodeFinder,
        preflight: Preflight,
        limits: Limits,
        cluster: str,
        upload_scope: str,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._code = code
        self._preflight = preflight
        self._limits = limits
        self._cluster = cluster
        self._upload_scope = upload_scope

    async def of(self, run: RunSnapshot) -> Ready | Blocked:
        """Ready with the target of a new attempt, or what is in the way."""
        found = await self._gather(run)
        if isinstance(found, Blocked):
            return found
        attempt = live(run.status)
        try:
            request = platform_of(found.workspace).translate(self._job(run, found, found.target, attempt))
        except TranslationError as error:
            return Blocked(error.reason, error.message, waiting=False)
        # An intent that is written goes on: what it lacks, the platform itself will say.
        findings = await self._findings(run, found.target, request) if attempt is None else ()
        if isinstance(findings, Blocked):
            return findings
        ready = Ready(
            found.target,
            found.source.digest,
            found.source.commit,
            request.runs_as.name if request.runs_as is not None else None,
        )
        if not _planned(run):
            return _permitted(ready, findings)
        key = self._workspace_key(run)
        plan = plan_of(request, found.source, key.name, found.target.principal, findings)
        return Ready(ready.target, ready.code_digest, ready.commit, ready.run_as, plan)

    async def request(self, run: RunSnapshot, attempt: Attempt) -> Request:
        """The newest attempt in its platform's terms. Raises TranslationError, or IdentityError for what is missing."""
        found = await self._gather(run)
        if isinstance(found, Blocked):
            raise IdentityError(found.message, reason=found.reason, waiting=found.waiting)
        return platform_of(found.workspace).translate(self._job(run, found, target_of(attempt), attempt))

    async def wanted(self, run: RunSnapshot, attempt: Attempt) -> Wanted:
        """What has to be fetched of the ended attempt."""
        if run.spec is None:
            return Wanted()
        spec = self._workspace_spec(run)
        if isinstance(spec, Blocked):
            if run.spec.model is None and not run.spec.outputs:
                # Nothing of it needs the workspace's mappings; a task is called on the platform what the spec calls it.
                return Wanted(tasks=tuple(task.name for task in run.spec.tasks))
            raise IdentityError(spec.message, reason=spec.reason, waiting=spec.waiting)
        source = Source({}, attempt.code_digest, attempt.commit)
        found = _Gathered(spec, target_of(attempt), source)
        return platform_of(spec).wanted(self._job(run, found, found.target, attempt))

    def log_destination(self, run: RunSnapshot) -> LogDestination | None:
        """Where the run's workspace keeps whole logs, as far as it can be read."""
        spec = self._workspace_spec(run) if run.spec is not None else None
        return spec.log_destination if isinstance(spec, MLWorkspaceSpec) else None

    async def _gather(self, run: RunSnapshot) -> Blocked | _Gathered:
        workspace = self._workspace(run)
        if isinstance(workspace, Blocked):
            return workspace
        try:
            target = await self._sessions.target(workspace, run.namespace)
        except (IdentityError, PlatformError) as error:
            return _in_the_way(error)
        source = await self._code.of(run)
        return source if isinstance(source, Blocked) else _Gathered(workspace, target, source)

    async def _findings(self, run: RunSnapshot, target: Target, request: Request) -> Findings | Blocked:
        try:
            return await self._preflight.of(target, run.namespace, request, afresh=_planned(run))
        except (IdentityError, PlatformError) as error:
            return _in_the_way(error)

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

    def _job(self, run: RunSnapshot, found: _Gathered, target: Target, attempt: Attempt | None) -> Job:
        """The attempt, or the next one, in portable terms."""
        assert run.spec is not None  # noqa: S101
        last = newest(run.status)
        number = attempt.number if attempt is not None else last.number + 1 if last is not None else 1
        done = (task.name for task in attempt.tasks if task.attempt is not None) if attempt is not None else ()
        return Job(
            namespace=run.namespace,
            name=run.name,
            uid=run.uid,
            attempt=number,
            submission_token=submission_token(run.namespace, run.name, run.uid, run.spec.submission_key, number),
            spec=run.spec,
            workspace=found.workspace,
            target=target,
            files=found.source.files,
            code_digest=found.source.digest,
            timeout_seconds=self._timeout(run),
            cluster=self._cluster,
            upload_scope=self._upload_scope,
            commit=found.source.commit,
            done_tasks=frozenset(done),
        )

    def _timeout(self, run: RunSnapshot) -> int:
        """Seconds that the platform may give the attempt, so that an orphan ends by itself."""
        assert run.spec is not None  # noqa: S101
        allowed = run.spec.attempt_timeout_seconds or self._limits.default_attempt_timeout
        if run.spec.timeout_seconds is None:
            return allowed
        since = run.status.resumed_at or run.status.started_at
        started = parse(since) if since else datetime.now(UTC)
        left = run.spec.timeout_seconds - int((datetime.now(UTC) - started).total_seconds())
        return max(1, min(allowed, left))


def _planned(run: RunSnapshot) -> bool:
    return run.spec is not None and bool(run.spec.plan_only)


def _permitted(ready: Ready, findings: Findings) -> Ready | Blocked:
    """Ready, unless something is known to be missing. What can not be found out is the platform's to refuse."""
    missing = [finding for finding in findings if finding.outcome == "Missing"]
    if not missing:
        return ready
    listed = "; ".join(f"{each.name} ({each.field}): {each.message}" for each in missing)
    count = "a right is" if len(missing) == 1 else f"{len(missing)} rights are"
    return Blocked("PermissionMissing", f"{count} missing, and nothing was started: {listed}", waiting=False)


def _in_the_way(error: TrainyardError) -> Blocked:
    """An error of asking, as something to wait for or to be mended."""
    waiting = error.waiting if isinstance(error, IdentityError) else isinstance(error, Unreachable)
    return Blocked(error.reason, error.message, waiting=waiting)
