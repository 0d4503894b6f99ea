"""What an answer, a measurement or a metric means for a check of a rollout."""

from math import nan
from typing import Any

import pytest

from trainyard.api.deployment_rollout import Bounds, Expectation, RunMetric, Smoke
from trainyard.controllers.serving_verdicts import Silence, answers, bounds, metric, metric_noted, smoke
from trainyard.core.serving.seen import Measured, Scored

ROWS: list[dict[str, Any]] = [{"alcohol": 12.1}, {"alcohol": 9.0}]
TOKEN = "eyJhbGciOi.eyJzdWIiOi.c2ln"


def scored(predictions: list[object] | None = None, status: int = 200, seconds: float = 0.1, text: str = "") -> Scored:
    return Scored(status, seconds, predictions, text)


@pytest.mark.parametrize("status", [200, 400, 422, 424, 429])
def test_any_answer_of_the_model_is_an_answer(status: int) -> None:
    assert answers(scored(status=status)).outcome == "Passed"


@pytest.mark.parametrize(("status", "passing"), [(401, True), (403, True), (404, True), (503, True), (500, False)])
def test_what_is_not_an_answer_fails_and_may_come_and_go_unless_it_is_the_models_own_error(
    status: int, passing: bool
) -> None:
    found = answers(scored(status=status))
    assert (found.outcome, found.passing) == ("Failed", passing)
    assert str(status) in found.message


def test_a_model_that_may_not_be_asked_is_told_with_the_right_that_lacks() -> None:
    assert "right to query the endpoint" in answers(scored(status=403)).message


def test_silence_is_no_answer_and_may_pass() -> None:
    found = answers(Silence("no answer within 60 s", in_time=False))
    assert (found.outcome, found.passing) == ("Failed", True)


def expect(predictions: list[object] | None, wanted: Expectation | None = None, **answer: Any) -> tuple[str, str]:
    found = smoke(Smoke(rows=ROWS, expect=wanted), scored(predictions, **answer), seconds=5, may_be_cold=False)
    return found.outcome, found.message


def test_one_prediction_for_each_row_is_enough_where_nothing_else_is_expected() -> None:
    assert expect([1, "a"])[0] == "Passed"


@pytest.mark.parametrize(
    ("wanted", "predictions", "says"),
    [
        (None, [1.0], "2 rows were sent, and 1 predictions"),
        (None, None, "holds no predictions"),
        ({"type": "Number"}, [1.0, "high"], "prediction 2 is String, not Number"),
        ({"type": "Number"}, [True, 1.0], "prediction 1 is Boolean, not Number"),
        ({"type": "Number"}, [1.0, nan], "prediction 2 is NotANumber"),
        ({"type": "Array"}, [[1.0], {}], "prediction 2 is Object, not Array"),
        ({"columns": ["grade"]}, [{"grade": 1}, {"other": 1}], "prediction 2 lacks grade"),
        ({"columns": ["grade"]}, [1, 1], "prediction 1 is Number, not an Object"),
        ({"minimum": 0}, [0, -0.5], "prediction 2 is less than 0"),
        ({"maximum": 1}, [1, 1.5], "prediction 2 is more than 1"),
        ({"minimum": 0}, [1.0, nan], "prediction 2 is no number"),
        ({"maximum": 1}, [[0.5], 0.5], "prediction 1 is no number"),
    ],
)
def test_a_prediction_of_another_shape_fails_and_says_which(
    wanted: dict[str, Any] | None, predictions: list[object] | None, says: str
) -> None:
    outcome, message = expect(predictions, Expectation.model_validate(wanted) if wanted is not None else None)
    assert outcome == "Failed"
    assert says in message


def test_predictions_at_their_bounds_pass() -> None:
    assert expect([0, 1.0], Expectation(type="Number", minimum=0, maximum=1))[0] == "Passed"


def test_an_answer_that_came_too_late_fails_unless_the_model_may_have_been_asleep() -> None:
    late = scored([1, 1], seconds=6.0)
    assert smoke(Smoke(rows=ROWS), late, seconds=5, may_be_cold=False).passing is False
    assert smoke(Smoke(rows=ROWS), late, seconds=5, may_be_cold=True).passing is True
    silent = Silence("timed out", in_time=False)
    found = smoke(Smoke(rows=ROWS), silent, seconds=5, may_be_cold=False)
    assert (found.outcome, found.passing, found.message) == ("Failed", False, "it did not answer within 5 s")


def test_an_error_to_a_smoke_request_fails_at_once_unless_it_may_pass() -> None:
    assert smoke(Smoke(rows=ROWS), scored(status=400), seconds=5, may_be_cold=False).passing is False
    assert smoke(Smoke(rows=ROWS), scored(status=503), seconds=5, may_be_cold=False).passing is True


def test_no_token_gets_from_an_answer_into_a_message() -> None:
    said = f"Bearer {TOKEN} was {'x' * 2000}"
    for found in (
        answers(scored(status=500, text=said)),
        smoke(Smoke(rows=ROWS), scored(status=500, text=said), seconds=5, may_be_cold=False),
        smoke(Smoke(rows=ROWS), scored(None, text=said), seconds=5, may_be_cold=False),
        smoke(Smoke(rows=ROWS, expect=Expectation(type="Number")), scored([TOKEN, 1]), seconds=5, may_be_cold=False),
    ):
        assert TOKEN not in found.message
        assert len(found.message) < 500


@pytest.mark.parametrize(
    ("wanted", "measured", "outcome"),
    [
        ({"maxErrorPercent": 1}, Measured(), "Waiting"),
        ({"maxErrorPercent": 1, "minRequests": 50}, Measured(49, 0), "Waiting"),
        ({"maxErrorPercent": 1, "minRequests": 50}, Measured(50, 0), "Passed"),
        ({"maxErrorPercent": 1}, Measured(0, 0), "Waiting"),
        ({"maxErrorPercent": 1}, Measured(100, None), "Waiting"),
        ({"maxErrorPercent": 1}, Measured(100, 1), "Passed"),
        ({"maxErrorPercent": 1}, Measured(100, 2), "Failed"),
        ({"maxErrorPercent": 0}, Measured(100, 0), "Passed"),
        ({"maxLatencyMilliseconds": 200}, Measured(100), "Waiting"),
        ({"maxLatencyMilliseconds": 200}, Measured(100, None, 200.0), "Passed"),
        ({"maxLatencyMilliseconds": 200}, Measured(100, None, 200.5), "Failed"),
        ({"maxLatencyMilliseconds": 200}, Measured(100, None, nan), "Failed"),
        ({"maxErrorPercent": 1, "maxLatencyMilliseconds": 200}, Measured(100, 0, 300.0), "Failed"),
        ({"maxErrorPercent": 1, "maxLatencyMilliseconds": 200}, Measured(100, 0, None), "Waiting"),
    ],
)
def test_bounds_say_nothing_until_enough_is_measured(wanted: dict[str, Any], measured: Measured, outcome: str) -> None:
    assert bounds(Bounds.model_validate(wanted), measured).outcome == outcome


@pytest.mark.parametrize(
    ("wanted", "metrics", "outcome"),
    [
        ({"minimum": 0.9}, {"f1": "0.9"}, "Passed"),
        ({"minimum": 0.9}, {"f1": "0.89"}, "Failed"),
        ({"maximum": 0.9}, {"f1": "0.91"}, "Failed"),
        ({"minimum": 0.5, "maximum": 0.9}, {"f1": "0.7"}, "Passed"),
        ({"minimum": 0.9}, {"f1": "NaN"}, "Failed"),
        ({"minimum": 0.9}, {"f1": "Infinity"}, "Failed"),
        ({"minimum": 0.9}, {}, "Failed"),
    ],
)
def test_a_metric_of_the_run_is_held_against_its_bounds(
    wanted: dict[str, Any], metrics: dict[str, str], outcome: str
) -> None:
    assert metric(RunMetric.model_validate({"name": "f1", **wanted}), "iris", metrics).outcome == outcome


def test_a_metric_that_was_noted_is_known_again_only_with_the_same_bounds() -> None:
    wanted = RunMetric(name="f1", minimum=0.9)
    told = metric(wanted, "iris", {"f1": "0.95"}).message
    assert metric_noted(wanted, told)
    assert not metric_noted(RunMetric(name="f1", minimum=0.8), told)
    assert not metric_noted(RunMetric(name="f2", minimum=0.9), told)
