"""Where words go: results to stdout, progress and complaints to stderr. Colour only for a terminal without NO_COLOR.

Used by every verb. What comes from code that somebody else wrote is never given to a terminal with control sequences.
"""

import os
import re
import sys
from typing import TextIO

from rich.console import Console
from rich.text import Text

# Colours of a log are kept; everything else that moves the cursor, sets a title or answers back is not.
_SEQUENCE = re.compile(r"\x1b\[[0-9;]*m|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b\[[0-?]*[ -/]*[@-~]|\x1b.?")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]")

_STYLES = {
    "green": ("Succeeded", "Passed", "Ready"),
    "bold red": ("Failed", "TimedOut", "Missing", "RolledBack", "RollingBack"),
    "yellow": (
        *("Stalled", "Suspended", "Cancelled", "Cancelling", "Unknown", "Warning"),
        *("Drifted", "Expired", "AwaitingPromotion", "Waiting"),
    ),
    "cyan": ("Running", "BuildingEnvironment", "Queued", "Submitting", "Pending", "Deploying", "RollingOut"),
}


def say(text: str) -> None:
    """A line about what is going on, on stderr."""
    _write(sys.stderr, plain(text))


def tell(text: str) -> None:
    """A result, on stdout."""
    _write(sys.stdout, text)


def tell_raw(text: str) -> None:
    """What a program printed, on stdout: as it is into a file or pipe, harmless on a terminal."""
    out = harmless(text) if sys.stdout.isatty() else text
    sys.stdout.write(out if out.endswith("\n") or not out else out + "\n")
    sys.stdout.flush()


def plain(text: str) -> str:
    """The text without any control sequence."""
    return _CONTROL.sub("", _SEQUENCE.sub("", text))


def harmless(text: str) -> str:
    """The text with colours, and without what else a terminal would obey."""
    kept = _SEQUENCE.sub(lambda found: found[0] if _COLOUR.fullmatch(found[0]) else "", text)
    return _CONTROL.sub("", kept)


def coloured(stream: TextIO) -> bool:
    """Whether words are coloured there."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def _write(stream: TextIO, text: str) -> None:
    if not coloured(stream):
        print(text, file=stream, flush=True)
        return
    console = Console(file=stream, highlight=False, soft_wrap=True)
    line = Text(text)
    for style, words in _STYLES.items():
        line.highlight_regex(rf"\b(?:{'|'.join(words)})\b", style)
    line.highlight_regex(r"^[A-Z][A-Za-z ]+(?=:|$)", "bold")
    console.print(line)
