"""Gathers what a new attempt needs (workspace, identity, code, translation, rights) and says what is missing.

Called by the run controller before it asks `core.decide`. Starts nothing and changes nothing on a platform.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from trainyard.api.training_run import Attempt
from trainyard.api.workspace import LogDestination, MLWorkspaceSpec
from trainyard.controllers.code import CodeFinder, Source
from trainyard.controllers.planning import plan_of
from trainyard.controllers.preflight import Findings, Preflight, lacking
from trainyard.controllers.sessions import Sessions, target_of
from trainyard.controllers.store import Store
from trainyard.controllers.workspace_refs import WorkspaceRefs, in_the_way
from trainyard.core.errors import IdentityError, PlatformError, TranslationError
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
        self._workspaces = WorkspaceRefs(store)
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
            return lacking(findings) or ready
        assert run.spec is not None  # noqa: S101  (it asks for a plan)
        name = run.spec.workspace_ref.name
        plan = plan_of(request, found.source, name, found.target.principal, findings)
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
        assert run.spec is not None  # noqa: S101  (rules without a spec ask for nothing)
        begun = live(run.status) is not None
        workspace = self._workspaces.usable(run.spec.workspace_ref, run.namespace, begun=begun)
        if isinstance(workspace, Blocked):
            return workspace
        try:
            target = await self._sessions.target(workspace, run.namespace)
        except (IdentityError, PlatformError) as error:
            return in_the_way(error)
        source = await self._code.of(run)
        return source if isinstance(source, Blocked) else _Gathered(workspace, target, source)

    async def _findings(self, run: RunSnapshot, target: Target, request: Request) -> Findings | Blocked:
        try:
            return await self._preflight.of(target, run.namespace, request, afresh=_planned(run))
        except (IdentityError, PlatformError) as error:
            return in_the_way(error)

    def _workspace_spec(self, run: RunSnapshot) -> MLWorkspaceSpec | Blocked:
        assert run.spec is not None  # noqa: S101  (rules without a spec ask for nothing)
        return self._workspaces.spec(run.spec.workspace_ref, run.namespace)

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
