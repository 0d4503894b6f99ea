"""What a crash test needs of a platform beyond tests/platforms: one team on it, behind the proxy, and all that it has.

Used by scenes.py. A test that kills the operator compares everything that is there afterwards, in the platform's own
words, where other tests are content with what a driver tells of any platform.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol

from tests.crash.points import Point
from tests.crash.stage import Stage
from tests.platforms.base import Pretence

ALIAS = "challenger"


class Side(Protocol):
    """One team's side of a platform.

    Args:
        namespace: the team's.
        run: name of its one run.
        model: name of the model that the run registers, as spec.model.name says it; None if it registers none.
    """

    name: ClassVar[str]
    submit: ClassVar[Point]
    """The request that starts a run."""
    token_path: ClassVar[str]
    """Path class of signing in."""
    whoami_path: ClassVar[str]
    """Path class of what the workspace is looked at with."""
    prints_its_token: ClassVar[str]
    """Code that prints the token that the platform gave it, and fails."""
    never_the_same: ClassVar[Sequence[tuple[re.Pattern[str], str]]]
    """What is different each time in texts of the platform, with what stands for it."""
    principal: str

    def __init__(self, stage: Stage, namespace: str, run: str, model: str | None) -> None: ...

    def found(self) -> None:
        """The namespace, its ServiceAccount that the platform trusts, its workspace and rights."""

    def pretend(self, attempt: int, pretence: Pretence) -> None:
        """What the run's attempt of that number goes through."""

    def lose_a_task(self, attempt: int, task: str) -> None:
        """That attempt loses the machines of one of its tasks. Only where there are tasks."""

    def make_job(self, name: str) -> None:
        """A job that lives on the platform, for spec.jobRef; not counted as the run's."""

    def denial(self, words: str) -> dict[str, Any]:
        """The body of an error in the platform's form: a right is missing, in these words."""

    def refusal(self, words: str) -> dict[str, Any]:
        """Likewise: the request is not one that it can do."""

    def world(self) -> dict[str, Any]:
        """Everything of the team that is on the platform, the same keys for every platform."""

    def names(self) -> Mapping[str, str]:
        """Ids that are new in each scene, with the word that stands for each."""


def for_attempt(pretence: Pretence, run: str, attempt: int, model: str | None) -> Pretence:
    """What one attempt of that run (namespace/name) goes through, and the model that it registers."""
    return replace(pretence, run=run, attempt=attempt, model=model)
