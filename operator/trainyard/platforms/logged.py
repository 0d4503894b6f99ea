"""What an MLflow run holds, as a status holds it: text, bounded. Pure.

Called by each platform's reader of MLflow runs, with the `data` of an MLflow REST answer (mlflow rest-api, "RunData").
"""

import math
import sys
from collections.abc import Mapping
from typing import Any

from trainyard.platforms.redaction import clean

# As the status holds them (api/run_status.py); a float's repr has at most 24 characters.
MAX_METRICS = 100
MAX_PARAMS = 100
MAX_NAME = 250
MAX_METRIC_VALUE = 32
MAX_PARAM_VALUE = 500


def metrics_of(data: Mapping[str, Any]) -> dict[str, str]:
    """The last value of each metric."""
    return {str(each["key"])[:MAX_NAME]: spoken(each.get("value")) for each in data.get("metrics", [])}


def params_of(data: Mapping[str, Any]) -> dict[str, str]:
    """Every parameter."""
    return {str(each["key"])[:MAX_NAME]: _param(each) for each in data.get("params", [])}


def spoken(value: Any) -> str:
    """A metric's value as text. MLflow writes what JSON has no number for as NaN, Infinity and -Infinity.

    Its SQL stores put the largest float in the place of an infinity (documentation of mlflow.log_metric); no metric
    has that value of its own accord, so it is told as what it stands for.
    """
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        if math.isinf(value) or abs(value) == sys.float_info.max:
            return "Infinity" if value > 0 else "-Infinity"
        return repr(value)
    # ProtoJSON leaves out a value that is the type's default.
    return "0.0" if value is None else str(value)[:MAX_METRIC_VALUE]


def first(values: Mapping[str, str], most: int) -> dict[str, str]:
    """The first of them by name."""
    return dict(sorted(values.items())[:most])


def _param(each: Mapping[str, Any]) -> str:
    return clean(str(each.get("value", "")))[:MAX_PARAM_VALUE]
