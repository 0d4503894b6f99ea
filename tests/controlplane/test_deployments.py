"""An operator on a real API server, under the chart's rights, serves models on a platform that lives in memory."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from tests.unit.serving_fake import FakePlatform
from tests.unit.serving_stage import MODEL, FakeSessions, fake_sessions, served
from tests.unit.stage import Repositories
from trainyard.audit.log import AuditLog
from trainyard.controllers.destinations import Destinations
from trainyard.controllers.kube import Kube
from trainyard.controllers.operator import Operator
from trainyard.controllers.settings import OperatorSettings, StorageEndpoints
from trainyard.core.serving.seen import Scored
from trainyard.core.serving.snapshot import ENDPOINT_FINALIZER, ServingLimits
from trainyard_localcluster import LocalCluster
from trainyard_localcluster.api import ApiError

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = "trainyard-system"
API = "/apis/trainyard.dev/v1alpha1/namespaces"
SECONDS = 40.0
LIMITS = ServingLimits(poll=0.2, recheck_served=0.4, recheck_stalled=0.5, recheck_waiting=0.3, trouble_before_told=0.5)
CANARY = {
    "strategy": "Canary",
    "steps": [{"traffic": 10, "holdForSeconds": 1}, {"traffic": 50}],
    "checks": {"smoke": {"rows": [{"alcohol": 12}], "expect": {"type": "Number"}}},
}


class Bench:
    """A platform in memory that outlives operators, and the operator of the moment."""

    def __init__(self, api: LocalCluster, kubeconfig: Path) -> None:
        self.api = api
        self.platform = FakePlatform(versions={(MODEL, version): None for version in "123"})
        self._kubeconfig = kubeconfig
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], object] = lambda: None

    def start(self) -> None:
        """A fresh operator, as a process would have it: nothing of the one before is remembered."""
        found = client.Configuration()
        config.load_kube_config(config_file=str(self._kubeconfig), client_configuration=found)  # type: ignore[no-untyped-call]
        kube = Kube(client.ApiClient(found))
        began = threading.Event()

        def work() -> None:
            asyncio.run(self._run(kube, began))

        self._thread = threading.Thread(target=work, name="operator")
        self._thread.start()
        assert began.wait(SECONDS)

    async def _run(self, kube: Kube, began: threading.Event) -> None:
        with open("/dev/null", "a") as nowhere:  # noqa: ASYNC230 - opened once
            audit = AuditLog(nowhere)
            sessions: FakeSessions = fake_sessions(kube, self.platform)
            destinations = Destinations(kube, audit, StorageEndpoints())
            settings = OperatorSettings(serving=LIMITS)
            operator = Operator(settings, kube, sessions, Repositories(), destinations, "cluster")
            stop, loop = asyncio.Event(), asyncio.get_running_loop()
            self._stop = lambda: loop.call_soon_threadsafe(stop.set)
            began.set()
            await operator.run(stop)

    def stop(self) -> None:
        """Ends the operator of the moment."""
        if self._thread is not None:
            self._stop()
            self._thread.join(SECONDS)
            assert not self._thread.is_alive()
            self._thread = None


class Team:
    """One namespace with a workspace and a deployment."""

    def __init__(self, bench: Bench, namespace: str) -> None:
        self.bench, self.namespace = bench, namespace
        self.endpoint = f"{namespace}-wine"
        annotations = {"trainyard.dev/databricks-client-id": "app-id"}
        account = {"metadata": {"name": "trainer", "annotations": annotations}}
        self._call("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
        spec = {
            "databricks": {"host": "https://dbc-1.cloud.databricks.com"},
            "identity": {"federated": {"serviceAccountName": "trainer"}},
            "computeClasses": {"small": {"serverless": {"environmentVersion": "5"}}},
            "modelPrefix": "main.ml",
        }
        self.create("mlworkspaces", "MLWorkspace", "dbx", spec)

    def create(self, plural: str, kind: str, name: str, spec: dict[str, Any]) -> None:
        body = {"apiVersion": "trainyard.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        self._call("POST", f"{API}/{self.namespace}/{plural}", body)

    def deploy(self, version: str = "1", **spec: Any) -> None:
        spec = {"workspaceRef": {"name": "dbx"}, "models": [served(version)], **spec}
        self.create("modeldeployments", "ModelDeployment", "wine", spec)

    def change(self, **spec: Any) -> None:
        """A person changes the spec, as often as somebody else is faster."""
        while True:
            obj = self.read()
            try:
                self._call("PUT", self._path(), {**obj, "spec": {**obj["spec"], **spec}})
            except ApiError as error:
                if error.status != 409:
                    raise
            else:
                return

    def delete(self, plural: str = "modeldeployments", name: str = "wine") -> None:
        self._call("DELETE", f"{API}/{self.namespace}/{plural}/{name}")

    def read(self, plural: str = "modeldeployments", name: str = "wine") -> dict[str, Any]:
        found: dict[str, Any] = self._call("GET", f"{API}/{self.namespace}/{plural}/{name}")
        return found

    def gone(self, plural: str = "modeldeployments", name: str = "wine") -> bool:
        try:
            self.read(plural, name)
        except ApiError as error:
            if error.status != 404:
                raise
            return True
        return False

    def status(self) -> dict[str, Any]:
        return dict(self.read().get("status", {}))

    def until(self, phase: str, generation: int | None = None) -> dict[str, Any]:
        """Waits until the deployment is in that phase, for the spec of that generation."""

        def there() -> bool:
            status = self.status()
            current = generation is None or status.get("observedGeneration") == generation
            return status.get("phase") == phase and current

        self.wait(there, f"phase {phase}")
        return self.status()

    def wait(self, happened: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not happened():
            assert time.monotonic() < deadline, f"no {what}: {None if self.gone() else self.status()}"
            time.sleep(0.05)

    def shares(self) -> dict[str, int]:
        return self.bench.platform.shares(self.endpoint)

    def events(self) -> list[str]:
        found = self._call("GET", f"/api/v1/namespaces/{self.namespace}/events")["items"]
        return [each["reason"] for each in found if each["involvedObject"]["kind"] == "ModelDeployment"]

    def _path(self) -> str:
        return f"{API}/{self.namespace}/modeldeployments/wine"

    def _call(self, method: str, path: str, body: object = None) -> Any:
        return self.bench.api.call(method, path, body)


@pytest.fixture(scope="module")
def _bench(api: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    for path, name in (("/api/v1/namespaces", SYSTEM), (f"/api/v1/namespaces/{SYSTEM}/serviceaccounts", "trainyard")):
        try:
            api.call("POST", path, {"metadata": {"name": name}})
        except ApiError as error:
            if error.status != 409:
                raise
    api.kubectl("apply", "-f", str(ROOT / "hack" / "rbac.yaml"))
    file = api.service_account_kubeconfig(SYSTEM, "trainyard", tmp_path_factory.mktemp("kube") / "kubeconfig")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(file))
        bench = Bench(api, file)
        yield bench
        bench.stop()


@pytest.fixture
def bench(_bench: Bench) -> Iterator[Bench]:
    """With an operator, and a platform without faults."""
    _bench.platform.errors.clear()
    _bench.platform.broken.clear()
    if _bench._thread is None:
        _bench.start()
    yield _bench
    _bench.platform.frozen = False


@pytest.fixture
def team(bench: Bench, namespace: str) -> Team:
    return Team(bench, namespace)


def test_a_deployment_is_served_canaried_rolled_back_and_deleted(team: Team) -> None:
    team.deploy("1", rollout=CANARY)
    status = team.until("Ready")
    assert team.read()["metadata"]["finalizers"] == [ENDPOINT_FINALIZER]
    assert status["endpoint"]["name"] == team.endpoint
    assert team.shares() == {"1": 100}

    team.change(models=[served("2")])
    status = team.until("Ready", generation=2)
    assert team.shares() == {"2": 100}
    assert status["lastGoodRevision"] == 2

    team.bench.platform.broken.add("3")
    team.change(models=[served("3")])
    status = team.until("RolledBack", generation=3)
    assert team.shares() == {"2": 100}
    assert status["failure"]["log"].startswith("Traceback of 3")

    team.delete()
    team.wait(team.gone, "deletion")
    assert team.endpoint not in team.bench.platform.endpoints_by_name
    trail = [after for what, after in team.bench.platform.trail if what == "share"]
    assert trail[:3] == [{"1": 90, "2": 10}, {"1": 50, "2": 50}, {"1": 0, "2": 100}]
    told = set(team.events())
    assert {"RevisionCreated", "RolloutStep", "Promoted", "EndpointReady", "RolledBack"} <= told


def test_an_operator_that_is_replaced_in_the_middle_goes_on_where_the_status_says(team: Team) -> None:
    held = {**CANARY, "steps": [{"traffic": 20, "holdForSeconds": 3}]}
    team.deploy("1", rollout=held)
    team.until("Ready")
    team.change(models=[served("2")])
    team.wait(lambda: team.shares() == {"1": 80, "2": 20}, "first step")
    team.bench.stop()
    begun = len(team.bench.platform.trail)
    team.bench.start()
    status = team.until("Ready", generation=2)
    assert team.shares() == {"2": 100}
    assert status["revision"] == 2
    assert team.bench.platform.trail[begun:] == [("share", {"1": 0, "2": 100}), ("remove", {"2": 100})]


def test_a_workspace_stays_until_its_endpoints_are_gone(team: Team) -> None:
    team.deploy()
    team.until("Ready")
    team.delete("mlworkspaces", "dbx")
    team.wait(
        lambda: team.read("mlworkspaces", "dbx").get("status", {}).get("activeDeployments") == 1, "word of the endpoint"
    )
    team.delete()
    team.wait(team.gone, "deletion")
    team.wait(lambda: team.gone("mlworkspaces", "dbx"), "end of the workspace")
    assert team.endpoint not in team.bench.platform.endpoints_by_name


def test_an_endpoint_is_deleted_although_its_workspace_was_taken_away_by_force(team: Team) -> None:
    team.deploy()
    team.until("Ready")
    team.bench.stop()
    path = f"{API}/{team.namespace}/mlworkspaces/dbx"
    team.delete("mlworkspaces", "dbx")
    workspace = team.read("mlworkspaces", "dbx")
    team.bench.api.call("PUT", path, {**workspace, "metadata": {**workspace["metadata"], "finalizers": []}})
    team.wait(lambda: team.gone("mlworkspaces", "dbx"), "end of the workspace")
    team.bench.start()
    team.delete()
    team.wait(team.gone, "deletion")
    assert team.endpoint not in team.bench.platform.endpoints_by_name


def test_a_deployment_waits_for_its_run_and_outlives_it(team: Team) -> None:
    source = {"name": "champion", "model": {"fromRun": {"name": "iris"}}, "compute": {"class": "small"}}
    team.deploy(models=[source])
    team.wait(lambda: _reason(team) == "RunNotFound", "word of the run")
    run = {"workspaceRef": {"name": "dbx"}, "compute": {"class": "small"}, "code": {"inline": "pass"}}
    team.create("mltrainingruns", "MLTrainingRun", "iris", {**run, "suspend": True, "model": {"name": "wine"}})
    team.wait(lambda: _reason(team) == "RunNotFinished", "word of the run")
    team.wait(lambda: _written(team), "model of the run")
    team.until("Ready")
    assert team.shares() == {"2": 100}
    team.delete("mltrainingruns", "iris")
    team.wait(lambda: team.gone("mltrainingruns", "iris"), "end of the run")
    looks = team.bench.platform.calls.count("look")
    team.wait(lambda: team.bench.platform.calls.count("look") > looks + 2, "look")
    assert team.status()["phase"] == "Ready"


def test_a_wrong_answer_never_gets_a_request_of_anybody(team: Team) -> None:
    team.deploy("1", rollout=CANARY)
    team.until("Ready")
    good = team.bench.platform.answers
    team.bench.platform.answers = lambda version, rows: Scored(200, 0.1, ["?"] if version == "2" else [1.0])
    begun = len(team.bench.platform.trail)
    team.change(models=[served("2")])
    status = team.until("RolledBack", generation=2)
    team.bench.platform.answers = good
    assert status["failure"]["reason"] == "SmokeCheckFailed"
    assert not any(after.get("2") for _, after in team.bench.platform.trail[begun:])


def _reason(team: Team) -> str:
    conditions = {each["type"]: each for each in team.status().get("conditions", [])}
    return str(conditions.get("Ready", {}).get("reason"))


def _written(team: Team) -> bool:
    """The run's status as an operator would leave it; whether nobody else was faster."""
    run = team.read("mltrainingruns", "iris")
    status = {"phase": "Succeeded", "model": {"name": MODEL, "version": "2", "uri": "models:/main.ml.wine/2"}}
    path = f"{API}/{team.namespace}/mltrainingruns/iris/status"
    try:
        team.bench.api.call("PUT", path, {**run, "status": status})
    except ApiError as error:
        if error.status != 409:
            raise
        return False
    return True
