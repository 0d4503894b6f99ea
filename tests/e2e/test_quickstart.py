"""examples/quickstart as it stands, and real code on the way a user writes it: trained, tracked and registered."""

from dataclasses import dataclass
from typing import Any

import requests
import yaml

from stand import ROOT
from tests.e2e.scene import Run, Scene
from tests.platforms import on_every_platform

QUICKSTART = ROOT / "examples" / "quickstart"
NAMESPACE, NAME = "team-wine", "wine-forest"
HELPER = "ANSWER = 42\n"
MAIN = "import sys\nimport helper\nprint(helper.ANSWER, sys.argv[1:])\nassert sys.argv[1:] == ['42', '$(raw)']\n"


@dataclass(frozen=True)
class Trained:
    """The example's run on one platform, and who asked for it."""

    platform: str
    principal: str
    service_account: str
    run: Run


def of_team(file: str) -> list[dict[str, Any]]:
    """The manifests of a file of the example, with its namespace first."""
    found = yaml.safe_load_all((QUICKSTART / file).read_text())
    return sorted(found, key=lambda m: str(m["kind"]) != "Namespace")


def set_up(scene: Scene, platform: str) -> Trained:
    """Applies what the example says of a platform: the team, with a principal in place of the one that stands for it
    and the sandbox as the workspace; and the run, unchanged but for its workspace and its name."""
    driver = scene.on(platform).platform
    manifests = of_team({"databricks": "team.yaml", "azureml": "team-azureml.yaml"}[platform])
    (account,) = [m for m in manifests if m["kind"] == "ServiceAccount"]
    (workspace,) = [m for m in manifests if m["kind"] == "MLWorkspace"]
    team = driver.team(NAMESPACE, account["metadata"]["name"])
    account["metadata"]["annotations"][driver.annotation()] = team.principal
    (where,) = workspace["spec"].keys() & {"databricks", "azureML"}
    workspace["spec"][where] = driver.workspace(NAMESPACE)["spec"][where]
    (run,) = of_team("run.yaml")
    run["metadata"]["name"] = name = NAME if platform == "databricks" else f"{NAME}-{platform}"
    run["spec"]["workspaceRef"]["name"] = workspace["metadata"]["name"]
    scene.apply(*manifests, run)
    return Trained(platform, team.principal, account["metadata"]["name"], Run(scene, NAMESPACE, name))


def test_the_quickstart_trains_the_same_model_on_each_platform_and_registers_it(real: Scene) -> None:
    real.teams.append(NAMESPACE)
    trained = [set_up(real, platform) for platform in ("databricks", "azureml")]
    for each in trained:
        real.on(each.platform)
        each.run.until("Succeeded", seconds=240)
        each.run.wait("to be let go", lambda obj: not obj["metadata"].get("finalizers"))
        check_result(each)
        check_attempt(real, each.run)
        check_what_people_see(each)
    first, second = trained
    assert first.run.status["metrics"] == second.run.status["metrics"]
    check_databricks(real, first)
    check_azure(real, second)


def check_result(trained: Trained) -> None:
    """Metrics, the model version and who it was, in words that are the same on each platform."""
    status, driver = trained.run.status, trained.run.scene.platform
    assert set(status["metrics"]) == {"accuracy", "log_loss"}
    assert 0.9 < float(status["metrics"]["accuracy"]) <= 1
    assert 0 < float(status["metrics"]["log_loss"]) < 1
    model = driver.model_name("wine-forest")
    assert status["model"] == {"name": model, "version": "1", "uri": f"models:/{model}/1", "alias": "challenger"}
    identity = {key: status["identity"][key] for key in ("submittedAs", "mode", "serviceAccount")}
    assert identity == {
        "submittedAs": trained.principal,
        "mode": "federated",
        "serviceAccount": f"{NAMESPACE}/{trained.service_account}",
    }


def check_attempt(scene: Scene, run: Run) -> None:
    """The one attempt is told completely."""
    status = run.status
    (attempt,) = status["attempts"]
    uid = run.now()["metadata"]["uid"]
    assert attempt["submissionToken"] == f"ty-{uid}-1"
    assert attempt["remoteId"] == status["remoteId"] == run.only_remote().id
    assert attempt["host"] == scene.platform.host
    assert attempt["url"] == status["url"]
    times = [attempt[name] for name in ("intendedAt", "submittedAt", "startedAt", "endedAt")]
    assert times == sorted(times)
    assert attempt["reason"] == "Succeeded"
    assert all(attempt[name].startswith("sha256:") for name in ("specDigest", "codeDigest"))
    assert run.paid() == 1


def check_databricks(scene: Scene, trained: Trained) -> None:
    """Alias and tags are on the model version, owner labels and ours on the MLflow run."""
    principal, status = trained.principal, trained.run.status
    assert status["identity"]["ranAs"] == principal
    model = "/api/2.1/unity-catalog/models/main.ml.wine-forest"
    version = scene.ask_platform(principal, f"{model}/aliases/challenger")
    assert version["version"] == 1
    found = scene.ask_platform(
        principal, "/api/2.0/mlflow/unity-catalog/model-versions/get", name="main.ml.wine-forest", version="1"
    )
    assert {"key": "data", "value": "sklearn-wine"} in found["model_version"]["tags"]
    tracked = scene.ask_platform(principal, "/api/2.0/mlflow/runs/get", run_id=status["attempts"][0]["mlflowRunId"])
    tags = check_tracked(tracked["run"])
    assert tags["trainyard.dev/namespace"] == NAMESPACE
    assert tags["trainyard.dev/name"] == NAME
    assert tags["trainyard.dev/submission-token"] == status["attempts"][0]["submissionToken"]


def check_azure(scene: Scene, trained: Trained) -> None:
    """Alias and tags are on the model version, owner labels and ours on the job."""
    status = trained.run.status
    found = ask_mlflow(scene, trained.principal, "model-versions/get", name="wine-forest", version="1")
    tags = {tag["key"]: tag["value"] for tag in found["model_version"]["tags"]}
    assert (tags["alias"], tags["data"]) == ("challenger", "sklearn-wine")
    assert found["model_version"]["run_id"] == status["remoteId"]
    check_tracked(ask_mlflow(scene, trained.principal, "runs/get", run_id=status["remoteId"])["run"])
    job = scene.control.azure_job(status["remoteId"])["tags"]
    assert (job["team"], job["cost-center"]) == ("wine", "4711")
    assert (job["trainyard_namespace"], job["trainyard_name"]) == (NAMESPACE, trained.run.name)
    assert job["trainyard_token"] == status["attempts"][0]["submissionToken"] == status["remoteId"]


def ask_mlflow(scene: Scene, principal: str, path: str, **query: str) -> dict[str, Any]:
    """What the MLflow of the Azure ML workspace answers that principal."""
    azure = scene.control.address.azure
    answer = requests.get(
        f"{azure.resource_manager}/mlflow/v1.0{azure.workspace_scope}/api/2.0/mlflow/{path}",
        params=query,
        headers={"Authorization": f"Bearer {scene.control.issue_azure_token(principal, azure.ml_resource)}"},
        verify=str(scene.control.address.ca_file),
        timeout=30,
    )
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def check_tracked(run: dict[str, Any]) -> dict[str, str]:
    """What the code logged, beside its metrics. Returns the tags."""
    assert run["info"]["status"] == "FINISHED"
    params = {param["key"]: param["value"] for param in run["data"]["params"]}
    assert (params["trees"], params["seed"]) == ("100", "7")
    tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
    assert (tags["team"], tags["cost-center"]) == ("wine", "4711")
    return tags


def check_what_people_see(trained: Trained) -> None:
    """Events and printer columns."""
    run = trained.run
    kubectl, name = run.scene.cluster.kubectl, run.name
    assert run.events() == ["Submitted", "Succeeded"]
    assert {c["type"]: c["status"] for c in run.status["conditions"]} == {
        "Ready": "True",
        "Reconciling": "False",
        "Stalled": "False",
        "Complete": "True",
        "Failed": "False",
    }
    head, row = kubectl("get", "mltr", name, "-n", NAMESPACE).stdout.splitlines()
    assert head.split() == ["NAME", "PHASE", "WORKSPACE", "ATTEMPT", "DURATION", "AGE"]
    assert row.split()[:4] == [name, "Succeeded", trained.platform, "1"]
    wide = kubectl("get", "mltr", name, "-n", NAMESPACE, "-o", "wide").stdout
    assert run.status["remoteId"] in wide
    kubectl("wait", "mltr", name, "-n", NAMESPACE, "--for=condition=Complete", "--timeout=5s")


@on_every_platform
def test_code_from_a_config_map_runs_with_its_other_files_and_arguments(real: Scene) -> None:
    team = real.team()
    real.config_map(team.namespace, "code", {"train.py": MAIN, "helper.py": HELPER})
    run = real.run(
        team,
        code={"configMap": {"name": "code"}},
        entrypoint={"pythonFile": "train.py", "args": ["$(params.answer)", "$$(raw)"]},
        params={"answer": "42"},
    )
    run.until("Succeeded")


@on_every_platform
def test_code_that_fails_is_quoted_with_its_last_lines(real: Scene) -> None:
    code = "def load():\n    raise ValueError('no rows left')\n\nload()\n"
    run = real.run(real.team(), code=code).until("Failed")
    assert run.reason == "CodeFailed"
    assert "ValueError: no rows left" in run.message
    assert "in load" in run.message


@on_every_platform
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
