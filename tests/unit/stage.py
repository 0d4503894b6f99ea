"""A run controller whose API server and platform live in memory and count what they are asked."""

import asyncio
import copy
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from trainyard.api.base import API_VERSION
from trainyard.api.identity import FEDERATED
from trainyard.audit.log import AuditLog
from trainyard.controllers.apiserver import ApiServer
from trainyard.controllers.code import CodeFinder
from trainyard.controllers.destinations import Destinations
from trainyard.controllers.kube import RUN, WORKSPACE, ConflictError, ForbiddenError, Kind, Kube, NotFoundError
from trainyard.controllers.preflight import Preflight
from trainyard.controllers.readiness import Readiness
from trainyard.controllers.run_logs import RunLogs
from trainyard.controllers.runs import RunController
from trainyard.controllers.sessions import Loads, Session, SessionKey, Sessions
from trainyard.controllers.settings import StorageEndpoints
from trainyard.controllers.store import Key, Store
from trainyard.controllers.uploads import Uploads
from trainyard.core.remote import End, Finding, RemoteRun, Result, Stage, Submitted
from trainyard.core.snapshot import Limits
from trainyard.identity.base import DATABRICKS_CLIENT_ID, ServiceAccountRef
from trainyard.identity.broker import Broker
from trainyard.identity.federated import Federated
from trainyard.identity.hosts import HostPolicy
from trainyard.platforms.base import Account, Files, Platform, Request, Wanted
from trainyard.platforms.lane import Lane
from trainyard.platforms.registry import platform_named
from trainyard.sources.git import GitCredential, GitSource

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
HOST = "https://dbc-1.cloud.databricks.com"
CLUSTER = "cluster-uid"
SCOPE = "cluster-uid/team"


class Api:
    """An API server's objects by kind, namespace and name. Stands for `Kube`."""

    host = "https://api.example"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.maps: dict[tuple[str, str], dict[str, bytes]] = {}
        self.secrets: dict[tuple[str, str], dict[str, Any]] = {}
        self.forbidden: set[str] = set()
        self.notes: list[dict[str, Any]] = []
        self._version = 100

    def seed(self, kind: str, obj: dict[str, Any]) -> dict[str, Any]:
        """Puts an object there, as somebody else would."""
        self._version += 1
        meta = obj["metadata"]
        meta = {"uid": f"uid-{meta['name']}", "generation": 1, **meta, "resourceVersion": str(self._version)}
        stored = {"apiVersion": API_VERSION, "kind": kind, **obj, "metadata": meta}
        self.objects[kind, meta["namespace"], meta["name"]] = stored
        return copy.deepcopy(stored)

    def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        self._ask("get", kind.plural)
        return copy.deepcopy(self._found(kind, namespace, name))

    def put_status(self, kind: Kind, obj: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
        self._ask("update", f"{kind.plural}/status")
        found = self._same(kind, obj)
        return self.seed(kind.name, {**found, "status": copy.deepcopy(dict(status))})

    def put_finalizers(self, kind: Kind, obj: Mapping[str, Any], finalizers: list[str]) -> dict[str, Any]:
        self._ask("patch", kind.plural)
        found = self._same(kind, obj)
        return self.seed(kind.name, {**found, "metadata": {**found["metadata"], "finalizers": finalizers}})

    def create(self, kind: Kind, namespace: str, body: Mapping[str, Any]) -> None:
        self._ask("create", kind.plural)
        if (kind.name, namespace, body["metadata"]["name"]) in self.objects:
            raise ConflictError("409")
        self.seed(kind.name, copy.deepcopy(dict(body)))

    def delete(self, kind: Kind, obj: Mapping[str, Any]) -> None:
        self._ask("delete", kind.plural)
        self._same(kind, obj)
        del self.objects[kind.name, obj["metadata"]["namespace"], obj["metadata"]["name"]]

    def config_map(self, namespace: str, name: str) -> dict[str, bytes]:
        self._ask("get", "configmaps")
        if (namespace, name) not in self.maps:
            raise NotFoundError("404")
        return dict(self.maps[namespace, name])

    def secret(self, namespace: str, name: str) -> dict[str, Any]:
        self._ask("get", "secrets")
        if (namespace, name) not in self.secrets:
            raise NotFoundError("404")
        return self.secrets[namespace, name]

    def own_name(self) -> str:
        return "system:serviceaccount:trainyard-system:trainyard"

    def create_event(self, _namespace: str, body: Mapping[str, Any]) -> None:
        self._ask("create", "events")
        self.notes.append(dict(body))

    def annotations(self, _account: ServiceAccountRef) -> Mapping[str, str]:
        self._ask("get", "serviceaccounts")
        return {DATABRICKS_CLIENT_ID: "app-id"}

    def request_token(self, _account: ServiceAccountRef, _audience: str, _seconds: int) -> str:
        raise AssertionError("no test here mints a token")

    def _ask(self, verb: str, resource: str) -> None:
        self.asked.append(f"{verb} {resource}")
        if resource in self.forbidden:
            raise ForbiddenError("the API server answered 403 Forbidden")

    def _found(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        if (kind.name, namespace, name) not in self.objects:
            raise NotFoundError("404")
        return self.objects[kind.name, namespace, name]

    def _same(self, kind: Kind, obj: Mapping[str, Any]) -> dict[str, Any]:
        meta = obj["metadata"]
        found = self._found(kind, meta["namespace"], meta["name"])
        if (found["metadata"]["uid"], found["metadata"]["resourceVersion"]) != (meta["uid"], meta["resourceVersion"]):
            raise ConflictError("409")
        return found


@dataclass
class Remote:
    """A platform of one workspace. Stands for a Connection; a call whose name is in `errors` raises."""

    calls: list[str] = field(default_factory=list)
    folders: set[str] = field(default_factory=set)
    requests: list[Request] = field(default_factory=list)
    wanted: list[Wanted] = field(default_factory=list)
    findings: tuple[Finding, ...] = ()
    result: Result = field(default_factory=Result)
    errors: dict[str, Exception] = field(default_factory=dict)
    files: Files | None = None
    retired: list[str] = field(default_factory=list)

    def whoami(self) -> Account:
        return Account("app-id", None)

    def submit(self, request: Request) -> Submitted:
        self._call("submit")
        self.requests.append(request)
        self.folders.add(request.code_folder)
        return Submitted(str(len(self.requests)), None, NOW)

    def locate(self, label: str, since: datetime) -> RemoteRun | None:
        self._call("locate")
        return None

    def get(self, remote_id: str) -> RemoteRun:
        self._call("get")
        return RemoteRun(remote_id, Stage.RUNNING, "RUNNING")

    def sweep(self, since: datetime) -> Any:
        return iter(())

    def cancel(self, remote_id: str) -> None:
        self._call("cancel")

    def collect(self, remote: RemoteRun, mlflow_run_id: str | None, wanted: Wanted) -> Result:
        self._call("collect")
        self.wanted.append(wanted)
        return self.result

    def preflight(self, request: Request) -> tuple[Finding, ...]:
        self._call("preflight")
        return self.findings

    def clean(self, code_folder: str) -> bool:
        self._call("clean")
        there = code_folder in self.folders
        self.folders.discard(code_folder)
        return there

    def retire(self, remote_id: str) -> None:
        self._call("retire")
        self.retired.append(remote_id)

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.errors:
            raise self.errors[name]


@dataclass
class Repositories:
    """Git repositories: what a ref names, and each commit's files."""

    refs: dict[str | None, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    credentials: list[GitCredential | None] = field(default_factory=list)
    error: Exception | None = None

    def resolve(self, source: GitSource, credential: GitCredential | None) -> str:
        self.asked.append(f"resolve {source.ref}")
        self.credentials.append(credential)
        if self.error is not None:
            raise self.error
        return self.refs[source.ref]

    def files(self, source: GitSource, commit: str, credential: GitCredential | None) -> dict[str, bytes]:
        self.asked.append(f"files {commit}")
        if self.error is not None:
            raise self.error
        return dict(self.commits[commit])


class _Loaded(Loads):
    """There is no vendor's package to wait for."""

    async def loaded(self, platform: Platform) -> None:
        return


class _Sessions(Sessions):
    """Sessions with one connection, in memory."""

    remote: Remote

    def _session(self, key: SessionKey) -> Session:
        if key not in self._sessions:
            lane = Lane(key.target.host, key.target.principal)
            self._sessions[key] = Session(platform_named("databricks"), self.remote, lane, _Loaded())
        return self._sessions[key]


class Scene:
    """Everything around one namespace `team` with a workspace `dbx`."""

    def __init__(self, **workspace: Any) -> None:
        self.now = NOW
        self.api, self.remote, self.repositories = Api(), Remote(), Repositories()
        self.store = Store()
        kube = cast(Kube, self.api)
        policy, audit = HostPolicy(), AuditLog(sys.stderr)
        broker = Broker(policy, {FEDERATED: Federated(self.api, policy, "trainyard-databricks", audit)})
        self.sessions = _Sessions(broker, audit, 3600)
        self.sessions.remote = self.remote
        api = ApiServer(kube)
        self.code = CodeFinder(api, self.repositories)
        self.preflight = Preflight(self.sessions, 60, lambda: (self.now - NOW).total_seconds())
        self.readiness = Readiness(self.store, self.sessions, self.code, self.preflight, Limits(), CLUSTER, SCOPE)
        self.uploads = Uploads(self.store, self.sessions, SCOPE, 3600, lambda: (self.now - NOW).total_seconds())
        self.logs = RunLogs(api, 65_536, lambda: self.now)
        self.destinations = Destinations(self.api, audit, StorageEndpoints())
        self.controller = RunController(
            self.store,
            api,
            self.sessions,
            self.readiness,
            self.uploads,
            self.logs,
            self.destinations,
            Limits(),
            lambda: self.now,
        )
        self.put_workspace(**workspace)

    def put_workspace(self, **changes: Any) -> None:
        spec = {
            "databricks": {"host": HOST},
            "identity": {"federated": {"serviceAccountName": "trainer"}},
            "computeClasses": {"small": {"serverless": {"environmentVersion": "5"}}},
            "modelPrefix": "main.ml",
            **changes,
        }
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "IdentityWorks",
            "message": "",
            "lastTransitionTime": "2026-11-01T11:00:00Z",
        }
        status = {"observedGeneration": 1, "conditions": [ready]}
        obj = {"metadata": {"namespace": "team", "name": "dbx"}, "spec": spec, "status": status}
        self.store.put(Key(WORKSPACE.name, "team", "dbx"), self.api.seed(WORKSPACE.name, obj))

    def put(self, name: str = "iris", *, meta: dict[str, Any] | None = None, **spec: Any) -> Key:
        """A run, seen by the watch."""
        key = Key(RUN.name, "team", name)
        full = {"workspaceRef": {"name": "dbx"}, "code": {"inline": "print(1)"}, "compute": {"class": "small"}, **spec}
        full = {field: value for field, value in full.items() if value is not None}
        obj = {"metadata": {"namespace": "team", "name": name, **(meta or {})}, "spec": full}
        self.store.put(key, self.api.seed(RUN.name, obj))
        return key

    def edit(self, key: Key, **spec: Any) -> None:
        """A person changes the spec."""
        obj = self.api.objects[key.kind, key.namespace, key.name]
        self.store.put(key, self.api.seed(key.kind, {**obj, "spec": {**obj["spec"], **spec}}))

    def status(self, key: Key) -> dict[str, Any]:
        return dict(self.api.objects[key.kind, key.namespace, key.name].get("status", {}))

    def reason(self, key: Key) -> str:
        found = {c["type"]: c for c in self.status(key).get("conditions", [])}
        return str(found["Ready"]["reason"]) if found else ""

    def message(self, key: Key) -> str:
        return next(str(c["message"]) for c in self.status(key)["conditions"] if c["type"] == "Ready")

    async def turn(self, key: Key) -> datetime | None:
        return await self.controller.reconcile(key)

    async def finish(self, key: Key, end: End = End.SUCCEEDED, result: Result | None = None) -> dict[str, Any]:
        """Has the run submitted and ended."""
        await self.turn(key)
        if result is not None:
            self.remote.result = result
        status = self.status(key)
        remote = RemoteRun(status["remoteId"], Stage.ENDED, "TERMINATED", end, ended_at=self.now)
        self.controller.seen(f"uid-{key.name}", remote)
        await self.turn(key)
        return self.status(key)

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    async def stop(self) -> None:
        await self.sessions.stop()
        await asyncio.sleep(0)
