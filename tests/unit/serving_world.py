"""Two platforms and a controller in a few lines, to drive `decide_deployment` through anything that can happen.

`Apart` is Azure ML's way: a deployment for each served model, made and removed one by one, and a map of shares.
`AsOne` is Databricks': one configuration that replaces another as a whole, or not at all. Both take one change at a
time and fail a test that hands requests to what is not ready. The controller does what controllers/deployments.py does:
decide, write, act, remember; it may crash, lose answers and lose its memory at any point.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from trainyard.api.deployment_status import CheckResult, Serving
from trainyard.api.model_deployment import ModelDeploymentSpec, ModelDeploymentStatus
from trainyard.core.remote import Trouble
from trainyard.core.serving.actions import (
    AddFinalizer,
    AskChecks,
    DeleteEndpoint,
    FetchLogs,
    FindEndpoint,
    Reach,
    RemoveFinalizer,
    ServingAction,
    ServingDecision,
)
from trainyard.core.serving.decide import decide_deployment
from trainyard.core.serving.plan import EndpointPlan
from trainyard.core.serving.plans import plan_digest
from trainyard.core.serving.revisions import to_resolve
from trainyard.core.serving.seen import (
    Checked,
    Reached,
    RemoteEndpoint,
    RemoteServed,
    ResolvedModel,
    ServedState,
    ServingObserved,
)
from trainyard.core.serving.snapshot import DeploymentKnown, DeploymentSnapshot, ServingLimits, ServingReady
from trainyard.core.snapshot import Blocked, Target

How = Literal["answered", "answer lost", "never arrived", "crashed after", "denied"]
START = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)
TARGET = Target("azureml", "https://region.example", "app-id", "federated", "server")
UID = "5b3c"
# Versions whose server never starts, starts too late, or answers nonsense. All others serve.
BROKEN, SLOW, WRONG = "66", "77", "88"
RESTING = frozenset({"Ready", "RolledBack", "Drifted", "Stalled"})
TAKES = 25.0  # seconds of a change
GIVES_UP = 900.0  # seconds until a configuration whose server does not start is given up


class RefusedError(Exception):
    """The platform's no, with its reason."""


@dataclass
class Box:
    """One served model on the platform."""

    serving: Serving
    ready_at: datetime
    state: ServedState = "Creating"


@dataclass
class Settings:
    """What of a plan is not about models."""

    auth: str = "Token"
    tags: Mapping[str, str] = field(default_factory=dict)
    permissions: tuple[str, ...] = ()

    @staticmethod
    def of(plan: EndpointPlan) -> "Settings":
        return Settings(plan.auth, dict(plan.tags), tuple(str(each.wire()) for each in plan.permissions))


def config_of(each: Serving) -> dict[str, Any]:
    return each.model_dump(exclude={"origin", "source", "traffic", "name"})


@dataclass
class Apart:
    """An endpoint with deployments that come and go one by one. None of it is there until `there`."""

    now: datetime = START
    there: bool = False
    uid: str = ""
    busy_until: datetime = START
    settings: Settings = field(default_factory=Settings)
    boxes: dict[str, Box] = field(default_factory=dict)
    traffic: dict[str, int] = field(default_factory=dict)
    failed: str = ""
    changes: list[str] = field(default_factory=list)

    def at(self, now: datetime) -> None:
        """Lets what was begun go on until then."""
        self.now = now
        for box in self.boxes.values():
            if box.state in ("Creating", "Updating") and box.serving.version != SLOW and now >= box.ready_at:
                box.state = "Failed" if box.serving.version == BROKEN else "Ready"

    @property
    def busy(self) -> bool:
        return self.now < self.busy_until

    def endpoint(self, uid: str) -> RemoteEndpoint | None:
        if not self.there:
            return None
        served = tuple(
            RemoteServed(name, box.state, self.traffic.get(name, 0), box.serving.model, box.serving.version)
            for name, box in sorted(self.boxes.items())
        )
        state = "Updating" if self.busy else "Succeeded"
        return RemoteEndpoint(
            "endpoint", self.uid == uid, self.busy, state, served, url="https://e", failed=self.failed
        )

    def differences(self, plan: EndpointPlan) -> tuple[str, ...]:
        if not self.there:
            return () if not plan.served else ("it is not there",)
        lacks = [] if self.uid == plan.owner.uid else ["its tags are another's"]
        lacks += [] if self.settings == Settings.of(plan) or not plan.served else ["settings"]
        wanted = {each.served: each for each in plan.served}
        lacks += [f"{name} is not there" for name in wanted if name not in self.boxes]
        lacks += [f"{name} is there" for name in self.boxes if name not in wanted]
        for name in wanted.keys() & self.boxes.keys():
            box = self.boxes[name]
            lacks += [] if box.state == "Ready" else [f"{name} is {box.state}"]
            lacks += [] if config_of(box.serving) == config_of(wanted[name]) else [f"{name} is made otherwise"]
        for name in {*plan.traffic, *self.traffic}:
            if plan.traffic.get(name, 0) != self.traffic.get(name, 0):
                lacks.append(f"{name} has {self.traffic.get(name, 0)}%")
        return tuple(lacks)

    def reach(self, plan: EndpointPlan, *, change: bool) -> Reached:
        """Sees, and does the one next thing."""
        assert not plan.traffic or sum(plan.traffic.values()) == 100, plan.traffic
        assert all(name in {each.served for each in plan.served} for name in plan.traffic), plan
        seen, lacks = self.endpoint(plan.owner.uid), self.differences(plan)
        sent = None
        if change and lacks and (not self.busy or self.may_end(plan)):
            if seen is not None and not seen.ours and not plan.adopt:
                raise RefusedError("EndpointNameTaken")
            sent = self.next(plan)
            if sent is not None:
                self.changes.append(sent)
        return Reached(plan_digest(plan), seen, lacks, sent, self.now)

    def may_end(self, plan: EndpointPlan) -> bool:
        """Whether it takes that even while it is busy."""
        return False

    def next(self, plan: EndpointPlan) -> str | None:
        wanted = {each.served: each for each in plan.served}
        if not self.there or self.uid != plan.owner.uid:
            self.there, self.uid = True, plan.owner.uid
            return self.begin("make the endpoint its own")
        if plan.served and self.settings != Settings.of(plan):
            self.settings = Settings.of(plan)
            return self.begin("settings")
        for name, each in wanted.items():
            if name not in self.boxes:
                self.boxes[name] = Box(each, self.now + timedelta(seconds=TAKES))
                return self.begin(f"create {name}")
            box = self.boxes[name]
            if box.state == "Ready" and config_of(box.serving) != config_of(each):
                box.serving, box.state, box.ready_at = each, "Updating", self.now + timedelta(seconds=TAKES)
                return self.begin(f"update {name}")
        shares = {name: share for name, share in plan.traffic.items() if share}
        may = all(self.boxes[name].state in ("Ready", "Updating") for name in shares)
        if may and shares != self.traffic:
            self.give(shares)
            return self.begin(f"traffic {shares}")
        for name in sorted(self.boxes):
            if name not in wanted and not self.traffic.get(name):
                del self.boxes[name]
                return self.begin(f"delete {name}")
        return None

    def begin(self, what: str) -> str:
        self.busy_until = self.now + timedelta(seconds=TAKES)
        return what

    def give(self, shares: Mapping[str, int]) -> None:
        """Requests go to what can answer, or the test fails."""
        assert all(self.boxes[name].state in ("Ready", "Updating") for name in shares), (shares, self.boxes)
        self.traffic = dict(shares)

    def looks(self) -> tuple[object, ...]:
        """Everything that can be seen of it."""
        boxes = {name: (config_of(box.serving), box.state) for name, box in self.boxes.items()}
        return (self.there, self.uid, self.settings, boxes, self.traffic)

    def log(self, name: str) -> str:
        """What its server printed: gone with it."""
        return f"what {name} printed" if name in self.boxes else ""

    def delete(self, uid: str) -> bool:
        """Whether there is something left to wait for."""
        if not self.there or self.uid != uid:
            return False
        self.there, self.boxes, self.traffic, self.settings, self.failed = False, {}, {}, Settings(), ""
        return True


@dataclass
class AsOne(Apart):
    """An endpoint with one configuration, and one more that is to replace it when all of it is ready."""

    pending: dict[str, Box] | None = None
    pending_traffic: dict[str, int] = field(default_factory=dict)

    def at(self, now: datetime) -> None:
        super().at(now)
        if self.pending is None or self.failed:
            return
        for box in self.pending.values():
            slow = box.serving.version == SLOW
            if box.state == "Creating" and now >= box.ready_at + timedelta(seconds=GIVES_UP if slow else 0):
                box.state = "Failed" if slow or box.serving.version == BROKEN else "Ready"
        if any(box.state == "Failed" for box in self.pending.values()):
            self.failed = "the update failed: the server of a model did not start"
        elif all(box.state == "Ready" for box in self.pending.values()):
            self.boxes, self.pending = self.pending, None
            self.give(self.pending_traffic)

    @property
    def busy(self) -> bool:
        return self.now < self.busy_until or (self.pending is not None and not self.failed)

    def endpoint(self, uid: str) -> RemoteEndpoint | None:
        seen = super().endpoint(uid)
        if seen is None or self.pending is None:
            return seen
        names = {each.served for each in seen.served}
        coming = [
            RemoteServed(name, box.state, 0, box.serving.model, box.serving.version)
            for name, box in self.pending.items()
            if name not in names
        ]
        return replace(seen, served=(*seen.served, *coming))

    def may_end(self, plan: EndpointPlan) -> bool:
        return not plan.served  # a deletion

    def next(self, plan: EndpointPlan) -> str | None:
        if not plan.served:
            self.delete(plan.owner.uid)
            return "delete the endpoint"
        if not self.there or self.uid != plan.owner.uid or self.settings != Settings.of(plan):
            self.there, self.uid, self.settings = True, plan.owner.uid, Settings.of(plan)
            return self.begin("make the endpoint its own")
        shares = {name: share for name, share in plan.traffic.items() if share}
        wanted = {each.served: config_of(each) for each in plan.served}
        coming = {name: config_of(box.serving) for name, box in (self.pending or {}).items()}
        if self.failed and coming == wanted and self.pending_traffic == shares:
            return None  # it would only fail again
        active = {name: config_of(box.serving) for name, box in self.boxes.items()}
        if active == wanted and shares == self.traffic:
            return None
        later = self.now + timedelta(seconds=TAKES)
        self.pending, self.pending_traffic, self.failed = {}, shares, ""
        for each in plan.served:
            same = self.boxes.get(each.served)
            kept = same is not None and same.state == "Ready" and config_of(same.serving) == config_of(each)
            self.pending[each.served] = Box(each, later, "Ready" if kept else "Creating")
        return f"configuration {shares}"

    def log(self, name: str) -> str:
        return f"what {name} printed" if name in {**self.boxes, **(self.pending or {})} else ""

    def delete(self, uid: str) -> bool:
        self.pending, self.pending_traffic = None, {}
        return super().delete(uid)


def spec(**changes: Any) -> dict[str, Any]:
    return {"workspaceRef": {"name": "w"}, "models": [model()], **changes}


def model(name: str = "champion", version: str = "1", **changes: Any) -> dict[str, Any]:
    if "alias" not in changes and "fromRun" not in changes:
        changes["version"] = version
    source = {key: changes.pop(key) for key in ("version", "alias", "followAlias", "fromRun") if key in changes}
    if "fromRun" not in source:
        source["name"] = "wine"
    return {"name": name, "model": source, "compute": {"class": "small"}, **changes}


class World:
    """One ModelDeployment, one platform, one controller."""

    def __init__(self, platform: type[Apart] = Apart, **changes: Any) -> None:
        self.wire = spec(**changes)
        self.status = ModelDeploymentStatus()
        self.observed = ServingObserved()
        self.platform = platform()
        self.now = START
        self.generation = 1
        self.finalizer = False
        self.deleting: datetime | None = None
        self.unreadable = ""
        self.blocked: Blocked | None = None
        self.aliases = {"champion": "1"}
        self.runs: dict[str, str] = {}
        self.target = TARGET
        self.limits = ServingLimits(ready_within=400.0)
        self.exists = True
        self.metrics: dict[str, Literal["Passed", "Failed", "Waiting"]] = {}  # of the check Bounds, by version
        self.answering: dict[str, Literal["Passed", "Failed", "Waiting"]] = {}  # of the check Answers, by version
        self.asked: list[tuple[datetime, AskChecks]] = []
        self.notes: list[tuple[str, str]] = []
        self.last: ServingDecision | None = None
        self.failures = 0

    # What is looked at.

    @property
    def reason(self) -> str:
        condition = self.status.condition("Ready")
        assert condition is not None
        return condition.reason

    @property
    def message(self) -> str:
        condition = self.status.condition("Ready")
        assert condition is not None
        return condition.message

    def true(self) -> set[str]:
        """The conditions that hold."""
        return {each.type for each in self.status.conditions if each.status == "True"}

    # What the controller does.

    def ready(self) -> ServingReady | Blocked:
        if self.blocked is not None or self.unreadable:
            return self.blocked or Blocked("NotNeeded", "", waiting=True)
        found = {}
        for each in to_resolve(ModelDeploymentSpec.model_validate(self.wire), self.status):
            source = each.model
            version = source.version
            if source.from_run is not None:
                version = self.runs.get(source.from_run.name)
                if version is None:
                    return Blocked("RunNotFound", f"there is no MLTrainingRun {source.from_run.name}", waiting=True)
            elif source.alias is not None:
                version = self.aliases.get(source.alias)
                if version is None:
                    return Blocked("AliasNotFound", f"there is no alias {source.alias}", waiting=True)
            found[each.name] = ResolvedModel("ml.wine", version or "")
        return ServingReady(self.target, "endpoint", found, "cluster")

    def known(self) -> DeploymentKnown:
        if self.deleting is not None and self.observed.deletion_seen_at is None:
            self.observed = replace(self.observed, deletion_seen_at=self.now)
        snapshot = DeploymentSnapshot(
            namespace="team",
            name="wine",
            uid=UID,
            generation=self.generation,
            created_at=START,
            deleting_since=self.deleting,
            has_finalizer=self.finalizer,
            spec=None if self.unreadable else ModelDeploymentSpec.model_validate(self.wire),
            spec_error=self.unreadable,
            status=self.status,
            orphan=self.wire.get("deletionPolicy") == "Orphan",
        )
        return DeploymentKnown(snapshot, self.ready(), self.observed, self.limits, self.now)

    def step(self, how: How = "answered") -> ServingDecision:
        """One decision with its action."""
        self.platform.at(self.now)
        decision = self.last = decide_deployment(self.known())
        self.notes += [(note.reason, note.message) for note in decision.notes]
        wrote = decision.status != self.status
        self.status = ModelDeploymentStatus.model_validate(decision.status.wire())  # as the API server gives it back
        match decision.action:
            case AddFinalizer():
                self.finalizer = True
            case RemoveFinalizer():
                self.finalizer = False
            case None:
                assert wrote or decision.wake_at is not None or self.over, decision
            case _:
                self._ask(decision.action, how)
        if self.deleting is not None and not self.finalizer:
            self.exists = False
        return decision

    @property
    def over(self) -> bool:
        """Whether nothing but a person leads further."""
        return self.status.phase == "Expired" or (self.deleting is not None and not self.finalizer)

    def restart(self) -> None:
        """Everything that is only in memory is lost."""
        self.observed, self.failures = ServingObserved(), 0

    def edit(self, **changes: Any) -> "World":
        self.wire = {key: value for key, value in (self.wire | changes).items() if value is not None}
        self.generation += 1
        return self

    def _ask(self, action: ServingAction, how: How) -> None:
        if isinstance(action, Reach):
            self.observed = replace(self.observed, asked=plan_digest(action.plan))
        if how in ("never arrived", "denied"):
            kind = "Denied" if how == "denied" else "Unreachable"
            return self.trouble(kind, "PermissionDenied" if how == "denied" else "PlatformUnreachable", action)
        try:
            learned = self._effect(action)
        except RefusedError as no:
            return self.trouble("Refused", str(no), action)
        if how == "answer lost":
            return self.trouble("Unreachable", "PlatformUnreachable", action)
        if how == "crashed after":
            return self.restart()
        before = self.observed.trouble
        # That the endpoint can be looked at does not end the trouble of its checks.
        kept = before if before is not None and isinstance(action, Reach) and before.action == "AskChecks" else None
        self.failures = self.failures if kept is not None else 0
        self.observed = replace(self.observed, **learned, trouble=kept)
        return None

    def trouble(self, kind: str, reason: str, action: ServingAction) -> None:
        before = self.observed.trouble
        pause = min(60.0, 2.0 ** min(self.failures, 6))
        self.failures += 1
        since = before.since if before is not None else self.now
        retry_at = self.now + timedelta(seconds=pause)
        named = type(action).__name__
        trouble = Trouble(kind, reason, "no answer", since, retry_at, action=named)
        self.observed = replace(self.observed, trouble=trouble)

    def _effect(self, action: ServingAction) -> dict[str, Any]:
        match action:
            case Reach():
                reached = self.platform.reach(action.plan, change=action.change)
                return {
                    "reached": reached,
                    "deleted_at": None,
                    "looked_at": None,
                    "gone": False,
                    "left": False,
                    "logs": {},
                }
            case AskChecks():
                results = [result for each in action.served for result in self._check(each, action)]
                return {"checked": Checked(action.moment, tuple(results), self.now)}
            case FetchLogs():
                return {"logs": {name: self.platform.log(name) for name in action.served}}
            case DeleteEndpoint():
                found = self.platform.delete(UID)
                return {"deleted_at": self.now, "looked_at": self.now, "gone": not found, "left": self._anothers()}
            case FindEndpoint():
                ours = self.platform.there and self.platform.uid == UID
                return {"looked_at": self.now, "gone": not ours, "left": self._anothers()}
            case _:
                raise AssertionError(action)

    def _anothers(self) -> bool:
        return self.platform.there and self.platform.uid != UID

    def _check(self, each: Serving, action: AskChecks) -> list[CheckResult]:
        state = next((box.state for name, box in self.platform.boxes.items() if name == each.served), None)
        self.asked.append((self.now, action))
        answers = self.answering.get(each.version, "Passed" if state in ("Ready", "Updating") else "Waiting")
        found = [CheckResult(check="Answers", served=each.served, outcome=answers, message="it answers")]
        if action.checks.smoke is not None:
            wrong = each.version == WRONG
            found.append(
                CheckResult(check="Smoke", served=each.served, outcome="Failed" if wrong else "Passed", message="0.7")
            )
        if action.checks.bounds is not None:
            outcome = self.metrics.get(each.version, "Passed")
            measured = f"{len(self.asked)} of 100 requests measured"
            found.append(CheckResult(check="Bounds", served=each.served, outcome=outcome, message=measured))
        return found

    def settle(self, rounds: int = 2000, *, until: str = "") -> "World":
        """Lets time pass until the deployment rests, or is in that phase. Raises AssertionError when it never does."""
        at_once = 0
        for _ in range(rounds):
            before, then = self.status, self.now
            decision = self.step()
            if until and self.status.phase == until:
                return self
            if not self.exists:
                return self
            waits = decision.action is None and self.status == before
            at_once = 0 if waits else at_once + 1
            assert at_once < 100, f"no pause: {decision}"
            if not waits:
                continue
            if not until and self.rests(decision):
                return self
            self.now = max(decision.wake_at or self.now, self.now + timedelta(milliseconds=1))
            assert self.now > then
        raise AssertionError(f"no end after {rounds} rounds: {self.status.phase}, {self.reason}, {self.last}")

    def rests(self, decision: ServingDecision) -> bool:
        """Whether it says that it is done, having looked at what is there now."""
        if self.status.phase == "Expired":
            return True
        if self.status.phase not in RESTING or self.status.rollout is not None or self.platform.busy:
            return False
        if decision.rule == "keep" and self.status.last_good is None:
            return True
        reached = self.observed.reached
        return reached is not None and reached.at == self.now and self.observed.trouble is None

    def later(self, seconds: float) -> "World":
        self.now += timedelta(seconds=seconds)
        return self

    def calm(self) -> None:
        """From here on everything works, and nobody works past the spec; what they did is to be taken back."""
        self.blocked, self.unreadable = None, ""
        self.aliases.setdefault("champion", "1")
        self.runs.setdefault("churn-42", "2")
        self.metrics.clear()
        if self.platform.there:
            self.platform.uid = UID
        for box in self.platform.boxes.values():
            box.state = "Ready" if box.state == "Failed" and box.serving.version != BROKEN else box.state
        changes: dict[str, Any] = {"driftPolicy": "Revert"}
        if self.wire.get("rollout", {}).get("promotion") == "Manual":
            changes["rollout"] = {**self.wire["rollout"], "promotion": "Automatic"}
        self.edit(**changes)

    def after(self, seconds: float) -> "World":
        """Lets that time pass, awake whenever it is asked for."""
        end = self.now + timedelta(seconds=seconds)
        for _ in range(10_000):
            before = self.status
            decision = self.step()
            if not self.exists:
                return self
            if decision.action is None and self.status == before:
                wake = decision.wake_at
                if wake is None or wake >= end:
                    self.now = end
                    return self
                self.now = max(wake, self.now + timedelta(milliseconds=1))
        raise AssertionError(f"no pause: {self.last}")
