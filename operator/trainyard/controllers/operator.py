"""Puts the operator together: kopf watches, the queue orders, the controllers reconcile. Started by the CLI.

kopf lists, watches, authenticates, answers probes and stops; its handlers only store the object and enqueue its key.
"""

import asyncio
import os
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import kopf
import structlog

from trainyard.api.base import GROUP, VERSION
from trainyard.controllers.apiserver import ApiServer
from trainyard.controllers.code import CodeFinder, Repositories
from trainyard.controllers.deployments import DeploymentController
from trainyard.controllers.destinations import Destinations
from trainyard.controllers.kube import CLUSTER_WORKSPACE, DEPLOYMENT, RUN, WORKSPACE, Kind, Kube, KubeError
from trainyard.controllers.preflight import Preflight
from trainyard.controllers.queue import KeyedQueue
from trainyard.controllers.readiness import Readiness
from trainyard.controllers.run_logs import RunLogs
from trainyard.controllers.runs import RunController
from trainyard.controllers.serving_checks import ServingChecks
from trainyard.controllers.serving_readiness import ServingReadiness
from trainyard.controllers.sessions import Sessions
from trainyard.controllers.settings import OperatorSettings
from trainyard.controllers.store import Key, Object, Store, at_rest, finished, key_of, workspace_key
from trainyard.controllers.uploads import Uploads, upload_scope
from trainyard.controllers.workspaces import WorkspaceController
from trainyard.core.actions import Note
from trainyard.core.errors import TrainyardError
from trainyard.core.remote import RemoteRun
from trainyard.core.transition import clip
from trainyard.telemetry.logs import redacted
from trainyard.telemetry.metrics import ACTIVE, DEADLINES, QUEUE_DEPTH, RECONCILE_SECONDS, RECONCILES

log = structlog.get_logger(__name__)

KINDS = {kind.name: kind for kind in (RUN, WORKSPACE, CLUSTER_WORKSPACE, DEPLOYMENT)}

# A dispatcher that has not come round for this long is stuck; /healthz then fails and the pod is restarted.
STUCK_AFTER = 60.0
HEARTBEAT = 5.0
# Unexpected failures in a row, after which an Event tells of them, and characters of the exception in it.
TOLD_AFTER = 3
MOST_SAID = 300
# Pauses between tries to list at start, in seconds; after them the process ends and is restarted by its pod.
START_PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


def utc_now() -> datetime:
    """The time, for the rules."""
    return datetime.now(UTC)


class Operator:
    """One operator process. `cluster` is what this Kubernetes cluster is called on platforms."""

    def __init__(
        self,
        settings: OperatorSettings,
        kube: Kube,
        sessions: Sessions,
        repositories: Repositories,
        destinations: Destinations,
        cluster: str,
    ) -> None:
        self._settings = settings
        self._store = Store()
        self._sessions = sessions
        self._queue: KeyedQueue[Key] = KeyedQueue(time.monotonic)
        self._api = api = ApiServer(kube)
        code, preflight = CodeFinder(api, repositories), Preflight(sessions, settings.limits.recheck_stalled)
        scope = upload_scope(cluster, settings.namespaces)
        readiness = Readiness(self._store, sessions, code, preflight, settings.limits, cluster, scope)
        uploads = Uploads(self._store, sessions, scope, settings.limits.default_attempt_timeout)
        logs = RunLogs(api, settings.log_characters, utc_now)
        self._runs = RunController(
            self._store, api, sessions, readiness, uploads, logs, destinations, settings.limits, utc_now
        )
        serving = ServingReadiness(self._store, sessions, preflight, cluster, settings.serving.recheck_served, utc_now)
        checks = ServingChecks(self._store, utc_now)
        self._deployments = DeploymentController(self._store, api, sessions, serving, checks, settings.serving, utc_now)
        recheck = timedelta(seconds=settings.workspace_recheck_seconds)
        self._workspaces = WorkspaceController(self._store, api, sessions, recheck, utc_now)
        self._tasks: set[asyncio.Task[None]] = set()
        self._beat = time.monotonic()
        sessions.on_seen(self._seen)

    async def run(self, stop: asyncio.Event) -> None:
        """Runs until `stop` is set."""
        await self._know_everything()
        dispatcher = asyncio.create_task(self._dispatch(), name="dispatcher")
        dispatcher.add_done_callback(
            lambda _: stop.set()
        )  # nothing would be reconciled any more: end, and be restarted
        heart = asyncio.create_task(self._heartbeat(), name="heartbeat")
        try:
            await kopf.operator(
                registry=self._registry(),
                settings=_kopf_settings(),
                standalone=True,
                clusterwide=not self._settings.namespaces,
                namespaces=self._settings.namespaces,
                liveness_endpoint=_endpoint(self._settings.liveness_port),
                stop_flag=stop,
            )
        finally:
            for task in (dispatcher, heart, *self._tasks):
                task.cancel()
            ended = await asyncio.gather(dispatcher, heart, *self._tasks, return_exceptions=True)
            await self._sessions.stop()
        if not isinstance(ended[0], asyncio.CancelledError):
            raise RuntimeError("the dispatcher ended by itself") from ended[0]  # noqa: TRY004 - not about a type

    async def _know_everything(self) -> None:
        """Lists all kinds before anything is decided: a run whose workspace has not been heard of yet would be told
        that it does not exist, and a workspace without its runs would be let go. kopf's own lists come in any order.
        """
        for kind in KINDS.values():
            for namespace in self._settings.namespaces if kind.namespaced and self._settings.namespaces else (None,):
                for obj in await self._listed(kind, namespace):
                    await self._watched({"type": None, "object": obj})

    async def _listed(self, kind: Kind, namespace: str | None) -> list[dict[str, Any]]:
        """Every object of that kind; an API server that is just starting is asked again for a while."""
        for pause in START_PAUSES:
            try:
                return await self._api.list_all(kind, namespace)
            except KubeError as error:
                log.warning("the API server does not list yet", kind=kind.name, error=error.message, again_in=pause)
            await asyncio.sleep(pause)
        return await self._api.list_all(kind, namespace)

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(_login)
        kopf.on.probe(id="dispatcher", registry=registry)(self._probe)
        for kind in KINDS.values():
            kopf.on.event(GROUP, VERSION, kind.plural, registry=registry, id=kind.plural)(self._watched)
        return registry

    async def _watched(self, event: Any, **_: Any) -> None:
        """Every event only says: look again."""
        obj: Object = event["object"]
        key = key_of(str(obj["kind"]), obj)
        if event["type"] == "DELETED":
            self._store.remove(key, obj["metadata"]["uid"])
            self._gone(key, obj)
        elif self._is_news(key, obj) and not (key.kind == RUN.name and at_rest(obj)):
            self._queue.add(key)
        self._wake_referrers(key, obj)

    def _is_news(self, key: Key, obj: Object) -> bool:
        """Keeps the object, unless it is known: the echo of a write of ours was looked at when it was written.

        Looking again would ask again whatever the write was about, without a pause: a git host that is down, for one.
        """
        return not self._store.holds(key, obj) and self._store.put(key, obj)

    def _gone(self, key: Key, obj: Object) -> None:
        uid = str(obj["metadata"]["uid"])
        if self._store.get(key) is None:  # another object may have taken the name
            self._queue.forget(key)
        if key.kind == RUN.name:
            self._runs.gone(obj)
            self._runs.forget(uid)
        elif key.kind == DEPLOYMENT.name:
            self._deployments.forget(uid)
        else:
            self._workspaces.forget(uid)

    def _wake_referrers(self, key: Key, obj: Object) -> None:
        """A workspace wakes what is in it, and is woken if it waits to be let go; a run wakes what serves its model."""
        if key.kind not in (RUN.name, DEPLOYMENT.name):
            for run, known in self._store.runs_of(key):
                if not finished(known):
                    self._queue.add(run)
            for deployment, _ in self._store.deployments_of(key):
                self._queue.add(deployment)
            return
        for deployment, _ in self._store.deployments_of_run(key):
            self._queue.add(deployment)
        workspace = workspace_key(obj)
        held = self._store.get(workspace)
        if held is not None and held["metadata"].get("deletionTimestamp"):
            self._queue.add(workspace)

    def _seen(self, uid: str, what: RemoteRun | TrainyardError) -> None:
        key = self._runs.key(uid)
        if key is not None and self._runs.seen(uid, what):
            self._queue.add(key)

    async def _dispatch(self) -> None:
        """One task per key that is due. Keys do not wait for each other: what bounds them is the lane of their host."""
        while True:
            key = await self._queue.get()
            task = asyncio.create_task(self._work(key), name=str(key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self, key: Key) -> None:
        started = time.monotonic()
        try:
            wake_at = await self._reconcile(key)
        except TrainyardError as error:
            pause = self._queue.retry(key)
            RECONCILES.labels(key.kind, "error").inc()
            log.warning("reconcile failed", key=str(key), reason=error.reason, error=error.message, again_in=pause)
        except Exception as error:
            pause = self._queue.retry(key)  # a bug in one object must not stop the others, and must be seen
            RECONCILES.labels(key.kind, "error").inc()
            log.exception("reconcile failed unexpectedly", key=str(key), again_in=pause)
            await self._tell_bug(key, error)
        else:
            self._queue.succeeded(key)
            RECONCILES.labels(key.kind, "requeue" if wake_at else "success").inc()
            delay = None if wake_at is None else max(0.0, (wake_at - utc_now()).total_seconds())
            self._queue.wake_at(key, None if delay is None else time.monotonic() + delay)
        finally:
            self._queue.done(key)
            RECONCILE_SECONDS.labels(key.kind).observe(time.monotonic() - started)

    async def _reconcile(self, key: Key) -> datetime | None:
        if key.kind == RUN.name:
            return await self._runs.reconcile(key)
        if key.kind == DEPLOYMENT.name:
            return await self._deployments.reconcile(key)
        return await self._workspaces.reconcile(key)

    async def _tell_bug(self, key: Key, error: Exception) -> None:
        """An Event about a failure that nobody thought of, once it lasts: the object's status tells nothing of it."""
        obj = self._store.get(key)
        if obj is None or self._queue.failures(key) < TOLD_AFTER:
            return
        said = clip(redacted(str(error)).strip().partition("\n")[0], MOST_SAID)
        words = f"the operator fails to work on this and goes on trying: {type(error).__name__}: {said}"
        message = f"{words}. This is a defect of Trainyard: please report it; the operator's log has the traceback."
        await self._api.note(KINDS[key.kind], obj, Note("Warning", "OperatorError", message))

    async def _heartbeat(self) -> None:
        while True:
            self._beat = time.monotonic()
            QUEUE_DEPTH.set(len(self._queue))
            ACTIVE.set(self._queue.working)
            DEADLINES.set(self._queue.deadlines)
            await asyncio.sleep(HEARTBEAT)

    async def _probe(self, **_: Any) -> dict[str, float]:
        age = time.monotonic() - self._beat
        if age > STUCK_AFTER:
            raise RuntimeError(f"the event loop has been stuck for {age:.0f} s")
        return {"queue": len(self._queue), "working": self._queue.working, "runs": self._store.count(RUN.name)}


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    if os.environ.get("KUBECONFIG"):
        return kopf.login_with_kubeconfig(**kwargs)
    return kopf.login_with_service_account(**kwargs)


def _endpoint(port: int | None) -> str | None:
    return None if port is None else f"http://0.0.0.0:{port}/healthz"


def _kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # our own Events say it better, once
    settings.scanning.disabled = True  # our kinds are there at start, or we say so; spares rights on CRDs
    settings.persistence.finalizer = "trainyard.dev/kopf"  # never used, and never our own: kopf removes its own
    settings.networking.request_timeout = 30.0  # kopf's 300 s would hide a dead API server for five minutes
    settings.networking.connect_timeout = 5.0
    settings.watching.inactivity_timeout = 70.0  # a watch that went silent is made again
    settings.process.ultimate_exiting_timeout = 20.0  # below the pod's grace period of 30 s
    settings.queueing.worker_limit = 100
    return settings
