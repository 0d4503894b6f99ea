"""The cache of what was fetched, and of what could not be."""

import gc
import weakref

import pytest

from trainyard.core.errors import SourceError
from trainyard.sources.flight import SharedCache


class Held:
    """Something that a failing fetch has in its hands."""


def test_a_failure_that_is_remembered_is_the_same_each_time_and_keeps_nothing_alive() -> None:
    cache: SharedCache[str, int] = SharedCache(9, lambda _: 1, None, lambda _: 60.0, lambda: 0.0)
    held: weakref.WeakSet[Held] = weakref.WeakSet()

    def fail() -> int:
        mine = Held()
        held.add(mine)
        try:
            return int(f"{mine}")
        except ValueError:
            raise SourceError("no", reason="GitFailed", waiting=True) from None

    for _ in range(3):
        with pytest.raises(SourceError) as raised:
            cache.get("key", fail)
        assert (str(raised.value), raised.value.reason, raised.value.waiting) == ("no", "GitFailed", True)
        del raised
    gc.collect()
    assert not held


def test_a_failure_is_forgotten_in_time_or_when_there_are_too_many() -> None:
    now = 0.0
    cache: SharedCache[int, int] = SharedCache(9, lambda _: 1, None, lambda _: 60.0, lambda: now)
    tries: list[int] = []

    def fail(key: int) -> int:
        tries.append(key)
        raise SourceError("no")

    def asked(*keys: int) -> list[int]:
        tries.clear()
        for key in keys:
            with pytest.raises(SourceError):
                cache.get(key, lambda key=key: fail(key))  # type: ignore[misc]
        return list(tries)

    assert asked(1, 1) == [1]
    now = 61.0
    assert asked(1) == [1]
    assert len(asked(*range(2, 1002))) == 1000
    assert asked(1001, 1) == [1]
