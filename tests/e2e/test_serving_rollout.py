"""What callers notice of a change of what is served: nothing. Judged by a load of their own, with its own log."""

import signal
from itertools import pairwise

import pytest

from load import counts
from tests.e2e.deployments import (
    SERVING_FLAGS,
    Deployment,
    Setting,
    assert_never_failed,
    assert_split,
    canary,
    setting,
)
from tests.platforms import on_every_platform

__all__ = ["setting"]  # the fixture

OPERATOR_FLAGS = SERVING_FLAGS
pytestmark = on_every_platform
ENOUGH = 40  # requests, of which each step's share is a whole number


def ready(setting: Setting, **spec: object) -> tuple[Deployment, str]:
    """Version 1 serves; and somebody who may ask."""
    dep = setting.deploy(setting.served(setting.publish(1)), **spec).until("Ready", revision=1)
    return dep, setting.allowed(dep)


def test_a_canary_gets_its_share_at_each_step_and_no_request_fails(setting: Setting) -> None:
    dep, asker = ready(setting, rollout=canary(10, 50, hold=4))
    with dep.load(asker, rate=25) as load:
        load.wait(5)
        dep.serve(setting.served(setting.publish(2)))
        for number, share in ((1, 10), (2, 50)):
            dep.at_step(number)
            assert_split(load.wait(ENOUGH), {"1": 100 - share, "2": share})
        dep.until("Ready", revision=2)
        assert_split(load.wait(10), {"2": 100})
    assert_never_failed(load.asked())
    assert dep.book().versions == {"2"}
    assert dep.book().shares == {"2": 100}
    assert [each["outcome"] for each in dep.status["revisions"]] == ["Served", "Served"]
    assert dep.events().count("RolloutStep") == 2
    assert "Promoted" in dep.events()


def test_requests_that_overlap_notice_nothing_either(setting: Setting) -> None:
    setting.classes(wide=setting.driver.many_at_once)
    setting.driver.script(latency_seconds=0.3)
    wide = {"compute": {"class": "wide"}}
    first, second = (setting.served(setting.publish(number), **wide) for number in (1, 2))
    dep = setting.deploy(first, rollout=canary(50, hold=4)).until("Ready", revision=1)
    with dep.load(setting.allowed(dep), rate=12, clients=4) as load:
        load.wait(5)
        dep.serve(second)
        dep.at_step(1)
        assert_split(load.wait(ENOUGH), {"1": 50, "2": 50})
        dep.until("Ready", revision=2)
        load.wait(5)
    asked = load.asked()
    assert_never_failed(asked)
    overlapping = [each for each, after in pairwise(asked) if after.at < each.at + each.seconds]
    assert len(overlapping) > len(asked) / 2


def test_an_operator_that_is_killed_in_the_middle_goes_on_and_nobody_notices(setting: Setting) -> None:
    dep, asker = ready(setting, rollout=canary(20, 60, hold=3))
    setting.driver.script(provisioning_seconds=2)
    with dep.load(asker) as load:
        load.wait(5)
        dep.serve(setting.served(setting.publish(2)))
        dep.wait("to prepare", lambda now: (now["status"].get("rollout") or {}).get("stage") == "Preparing")
        setting.scene.restart(signal.SIGKILL)
        dep.at_step(1)
        setting.scene.restart(signal.SIGKILL)
        dep.at_step(2)
        setting.scene.restart(signal.SIGKILL)
        dep.until("Ready", revision=2)
        load.wait(5)
    assert_never_failed(load.asked())
    assert dep.book().shares == {"2": 100}
    assert [each["outcome"] for each in dep.status["revisions"]] == ["Served", "Served"]


def test_with_manual_promotion_a_rollout_waits_for_a_person_and_goes_on_at_their_word(setting: Setting) -> None:
    dep, asker = ready(setting, rollout=canary(40, promotion="Manual"))
    with dep.load(asker) as load:
        load.wait(5)
        dep.serve(setting.served(setting.publish(2)))
        dep.until("AwaitingPromotion", revision=2)
        assert dep.conditions() == {"Ready": "False", "Reconciling": "True", "Stalled": "False", "Available": "True"}
        assert_split(load.wait(ENOUGH), {"1": 60, "2": 40})
        dep.change(promote=2)
        dep.until("Ready", revision=2)
        assert_split(load.wait(10), {"2": 100})
    assert_never_failed(load.asked())


def test_going_back_to_what_served_before_is_a_rollout_like_any_other_and_leaves_no_trace(setting: Setting) -> None:
    first = setting.served(setting.publish(1))
    dep = setting.deploy(first, rollout=canary(50, hold=30)).until("Ready", revision=1)
    asker = setting.allowed(dep)
    before = dep.book()
    with dep.load(asker) as load:
        dep.serve(setting.served(setting.publish(2)))
        dep.at_step(1)
        dep.serve(first)
        dep.until("Ready")
        load.wait(10)
    assert_never_failed(load.asked())
    assert dep.book() == before


def test_two_models_share_the_requests_as_the_spec_says_and_a_change_of_shares_needs_nobody_new(
    setting: Setting,
) -> None:
    one, two = setting.publish(1), setting.publish(2)

    def both(share: int) -> tuple[dict[str, object], dict[str, object]]:
        return setting.served(one, "a", traffic=100 - share), setting.served(two, "b", traffic=share)

    dep = setting.deploy(*both(25)).until("Ready", revision=1)
    with dep.load(setting.allowed(dep), rate=25) as load:
        assert_split(load.wait(ENOUGH), {"1": 75, "2": 25})
        dep.serve(*both(70))
        dep.until("Ready", revision=2)
        assert_split(load.wait(ENOUGH), {"1": 30, "2": 70})
    assert_never_failed(load.asked())
    assert {each.state for each in dep.book().behind.values()} == {"ready"}


@pytest.mark.parametrize("strategy", [None, {"strategy": "AllAtOnce"}], ids=["absent", "AllAtOnce"])
def test_all_at_once_serves_the_old_version_until_the_new_one_is_ready(
    setting: Setting, strategy: dict[str, object] | None
) -> None:
    dep, asker = ready(setting, rollout=strategy)
    setting.driver.script(provisioning_seconds=3)
    with dep.load(asker) as load:
        dep.serve(setting.served(setting.publish(2, "slow")))
        dep.wait("to prepare", lambda now: (now["status"].get("rollout") or {}).get("stage") == "Preparing")
        assert_split(load.wait(20), {"1": 100})
        dep.until("Ready", revision=2)
        load.wait(5)
    assert_never_failed(load.asked())
    assert list(counts(load.asked())) == ["1", "2"]
