"""How often a platform may be asked, and when to stop asking one that does not answer. Used by `lane`.

Everything that decides is here and pure: times come in as seconds of a monotonic clock, nothing sleeps. Not
thread-safe: a lane lives on the event loop.
"""

from dataclasses import dataclass

from trainyard.core.errors import Throttled, Unreachable


class QuotaReached(Throttled):
    """What this one request asks for is used up, for example runs at a time. Says nothing about other requests."""


class BesideUnreachable(Unreachable):
    """A service beside the platform's API, such as its storage, gave no usable answer. Says nothing about the API."""


class PlatformBusy(BesideUnreachable):
    """The platform takes no change of this one thing now, for it still works on the last one. Says nothing else."""

    reason = "PlatformBusy"


@dataclass(frozen=True, slots=True)
class Quota:
    """How often a platform lets one principal ask: lanes with one `key` share what it says.

    `rate` is calls per second, `burst` how many may come at once.
    """

    key: str
    rate: float
    burst: int


class Bucket:
    """A token bucket. `rate` is calls per second, `burst` how many may come at once."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._level = float(burst)
        self._at: float | None = None

    def take(self, now: float) -> float:
        """Takes a token and returns the seconds until it may be used; 0 if at once."""
        if self._at is not None:
            self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        self._level -= 1
        return max(0.0, -self._level / self._rate)


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When a breaker opens and for how long, in seconds; doubled at each failed probe up to the longest."""

    failures: int = 5
    shortest: float = 5.0
    longest: float = 120.0


class Breaker:
    """A circuit breaker: after so many failures in a row nobody is let through but, now and then, one probe."""

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._failures = 0
        self._opened = 0
        self._until: float | None = None
        self._probing = False

    def wait(self, now: float) -> float:
        """Seconds that a call would have to wait; 0 lets it through. While open, one caller at a time is the probe."""
        if self._until is None:
            return 0.0
        if now < self._until:
            return self._until - now
        if self._probing:
            return self._settings.shortest
        self._probing = True
        return 0.0

    def succeeded(self) -> None:
        """The platform answered, whatever it said."""
        self._failures = 0
        self._opened = 0
        self._until = None
        self._probing = False

    def failed(self, now: float, jitter: float) -> None:
        """No usable answer. `jitter`, from 0 to 1, spreads the next probes of several lanes."""
        self._failures += 1
        if self._failures >= self._settings.failures and (self._until is None or self._probing):
            pause = min(self._settings.longest, self._settings.shortest * 2.0**self._opened)
            self._opened += 1
            self._until = now + pause * (0.75 + 0.5 * jitter)
        self._probing = False

    def undecided(self) -> None:
        """The call said nothing about the platform, for example because no token could be had."""
        self._probing = False
