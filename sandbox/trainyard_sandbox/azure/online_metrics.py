"""Azure Monitor's metrics of online endpoints and deployments: requests per minute and latencies.

azure_app.py mounts `routes()`; the requests are those that online_scoring.py answered.

Read in: Azure Monitor documentation, "Supported metrics for Microsoft.MachineLearningServices/workspaces/
onlineEndpoints" and ".../deployments" (names, units, dimensions, Average as their aggregation, PT1M);
Azure/azure-rest-api-specs, Microsoft.Insights 2018-01-01, examples GetMetric (an answer's form, and dimensions in
lower case) and `metrics_API.json` (parameters, an error's `code` and `message`). `statusCodeClass` is written "2xx" in
Azure/azureml-examples. A minute without requests has no value. Not published, and ours: dimensions that are not split
by are summed; what is told comes `metric_delay_seconds` late.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.arm import Action, AzureCall, arm_route
from trainyard_sandbox.azure.errors import AzureError
from trainyard_sandbox.azure.job_shapes import duration_seconds
from trainyard_sandbox.azure.online_endpoints import found_endpoint, no_such
from trainyard_sandbox.azure.online_store import OnlineStore, Sample

VERSIONS = ("2018-01-01", "2019-07-01", "2021-05-01", "2023-10-01", "2024-02-01")
READ = "Microsoft.Insights/metrics/read"
_QUERY = (
    "timespan",
    "interval",
    "metricnames",
    "metricnamespace",
    "aggregation",
    "$filter",
    "top",
    "orderby",
    "resultType",
    "AutoAdjustTimegrain",
    "ValidateDimensions",
)
_GRAINS = ("PT1M", "PT5M", "PT15M", "PT30M", "PT1H", "PT6H", "PT12H", "P1D")
_CLAUSE = re.compile(r"\(?\s*([A-Za-z_]+)\s+(eq|ne)\s+'([^']*)'\s*\)?", re.IGNORECASE)
_POINTS = 10_000


class MonitorError(AzureError):
    """Azure Monitor's `code` and `message`, without an `error` around them."""

    def response(self, request: Request) -> Response:
        """See `AzureError.response`."""
        del request
        return JSONResponse({"code": self.code, "message": self.message}, self.status, self.headers)


Read = Callable[[Sequence[Sample]], float | None]
Dimension = Callable[[Sample], str]


@dataclass(frozen=True)
class Metric:
    """One metric: what it says of the samples of a minute, its unit, its dimensions."""

    title: str
    unit: str
    read: Read
    dimensions: Mapping[str, Dimension]


def _latency(percent: float | None) -> Read:
    def read(samples: Sequence[Sample]) -> float | None:
        seconds = sorted(sample.seconds for sample in samples)
        if not seconds:
            return None
        if percent is None:
            return 1000 * sum(seconds) / len(seconds)
        return 1000 * seconds[max(1, math.ceil(len(seconds) * percent / 100)) - 1]

    return read


def _requests(samples: Sequence[Sample]) -> float | None:
    return float(len(samples)) if samples else None


_BY_DEPLOYMENT: dict[str, Dimension] = {"deployment": lambda sample: sample.deployment}
_BY_STATUS: dict[str, Dimension] = {
    "statuscode": lambda sample: str(sample.status),
    "statuscodeclass": lambda sample: f"{sample.status // 100}xx",
    "modelstatuscode": lambda sample: str(sample.model_status or ""),
}


def _metrics(latency: Mapping[str, Dimension], requests: Mapping[str, Dimension]) -> dict[str, Metric]:
    found = {"RequestLatency": Metric("Request Latency", "Milliseconds", _latency(None), latency)} if latency else {}
    for percent in (50, 90, 95, 99):
        title = f"Request Latency P{percent}"
        found[f"RequestLatency_P{percent}"] = Metric(title, "Milliseconds", _latency(percent), latency)
    return found | {"RequestsPerMinute": Metric("Requests Per Minute", "Count", _requests, requests)}


OF_ENDPOINT = _metrics(_BY_DEPLOYMENT, _BY_DEPLOYMENT | _BY_STATUS)
OF_DEPLOYMENT = _metrics({}, {"envoy_response_code": lambda sample: str(sample.status)})


@dataclass(frozen=True)
class _Clause:
    dimension: str
    equal: bool
    value: str

    def keeps(self, metric: Metric, sample: Sample) -> bool:
        """Whether the sample is asked for; '*' asks for all, apart by their values."""
        same = self.value == "*" or metric.dimensions[self.dimension](sample).lower() == self.value.lower()
        return same == self.equal


@dataclass(frozen=True)
class _Asked:
    """What was asked for: Unix seconds, the grain in seconds and as it was written, and which samples."""

    begin: float
    end: float
    grain: float
    interval: str
    clauses: tuple[_Clause, ...]


async def endpoint_metrics(call: AzureCall) -> Response:
    """GET .../onlineEndpoints/{endpoint}/providers/microsoft.insights/metrics."""
    endpoint = found_endpoint(call)
    return _answer(call, OF_ENDPOINT, endpoint.samples, "onlineEndpoints")


async def deployment_metrics(call: AzureCall) -> Response:
    """GET .../deployments/{deployment}/providers/microsoft.insights/metrics."""
    endpoint, name = found_endpoint(call), call.path["deployment"]
    deployment = endpoint.deployment(name)
    if deployment is None:
        raise no_such(call, f"onlineEndpoints/{endpoint.name}/deployments/{name}")
    samples = [sample for sample in endpoint.samples if sample.deployment == deployment.name]
    return _answer(call, OF_DEPLOYMENT, samples, "onlineEndpoints/deployments")


def _answer(call: AzureCall, metrics: Mapping[str, Metric], samples: Iterable[Sample], kind: str) -> Response:
    namespace = f"Microsoft.MachineLearningServices/workspaces/{kind}"
    if call.query.get("metricnamespace", namespace).lower() != namespace.lower():
        raise _bad(f"The metric namespace {call.query['metricnamespace']} is not one of {namespace}.")
    if call.query.get("aggregation", "Average").lower() != "average":
        raise _bad(f"Detected unsupported aggregation: {call.query['aggregation']}. Supported: Average.")
    if call.query.get("resultType", "Data") != "Data" or call.query.get("orderby"):
        raise _bad("This sandbox gives metric data only, oldest first.")
    store: OnlineStore = call.azure.online
    asked = _asked(call, store.now())
    seen = [one for one in samples if asked.begin <= one.at < min(asked.end, store.now() - store.metric_delay_seconds)]
    resource = call.request.url.path.split("/providers/microsoft.insights")[0].split("/providers/Microsoft.Insights")[0]
    return JSONResponse(
        {
            "cost": 0,
            "timespan": f"{_iso(asked.begin)}/{_iso(asked.end)}",
            "interval": asked.interval,
            "namespace": namespace,
            "resourceregion": call.azure.region,
            "value": [_shown(resource, name, metric, seen, asked) for name, metric in _wanted(call, metrics).items()],
        }
    )


def _wanted(call: AzureCall, metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    by_name = {name.lower(): name for name in metrics}
    names = call.query.get("metricnames", next(iter(metrics))).split(",")
    for name in names:
        if name.strip().lower() not in by_name:
            message = "Failed to find metric configuration for provider: Microsoft.MachineLearningServices, metric: "
            raise _bad(f"{message}{name}. Valid metrics: {','.join(metrics)}")
    chosen = [by_name[name.strip().lower()] for name in names]
    return {name: metrics[name] for name in chosen}


def _shown(resource: str, name: str, metric: Metric, samples: list[Sample], asked: _Asked) -> dict[str, Any]:
    for clause in asked.clauses:
        if clause.dimension not in metric.dimensions:
            allowed = ", ".join(metric.dimensions) or "none"
            raise _bad(
                f"Metric: {name} does not support requested dimension combination: {clause.dimension}. {allowed}."
            )
    kept = [one for one in samples if all(clause.keeps(metric, one) for clause in asked.clauses)]
    split = [clause.dimension for clause in asked.clauses if clause.value == "*"]
    series: dict[tuple[str, ...], list[Sample]] = {} if split else {(): []}
    for one in kept:
        series.setdefault(tuple(metric.dimensions[dimension](one) for dimension in split), []).append(one)
    return {
        "id": f"{resource}/providers/Microsoft.Insights/metrics/{name}",
        "type": "Microsoft.Insights/metrics",
        "name": {"value": name, "localizedValue": metric.title},
        "displayDescription": metric.title,
        "unit": metric.unit,
        "timeseries": [
            {
                "metadatavalues": [
                    {"name": {"value": dimension, "localizedValue": dimension}, "value": value}
                    for dimension, value in zip(split, values, strict=True)
                ],
                "data": _data(metric, found, asked),
            }
            for values, found in series.items()
        ],
        "errorCode": "Success",
    }


def _data(metric: Metric, samples: list[Sample], asked: _Asked) -> list[dict[str, Any]]:
    """A value for each grain: the average of what its minutes say."""
    by_minute: dict[float, list[Sample]] = {}
    for one in samples:
        by_minute.setdefault(one.at // 60 * 60, []).append(one)
    points: list[dict[str, Any]] = []
    at = asked.begin
    while at < asked.end:
        minutes = [metric.read(found) for minute, found in by_minute.items() if at <= minute < at + asked.grain]
        values = [value for value in minutes if value is not None]
        points.append({"timeStamp": _iso(at)} | ({"average": sum(values) / len(values)} if values else {}))
        at += asked.grain
    return points


def _asked(call: AzureCall, now: float) -> _Asked:
    """The times, the grain and the filter of a request; both times are cut to whole minutes.

    Raises:
        MonitorError: 400.
    """
    begin, end = _times(call.query.get("timespan"), now)
    interval = call.query.get("interval", "PT1M")
    grain = end - begin if interval.upper() == "FULL" else duration_seconds(interval)
    if interval.upper() != "FULL" and interval not in _GRAINS:
        raise _bad(f"Invalid time grain '{interval}'. Supported ones are {', '.join(_GRAINS)}.")
    if (end - begin) / grain > _POINTS:
        raise _bad("The timespan has too many points of this interval.")
    return _Asked(begin, end, grain, interval, _clauses(call.query.get("$filter", "")))


def _times(timespan: str | None, now: float) -> tuple[float, float]:
    if timespan is None:
        return now // 60 * 60 - 3600, now // 60 * 60 + 60
    first, _, last = timespan.partition("/")
    try:
        begin, end = (datetime.fromisoformat(text) for text in (first, last))
    except ValueError:
        raise _bad(f"Invalid timespan '{timespan}': two ISO 8601 times with a slash between them.") from None
    seconds = [(one if one.tzinfo else one.replace(tzinfo=UTC)).timestamp() for one in (begin, end)]
    if seconds[0] >= seconds[1]:
        raise _bad("Start time and end time of the timespan cannot be equal, or the wrong way round.")
    return seconds[0] // 60 * 60, math.ceil(seconds[1] / 60) * 60


def _clauses(text: str) -> tuple[_Clause, ...]:
    found: list[_Clause] = []
    for part in re.split(r"\s+and\s+", text.strip(), flags=re.IGNORECASE) if text.strip() else []:
        clause = _CLAUSE.fullmatch(part.strip())
        if clause is None:
            raise _bad(f"Invalid $filter '{text}': dimension eq 'value' or ne 'value', joined by and.")
        found.append(_Clause(clause[1].lower(), clause[2].lower() == "eq", clause[3]))
    return tuple(found)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _bad(message: str) -> MonitorError:
    return MonitorError(400, "BadRequest", message)


def routes() -> list[Route]:
    """The routes of this module; the provider's name is written both ways by clients."""
    one = "/onlineEndpoints/{endpoint}"
    found: list[Route] = []
    for provider in ("microsoft.insights", "Microsoft.Insights"):
        below = f"/providers/{provider}/metrics"
        found += [
            arm_route(one + below, {"GET": Action(endpoint_metrics, READ, VERSIONS, _QUERY)}),
            arm_route(
                f"{one}/deployments/{{deployment}}{below}",
                {"GET": Action(deployment_metrics, READ, VERSIONS, _QUERY)},
            ),
        ]
    return found
