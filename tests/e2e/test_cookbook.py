"""docs/cookbook.md: every recipe, applied to the real API server and run by the real operator to its documented end."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stand import wait_for
from tests.e2e.kitchen import Kitchen, kitchen
from tests.e2e.recipe_checks import LOOKED_AT
from tests.e2e.recipe_needs import PREPARED
from tests.e2e.recipes import Recipe, differences, recipes
from tests.e2e.scene import FINAL, Run
from trainyard.api.run_log import log_name
from trainyard_localcluster import LocalCluster

RECIPES = [recipe for recipe in recipes() if not recipe.is_team and not recipe.is_deployment]
LOGS_A_MODEL = {"33-model", "49-azureml-model"}  # MLflow takes its time to
WITH_MORE_TO_DO = {"30-suspend", "31-ttl", "32-submission-key", "38-python-client", "42-azureml-environment"}
SIMPLE = [recipe for recipe in RECIPES if recipe.file.stem not in WITH_MORE_TO_DO]
ON_AZURE = [recipe for recipe in SIMPLE if "azureml" in recipe.file.stem]


@pytest.fixture(scope="module")
def place(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kitchen]:
    """The team that the recipes are of."""
    with kitchen(cluster, tmp_path_factory.mktemp("cookbook")) as made:
        yield made


def started(place: Kitchen, recipe: Recipe) -> Run:
    """The recipe's run, applied with what it needs."""
    if (prepare := PREPARED.get(recipe.file.stem)) is not None:
        prepare(place)
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
    name = log_name(run.name, run.now()["metadata"]["uid"], run.status["attempt"])
    kept = run.scene.read("mlrunlogs", run.namespace, name)
    return [line for task in kept["spec"]["tasks"] for line in task["text"].splitlines()]


def recipe_of(name: str) -> Recipe:
    (found,) = (recipe for recipe in RECIPES if recipe.file.stem == name)
    return found


def did_as_shown(place: Kitchen, recipe: Recipe, run: Run) -> None:
    """Waits until it is as the page shows, and looks at what it left."""
    ends_as_shown(run, recipe, 240 if recipe.file.stem in LOGS_A_MODEL else 60)
    if recipe.log:
        assert set(recipe.log) <= set(logged(run))
    if (look := LOOKED_AT.get(recipe.file.stem)) is not None:
        look(place, run)


@pytest.mark.parametrize("recipe", [recipe for recipe in SIMPLE if recipe not in ON_AZURE], ids=str)
def test_a_recipe_ends_as_the_page_shows(place: Kitchen, recipe: Recipe) -> None:
    did_as_shown(place, recipe, started(place, recipe))


@pytest.fixture(scope="module")
def under_way(place: Kitchen) -> dict[str, Run]:
    """The recipes of Azure ML, started together, by their names."""
    return {str(recipe): started(place, recipe) for recipe in ON_AZURE}


def test_an_environment_of_azure_ml_is_built_before_the_run_starts(place: Kitchen, under_way: dict[str, Run]) -> None:
    assert under_way  # which go on meanwhile
    recipe = recipe_of("42-azureml-environment")
    try:
        run = started(place, recipe).until("BuildingEnvironment")
    finally:
        place.stand.control.azure_compute_settings(build_seconds=0)
    did_as_shown(place, recipe, run)


@pytest.mark.parametrize("recipe", ON_AZURE, ids=str)
def test_a_recipe_of_azure_ml_ends_as_the_page_shows(place: Kitchen, under_way: dict[str, Run], recipe: Recipe) -> None:
    did_as_shown(place, recipe, under_way[str(recipe)])


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


def command(place: Kitchen, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line as a person has it."""
    env = {**os.environ, "KUBECONFIG": str(place.scene.cluster.kubeconfig)}
    line = [sys.executable, "-m", "trainyard", *words, "-n", place.namespace]
    return subprocess.run(line, env=env, capture_output=True, text=True, timeout=180, check=False)


def test_the_command_line_plans_runs_tells_and_prints(place: Kitchen, tmp_path: Path) -> None:
    manifest = tmp_path / "run.yaml"
    body = place.stand.training_run("by-hand", place.namespace, "print('by hand')")
    manifest.write_text(yaml.safe_dump(body))
    plan = command(place, "plan", "-f", str(manifest))
    assert (plan.returncode, place.scene.read("mltrainingruns", place.namespace, "by-hand")) == (0, {}), plan.stderr
    assert '"spark_python_task"' in plan.stdout
    ran = command(place, "run", "-f", str(manifest))
    assert ran.returncode == 0, ran.stderr
    assert "Succeeded" in ran.stderr
    assert command(place, "logs", "by-hand").stdout == "by hand\n"
    assert "attempt 1" in command(place, "describe", "by-hand").stdout.lower()
