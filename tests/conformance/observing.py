"""What became of a manifest on a platform, told in words that hold on each: what two platforms are compared by."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tests.conformance.history import History
from tests.e2e.scene import Run, Scene


@dataclass(frozen=True)
class Observation:
    """One run at its end. Nothing in it names the platform, a namespace, an id or a time.

    `phases` are all that its status ever said, each once in a row. `attempts` are their reasons, `results` how the
    remote runs ended (None: still active). `model` is short name, version and alias; `log` is what the code said
    (`says: `). `left` says whether the resource is still there; where it is not, the status is the last that it had.
    """

    phases: tuple[str, ...]
    reason: str
    conditions: Mapping[str, str]
    attempts: tuple[str | None, ...]
    adopted: tuple[bool, ...]
    retries: int
    results: tuple[str | None, ...]
    paid: int
    events: tuple[str, ...]
    metrics: Mapping[str, str]
    params: Mapping[str, str]
    model: tuple[str, str, str | None] | None
    outputs: tuple[str, ...]
    log: tuple[str, ...]
    planned: bool
    left: bool

    def compared(self, passed: Iterable[str], differs: Iterable[str]) -> dict[str, Any]:
        """What is compared: not the phases that a run may pass through unseen, nor the fields that may differ."""
        unseen, told = set(passed), asdict(self)
        told["phases"] = tuple(phase for phase in self.phases if phase not in unseen)
        return {field: value for field, value in told.items() if field not in set(differs)}


@dataclass(frozen=True)
class Observed:
    """An observation, and what the run said for people."""

    what: Observation
    messages: tuple[str, ...]


def observe(scene: Scene, run: Run, history: History) -> Observed:
    """The run as it is now, with its whole history."""
    now = run.now()
    versions = history.of(run.namespace, run.name, now["metadata"]["resourceVersion"] if now else None)
    statuses = [version["status"] for version in versions if version.get("status")]
    status = statuses[-1] if statuses else {}
    attempts = status.get("attempts", [])
    remotes = run.remote()
    what = Observation(
        phases=tuple(phase for phase, _ in itertools.groupby(s["phase"] for s in statuses if "phase" in s)),
        reason=_ready(status).get("reason", ""),
        conditions={c["type"]: c["status"] for c in status.get("conditions", [])},
        attempts=tuple(attempt.get("reason") for attempt in attempts),
        adopted=tuple(bool(attempt.get("adopted")) for attempt in attempts),
        retries=status.get("retries", 0),
        results=tuple(remote.result for remote in remotes),
        paid=sum(remote.paid for remote in remotes),
        events=tuple(run.events()),
        metrics=status.get("metrics", {}),
        params=status.get("params", {}),
        model=_model(scene, status),
        outputs=tuple(sorted(status.get("outputs", {}))),
        log=_printed(scene, run),
        planned="plan" in status,
        left=bool(now),
    )
    messages = [_ready(s).get("message", "") for s in statuses]
    return Observed(what, tuple(message for message, _ in itertools.groupby(messages)))


def _ready(status: Mapping[str, Any]) -> dict[str, Any]:
    return next((dict(c) for c in status.get("conditions", []) if c["type"] == "Ready"), {})


def _model(scene: Scene, status: Mapping[str, Any]) -> tuple[str, str, str | None] | None:
    model = status.get("model")
    if model is None:
        return None
    before = scene.platform.model_name("")
    assert model["name"].startswith(before)
    assert model["uri"] == f"models:/{model['name']}/{model['version']}"
    return model["name"].removeprefix(before), model["version"], model.get("alias")


def _printed(scene: Scene, run: Run) -> tuple[str, ...]:
    """Lines of the kept logs that the code marked as its own (programs.py)."""
    path = f"/apis/trainyard.dev/v1alpha1/namespaces/{run.namespace}/mlrunlogs"
    texts = [
        log.get("text") or "" for kept in scene.cluster.call("GET", path)["items"] for log in kept["spec"]["tasks"]
    ]
    return tuple(line for text in texts for line in text.splitlines() if line.startswith("says: "))
