"""docs/cookbook.md shows what is in examples/cookbook, and each recipe says what to see. tests/e2e runs them."""

import re

from tests.e2e.recipes import FOLDER, recipes


def test_the_page_quotes_each_example_as_it_stands() -> None:
    assert [str(recipe) for recipe in recipes() if recipe.quoted.rstrip() != recipe.file.read_text().rstrip()] == []
    assert {recipe.file for recipe in recipes()} == set(FOLDER.iterdir())


def test_each_recipe_says_what_to_see() -> None:
    assert [
        str(each) for each in recipes() if not each.status and not each.is_team and each.file.suffix == ".yaml"
    ] == []


def test_the_names_of_the_examples_are_numbered_once() -> None:
    numbers = [re.match(r"(\d\d)-", path.name)[1] for path in sorted(FOLDER.iterdir())]  # type: ignore[index]
    assert len(set(numbers)) == len(numbers)
