"""What a test of serving needs of a platform, in words that hold on each: the contract of a serving driver.

`PlatformDriver.serving` is one. Everything is done behind the operator's back: through the sandbox's control API, or
by the platform's own API as somebody else. What endpoints answer is asked by `load.Load`, as any client would.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from load import Question
from stand import Team
from tests.platforms.models import ROW, Files, Row

State = Literal["creating", "updating", "ready", "failed", "deleting"]


@dataclass(frozen=True)
class Behind:
    """One model version behind an endpoint, in the platform's own books.

    `traffic` is the share that it answers, `details` what was asked for beside the version, in the platform's words.
    """

    served: str
    model: str
    version: str
    state: State
    traffic: int
    details: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Book:
    """An endpoint in the platform's own books.

    `settings` are what was asked for of the endpoint itself, in the platform's words; `raw` is all that it knows.
    """

    name: str
    creator: str
    busy: bool
    tags: Mapping[str, str]
    behind: Mapping[str, Behind]
    settings: Mapping[str, Any]
    raw: Mapping[str, Any] = field(hash=False, compare=False)

    @property
    def shares(self) -> dict[str, int]:
        """The share of each version that has one, by version."""
        return {each.version: each.traffic for each in self.behind.values() if each.traffic}

    @property
    def versions(self) -> set[str]:
        """The versions that are there, with or without a share."""
        return {each.version for each in self.behind.values()}


class ServingDriver(Protocol):
    """The serving side of one platform of a stand."""

    scales_to_zero: bool
    """Whether the platform has it."""
    another_size: Mapping[str, Any]
    """A compute class for serving beside the workspace's class serving, of another size."""
    many_at_once: Mapping[str, Any]
    """A compute class of that size of which one copy answers several requests at a time."""
    grants: bool
    """Whether the operator can grant the right to ask; where not, it tells the command."""

    def publish(self, team: Team, name: str, files: Files, *, tags: Mapping[str, str] | None = None) -> str:
        """Registers one more version of a model, by its short name, as the team; returns the version."""

    def alias(self, team: Team, name: str, alias: str, version: str) -> None:
        """Points an alias of the model at that version, and away from any other."""

    def endpoints(self) -> list[str]:
        """The names of all endpoints."""

    def book(self, endpoint: str) -> Book | None:
        """The endpoint, if it is there."""

    def script(self, **script: Any) -> None:
        """How served models behave from now on (see `SandboxControl.script_serving`); cleared after the test."""

    def slow(self, endpoint_seconds: float) -> None:
        """How long each change keeps an endpoint busy from now on, beside what its models take."""

    def edit_shares(self, endpoint: str, shares: Mapping[str, int]) -> None:
        """Somebody else changes the shares, by `Behind.served`."""

    def edit_tag(self, endpoint: str, name: str, value: str) -> None:
        """Somebody else sets a tag."""

    def remove(self, endpoint: str) -> None:
        """Somebody else deletes the endpoint."""

    def squat(self, team: Team, endpoint: str, model: str, version: str) -> None:
        """Somebody else makes an endpoint of that name, where the operator would, serving that version."""

    def asker(self) -> str:
        """A principal that may do nothing yet."""

    def allow(self, principal: str, endpoint: str) -> None:
        """An administrator lets that principal ask the endpoint."""

    def measures(self, principal: str) -> None:
        """An administrator lets that principal read what the platform measures."""

    def logs(self, principal: str) -> None:
        """An administrator lets that principal have requests logged."""

    def question(self, url: str, principal: str, rows: Sequence[Row] = (ROW,)) -> Question:
        """What a client with a token of that principal asks; each answer is by the version that it names."""

    def clean(self) -> None:
        """After a test: no script, and no endpoint left."""


def number_of(predictions: Sequence[Any]) -> str:
    """The version that answered, where models answer with their own number."""
    (answer,) = set(predictions)
    return str(int(answer))


def trusting(ca_file: Any) -> ssl.SSLContext:
    """What a client needs to trust the sandbox."""
    return ssl.create_default_context(cafile=str(ca_file))
