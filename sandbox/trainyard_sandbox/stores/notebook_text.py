"""A notebook's two texts, Databricks source and ipynb, and one made from the other. Pure.

databricks/workspace_files.py checks imports and renders exports with it. A notebook is kept as it was imported.

Read in: Databricks documentation, "Export and import Databricks notebooks" (`# Databricks notebook source`,
`# COMMAND ----------`, `# MAGIC`); nbformat 4 for ipynb. Outputs are not kept in an export as source.
"""

from __future__ import annotations

import json
from typing import Any

from trainyard_sandbox.errors import ApiError

HEADER = "# Databricks notebook source"
SEPARATOR = "# COMMAND ----------"
MAGIC = "# MAGIC"
_BETWEEN = f"\n\n{SEPARATOR}\n\n"


def ipynb_language(content: bytes) -> str:
    """The language of an ipynb in the API's words, PYTHON unless its metadata says otherwise.

    Raises:
        ApiError: 400 when it is no ipynb.
    """
    metadata = _document(content).get("metadata") or {}
    info, kernel = metadata.get("language_info") or {}, metadata.get("kernelspec") or {}
    name = str(info.get("name") or kernel.get("language") or "python")
    return name.upper()


def is_ipynb(content: bytes) -> bool:
    """Whether a notebook is kept as ipynb."""
    return content.lstrip().startswith(b"{")


def as_source(content: bytes) -> bytes:
    """The notebook as Databricks source."""
    if not is_ipynb(content):
        return content
    blocks = []
    for cell in _document(content)["cells"]:
        lines = _text(cell).splitlines()
        if cell.get("cell_type") == "markdown":
            lines = [f"{MAGIC} {line}".rstrip() for line in ["%md", *lines]]
        elif lines and lines[0].startswith("%"):
            lines = [f"{MAGIC} {line}".rstrip() for line in lines]
        blocks.append("\n".join(lines))
    return f"{HEADER}\n{_BETWEEN.join(blocks)}\n".encode()


def as_ipynb(content: bytes) -> bytes:
    """The notebook as ipynb."""
    if is_ipynb(content):
        return content
    text = content.decode("utf-8", "replace").removeprefix(HEADER).strip("\n")
    cells = [_cell(block.strip("\n").splitlines()) for block in text.split(SEPARATOR)]
    document = {
        "cells": cells,
        "metadata": {"language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 0,
    }
    return json.dumps(document, indent=1).encode()


def _cell(lines: list[str]) -> dict[str, Any]:
    if lines and lines[0].startswith(MAGIC):
        lines = [line.removeprefix(MAGIC).removeprefix(" ") for line in lines]
        if lines[0].startswith("%md"):
            rest = [lines[0].removeprefix("%md").strip(), *lines[1:]]
            return {"cell_type": "markdown", "metadata": {}, "source": "\n".join(rest).strip("\n")}
    source = "\n".join(lines)
    return {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": [], "source": source}


def _text(cell: dict[str, Any]) -> str:
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def _document(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    cells = document.get("cells") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(cells, list) or not all(isinstance(one, dict) for one in cells):
        raise ApiError(400, "BAD_REQUEST", "The content is not a notebook in the Jupyter format (ipynb, version 4).")
    return document
