"""What an answer, a measurement or a metric means for a check of a rollout. Called by serving_checks; pure.

Texts of a platform or a model are shown without tokens and shortened.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from trainyard.api.deployment_rollout import Bounds, Expectation, RunMetric, Smoke
from trainyard.core.serving.seen import Measured, Scored
from trainyard.core.transition import clip
from trainyard.platforms.redaction import clean

# Answers that come and go: rights and routes that are not known everywhere yet, and servers that are just starting.
_PASSING = frozenset({401, 403, 404, 408, 425, 429, 502, 503, 504})
_NOT_ASKED = frozenset({401, 403, 404})
DEFAULT_PERCENTILE = 95
_MOST_SAID = 300


@dataclass(frozen=True, slots=True)
class Silence:
    """There was no answer. `in_time` is False when the time that it may take was over."""

    message: str
    in_time: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """What a check found. `passing` says that it may come and go: it is asked again before it counts as Failed.

    `untold`: it waits for what the platform does not tell, and not for requests.
    """

    outcome: Literal["Passed", "Failed", "Waiting"]
    message: str
    passing: bool = False
    untold: bool = False


def answers(scored: Scored | Silence) -> Judged:
    """Whether the model answers at all; an answer that refuses the rows is one."""
    if isinstance(scored, Silence):
        return Judged("Failed", f"it does not answer: {_said(scored.message)}", passing=True)
    if scored.status in _NOT_ASKED:
        mend = "" if scored.status == 404 else "; the operator's identity needs the right to query the endpoint"
        return Judged("Failed", f"the platform does not let it be asked ({_answer(scored)}){mend}", passing=True)
    if scored.status >= 500:
        return Judged("Failed", f"it answers {_answer(scored)}", passing=scored.status in _PASSING)
    return Judged("Passed", f"it answers with status {scored.status}")


def smoke(wanted: Smoke, scored: Scored | Silence, *, seconds: int, may_be_cold: bool) -> Judged:
    """Whether the answer to the smoke request has the expected shape and came in time."""
    if isinstance(scored, Silence):
        if scored.in_time:
            return Judged("Failed", f"it does not answer: {_said(scored.message)}", passing=True)
        return Judged("Failed", f"it did not answer within {seconds} s", passing=may_be_cold)
    if scored.status >= 300:
        return Judged("Failed", f"it answers {_answer(scored)}", passing=scored.status in _PASSING)
    if scored.seconds > seconds:
        return Judged("Failed", f"it took {scored.seconds:.1f} s, and may take {seconds}", passing=may_be_cold)
    predictions = scored.predictions
    if predictions is None:
        return Judged("Failed", f"the answer holds no predictions: {_said(scored.text)}")
    if len(predictions) != len(wanted.rows):
        return Judged("Failed", f"{len(wanted.rows)} rows were sent, and {len(predictions)} predictions came back")
    for number, prediction in enumerate(predictions, start=1):
        wrong = _unlike(wanted.expect, prediction) if wanted.expect is not None else ""
        if wrong:
            return Judged("Failed", f"prediction {number} {wrong}: {_said(_json(prediction))}")
    return Judged("Passed", f"{len(predictions)} predictions, all as expected")


def bounds(wanted: Bounds, measured: Measured) -> Judged:
    """Whether errors and latency are within their bounds; Waiting until there is enough to go by."""
    needed = wanted.min_requests or 1
    if measured.requests is None:
        return Judged("Waiting", "the platform has measured nothing yet")
    if measured.requests < needed:
        return Judged("Waiting", f"{measured.requests} of {needed} requests measured")
    found = []
    if wanted.max_error_percent is not None:
        if measured.errors is None:
            return Judged("Waiting", "the platform does not tell of errors yet", untold=True)
        percent = 100.0 * measured.errors / measured.requests
        told = f"{percent:.2f}% of {measured.requests} requests failed, at most {wanted.max_error_percent:g}% may"
        if percent > wanted.max_error_percent:
            return Judged("Failed", told)
        found.append(told)
    if wanted.max_latency_milliseconds is not None:
        if measured.latency_milliseconds is None:
            return Judged("Waiting", "the platform does not tell of latency yet", untold=True)
        percentile = wanted.percentile or DEFAULT_PERCENTILE
        told = (
            f"latency at percentile {percentile} is {measured.latency_milliseconds:.0f} ms, at most "
            f"{wanted.max_latency_milliseconds} ms are allowed"
        )
        if not measured.latency_milliseconds <= wanted.max_latency_milliseconds:
            return Judged("Failed", told)
        found.append(told)
    return Judged("Passed", "; ".join(found))


def metric(wanted: RunMetric, run: str, metrics: Mapping[str, str]) -> Judged:
    """Whether the run's metric is within its bounds."""
    value = metrics.get(wanted.name)
    if value is None:
        return Judged("Failed", f"run {run} has no metric {wanted.name}: log it, or remove checks.runMetric")
    told = metric_told(wanted, value)
    try:
        number = float(value)
    except ValueError:
        return Judged("Failed", told)
    low = wanted.minimum is None or number >= wanted.minimum
    high = wanted.maximum is None or number <= wanted.maximum
    return Judged("Passed" if low and high and isfinite(number) else "Failed", told)


def metric_told(wanted: RunMetric, value: str) -> str:
    """How a metric and its bounds are put."""
    return f"{wanted.name} is {value}{_metric_wanted(wanted)}"


def metric_noted(wanted: RunMetric, message: str) -> bool:
    """Whether an earlier message was about this metric and these bounds. A run that has ended changes no metric."""
    return message.startswith(f"{wanted.name} is ") and message.endswith(_metric_wanted(wanted))


def _metric_wanted(wanted: RunMetric) -> str:
    parts = [f"at least {wanted.minimum:g}"] if wanted.minimum is not None else []
    parts += [f"at most {wanted.maximum:g}"] if wanted.maximum is not None else []
    return f" (wanted: {', '.join(parts)})"


def _unlike(expect: Expectation, prediction: object) -> str:
    """What is wrong with a prediction, as words that follow it; "" if nothing is."""
    if expect.type is not None and _type_of(prediction) != expect.type:
        return f"is {_type_of(prediction)}, not {expect.type}"
    if expect.columns:
        if not isinstance(prediction, Mapping):
            return f"is {_type_of(prediction)}, not an Object with columns"
        missing = [name for name in expect.columns if name not in prediction]
        if missing:
            return f"lacks {', '.join(missing)}"
    if expect.minimum is None and expect.maximum is None:
        return ""
    if isinstance(prediction, bool) or not isinstance(prediction, int | float) or not _finite(prediction):
        return "is no number"
    if expect.minimum is not None and prediction < expect.minimum:
        return f"is less than {expect.minimum:g}"
    if expect.maximum is not None and prediction > expect.maximum:
        return f"is more than {expect.maximum:g}"
    return ""


def _finite(value: float) -> bool:
    """Whether it is a number; JSON has integers of any length, of which a float holds only so many."""
    try:
        return isfinite(value)
    except OverflowError:
        return False


def _type_of(value: object) -> str:
    if isinstance(value, bool):
        return "Boolean"
    if isinstance(value, int | float):
        return "Number" if _finite(value) else "NotANumber"
    kinds: dict[type, str] = {str: "String", dict: "Object", list: "Array", type(None): "Null"}
    return kinds.get(type(value), type(value).__name__)


def _answer(scored: Scored) -> str:
    said = _said(scored.text)
    return f"status {scored.status}: {said}" if said else f"status {scored.status}"


def _said(text: str) -> str:
    return clip(" ".join(clean(text).split()), _MOST_SAID)


def _json(value: object) -> str:
    return json.dumps(value, default=str)
