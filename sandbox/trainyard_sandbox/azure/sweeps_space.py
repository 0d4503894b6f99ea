"""Search spaces of sweep jobs: which values a hyperparameter may have, and how trials draw them; no I/O.

sweeps.py checks a body's `searchSpace` with `check_space` and takes trials from `trials`.

Azure Machine Learning documentation, "Hyperparameter tuning a model" (distributions, grid and random sampling) and "CLI
(v2) sweep job YAML schema"; azure-ai-ml `entities/_job/sweep/search_space.py` (`[type, [arguments]]` on the wire).
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from trainyard_sandbox.azure.errors import user_error

Value = str | int | float
_ARGUMENTS = {
    "choice": 1,
    "randint": 1,
    "uniform": 2,
    "loguniform": 2,
    "normal": 2,
    "lognormal": 2,
    "quniform": 3,
    "qloguniform": 3,
    "qnormal": 3,
    "qlognormal": 3,
}
"""How many arguments each distribution has."""


def check_space(space: Mapping[str, Any], sampling: str) -> None:
    """Refuse a search space that no trial can be drawn from.

    Args:
        sampling: `Grid` or `Random`; a grid has choices only.

    Raises:
        ArmError: 400 UserError naming the hyperparameter.
    """
    if not space:
        raise user_error("properties.searchSpace must name at least one hyperparameter.")
    for name, distribution in space.items():
        _check(name, distribution)
        if sampling == "Grid" and distribution[0] != "choice":
            message = f"Grid sampling supports choice only; properties.searchSpace.{name} is {distribution[0]}."
            raise user_error(message)


def trials(space: Mapping[str, Any], sampling: str, seed: int | None) -> Iterator[dict[str, Value]]:
    """The hyperparameters of each trial in turn: all combinations for a grid, without end at random."""
    names = sorted(space)
    if sampling == "Grid":
        for values in itertools.product(*(space[name][1][0] for name in names)):
            yield dict(zip(names, values, strict=True))
        return
    source = random.Random(seed)  # noqa: S311 - for experiments, no secret
    while True:
        yield {name: _draw(space[name], source) for name in names}


def _check(name: str, distribution: Any) -> None:
    place = f"properties.searchSpace.{name}"
    if not isinstance(distribution, list) or len(distribution) != 2 or not isinstance(distribution[1], list):
        raise user_error(f"{place} must be [distribution, [arguments]].")
    kind, arguments = distribution
    if kind not in _ARGUMENTS:
        raise user_error(f"{place}: unknown distribution '{kind}'. Known: {', '.join(sorted(_ARGUMENTS))}.")
    if len(arguments) != _ARGUMENTS[kind]:
        raise user_error(f"{place}: {kind} takes {_ARGUMENTS[kind]} arguments, got {len(arguments)}.")
    if kind == "choice":
        values = arguments[0]
        if not isinstance(values, list) or not values:
            raise user_error(f"{place}: choice takes a list of at least one value.")
        if any(isinstance(value, dict | list) for value in values):
            raise user_error(f"{place}: this sandbox does not support nested search spaces.")
        return
    if any(not isinstance(value, int | float) or isinstance(value, bool) for value in arguments):
        raise user_error(f"{place}: the arguments of {kind} are numbers.")
    if kind == "randint" and arguments[0] < 1:
        raise user_error(f"{place}: the upper bound of randint is at least 1.")


def _draw(distribution: Any, source: random.Random) -> Value:
    kind, arguments = distribution
    if kind == "choice":
        chosen: Value = source.choice(arguments[0])
        return chosen
    if kind == "randint":
        return source.randrange(int(arguments[0]))
    shapes: dict[str, Callable[[float, float], float]] = {"uniform": source.uniform, "normal": source.gauss}
    plain = kind.removeprefix("q")
    value = shapes[plain.removeprefix("log")](arguments[0], arguments[1])
    if plain.startswith("log"):
        value = math.exp(value)
    return round(value / arguments[2]) * arguments[2] if kind.startswith("q") else value
