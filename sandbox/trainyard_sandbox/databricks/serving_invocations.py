"""Requests to served models, by the shares of their endpoint or to one of them by name; and the metrics of it all.

server.py mounts `routes()`. A request waits for nothing but its model: one whose model is replaced meanwhile is
answered by the model that it went to.

Read in: databricks-sdk `service/serving.py` ServingEndpointsAPI.query (fields, header `served-model-name`);
Databricks documentation, "Query serving endpoints for custom models", "Serve multiple models to a model serving
endpoint" (the path of a single model), "Model Serving limits and regions" (16 MB), "Debugging guide for Model Serving"
("5xx error codes are reserved to communicate errors where Databricks is at fault": a model that raises answers 400).
The sentence about an endpoint that does not exist is quoted in public issues.

Metrics: "Track and export serving endpoint health metrics to Prometheus and Datadog". request_count_total,
request_4xx_count_total and request_5xx_count_total are gauges of the last minute in spite of their names, and
request_latency_ms is a histogram; a line ends with a timestamp in milliseconds, as engineers who parse the text report.
The names of the labels are not published.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from trainyard_sandbox.auth import caller
from trainyard_sandbox.databricks.serving import required
from trainyard_sandbox.databricks.serving_endpoints import QUERY, VIEW, Endpoint
from trainyard_sandbox.errors import ApiError, invalid_parameter
from trainyard_sandbox.schema import Obj, query
from trainyard_sandbox.serving.served_model import NotServing, ServedModel
from trainyard_sandbox.state import sandbox_state

MOST_BYTES = 16 * 1024 * 1024
FIELDS = frozenset(
    {
        "client_request_id",
        "dataframe_records",
        "dataframe_split",
        "inputs",
        "instances",
        "params",
        "usage_context",
    }
)
MINUTE = 60.0
BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000, 120_000, 300_000)
"""Upper bounds in milliseconds; the platform's own are not published."""


def routes() -> list[Route]:
    """The routes of this module."""
    one = "/serving-endpoints/{name}"
    return [
        Route(f"{one}/invocations", invoke, methods=["POST"]),
        Route(f"{one}/served-models/{{served}}/invocations", invoke_one, methods=["POST"]),
        Route("/api/2.0/serving-endpoints/{name}/metrics", metrics, methods=["GET"]),
    ]


async def invoke(request: Request) -> Response:
    """ServingEndpointsAPI.query: answered by one of the served models, by their shares."""
    endpoint, body = await _asked(request)
    name = endpoint.split.next()
    if name is None:
        raise _not_ready(f"Endpoint {endpoint.name} is not ready: no served entity has traffic yet.")
    return await _answer(name, endpoint.models[name], body, _content_type(request))


async def invoke_one(request: Request) -> Response:
    """Answered by one served model, whatever its share."""
    endpoint, body = await _asked(request)
    name = request.path_params["served"]
    model = endpoint.models.get(name)
    if model is None:
        raise _does_not_exist()
    return await _answer(name, model, body, _content_type(request))


async def metrics(request: Request) -> Response:
    """ServingEndpointsAPI.export_metrics."""
    principal = caller(request).principal
    query(request, Obj({}))
    endpoint = required(request, principal, VIEW, "view")
    text = exposition(endpoint, sandbox_state(request).now())
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def exposition(endpoint: Endpoint, now: float) -> str:
    """The metrics of the last minute in Prometheus' text format."""
    lines: list[str] = []

    def family(name: str, kind: str, text: str, samples: Sequence[tuple[str, str, float]]) -> None:
        lines.extend((f"# HELP {name} {text}", f"# TYPE {name} {kind}"))
        lines.extend(f"{name}{suffix}{{{labels}}} {value:g} {int(now * 1000)}" for suffix, labels, value in samples)

    models = [(name, model, _labels(endpoint, name)) for name, model in endpoint.models.items()]
    since = now - MINUTE
    for what, status_class in (("", None), ("4xx_", 4), ("5xx_", 5)):
        samples = [("", labels, model.metrics.count(since, status_class=status_class)) for _, model, labels in models]
        help_text = "Number of requests during the last minute" if not what else f"Number of {what[:3]} errors"
        family(f"request_{what}count_total", "gauge", help_text, samples)
    concurrency = [("", labels, _concurrency(endpoint, name, model)) for name, model, labels in models]
    family("provisioned_concurrent_requests_total", "gauge", "Number of provisioned concurrency", concurrency)
    histogram = [sample for _, model, labels in models for sample in _latency(model, labels, since)]
    family("request_latency_ms", "histogram", "Round-trip latency during the last minute", histogram)
    return "\n".join(lines) + "\n"


def _latency(model: ServedModel, labels: str, since: float) -> list[tuple[str, str, float]]:
    milliseconds = [sample.seconds * 1000 for sample in model.metrics.between(since)]
    found: list[tuple[str, str, float]] = [
        ("_bucket", f'{labels},le="{bound}"', sum(one <= bound for one in milliseconds)) for bound in BUCKETS
    ]
    found.append(("_bucket", f'{labels},le="+Inf"', len(milliseconds)))
    return [*found, ("_sum", labels, sum(milliseconds)), ("_count", labels, len(milliseconds))]


def _labels(endpoint: Endpoint, served: str) -> str:
    return f'endpoint_name="{endpoint.name}",endpoint_id="{endpoint.id}",served_model_name="{served}"'


def _concurrency(endpoint: Endpoint, served: str, model: ServedModel) -> int:
    if endpoint.config is None or model.state != "ready":
        return 0
    return endpoint.config.entities[served].least_concurrency


async def _asked(request: Request) -> tuple[Endpoint, bytes]:
    """The endpoint and the body of a request whose caller may query it."""
    principal = caller(request).principal
    if request.url.query:
        raise invalid_parameter(f"{request.method} {request.url.path} takes no query parameters.")
    body = await request.body()
    try:
        endpoint = required(request, principal, QUERY, "query")
    except ApiError as error:
        if error.status == 404:
            raise _does_not_exist() from error
        raise
    if len(body) > MOST_BYTES:
        raise ApiError(413, "REQUEST_LIMIT_EXCEEDED", f"The request has more than {MOST_BYTES // 1024**2} MB.")
    if _content_type(request).split(";")[0].strip() == "application/json":
        _check_fields(body)
    return endpoint, body


def _check_fields(body: bytes) -> None:
    try:
        document: Any = json.loads(body)
    except ValueError:
        return  # the model's server says what is wrong with it
    unknown = sorted(set(document) - FIELDS) if isinstance(document, dict) else []
    if unknown:
        raise ApiError(400, "BAD_REQUEST", f"The request has an unknown field: {unknown[0]}.")


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "application/json")


async def _answer(name: str, model: ServedModel, body: bytes, content_type: str) -> Response:
    try:
        answer = await model.score(body, content_type)
    except NotServing as error:
        raise _not_ready(str(error)) from error
    headers = {"served-model-name": name}
    if answer.content_type.startswith("application/json"):
        return Response(answer.body, answer.status, headers, answer.content_type)
    code = "INTERNAL_ERROR" if answer.status >= 500 else "BAD_REQUEST"
    document = {"error_code": code, "message": answer.body.decode("utf-8", "replace")}
    return JSONResponse(document, answer.status, headers)


def _not_ready(message: str) -> ApiError:
    return ApiError(503, "TEMPORARILY_UNAVAILABLE", message)


def _does_not_exist() -> ApiError:
    message = (
        "The given endpoint does not exist, please retry after checking the specified model and version deployment "
        "exists."
    )
    return ApiError(404, "RESOURCE_DOES_NOT_EXIST", message)
