"""Nobody who waits for Ready with the generation of now may be told so before the endpoint is as the spec says."""

from datetime import timedelta
from typing import Any

import pytest

from tests.unit.serving_world import Apart, AsOne, World, model
from trainyard.core.serving.decide import decide_deployment


@pytest.mark.parametrize("platform", [Apart, AsOne])
@pytest.mark.parametrize(
    "change",
    [
        {"tags": {"team": "wine"}},
        {"auth": "Key"},
        {"permissions": [{"group": "analysts", "level": "CAN_QUERY"}]},
        {"requestLogging": {"samplingPercent": 10}},
        {"models": [model(replicas={"min": 2, "max": 4})]},
        {"models": [model(version="2")]},
    ],
)
def test_ready_with_the_new_generation_means_that_the_endpoint_is_as_the_new_spec_says(
    platform: type[Apart], change: dict[str, Any]
) -> None:
    there = World(platform, **change).settle().platform.looks()
    world = World(platform).settle()
    world.edit(**change)
    for _ in range(2000):
        world.platform.at(world.now)
        told = decide_deployment(world.known()).status  # written before anything is done
        if told.phase == "Ready" and told.observed_generation == world.generation:
            assert world.platform.looks() == there
            return
        decision = world.step()
        if decision.action is None and decision.wake_at is not None:
            world.now = max(decision.wake_at, world.now + timedelta(milliseconds=1))
    raise AssertionError(f"it came to {world.status.phase}")
