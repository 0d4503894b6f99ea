"""What $(params.NAME), $(inputs.NAME), $(outputs.NAME), $(run.WHAT) and $(mlflow.WHAT) stand for. Pure.

Used by the translator for arguments, job parameters and output URIs. What was put in is never looked at again, so that
a parameter's value can not smuggle in a reference.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from trainyard.core.errors import TranslationError
from trainyard.platforms.base import Job

_REFERENCE = re.compile(r"\$\$\(|\$\((params|inputs|outputs|run|mlflow)\.([^()]*)\)")
_LATER = re.compile(r"\$\$\(mlflow\.|\$\(mlflow\.(runId|experimentId)\)")
_MLFLOW = {"runId": "MLFLOW_RUN_ID", "experimentId": "MLFLOW_EXPERIMENT_ID"}
_REASONS = {"params": "ParameterUnknown"}


class References:
    """What can be referred to in one run, by group and name."""

    def __init__(self, job: Job, **groups: Mapping[str, str]) -> None:
        """`groups` are inputs and outputs, once they are known; one that is not given is refused where it is used."""
        self._groups: dict[str, Mapping[str, str]] = {
            "params": job.spec.params,
            "run": {"name": job.name, "namespace": job.namespace, "uid": job.uid, "attempt": str(job.attempt)},
            **groups,
        }

    @property
    def params(self) -> Mapping[str, str]:
        """spec.params, which notebooks get as they are."""
        return self._groups["params"]

    def replaced(self, text: str, field: str) -> str:
        """The text with every reference replaced.

        Raises:
            TranslationError: ParameterUnknown or ReferenceUnknown, naming the field.
        """

        def value(match: re.Match[str]) -> str:
            if match[0] == "$$(":
                return "$("
            return self._value(match[1], match[2], field)

        return _REFERENCE.sub(value, text)

    def in_job_parameter(self, text: str, field: str) -> str:
        """As `replaced`, but $(mlflow.*) stays for `filled_in`, and all that only looks like it is marked as text."""

        def value(match: re.Match[str]) -> str:
            if match[0] == "$$(":
                return "$$(" if text.startswith("mlflow.", match.end()) else "$("
            if match[1] != "mlflow":
                return self._value(match[1], match[2], field).replace("$(mlflow.", "$$(mlflow.")
            if match[2] not in _MLFLOW:
                raise _unknown(field, match[0], "mlflow", _MLFLOW)
            return match[0]

        return _REFERENCE.sub(value, text)

    def _value(self, group: str, name: str, field: str) -> str:
        reference = f"$({group}.{name})"
        if group == "mlflow":
            raise TranslationError(
                field,
                f"{reference} is for the parameters of a jobRef; code finds it in the environment variable "
                "MLFLOW_RUN_ID or MLFLOW_EXPERIMENT_ID",
                reason="ReferenceUnknown",
            )
        if group not in self._groups:
            raise TranslationError(field, f"{reference} can not be used here", reason="ReferenceUnknown")
        if name not in self._groups[group]:
            raise _unknown(field, reference, group, self._groups[group])
        return self._groups[group][name]


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


def listed(found: Iterable[str], most: int = 12) -> str:
    """Names for a message: in order, not too many."""
    names = sorted(found)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) + more) or "none"


def _unknown(field: str, reference: str, group: str, there: Iterable[str]) -> TranslationError:
    where = f"spec.{group}" if group in ("params", "inputs", "outputs") else f"{group}.*"
    return TranslationError(
        field,
        f"{reference} is not in {where}, which has {listed(there)}",
        reason=_REASONS.get(group, "ReferenceUnknown"),
    )
