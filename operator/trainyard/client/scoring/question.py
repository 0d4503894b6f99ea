"""Rows as each platform takes them, and predictions as each gives them. Pure; used by score.py.

Databricks: "Query serving endpoints for custom models" (dataframe_records). Azure ML: MLflow models without a scoring
script take input_data with columns, index and data ("Deploy MLflow models to online endpoints") and answer a bare
list; the header azureml-model-deployment picks one deployment.
"""

import json
from collections.abc import Sequence
from typing import Any

from trainyard.client.scoring.place import Place
from trainyard.client.scoring.rows import Row

PICK_HEADER = "azureml-model-deployment"


def headers_for(place: Place) -> dict[str, str]:
    """Headers of the request, without the credential."""
    picked = {PICK_HEADER: place.served} if place.platform == "azureml" and place.served else {}
    return {"Content-Type": "application/json", "Accept": "application/json", **picked}


def body_for(platform: str, rows: Sequence[Row]) -> bytes:
    """The rows as the platform takes them. On Azure ML a column that a row lacks is null in it."""
    if platform == "databricks":
        return _json({"dataframe_records": [dict(row) for row in rows]})
    columns = list(dict.fromkeys(name for row in rows for name in row))
    data = [[row.get(name) for name in columns] for row in rows]
    return _json({"input_data": {"columns": columns, "index": list(range(len(rows))), "data": data}})


def predictions_in(answer: Any, count: int) -> list[Any] | None:
    """The predictions, one for each row; None if it is no such answer."""
    found = answer.get("predictions") if isinstance(answer, dict) else answer
    return found if isinstance(found, list) and len(found) == count else None


def _json(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False).encode()
