"""SIGTERM and SIGINT while a run is waited for. A pod that Airflow or Kubernetes ends gets SIGTERM.

Used by running.py. Python calls the handler between two steps of the main thread, so a wait ends at once, but a request
that starts something is let finish: what it has started would have no name otherwise.
"""

import signal
from types import FrameType
from typing import Any, Self

NUMBERS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(BaseException):
    """The command was told to end. No Exception, so that nothing takes it for a failure of a request."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def name(self) -> str:
        """SIGTERM or SIGINT."""
        return signal.Signals(self.number).name


class Signals:
    """Within the block, SIGTERM and SIGINT raise Interrupted, but not before `allow` and not after `defer`."""

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._deferring = True
        self._pending: int | None = None

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._told) for number in NUMBERS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def defer(self) -> None:
        """Keeps what comes from now on for `allow`."""
        self._deferring = True

    def allow(self) -> None:
        """Raises Interrupted for what has come meanwhile, and from now on for what comes."""
        self._deferring = False
        number, self._pending = self._pending, None
        if number is not None:
            raise Interrupted(number)

    def _told(self, number: int, _frame: FrameType | None) -> None:
        if self._deferring:
            self._pending = number
        else:
            raise Interrupted(number)
