"""Questions that several runs ask at once, asked once. Used by the controllers on the event loop; keeps no answer."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")


class Flights(Generic[Key, Answer]):
    """At most one question per key is under way; whoever asks meanwhile gets its answer, or its error."""

    def __init__(self) -> None:
        self._under_way: dict[Key, asyncio.Task[Answer]] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    async def join(self, key: Key, ask: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        """The answer of the question that is under way, or of `ask`, which then goes on even if this caller leaves."""
        flight = self._under_way.get(key)
        if flight is None:
            flight = self._under_way[key] = asyncio.create_task(ask(), name=f"flight {key}"[:120])
            flight.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(flight)

    def _landed(self, key: Key, flight: "asyncio.Task[Answer]") -> None:
        del self._under_way[key]
        if not flight.cancelled():
            flight.exception()  # an error that nobody waits for any more is nobody's surprise
