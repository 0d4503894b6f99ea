"""Wheels made on the spot: a module, an entry point or none, requirements."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence


def a_wheel(
    name: str, version: str, source: str, entry_points: Mapping[str, str] | None = None, requires: Sequence[str] = ()
) -> bytes:
    """A pure wheel with one module.

    Args:
        source: the module's text.
        entry_points: console scripts by name, for example {"train": "package:main"}.
        requires: requirement lines.
    """
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {line}\n" for line in requires)
    scripts = "".join(f"{key} = {value}\n" for key, value in (entry_points or {}).items())
    files = {
        f"{name}.py": source,
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if scripts:
        files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{scripts}"
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return made.getvalue()
