"""A controller of deployments whose API server and platform live in memory."""

import asyncio
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, cast

from tests.unit.serving_fake import FakePlatform
from tests.unit.stage import HOST, NOW, Api, _Loaded
from trainyard.api.identity import FEDERATED
from trainyard.audit.log import AuditLog
from trainyard.controllers.apiserver import ApiServer
from trainyard.controllers.deployments import DeploymentController
from trainyard.controllers.kube import DEPLOYMENT, RUN, WORKSPACE, Kube
from trainyard.controllers.preflight import Preflight
from trainyard.controllers.serving_checks import ServingChecks
from trainyard.controllers.serving_readiness import ServingReadiness
from trainyard.controllers.sessions import Session, SessionKey, Sessions
from trainyard.controllers.store import Key, Store
from trainyard.core.serving.snapshot import ServingLimits
from trainyard.core.times import stamp
from trainyard.identity.broker import Broker
from trainyard.identity.federated import Federated
from trainyard.identity.hosts import HostPolicy
from trainyard.platforms.lane import Lane

MODEL = "main.ml.wine"
CREATED = "2026-11-01T11:59:00Z"


class FakeSessions(Sessions):
    """Sessions with one platform, in memory."""

    platform: FakePlatform
    clock: Callable[[], float] = staticmethod(time.monotonic)

    def _session(self, key: SessionKey) -> Session:
        if key not in self._sessions:
            lane = Lane(key.target.host, key.target.principal, clock=self.clock)
            platform: Any = self.platform
            self._sessions[key] = Session(platform, platform, lane, _Loaded())
        return self._sessions[key]


def fake_sessions(kube: Any, platform: FakePlatform) -> FakeSessions:
    """Sessions of that platform; identities are asked of that API server."""
    policy, audit = HostPolicy(), AuditLog(sys.stderr)
    sessions = FakeSessions(
        Broker(policy, {FEDERATED: Federated(kube, policy, "trainyard-databricks", audit)}), audit, 3600
    )
    sessions.platform = platform
    return sessions


class ServingScene:
    """Everything around one namespace `team` with a workspace `dbx`."""

    def __init__(self, limits: ServingLimits | None = None) -> None:
        self.now = NOW
        self.api, self.store = Api(), Store()
        self.platform = FakePlatform(clock=lambda: self.now)
        self.platform.versions = {(MODEL, version): None for version in "123"}
        self.limits = limits or ServingLimits()
        self.sessions = fake_sessions(self.api, self.platform)
        self.sessions.clock = lambda: self.now.timestamp()
        self.restart()
        self.put_workspace()

    def restart(self) -> None:
        """A fresh controller, which remembers nothing."""
        api = ApiServer(cast(Kube, self.api))
        preflight = Preflight(self.sessions, 60, lambda: (self.now - NOW).total_seconds())
        self.readiness = ServingReadiness(
            self.store, self.sessions, preflight, "cluster", self.limits.recheck_served, lambda: self.now
        )
        self.checks = ServingChecks(self.store, lambda: self.now)
        self.controller = DeploymentController(
            self.store, api, self.sessions, self.readiness, self.checks, self.limits, lambda: self.now
        )

    def put_workspace(self, *, meta: dict[str, Any] | None = None, ready: str = "True", **changes: Any) -> None:
        spec = {
            "databricks": {"host": HOST},
            "identity": {"federated": {"serviceAccountName": "trainer"}},
            "computeClasses": {"small": {"serverless": {"environmentVersion": "5"}}},
            "modelPrefix": "main.ml",
            **changes,
        }
        condition = {
            "type": "Ready",
            "status": ready,
            "reason": "IdentityWorks",
            "message": "",
            "lastTransitionTime": "2026-11-01T11:00:00Z",
        }
        status = {"observedGeneration": 1, "conditions": [condition]}
        obj = {"metadata": {"namespace": "team", "name": "dbx", **(meta or {})}, "spec": spec, "status": status}
        self.store.put(Key(WORKSPACE.name, "team", "dbx"), self.api.seed(WORKSPACE.name, obj))

    def put_run(self, name: str = "iris", uid: str = "", **status: Any) -> Key:
        """A run that has come as far as `status` says, with spec.model."""
        key = Key(RUN.name, "team", name)
        spec = {"workspaceRef": {"name": "dbx"}, "code": {"inline": "print(1)"}, "compute": {"class": "small"}}
        meta = {"namespace": "team", "name": name, **({"uid": uid} if uid else {})}
        obj = {"metadata": meta, "spec": {**spec, "model": {"name": "wine"}}, "status": status}
        self.store.put(key, self.api.seed(RUN.name, obj))
        return key

    def put(self, version: str | None = "1", **spec: Any) -> Key:
        """A deployment that serves that version of the model, seen by the watch."""
        key = Key(DEPLOYMENT.name, "team", "wine")
        full = {"workspaceRef": {"name": "dbx"}, **({"models": [served(version)]} if version else {}), **spec}
        meta = {"namespace": "team", "name": "wine", "creationTimestamp": CREATED}
        self.store.put(key, self.api.seed(DEPLOYMENT.name, {"metadata": meta, "spec": full}))
        return key

    def edit(self, key: Key, **spec: Any) -> None:
        """A person changes the spec."""
        obj = self.api.objects[key.kind, key.namespace, key.name]
        meta = {**obj["metadata"], "generation": obj["metadata"]["generation"] + 1}
        new = self.api.seed(key.kind, {**obj, "metadata": meta, "spec": {**obj["spec"], **spec}})
        self.store.put(key, new)

    def delete(self, key: Key) -> None:
        """A person deletes the object; finalizers hold it."""
        obj = self.api.objects[key.kind, key.namespace, key.name]
        meta = {**obj["metadata"], "deletionTimestamp": stamp(self.now)}
        self.store.put(key, self.api.seed(key.kind, {**obj, "metadata": meta}))

    def status(self, key: Key) -> dict[str, Any]:
        return dict(self.api.objects[key.kind, key.namespace, key.name].get("status", {}))

    def reason(self, key: Key) -> str:
        found = {c["type"]: c for c in self.status(key).get("conditions", [])}
        return str(found["Ready"]["reason"]) if found else ""

    def message(self, key: Key) -> str:
        return next(str(c["message"]) for c in self.status(key)["conditions"] if c["type"] == "Ready")

    def finalizers(self, key: Key) -> list[str]:
        return list(self.api.objects[key.kind, key.namespace, key.name]["metadata"].get("finalizers", []))

    async def turn(self, key: Key) -> datetime | None:
        return await self.controller.reconcile(key)

    async def until(self, key: Key, phase: str, seconds: float = 3600.0) -> dict[str, Any]:
        """Lets time pass, as the controller wants to be woken, until the deployment is in that phase."""
        end = self.now + timedelta(seconds=seconds)
        wake = await self.turn(key)
        while self.status(key).get("phase") != phase:
            assert wake is not None, f"asleep for ever: {self.status(key)}"
            assert self.now < end, f"not {phase}: {self.status(key)}"
            self.now = max(self.now + timedelta(milliseconds=1), wake)
            wake = await self.turn(key)
        return self.status(key)

    async def rest(self, key: Key, seconds: float) -> None:
        """Lets that much time pass, waking the controller as it wants."""
        end = self.now + timedelta(seconds=seconds)
        wake = await self.turn(key)
        while wake is not None and wake <= end:
            self.now = max(self.now + timedelta(milliseconds=1), wake)
            wake = await self.turn(key)
        self.now = end

    async def stop(self) -> None:
        await self.sessions.stop()
        await asyncio.sleep(0)


def served(version: str | None, name: str = "champion", **changes: Any) -> dict[str, Any]:
    """An entry of spec.models."""
    model = {"name": "wine", "version": version}
    return {"name": name, "model": model, "compute": {"class": "small"}, **changes}
