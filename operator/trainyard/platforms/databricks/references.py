"""References in the parameters of a job that lives on Databricks, where $(mlflow.*) is only known later. Pure.

Used by tasks.py for job parameters, and by `Connection.submit` once the MLflow run is made.
"""

import re
from collections.abc import Mapping
from typing import Any

from trainyard.platforms import references
from trainyard.platforms.references import REFERENCE, unknown

_LATER = re.compile(r"\$\$\(mlflow\.|\$\(mlflow\.(runId|experimentId)\)")
_MLFLOW = {"runId": "MLFLOW_RUN_ID", "experimentId": "MLFLOW_EXPERIMENT_ID"}


class References(references.References):
    """What can be referred to in one run on Databricks."""

    def in_job_parameter(self, text: str, field: str) -> str:
        """As `replaced`, but $(mlflow.*) stays for `filled_in`, and all that only looks like it is marked as text."""

        def value(match: re.Match[str]) -> str:
            if match[0] == "$$(":
                return "$$(" if text.startswith("mlflow.", match.end()) else "$("
            if match[1] != "mlflow":
                return self.value(match[1], match[2], field).replace("$(mlflow.", "$$(mlflow.")
            if match[2] not in _MLFLOW:
                raise unknown(field, match[0], "mlflow", _MLFLOW)
            return match[0]

        return REFERENCE.sub(value, text)


def mentions_mlflow(value: Any) -> bool:
    """Whether something in the value may have to be filled in."""
    if isinstance(value, Mapping):
        return any(mentions_mlflow(item) for item in value.values())
    return isinstance(value, str) and "$(mlflow." in value


def filled_in(text: str, variables: Mapping[str, str]) -> str:
    """A job parameter with the ids of the MLflow run, once they are known; `variables` are those of the environment."""

    def value(match: re.Match[str]) -> str:
        return variables[_MLFLOW[match[1]]] if match[1] else "$(mlflow."

    return _LATER.sub(value, text)
