"""examples/quickstart as it stands, and real code on the way a user writes it: trained, tracked and registered."""

from typing import Any

import yaml

from stand import ROOT, wait_for
from tests.e2e.scene import Run, Scene

QUICKSTART = ROOT / "examples" / "quickstart"
NAMESPACE, NAME = "team-wine", "wine-forest"
HELPER = "ANSWER = 42\n"
MAIN = "import sys\nimport helper\nprint(helper.ANSWER, sys.argv[1:])\nassert sys.argv[1:] == ['42', '$(raw)']\n"


def manifests(scene: Scene, principal: str) -> list[dict[str, Any]]:
    """The example's manifests, with the sandbox's host and a principal in place of those that stand for them."""
    found = [m for path in sorted(QUICKSTART.glob("*.yaml")) for m in yaml.safe_load_all(path.read_text())]
    for manifest in found:
        if manifest["kind"] == "ServiceAccount":
            manifest["metadata"]["annotations"]["trainyard.dev/databricks-client-id"] = principal
        if manifest["kind"] == "MLWorkspace":
            manifest["spec"]["databricks"]["host"] = scene.stand.address.host
    return sorted(found, key=lambda m: m["kind"] != "Namespace")


def test_the_quickstart_trains_and_registers_a_model(real: Scene) -> None:
    real.teams.append(NAMESPACE)
    principal = real.stand.team(NAMESPACE).principal
    real.apply(*manifests(real, principal))
    run = Run(real, NAMESPACE, NAME).until("Succeeded", seconds=240)
    wait_for("its finalizer to go", lambda: not run.now()["metadata"].get("finalizers"))
    status = run.status
    assert set(status["metrics"]) == {"accuracy", "log_loss"}
    assert 0.9 < float(status["metrics"]["accuracy"]) <= 1
    assert 0 < float(status["metrics"]["log_loss"]) < 1
    assert status["model"] == {
        "name": "main.ml.wine-forest",
        "version": "1",
        "uri": "models:/main.ml.wine-forest/1",
        "alias": "challenger",
    }
    assert status["identity"] == {
        "submittedAs": principal,
        "ranAs": principal,
        "mode": "federated",
        "serviceAccount": f"{NAMESPACE}/trainer",
    }
    check_attempt(real, run, status)
    check_platform(real, principal, status)
    check_what_people_see(real, run)


def check_attempt(scene: Scene, run: Run, status: dict[str, Any]) -> None:
    """The one attempt is told completely."""
    (attempt,) = status["attempts"]
    uid = run.now()["metadata"]["uid"]
    assert attempt["submissionToken"] == f"ty-{uid}-1"
    assert attempt["remoteId"] == status["remoteId"] == run.only_remote().id
    assert attempt["host"] == scene.stand.address.host
    assert attempt["url"] == status["url"]
    times = [attempt[name] for name in ("intendedAt", "submittedAt", "startedAt", "endedAt")]
    assert times == sorted(times)
    assert attempt["reason"] == "Succeeded"
    assert all(attempt[name].startswith("sha256:") for name in ("specDigest", "codeDigest"))
    assert run.paid() == 1


def check_platform(scene: Scene, principal: str, status: dict[str, Any]) -> None:
    """Alias and tags are on the model version, owner labels and ours on the MLflow run."""
    model = "/api/2.1/unity-catalog/models/main.ml.wine-forest"
    version = scene.ask_platform(principal, f"{model}/aliases/challenger")
    assert version["version"] == 1
    found = scene.ask_platform(
        principal, "/api/2.0/mlflow/unity-catalog/model-versions/get", name="main.ml.wine-forest", version="1"
    )
    assert {"key": "data", "value": "sklearn-wine"} in found["model_version"]["tags"]
    mlflow_run = status["attempts"][0]["mlflowRunId"]
    tracked = scene.ask_platform(principal, "/api/2.0/mlflow/runs/get", run_id=mlflow_run)["run"]
    tags = {tag["key"]: tag["value"] for tag in tracked["data"]["tags"]}
    assert (tags["team"], tags["cost-center"]) == ("wine", "4711")
    assert tags["trainyard.dev/namespace"] == NAMESPACE
    assert tags["trainyard.dev/name"] == NAME
    assert tags["trainyard.dev/submission-token"] == status["attempts"][0]["submissionToken"]
    assert tracked["info"]["status"] == "FINISHED"
    params = {param["key"]: param["value"] for param in tracked["data"]["params"]}
    assert (params["trees"], params["seed"]) == ("100", "7")


def check_what_people_see(scene: Scene, run: Run) -> None:
    """Events and printer columns."""
    assert run.events() == ["Submitted", "Succeeded"]
    assert {c["type"]: c["status"] for c in run.status["conditions"]} == {
        "Ready": "True",
        "Reconciling": "False",
        "Stalled": "False",
        "Complete": "True",
        "Failed": "False",
    }
    head, row = scene.cluster.kubectl("get", "mltr", NAME, "-n", NAMESPACE).stdout.splitlines()
    assert head.split() == ["NAME", "PHASE", "WORKSPACE", "ATTEMPT", "DURATION", "AGE"]
    assert row.split()[:4] == [NAME, "Succeeded", "databricks", "1"]
    wide = scene.cluster.kubectl("get", "mltr", NAME, "-n", NAMESPACE, "-o", "wide").stdout
    assert run.status["remoteId"] in wide
    scene.cluster.kubectl("wait", "mltr", NAME, "-n", NAMESPACE, "--for=condition=Complete", "--timeout=5s")


def test_code_from_a_config_map_runs_with_its_other_files_and_arguments(real: Scene) -> None:
    team = real.team()
    real.config_map(team.namespace, "code", {"train.py": MAIN, "helper.py": HELPER})
    body = real.stand.training_run(
        "train",
        team.namespace,
        entrypoint={"pythonFile": "train.py", "args": ["$(params.answer)", "$$(raw)"]},
        params={"answer": "42"},
    )
    body["spec"]["code"] = {"configMap": {"name": "code"}}
    real.create(team.namespace, "mltrainingruns", body)
    Run(real, team.namespace, "train").until("Succeeded")


def test_code_that_fails_is_quoted_with_its_last_lines(real: Scene) -> None:
    code = "def load():\n    raise ValueError('no rows left')\n\nload()\n"
    run = real.run(real.team(), code=code).until("Failed")
    assert run.reason == "CodeFailed"
    assert "ValueError: no rows left" in run.message
    assert "in load" in run.message


def test_a_package_that_can_not_be_installed_is_told(real: Scene) -> None:
    run = real.run(real.team(), environment={"pip": ["./no-such-package.whl"]}).until("Failed")
    assert run.reason == "PackageInstallFailed"
    assert "no-such-package" in run.message


def test_owner_labels_and_ours_are_on_the_cluster_that_is_paid_for(real: Scene) -> None:
    real.control.add_script(run_name=".*/labelled .*")
    run = real.run(
        real.team(),
        "labelled",
        compute={"class": "cluster"},
        environment={"runtime": "sklearn"},
        tags={"team": "wine", "cost-center": "4711"},
    ).until("Succeeded")
    (task,) = run.only_remote().raw["request"]["tasks"]
    tags = task["new_cluster"]["custom_tags"]
    assert (tags["team"], tags["cost-center"]) == ("wine", "4711")
    assert (tags["trainyard-namespace"], tags["trainyard-name"]) == (run.namespace, "labelled")
    assert tags["trainyard-uid"] == run.now()["metadata"]["uid"]
    assert task["new_cluster"]["data_security_mode"] == "DATA_SECURITY_MODE_DEDICATED"
