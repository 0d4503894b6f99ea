"""A job's command, put together so that nothing in it is read otherwise than it was written. Pure.

Called by entry.py. Two readers look at a command before the code does: Azure ML replaces `${{inputs.x}}`,
`${{outputs.x}}` and `${{search_space.x}}` anywhere in it, and drops `$[[...]]` with an input that is absent (Azure
Machine Learning documentation, "CLI (v2) command job YAML schema", expressions); what comes of it goes to a POSIX
shell. So text of the user's stands in single quotes, in which a shell reads nothing, and is cut within `${{` and `$[[`,
which a shell joins again; where one text ends and another begins there are quotes between them. Expressions of ours
stand in double quotes: what Azure ML puts in there is a path of its own, or a value that overrides.py has looked at.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainyard.core.errors import TranslationError

_EXPRESSION = re.compile(r"\$(?=\{\{|\[\[)")


@dataclass(frozen=True, slots=True)
class Text:
    """Text that reaches the code as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class Expression:
    """What Azure ML replaces: `place` is inputs, outputs or search_space."""

    place: str
    name: str

    @property
    def text(self) -> str:
        """As Azure ML reads it."""
        return f"${{{{{self.place}.{self.name}}}}}"


Part = Text | Expression


def word(parts: Sequence[Part], field: str) -> str:
    """One word of the command, whatever is in its parts.

    Raises:
        TranslationError: InvalidSpec: it holds a NUL, which no command line can.
    """
    written = [_written(part, field) for part in parts if not (isinstance(part, Text) and not part.text)]
    return "".join(written) or "''"


def exported(variables: Mapping[str, str]) -> str:
    """The command that sets environment variables, each to the text of an expression."""
    return "export " + " ".join(f'{name}="{text}"' for name, text in variables.items())


def in_turn(commands: Sequence[str]) -> str:
    """Commands of which each is only started when the one before has succeeded."""
    return " && ".join(commands)


def _written(part: Part, field: str) -> str:
    if isinstance(part, Expression):
        return f'"{part.text}"'
    if "\0" in part.text:
        raise TranslationError(field, "holds a NUL character, which no command line can; remove it")
    return _EXPRESSION.sub("$''", shlex.quote(part.text))
