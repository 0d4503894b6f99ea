"""What one check of a preflight found, before it is told. Pure."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome, and a sentence that says what was found and what mends it."""

    outcome: Literal["Passed", "Missing"]
    message: str


def passed(message: str) -> Found:
    """It is there."""
    return Found("Passed", message)


def missing(message: str) -> Found:
    """It is not."""
    return Found("Missing", message)
