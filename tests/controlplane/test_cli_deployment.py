"""The verbs of deployments against a real API server, and the same lineage by kubectl as its page shows it.

The operator is played: the tests write what it would write into the status.
"""

import json
import os
import re
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.controlplane.cli import RIGHTS, SPEC, Cli, Object, PlayedOperator, manifest, person, until
from tests.unit.deployments import ORIGIN, at, conditions, endpoint, revision, served, serving
from tests.wire.answering import Answering, Asked, Told, serve_answers
from trainyard.api.base import API_VERSION
from trainyard.client import DeploymentFailed, NotFound, Refused, Trainyard
from trainyard_localcluster import LocalCluster
from trainyard_localcluster.api import ApiError
from trainyard_localcluster.cluster import kubectl_program

DOCS = Path(__file__).resolve().parents[2] / "docs"
DEPLOYMENTS = f"/apis/{API_VERSION}/namespaces/{{}}/modeldeployments"
MODEL = {"name": "forest", "model": {"name": "forest", "version": "3"}, "compute": {"class": "small"}}
DEPLOYED: Object = {"workspaceRef": {"name": "databricks"}, "models": [MODEL]}
SCORES = [{"apiGroups": ["trainyard.dev"], "resources": ["modeldeployments"], "verbs": ["get"]}]
SERVED = served("3", "forest-aaaa", 100, 100, origin=ORIGIN | {"run": "forest-3"})


def deploying(name: str = "wine", spec: Object | None = None) -> Object:
    """A deployment as a person would write it."""
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": DEPLOYED | (spec or {}),
    }


class Played:
    """Writes into deployments of one namespace what the operator would, as administrator."""

    def __init__(self, cluster: LocalCluster, namespace: str) -> None:
        self._cluster, self.namespace = cluster, namespace
        self._path = DEPLOYMENTS.format(namespace)
        until(self._served)

    def _served(self) -> bool:
        """The server answers 429 while it makes the storage of a kind that is new to it."""
        try:
            self._cluster.call("GET", self._path)
        except ApiError as error:
            if error.status != 429:
                raise
            return False
        return True

    def get(self, name: str = "wine") -> Object:
        return dict(self._cluster.call("GET", f"{self._path}/{name}"))

    def create(self, body: Object) -> Object:
        return dict(self._cluster.call("POST", self._path, body))

    def change(self, name: str = "wine", **spec: Any) -> None:
        found = self.get(name)
        found["spec"] |= spec
        self._cluster.call("PUT", f"{self._path}/{name}", found)

    def write(self, phase: str, reason: str | None = None, message: str = "", name: str = "wine", **more: Any) -> None:
        """Sets phase and conditions for the newest spec, and the other fields of status as they are given."""
        found = self.get(name)
        told = {"observedGeneration": found["metadata"]["generation"], "phase": phase}
        known = conditions(phase, reason, message)
        found["status"] = found.get("status", {}) | told | {"conditions": known} | more
        self._cluster.call("PUT", f"{self._path}/{name}/status", found)

    def ready(self, name: str = "wine", **more: Any) -> None:
        """Version 3 serves all requests."""
        status = {
            "revision": 3,
            "lastGoodRevision": 3,
            "lastGood": revision(3, serving("3", "forest-aaaa")),
            "endpoint": endpoint(),
            "servedModels": [SERVED],
            "traffic": "forest:3=100/100",
        }
        self.write("Ready", message="revision 3 answers all requests", name=name, **(status | more))

    def rolling(self, phase: str = "RollingOut") -> None:
        """Revision 4 is in its first step."""
        self.write(
            phase,
            message="step 1 of 2: revision 4 answers 10 %",
            revision=4,
            target=revision(4, serving("4", "forest-bbbb")),
            servedModels=[served("3", "forest-aaaa", 90, 90), served("4", "forest-bbbb", 10, 10)],
            rollout={"stage": "Stepping", "step": 1, "steps": 2, "traffic": 10, "since": at("10:00")},
        )


@pytest.fixture
def operator(api: LocalCluster, namespace: str) -> Played:
    return Played(api, namespace)


@pytest.fixture
def cli(api: LocalCluster, namespace: str, tmp_path: Path) -> Cli:
    return Cli(person(api, namespace, tmp_path / "person"))


def yard_of(api: LocalCluster, namespace: str, tmp_path: Path) -> Trainyard:
    return Trainyard(namespace, kubeconfig=person(api, namespace, tmp_path / "client"))


def test_the_rights_that_the_page_lists_are_the_ones_that_these_tests_have() -> None:
    page = (DOCS / "cli.md").read_text().split("## Rights", 1)[1]
    role = yaml.safe_load(re.search(r"```yaml\n(.*?)```", page, re.DOTALL)[1])  # type: ignore[index]
    assert role["rules"] == RIGHTS


def test_get_shows_deployments_in_every_form(cli: Cli, operator: Played) -> None:
    assert cli("get", "--deployments").stderr == f"no deployments in namespace {operator.namespace}\n"
    operator.create(deploying())
    operator.create(deploying("other"))
    operator.ready()
    head, other, wine = cli("get", "-d").stdout.splitlines()
    assert head.split()[:4] == ["NAME", "PHASE", "ANSWERS", "TRAFFIC"]
    assert wine.split()[:5] == ["wine", "Ready", "yes", "forest:3=100/100", "3"]
    assert other.split()[:3] == ["other", "<none>", "no"]
    assert cli("get", "deployment/wine", "-o", "name").stdout == "modeldeployment.trainyard.dev/wine\n"
    assert yaml.safe_load(cli("get", "mldep/wine", "-o", "yaml").stdout)["spec"]["models"] == [MODEL]
    assert cli("get", "deployment/third").returncode == 5
    assert cli("get", "pod/wine").returncode == 2


def test_describe_shows_shares_checks_and_why_it_went_back(cli: Cli, operator: Played) -> None:
    operator.create(deploying())
    operator.ready()
    failure = {
        "revision": 4,
        "reason": "CheckFailed",
        "message": "2 is above 1",
        "at": at("20:00"),
        "log": "\x1b]0;x\x07boom",
    }
    operator.write("RolledBack", "CheckFailed", "2 is above 1", failure=failure, revision=4)
    shown = cli("describe", "deployment/wine")
    assert shown.returncode == 0
    assert "Phase:     RolledBack (CheckFailed)" in shown.stdout
    assert "████████████████████   100 %" in shown.stdout
    assert "| boom" in shown.stdout
    assert "\x1b" not in shown.stdout


def test_wait_ends_when_the_newest_spec_is_served_and_not_before(cli: Cli, operator: Played) -> None:
    operator.create(deploying())
    operator.ready()
    assert cli("wait", "deployment/wine").returncode == 0
    operator.change(tags={"team": "wine"})
    with cli.started("wait", "deployment/wine", input={}) as process:
        assert process.stderr is not None
        assert "Ready" in process.stderr.readline()  # of the older spec
        operator.rolling()
        operator.ready()
        assert process.wait(60) == 0
        assert process.stdout is not None
        assert "forest:3=100/100" in process.stdout.read()


@pytest.mark.parametrize("phase", ["RolledBack", "Drifted", "Expired"])
def test_wait_says_by_its_exit_code_that_the_newest_spec_is_not_served(cli: Cli, operator: Played, phase: str) -> None:
    operator.create(deploying())
    operator.write(phase, "SomeReason", "what to do about it")
    ran = cli("wait", "deployment/wine")
    assert ran.returncode == 1
    assert "what to do about it" in ran.stderr


def test_wait_stops_for_a_promotion_where_nobody_is_there_to_promote(cli: Cli, operator: Played) -> None:
    operator.create(deploying())
    operator.ready()
    operator.rolling("AwaitingPromotion")
    ran = cli("wait", "deployment/wine", "--fail-when-stalled")
    assert ran.returncode == 1
    assert "AwaitingPromotion" in ran.stderr
    assert cli("wait", "deployment/wine", "--timeout", "0.1").returncode == 3
    assert cli("wait", "deployment/none").returncode == 5


def test_promote_names_the_newest_revision_once_and_refuses_what_does_not_wait(cli: Cli, operator: Played) -> None:
    operator.create(deploying())
    operator.ready()
    refused = cli("promote", "wine")
    assert (refused.returncode, "nothing of deployment" in refused.stderr) == (1, True)
    operator.rolling("AwaitingPromotion")
    assert cli("promote", "wine", "--revision", "3").returncode == 1
    assert "promote" not in operator.get()["spec"]
    said = cli("promote", "deployment/wine", "--revision", "4")
    assert said.returncode == 0
    assert "gives all requests to revision 4: forest main.ml.forest version 4" in said.stderr
    assert operator.get()["spec"]["promote"] == 4
    operator.rolling("AwaitingPromotion")  # the operator has seen it
    assert "is asked already to promote revision 4" in cli("promote", "wine").stderr


def test_a_person_without_the_right_is_told_so(
    api: LocalCluster, namespace: str, operator: Played, tmp_path: Path
) -> None:
    operator.create(deploying())
    reader = [{"apiGroups": ["trainyard.dev"], "resources": ["modeldeployments"], "verbs": ["get"]}]
    cli = Cli(person(api, namespace, tmp_path / "reader", reader))
    assert cli("describe", "deployment/wine").returncode == 0  # without events
    ran = cli("get", "--deployments")
    assert ran.returncode == 6
    assert "cannot list resource" in ran.stderr
    assert cli("lineage", "wine").returncode == 0


def test_lineage_leads_from_what_is_served_to_the_run_and_back(
    api: LocalCluster, cli: Cli, operator: Played, namespace: str
) -> None:
    runs = PlayedOperator(api, namespace)
    made = runs.create(manifest("forest-3", SPEC | {"inputs": {"wines": {"table": "main.lake.wines"}}}))
    model = {"name": "main.ml.forest", "version": "3", "uri": "models:/main.ml.forest/3"}
    runs.write("forest-3", "Succeeded", model=model)
    operator.create(deploying())
    operator.ready(servedModels=[SERVED | {"origin": ORIGIN | {"uid": made["metadata"]["uid"]}}])
    tree = cli("lineage", "wine").stdout
    for told in (
        "run        forest-3 (Succeeded)",
        "commit 4f1c2a9",
        "wines  main.lake.wines",
        "submitted as sp-trainer",
    ):
        assert told in tree
    back = json.loads(cli("lineage", "run/forest-3", "-o", "json").stdout)
    assert [(each["deployment"], each["servedTraffic"]) for each in back["servedBy"]] == [("wine", 100)]
    runs.delete("forest-3")
    until(lambda: "forest-3" not in runs.names())
    after = json.loads(cli("lineage", "wine", "-o", "json").stdout)["served"][0]["made"]
    assert (after["run"], after["there"], after["code"]["commit"]) == ("forest-3", False, "4f1c2a9")
    assert "run/forest-3" in cli("lineage", "run/forest-3").stdout
    assert cli("lineage", "run/forest-4").returncode == 5
    everything = Cli(api.kubeconfig)("lineage", "run/forest-3", "-A", "-o", "json")
    assert namespace in [each["namespace"] for each in json.loads(everything.stdout)["servedBy"]]


def commands(section: str) -> list[str]:
    """The kubectl commands in a section of the page."""
    body = (DOCS / "model-deployments.md").read_text().split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^kubectl .*$", body, re.MULTILINE)


def test_lineage_by_kubectl_shows_what_the_page_says(
    api: LocalCluster, operator: Played, namespace: str, tmp_path: Path
) -> None:
    runs = PlayedOperator(api, namespace)
    git = {"git": {"url": "https://git.example/wine.git", "ref": "main"}}
    spec = SPEC | {"code": git, "entrypoint": {"pythonFile": "t.py"}, "inputs": {"wines": {"table": "main.lake.wines"}}}
    runs.create(manifest("wine-forest", spec))
    model = {"name": "main.ml.forest", "version": "3", "uri": "models:/main.ml.forest/3"}
    runs.write("wine-forest", "Succeeded", model=model, identity={"submittedAs": "sp-trainer"})
    operator.create(deploying())
    operator.ready(servedModels=[SERVED | {"origin": ORIGIN | {"run": "wine-forest"}}])
    operator.create(deploying("other"))
    operator.ready("other", servedModels=[served("9", "forest-9", 100, 100)])
    kubeconfig = person(api, namespace, tmp_path / "kubectl")

    def kubectl(command: str) -> list[list[str]]:
        words = shlex.split(command.replace("team-wine", namespace))
        env = os.environ | {"KUBECONFIG": str(kubeconfig)}
        ran = subprocess.run(
            [str(kubectl_program()), *words[1:]], env=env, capture_output=True, text=True, timeout=60, check=False
        )
        assert ran.returncode == 0, ran.stderr
        return [re.split(r"\t|\s{2,}", line.strip()) for line in ran.stdout.splitlines()]

    made_of, read_by, served_by, everything = commands("Lineage")
    assert kubectl(made_of) == [
        ["forest", "main.ml.forest:3", "100%", "wine-forest", "4f1c2a9", "sha256:c0de", "sp-trainer"]
    ]
    row = kubectl(read_by)[1]
    assert row[:2] == ["https://git.example/wine.git", "main"]
    assert "main.lake.wines" in row[2]
    assert row[3:] == ["main.ml.forest", "3", "sp-trainer"]
    assert kubectl(served_by) == [["other"], ["wine", "main.ml.forest:3", "100%"]]
    assert ["wine", "Ready", "main.ml.forest", "3", "wine-forest", endpoint()["url"]] in kubectl(everything)
    (permissions,) = commands("Permissions")
    grant = {"who": "group:analysts", "level": "CAN_QUERY", "granted": False, "command": "az role assignment create"}
    operator.ready(permissions=[grant, grant | {"who": "group:users", "granted": True, "command": "no"}])
    assert kubectl(permissions) == [["az role assignment create"]]


# --- scoring


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Answering]:
    """A workspace that predicts 0.5 for each row, and knows nothing else."""

    def answer(asked: Asked) -> Told:
        if not asked.path.endswith("/invocations"):
            return Told(404, b"{}")
        rows = json.loads(asked.body)["dataframe_records"]
        return Told(200, json.dumps({"predictions": [0.5 for _ in rows]}).encode())

    with serve_answers(tmp_path) as running:
        running.answer = answer
        yield running


def test_score_asks_the_endpoint_that_the_status_names_with_the_callers_own_credential(
    api: LocalCluster, namespace: str, operator: Played, platform: Answering, tmp_path: Path
) -> None:
    operator.create(deploying())
    kubeconfig = person(api, namespace, tmp_path / "scorer", SCORES)
    own = {"DATABRICKS_HOST": platform.origin, "DATABRICKS_TOKEN": "dapi-of-mine", "TRAINYARD_ALLOWED_HOSTS": ""}
    cli = Cli(kubeconfig, REQUESTS_CA_BUNDLE=str(platform.ca_file), **own)
    allowed = ("--allowed-host", f"localhost:{platform.port}")
    rows = '{"hue": 1.0}\n{"hue": 2.0}\n'
    early = cli("score", "wine", "-f", "-", *allowed, input=rows)
    assert (early.returncode, "has no endpoint yet" in early.stderr) == (5, True)
    url = f"{platform.origin}/serving-endpoints/team-wine/invocations"
    operator.ready(endpoint=endpoint(host=platform.origin, url=url))
    ran = cli("score", "wine", "-f", "-", *allowed, input=rows)
    assert ran.returncode == 0, ran.stderr
    assert [line.split() for line in ran.stdout.splitlines()] == [
        ["ROW", "INPUT", "PREDICTION"],
        ["1", "hue=1.0", "0.5"],
        ["2", "hue=2.0", "0.5"],
    ]
    document = json.loads(cli("score", "deployment/wine", "-f", "-", "-o", "json", *allowed, input=rows).stdout)
    assert (document["predictions"], document["endpoint"]) == ([0.5, 0.5], "team-wine")
    cli("score", "wine", "-f", "-", "--served", "forest", *allowed, input=rows)
    scored = [asked for asked in platform.asked if asked.path.endswith("/invocations")]
    assert scored[-1].path == "/serving-endpoints/team-wine/served-models/forest-aaaa/invocations"
    assert {asked.headers["Authorization"] for asked in scored} == {"Bearer dapi-of-mine"}
    before = len(platform.asked)
    refused = cli("score", "wine", "-f", "-", input=rows)
    assert (refused.returncode, "not on the operator's allow-list" in refused.stderr) == (6, True)
    assert cli("score", "wine", "-f", "-", *allowed, input="[1]").returncode == 2
    assert cli("score", "none", "-f", "-", *allowed, input=rows).returncode == 5
    assert len(platform.asked) == before, "nothing was sent where it may not be"
    platform.answer = lambda asked: Told(400, b'{"error_code": "BAD_REQUEST", "message": "no column hue"}')
    failed = cli("score", "wine", "-f", "-", *allowed, input=rows)
    assert (failed.returncode, "BAD_REQUEST: no column hue" in failed.stderr) == (1, True)


# --- from Python


def test_deploy_creates_changes_and_leaves_alone_what_somebody_else_manages(
    api: LocalCluster, namespace: str, operator: Played, tmp_path: Path
) -> None:
    with yard_of(api, namespace, tmp_path) as yard:
        first = yard.deploy(deploying(), wait=False)
        assert first.spec.models[0].model.version == "3"
        again = yard.deploy(deploying(), wait=False)
        assert (again.uid, again.version) == (first.uid, first.version)
        changed = yard.deploy(deploying(spec={"tags": {"team": "wine"}}), wait=False)
        assert changed.spec.tags == {"team": "wine"}
        assert yard.deploy(deploying(), wait=False).spec.tags == {}
        with pytest.raises(Refused) as unknown:
            yard.deploy(deploying(spec={"modells": []}), wait=False)
        (problem,) = unknown.value.problems
        assert (problem.field, problem.message) == ("spec.modells", "field not declared in schema")
        with pytest.raises(Refused, match="sum to 100"):
            yard.deploy(deploying(spec={"models": [MODEL | {"traffic": 50}]}), wait=False)
        other = {**MODEL, "model": {"name": "forest", "version": "5"}}
        body = json.dumps(deploying(spec={"models": [other]}))
        api.kubectl("apply", "--server-side", "--force-conflicts", "-n", namespace, "-f", "-", input=body)
        with pytest.raises(Refused, match="conflict") as refused:
            yard.deploy(deploying(), wait=False)
        assert refused.value.conflict
        assert operator.get()["spec"]["models"][0]["model"]["version"] == "5"


def test_a_deployment_is_waited_for_promoted_and_deleted(
    api: LocalCluster, namespace: str, operator: Played, tmp_path: Path
) -> None:
    with yard_of(api, namespace, tmp_path) as yard:
        made = yard.deploy(deploying(), wait=False)
        later = threading.Timer(0.3, operator.ready)
        later.start()
        seen: list[str | None] = []
        served_now = yard.wait_deployed(made, timeout=60, on_progress=lambda state: seen.append(state.phase))
        later.join()
        assert served_now.ready
        assert seen[-1] == "Ready"
        operator.rolling()
        assert yard.promote("wine").spec.promote == 4
        operator.write("RolledBack", "CheckFailed", "2 is above 1")
        with pytest.raises(DeploymentFailed, match="2 is above 1") as failed:
            yard.wait_deployed("wine")
        assert failed.value.deployment.uid == made.uid
        assert failed.value.run is None
        yard.delete_deployment(made)
        until(gone(yard))
        yard.delete_deployment(made)
        with pytest.raises(NotFound):
            yard.delete_deployment("wine")


def gone(yard: Trainyard) -> Callable[[], bool]:
    return lambda: yard.deployments() == ()
