"""A stand with an operator, and runs in it as a user sees them: what the end-to-end tests have in common."""

import itertools
import json
import signal
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from stand import Process, Stand, Team, wait_for
from tests.platforms import drivers
from tests.platforms.base import CallName, PlatformDriver, Remote
from tests.platforms.manifests import training_run
from trainyard_localcluster.api import ApiError
from trainyard_sandbox.client import SandboxControl

T = TypeVar("T")
API = "/apis/trainyard.dev/v1alpha1"
FINAL = ("Succeeded", "Failed", "TimedOut", "Cancelled")
OPERATOR = "system:serviceaccount:trainyard-system:trainyard"
_numbers = itertools.count(1)


@dataclass
class Run:
    """One MLTrainingRun, by way of the API server and of the platform's own books."""

    scene: "Scene"
    namespace: str
    name: str

    def now(self) -> dict[str, Any]:
        """The resource; empty once it is gone."""
        return self.scene.read("mltrainingruns", self.namespace, self.name)

    @property
    def status(self) -> dict[str, Any]:
        return dict(self.now().get("status", {}))

    @property
    def phase(self) -> str | None:
        return self.status.get("phase")

    def condition(self, kind: str = "Ready") -> dict[str, Any]:
        """One condition; empty before the first status."""
        found = [c for c in self.status.get("conditions", []) if c["type"] == kind]
        return dict(found[0]) if found else {}

    @property
    def reason(self) -> str:
        return str(self.condition().get("reason", ""))

    @property
    def message(self) -> str:
        return str(self.condition().get("message", ""))

    def wait(self, what: str, look: Callable[[dict[str, Any]], object], seconds: float = 60) -> dict[str, Any]:
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
            raise AssertionError(f"{error}\nstatus: {last.get('status')}\n{self.scene.log_tail()}") from error
        return last

    def until(self, *phases: str, seconds: float = 60) -> "Run":
        """Waits for one of the phases. Another final phase fails at once."""

        def there(obj: dict[str, Any]) -> bool:
            phase = obj.get("status", {}).get("phase")
            if phase in FINAL and phase not in phases:
                raise AssertionError(f"{self.name} ended as {phase}: {obj['status']['conditions'][0]}")
            return phase in phases

        self.wait(f"to be {' or '.join(phases)}", there, seconds)
        return self

    def because(self, reason: str, seconds: float = 60) -> "Run":
        """Waits until the conditions give that reason."""
        self.wait(
            f"to say {reason}",
            lambda obj: any(c["reason"] == reason for c in obj.get("status", {}).get("conditions", [])),
            seconds,
        )
        return self

    def gone(self, seconds: float = 60) -> None:
        """Waits until the API server does not have it any more."""
        self.wait("to be gone", lambda obj: not obj, seconds)

    def change(self, **spec: Any) -> None:
        """Changes fields of the spec that may change."""
        self.scene.patch("mltrainingrun", self.namespace, self.name, {"spec": spec})

    def delete(self) -> None:
        """Asks for its deletion; does not wait."""
        self.scene.cluster.call("DELETE", f"{API}/namespaces/{self.namespace}/mltrainingruns/{self.name}")

    def remote(self) -> list[Remote]:
        """Its runs on the platform, oldest first."""
        return self.scene.platform.runs_of(self.namespace, self.name)

    def only_remote(self) -> Remote:
        """Its one run on the platform."""
        (found,) = self.remote()
        return found

    def paid(self) -> int:
        """How many of its remote runs cost money."""
        return sum(1 for run in self.remote() if run.paid)

    def events(self) -> list[str]:
        """Reasons of its Events, oldest first."""
        return self.scene.events(self.namespace, self.name)


@dataclass
class Scene:
    """A stand, its operator, and the teams of one test module; the platform is the one that the test is run on."""

    stand: Stand
    operator: Process
    name: str
    flags: dict[str, str] = field(default_factory=dict)
    teams: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    platforms: dict[str, PlatformDriver] = field(init=False)
    platform: PlatformDriver = field(init=False)

    def __post_init__(self) -> None:
        self.platforms = drivers(self.stand)
        self.on("databricks")

    def on(self, platform: str) -> Self:
        """What comes is on that platform."""
        self.platform = self.platforms[platform]
        return self

    @property
    def control(self) -> SandboxControl:
        return self.stand.control

    @property
    def cluster(self) -> Any:
        return self.stand.cluster

    def restart(self, number: int = signal.SIGTERM) -> int:
        """Ends the operator with that signal and starts another one. Returns the exit code of the first."""
        code = self.operator.stop(number)
        self.operator = self.stand.operator(self.name, None, self.env, **self.flags)
        return code

    def team(self, **spec: Any) -> Team:
        """A fresh namespace with an identity and a workspace."""
        return self.platform.team(self.namespace(), **spec)

    def namespace(self) -> str:
        """A name for a namespace that nobody has used yet; deleted after the test."""
        name = f"{self.name}-{next(_numbers)}"
        self.teams.append(name)
        return name

    def create(self, namespace: str, plural: str, body: dict[str, Any]) -> None:
        """Creates one of our resources."""
        self.cluster.call("POST", f"{API}/namespaces/{namespace}/{plural}", body)

    def run(self, team: Team | str, name: str = "train", **spec: Any) -> Run:
        """Creates an MLTrainingRun. A field that is None is left out."""
        namespace = team if isinstance(team, str) else team.namespace
        self.create(namespace, "mltrainingruns", training_run(self.platform.name, namespace, name, **spec))
        return Run(self, namespace, name)

    def read(self, plural: str, namespace: str, name: str) -> dict[str, Any]:
        """A resource now; empty if it is not there."""
        where = f"/namespaces/{namespace}" if namespace else ""
        return self.fetch(f"{API}{where}/{plural}/{name}")

    def fetch(self, path: str) -> dict[str, Any]:
        """Any object now; empty if it is not there."""
        try:
            found: dict[str, Any] = self.cluster.call("GET", path)
        except ApiError as error:
            if error.status == 404:
                return {}
            raise
        return found

    def apply(self, *objects: dict[str, Any]) -> None:
        """kubectl apply."""
        self.stand.apply(*objects)

    def config_map(self, namespace: str, name: str, data: dict[str, str]) -> None:
        """Creates or changes a ConfigMap."""
        metadata = {"name": name, "namespace": namespace}
        self.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})

    def api_requests(self, namespace: str) -> list[dict[str, Any]]:
        """The operator's writes, token requests and looks at Secrets there, from the API server's own audit log."""
        lines = self.cluster.audit_log.read_text().splitlines()
        records = (json.loads(line) for line in lines if f"/namespaces/{namespace}/" in line)
        return [r for r in records if r["user"]["username"] == OPERATOR]

    def patch(self, kind: str, namespace: str, name: str, body: dict[str, Any]) -> None:
        """A merge patch."""
        self.cluster.kubectl("patch", kind, name, "-n", namespace, "--type=merge", "-p", json.dumps(body))

    def events(self, namespace: str, name: str) -> list[str]:
        """Reasons of the Events about that object, oldest first."""
        found = self.cluster.call("GET", f"/api/v1/namespaces/{namespace}/events")["items"]
        about = [event for event in found if event["involvedObject"]["name"] == name]
        return [e["reason"] for e in sorted(about, key=lambda e: int(e["metadata"]["resourceVersion"]))]

    def workspace(self, namespace: str, reason: str, name: str = "", seconds: float = 60) -> dict[str, Any]:
        """The workspace's Ready condition, once it gives that reason. It is named as the platform, unless told."""
        last: dict[str, Any] = {}
        name = name or self.platform.name

        def said() -> dict[str, Any] | None:
            nonlocal last
            self.operator.check()
            status = self.read("mlworkspaces", namespace, name).get("status", {})
            last = next((c for c in status.get("conditions", []) if c["type"] == "Ready"), {})
            return last if last.get("reason") == reason else None

        try:
            return wait_for(f"workspace {namespace}/{name} to say {reason}", said, seconds)
        except Exception as error:
            raise AssertionError(f"{error}\nit says: {last}\n{self.log_tail()}") from error

    def ask_platform(self, principal: str, path: str, **query: str) -> dict[str, Any]:
        """What the platform's own API answers that principal."""
        token = self.control.call("POST", "/tokens", {"application_id": principal})["value"]
        context = ssl.create_default_context(cafile=str(self.stand.address.ca_file))
        request = Request(
            f"{self.stand.address.host}{path}?{urlencode(query)}",
            headers={"Authorization": f"Bearer {token}"},
        )
        with urlopen(request, context=context) as response:
            found: dict[str, Any] = json.load(response)
        return found

    def fault(self, kind: str, call: CallName, **fields: Any) -> int:
        """Injects a fault into requests of that kind; cleared after the test."""
        return self.platform.fault(kind, call, **fields)

    def hits(self, fault: int) -> int:
        """How many requests the fault has hit."""
        return next(int(f["hits"]) for f in self.control.faults() if f["fault_id"] == fault)

    def log_tail(self, lines: int = 25) -> str:
        """The operator's last words."""
        return "\n".join(self.operator.log.read_text(errors="replace").splitlines()[-lines:])

    def clean(self) -> None:
        """After a test: no fault, no script, and its namespaces on their way out."""
        self.platform.clean()
        for namespace in self.teams:
            if self.fetch(f"/api/v1/namespaces/{namespace}"):
                self.cluster.call("DELETE", f"/api/v1/namespaces/{namespace}")
        self.teams.clear()
