"""The Python packages that a job asks for: present already, or installed once per set of requirements.

run.py calls `PythonLibraries.install` before a task runs. The sandbox's own environment is never changed.

Forms accepted: SDK docstrings of compute.Environment.dependencies (a line of a pip requirements file) and
compute.Library (`pypi.package`). A failure ends a run as the platform words it: "Library installation failed for
library due to user error".
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from trainyard_sandbox.engine.process import LeashedProcess
from trainyard_sandbox.engine.runs import Run, TaskRun


class LibraryInstallError(Exception):
    """pip could not install; the message holds the end of its output."""


class PythonLibraries:
    """Installed requirement sets under one directory.

    Args:
        directory: one folder per set of requirements, kept for the sandbox's lifetime.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._locks: dict[str, asyncio.Lock] = {}

    async def install(self, requirements: list[str]) -> Path | None:
        """The folder to put on PYTHONPATH, or None when the environment satisfies everything already.

        Raises:
            LibraryInstallError: pip refused.
        """
        missing = sorted(line for line in requirements if not is_satisfied(line))
        if not missing:
            return None
        key = hashlib.sha256("\n".join(missing).encode()).hexdigest()[:24]
        target = self._directory / key
        async with self._locks.setdefault(key, asyncio.Lock()):
            if not target.exists():
                await self._pip(missing, target)
        return target

    async def _pip(self, missing: list[str], target: Path) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        partial, output = target.with_suffix(".partial"), target.with_suffix(".log")
        shutil.rmtree(partial, ignore_errors=True)
        lines = target.with_suffix(".txt")
        lines.write_text("\n".join(missing) + "\n")
        pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--quiet"]
        command = [*pip, "--target", str(partial), "--requirement", str(lines)]
        process = await LeashedProcess.start(command, dict(os.environ), self._directory, output)
        try:
            status = await process.wait()
        finally:
            process.close()
        if status != 0:
            raise LibraryInstallError(output.read_text(errors="replace")[-2000:].strip())
        partial.replace(target)


def requested(run: Run, task: TaskRun) -> list[str]:
    """The requirement lines of a task: of its serverless environment, or of its cluster libraries."""
    lines: list[str] = []
    for environment in run.request.get("environments", []):
        if environment["environment_key"] == task.spec.get("environment_key"):
            lines += environment.get("spec", {}).get("dependencies", [])
    libraries: list[dict[str, Any]] = task.spec.get("libraries", [])
    return lines + [library["pypi"]["package"] for library in libraries if "pypi" in library]


def is_satisfied(line: str) -> bool:
    """Whether the interpreter that serves the sandbox has what a plain requirement asks for."""
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return False
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    if requirement.url is not None or requirement.extras:
        return False
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return requirement.specifier.contains(version, prereleases=True)
