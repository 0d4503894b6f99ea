"""What happens to one run in one namespace, and what the world is afterwards, told without times and ids.

Used by the crash tests. A journey is an iterator that does the next thing when what came before has happened, whichever
operator was there to see to it.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from stand import wait_for
from tests.crash.sides import SIDES
from tests.crash.stage import POLL_SECONDS, Stage
from tests.platforms.base import Pretence
from tests.platforms.manifests import training_run

NAME = "wine"
MODEL = "<schema>_wine"
FINAL = ("Succeeded", "Failed", "TimedOut", "Cancelled")
TRAINS = Pretence(stages=(("starting", 0.6), ("running", 0.9)), metrics={"accuracy": 0.97, "loss": "NaN"})
WAITS = Pretence(stages=(("starting", 0.2), ("running", 600.0)), cancel_seconds=0.3)

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


class Scene:
    """One team's namespace with one run, on one platform.

    `spec` replaces fields of the run's spec; in it, <namespace> stands for the namespace, <schema> for the same as
    models are named.
    """

    def __init__(self, stage: Stage, platform: str, scripts: Mapping[int, Pretence] | None = None, **spec: Any) -> None:
        self.stage = stage
        self.platform = platform
        self.namespace = stage.namespace()
        self._schema = self.namespace.replace("-", "_")
        said = json.dumps(spec).replace("<namespace>", self.namespace).replace("<schema>", self._schema)
        self.spec = json.loads(said)
        self._uid = ""
        self.side = SIDES[platform](stage, self.namespace, NAME, self.spec.get("model", {}).get("name"))
        for attempt, pretence in (scripts or {}).items():
            self.side.pretend(attempt, pretence)

    def found_team(self) -> None:
        """The namespace with its ServiceAccount and workspace."""
        self.side.found()

    def workspace(self) -> dict[str, Any]:
        """The workspace now."""
        return self.stage.stand.get("mlworkspaces", self.platform, self.namespace)

    def workspace_ready(self) -> Iterator[None]:
        """Waits for the workspace."""
        while True:
            conditions = self.workspace().get("status", {}).get("conditions", [])
            if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
                return
            yield

    def apply_run(self, code: str = "print('hello')") -> None:
        """The run. A field whose value is None is left out."""
        self.stage.stand.apply(training_run(self.platform, self.namespace, NAME, **{"code": code} | self.spec))
        self._uid = self.run()["metadata"]["uid"]

    def run(self) -> dict[str, Any]:
        """The run now."""
        return self.stage.stand.run(NAME, self.namespace)

    def until(self, true: Callable[[dict[str, Any]], bool]) -> Iterator[None]:
        """Waits until that is true of the run."""
        while not true(self.run()):
            yield

    def phase(self, *phases: str) -> Iterator[None]:
        """Waits for a phase."""
        return self.until(lambda run: run.get("status", {}).get("phase") in phases)

    def settled(self) -> Iterator[None]:
        """Waits until the run has ended, is let go, and the operator is still."""
        yield from self.phase(*FINAL)
        yield from self.until(lambda run: not run["metadata"].get("finalizers"))
        yield from self.still()

    def gone(self) -> Iterator[None]:
        """Waits until the run's object and what it owns are gone and the operator is still."""
        while self.stage.find(self._path("mltrainingruns", NAME)) is not None or self.logs():
            yield
        yield from self.still()

    def still(self) -> Iterator[None]:
        """Waits until the operator asks for nothing any more."""
        while not self.stage.proxy.quiet(POLL_SECONDS * 1.5):
            yield

    def change(self, **spec: Any) -> None:
        """Sets fields of the spec."""
        patch = ("patch", "mltr", NAME, "--type=merge", "-p", json.dumps({"spec": spec}))
        self.stage.stand.cluster.kubectl("-n", self.namespace, *patch)

    def delete(self) -> None:
        """Deletes the run, without waiting."""
        self.stage.call("DELETE", self._path("mltrainingruns", NAME))

    def clear(self) -> None:
        """Takes the run and the workspace away, so that the next scene's operator has nothing to do with them."""
        if self.stage.find(self._path("mltrainingruns", NAME)) is not None:
            self.delete()
        path = self._path("mlworkspaces", self.platform)
        self.stage.call("DELETE", path)
        self.stage.up()
        wait_for("the workspace to be let go", lambda: self.stage.find(path) is None)
        wait_for("the operator to be still", lambda: self.stage.proxy.quiet(0.2))

    def world(self) -> dict[str, Any]:
        """Everything that counts, normalised."""
        found: dict[str, Any] = normalised(self._world(), self._names(), self.side.never_the_same)
        return found

    def _world(self) -> dict[str, Any]:
        run = self.stage.find(self._path("mltrainingruns", NAME))
        workspace = self.stage.find(self._path("mlworkspaces", self.platform))
        events = self.stage.call("GET", f"/api/v1/namespaces/{self.namespace}/events")["items"]
        return {
            "run": run and {"status": run.get("status"), "finalizers": run["metadata"].get("finalizers", [])},
            "workspace": workspace and workspace.get("status"),
            "events": sorted({f"{e['involvedObject']['kind']} {e['type']} {e['reason']}" for e in events}),
            "logs": self.logs(),
            **self.side.world(),
        }

    def logs(self) -> list[dict[str, Any]]:
        """What is kept of the run's logs."""
        kept = self.stage.call("GET", f"/apis/trainyard.dev/v1alpha1/namespaces/{self.namespace}/mlrunlogs")["items"]
        return [
            {"name": each["metadata"]["name"], "spec": each["spec"], "owners": each["metadata"].get("ownerReferences")}
            for each in sorted(kept, key=lambda each: str(each["metadata"]["name"]))
        ]

    def _names(self) -> dict[str, str]:
        """What is different in each scene, by the word that the normaliser puts in its place."""
        names = {self.namespace: "namespace", self._schema: "schema", self.side.principal: "principal"}
        names |= {self._uid: "uid", self._uid[:8]: "uid-8"}  # the latter in the name of a log
        names |= self._derived() | dict(self.side.names())
        return {value: name for value, name in names.items() if value}

    def _derived(self) -> dict[str, str]:
        """Digests and tokens of the attempts, where they are made of the namespace's name; told apart by number."""
        found = self.stage.find(self._path("mltrainingruns", NAME)) or {}
        attempts = found.get("status", {}).get("attempts", [])
        tokens = [each["submissionToken"] for each in attempts] if "submissionKey" in self.spec else []
        made = {
            "spec-digest": [each["specDigest"] for each in attempts],
            "token": tokens,
        }
        return {value: f"{word}-{n}" for word, values in made.items() for n, value in enumerate(dict.fromkeys(values))}

    def _path(self, plural: str, name: str) -> str:
        return f"/apis/trainyard.dev/v1alpha1/namespaces/{self.namespace}/{plural}/{name}"


def normalised(world: Any, names: dict[str, str], never_the_same: Sequence[tuple[re.Pattern[str], str]]) -> Any:
    """The one normaliser: times become <time>, durations <duration>, each id in `names` its own word, and what
    matches one of the patterns `never_the_same` the word beside it.

    Nothing else is touched: a field too many, one that lacks, another word or number makes two worlds different.
    """
    text = _TIME.sub("<time>", json.dumps(world, sort_keys=True))
    for pattern, word in never_the_same:
        text = pattern.sub(word, text)
    for value in sorted(names, key=len, reverse=True):
        text = text.replace(value, f"<{names[value]}>")
    found = json.loads(text)
    status = (found.get("run") or {}).get("status") or {}
    if "duration" in status:
        status["duration"] = "<duration>"
    return found


def difference(expected: Any, found: Any) -> str:
    """What is different between two worlds, line by line; empty if nothing is."""
    before, after = (json.dumps(world, indent=1, sort_keys=True).splitlines() for world in (expected, found))
    return "\n".join(difflib.unified_diff(before, after, "expected", "found", lineterm="", n=2))
