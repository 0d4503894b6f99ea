"""Reconciles MLWorkspace and ClusterMLWorkspace: is the host allowed, does the identity work?

Called by the operator's dispatcher. A workspace keeps our finalizer, so that the runs in it can still be stopped, and
the endpoints deleted, when it is deleted together with them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import structlog
from pydantic import ValidationError

from trainyard.api.azureml import AzureMLTarget
from trainyard.api.base import Condition
from trainyard.api.workspace import ClusterMLWorkspaceSpec, MLWorkspaceSpec, WorkspaceStatus
from trainyard.audit.context import ResourceRef, audit_context
from trainyard.controllers.apiserver import ApiServer
from trainyard.controllers.cautions import cautions_of, notes, warned
from trainyard.controllers.kube import CLUSTER_WORKSPACE, KINDS, ConflictError, Kind, KubeError, NotFoundError
from trainyard.controllers.sessions import Sessions
from trainyard.controllers.snapshots import first_error, run_snapshot
from trainyard.controllers.store import Key, Store, has_endpoint
from trainyard.core.actions import Note
from trainyard.core.conditions import FINAL
from trainyard.core.errors import IdentityError, TrainyardError, Unreachable
from trainyard.core.times import parse, stamp
from trainyard.core.transition import clip, live
from trainyard.core.waiting import PASSING
from trainyard.identity import clouds
from trainyard.identity.base import Caution
from trainyard.platforms.base import Account

log = structlog.get_logger(__name__)

FINALIZER = "trainyard.dev/in-use"
RETRY_SOON = timedelta(seconds=10)
RETRY_LATER = timedelta(seconds=60)
# What time alone may mend (a new federation policy takes minutes to be known) asks for a person after this long.
WAITING_MAY_TAKE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found. `state` is which of the conditions Ready, Reconciling and Stalled is True."""

    state: Literal["Ready", "Reconciling", "Stalled"]
    reason: str
    message: str
    account: Account | None = None


def generation_of(obj: Mapping[str, Any]) -> int:
    """The generation of the object's spec."""
    return int(obj["metadata"].get("generation", 0))


def steadied(before: WorkspaceStatus, generation: int, verdict: Verdict, now: datetime) -> Verdict:
    """The verdict as it is worth telling.

    Troubles that come and go are told once, in the first one's words, because each write wakes every run of the
    workspace; and what was waited for long enough asks for a person.
    """
    ready = before.condition("Ready")
    if verdict.state == "Ready" or ready is None or ready.status == "True" or before.observed_generation != generation:
        return verdict
    if ready.reason == verdict.reason or (ready.reason in PASSING and verdict.reason in PASSING):
        verdict = replace(verdict, reason=ready.reason, message=ready.message)
    lasted = now - parse(ready.last_transition_time)
    return replace(verdict, state="Stalled") if lasted >= WAITING_MAY_TAKE else verdict


class WorkspaceController:
    """Checks workspaces, again from time to time, and writes what it found only when that has changed."""

    def __init__(
        self,
        store: Store,
        api: ApiServer,
        sessions: Sessions,
        recheck: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._api = api
        self._sessions = sessions
        self._recheck = recheck
        self._now = clock
        self._checked: dict[str, tuple[int, datetime]] = {}  # uid → generation that was checked, when to check again

    async def reconcile(self, key: Key) -> datetime | None:
        """Checks one workspace. Returns when to check it again."""
        obj = self._store.get(key)
        if obj is None:
            return None
        kind = KINDS[key.kind]
        try:
            if obj["metadata"].get("deletionTimestamp"):
                return await self._let_go(key, kind, obj)
            obj = await self._hold(key, kind, obj)
            generation, again = self._checked.get(obj["metadata"]["uid"], (-1, self._now()))
            if generation == obj["metadata"]["generation"] and self._now() < again:
                return again  # the echo of our own write, or a run that came or went
            before = WorkspaceStatus.model_validate(obj.get("status") or {})
            found, cautions = await self._check(key, obj)
            verdict = steadied(before, generation_of(obj), found, self._now())
            status = self._status(obj, verdict, cautions)
            if status != WorkspaceStatus.model_validate(obj.get("status") or {}):
                await self._write(key, kind, obj, status, verdict)
        except ConflictError:
            self._store.put(key, await self._api.read(kind, key.namespace, key.name))
            return self._now()
        except NotFoundError:
            self._store.remove(key, obj["metadata"]["uid"])
            return None
        waits = {"Ready": self._recheck, "Reconciling": RETRY_SOON, "Stalled": RETRY_LATER}
        again = self._now() + waits[verdict.state]
        self._checked[obj["metadata"]["uid"]] = (obj["metadata"]["generation"], again)
        return again

    def forget(self, uid: str) -> None:
        """Drops what is remembered of a workspace that is gone."""
        self._checked.pop(uid, None)

    async def _check(self, key: Key, obj: Mapping[str, Any]) -> tuple[Verdict, tuple[Caution, ...] | None]:
        """Whether runs may start, and what has to be told besides; None: could not be found out."""
        shared = key.kind == CLUSTER_WORKSPACE.name
        try:
            spec = (ClusterMLWorkspaceSpec if shared else MLWorkspaceSpec).model_validate(obj.get("spec", {}))
        except ValidationError as invalid:
            return Verdict("Stalled", "InvalidSpec", f"the spec can not be read: {first_error(invalid)}"), ()
        verdict = await self._verdict(key, spec, obj["metadata"]["uid"])
        return verdict, await cautions_of(self._sessions, spec, None if shared else key.namespace)

    async def _verdict(self, key: Key, spec: MLWorkspaceSpec, uid: str) -> Verdict:
        try:
            if isinstance(spec, ClusterMLWorkspaceSpec):
                self._sessions.check_host(spec)
                return Verdict("Ready", "HostAllowed", "the host is allowed; identities are checked for each run")
            with audit_context(resource=ResourceRef(key.kind, key.namespace, key.name, uid), action="check"):
                account = await self._sessions.check(spec, key.namespace)
        except IdentityError as error:
            return Verdict("Reconciling" if error.waiting else "Stalled", error.reason, error.message)
        except (Unreachable, KubeError) as error:
            return Verdict("Reconciling", error.reason, error.message)
        except TrainyardError as error:
            return Verdict("Stalled", error.reason, error.message)
        return Verdict("Ready", "IdentityWorks", f"runs are submitted as {account.principal}", account)

    def _status(
        self, obj: Mapping[str, Any], verdict: Verdict, cautions: tuple[Caution, ...] | None
    ) -> WorkspaceStatus:
        before = WorkspaceStatus.model_validate(obj.get("status") or {})
        generation = generation_of(obj)
        old = {c.type: c for c in before.conditions}
        conditions = []
        for kind in ("Ready", "Reconciling", "Stalled"):
            status: Literal["True", "False"] = "True" if kind == verdict.state else "False"
            was = old.get(kind)
            kept = was is not None and was.status == status
            conditions.append(
                Condition(
                    type=kind,
                    status=status,
                    reason=verdict.reason,
                    message=clip(verdict.message),
                    last_transition_time=was.last_transition_time if was is not None and kept else stamp(self._now()),
                    observed_generation=generation,
                )
            )
        account = verdict.account
        return before.model_copy(
            update={
                "observed_generation": generation,
                "conditions": [*conditions, *warned(before, cautions, generation, self._now())],
                "principal": account.principal if account else before.principal,
                "host": _host(obj.get("spec", {})),
                "workspace_id": account.workspace_id if account else before.workspace_id,
                "details": account.details if account else before.details,
                "active_runs": None,
                "active_deployments": None,
            }
        )

    async def _write(
        self, key: Key, kind: Kind, obj: Mapping[str, Any], status: WorkspaceStatus, verdict: Verdict
    ) -> None:
        before = WorkspaceStatus.model_validate(obj.get("status") or {})
        ready = before.condition("Ready")
        log.info("workspace", workspace=str(key), state=verdict.state, reason=verdict.reason)
        for note in notes(before, status):
            await self._api.note(kind, obj, note)
        if ready is None or ready.reason != verdict.reason:
            kind_of_note = "Normal" if verdict.state == "Ready" else "Warning"
            await self._api.note(kind, obj, Note(kind_of_note, verdict.reason, verdict.message))
        self._store.put(key, await self._api.write_status(kind, obj, status.wire()))

    async def _hold(self, key: Key, kind: Kind, obj: Mapping[str, Any]) -> Mapping[str, Any]:
        finalizers = obj["metadata"].get("finalizers", [])
        if FINALIZER in finalizers:
            return obj
        held = await self._api.write_finalizers(kind, obj, [*finalizers, FINALIZER])
        self._store.put(key, held)
        return held

    async def _let_go(self, key: Key, kind: Kind, obj: Mapping[str, Any]) -> datetime | None:
        """Removes the finalizer once nothing needs the workspace; each run's end wakes us, each endpoint's too."""
        finalizers = obj["metadata"].get("finalizers", [])
        if FINALIZER not in finalizers:
            return None
        runs, deployments = self._active_runs(key), self._active_deployments(key)
        if runs or deployments:
            before = WorkspaceStatus.model_validate(obj.get("status") or {})
            waits_for = {"active_runs": runs or None, "active_deployments": deployments or None}
            status = before.model_copy(update=waits_for)
            if status != before:
                self._store.put(key, await self._api.write_status(kind, obj, status.wire()))
            return self._now() + RETRY_LATER
        await self._api.write_finalizers(kind, obj, [f for f in finalizers if f != FINALIZER])
        return None

    def _active_runs(self, key: Key) -> int:
        runs = (run_snapshot(obj) for _, obj in self._store.runs_of(key))
        return sum(1 for run in runs if run.status.phase not in FINAL and live(run.status) is not None)

    def _active_deployments(self, key: Key) -> int:
        """How many have an endpoint that could not be deleted any more if the workspace were gone."""
        return sum(1 for _, obj in self._store.deployments_of(key) if has_endpoint(obj))


def _host(spec: Mapping[str, Any]) -> str | None:
    """What the workspace's attempts are pinned to, as far as the spec can be read."""
    if "azureML" not in spec:
        host: str | None = spec.get("databricks", {}).get("host")
        return host
    try:
        return clouds.workspace_at(AzureMLTarget.model_validate(spec["azureML"])).url
    except (ValidationError, IdentityError):
        return None
