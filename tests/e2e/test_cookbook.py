"""docs/cookbook.md: every recipe, applied to the real API server and run by the real operator to its documented end."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from databricks.sdk.service import compute, jobs

from stand import wait_for
from tests.e2e.kitchen import TRAIN, WHEEL, Kitchen, kitchen, wheel
from tests.e2e.recipes import FOLDER, Recipe, differences, recipes
from tests.e2e.scene import FINAL, Run
from trainyard_localcluster import LocalCluster

RECIPES = [recipe for recipe in recipes() if recipe.file.stem != "00-team"]
LOGS_A_MODEL = {"33-model"}  # MLflow takes its time to
WITH_MORE_TO_DO = {"30-suspend", "31-ttl", "32-submission-key", "38-python-client"}


@pytest.fixture(scope="module")
def place(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kitchen]:
    """The team that the recipes are of."""
    with kitchen(cluster, tmp_path_factory.mktemp("cookbook")) as made:
        yield made


def started(place: Kitchen, recipe: Recipe) -> Run:
    """The recipe's run, applied with what it needs."""
    PREPARED.get(recipe.file.stem, lambda place: None)(place)
    text = place.text(recipe.file)
    place.scene.cluster.kubectl("apply", "--server-side", "-f", "-", input=text)
    (name,) = (each["metadata"]["name"] for each in yaml.safe_load_all(text) if each["kind"] == "MLTrainingRun")
    return Run(place.scene, place.namespace, name)


def ends_as_shown(run: Run, recipe: Recipe, seconds: float = 60) -> None:
    """Waits until the status is the one that the page shows; fails at once where it can not become so any more."""
    wrong: list[str] = []

    def looked(obj: dict[str, Any]) -> bool:
        status = obj.get("status", {})
        wrong[:] = differences(recipe.status, status)
        phase = status.get("phase")
        if wrong and phase in (*FINAL, "Stalled") and phase != recipe.status["phase"]:
            raise AssertionError(f"{recipe.title}: it is {phase}: {status['conditions'][0]}\n{run.scene.log_tail()}")
        return not wrong

    try:
        run.wait("to look as in the cookbook", looked, seconds)
    except AssertionError as error:
        raise AssertionError(f"{wrong}\n{error}") from error


def logged(run: Run) -> list[str]:
    """The lines that the newest attempt's tasks printed, as kept beside the run."""
    kept = run.scene.read("mlrunlogs", run.namespace, f"{run.name}-{run.status['attempt']}")
    return [line for task in kept["spec"]["tasks"] for line in task["text"].splitlines()]


def recipe_of(name: str) -> Recipe:
    (found,) = (recipe for recipe in RECIPES if recipe.file.stem == name)
    return found


@pytest.mark.parametrize("recipe", [each for each in RECIPES if each.file.stem not in WITH_MORE_TO_DO], ids=str)
def test_a_recipe_ends_as_the_page_shows(place: Kitchen, recipe: Recipe) -> None:
    run = started(place, recipe)
    ends_as_shown(run, recipe, 240 if recipe.file.stem in LOGS_A_MODEL else 60)
    if recipe.log:
        assert set(recipe.log) <= set(logged(run))
    LOOKED_AT.get(recipe.file.stem, lambda place, run: None)(place, run)


# --- what there is beside the manifest


def a_folder_of_the_workspace(place: Kitchen) -> None:
    place.put_workspace("/Workspace/Shared/wine/1.4/train.py", TRAIN.encode())


def a_folder_of_a_volume(place: Kitchen) -> None:
    place.put_volume("/Volumes/main/wine/code/wine-1.4/train.py", TRAIN.encode())


def a_wheel_in_a_volume(place: Kitchen) -> None:
    place.put_volume(f"/Volumes/main/wine/code/wheels/{WHEEL}", wheel())


def wines(place: Kitchen) -> None:
    place.put_volume("/Volumes/main/wine/data/2026/wines.csv", b"a\nb\n")


def a_saved_job(place: Kitchen, name: str, *parameters: str) -> int:
    place.put_workspace(f"/Workspace/Shared/jobs/{name}.py", b"import sys\nprint(*sys.argv[1:])\n")
    references = [f"{{{{job.parameters.{each}}}}}" for each in parameters]
    made = place.client().jobs.create(
        name=name,
        tasks=[
            jobs.Task(
                task_key="only",
                spark_python_task=jobs.SparkPythonTask(f"/Workspace/Shared/jobs/{name}.py", parameters=references),
                environment_key="default",
                disable_auto_optimization=True,
            )
        ],
        environments=[jobs.JobEnvironment("default", compute.Environment(environment_version="5"))],
        parameters=[jobs.JobParameterDefinition(name=each, default="none") for each in parameters],
    )
    assert made.job_id is not None
    return made.job_id


def a_job_with_parameters(place: Kitchen) -> None:
    place.instead['"1042"'] = f'"{a_saved_job(place, "daily", "day", "mlflow_run_id")}"'


def a_job_with_a_name(place: Kitchen) -> None:
    a_saved_job(place, "prepare wines")


def a_secret(place: Kitchen) -> None:
    place.client().secrets.create_scope(place.namespace)  # what team-wine is here
    place.client().secrets.put_secret(place.namespace, "feature-store", string_value="not telling")


def a_cluster(place: Kitchen) -> None:
    waiter: Any = place.client().clusters.create(
        spark_version="16.4.x-scala2.12", node_type_id="m5d.large", num_workers=0, cluster_name="shared"
    )
    place.instead["1123-120000-abcdefgh"] = waiter.response.cluster_id


def two_pools(place: Kitchen) -> None:
    for there in ("1123-120000-pool-abcdefgh", "1123-120000-pool-ijklmnop"):
        made = place.client(place.admin).instance_pools.create(instance_pool_name=there, node_type_id="m5d.large")
        place.instead[there] = made.instance_pool_id or ""
        place.stand.control.grant(place.trainer, f"instance-pools/{made.instance_pool_id}", "CAN_ATTACH_TO")


def a_policy(place: Kitchen) -> None:
    definition = {"num_workers": {"type": "range", "maxValue": 2, "defaultValue": 1}}
    made = place.client(place.admin).cluster_policies.create(name="small", definition=json.dumps(definition))
    place.instead["60646AB1C2D3E4F5"] = made.policy_id or ""
    place.stand.control.grant(place.trainer, f"cluster-policies/{made.policy_id}", "CAN_USE")


def a_budget_policy(place: Kitchen) -> None:
    place.stand.control.compute(budget_policies=["7a0c0e1e-0000-4000-8000-000000000000"])


def an_instance_profile(place: Kitchen) -> None:
    place.stand.control.compute(instance_profiles=["arn:aws:iam::123456789012:instance-profile/wine-raw-reader"])


def a_day_without_machines(place: Kitchen) -> None:
    place.stand.control.fail_cluster_starts(
        "AWS_INSUFFICIENT_INSTANCE_CAPACITY_FAILURE", times=1, run_name=f"{place.namespace}/spot-autoscale .*"
    )


def a_notebook_in_the_workspace(place: Kitchen) -> None:
    source = b"# Databricks notebook source\ndbutils.notebook.exit('cleaned')\n"
    place.put_workspace("/Workspace/Shared/wine/clean.py", source)


PREPARED: dict[str, Callable[[Kitchen], None]] = {
    "04-workspace-path": a_folder_of_the_workspace,
    "05-volume-path": a_folder_of_a_volume,
    "06-wheel-file": a_wheel_in_a_volume,
    "13-job-by-id": a_job_with_parameters,
    "14-job-by-name": a_job_with_a_name,
    "16-data": wines,
    "17-secrets": a_secret,
    "18-platform-task": a_notebook_in_the_workspace,
    "20-existing-cluster": a_cluster,
    "21-pool": two_pools,
    "22-policy": a_policy,
    "23-serverless": a_budget_policy,
    "24-instance-profile": an_instance_profile,
    "25-spot-autoscale": a_day_without_machines,
}


# --- what is looked at beside the status


def task_of(place: Kitchen, run: Run) -> Any:
    """The first task of the newest attempt, as the platform has it."""
    tasks = place.client().jobs.get_run(int(run.status["remoteId"])).tasks
    assert tasks
    return tasks[0]


def only_what_failed_ran_again(place: Kitchen, run: Run) -> None:
    first, second = (place.client().jobs.get_run(int(each["remoteId"])) for each in run.status["attempts"])
    assert {task.task_key for task in first.tasks or []} == {"fetch", "train", "tell"}
    assert {task.task_key for task in second.tasks or []} == {"train", "tell"}


def the_job_got_its_parameters(place: Kitchen, run: Run) -> None:
    output = place.client().jobs.get_run_output(task_of(place, run).run_id)
    assert output.run_job_output
    assert output.run_job_output.run_id
    child = place.client().jobs.get_run(output.run_job_output.run_id)
    assert child.tasks
    printed = place.client().jobs.get_run_output(child.tasks[0].run_id or 0).logs
    assert printed == f"2026-11-23 {run.status['attempts'][0]['mlflowRunId']}\n"


def the_block_was_merged(place: Kitchen, run: Run) -> None:
    cluster = task_of(place, run).new_cluster
    assert (cluster.num_workers, cluster.autoscale.min_workers, cluster.autoscale.max_workers) == (None, 1, 2)
    assert cluster.node_type_id == "m5d.2xlarge"


def the_scores_are_there(place: Kitchen, run: Run) -> None:
    found = place.client().files.download(f"{run.status['outputs']['scores']['uri']}/scores.csv").contents
    assert found
    assert found.read() == b"a,0.9\nb,0.9\n"


def it_ran_on_that_cluster(place: Kitchen, run: Run) -> None:
    assert task_of(place, run).existing_cluster_id == place.instead["1123-120000-abcdefgh"]


def its_machines_came_from_the_pools(place: Kitchen, run: Run) -> None:
    cluster = task_of(place, run).new_cluster
    assert cluster.instance_pool_id == place.instead["1123-120000-pool-abcdefgh"]
    assert cluster.driver_instance_pool_id == place.instead["1123-120000-pool-ijklmnop"]


def it_kept_to_the_policy(place: Kitchen, run: Run) -> None:
    cluster = task_of(place, run).new_cluster
    assert (cluster.policy_id, cluster.apply_policy_default_values) == (place.instead["60646AB1C2D3E4F5"], True)


def its_machines_have_the_profile(place: Kitchen, run: Run) -> None:
    profile = task_of(place, run).new_cluster.aws_attributes.instance_profile_arn
    assert profile == "arn:aws:iam::123456789012:instance-profile/wine-raw-reader"


def it_asked_for_spot_machines(place: Kitchen, run: Run) -> None:
    cluster = task_of(place, run).new_cluster
    assert cluster.aws_attributes.availability is compute.AwsAvailability.SPOT_WITH_FALLBACK
    assert cluster.aws_attributes.first_on_demand == 1
    assert (cluster.autoscale.min_workers, cluster.autoscale.max_workers) == (1, 8)


def it_asked_for_a_gpu(place: Kitchen, run: Run) -> None:
    assert task_of(place, run).new_cluster.node_type_id == "g5.xlarge"


def the_whole_log_is_in_the_volume(place: Kitchen, run: Run) -> None:
    uri = run.status["attempts"][0]["logsUri"]
    assert uri.startswith("/Volumes/main/wine/logs/")
    found = place.client().files.download(uri).contents
    assert found
    assert found.read() == b"epoch 0\nepoch 1\nepoch 2\n"


def the_code_was_the_reader(place: Kitchen, run: Run) -> None:
    assert run.status["identity"]["submittedAs"] == place.trainer
    assert run.status["identity"]["ranAs"] == place.reader


def it_goes_on_once_the_right_is_there(place: Kitchen, run: Run) -> None:
    assert run.remote() == []
    assert "GRANT CREATE MODEL ON SCHEMA `main`.`finance`" in run.message
    place.stand.control.grant(place.trainer, "main.finance", "CREATE MODEL")
    run.wait("to go on", lambda obj: obj["status"]["phase"] != "Stalled", 90)


def nothing_was_started(place: Kitchen, run: Run) -> None:
    assert run.remote() == []
    assert json.loads(run.status["plan"]["request"])["body"]["tasks"]


LOOKED_AT: dict[str, Callable[[Kitchen, Run], None]] = {
    "12-tasks": only_what_failed_ran_again,
    "13-job-by-id": the_job_got_its_parameters,
    "15-databricks-block": the_block_was_merged,
    "16-data": the_scores_are_there,
    "20-existing-cluster": it_ran_on_that_cluster,
    "21-pool": its_machines_came_from_the_pools,
    "22-policy": it_kept_to_the_policy,
    "24-instance-profile": its_machines_have_the_profile,
    "25-spot-autoscale": it_asked_for_spot_machines,
    "26-gpu": it_asked_for_a_gpu,
    "34-logs": the_whole_log_is_in_the_volume,
    "35-run-as": the_code_was_the_reader,
    "36-preflight": it_goes_on_once_the_right_is_there,
    "37-plan-only": nothing_was_started,
}


# --- recipes with something to do in between


def test_a_suspended_run_starts_when_it_is_resumed(place: Kitchen) -> None:
    recipe = recipe_of("30-suspend")
    run = started(place, recipe).until("Suspended")
    assert run.remote() == []
    run.change(suspend=False)
    ends_as_shown(run, recipe)
    assert run.status.get("retries", 0) == 0


def test_a_run_that_has_outlived_its_time_goes_with_its_uploads(place: Kitchen) -> None:
    recipe = recipe_of("31-ttl")
    run = started(place, recipe).until("Succeeded")
    digest = run.status["attempts"][0]["codeDigest"].removeprefix("sha256:")
    assert any(digest[:16] in folder for folder in place.uploads())
    run.gone()
    assert not any(digest[:16] in folder for folder in place.uploads())


def test_a_run_that_argo_cd_tracks_outlives_its_time(place: Kitchen) -> None:
    recipe = recipe_of("31-ttl")
    tracked = yaml.safe_load(place.text(recipe.file))
    tracked["metadata"] |= {
        "name": "tracked",
        "annotations": {"argocd.argoproj.io/tracking-id": "wine:trainyard.dev/MLTrainingRun:team-wine/tracked"},
    }
    place.scene.apply(tracked)
    ends_as_shown(Run(place.scene, place.namespace, "tracked"), recipe)


def test_a_run_that_is_restored_finds_what_it_started_before(place: Kitchen) -> None:
    recipe = recipe_of("32-submission-key")
    place.stand.control.settings(clock_offset_seconds=-120)  # the platform's: it started two minutes ago
    try:
        run = started(place, recipe).until("Succeeded")
    finally:
        place.stand.control.settings(clock_offset_seconds=0)
    wait_for("its finalizer to go", lambda: not run.now()["metadata"].get("finalizers"))
    run.delete()
    run.gone()
    ends_as_shown(started(place, recipe), recipe)
    assert run.paid() == 1


def test_the_python_client_runs_a_training(place: Kitchen) -> None:
    recipe = recipe_of("38-python-client")
    env = {**os.environ, "KUBECONFIG": str(place.scene.cluster.kubeconfig)}
    command = [sys.executable, str(recipe.file), place.namespace]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("from-python-")
    assert " Succeeded https://" in ran.stdout


# --- the page


def test_the_page_quotes_each_example_as_it_stands() -> None:
    assert [str(recipe) for recipe in recipes() if recipe.quoted.rstrip() != recipe.file.read_text().rstrip()] == []
    assert {recipe.file for recipe in recipes()} == set(FOLDER.iterdir())


def test_each_recipe_says_what_to_see() -> None:
    assert [str(each) for each in RECIPES if not each.status and each.file.suffix == ".yaml"] == []


def test_the_names_of_the_examples_are_numbered_once() -> None:
    numbers = [re.match(r"(\d\d)-", path.name)[1] for path in sorted(Path(FOLDER).iterdir())]  # type: ignore[index]
    assert len(set(numbers)) == len(numbers)
