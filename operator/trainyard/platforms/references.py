"""What $(params.NAME), $(inputs.NAME), $(outputs.NAME), $(run.WHAT) and $(mlflow.WHAT) stand for. Pure.

Used by the translators for arguments, job parameters and output URIs. What was put in is never looked at again, so that
a parameter's value can not smuggle in a reference.
"""

import re
from collections.abc import Iterable, Mapping

from trainyard.core.errors import TranslationError
from trainyard.platforms.base import Job

REFERENCE = re.compile(r"\$\$\(|\$\((params|inputs|outputs|run|mlflow)\.([^()]*)\)")
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
        return "".join(value for _, _, value in self.parts(text, field))

    def parts(self, text: str, field: str) -> list[tuple[str | None, str, str]]:
        """The text cut at its references: (group, name, what stands for it), or (None, "", the text between).

        Raises:
            TranslationError: ParameterUnknown or ReferenceUnknown, naming the field.
        """
        found: list[tuple[str | None, str, str]] = []
        end = 0
        for match in REFERENCE.finditer(text):
            found.append((None, "", text[end : match.start()]))
            end = match.end()
            if match[0] == "$$(":
                found.append((None, "", "$("))
            else:
                found.append((match[1], match[2], self.value(match[1], match[2], field)))
        return [*found, (None, "", text[end:])]

    def value(self, group: str, name: str, field: str) -> str:
        """What one reference stands for.

        Raises:
            TranslationError: ParameterUnknown or ReferenceUnknown, naming the field.
        """
        reference = f"$({group}.{name})"
        if group == "mlflow" and group not in self._groups:
            raise TranslationError(
                field,
                f"{reference} is for the parameters of a jobRef; code finds it in the environment variable "
                "MLFLOW_RUN_ID or MLFLOW_EXPERIMENT_ID",
                reason="ReferenceUnknown",
            )
        if group not in self._groups:
            raise TranslationError(field, f"{reference} can not be used here", reason="ReferenceUnknown")
        if name not in self._groups[group]:
            raise unknown(field, reference, group, self._groups[group])
        return self._groups[group][name]


def listed(found: Iterable[str], most: int = 12) -> str:
    """Names for a message: in order, not too many."""
    names = sorted(found)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) + more) or "none"


def unknown(field: str, reference: str, group: str, there: Iterable[str]) -> TranslationError:
    """The error of a reference to something that is not there."""
    where = f"spec.{group}" if group in ("params", "inputs", "outputs") else f"{group}.*"
    return TranslationError(
        field,
        f"{reference} is not in {where}, which has {listed(there)}",
        reason=_REASONS.get(group, "ReferenceUnknown"),
    )
