"""A token that is kept, whatever becomes of it."""

from datetime import UTC, datetime, timedelta

from trainyard.identity.base import AccessToken
from trainyard.identity.cached import FORGET_HOLDS, CachedToken

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def test_a_platform_that_refuses_every_token_has_few_of_them_minted() -> None:
    minted: list[AccessToken] = []
    now = [NOW]

    def mint() -> AccessToken:
        minted.append(AccessToken(f"token-{len(minted)}", now[0] + timedelta(hours=1), "jti"))
        return minted[-1]

    cached = CachedToken(mint, lambda: now[0])
    for _ in range(100):
        cached.get()
        cached.forget()
    assert cached.get().value == "token-1"
    now[0] += FORGET_HOLDS
    cached.forget()
    assert cached.get().value == "token-2"
