"""What tests want of served models: slow or failing provisioning, pretended answers, errors, latencies, idle seconds.

The control API reads `Script`s from JSON (`SCRIPT_SHAPE`); a `ServedModel` asks for its `Behaviour` anew at each step
and each request, so that a script also takes effect on what serves already.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from typing import Any

from trainyard_sandbox.errors import invalid_parameter
from trainyard_sandbox.schema import AnyJson, Bool, Int, ListOf, Number, Obj, Str

PLATFORMS = ("databricks", "azure")
IDLE_SECONDS = 1800.0
"""Databricks documentation, "Create custom model serving endpoints": scales to zero after 30 minutes of inactivity."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which served model: of which platform, behind which endpoint, under which name."""

    platform: str
    endpoint: str
    served: str


@dataclass(frozen=True)
class Behaviour:
    """How a served model behaves.

    Args:
        provisioning_seconds: how long its machines take, before the model is loaded.
        provisioning_error: it fails then, with this message.
        cold_start_seconds: how long a start from zero takes, before the model is loaded.
        idle_seconds: without a request for so long, what may scale to zero does.
        pretend: answer without a process and a model.
        predictions: answers instead of the model's, one per row, from the beginning again when rows are left.
        latency_seconds: added to each answer.
        error_status: status of the answers that `error_rate` spoils.
        error_message: what they say.
        error_rate: share of requests that are answered so, evenly spread; 1.0 is all.
    """

    provisioning_seconds: float = 0.0
    provisioning_error: str | None = None
    cold_start_seconds: float = 0.0
    idle_seconds: float = IDLE_SECONDS
    pretend: bool = False
    predictions: list[Any] | None = None
    latency_seconds: float = 0.0
    error_status: int = 500
    error_message: str = "The model failed, as the control API asked."
    error_rate: float = 0.0


@dataclass
class Script:
    """Some of a behaviour for the served models that match; patterns are regular expressions for whole names.

    `times` counts models that are provisioned with it; afterwards it does no more.
    """

    changes: dict[str, Any]
    platform: str | None = None
    endpoint: str = ".*"
    served: str = ".*"
    times: int | None = None
    taken: set[int] = field(default_factory=set)

    def matches(self, identity: Identity, key: int) -> bool:
        """Whether it is for this served model; `key` tells models of the same name apart."""
        return (
            self.platform in (None, identity.platform)
            and re.fullmatch(self.endpoint, identity.endpoint) is not None
            and re.fullmatch(self.served, identity.served) is not None
            and (self.times is None or key in self.taken or len(self.taken) < self.times)
        )


_BEHAVIOUR_SHAPES = {
    "provisioning_seconds": Number(),
    "provisioning_error": Str(min_length=1),
    "cold_start_seconds": Number(),
    "idle_seconds": Number(),
    "pretend": Bool(),
    "predictions": ListOf(AnyJson()),
    "latency_seconds": Number(),
    "error_status": Int(minimum=400, maximum=599),
    "error_message": Str(),
    "error_rate": Number(),
}
SCRIPT_SHAPE = Obj(
    {
        "platform": Str(choices=PLATFORMS),
        "endpoint": Str(min_length=1),
        "served": Str(min_length=1),
        "times": Int(minimum=1),
        **_BEHAVIOUR_SHAPES,
    }
)


def parse_script(document: dict[str, Any]) -> Script:
    """A script from validated JSON (`SCRIPT_SHAPE`)."""
    given = dict(document)
    changes = {name: given.pop(name) for name in [one.name for one in fields(Behaviour)] if name in given}
    for name in ("endpoint", "served"):
        try:
            re.compile(given.get(name, ""))
        except re.error as error:
            raise invalid_parameter(f"{name} is not a regular expression: {error}") from error
    if not 0 <= changes.get("error_rate", 0) <= 1:
        raise invalid_parameter("error_rate is a share from 0 to 1.")
    if changes.get("predictions") == []:
        raise invalid_parameter("predictions must not be empty.")
    return Script(changes, **given)


class Scripts:
    """All scripts of one sandbox; a later one wins, field by field.

    Args:
        pretend: what serves is pretended unless a script says otherwise (`--engine pretend`).
    """

    def __init__(self, *, pretend: bool) -> None:
        self._default = Behaviour(pretend=pretend)
        self._scripts: list[Script] = []

    def add(self, script: Script) -> None:
        """One more script."""
        self._scripts.append(script)

    def clear(self) -> None:
        """None any more."""
        self._scripts.clear()

    def behaviour(self, identity: Identity, key: int) -> Behaviour:
        """How this served model behaves now."""
        found = self._default
        for script in self._scripts:
            if script.matches(identity, key):
                found = replace(found, **script.changes)
        return found

    def take(self, identity: Identity, key: int) -> None:
        """This model is being provisioned: count it with the scripts that are for a number of them."""
        for script in self._scripts:
            if script.matches(identity, key):
                script.taken.add(key)
