"""How the checks of a rollout are asked, and for how long what may come and go is waited for."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.serving_fake import Endpoint, Served
from tests.unit.serving_stage import MODEL, ServingScene
from trainyard.api.deployment_rollout import Checks
from trainyard.api.deployment_status import CheckResult, Origin, RolloutStatus, Serving
from trainyard.controllers.kube import RUN
from trainyard.controllers.serving_checks import PATIENCE
from trainyard.controllers.serving_snapshots import deployment_snapshot
from trainyard.controllers.sessions import SessionKey
from trainyard.core.errors import Denied, Throttled, Unreachable
from trainyard.core.serving.actions import AskChecks
from trainyard.core.serving.plan import EndpointPlan, Owner
from trainyard.core.serving.seen import Checked, Measured, Scored
from trainyard.core.serving.snapshot import DeploymentSnapshot
from trainyard.core.snapshot import Target

TARGET = Target("databricks", "https://dbc-1.cloud.databricks.com", "app-id", "federated", "trainer")
METRIC = {"runMetric": {"name": "f1", "minimum": 0.9}}


def serving(version: str = "1", origin: Origin | None = None, **changes: Any) -> Serving:
    return Serving(
        name="champion",
        served=f"champion-{version}",
        model=MODEL,
        version=version,
        compute_class="small",
        min_replicas=1,
        max_replicas=1,
        env={},
        secrets={},
        traffic=100,
        origin=origin,
        **changes,
    )


class Asking:
    """A scene whose endpoint serves versions 1 and 2, and the checks that are asked of it."""

    def __init__(self, scene: ServingScene) -> None:
        self.scene = scene
        obj = scene.store.get(scene.put("1"))
        assert obj is not None
        self.deployment: DeploymentSnapshot = deployment_snapshot(obj)
        there = {f"champion-{version}": Served(MODEL, version, "Ready") for version in "12"}
        scene.platform.endpoints_by_name["team-wine"] = Endpoint("uid-wine", served=there)
        self.session = scene.sessions._session(SessionKey(TARGET, "team"))

    async def of(self, *models: Serving, moment: str = "before", **checks: Any) -> Checked:
        plan = EndpointPlan("team-wine", Owner("team", "wine", "uid-wine"), 1, models, {})
        action = AskChecks(moment, plan, models, Checks.model_validate(checks), self.scene.now)
        platform: Any = self.scene.platform
        return await self.scene.checks.of(self.deployment, self.session, platform, action)

    async def outcome(self, check: str, *models: Serving, **asked: Any) -> str:
        found = await self.of(*(models or (serving(),)), **asked)
        return next(each.outcome for each in found.results if each.check == check)


@pytest.fixture
async def asking() -> AsyncIterator[Asking]:
    scene = ServingScene()
    yield Asking(scene)
    await scene.stop()


async def test_each_model_is_asked_by_itself_and_that_it_answers_is_always_checked(asking: Asking) -> None:
    found = await asking.of(serving("1"), serving("2"))
    assert [(each.check, each.served, each.outcome) for each in found.results] == [
        ("Answers", "champion-1", "Passed"),
        ("Answers", "champion-2", "Passed"),
    ]
    assert (found.moment, found.at) == ("before", asking.scene.now)


async def test_one_request_serves_the_smoke_check_and_whether_it_answers(asking: Asking) -> None:
    found = await asking.of(serving(), smoke={"rows": [{"alcohol": 12}], "expect": {"type": "Number"}})
    assert [(each.check, each.outcome) for each in found.results] == [("Answers", "Passed"), ("Smoke", "Passed")]
    assert asking.scene.platform.calls == ["score"]


async def test_a_model_that_answers_wrongly_fails_at_once(asking: Asking) -> None:
    asking.scene.platform.answers = lambda version, rows: Scored(200, 0.1, ["high"])
    smoke = {"rows": [{"alcohol": 12}], "expect": {"type": "Number"}}
    assert await asking.outcome("Smoke", smoke=smoke) == "Failed"


async def test_what_may_come_and_go_is_waited_for_a_while_and_then_fails(asking: Asking) -> None:
    asking.scene.platform.answers = lambda version, rows: Scored(503, 0.1, None, "starting")
    assert await asking.outcome("Answers") == "Waiting"
    asking.scene.now += PATIENCE - timedelta(seconds=1)
    assert await asking.outcome("Answers") == "Waiting"
    asking.scene.now += timedelta(seconds=1)
    assert await asking.outcome("Answers") == "Failed"


async def test_an_answer_in_between_begins_the_patience_anew(asking: Asking) -> None:
    platform = asking.scene.platform
    good, bad = platform.answers, lambda version, rows: Scored(503, 0.1, None)
    platform.answers = bad
    assert await asking.outcome("Answers") == "Waiting"
    platform.answers = good
    assert await asking.outcome("Answers") == "Passed"
    asking.scene.now += PATIENCE
    platform.answers = bad
    assert await asking.outcome("Answers") == "Waiting"


async def test_patience_of_one_step_is_not_anothers(asking: Asking) -> None:
    asking.scene.platform.answers = lambda version, rows: Scored(503, 0.1, None)
    assert await asking.outcome("Answers", moment="1") == "Waiting"
    asking.scene.now += PATIENCE
    assert await asking.outcome("Answers", moment="2") == "Waiting"


async def test_a_silent_model_is_a_finding_and_does_not_shut_its_platform_for_others(asking: Asking) -> None:
    asking.scene.platform.errors["score"] = Unreachable("no answer")
    for _ in range(8):  # more than the lane's breaker takes
        assert await asking.outcome("Answers") == "Waiting"
    await asking.session.call("whoami", asking.scene.platform.whoami, deadline=5)


async def test_a_platform_that_asks_for_a_pause_or_refuses_is_trouble_and_no_finding(asking: Asking) -> None:
    asking.scene.platform.errors["score"] = Denied("no")
    with pytest.raises(Denied):
        await asking.of(serving())
    asking.scene.platform.errors["score"] = Throttled("later", retry_after=1)
    with pytest.raises(Throttled):
        await asking.of(serving())


async def test_bounds_are_asked_of_the_platform(asking: Asking) -> None:
    bounds = {"maxErrorPercent": 1, "minRequests": 10}
    assert await asking.outcome("Bounds", bounds=bounds) == "Waiting"
    asking.scene.platform.measures = Measured(100, 50)
    assert await asking.outcome("Bounds", bounds=bounds) == "Failed"
    asking.scene.platform.measures = Measured(100, 0)
    assert await asking.outcome("Bounds", bounds=bounds) == "Passed"


async def test_a_metric_is_read_from_the_run_that_made_the_model(asking: Asking) -> None:
    asking.scene.put_run(phase="Succeeded", metrics={"f1": "0.95"})
    assert await asking.outcome("RunMetric", serving(origin=Origin(run="iris", uid="uid-iris")), **METRIC) == "Passed"
    assert await asking.outcome("RunMetric", serving(origin=Origin(run="iris", uid="other")), **METRIC) == "Failed"
    assert await asking.outcome("RunMetric", serving(), **METRIC) == "Failed"


async def test_the_metric_of_a_run_that_is_gone_holds_if_this_rollout_has_noted_it(asking: Asking) -> None:
    key = asking.scene.put_run(phase="Succeeded", metrics={"f1": "0.95"})
    model = serving(origin=Origin(run="iris", uid="uid-iris"))
    found = await asking.of(model, **METRIC)
    asking.scene.store.remove(key)
    assert key.kind == RUN.name
    gone = await asking.of(model, moment="step", **METRIC)
    assert [(each.check, each.outcome) for each in gone.results][-1] == ("RunMetric", "Failed")
    assert "is gone" in gone.results[-1].message
    _note(asking, found.results)
    assert await asking.outcome("RunMetric", model, moment="step", **METRIC) == "Passed"
    stricter = {"runMetric": {"name": "f1", "minimum": 0.99}}
    assert await asking.outcome("RunMetric", model, moment="step", **stricter) == "Failed"


def _note(asking: Asking, results: tuple[CheckResult, ...]) -> None:
    rollout = RolloutStatus(
        stage="Stepping", step=1, steps=2, traffic=10, since="2026-11-01T12:00:00Z", checks=list(results)
    )
    obj = asking.scene.api.objects["ModelDeployment", "team", "wine"]
    asking.deployment = deployment_snapshot({**obj, "status": {"rollout": rollout.wire()}})
