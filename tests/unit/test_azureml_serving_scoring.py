"""Rows and predictions of an online endpoint, where it may be asked, and what Azure Monitor counts."""

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from trainyard.audit.log import AuditLog
from trainyard.core.errors import Refused
from trainyard.core.serving.seen import Measured
from trainyard.identity.base import AccessToken
from trainyard.identity.clouds import AZURE_PUBLIC
from trainyard.platforms.azureml.serving_metrics import measured_of, queries
from trainyard.platforms.azureml.serving_scoring import Scoring, body_of, predictions_of


def answer(status: int, body: Any) -> requests.Response:
    made = requests.Response()
    made.status_code = status
    made._content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return made


def test_rows_become_columns_in_the_order_they_are_first_named() -> None:
    assert body_of([{"b": 1, "a": 2}, {"a": 3, "c": None}]) == {
        "input_data": {"columns": ["b", "a", "c"], "index": [0, 1], "data": [[1, 2, None], [None, 3, None]]}
    }
    assert body_of([]) == {"input_data": {"columns": [], "index": [], "data": []}}


@pytest.mark.parametrize(
    ("status", "body", "found"),
    [
        (200, [1, 2], [1, 2]),
        (200, {"predictions": [0.5]}, [0.5]),
        (200, json.dumps([{"a": 1}]), [{"a": 1}]),
        (200, {"message": "hello"}, None),
        (200, b"<html>", None),
        (200, 7, None),
        (424, [1, 2], None),
        (503, b"", None),
    ],
)
def test_predictions_are_a_list_in_a_good_answer_and_nothing_else(status: int, body: Any, found: Any) -> None:
    assert predictions_of(answer(status, body)) == found


class Tokens:
    """A source that must not be asked."""

    def token(self) -> AccessToken:
        raise AssertionError("a token was asked for")

    def describe(self) -> dict[str, str]:
        return {}

    def forget(self) -> None:
        raise AssertionError("a token was forgotten")


@pytest.mark.parametrize(
    "uri",
    [
        "https://e.westeurope.inference.ml.azure.com.evil.example/score",
        "http://e.westeurope.inference.ml.azure.com/score",
        "https://e.westeurope.inference.ml.azure.com@evil.example/score",
        "https://evil.example/score",
        "https://inference.ml.azure.com/score",
        "",
    ],
)
@pytest.mark.parametrize("key", [None, "k" * 32])
def test_nothing_is_sent_to_a_host_that_the_cloud_does_not_have(uri: str, key: str | None) -> None:
    stream = io.StringIO()
    with pytest.raises(Refused) as raised:
        Scoring(AZURE_PUBLIC, Tokens(), AuditLog(stream)).ask("e", uri, None, [], key, seconds=1)
    assert raised.value.reason == "HostNotAllowed"
    assert stream.getvalue() == ""


def test_the_public_clouds_own_hosts_may_be_asked() -> None:
    assert AZURE_PUBLIC.is_scoring("https://team-a-wine.westeurope.inference.ml.azure.com/score")


SINCE = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)


def series(labels: dict[str, str], *values: float | None) -> dict[str, Any]:
    return {
        "metadatavalues": [{"name": {"value": name}, "value": value} for name, value in labels.items()],
        "data": [{"timeStamp": "t", **({} if value is None else {"average": value})} for value in values],
    }


def metric(*found: dict[str, Any]) -> dict[str, Any]:
    return {"value": [{"name": {"value": "m"}, "timeseries": list(found)}]}


def test_requests_are_summed_and_errors_are_5xx_and_what_the_model_raised() -> None:
    counted = metric(
        series({"deployment": "a", "statuscodeclass": "2xx", "statuscode": "200"}, 10, None, 5),
        series({"deployment": "a", "statuscodeclass": "4xx", "statuscode": "424"}, 2),
        series({"deployment": "a", "statuscodeclass": "4xx", "statuscode": "401"}, 3),
        series({"deployment": "a", "statuscodeclass": "5xx", "statuscode": "503"}, 1),
    )
    timed = metric(series({}, 12.5, None, 80.0))
    assert measured_of(counted, timed) == Measured(21, 3, 80.0)


@pytest.mark.parametrize("nothing", [{}, {"value": []}, metric(), metric(series({}, None)), metric(series({}, 0))])
def test_nothing_is_told_before_there_was_a_request(nothing: dict[str, Any]) -> None:
    assert measured_of(nothing, {}) == Measured()


def test_whole_minutes_are_asked_for_of_one_deployment() -> None:
    counted, timed = queries("champion-1", SINCE, SINCE, 95)
    assert counted["timespan"] == "2026-03-01T12:00:00Z/2026-03-01T12:01:00Z"
    assert counted["$filter"].startswith("deployment eq 'champion-1' and statusCodeClass eq '*'")
    assert (counted["metricnames"], timed["metricnames"]) == ("RequestsPerMinute", "RequestLatency_P95")
    assert timed["$filter"] == "deployment eq 'champion-1'"


def test_the_minute_that_has_just_begun_is_asked_for_too() -> None:
    """Its first second would be cut off with the fractions of the time."""
    counted, _ = queries("champion-1", SINCE, SINCE + timedelta(seconds=90.7), 95)
    assert counted["timespan"] == "2026-03-01T12:00:00Z/2026-03-01T12:02:01Z"
