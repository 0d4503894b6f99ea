"""How many machines a request of Azure ML asks for, and which environments it names, whatever was merged into it."""

from typing import Any

import pytest

from trainyard.platforms.azureml.computing import machine_count
from trainyard.platforms.azureml.software import pinned, unpinned

WS = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/ws1"

COUNTS: list[tuple[Any, int]] = [
    ({"resources": {"instanceCount": 4}}, 4),
    ({"trial": {"resources": {"instanceCount": 3}}}, 3),
    ({}, 1),
    ({"resources": {"instanceCount": "four"}}, 1),
    ({"resources": {"instanceCount": [2]}}, 1),
    ({"resources": "large", "trial": {"resources": "large"}}, 1),
    ({"trial": None, "resources": None}, 1),
]


@pytest.mark.parametrize(("properties", "count"), COUNTS)
def test_a_count_that_is_none_is_left_to_the_platform_to_refuse(properties: Any, count: int) -> None:
    assert machine_count(properties) == count


def test_each_environment_gets_its_own_newest_version() -> None:
    body: Any = {
        "jobs": {
            name: {"environmentId": f"{WS}/environments/{name}/labels/latest", "note": "environments/one/labels/latest"}
            for name in ("one", "two")
        }
    }
    newest = {"one": "7", "two": "9"}
    while (named := unpinned(body)) is not None:
        body = pinned(body, named, newest.pop(named))
    assert {name: job["environmentId"].rpartition("/environments/")[2] for name, job in body["jobs"].items()} == {
        "one": "one/versions/7",
        "two": "two/versions/9",
    }
    assert body["jobs"]["one"]["note"] == "environments/one/labels/latest"
