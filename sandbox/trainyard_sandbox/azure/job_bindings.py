"""Replaces `${{inputs.x}}` and `${{outputs.x}}` in a command by values and paths.

engine/command.py calls `substituted`; jobs.py calls `check_references` before a job is made.

Rules: Azure Machine Learning documentation, "CLI (v2) command job YAML schema" (expressions in `command`: inputs,
outputs, and optional inputs in `$[[...]]`, which go when the input has no value); azure-ai-ml
`entities/_job/_input_output_helpers.py`, `_validate_inputs_for`, for the names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from trainyard_sandbox.azure.errors import user_error

_REFERENCE = re.compile(r"\$\{\{\s*(inputs|outputs|search_space)\.([\w.-]+)\s*\}\}")
_OPTIONAL = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)


def references(text: str, place: str) -> set[str]:
    """The names that a text refers to in `inputs`, `outputs` or `search_space`, optional ones left out."""
    required = _OPTIONAL.sub("", text)
    return {name for found, name in _REFERENCE.findall(required) if found == place}


def check_references(command: str, inputs: Mapping[str, object], outputs: Mapping[str, object]) -> None:
    """Refuse a command that names what the job does not have.

    Raises:
        ArmError: 400 UserError.
    """
    for place, given in (("inputs", inputs), ("outputs", outputs)):
        for name in sorted(references(command, place)):
            if name not in given:
                message = f"{place.capitalize()} to job does not contain '{name}' referenced in command"
                raise user_error(message, "BadArgument", "MissingBinding")


def substituted(text: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> str:
    """The text with values and paths in place of its expressions; an optional part without its input is left out."""
    values = {"inputs": inputs, "outputs": outputs, "search_space": inputs}

    def optional(part: re.Match[str]) -> str:
        missing = [name for place, name in _REFERENCE.findall(part[1]) if name not in values[place]]
        return "" if missing else part[1]

    def value(part: re.Match[str]) -> str:
        return values[part[1]].get(part[2], part[0])

    return _REFERENCE.sub(value, _OPTIONAL.sub(optional, text))
