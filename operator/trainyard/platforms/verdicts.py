"""What one check of a preflight found, before it is told. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from trainyard.platforms.base import Need


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome, and a sentence that says what was found and what mends it."""

    outcome: Literal["Passed", "Missing"]
    message: str


class NotToldError(Exception):
    """The platform does not let this identity find out. `message` says what was asked, for people."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


# May raise NotToldError, or what the platform refused.
Check = Callable[[Need], Found]


def passed(message: str) -> Found:
    """It is there."""
    return Found("Passed", message)


def missing(message: str) -> Found:
    """It is not."""
    return Found("Missing", message)
