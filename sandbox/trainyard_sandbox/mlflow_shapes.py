"""Shapes of MLflow's tracking API, the same on every platform that serves it.

databricks/mlflow_api.py and azure/mlflow_api.py check requests with them.

Read in: mlflow 2.22 `protos/service.proto`. Values that JSON has no number for are the strings NaN, Infinity and
-Infinity (protobuf documentation, "ProtoJSON Format"); the server's SQL store keeps infinity as the largest double
(mlflow documentation of `log_metric`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainyard_sandbox.schema import Int, ListOf, Number, Obj, Shape, Str


@dataclass(frozen=True)
class MetricValue(Shape):
    """A double in protobuf JSON: a number, or one of three strings."""

    def check(self, value: Any, path: str) -> float | str:
        """See `Shape.check`."""
        return value if value in ("NaN", "Infinity", "-Infinity") else Number().check(value, path)


RUN_VIEW = Str(choices=("ACTIVE_ONLY", "DELETED_ONLY", "ALL"))
RUN_STATUS = Str(choices=("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"))
TAG = Obj({"key": Str(), "value": Str()})
METRIC_FIELDS: dict[str, Shape] = {"key": Str(), "value": MetricValue(), "timestamp": Int(), "step": Int()}
_DATASET = ("name", "digest", "source_type", "source", "schema", "profile")
DATASET_INPUT = Obj({"tags": ListOf(TAG), "dataset": Obj({name: Str() for name in _DATASET})})
SEARCH_EXPERIMENTS = Obj(
    {
        "filter": Str(),
        "max_results": Int(1, 1000),
        "order_by": ListOf(Str()),
        "page_token": Str(),
        "view_type": RUN_VIEW,
    }
)
SEARCH_RUNS = Obj(
    {
        "experiment_ids": ListOf(Str(), maximum=100),
        "filter": Str(),
        "max_results": Int(1, 50_000),
        "order_by": ListOf(Str()),
        "page_token": Str(),
        "run_view_type": RUN_VIEW,
    },
    required=["experiment_ids"],
)
