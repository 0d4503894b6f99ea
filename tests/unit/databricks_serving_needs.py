"""What a preflight of an endpoint makes of Databricks' answers; rows of the table in test_databricks_preflight.py."""

import json
from typing import Any

from trainyard.core.errors import Denied, Missing
from trainyard.platforms.base import Need
from trainyard.platforms.databricks import needs
from trainyard.platforms.databricks.asked import SCIM
from trainyard.platforms.databricks.serving_checks import HISTORY

ME = "app-me"
NO = Denied("you may not")
VERSION = "/api/2.0/mlflow/unity-catalog/model-versions/get"
RUN = "/api/2.0/mlflow/runs/get"
ENDPOINT = "/api/2.0/serving-endpoints/wine"
ON_MODEL = "/api/2.1/unity-catalog/effective-permissions/FUNCTION/main.ml.iris"
SIGNATURE = {"inputs": "[]", "outputs": "[]"}


def _need(kind: str, name: str, right: str) -> Need:
    return Need(kind, name, right, ME, "spec.x")


def _held(right: str) -> dict[str, Any]:
    return {"privilege_assignments": [{"principal": ME, "privileges": [{"privilege": right}]}]}


def _version(**fields: Any) -> dict[str, Any]:
    return {"model_version": {"run_id": "r1", "source": "dbfs:/exp/r1/artifacts/model", **fields}}


def _run(*logged: dict[str, Any], text: str | None = None) -> dict[str, Any]:
    value = json.dumps(logged) if text is None else text
    return {"run": {"data": {"tags": [{"key": HISTORY, "value": value}]}}}


READ = _need(needs.MODEL, "main.ml.iris", needs.EXECUTE)
SIGNED = _need(needs.MODEL_VERSION, "main.ml.iris/3", needs.SIGNATURE)
GROUP = _need(needs.GROUP, 'the "best"', needs.EXISTS)
USER = _need(needs.USER, "ada@example.com", needs.EXISTS)
PRINCIPAL = _need(needs.SERVICE_PRINCIPAL, "app-1", needs.EXISTS)
TAKEN_OVER = _need(needs.ENDPOINT, "wine", needs.CAN_MANAGE)
WITH, WITHOUT = {"artifact_path": "model", "signature": SIGNATURE}, {"artifact_path": "other", "signature": None}


def _groups(query: dict[str, Any]) -> dict[str, Any]:
    return {"Resources": [{"displayName": "x"}] if query == {"filter": 'displayName eq "the \\"best\\""'} else []}


SERVING: list[tuple[Need, dict[str, Any], str, str]] = [
    (READ, {ON_MODEL: _held("EXECUTE")}, "Passed", ""),
    (READ, {ON_MODEL: _held("APPLY_TAG")}, "Missing", f"GRANT EXECUTE ON FUNCTION `main`.`ml`.`iris` TO `{ME}`"),
    (READ, {}, "Missing", "model main.ml.iris does not exist"),
    (SIGNED, {VERSION: _version(), RUN: _run(WITH)}, "Passed", ""),
    (SIGNED, {VERSION: _version(), RUN: _run(WITHOUT)}, "Missing", "signature=infer_signature"),
    # Of several that one MLflow run logged, the one that was registered counts.
    (SIGNED, {VERSION: _version(), RUN: _run(WITH, WITHOUT)}, "Passed", ""),
    (SIGNED, {VERSION: _version(source="dbfs:/r1/other"), RUN: _run(WITH, WITHOUT)}, "Missing", "without a signature"),
    (SIGNED, {VERSION: _version(source="dbfs:/elsewhere"), RUN: _run(WITH, WITHOUT)}, "Unknown", "not told by"),
    (SIGNED, {VERSION: _version(run_id=""), RUN: _run(WITH)}, "Unknown", "names no MLflow run"),
    (SIGNED, {VERSION: _version(), RUN: NO}, "Unknown", "can not be read: you may not"),
    (SIGNED, {VERSION: _version(), RUN: _run(text="{")}, "Unknown", "does not tell"),
    (SIGNED, {VERSION: _version(), RUN: _run(text="[[]]")}, "Unknown", "does not tell"),
    (SIGNED, {VERSION: NO}, "Unknown", "you may not"),
    (SIGNED, {VERSION: Missing("RESOURCE_DOES_NOT_EXIST")}, "Missing", "no version 3 of main.ml.iris"),
    (GROUP, {f"{SCIM}/Groups": _groups}, "Passed", ""),
    # Not all of them are listed.
    (_need(needs.GROUP, "account users", needs.EXISTS), {f"{SCIM}/Groups": {"Resources": []}}, "Passed", ""),
    (USER, {f"{SCIM}/Users": {"Resources": []}}, "Missing", "no user ada@example.com in this workspace"),
    (PRINCIPAL, {f"{SCIM}/ServicePrincipals": NO}, "Unknown", "you may not"),
    (TAKEN_OVER, {ENDPOINT: {"permission_level": "CAN_MANAGE"}}, "Passed", ""),
    (TAKEN_OVER, {ENDPOINT: {"permission_level": "CAN_QUERY"}}, "Missing", "has CAN_QUERY on endpoint wine"),
    (TAKEN_OVER, {ENDPOINT: {}}, "Unknown", "does not say"),
    (TAKEN_OVER, {ENDPOINT: NO}, "Missing", "may not see endpoint wine"),
    (TAKEN_OVER, {}, "Passed", "no endpoint wine yet"),
]
