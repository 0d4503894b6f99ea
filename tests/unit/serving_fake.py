"""A platform with endpoints that lives in memory: keeps `platforms.serving`, follows plans step by step, counts calls.

Used by the tests of the controller of deployments, with an API server in memory and with a real one.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from trainyard.api.deployment_status import Origin
from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.core.errors import Missing, TranslationError
from trainyard.core.remote import Finding
from trainyard.core.serving.plan import EndpointPlan
from trainyard.core.serving.plans import plan_digest
from trainyard.core.serving.seen import Measured, Reached, RemoteEndpoint, RemoteServed, ResolvedModel, Scored
from trainyard.core.snapshot import Target
from trainyard.platforms.base import Account, Need
from trainyard.platforms.limits import Quota
from trainyard.platforms.serving import EndpointRequest


@dataclass
class Served:
    """One model version behind an endpoint."""

    model: str
    version: str
    state: str = "Creating"
    traffic: int = 0


@dataclass
class Endpoint:
    """An endpoint as the platform keeps it."""

    uid: str
    tags: dict[str, str] = field(default_factory=dict)
    served: dict[str, Served] = field(default_factory=dict)


@dataclass
class FakePlatform:
    """Stands for a Platform, its ServingPlatform, a Connection and its Endpoints: one workspace of one platform.

    `broken` are versions whose server fails while it is made. `answers` is called with (version, rows) for an answer.
    `errors` are raised by the call of that name. `trail` holds each change as (what, traffic by version after it).
    """

    name: str = "databricks"
    versions: dict[tuple[str, str], Origin | None] = field(default_factory=dict)
    aliases: dict[tuple[str, str], str] = field(default_factory=dict)
    endpoints_by_name: dict[str, Endpoint] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    findings: tuple[Finding, ...] = ()
    needs: tuple[Need, ...] = ()
    measures: Measured = field(default_factory=Measured)
    errors: dict[str, Exception] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    trail: list[tuple[str, dict[str, int]]] = field(default_factory=list)
    frozen: bool = False  # nothing that is on its way gets ready
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    answers: Callable[[str, list[Mapping[str, Any]]], Scored] = lambda version, rows: Scored(
        200, 0.01, [1.0] * len(rows)
    )

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    # The parts of Platform and Connection that deployments and workspaces need.

    def load(self) -> None:
        return None

    def quota(self, target: Target) -> Quota:
        return Quota(target.host, 1000.0, 1000)

    def connect(self, *_: Any) -> "FakePlatform":
        return self

    def whoami(self) -> Account:
        return Account("app-id", None)

    # ServingPlatform.

    def endpoint_name(self, wanted: str | None, workspace: MLWorkspaceSpec, namespace: str, name: str) -> str:
        return wanted or f"{namespace}-{name}"

    def model_name(self, name: str, workspace: MLWorkspaceSpec) -> str:
        return name if "." in name else f"{workspace.model_prefix}.{name}"

    def translate_endpoint(
        self, plan: EndpointPlan, workspace: MLWorkspaceSpec | None, kept: frozenset[str] = frozenset()
    ) -> EndpointRequest:
        for each in plan.served:
            if each.served not in kept and (workspace is None or each.compute_class not in workspace.compute_classes):
                raise TranslationError("spec.models.compute.class", f"{each.compute_class} is not there")
        return EndpointRequest(plan, {}, self.needs, kept)

    def endpoints(self, connection: Any) -> "FakePlatform":
        assert connection is self
        return self

    # Endpoints.

    def resolve(self, model: str, *, version: str | None = None, alias: str | None = None) -> ResolvedModel:
        with self._called("resolve"):
            if alias is not None:
                version = self.aliases.get((model, alias))
            if version is None or (model, version) not in self.versions:
                raise Missing(f"{model} has no version {version or alias}")
            return ResolvedModel(model, version, self.versions[model, version])

    def preflight(self, request: EndpointRequest) -> tuple[Finding, ...]:
        with self._called("preflight"):
            return self.findings

    def reach(self, request: EndpointRequest, *, change: bool) -> Reached:
        with self._called("change" if change else "look"):
            plan = request.plan
            endpoint = self.endpoints_by_name.get(plan.endpoint)
            self._settle(endpoint)
            seen = self._seen(plan, endpoint)
            differences, act = self._next(plan, endpoint)
            sent = None
            if change and act is not None:
                sent = act()
                made = self.endpoints_by_name.get(plan.endpoint)
                shares = {each.version: each.traffic for each in made.served.values()} if made is not None else {}
                self.trail.append((sent, shares))
            return Reached(plan_digest(plan), seen, differences, sent, self.clock())

    def score(self, endpoint: str, served: str | None, rows: list[Mapping[str, Any]], *, seconds: float) -> Scored:
        with self._called("score"):
            assert served is not None
            there = self.endpoints_by_name[endpoint].served.get(served)
            if there is None or there.state != "Ready":
                return Scored(404, 0.01, None, "no such model")
            return self.answers(there.version, rows)

    def measured(self, endpoint: str, served: str, since: datetime, percentile: int) -> Measured:
        with self._called("measured"):
            return self.measures

    def logs(self, endpoint: str, served: str) -> str:
        with self._called("logs"):
            version = self.endpoints_by_name[endpoint].served[served].version
            return f"Traceback of {version}: Bearer eyJhbGciOi.eyJzdWIiOi.x"

    def delete(self, endpoint: str, uid: str) -> bool:
        with self._called("delete"):
            found = self.endpoints_by_name.get(endpoint)
            if found is None or found.uid != uid:
                return False
            del self.endpoints_by_name[endpoint]
            return True

    def exists(self, endpoint: str, uid: str | None) -> bool:
        with self._called("exists"):
            found = self.endpoints_by_name.get(endpoint)
            return found is not None and uid in (None, found.uid)

    # What the tests look at.

    def shares(self, endpoint: str) -> dict[str, int]:
        """Percent of the requests by version."""
        with self._lock:
            return {each.version: each.traffic for each in self.endpoints_by_name[endpoint].served.values()}

    def _called(self, name: str) -> threading.Lock:
        self.calls.append(name)
        if name in self.errors:
            raise self.errors[name]
        return self._lock

    def _settle(self, endpoint: Endpoint | None) -> None:
        """What was asked for before is done by the next look."""
        if endpoint is None or self.frozen:
            return
        for each in endpoint.served.values():
            if each.state == "Creating":
                each.state = "Failed" if each.version in self.broken else "Ready"

    def _seen(self, plan: EndpointPlan, endpoint: Endpoint | None) -> RemoteEndpoint | None:
        if endpoint is None:
            return None
        served = tuple(
            RemoteServed(name, each.state, each.traffic if each.state == "Ready" else 0, each.model, each.version)  # type: ignore[arg-type]
            for name, each in endpoint.served.items()
        )
        return RemoteEndpoint(
            name=plan.endpoint,
            ours=endpoint.uid == plan.owner.uid,
            busy=False,
            state="READY",
            served=served,
            url=f"https://fake.example/{plan.endpoint}",
            creator="app-id",
        )

    def _next(self, plan: EndpointPlan, endpoint: Endpoint | None) -> tuple[tuple[str, ...], Callable[[], str] | None]:
        """What the plan lacks, and the next change."""
        if endpoint is None:
            return (("the endpoint is not there",), lambda: self._create(plan)) if plan.served else ((), None)
        if endpoint.uid != plan.owner.uid and not plan.adopt:
            return ("the endpoint is not ours",), None
        missing = [each for each in plan.served if each.served not in endpoint.served]
        wanted = {each.served for each in plan.served}
        extra = [name for name in endpoint.served if name not in wanted]
        idle = [name for name, each in endpoint.served.items() if name in wanted and each.state != "Ready"]
        shares = {name: each.traffic for name, each in endpoint.served.items() if each.traffic}
        planned = {name: share for name, share in plan.traffic.items() if share}
        differences = [
            *(f"{each.served} is not there" for each in missing),
            *(f"{name} is there" for name in extra),
            *(f"{name} is not ready" for name in idle),
            *([f"shares are {shares}, not {planned}"] if shares != planned else []),
            *([f"tags are {endpoint.tags}"] if endpoint.tags != dict(plan.tags) else []),
        ]
        if endpoint.uid != plan.owner.uid:
            return (*differences, "it has to be taken over"), lambda: self._adopt(plan, endpoint)
        if missing:
            return tuple(differences), lambda: self._add(plan, endpoint)
        if shares != planned and not any(name in idle for name in planned):
            return tuple(differences), lambda: self._share(endpoint, planned)
        if extra and not any(name in shares for name in extra):
            return tuple(differences), lambda: self._remove(endpoint, extra)
        if endpoint.tags != dict(plan.tags):
            return tuple(differences), lambda: self._tag(endpoint, plan)
        return tuple(differences), None

    def _create(self, plan: EndpointPlan) -> str:
        made = Endpoint(plan.owner.uid, dict(plan.tags))
        self.endpoints_by_name[plan.endpoint] = made
        for each in plan.served:
            made.served[each.served] = Served(each.model, each.version, traffic=plan.traffic.get(each.served, 0))
        return "create"

    def _adopt(self, plan: EndpointPlan, endpoint: Endpoint) -> str:
        endpoint.uid = plan.owner.uid
        return "adopt"

    def _add(self, plan: EndpointPlan, endpoint: Endpoint) -> str:
        for each in plan.served:
            endpoint.served.setdefault(each.served, Served(each.model, each.version))
        return "add"

    def _share(self, endpoint: Endpoint, planned: Mapping[str, int]) -> str:
        for name, each in endpoint.served.items():
            each.traffic = planned.get(name, 0)
        return "share"

    def _remove(self, endpoint: Endpoint, names: list[str]) -> str:
        for name in names:
            del endpoint.served[name]
        return "remove"

    def _tag(self, endpoint: Endpoint, plan: EndpointPlan) -> str:
        endpoint.tags = dict(plan.tags)
        return "tag"
