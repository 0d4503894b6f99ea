"""What was found at one link of the chain. Pure; made by the links, shown by `cli.doctor`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

# What goes before a link that a mode or a platform does not have.
NOT_APPLICABLE = "NotApplicable"
DEPENDS = "Depends"


class Outcome(StrEnum):
    """How a link is. A contract: also the words of `-o json`."""

    PASSED = "Passed"
    WARNING = "Warning"
    FAILED = "Failed"
    NOT_SEEN = "NotSeen"
    SKIPPED = "Skipped"


@dataclass(frozen=True, slots=True)
class Remedy:
    """What mends a failure, or lets somebody see a link. `command` is complete and for a shell; empty if it is none."""

    what: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """One link.

    `word` is a stable CamelCase word that says why it did not pass. `goes_on` says that what depends on the link can be
    looked at all the same. `facts` are what was found, for programs; never a token or a secret.
    """

    outcome: Outcome
    message: str
    word: str = ""
    remedies: tuple[Remedy, ...] = ()
    facts: Mapping[str, str | int] = field(default_factory=dict)
    goes_on: bool = False


def passed(message: str, **facts: str | int) -> Result:
    """It is as it has to be."""
    return Result(Outcome.PASSED, message, facts=facts, goes_on=True)


def warned(word: str, message: str, *remedies: Remedy, **facts: str | int) -> Result:
    """It works, and will not for ever."""
    return Result(Outcome.WARNING, message, word, remedies, facts, goes_on=True)


def failed(word: str, message: str, *remedies: Remedy, goes_on: bool = False, **facts: str | int) -> Result:
    """It is wrong."""
    return Result(Outcome.FAILED, message, word, remedies, facts, goes_on)


def not_seen(word: str, message: str, *remedies: Remedy, goes_on: bool = False, **facts: str | int) -> Result:
    """Whoever asks can not see it; nothing is known to be wrong."""
    return Result(Outcome.NOT_SEEN, message, word, remedies, facts, goes_on)


def not_applicable(message: str) -> Result:
    """There is no such link in this mode or on this platform."""
    return Result(Outcome.SKIPPED, message, NOT_APPLICABLE, goes_on=True)


def depends(message: str) -> Result:
    """A link before it is missing."""
    return Result(Outcome.SKIPPED, message, DEPENDS)
