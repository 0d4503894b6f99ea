"""docs/cookbook.md: every recipe, applied to the real API server and run by the real operator to its documented end."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.kitchen import TRAIN, WHEEL, Kitchen, kitchen, wheel
from tests.e2e.recipes import FOLDER, Recipe, differences, recipes
from tests.e2e.scene import FINAL, Run
from trainyard_localcluster import LocalCluster

RECIPES = [recipe for recipe in recipes() if recipe.file.stem != "00-team"]
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
    place.scene.cluster.kubectl("apply", "-f", "-", input=text)
    (name,) = (each["metadata"]["name"] for each in yaml.safe_load_all(text) if each["kind"] == "MLTrainingRun")
    return Run(place.scene, place.namespace, name)


def ends_as_shown(run: Run, recipe: Recipe, seconds: float = 90) -> None:
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


def recipe_of(name: str) -> Recipe:
    (found,) = (recipe for recipe in RECIPES if recipe.file.stem == name)
    return found


@pytest.mark.parametrize("recipe", [each for each in RECIPES if each.file.stem not in WITH_MORE_TO_DO], ids=str)
def test_a_recipe_ends_as_the_page_shows(place: Kitchen, recipe: Recipe) -> None:
    ends_as_shown(started(place, recipe), recipe)


# --- what there is beside the manifest


def a_folder_of_the_workspace(place: Kitchen) -> None:
    place.put_workspace("/Workspace/Shared/wine/1.4/train.py", TRAIN.encode())


def a_folder_of_a_volume(place: Kitchen) -> None:
    place.put_volume("/Volumes/main/wine/code/wine-1.4/train.py", TRAIN.encode())


def a_wheel_in_a_volume(place: Kitchen) -> None:
    place.put_volume(f"/Volumes/main/wine/code/wheels/{WHEEL}", wheel())


def wines(place: Kitchen) -> None:
    place.put_volume("/Volumes/main/wine/data/2026/wines.csv", b"a\nb\n")


PREPARED: dict[str, Callable[[Kitchen], None]] = {
    "04-workspace-path": a_folder_of_the_workspace,
    "05-volume-path": a_folder_of_a_volume,
    "06-wheel-file": a_wheel_in_a_volume,
    "16-data": wines,
}


def test_the_page_quotes_each_example_as_it_stands() -> None:
    assert [str(recipe) for recipe in recipes() if recipe.quoted.rstrip() != recipe.file.read_text().rstrip()] == []
    assert {recipe.file for recipe in recipes()} == set(FOLDER.iterdir())


def test_each_recipe_says_what_to_see() -> None:
    assert [str(each) for each in RECIPES if not each.status and each.file.suffix == ".yaml"] == []


def test_the_names_of_the_examples_are_numbered_once() -> None:
    numbers = [re.match(r"(\d\d)-", path.name)[1] for path in sorted(Path(FOLDER).iterdir())]  # type: ignore[index]
    assert len(set(numbers)) == len(numbers)
