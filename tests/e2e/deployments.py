"""ModelDeployments as a user sees them, on a stand with an operator: what the end-to-end tests of serving share."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from load import Asked, Load, failed, off_by, summary
from stand import Team, wait_for
from tests.e2e.scene import API, Scene
from tests.platforms.manifests import model_deployment, served
from tests.platforms.models import ROW, Kind, Row, tiny_model
from tests.platforms.serving import Book, ServingDriver

PLURAL = "modeldeployments"
# Where it rests until somebody does something.
RESTS = ("Ready", "RolledBack", "Stalled", "Drifted", "Expired", "AwaitingPromotion")
SERVING_FLAGS = {"serving_poll_seconds": "0.3", "serving_recheck_seconds": "1"}
# Long enough for a busy machine; nothing waits for it when all goes well.
LONGEST = 240.0


@dataclass
class Deployment:
    """One ModelDeployment, by way of the API server and of the platform's own books."""

    scene: Scene
    team: Team
    name: str

    @property
    def namespace(self) -> str:
        return self.team.namespace

    @property
    def driver(self) -> ServingDriver:
        return self.scene.platform.serving

    def now(self) -> dict[str, Any]:
        """The resource; empty once it is gone."""
        return self.scene.read(PLURAL, self.namespace, self.name)

    @property
    def status(self) -> dict[str, Any]:
        return dict(self.now().get("status", {}))

    @property
    def phase(self) -> str | None:
        return self.status.get("phase")

    def conditions(self) -> dict[str, str]:
        """The conditions by type."""
        return {each["type"]: each["status"] for each in self.status.get("conditions", [])}

    def condition(self, kind: str = "Ready") -> dict[str, Any]:
        """One condition; empty before the first status."""
        found = [each for each in self.status.get("conditions", []) if each["type"] == kind]
        return dict(found[0]) if found else {}

    @property
    def reason(self) -> str:
        return str(self.condition().get("reason", ""))

    @property
    def message(self) -> str:
        return str(self.condition().get("message", ""))

    @property
    def endpoint(self) -> str:
        """The endpoint's name on the platform."""
        return str(self.status["endpoint"]["name"])

    @property
    def url(self) -> str:
        """Where it is asked."""
        return str(self.status["endpoint"]["url"])

    def book(self) -> Book:
        """Its endpoint in the platform's own books."""
        found = self.driver.book(self.endpoint)
        assert found is not None, f"there is no endpoint {self.endpoint}"
        return found

    def wait(self, what: str, look: Callable[[dict[str, Any]], object], seconds: float = LONGEST) -> dict[str, Any]:
        """The resource once `look` likes it. Says in vain what the resource and the operator said last."""
        last: dict[str, Any] = {}

        def looked() -> bool:
            nonlocal last
            self.scene.operator.check()
            last = self.now()
            return bool(look(last))

        try:
            wait_for(f"{self.name} {what}", looked, seconds)
        except Exception as error:
            said = json.dumps(last.get("status"), indent=1)
            raise AssertionError(f"{error}\nstatus: {said}\n{self.scene.log_tail()}") from error
        return last

    def until(self, *phases: str, seconds: float = LONGEST, revision: int | None = None) -> Deployment:
        """Waits until the spec of now was seen and one of the phases is reached, with the newest revision so numbered.

        Another phase that it rests in fails at once.
        """

        def there(obj: dict[str, Any]) -> bool:
            status = obj.get("status", {})
            if status.get("observedGeneration") != obj["metadata"]["generation"]:
                return False
            if revision is not None and status.get("revision") != revision:
                return False
            phase = status.get("phase")
            if phase in RESTS and phase not in phases and phase != "Ready":
                raise AssertionError(f"{self.name} came to {phase}: {json.dumps(status, indent=1)}")
            return phase in phases

        self.wait(f"to be {' or '.join(phases)}", there, seconds)
        return self

    def comes_to(self, phase: str, seconds: float = LONGEST) -> Deployment:
        """Waits for that phase, whatever it rests in before: for what changes without a change of the spec."""
        self.wait(f"to come to {phase}", lambda obj: obj.get("status", {}).get("phase") == phase, seconds)
        return self

    def because(self, reason: str, seconds: float = LONGEST) -> Deployment:
        """Waits until the conditions give that reason."""
        self.wait(
            f"to say {reason}",
            lambda obj: any(each["reason"] == reason for each in obj.get("status", {}).get("conditions", [])),
            seconds,
        )
        return self

    def at_step(self, number: int, seconds: float = LONGEST) -> Deployment:
        """Waits until the platform gives the share of that step of the canary."""

        def there(obj: dict[str, Any]) -> bool:
            rollout = obj.get("status", {}).get("rollout") or {}
            return rollout.get("step") == number and bool(rollout.get("heldSince"))

        self.wait(f"to be at step {number}", there, seconds)
        return self

    def gone(self, seconds: float = LONGEST) -> None:
        """Waits until the API server does not have it any more."""
        self.wait("to be gone", lambda obj: not obj, seconds)

    def change(self, **spec: Any) -> None:
        """Merges fields into the spec; None removes one."""
        self.scene.patch("modeldeployment", self.namespace, self.name, {"spec": spec})

    def serve(self, *models: Mapping[str, Any], **spec: Any) -> None:
        """Changes what is served."""
        self.change(models=[dict(each) for each in models], **spec)

    def delete(self) -> None:
        """Asks for its deletion; does not wait."""
        self.scene.cluster.call("DELETE", f"{API}/namespaces/{self.namespace}/{PLURAL}/{self.name}")

    def events(self) -> list[str]:
        """Reasons of its Events, oldest first."""
        return self.scene.events(self.namespace, self.name)

    def asked(self, principal: str, rows: Sequence[Row] = (ROW,)) -> Asked:
        """One request of that principal to the endpoint."""
        with Load(self.driver.question(self.url, principal, rows), clients=1, rate=1000) as load:
            return load.wait(1)[0]

    def load(self, principal: str, rate: float = 20.0, clients: int = 1) -> Load:
        """Clients with that principal's tokens that ask the endpoint all the time, each answer by its version.

        One, as a copy on Azure ML takes one request and lets one more wait, which may be the operator's own check; the
        next gets 429 (requestSettings).
        """
        log = self.scene.stand.dir / f"{self.namespace}-{self.name}.load.jsonl"
        return Load(self.driver.question(self.url, principal), clients=clients, rate=rate, log=log)


def canary(*traffic: int, hold: int = 0, **more: Any) -> dict[str, Any]:
    """spec.rollout with those steps. `more` is beside the steps."""
    steps = [{"traffic": share, "holdForSeconds": hold} for share in traffic]
    return {"strategy": "Canary", "steps": steps, **more}


def assert_never_failed(asked: Sequence[Asked]) -> None:
    """Every one of them was answered, by a version that tells which it is."""
    assert asked, "nothing was asked"
    assert failed(asked) == [], summary(asked)


def assert_split(asked: Sequence[Asked], shares: Mapping[str, int]) -> None:
    """The versions answered by these shares, but for the rounding of as many requests as there are versions."""
    assert off_by(asked, shares) <= len(shares), f"not {dict(shares)}: {summary(asked)}"


@dataclass
class Setting:
    """A team of its own with a model of its own, whose versions answer with a number."""

    scene: Scene
    team: Team

    @property
    def driver(self) -> ServingDriver:
        return self.scene.platform.serving

    @property
    def model(self) -> str:
        """Short name of the model."""
        return f"wine-{self.team.namespace}"

    def publish(self, number: int = 1, kind: Kind = "answers", **fields: Any) -> str:
        """One more version of the model, that answers that number; returns the version."""
        return self.driver.publish(self.team, self.model, tiny_model(kind, number), **fields)

    def classes(self, **classes: Mapping[str, Any]) -> None:
        """Adds compute classes to the team's workspace."""
        spec = {"computeClasses": {name: dict(each) for name, each in classes.items()}}
        self.scene.patch("mlworkspace", self.team.namespace, self.scene.platform.name, {"spec": spec})

    def measures(self) -> None:
        """Lets the team read what the platform measures, where that is a right of its own."""
        self.driver.measures(self.team.principal)

    def alias(self, alias: str, version: str) -> None:
        """Points an alias of the model at a version."""
        self.driver.alias(self.team, self.model, alias, version)

    def served(self, version: str, name: str = "champion", **fields: Any) -> dict[str, Any]:
        """One of spec.models: that version of the model."""
        return served(version, name, self.model, **fields)

    def deploy(self, *models: Mapping[str, Any], name: str = "live", **spec: Any) -> Deployment:
        """Creates a ModelDeployment. A field that is None is left out."""
        body = model_deployment(self.scene.platform.name, self.team.namespace, name, models, **spec)
        self.scene.create(self.team.namespace, PLURAL, body)
        return Deployment(self.scene, self.team, name)

    def asker(self) -> str:
        """A principal that may do nothing yet."""
        return self.driver.asker()

    def allowed(self, dep: Deployment) -> str:
        """A principal that may ask that deployment's endpoint, by an administrator's hand."""
        principal = self.asker()
        self.driver.allow(principal, dep.endpoint)
        return principal


@pytest.fixture
def setting(real: Scene) -> Setting:
    """A team with a workspace that is ready, on the stand that really loads models."""
    team = real.team()
    real.workspace(team.namespace, "IdentityWorks")
    return Setting(real, team)
