"""Models that do not load, load too slowly, or answer wrongly: they get no request, and what was good goes on."""

from typing import Any

import pytest

from load import counts, failed
from tests.e2e.deployments import SERVING_FLAGS, Deployment, Setting, assert_never_failed, canary, setting
from tests.platforms import on_every_platform
from tests.platforms.models import ROW
from tests.platforms.serving import Book

__all__ = ["setting"]  # the fixture

OPERATOR_FLAGS = SERVING_FLAGS
pytestmark = on_every_platform
SMOKE = {"smoke": {"rows": [ROW], "expect": {"type": "Number", "minimum": 0, "maximum": 5}}}
BACK = {"Ready": "False", "Reconciling": "False", "Stalled": "True", "Available": "True"}


def rolled_back(dep: Deployment, before: Book) -> dict[str, Any]:
    """Waits until it is, and looks at what is left: what there was before, and nothing else. Returns the failure."""
    dep.until("RolledBack")
    assert dep.conditions() == BACK
    assert dep.book() == before, "what failed left something, which may cost on"
    status = dep.status
    assert status["lastGoodRevision"] == 1
    assert status["revisions"][-1]["outcome"] in ("RolledBack", "Failed")
    assert "RolledBack" in dep.events()
    failure: dict[str, Any] = status["failure"]
    return failure


@pytest.mark.parametrize("rollout", [None, canary(20)], ids=["AllAtOnce", "Canary"])
def test_a_model_that_can_not_be_loaded_is_rolled_back_with_its_log_and_nobody_notices(
    setting: Setting, rollout: dict[str, Any] | None
) -> None:
    first = setting.publish(1)
    dep = setting.deploy(setting.served(first), rollout=rollout).until("Ready", revision=1)
    asker, before = setting.allowed(dep), dep.book()
    with dep.load(asker) as load:
        load.wait(3)
        dep.serve(setting.served(setting.publish(kind="broken")))
        failure = rolled_back(dep, before)
        load.wait(3)
    assert_never_failed(load.asked())
    assert set(counts(load.asked())) == {"1"}
    assert failure["revision"] == 2
    assert "pickle" in failure["log"]
    second = setting.publish(2)
    dep.serve(setting.served(second))
    dep.until("Ready", revision=3)
    assert dep.book().shares == {second: 100}


@pytest.mark.parametrize("kind", ["nonsense", "raises"])
def test_a_model_that_answers_wrongly_gets_no_request_of_anybodys(setting: Setting, kind: Any) -> None:
    first = setting.publish(1)
    dep = setting.deploy(setting.served(first), rollout=canary(50, checks=SMOKE)).until("Ready", revision=1)
    asker, before = setting.allowed(dep), dep.book()
    with dep.load(asker) as load:
        load.wait(3)
        dep.serve(setting.served(setting.publish(kind=kind)))
        failure = rolled_back(dep, before)
        load.wait(3)
    assert_never_failed(load.asked())
    assert set(counts(load.asked())) == {"1"}
    assert failure["reason"] == "SmokeCheckFailed"


def test_a_model_that_is_not_ready_in_time_is_rolled_back(setting: Setting) -> None:
    first = setting.publish(1)
    dep = setting.deploy(setting.served(first)).until("Ready", revision=1)
    asker, before = setting.allowed(dep), dep.book()
    with dep.load(asker) as load:
        dep.serve(setting.served(setting.publish(2, "slow")), rollout={"readyWithinSeconds": 2})
        failure = rolled_back(dep, before)
        load.wait(3)
    assert_never_failed(load.asked())
    assert set(counts(load.asked())) == {"1"}
    assert failure["reason"] == "NotReadyInTime"


def test_a_canary_that_is_too_slow_goes_back_by_what_the_platform_measured(setting: Setting) -> None:
    first = setting.publish(1)
    bounds = {"bounds": {"maxLatencyMilliseconds": 400, "minRequests": 5}}
    steps = {"strategy": "Canary", "steps": [{"traffic": 40, "checks": bounds}]}
    setting.measures()
    dep = setting.deploy(setting.served(first), rollout=steps).until("Ready", revision=1)
    asker, before = setting.allowed(dep), dep.book()
    setting.driver.script(served="challenger.*", latency_seconds=0.8)
    with dep.load(asker) as load:
        load.wait(3)
        dep.serve(setting.served(setting.publish(2), "challenger"))
        failure = rolled_back(dep, before)
        load.wait(3)
    assert_never_failed(load.asked())
    assert set(counts(load.asked())) == {"1", "2"}
    assert failure["reason"] == "BoundsCheckFailed"


def test_a_canary_that_fails_its_callers_goes_back_and_not_one_more_request_fails(setting: Setting) -> None:
    """Every other answer is an error: the platform measures them, unless the operator's own request meets one first."""
    first = setting.publish(1)
    bounds = {"bounds": {"maxErrorPercent": 5, "minRequests": 5}}
    steps = {"strategy": "Canary", "steps": [{"traffic": 40, "holdForSeconds": 5, "checks": bounds}]}
    setting.measures()
    dep = setting.deploy(setting.served(first), rollout=steps).until("Ready", revision=1)
    asker, before = setting.allowed(dep), dep.book()
    with dep.load(asker) as load:
        load.wait(3)
        dep.serve(setting.served(setting.publish(2), "challenger"))
        dep.at_step(1)
        setting.driver.script(served="challenger.*", error_rate=0.5, error_message="the forest was felled")
        failure = rolled_back(dep, before)
        assert_never_failed(load.wait(10))
    assert failure["reason"] in ("BoundsCheckFailed", "AnswersCheckFailed")
    lost = failed(load.asked())
    assert lost
    assert all("felled" in each.error for each in lost)


def test_a_first_version_that_fails_leaves_nothing_that_costs_and_recovers_with_the_spec(setting: Setting) -> None:
    dep = setting.deploy(setting.served(setting.publish(kind="broken"))).until("Stalled")
    dep.wait("to be removed", lambda now: not now["status"].get("rollout"))
    assert dep.conditions() == {"Ready": "False", "Reconciling": "False", "Stalled": "True", "Available": "False"}
    assert dep.reason == "DeploymentFailed"
    assert "pickle" in dep.status["failure"]["log"]
    left = setting.driver.book(dep.endpoint)
    assert left is None or not left.behind
    good = setting.publish(1)
    dep.serve(setting.served(good))
    dep.until("Ready")
    assert dep.book().shares == {good: 100}
