"""The Python packages that a job asks for: present already, or installed once per set of requirements.

task_process.py calls `PythonLibraries.install` before a task runs. The sandbox's own environment is never changed.

Forms accepted: SDK docstrings of compute.Environment.dependencies (a line of a pip requirements file, which may be the
path of a wheel in the workspace or a volume) and compute.Library (`pypi.package`, `whl`, `requirements`). A wheel given
by its path is installed without any index; what it requires itself comes from the interpreter or an index. A failure
ends a run as the platform words it: "Library installation failed for library due to user error".
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from trainyard_sandbox.engine.process import LeashedProcess
from trainyard_sandbox.engine.runs import Run, TaskRun
from trainyard_sandbox.errors import ApiError

PLATFORM_ROOTS = ("/Workspace/", "/Volumes/", "/Users/", "/Shared/", "/Repos/")
"""A requirement that begins so is a file of the workspace or a volume."""

Fetch = Callable[[str], bytes]
"""Reads a file of the workspace or a volume as the identity that the task runs as; raises ApiError."""

PIP = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--quiet"]


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

    async def install(self, requirements: list[str], fetch: Fetch) -> list[Path]:
        """The folders to put on PYTHONPATH; none when the environment satisfies everything already.

        Raises:
            LibraryInstallError: pip refused, or a file cannot be read.
        """
        lines = _with_files(requirements, fetch)
        wheels = [await self._wheel(line, fetch) for line in lines if is_platform_path(line)]
        given = {name for wheel in wheels for name in _provided(wheel)}
        index = [line for line in lines if not is_platform_path(line)]
        index += [line for wheel in wheels for line in _required(wheel) if _name(line) not in given]
        missing = sorted({line for line in index if not is_satisfied(line)})
        return [*wheels, await self._installed(missing)] if missing else wheels

    async def _wheel(self, path: str, fetch: Fetch) -> Path:
        """A wheel's folder: by its content, so that a file replaced in place is installed anew."""
        if not path.endswith(".whl"):
            raise LibraryInstallError(f"{path} is not a wheel.")
        content = read(path, fetch)
        source = self._directory / "wheels" / hashlib.sha256(content).hexdigest()[:24] / PurePosixPath(path).name
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_bytes(content)
        return await self._installed([str(source)], "--no-deps", "--no-index")

    async def _installed(self, requirements: list[str], *options: str) -> Path:
        key = hashlib.sha256("\n".join(requirements).encode()).hexdigest()[:24]
        target = self._directory / key
        async with self._locks.setdefault(key, asyncio.Lock()):
            if not target.exists():
                await self._pip(requirements, target, options)
        return target

    async def _pip(self, requirements: list[str], target: Path, options: tuple[str, ...]) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        partial, output = target.with_suffix(".partial"), target.with_suffix(".log")
        shutil.rmtree(partial, ignore_errors=True)
        lines = target.with_suffix(".txt")
        lines.write_text("\n".join(requirements) + "\n")
        command = [*PIP, *options, "--target", str(partial), "--requirement", str(lines)]
        process = await LeashedProcess.start(command, dict(os.environ), self._directory, output)
        try:
            status = await process.wait()
        finally:
            process.close()
        if status != 0:
            raise LibraryInstallError(output.read_text(errors="replace")[-2000:].strip())
        partial.replace(target)


def read(path: str, fetch: Fetch) -> bytes:
    """A file of the workspace or a volume.

    Raises:
        LibraryInstallError: it cannot be read.
    """
    try:
        return fetch(path)
    except ApiError as error:
        raise LibraryInstallError(f"{path}: {error.message}") from error


def _with_files(requirements: list[str], fetch: Fetch) -> list[str]:
    """The lines, with `-r FILE` replaced by what the file says."""
    lines: list[str] = []
    for line in requirements:
        option, _, path = line.strip().partition(" ")
        if option in ("-r", "--requirement") and is_platform_path(path.strip()):
            text = read(path.strip(), fetch).decode("utf-8", "replace")
            lines += [entry.strip() for entry in text.splitlines() if entry.split("#")[0].strip()]
        else:
            lines.append(line.strip())
    return lines


def _provided(wheel: Path) -> list[str]:
    return [canonicalize_name(found.metadata["Name"]) for found in importlib.metadata.distributions(path=[str(wheel)])]


def _required(wheel: Path) -> list[str]:
    found = importlib.metadata.distributions(path=[str(wheel)])
    lines = [line for distribution in found for line in distribution.requires or []]
    return [line for line in lines if "extra ==" not in line]


def _name(line: str) -> str | None:
    try:
        return canonicalize_name(Requirement(line).name)
    except InvalidRequirement:
        return None


def is_platform_path(line: str) -> bool:
    """Whether a requirement is a file of the workspace or a volume."""
    return line.startswith(PLATFORM_ROOTS)


def requested(run: Run, task: TaskRun) -> list[str]:
    """The requirement lines of a task: of its serverless environment, or of its cluster libraries."""
    lines: list[str] = []
    for environment in run.request.get("environments", []):
        if environment["environment_key"] == task.spec.get("environment_key"):
            lines += environment.get("spec", {}).get("dependencies", [])
    libraries: list[dict[str, Any]] = task.spec.get("libraries", [])
    return lines + [_line(library) for library in libraries]


def _line(library: dict[str, Any]) -> str:
    if "requirements" in library:
        return f"-r {library['requirements']}"
    line: str = library["whl"] if "whl" in library else library["pypi"]["package"]
    return line


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
