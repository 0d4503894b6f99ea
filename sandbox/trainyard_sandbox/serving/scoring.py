"""Reads a scoring request and writes the predictions, inside a model's process; nursery_process.py calls it.

What is read is MLflow's scoring protocol (mlflow 2.22 `pyfunc/scoring_server/__init__.py`, `invocations`, which both
platforms run or follow): `dataframe_records`, `dataframe_split`, `instances`, `inputs`. `input_data` is Azure ML's form
of the same ("Deploy MLflow models to online endpoints", "Payload examples"): columns, index and data of a table,
tensors by name, or a list.
"""

from __future__ import annotations

import json
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server


def answer(model: Any, body: bytes, content_type: str) -> tuple[int, str, str]:
    """Status, body and media type for one request to a `PyFuncModel`; one that raises is a 400, as MLflow has it."""
    server: Any = scoring_server
    try:
        schema = model.metadata.get_input_schema()
        found = server.invocations(_mlflow_form(body), content_type, model, schema)
    except MlflowException as refusal:
        error: Any = refusal
        return error.get_http_status_code(), error.serialize_as_json(), "application/json"
    return found.status, found.response, found.mimetype


def _mlflow_form(body: bytes) -> str:
    """The body in MLflow's words."""
    text = body.decode("utf-8", "replace")
    try:
        document = json.loads(text)
    except ValueError:
        return text
    if not isinstance(document, dict) or "input_data" not in document:
        return text
    data = document.pop("input_data")
    document[_form_of(data)] = data
    return json.dumps(document)


def _form_of(data: Any) -> str:
    if isinstance(data, dict):
        return "dataframe_split" if {"columns", "data"} <= set(data) else "inputs"
    return "instances"
