"""A token that is kept, whatever becomes of it."""

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from trainyard.core.errors import IdentityError, Throttled, TrainyardError
from trainyard.identity.base import AccessToken
from trainyard.identity.cached import FAILURE_HOLDS, FORGET_HOLDS, LAST_SECONDS, REFRESH_AGAIN, CachedToken

NOW = datetime(2026, 11, 23, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Issuer:
    """Mints numbered tokens that live for an hour, by a clock that a test moves; raises `error` while it is set."""

    def __init__(self) -> None:
        self.now = NOW
        self.minted = 0
        self.error: TrainyardError | None = None
        self.cached = CachedToken(self.mint, lambda: self.now)

    def mint(self) -> AccessToken:
        self.minted += 1
        if self.error is not None:
            raise self.error
        return AccessToken(f"token-{self.minted}", self.now + HOUR, "jti")


class Held(Issuer):
    """An issuer that does not answer before it is let go, from the second token on."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go = threading.Event(), threading.Event()

    def mint(self) -> AccessToken:
        token = super().mint()
        if self.minted > 1:
            self.asked.set()
            assert self.go.wait(10)
        return token


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_platform_that_refuses_every_token_has_few_of_them_minted() -> None:
    issuer = Issuer()
    for _ in range(100):
        issuer.cached.get()
        issuer.cached.forget()
    assert issuer.cached.get().value == "token-2"
    issuer.now += FORGET_HOLDS
    issuer.cached.forget()
    assert issuer.cached.get().value == "token-3"


def test_a_refusal_that_comes_late_does_not_cost_the_token_that_replaced_the_refused_one() -> None:
    """Requests with the same token are under way at once, and a slow one's 401 comes when there is a new token."""
    issuer = Issuer()
    given, late = threading.Event(), threading.Event()

    def slow() -> None:
        issuer.cached.get()
        given.set()
        assert late.wait(10)
        issuer.cached.forget()

    thread = in_thread(slow)
    assert given.wait(10)
    issuer.cached.get()
    issuer.cached.forget()
    replaced = issuer.cached.get()
    issuer.now += FORGET_HOLDS * 2
    late.set()
    thread.join()
    assert issuer.cached.get() is replaced
    assert issuer.minted == 2


def test_many_refused_at_once_lead_to_one_new_token() -> None:
    issuer = Issuer()
    together = threading.Barrier(16)
    values: list[str] = []

    def refused() -> None:
        issuer.cached.get()
        together.wait(10)
        issuer.cached.forget()
        values.append(issuer.cached.get().value)

    threads = [in_thread(refused) for _ in range(16)]
    for thread in threads:
        thread.join()
    assert set(values) == {"token-2"}
    assert issuer.minted == 2


def test_what_lives_is_used_on_while_somebody_else_refreshes_it() -> None:
    """A token endpoint that hangs holds up one request of the identity, not all of them."""
    issuer = Held()
    old = issuer.cached.get()
    issuer.now += HOUR * 0.85
    renewed: list[AccessToken] = []
    thread = in_thread(lambda: renewed.append(issuer.cached.get()))
    assert issuer.asked.wait(10)
    assert [issuer.cached.get() for _ in range(3)] == [old] * 3
    issuer.go.set()
    thread.join()
    assert issuer.cached.get() is renewed[0] is not old
    assert issuer.minted == 2


def test_what_was_refused_is_not_used_on_while_somebody_refreshes_it() -> None:
    issuer = Held()
    issuer.cached.get()
    issuer.now += HOUR * 0.85
    thread = in_thread(issuer.cached.get)
    assert issuer.asked.wait(10)
    issuer.cached.forget()
    values: list[str] = []
    waiting = in_thread(lambda: values.append(issuer.cached.get().value))
    issuer.go.set()
    thread.join()
    waiting.join()
    assert values == ["token-2"]


def test_a_failed_refresh_is_tried_again_after_a_while_and_never_past_the_end() -> None:
    issuer = Issuer()
    issuer.cached.get()
    issuer.now += HOUR * 0.85
    issuer.error = IdentityError("no", reason="X")
    asked = []
    for _ in range(int(HOUR * 0.15 / timedelta(seconds=1))):
        before = issuer.minted
        try:
            issuer.cached.get()
        except IdentityError:
            break
        if issuer.minted > before:
            asked.append(issuer.now)
        issuer.now += timedelta(seconds=1)
    left = NOW + HOUR - issuer.now
    assert LAST_SECONDS - timedelta(seconds=1) <= left <= LAST_SECONDS
    gaps = {later - earlier for earlier, later in itertools.pairwise(asked)}
    assert REFRESH_AGAIN in gaps
    assert min(gaps) >= FAILURE_HOLDS
    issuer.error = None
    issuer.now += FAILURE_HOLDS
    assert issuer.cached.get().expires_at == issuer.now + HOUR


def test_a_pause_that_the_issuer_asks_for_is_kept_and_what_is_left_of_it_is_told() -> None:
    issuer = Issuer()
    issuer.error = Throttled("slow down", retry_after=300)
    for passed, left in ((0, 300), (100, 200), (199, 1)):
        issuer.now += timedelta(seconds=passed)
        with pytest.raises(Throttled) as raised:
            issuer.cached.get()
        assert raised.value.retry_after == left
    assert issuer.minted == 1
    issuer.error, issuer.now = None, issuer.now + timedelta(seconds=1)
    assert issuer.cached.get().value == "token-2"


def test_identities_that_began_together_are_not_renewed_together() -> None:
    """1,000 tokens of one second, each asked for every ten seconds: no ten seconds have many of them renewed."""
    issuers = [Issuer() for _ in range(1000)]
    for issuer in issuers:
        issuer.cached.get()
    renewed: Counter[int] = Counter()
    for seconds in (0, *range(2400, 3000, 10)):
        for issuer in issuers:
            before, issuer.now = issuer.minted, NOW + timedelta(seconds=seconds)
            issuer.cached.get()
            renewed[seconds] += issuer.minted - before
    when = [seconds for seconds, count in renewed.items() if count]
    assert min(when) >= 0.7 * 3600
    assert max(when) <= 0.8 * 3600 + 10
    assert sum(renewed.values()) == 1000
    # Evenly spread they would be 28 in each of 36 steps.
    assert max(renewed.values()) < 80
