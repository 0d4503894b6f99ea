"""Reconciles MLTrainingRuns: gathers what is known, asks `core.decide`, writes the status, does the action, asks again.

Called by the operator's dispatcher, one call per key at a time. It decides nothing itself.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from trainyard.api.training_run import Attempt
from trainyard.audit.context import ResourceRef, audit_context
from trainyard.controllers.apiserver import ApiServer
from trainyard.controllers.destinations import Destinations
from trainyard.controllers.kube import RUN, ConflictError, NotFoundError
from trainyard.controllers.objects import Objects
from trainyard.controllers.readiness import Readiness
from trainyard.controllers.run_logs import RunLogs
from trainyard.controllers.sessions import Session, Sessions
from trainyard.controllers.snapshots import run_snapshot
from trainyard.controllers.store import Key, Object, Store
from trainyard.controllers.troubles import Troubles
from trainyard.controllers.uploads import Uploads
from trainyard.core import actions
from trainyard.core.conditions import FINAL
from trainyard.core.decide import decide
from trainyard.core.errors import Missing, TrainyardError
from trainyard.core.remote import Observed, RemoteRun, Stage
from trainyard.core.snapshot import FINALIZER, Blocked, Known, Limits, Ready, RunSnapshot
from trainyard.core.transition import live, newest
from trainyard.platforms.base import SUBMIT_SECONDS

log = structlog.get_logger(__name__)

# Seconds that the platform may take for one action. Submitting and collecting are several requests.
DEADLINES = {"submit": SUBMIT_SECONDS, "locate": 60.0, "cancel": 30.0, "collect": 120.0}
# A decision leads to an action leads to a decision; more rounds than this in one reconcile is a bug worth seeing.
MOST_ROUNDS = 16
# Platforms forget runs: Databricks after 60 days (documentation, "View runs for a job").
FORGOTTEN_AFTER = timedelta(days=60)
LOOKING = actions.Watch.__name__
NOT_NEEDED = Blocked("NotNeeded", "references are not looked at in this phase", waiting=True)


class RunController:
    """Keeps, per run, what this process has learned of its newest attempt. All of it may be lost at any time."""

    def __init__(
        self,
        store: Store,
        api: ApiServer,
        sessions: Sessions,
        readiness: Readiness,
        uploads: Uploads,
        logs: RunLogs,
        destinations: Destinations,
        limits: Limits,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._api = api
        self._sessions = sessions
        self._readiness = readiness
        self._uploads = uploads
        self._logs = logs
        self._destinations = destinations
        self._limits = limits
        self._now = clock
        self._observed: dict[str, Observed] = {}
        self._troubles = Troubles(clock)
        self._objects = Objects(store, api, RUN, FINALIZER, self.gone)
        self._keys: dict[str, Key] = {}  # of the runs that are observed, for what sweeps see

    async def reconcile(self, key: Key) -> datetime | None:
        """Brings one run as far as it goes now. Returns when to look again, if the clock alone may change something."""
        known: Known | None = None
        for _ in range(MOST_ROUNDS):
            obj = self._store.get(key)
            if obj is None:
                return None
            run = run_snapshot(obj)
            observed = self._of(run, key)
            known = Known(run, await self._ready(run, known), observed, self._limits, self._now())
            decision = decide(known)
            for note in decision.notes:  # before the status: after it, a crash would lose them
                await self._api.note(RUN, obj, note)
            if decision.status != run.status:
                log.info("phase", run=str(key), phase=decision.status.phase, rule=decision.rule)
                try:
                    written = await self._objects.write_status(key, obj, decision.status.wire())
                except NotFoundError:
                    self._objects.lost(key, run.uid)
                    return None
                if written is None:
                    continue
                obj = written
            if decision.status != run.status and decision.action is None:
                continue  # the rule wrote; the next round acts on what was written
            if decision.action is None:
                self._tidy(run)
                return decision.wake_at
            if not await self._perform(key, obj, decision.action):
                return decision.wake_at
        log.warning("too many rounds", run=str(key))
        return self._now() + timedelta(seconds=1)

    def seen(self, uid: str, what: RemoteRun | TrainyardError) -> bool:
        """Takes in what a sweep saw. Returns whether the run has to be looked at."""
        before = self._observed.get(uid)
        if before is None:
            return False
        # A look says nothing about an action in trouble: clearing that would try it again at every sweep, untold.
        acting = before.trouble is not None and before.trouble.action != LOOKING
        if isinstance(what, Missing):
            after = replace(before, vanished=True, trouble=None)
        elif not isinstance(what, TrainyardError):
            after = replace(before, remote=what, trouble=before.trouble if acting else None)
        elif acting:
            return False
        else:
            after = replace(before, trouble=self._troubles.met(uid, before.trouble, what, LOOKING))
        if after.trouble is None:
            self._troubles.over(uid)
        self._observed[uid] = after
        changed = after.remote != before.remote or after.vanished != before.vanished
        return changed or after.trouble is not before.trouble

    def key(self, uid: str) -> Key | None:
        """The key of a run that has not finished."""
        return self._keys.get(uid)

    def gone(self, obj: Object) -> None:
        """Takes in that a run's object goes: a remote run that has not been seen to end may need its code on."""
        seen = self._observed.get(obj["metadata"]["uid"], Observed())
        ended = seen.remote is not None and (seen.remote.stage is Stage.ENDED or seen.remote.over)
        if not (seen.vanished or ended):
            self._uploads.left(obj)

    def forget(self, uid: str) -> None:
        """Drops what is remembered of a run that has finished, or whose object is gone."""
        self._observed.pop(uid, None)
        self._keys.pop(uid, None)
        self._troubles.over(uid)
        self._sessions.leave(uid)

    def _of(self, run: RunSnapshot, key: Key) -> Observed:
        """What is remembered of the newest attempt; a new attempt starts with nothing."""
        last = newest(run.status)
        number = last.number if last is not None else 0
        observed = self._observed.get(run.uid)
        if observed is None or observed.attempt != number:
            observed = Observed(attempt=number)
            self._observed[run.uid] = observed
            self._keys[run.uid] = key
            self._troubles.over(run.uid)
            self._sessions.leave(run.uid)
        if run.deleting_since is not None and observed.deletion_seen_at is None:
            observed = replace(observed, deletion_seen_at=self._now())
            self._observed[run.uid] = observed
        return observed

    async def _ready(self, run: RunSnapshot, before: Known | None) -> Ready | Blocked:
        """What a new attempt needs, asked for only where one may be made or submitted.

        What is in the way, as found in the round before, is told and waited for, not asked about again at once: that
        would be a request for each write, without a pause.
        """
        if run.spec is None or run.status.phase in FINAL or run.deleting_since is not None:
            return NOT_NEEDED
        attempt, seen = live(run.status), self._observed[run.uid]
        followed = attempt is not None and (attempt.remote_id or seen.submitted or seen.located)
        if followed or run.status.stop is not None or run.spec.cancel or run.spec.suspend:
            return NOT_NEEDED
        if before is not None and (before.run.uid, before.run.generation) == (run.uid, run.generation):
            held = before.readiness
            if isinstance(held, Blocked) and held is not NOT_NEEDED:
                return held
        with audit_context(resource=_ref(run), action="preflight"):
            return await self._readiness.of(run)

    async def _perform(self, key: Key, obj: Object, action: actions.Action) -> bool:
        """Does the action, for the object that was decided on. Returns whether to decide again at once."""
        run = run_snapshot(obj)
        if isinstance(action, actions.AddFinalizer | actions.RemoveFinalizer):
            return await self._objects.set_finalizer(key, add=isinstance(action, actions.AddFinalizer))
        if isinstance(action, actions.DeleteRun):
            return await self._delete(key, obj)
        tried, attempt = type(action).__name__, newest(run.status)
        assert attempt is not None  # noqa: S101  (every other action is about an attempt)
        try:
            with audit_context(resource=_ref(run), action=tried.lower(), attempt=attempt.number):
                if isinstance(action, actions.CleanUp):
                    self._remember(run.uid, cleaned=await self._uploads.clean(run), trouble=None)
                    return True
                session = self._sessions.pinned(run.namespace, attempt)
                return await self._ask_platform(obj, run, attempt, session, action)
        except TrainyardError as error:
            before = self._observed.get(run.uid, Observed()).trouble
            self._remember(run.uid, trouble=self._troubles.met(run.uid, before, error, tried))
            log.info("trouble", run=str(key), action=tried, reason=error.reason, error=error.message)
            return True

    async def _ask_platform(
        self, obj: Object, run: RunSnapshot, attempt: Attempt, session: Session, action: actions.Action
    ) -> bool:
        connection = session.connection
        if isinstance(action, actions.Watch):
            if attempt.remote_id is not None:
                self._sessions.watch(session, run.uid, attempt)
            return False
        if isinstance(action, actions.Submit):
            request = await self._readiness.request(run, attempt)
            await self._uploads.may_begin(attempt)
            submitted = await session.call("submit", connection.submit, request, deadline=DEADLINES["submit"])
            self._remember(run.uid, submitted=submitted, trouble=None)
        elif isinstance(action, actions.Locate):
            label = session.platform.label(run.namespace, run.name, attempt.number, attempt.submission_token)
            found = await session.call(
                "locate",
                connection.locate,
                label,
                _sought_since(run, attempt),
                deadline=DEADLINES["locate"],
            )
            self._remember(
                run.uid, searched_at=self._now(), located=found.remote_id if found else None, remote=found, trouble=None
            )
        elif isinstance(action, actions.Cancel):
            try:
                await session.call("cancel", connection.cancel, action.remote_id, deadline=DEADLINES["cancel"])
            except Missing:
                self._remember(run.uid, vanished=True, trouble=None)
            else:
                self._remember(run.uid, cancel_sent_at=self._now(), trouble=None)
        elif isinstance(action, actions.Collect):
            await self._collect(obj, run, attempt, session)
        return True

    async def _collect(self, obj: Object, run: RunSnapshot, attempt: Attempt, session: Session) -> None:
        remote = self._observed[run.uid].remote
        assert remote is not None  # noqa: S101  (the rule looked)
        assert remote.stage is Stage.ENDED  # noqa: S101
        destination = self._readiness.log_destination(run)
        keeping = self._destinations.keeping(run, attempt, destination, session.connection.files)
        wanted = await self._readiness.wanted(run, attempt)
        wanted = replace(wanted, log_characters=self._logs.characters, keep=keeping)
        result = await session.call(
            "collect", session.connection.collect, remote, attempt.mlflow_run_id, wanted, deadline=DEADLINES["collect"]
        )
        await self._logs.keep(obj, run, attempt, result, keeping.failure if keeping is not None else None)
        # Its logs are kept now, and large: many runs may end at once, and a result is held until the next attempt.
        self._remember(run.uid, result=replace(result, logs=()), trouble=None)

    async def _delete(self, key: Key, obj: Object) -> bool:
        """Deletes the run's object, if it has not changed since. Returns whether to decide again at once."""
        uid = obj["metadata"]["uid"]
        try:
            await self._api.delete(RUN, obj)
        except ConflictError:
            await self._objects.refresh(key)
            return True
        except NotFoundError:
            self._objects.lost(key, uid)
        self.forget(uid)
        return False

    def _remember(self, uid: str, **changes: Any) -> None:
        if uid not in self._observed:
            return  # its object went while the platform was asked
        if changes.get("trouble", ...) is None:
            self._troubles.over(uid)
        self._observed[uid] = replace(self._observed[uid], **changes)

    def _tidy(self, run: RunSnapshot) -> None:
        """Nothing is remembered of a finished run but how its clean-up goes."""
        if run.status.phase not in FINAL or run.uid not in self._observed:
            return
        trouble = self._observed[run.uid].trouble
        if trouble is None or trouble.action != actions.CleanUp.__name__:
            self.forget(run.uid)


def _sought_since(run: RunSnapshot, attempt: Attempt) -> datetime:
    """How far back a lost run is looked for: one with a submissionKey may be of an earlier life of its resource."""
    intended = datetime.fromisoformat(attempt.intended_at)
    return intended - FORGOTTEN_AFTER if run.spec is not None and run.spec.submission_key else intended


def _ref(run: RunSnapshot) -> ResourceRef:
    return ResourceRef(RUN.name, run.namespace, run.name, run.uid)
