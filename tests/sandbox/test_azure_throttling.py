"""Limits of Azure Resource Manager: token buckets per principal, and how an answer tells them."""

from __future__ import annotations

from collections.abc import Callable

import requests

from trainyard_sandbox.azure.throttle import Limit, Throttle, kind_of
from trainyard_sandbox.client import SandboxControl


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_full_bucket_serves_its_size_and_refills_at_its_rate() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    assert [throttle.take("a", "reads").allowed for _ in range(251)] == [True] * 250 + [False]
    clock.now += 2
    assert sum(throttle.take("a", "reads").allowed for _ in range(100)) == 50


def test_one_principal_does_not_use_up_anothers_requests_nor_reads_the_writes() -> None:
    throttle = Throttle(Clock())
    throttle.change("writes", Limit(1, 0.1))
    assert throttle.take("a", "writes").allowed
    refused = throttle.take("a", "writes")
    assert (refused.allowed, refused.retry_after) == (False, 10)
    assert throttle.take("b", "writes").allowed
    assert throttle.take("a", "reads").remaining == 249


def test_each_method_draws_from_the_bucket_that_the_documentation_names() -> None:
    assert [kind_of(m) for m in ("GET", "HEAD", "PUT", "PATCH", "POST", "DELETE")] == [
        "reads",
        "reads",
        "writes",
        "writes",
        "writes",
        "deletes",
    ]


def test_a_principal_beyond_its_limit_is_told_when_to_come_back(
    control: SandboxControl, arm: Callable[..., requests.Response], data_scientist: str
) -> None:
    control.azure_settings(limits={"reads": {"size": 2, "per_second": 0.1}})
    header = "x-ms-ratelimit-remaining-subscription-reads"
    answers = [arm(data_scientist, "GET", "", version="2023-04-01") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers[header] for answer in answers] == ["1", "0", "0"]
    assert 1 <= int(answers[2].headers["retry-after"]) <= 10
    assert answers[2].json()["error"]["code"] == "SubscriptionRequestsThrottled"
    other = control.add_application("other", roles={"workspace": ["Reader"]})
    assert arm(other, "GET", "", version="2023-04-01").status_code == 200


def test_setting_the_sandboxs_clock_back_uses_up_no_requests(
    control: SandboxControl, arm: Callable[..., requests.Response], data_scientist: str
) -> None:
    answers = []
    for offset in (3600.0, 0.0):
        control.settings(clock_offset_seconds=offset)
        answers.append(arm(data_scientist, "GET", "", version="2023-04-01").status_code)
    assert answers == [200, 200]
