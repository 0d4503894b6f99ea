"""Azure Monitor tells what the scoring URIs of online endpoints answered, to who may read metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from trainyard_sandbox.azure.online_metrics import OF_ENDPOINT
from trainyard_sandbox.azure.online_store import Sample
from trainyard_sandbox.client import SandboxControl

from .azure_fixtures import Arm
from .azure_online import Online

VERSION = "2023-10-01"


@pytest.fixture
def online(control: SandboxControl, arm: Arm, data_scientist: str) -> Iterator[Online]:
    control.script_serving(platform="azure", pretend=True)
    control.assign_role(data_scientist, "Monitoring Reader")
    yield Online(control, arm, data_scientist)
    control.clear_serving_scripts()
    control.azure_serving_settings()
    control.settings(clock_offset_seconds=0.0)
    for endpoint in control.azure_endpoints():
        control.delete_azure_endpoint(endpoint["name"])


@pytest.fixture
def endpoint(online: Online) -> str:
    """An endpoint whose deployment blue has all traffic."""
    made, model = online.make(), online.pretended()
    for deployment in ("blue", "green"):
        online.deployed(made, deployment, model)
    online.share(made, blue=100)
    return made


def _timespan(before: float = 300, after: float = 120) -> str:
    now = time.time()
    begin, end = (datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for at in (now - before, now + after))
    return f"{begin}/{end}"


def _metrics(online: Online, path: str, client_id: str = "", **asked: str) -> requests.Response:
    given = {"timespan": _timespan(), "interval": "PT1M", "aggregation": "Average"} | asked
    if "filter" in given:
        given["$filter"] = given.pop("filter")
    below = f"/onlineEndpoints/{path}/providers/microsoft.insights/metrics"
    return online.arm(client_id or online.client_id, "GET", below, version=VERSION, params=given)


def _total(series: dict[str, Any]) -> float:
    return sum(point.get("average", 0) for point in series["data"])


def test_requests_are_counted_by_deployment_and_class_of_status(online: Online, endpoint: str) -> None:
    for _ in range(3):
        assert online.score(endpoint).status_code == 200
    online.control.script_serving(platform="azure", error_rate=1.0)
    assert online.score(endpoint, azureml_model_deployment="green").status_code == 424
    asked = {"metricnames": "RequestsPerMinute", "filter": "deployment eq '*' and statusCodeClass eq '*'"}
    shown = _metrics(online, endpoint, **asked).json()["value"][0]
    assert (shown["name"]["value"], shown["unit"]) == ("RequestsPerMinute", "Count")
    found = {
        tuple(value["value"] for value in series["metadatavalues"]): _total(series) for series in shown["timeseries"]
    }
    assert found == {("blue", "2xx"): 3.0, ("green", "4xx"): 1.0}
    names = [value["name"]["value"] for value in shown["timeseries"][0]["metadatavalues"]]
    assert names == ["deployment", "statuscodeclass"]
    asked["filter"] = "deployment eq 'green' and modelStatusCode eq '500'"
    assert _total(_metrics(online, endpoint, **asked).json()["value"][0]["timeseries"][0]) == 1.0
    asked["filter"] = "statusCodeClass ne '2xx'"
    assert _total(_metrics(online, endpoint, **asked).json()["value"][0]["timeseries"][0]) == 1.0
    by_code = {"metricnames": "RequestsPerMinute", "filter": "envoy_response_code eq '*'"}
    of_green = _metrics(online, f"{endpoint}/deployments/green", **by_code).json()["value"][0]["timeseries"]
    assert [(one["metadatavalues"][0]["value"], _total(one)) for one in of_green] == [("424", 1.0)]


def test_latencies_are_those_of_the_answers(online: Online, endpoint: str) -> None:
    online.control.script_serving(platform="azure", latency_seconds=0.2)
    online.score(endpoint)
    asked = {"metricnames": "RequestLatency_P95,RequestLatency_P50", "filter": "deployment eq 'blue'"}
    values = _metrics(online, endpoint, **asked).json()["value"]
    assert [value["name"]["value"] for value in values] == ["RequestLatency_P95", "RequestLatency_P50"]
    points = [point["average"] for point in values[0]["timeseries"][0]["data"] if "average" in point]
    assert len(points) == 1
    assert 200 <= points[0] < 5000
    at_deployment = _metrics(online, f"{endpoint}/deployments/blue", metricnames="RequestLatency_P99").json()
    assert _total(at_deployment["value"][0]["timeseries"][0]) >= 200


def test_a_percentile_is_the_nearest_rank() -> None:
    samples = [Sample(0.0, "blue", 200, 200, index / 1000) for index in range(1, 101)]
    read = {name: metric.read(samples) for name, metric in OF_ENDPOINT.items()}
    assert read["RequestLatency_P50"] == pytest.approx(50)
    assert read["RequestLatency_P99"] == pytest.approx(99)
    assert read["RequestLatency"] == pytest.approx(50.5)
    assert read["RequestsPerMinute"] == 100
    assert OF_ENDPOINT["RequestLatency_P95"].read([]) is None


def test_metrics_come_late_when_they_should(online: Online, endpoint: str) -> None:
    online.control.azure_serving_settings(metric_delay_seconds=100)
    online.score(endpoint)
    series = _metrics(online, endpoint, metricnames="RequestsPerMinute").json()["value"][0]["timeseries"]
    assert _total(series[0]) == 0
    online.control.settings(clock_offset_seconds=101.0)
    series = _metrics(online, endpoint, metricnames="RequestsPerMinute").json()["value"][0]["timeseries"]
    assert _total(series[0]) == 1


def test_a_data_scientist_reads_no_metrics_without_a_role_for_it(online: Online, endpoint: str) -> None:
    plain = online.control.add_application("plain", roles={"workspace": ["AzureML Data Scientist"]})
    refused = _metrics(online, endpoint, plain, metricnames="RequestsPerMinute")
    assert refused.status_code == 403
    assert "Microsoft.Insights/metrics/read" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("asked", "because"),
    [
        ({"metricnames": "Requests"}, "Valid metrics: RequestLatency,"),
        ({"aggregation": "Maximum"}, "unsupported aggregation"),
        ({"interval": "PT7M"}, "time grain"),
        ({"timespan": "yesterday"}, "Invalid timespan"),
        ({"filter": "region eq 'x'"}, "dimension"),
        ({"filter": "deployment is 'x'"}, "Invalid $filter"),
    ],
)
def test_what_azure_monitor_does_not_know_is_refused(
    online: Online, endpoint: str, asked: dict[str, str], because: str
) -> None:
    answer = _metrics(online, endpoint, **({"metricnames": "RequestsPerMinute"} | asked))
    assert (answer.status_code, answer.json()["code"]) == (400, "BadRequest")
    assert because in answer.json()["message"]
