"""Reconciles ModelDeployments: gathers what is known, asks `core.serving`, writes the status, does the action, again.

Called by the operator's dispatcher, one call per key at a time. It decides nothing itself. Endpoints are looked at one
by one, when the decision says so (docs/decisions/0025).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from trainyard.api.deployment_status import LOG_CHARACTERS, EndpointStatus
from trainyard.audit.context import ResourceRef, audit_context
from trainyard.controllers.apiserver import ApiServer
from trainyard.controllers.kube import DEPLOYMENT, NotFoundError
from trainyard.controllers.objects import Objects
from trainyard.controllers.serving_checks import ServingChecks
from trainyard.controllers.serving_readiness import ServingReadiness
from trainyard.controllers.serving_snapshots import deployment_snapshot, endpoint_target
from trainyard.controllers.sessions import Session, Sessions
from trainyard.controllers.store import Key, Store
from trainyard.controllers.troubles import Troubles
from trainyard.core.errors import Denied, Missing, Refused, TrainyardError
from trainyard.core.remote import Trouble
from trainyard.core.serving import actions
from trainyard.core.serving.decide import decide_deployment
from trainyard.core.serving.plans import plan_digest
from trainyard.core.serving.seen import Reached, ServingObserved
from trainyard.core.serving.snapshot import (
    ENDPOINT_FINALIZER,
    DeploymentKnown,
    DeploymentSnapshot,
    ServingLimits,
    ServingReady,
)
from trainyard.core.snapshot import Blocked
from trainyard.platforms.redaction import clean
from trainyard.platforms.registry import serving
from trainyard.platforms.serving import REACH_SECONDS, Endpoints

log = structlog.get_logger(__name__)

# A decision leads to an action leads to a decision; more rounds than this in one reconcile is a bug worth seeing.
MOST_ROUNDS = 32
NOT_NEEDED = Blocked("NotNeeded", "references are not looked at in this phase", waiting=True)
# What the audit log calls an action; a Reach that may change something is a change.
_NAMES: Mapping[type, str] = {
    actions.AskChecks: "check",
    actions.FetchLogs: "logs",
    actions.DeleteEndpoint: "delete",
    actions.FindEndpoint: "find",
}


class DeploymentController:
    """Keeps, per deployment, what this process has learned of its endpoint. All of it may be lost at any time."""

    def __init__(
        self,
        store: Store,
        api: ApiServer,
        sessions: Sessions,
        readiness: ServingReadiness,
        checks: ServingChecks,
        limits: ServingLimits,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._api = api
        self._sessions = sessions
        self._readiness = readiness
        self._checks = checks
        self._limits = limits
        self._now = clock
        self._observed: dict[str, ServingObserved] = {}
        self._troubles = Troubles(clock)
        self._objects = Objects(store, api, DEPLOYMENT, ENDPOINT_FINALIZER)

    async def reconcile(self, key: Key) -> datetime | None:
        """Brings one deployment as far as it goes now. Returns when to look again."""
        known: DeploymentKnown | None = None
        for _ in range(MOST_ROUNDS):
            obj = self._store.get(key)
            if obj is None:
                return None
            deployment = deployment_snapshot(obj)
            observed = self._of(deployment)
            readiness = await self._ready(deployment, known)
            known = DeploymentKnown(deployment, readiness, observed, self._limits, self._now())
            decision = decide_deployment(known)
            for note in decision.notes:  # before the status: after it, a crash would lose them
                await self._api.note(DEPLOYMENT, obj, note)
            if decision.status != deployment.status:
                log.info("phase", deployment=str(key), phase=decision.status.phase, rule=decision.rule)
                try:
                    written = await self._objects.write_status(key, obj, decision.status.wire())
                except NotFoundError:
                    self._objects.lost(key, deployment.uid)
                    return None
                if written is None or decision.action is None:
                    continue  # somebody was faster; or the rule wrote, and the next round acts on what was written
                deployment = deployment_snapshot(written)
            if decision.action is None:
                return decision.wake_at
            if not await self._perform(key, deployment, decision.action):
                return decision.wake_at
        log.warning("too many rounds", deployment=str(key))
        return self._now() + timedelta(seconds=1)

    def forget(self, uid: str) -> None:
        """Drops what is remembered of a deployment whose object is gone."""
        self._observed.pop(uid, None)
        self._troubles.over(uid)
        self._checks.forget(uid)

    def _of(self, deployment: DeploymentSnapshot) -> ServingObserved:
        observed = self._observed.setdefault(deployment.uid, ServingObserved())
        if deployment.deleting_since is not None and observed.deletion_seen_at is None:
            observed = self._observed[deployment.uid] = replace(observed, deletion_seen_at=self._now())
        return observed

    async def _ready(self, deployment: DeploymentSnapshot, before: DeploymentKnown | None) -> ServingReady | Blocked:
        """What the newest revision needs, gathered once in a reconcile: what is in the way is told and waited for."""
        if deployment.spec is None or deployment.deleting_since is not None or deployment.status.phase == "Expired":
            return NOT_NEEDED
        if before is not None and before.readiness is not NOT_NEEDED:
            held = before.deployment
            if (held.uid, held.generation) == (deployment.uid, deployment.generation):
                return before.readiness
        with audit_context(resource=_ref(deployment), action="preflight"):
            return await self._readiness.of(deployment)

    async def _perform(self, key: Key, deployment: DeploymentSnapshot, action: actions.ServingAction) -> bool:
        """Does the action, for the object that was decided on. Returns whether to decide again at once."""
        if isinstance(action, actions.AddFinalizer | actions.RemoveFinalizer):
            return await self._objects.set_finalizer(key, add=isinstance(action, actions.AddFinalizer))
        tried = type(action).__name__
        try:
            with audit_context(resource=_ref(deployment), action=_name(action)):
                await self._ask_platform(deployment, action)
        except TrainyardError as error:
            before = self._observed.get(deployment.uid, ServingObserved()).trouble
            self._remember(deployment.uid, trouble=self._troubles.met(deployment.uid, before, error, tried))
            log.info("trouble", deployment=str(key), action=tried, reason=error.reason, error=error.message)
        return True

    async def _ask_platform(self, deployment: DeploymentSnapshot, action: actions.ServingAction) -> None:
        endpoint = deployment.status.endpoint
        assert endpoint is not None  # noqa: S101  (every action on a platform is about an endpoint that is pinned)
        session = self._sessions.at(endpoint_target(endpoint), deployment.namespace)
        endpoints = serving(session.platform).endpoints(session.connection)
        uid = deployment.uid
        if isinstance(action, actions.Reach):
            self._remember(uid, asked=plan_digest(action.plan))
            request = self._readiness.request(deployment, session, action.plan)
            reached = await session.call(
                "reach", lambda: endpoints.reach(request, change=action.change), deadline=REACH_SECONDS
            )
            stale: dict[str, Any] = {"deleted_at": None, "looked_at": None, "gone": False, "left": False, "logs": {}}
            self._remember(uid, reached=_clean(reached), trouble=_of_checks(self._observed.get(uid)), **stale)
        elif isinstance(action, actions.AskChecks):
            checked = await self._checks.of(deployment, session, endpoints, action)
            self._remember(uid, checked=checked, trouble=None)
        elif isinstance(action, actions.FetchLogs):
            logs = {served: await _log(session, endpoints, action.endpoint, served) for served in action.served}
            self._remember(uid, logs={**self._observed[uid].logs, **logs}, trouble=None)
        elif isinstance(action, actions.DeleteEndpoint):
            there = await session.call("delete", endpoints.delete, action.endpoint, uid, deadline=REACH_SECONDS)
            left = not there and await _anothers(session, endpoints, endpoint)
            now = self._now()
            self._remember(uid, deleted_at=now, looked_at=now, gone=not there, left=left, trouble=None)
        elif isinstance(action, actions.FindEndpoint):
            there = await session.call("exists", endpoints.exists, action.endpoint, uid, deadline=REACH_SECONDS)
            left = not there and await _anothers(session, endpoints, endpoint)
            self._remember(uid, looked_at=self._now(), gone=not there, left=left, trouble=None)

    def _remember(self, uid: str, **changes: Any) -> None:
        if uid not in self._observed:
            return  # its object went while the platform was asked
        if changes.get("trouble", ...) is None:
            self._troubles.over(uid)
        self._observed[uid] = replace(self._observed[uid], **changes)


async def _anothers(session: Session, endpoints: Endpoints, endpoint: EndpointStatus) -> bool:
    """Whether what was ours, and is not there as ours any more, is there as somebody else's."""
    if not endpoint.made:
        return False
    return await session.call("exists", endpoints.exists, endpoint.name, None, deadline=REACH_SECONDS)


async def _log(session: Session, endpoints: Endpoints, endpoint: str, served: str) -> str:
    """The last part of what a server printed. What the platform does not give is told in its place."""
    try:
        text = await session.call("logs", endpoints.logs, endpoint, served, deadline=REACH_SECONDS)
    except Missing:
        return ""
    except (Denied, Refused) as error:
        text = f"(the platform does not give the log: {error.message})"
    return clean(text)[-LOG_CHARACTERS:]


def _clean(reached: Reached) -> Reached:
    """The look without tokens in what the platform and its models say."""
    differences = tuple(clean(each) for each in reached.differences)
    seen = reached.endpoint
    if seen is not None:
        served = tuple(replace(each, message=clean(each.message)) for each in seen.served)
        seen = replace(seen, failed=clean(seen.failed), served=served)
    return replace(reached, endpoint=seen, differences=differences)


def _of_checks(observed: ServingObserved | None) -> Trouble | None:
    """The trouble of checks that were denied: that the endpoint can be looked at does not end it."""
    trouble = observed.trouble if observed is not None else None
    return trouble if trouble is not None and trouble.action == actions.AskChecks.__name__ else None


def _name(action: actions.ServingAction) -> str:
    if isinstance(action, actions.Reach):
        return "change" if action.change else "look"
    return _NAMES[type(action)]


def _ref(deployment: DeploymentSnapshot) -> ResourceRef:
    return ResourceRef(DEPLOYMENT.name, deployment.namespace, deployment.name, deployment.uid)
