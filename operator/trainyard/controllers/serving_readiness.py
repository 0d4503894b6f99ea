"""Gathers what a deployment's newest revision needs: workspace, identity, model versions, translation, rights, quota.

Called by the controller of deployments before it asks `core.serving.decide`. Starts nothing and changes nothing on a
platform.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from trainyard.api.deployment_status import Origin, Serving
from trainyard.api.model_deployment import ModelDeploymentSpec, ServedModel
from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.audit.context import audit_context
from trainyard.controllers.kube import RUN
from trainyard.controllers.preflight import Preflight, lacking
from trainyard.controllers.serving_snapshots import completed, model_of_run, run_origin
from trainyard.controllers.sessions import Session, Sessions
from trainyard.controllers.store import Key, Store
from trainyard.controllers.workspace_refs import WorkspaceRefs, in_the_way
from trainyard.core.errors import (
    IdentityError,
    Missing,
    PlatformError,
    TrainyardError,
    TranslationError,
    Unreachable,
)
from trainyard.core.serving.plan import EndpointPlan
from trainyard.core.serving.planning import trial_plan
from trainyard.core.serving.plans import revision_digest
from trainyard.core.serving.returning import BACKWARD
from trainyard.core.serving.revisions import resolved, still_meant, to_resolve
from trainyard.core.serving.seen import ResolvedModel
from trainyard.core.serving.snapshot import DeploymentSnapshot, ServingReady
from trainyard.core.snapshot import Blocked, Target
from trainyard.platforms.registry import serving
from trainyard.platforms.serving import REACH_SECONDS, EndpointRequest, ServingPlatform

MOST_REMEMBERED = 2048
_Asked = tuple[Target, str, str, str | None, str | None]  # where, as whose, which model, version or alias


class ServingReadiness:
    """Looks references up in the store and on the platform. To be used from one event loop.

    Args:
        cluster: what this cluster is called.
        holds: seconds for which a version that was looked up is taken as it was: the pause between looks at an alias.
    """

    def __init__(
        self,
        store: Store,
        sessions: Sessions,
        preflight: Preflight,
        cluster: str,
        holds: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._workspaces = WorkspaceRefs(store)
        self._sessions = sessions
        self._preflight = preflight
        self._cluster = cluster
        self._holds = timedelta(seconds=holds)
        self._now = clock
        self._looked_up: OrderedDict[_Asked, tuple[ResolvedModel, datetime]] = OrderedDict()

    async def of(self, deployment: DeploymentSnapshot) -> ServingReady | Blocked:
        """Everything that the newest revision needs, or what is in the way."""
        spec = deployment.spec
        assert spec is not None  # noqa: S101  (rules without a spec ask for nothing)
        begun = deployment.status.endpoint is not None
        workspace = self._workspaces.usable(spec.workspace_ref, deployment.namespace, begun=begun)
        if isinstance(workspace, Blocked):
            return workspace
        try:
            target = await self._sessions.target(workspace, deployment.namespace)
            return await self._ready(deployment, spec, workspace, target)
        except (IdentityError, PlatformError, TranslationError) as error:
            return in_the_way(error)

    def request(self, deployment: DeploymentSnapshot, session: Session, plan: EndpointPlan) -> EndpointRequest:
        """A plan in the platform's terms. What goes back does so with what is there, whatever became of the workspace.

        Raises TranslationError, or IdentityError where there is no workspace.
        """
        assert deployment.spec is not None  # noqa: S101  (no plan is made of a spec that can not be read)
        platform, rollout = serving(session.platform), deployment.status.rollout
        workspace = self._workspaces.spec(deployment.spec.workspace_ref, deployment.namespace)
        backward = rollout is not None and rollout.stage in BACKWARD
        if not isinstance(workspace, Blocked):
            if rollout is None:
                return platform.translate_endpoint(plan, workspace)
            new = deployment.status.target.models if deployment.status.target is not None else []
            there = backward or rollout.stage == "Stepping"
            try:
                return _said(platform, plan, workspace, _names(plan.served) if there else _as_it_was(deployment, new))
            except TranslationError as error:
                if not backward:
                    raise
                why: TrainyardError = error
        else:
            why = IdentityError(workspace.message, reason=workspace.reason, waiting=workspace.waiting)
            if not backward:
                raise why
        return replace(platform.translate_endpoint(plan, None, _names(plan.served)), why=why)

    async def _ready(
        self, deployment: DeploymentSnapshot, spec: ModelDeploymentSpec, workspace: MLWorkspaceSpec, target: Target
    ) -> ServingReady | Blocked:
        session = self._sessions.at(target, deployment.namespace)
        platform = serving(session.platform)
        endpoint = platform.endpoint_name(spec.endpoint, workspace, deployment.namespace, deployment.name)
        models: dict[str, ResolvedModel] = {}
        for wanted in to_resolve(spec, deployment.status):
            found = await self._found(deployment, spec, wanted, workspace, session, target)
            if isinstance(found, Blocked):
                return found
            if found is not None:
                models[wanted.name] = found
        ready = ServingReady(target, endpoint, models, self._cluster)
        plan = trial_plan(deployment, endpoint, models, self._cluster)
        if plan is None or _known(deployment, spec, models):
            return ready
        new = resolved(spec, deployment.status, models) or []
        request = _said(platform, plan, workspace, _as_it_was(deployment, new))
        with audit_context(action="preflight"):
            findings = await self._preflight.of_endpoint(target, deployment.namespace, request)
        return lacking(findings) or ready

    async def _found(
        self,
        deployment: DeploymentSnapshot,
        spec: ModelDeploymentSpec,
        wanted: ServedModel,
        workspace: MLWorkspaceSpec,
        session: Session,
        target: Target,
    ) -> ResolvedModel | Blocked | None:
        """What the entry stands for now. None: it can not be asked now, and what is served holds until it can."""
        source = wanted.model
        told: Origin | None = None
        if source.from_run is not None:
            name = source.from_run.name
            run = self._store.get(Key(RUN.name, deployment.namespace, name))
            made = model_of_run(name, deployment.namespace, run, target)
            if isinstance(made, Blocked):
                return made
            model, told = made.model, made.origin
            which: tuple[str | None, str | None] = (made.version, None)
        else:
            model = serving(session.platform).model_name(source.name or "", workspace)
            which = (source.version, source.alias)
        try:
            found = await self._resolved(deployment, session, target, model, *which)
        except Missing as error:
            reason = "ModelNotRegistered" if source.alias is None else "AliasNotFound"
            return Blocked(reason, f"spec.models.{wanted.name}.model: {error.message}", waiting=True)
        except Unreachable:
            if still_meant(spec, deployment.status):
                return None
            raise
        told = told or self._told(deployment, found.origin)
        return replace(found, origin=completed(found.origin, told))

    async def _resolved(
        self,
        deployment: DeploymentSnapshot,
        session: Session,
        target: Target,
        model: str,
        version: str | None,
        alias: str | None,
    ) -> ResolvedModel:
        key = (target, deployment.namespace, model, version, alias)
        known = self._looked_up.get(key)
        if known is not None and self._now() < known[1]:
            return known[0]
        endpoints = serving(session.platform).endpoints(session.connection)
        with audit_context(action="resolve"):
            found = await session.call(
                "resolve",
                lambda: endpoints.resolve(model, version=version, alias=alias),
                deadline=REACH_SECONDS,
            )
        self._looked_up[key] = (found, self._now() + self._holds)
        self._looked_up.move_to_end(key)
        while len(self._looked_up) > MOST_REMEMBERED:
            self._looked_up.popitem(last=False)
        return found

    def _told(self, deployment: DeploymentSnapshot, origin: Origin | None) -> Origin | None:
        """What the run of that name tells, in this namespace alone; `completed` takes it only by its uid."""
        if origin is None or origin.run is None or origin.uid is None:
            return None
        run = self._store.get(Key(RUN.name, deployment.namespace, origin.run))
        return run_origin(run) if run is not None else None


def _names(models: Iterable[Serving]) -> frozenset[str]:
    """What they are called behind the endpoint."""
    return frozenset(each.served for each in models)


def _as_it_was(deployment: DeploymentSnapshot, new: Iterable[Serving]) -> frozenset[str]:
    """Of what the last good revision serves, all that the new one does not want otherwise: it is there already."""
    good = deployment.status.last_good.models if deployment.status.last_good is not None else []
    before = {each.served: revision_digest([each.model_copy(update={"traffic": 0})]) for each in good}
    now = {each.served: revision_digest([each.model_copy(update={"traffic": 0})]) for each in new}
    return frozenset(name for name in before if now.get(name, before[name]) == before[name])


def _said(
    platform: ServingPlatform, plan: EndpointPlan, workspace: MLWorkspaceSpec, may: frozenset[str]
) -> EndpointRequest:
    """The plan in the platform's terms. Of those in `may`, which serve already, what the workspace no longer has is
    kept as it is seen: a compute class that was removed must not hold up what takes its place.
    """
    try:
        return platform.translate_endpoint(plan, workspace)
    except TranslationError as error:
        lost = frozenset(each.served for each in plan.served if not _sayable(platform, plan, each, workspace))
        if not lost or lost - may:
            raise
        return replace(platform.translate_endpoint(plan, workspace, lost), why=error)


def _sayable(platform: ServingPlatform, plan: EndpointPlan, one: Serving, workspace: MLWorkspaceSpec) -> bool:
    try:
        platform.translate_endpoint(replace(plan, served=(one,), traffic={}), workspace)
    except TranslationError:
        return False
    return True


def _known(deployment: DeploymentSnapshot, spec: ModelDeploymentSpec, models: Mapping[str, ResolvedModel]) -> bool:
    """Whether this is the newest revision already, or the last good one: what has begun goes on, and what it lacks the
    platform itself will say.
    """
    found = resolved(spec, deployment.status, models)
    if found is None:
        return False
    known = (deployment.status.target, deployment.status.last_good)
    return revision_digest(found) in {each.digest for each in known if each is not None}
