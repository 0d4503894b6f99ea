"""What happens to one deployment in one namespace, and what the world is afterwards. Used by the crash tests.

As scenes.py tells it of runs. Served models are pretended: what counts here are the requests of the operator.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from stand import Team, wait_for
from tests.crash.journeys import Journey, Mark
from tests.crash.scenes import Scene
from tests.crash.stage import STEP_SECONDS, Stage
from tests.platforms.manifests import model_deployment, served
from tests.platforms.models import DESCRIBED
from tests.platforms.serving import Book

NAME = "live"
PLURAL = "modeldeployments"
FELLED = "the forest was felled"
ROLLOUT = {"strategy": "Canary", "steps": [{"traffic": 30}]}


class ServingScene(Scene):
    """One team's namespace with one deployment, on one platform. A model that is called `felled` never comes up."""

    def __init__(self, stage: Stage, platform: str) -> None:
        super().__init__(stage, platform)
        self.driver = stage.drivers[platform].serving
        where = f"{self.namespace}-.*"
        self.driver.script(endpoint=where, pretend=True)
        self.driver.script(endpoint=where, served="felled.*", provisioning_error=FELLED)
        self._model = f"wine-{self.namespace}"

    def publish(self) -> str:
        """One more version; returns it."""
        team = Team(self.namespace, self.side.principal, "", self.platform)
        return self.driver.publish(team, self._model, DESCRIBED)

    def served(self, version: str, name: str = "champion") -> dict[str, Any]:
        """One of spec.models."""
        return served(version, name, self.stage.drivers[self.platform].model_name(self._model))

    def apply(self, version: str, **spec: Any) -> None:
        """The deployment, serving that version."""
        fields = {"rollout": ROLLOUT} | spec
        made = model_deployment(self.platform, self.namespace, NAME, [self.served(version)], **fields)
        self.stage.stand.apply(made)
        self._uid = self.deployment()["metadata"]["uid"]

    def deployment(self) -> dict[str, Any]:
        """The deployment now."""
        return self.stage.stand.get(PLURAL, NAME, self.namespace)

    def serve(self, version: str, name: str = "champion") -> None:
        """Changes what is served."""
        patch = json.dumps({"spec": {"models": [self.served(version, name)]}})
        self.stage.stand.cluster.kubectl("-n", self.namespace, "patch", "mldep", NAME, "--type=merge", "-p", patch)

    def rests(self, phase: str) -> Iterator[None]:
        """Waits until it has come to that phase with the spec of now, and the operator is still."""
        while not _rests(self.deployment(), phase):
            yield
        yield from self.still()

    def delete(self) -> None:
        """Deletes the deployment, without waiting."""
        self.stage.call("DELETE", self._path(PLURAL, NAME))

    def gone(self) -> Iterator[None]:
        """Waits until the deployment's object is gone and the operator is still."""
        while self.stage.find(self._path(PLURAL, NAME)) is not None:
            yield
        yield from self.still()

    def clear(self) -> None:
        """Takes deployment and workspace away."""
        if self.stage.find(self._path(PLURAL, NAME)) is not None:
            self.delete()
            self.stage.up()
            wait_for("the deployment to go", lambda: self.stage.find(self._path(PLURAL, NAME)) is None, STEP_SECONDS)
        super().clear()

    def _world(self) -> dict[str, Any]:
        found = self.stage.find(self._path(PLURAL, NAME))
        workspace = self.stage.find(self._path("mlworkspaces", self.platform))
        events = self.stage.call("GET", f"/api/v1/namespaces/{self.namespace}/events")["items"]
        return {
            "deployment": found and {"status": _told(found), "finalizers": found["metadata"].get("finalizers", [])},
            "workspace": workspace and workspace.get("status"),
            "events": sorted({f"{e['involvedObject']['kind']} {e['type']} {e['reason']}" for e in events}),
            "endpoint": _booked(self.driver.book(f"{self.namespace}-{NAME}")),
        }

    def _derived(self) -> dict[str, str]:
        """Digests, and names made of them: they have the model's name in them, which is the namespace's."""
        status = (self.stage.find(self._path(PLURAL, NAME)) or {}).get("status", {})
        revisions = [each for each in (status.get("lastGood"), status.get("target")) if each]
        served = [model["served"] for each in revisions for model in each["models"]]
        digests = [each["digest"] for each in status.get("revisions", [])] + [status.get("applied", "")]
        digests += [status["failure"]["plan"]] if "failure" in status else []
        named = {"served": served, "digest": digests}
        return {value: f"{word}-{n}" for word, values in named.items() for n, value in enumerate(dict.fromkeys(values))}


def _rests(now: dict[str, Any], phase: str) -> bool:
    status = now.get("status", {})
    return status.get("observedGeneration") == now["metadata"]["generation"] and status.get("phase") == phase


def _told(found: dict[str, Any]) -> dict[str, Any]:
    """The status; of a log only that it is there, as it has times and places in it."""
    status = dict(found.get("status", {}))
    if "failure" in status:
        status["failure"] = status["failure"] | {"log": bool(status["failure"].get("log"))}
    return status


def _booked(book: Book | None) -> Any:
    if book is None:
        return None
    return {
        "busy": book.busy,
        "tags": dict(book.tags),
        "behind": {name: [each.version, each.state, each.traffic] for name, each in book.behind.items()},
    }


@dataclass(frozen=True)
class ServingJourney(Journey):
    """A journey of a deployment."""

    def scene(self, stage: Stage, platform: str) -> ServingScene:
        """See `Journey.scene`."""
        return ServingScene(stage, platform)


Walk = Callable[[ServingScene, Mark], Iterator[None]]


def _first(scene: ServingScene) -> Iterator[None]:
    """Up to a version that serves."""
    scene.found_team()
    yield from scene.workspace_ready()
    scene.apply(scene.publish())
    yield from scene.rests("Ready")


def deploy(scene: ServingScene, mark: Mark) -> Iterator[None]:
    """From a workspace that is ready to a version that serves."""
    scene.found_team()
    yield from scene.workspace_ready()
    version = scene.publish()
    mark()
    scene.apply(version)
    yield from scene.rests("Ready")


def promote(scene: ServingScene, mark: Mark) -> Iterator[None]:
    """A canary of a second version, to all requests."""
    yield from _first(scene)
    version = scene.publish()
    mark()
    scene.serve(version)
    yield from scene.rests("Ready")


def roll_back(scene: ServingScene, mark: Mark) -> Iterator[None]:
    """A second version that does not come up, taken back."""
    yield from _first(scene)
    version = scene.publish()
    mark()
    scene.serve(version, "felled")
    yield from scene.rests("RolledBack")


def remove(scene: ServingScene, mark: Mark) -> Iterator[None]:
    """The deletion of a deployment that serves."""
    yield from _first(scene)
    mark()
    scene.delete()
    yield from scene.gone()


def _journey(name: str, walk: Any) -> ServingJourney:
    return ServingJourney(name, {}, walk, everywhere=True)


SERVING_JOURNEYS = tuple(_journey(each.__name__, each) for each in (deploy, promote, roll_back, remove))
