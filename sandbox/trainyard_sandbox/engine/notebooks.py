"""A notebook's text taken apart into cells, both as Databricks source and as ipynb. Pure.

task_process.py hands the cells to notebook_driver.py. Only Python cells, Markdown and `%pip install` are offered; any
other magic ends the notebook with an error when its cell is reached, and is not passed over in silence.

Read in: Databricks documentation, "Export and import Databricks notebooks" (`# Databricks notebook source`,
`# COMMAND ----------`, `# MAGIC`), "Notebook-scoped Python libraries" (`%pip`); nbformat 4 for ipynb.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import Literal

SOURCE_HEADER = "# Databricks notebook source"
_SEPARATOR = "# COMMAND ----------"
_MAGIC = "# MAGIC"

Kind = Literal["python", "pip", "unsupported"]


class NotReadable(Exception):
    """The text is no notebook that this sandbox runs."""


@dataclass(frozen=True)
class Cell:
    """One cell that does something. `text` is Python source, the arguments after `%pip`, or the unsupported line."""

    kind: Kind
    text: str

    @property
    def pip_arguments(self) -> list[str]:
        """What stands after `%pip install`."""
        return shlex.split(self.text, comments=True)


def cells(content: bytes) -> list[Cell]:
    """The cells of a notebook in order, without Markdown and empty ones.

    Raises:
        NotReadable: neither Databricks source nor ipynb.
    """
    text = content.decode("utf-8", "replace").removeprefix("\ufeff")
    if text.lstrip().startswith("{"):
        return _from_ipynb(text)
    return [cell for block in _blocks(text) for cell in _from_block(block)]


def _from_ipynb(text: str) -> list[Cell]:
    try:
        document = json.loads(text)
        raw = document["cells"]
        sources = [
            source if isinstance(source := cell.get("source", ""), str) else "".join(source)
            for cell in raw
            if cell["cell_type"] == "code"
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotReadable(f"the notebook is not valid ipynb: {type(error).__name__}: {error}") from error
    return [cell for source in sources for cell in _from_lines(source.splitlines())]


def _blocks(text: str) -> list[list[str]]:
    blocks: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.strip() == SOURCE_HEADER:
            continue
        if line.strip() == _SEPARATOR:
            blocks.append([])
        else:
            blocks[-1].append(line)
    return blocks


def _from_block(lines: list[str]) -> list[Cell]:
    if any(line.startswith(_MAGIC) for line in lines):
        lines = [line.removeprefix(_MAGIC).removeprefix(" ") for line in lines if line.startswith(_MAGIC)]
    return _from_lines(lines)


def _from_lines(lines: list[str]) -> list[Cell]:
    """The cells that a cell's lines make: `%pip` lines apart from the Python between them."""
    first = next((line.strip() for line in lines if line.strip()), "")
    if not first or first.startswith("%md"):
        return []
    if first.startswith("%python"):
        lines = lines[lines.index(next(line for line in lines if line.strip())) + 1 :]
    found: list[Cell] = []
    python: list[str] = []
    for line in lines:
        if not line.startswith(("%", "!")):
            python.append(line)
            continue
        found += _python(python)
        python = []
        found.append(_magic(line.strip()))
        if found[-1].kind == "unsupported":
            return found
    return found + _python(python)


def _python(lines: list[str]) -> list[Cell]:
    text = "\n".join(lines).strip("\n")
    return [Cell("python", text + "\n")] if text.strip() else []


def _magic(line: str) -> Cell:
    words = line.split()
    if words[:2] == ["%pip", "install"]:
        return Cell("pip", line.split("install", 1)[1].strip())
    return Cell("unsupported", line)
