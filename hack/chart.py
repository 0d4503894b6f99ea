"""Draws who answered an endpoint's requests over time, in characters. Pure; used by the demo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from load import Asked

FAILED = "failed"
GLYPHS = "█▒▚░"
FAILED_GLYPH = "✗"


def over_time(asked: Sequence[Asked], width: int, end: float) -> list[Counter[str]]:
    """How many each version answered in each of `width` equal parts of the time from 0 to `end` seconds.

    What was not answered as it should be counts under FAILED.
    """
    parts: list[Counter[str]] = [Counter() for _ in range(width)]
    for each in asked:
        place = int(each.at / end * width)
        if 0 <= place < width:
            parts[place][each.by if each.ok else FAILED] += 1
    return parts


def stacked(part: Mapping[str, int], order: Sequence[str], height: int) -> list[str]:
    """Which of `order` each of `height` cells belongs to, from the bottom; all "" where nothing was asked.

    Cells are shared out by the largest remainders; a failure gets one however rare it is.
    """
    total = sum(part.values())
    if total == 0:
        return [""] * height
    exact = {name: part.get(name, 0) * height / total for name in order}
    cells = {name: int(share) for name, share in exact.items()}
    if part.get(FAILED) and FAILED in cells:
        cells[FAILED] = max(1, cells[FAILED])
    by_remainder = sorted(order, key=lambda name: (cells[name] - exact[name], order.index(name)))
    left = height - sum(cells.values())
    for name in by_remainder[:left] if left > 0 else ():
        cells[name] += 1
    for _ in range(-left):
        cells[max(cells, key=lambda name: cells[name] * (name != FAILED))] -= 1
    return [name for name in order for _ in range(cells[name])]


def chart(asked: Sequence[Asked], versions: Sequence[str], *, width: int = 64, height: int = 8) -> list[str]:
    """The lines of a chart: shares upwards, time to the right, a legend below. At least one request has to be given."""
    end = max(each.at for each in asked) + 1e-9
    order = [*versions, FAILED]
    glyphs = {**dict(zip(versions, GLYPHS, strict=False)), FAILED: FAILED_GLYPH, "": " "}
    columns = [stacked(part, order, height) for part in over_time(asked, width, end)]
    lines = []
    for row in range(height - 1, -1, -1):
        share = {height - 1: "100 %", 0: "  0 %"}.get(row, "     ")
        lines.append(f"{share} │{''.join(glyphs[column[row]] for column in columns)}")
    lines.append(f"      └{'─' * width}")
    right = f"{end:.0f} s"
    lines.append(f"       0 s{' ' * (width - 3 - len(right))}{right}")
    counted = Counter(each.by if each.ok else FAILED for each in asked)
    shown = [name for name in order if name != FAILED or counted[FAILED]]
    lines.append("       " + "   ".join(f"{glyphs[name]} {name} ({counted[name]})" for name in shown))
    return lines
