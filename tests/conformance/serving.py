"""The list of deployments, what is done to each, and what has to become of it, whatever the platform.

Read by test_serving.py, which plays all of them at once on each platform.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from stand import Process, Stand
from tests.conformance.history import History
from tests.e2e.deployments import Deployment, Setting, canary
from tests.e2e.scene import Scene
from tests.platforms.manifests import served_from
from tests.platforms.models import ROW

# May be over before anybody looks.
PASSED = ("Pending", "Deploying", "RollingBack", "Deleting")
BECAME = "Pending? Deploying Ready"
SMOKE = {"smoke": {"rows": [ROW], "expect": {"type": "Number"}}}
LONGEST = 240.0
Step = Callable[[Setting, Deployment], None]


@dataclass(frozen=True)
class ServedCase:
    """A deployment of version 1, unless `serves` says otherwise, and what is done to it then.

    `phases` in order; one with a question mark may be missed. `shares` are what answers in the end, by version.
    """

    name: str
    phases: str
    reason: str
    shares: Mapping[str, int]
    outcomes: tuple[str, ...]
    spec: Mapping[str, Any] = field(default_factory=dict)
    kinds: tuple[str, ...] = ("answers", "answers")
    serves: Callable[[Setting], dict[str, Any]] = lambda setting: setting.served("1")
    then: Step | None = None
    failure: str | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def last(self) -> str:
        """The last of the phases."""
        return self.phases.split()[-1]


@dataclass(frozen=True)
class ServedObservation:
    """One deployment at its end. Nothing in it names the platform, a namespace, an id or a time."""

    phases: tuple[str, ...]
    reason: str
    conditions: Mapping[str, str]
    available: str
    shares: Mapping[str, int]
    versions: tuple[str, ...]
    outcomes: tuple[str, ...]
    failure: str | None
    events: tuple[str, ...]
    models: tuple[tuple[Any, ...], ...]

    def compared(self) -> dict[str, Any]:
        """What is compared: not the phases that may be passed through unseen."""
        return asdict(self) | {"phases": tuple(phase for phase in self.phases if phase not in PASSED)}


def play(case: ServedCase, platform: str, stand: Stand, operator: Process, history: History) -> ServedObservation:
    """The case from an empty namespace to its end.

    Raises:
        AssertionError: it did not get there; with the last status and the operator's last words.
    """
    scene = Scene(stand, operator, f"served-{platform}").on(platform)
    team = scene.team()
    scene.workspace(team.namespace, "IdentityWorks", seconds=LONGEST)
    setting = Setting(scene, team)
    for number, kind in enumerate(case.kinds, start=1):
        setting.publish(number, kind)  # type: ignore[arg-type]
    dep = setting.deploy(case.serves(setting), **case.spec)
    if case.then is not None:
        dep.until("Ready", seconds=LONGEST)
        case.then(setting, dep)
    dep.until(case.last, seconds=LONGEST)
    dep.because(case.reason, seconds=LONGEST)
    return observe(dep, history)


def observe(dep: Deployment, history: History) -> ServedObservation:
    """The deployment as it is now, with its whole history."""
    now = dep.now()
    versions = history.of(dep.namespace, dep.name, now["metadata"]["resourceVersion"])
    statuses = [version["status"] for version in versions if version.get("status")]
    status = statuses[-1]
    book = dep.driver.book(dep.endpoint) if "endpoint" in status else None
    conditions = {each["type"]: each["status"] for each in status["conditions"]}
    reasons = {each["type"]: each["reason"] for each in status["conditions"]}
    return ServedObservation(
        phases=tuple(phase for phase, _ in itertools.groupby(s["phase"] for s in statuses if "phase" in s)),
        reason=reasons["Ready"],
        conditions=conditions,
        available=reasons.get("Available", ""),
        shares=book.shares if book else {},
        versions=tuple(sorted(book.versions)) if book else (),
        outcomes=tuple(each["outcome"] for each in status.get("revisions", [])),
        failure=(status.get("failure") or {}).get("reason"),
        events=tuple(sorted(set(dep.events()))),
        models=tuple(
            (each["name"], each.get("version"), each["state"], each["desiredTraffic"], each["servedTraffic"])
            for each in status.get("servedModels", [])
        ),
    )


def second(setting: Setting, dep: Deployment) -> None:
    """Version 2 instead."""
    dep.serve(setting.served("2"))


def second_promoted(setting: Setting, dep: Deployment) -> None:
    """Version 2 instead, promoted by a person."""
    second(setting, dep)
    dep.until("AwaitingPromotion", seconds=LONGEST)
    dep.change(promote=2)
    dep.comes_to("Ready", LONGEST)


def there_and_back(setting: Setting, dep: Deployment) -> None:
    """Version 2, and in the middle of its canary version 1 again."""
    second(setting, dep)
    dep.at_step(1, LONGEST)
    dep.serve(setting.served("1"))
    dep.wait("to go back", lambda now: not now["status"].get("rollout"), LONGEST)


def tagged(setting: Setting, dep: Deployment) -> None:
    """Another tag."""
    dep.change(tags={"team": "wine"})


def deleted_by_somebody(setting: Setting, dep: Deployment) -> None:
    """Somebody deletes the endpoint."""
    setting.driver.remove(dep.endpoint)


def expired(setting: Setting, dep: Deployment) -> None:
    """Its time is over."""
    dep.change(expiresAfterSeconds=1)


DEPLOYMENTS = (
    ServedCase("a first version", BECAME, "Serving", {"1": 100}, ("Served",)),
    ServedCase(
        "a canary",
        f"{BECAME} RollingOut Ready",
        "Serving",
        {"2": 100},
        ("Served", "Served"),
        {"rollout": canary(30, 60)},
        then=second,
    ),
    ServedCase(
        "all at once",
        f"{BECAME} RollingOut Ready",
        "Serving",
        {"2": 100},
        ("Served", "Served"),
        then=second,
    ),
    ServedCase(
        "promoted by a person",
        f"{BECAME} RollingOut AwaitingPromotion RollingOut Ready",
        "Serving",
        {"2": 100},
        ("Served", "Served"),
        {"rollout": canary(30, promotion="Manual")},
        then=second_promoted,
    ),
    ServedCase(
        "a version that can not be loaded",
        f"{BECAME} RollingOut RollingBack? RolledBack",
        "ServedModelFailed",
        {"1": 100},
        ("Served", "RolledBack"),
        kinds=("answers", "broken"),
        then=second,
        failure="ServedModelFailed",
    ),
    ServedCase(
        "a version that answers wrongly",
        f"{BECAME} RollingOut RollingBack? RolledBack",
        "SmokeCheckFailed",
        {"1": 100},
        ("Served", "RolledBack"),
        {"rollout": canary(30, checks=SMOKE)},
        kinds=("answers", "nonsense"),
        then=second,
        failure="SmokeCheckFailed",
    ),
    ServedCase(
        "a first version that can not be loaded",
        "Pending? Deploying RollingBack? Stalled",
        "DeploymentFailed",
        {},
        ("Failed",),
        kinds=("broken",),
        failure="ServedModelFailed",
    ),
    ServedCase(
        "there and back",
        f"{BECAME} RollingOut RollingBack? Ready",
        "Serving",
        {"1": 100},
        ("Served", "Superseded", "Served"),
        {"rollout": canary(30, hold=60)},
        then=there_and_back,
    ),
    ServedCase("a tag", f"{BECAME} Deploying? RollingOut? Ready", "Serving", {"1": 100}, ("Served",), then=tagged),
    ServedCase(
        "an endpoint that somebody deleted",
        f"{BECAME} Drifted",
        "EndpointMissing",
        {},
        ("Served",),
        then=deleted_by_somebody,
    ),
    ServedCase("one that expires", f"{BECAME} Deleting? Expired", "Expired", {}, ("Served",), then=expired),
    ServedCase(
        "a version that is not there",
        "Pending",
        "ModelNotRegistered",
        {},
        (),
        serves=lambda setting: setting.served("9"),
    ),
    ServedCase(
        "a run that is not there",
        "Pending",
        "RunNotFound",
        {},
        (),
        serves=lambda _: served_from({"fromRun": {"name": "nobody"}}),
    ),
    ServedCase(
        "a class that is not there",
        "Pending? Stalled",
        "ComputeClassUnknown",
        {},
        (),
        serves=lambda setting: setting.served("1", compute={"class": "huge"}),
    ),
)
