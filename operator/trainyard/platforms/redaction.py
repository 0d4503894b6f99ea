"""What a run printed, fit to be kept and shown: without tokens, without what would steer a terminal. Pure.

Used wherever text of a run leaves this package for a status, an event or a log that is kept (invariant 4).
"""

import re

# A training may print its environment; a token in it must not reach the status. Each pattern begins with plain text,
# which is looked for ten times as fast as anything else: a log may have 5 MB, and no other thread runs meanwhile.
_TOKENS = (
    (re.compile(r"eyJ[\w-]+\.[\w-]+(\.[\w-]*)?"), "[token]"),
    (re.compile(r"dapi(?<!\wdapi)[0-9a-f-]{16,}"), "[token]"),
    (re.compile(r"Bearer \S+"), "Bearer [token]"),
    (re.compile(r"TOKEN=\S+"), "TOKEN=[token]"),
)
# Colours, and whatever else a terminal would obey: whoever reads a log must not be shown something else.
_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def clean(text: str) -> str:
    """The text without tokens, colours and control characters but tab, newline and carriage return."""
    text = _ANSI.sub("", text)
    for pattern, instead in _TOKENS:
        text = pattern.sub(instead, text)
    return _CONTROL.sub("", text)


def last_lines(text: str, lines: int, characters: int) -> str:
    """The last lines that say something, bounded. To be cleaned before, or a token may be cut in two."""
    kept = [line.rstrip() for line in text[-64 * 1024 :].splitlines() if line.strip()][-lines:]
    return "\n".join(kept)[-characters:]
