"""What Azure Monitor measured of one deployment of an endpoint. Pure, but for who asks; called by `serving`.

Metrics and dimensions of `workspaces/onlineEndpoints`: Azure documentation, "Supported metrics for
Microsoft.MachineLearningServices/workspaces/onlineEndpoints" (RequestsPerMinute, RequestLatency_P50, _P95, _P99; split
by deployment, statusCode, statusCodeClass); request and answer: Azure REST API reference, "Metrics - List". They come
some minutes late.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from trainyard.core.serving.seen import Measured

PATH = "/providers/microsoft.insights/metrics"
VERSION = "2018-01-01"
REQUESTS = "RequestsPerMinute"
# A model that raises is answered for with 424, "Model Error" ("HTTP status codes for online endpoints").
MODEL_ERROR = "424"
MOST = 1e15


def queries(deployment: str, since: datetime, now: datetime, percentile: int) -> tuple[dict[str, str], dict[str, str]]:
    """The parameters of the two requests: how many were answered by status, and how fast.

    Measured in whole minutes, of which the first may begin before `since` by less than one.
    """
    begin = since.astimezone(UTC).replace(second=0, microsecond=0)
    # A second more, as the time is told in whole seconds: the minute that has just begun would be left out.
    end = max(now.astimezone(UTC) + timedelta(seconds=1), begin + timedelta(minutes=1))
    shared = {
        "timespan": f"{begin:%Y-%m-%dT%H:%M:%SZ}/{end:%Y-%m-%dT%H:%M:%SZ}",
        "interval": "PT1M",
        "aggregation": "Average",
    }
    which = f"deployment eq '{deployment}'"
    by_status = f"{which} and statusCodeClass eq '*' and statusCode eq '*'"
    return (
        {"metricnames": REQUESTS, **shared, "$filter": by_status},
        {"metricnames": f"RequestLatency_P{percentile}", **shared, "$filter": which},
    )


def measured_of(requests: Mapping[str, Any], latency: Mapping[str, Any]) -> Measured:
    """The two answers in one.

    `errors` are the requests answered with 5xx, and with 424 for a model that raised. The latency is that of the
    slowest minute: percentiles of minutes make none of the whole, and a bound is to hold in each. Nothing is told
    before the first minute with a request.
    """
    total = errors = 0.0
    for labels, values in _series(requests):
        count = sum(values)
        total += count
        failed = labels.get("statuscodeclass", "").lower().startswith("5") or labels.get("statuscode") == MODEL_ERROR
        errors += count if failed or labels.get("statuscode", "").startswith("5") else 0
    slowest = max((value for _, values in _series(latency) for value in values), default=None)
    if not total:
        return Measured()
    return Measured(round(total), round(errors), slowest)


def _series(answer: Mapping[str, Any]) -> Iterator[tuple[dict[str, str], list[float]]]:
    """Each time series: its dimensions, by their names in lower case, and its value by minute, where there is one."""
    for metric in answer.get("value") or ():
        for series in metric.get("timeseries") or ():
            labels = {
                str((each.get("name") or {}).get("value") or "").lower(): str(each.get("value") or "")
                for each in series.get("metadatavalues") or ()
            }
            points = (point.get("average") for point in series.get("data") or ())
            # What no float holds is no measurement, and neither is NaN.
            yield labels, [float(value) for value in points if isinstance(value, int | float) and abs(value) < MOST]
