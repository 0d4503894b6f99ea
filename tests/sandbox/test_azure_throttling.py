"""Limits of Azure Resource Manager: token buckets per principal, and how an answer tells them."""

from __future__ import annotations

from trainyard_sandbox.azure.throttle import Limit, Throttle, kind_of


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
