"""Image builds: what an environment asks for is there already, or is installed once for each distinct environment.

command.py calls `Images.build` while a job is Preparing. There are no containers here: the base image's name changes
nothing but the cache key, and packages are checked against, or installed beside, the interpreter of the sandbox, as for
the Databricks half (engine/libraries.py). Packages of a conda file that are no Python packages are passed over.

Azure Machine Learning documentation, "What are Azure Machine Learning environments?": an image is built when an
environment is first used, cached by a hash of its definition, and used again by every job with the same one. An
environment that is only an image needs no build. What a failed build says: (recalled).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from packaging.utils import canonicalize_name

from trainyard_sandbox.engine.libraries import LibraryInstallError, PythonLibraries

PROVIDED = frozenset({"azureml-mlflow", "azureml-core", "azureml-defaults", "mlflow", "mlflow-skinny", "pip"})
"""Packages that count as part of the sandbox when they are asked for without a version: azureml-mlflow does for MLflow
on Azure what environment.py does here."""
_NO_PYTHON_PACKAGE = frozenset({"python", "pip", "setuptools", "wheel", "openssl", "gcc", "gxx", "git"})
_CONDA = re.compile(
    r"(?:[\w.-]+::)?(?P<name>[\w.-]+)(?:\s*(?P<operator>[=<>!~]=?|)\s*(?P<version>[\w.*+!,<>=~]*?)(?:=\w+)?)?"
)
"""`channel::name=version=build`: one `=` means "begins with", two mean "is" (conda documentation, "Package match
specifications")."""


class BuildFailed(Exception):
    """The image cannot be built; the message is the end of the build's log."""


@dataclass(frozen=True)
class ImageSpec:
    """What an environment version says of its image: base image, pip requirement lines and conda packages."""

    image: str = ""
    requirements: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What a built image is found again by."""
        return hashlib.sha256(json.dumps([self.image, *self.requirements]).encode()).hexdigest()[:24]


@dataclass
class Images:
    """Built images of one workspace.

    Attributes:
        build_seconds: how long a build takes besides what installing takes.
        fail_with: what the next builds fail with; None for none.
        builds: keys of the builds that were begun, oldest first.
    """

    directory: Path
    build_seconds: float = 0.0
    fail_with: str | None = None
    builds: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._libraries = PythonLibraries(self.directory)
        self._built: dict[str, list[Path]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def is_built(self, spec: ImageSpec) -> bool:
        """Whether a job with this environment can start without a build."""
        return not spec.requirements or spec.key in self._built

    async def build(self, spec: ImageSpec) -> list[Path]:
        """The folders to put on PYTHONPATH, after a build unless there was one.

        Raises:
            BuildFailed: a package cannot be installed.
        """
        if not spec.requirements:
            return []
        async with self._locks.setdefault(spec.key, asyncio.Lock()):
            if spec.key not in self._built:
                self.builds.append(spec.key)
                await asyncio.sleep(self.build_seconds)
                if self.fail_with is not None:
                    raise BuildFailed(self.fail_with)
                self._built[spec.key] = await self._installed(spec)
            return self._built[spec.key]

    async def _installed(self, spec: ImageSpec) -> list[Path]:
        wanted = [line for line in spec.requirements if canonicalize_name(line.strip()) not in PROVIDED]
        try:
            return await self._libraries.install(wanted, _no_files)
        except LibraryInstallError as error:
            raise BuildFailed(str(error)) from error


def parse_conda(text: str) -> tuple[str, ...]:
    """The requirement lines of a conda file: its pip packages, and its conda packages as far as they are Python's.

    Raises:
        ValueError: it is no conda file.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"the conda file is not YAML: {error}") from error
    if document is None:
        return ()
    if not isinstance(document, dict) or not isinstance(document.get("dependencies", []), list):
        raise ValueError("the conda file needs a list 'dependencies'")  # noqa: TRY004 - of the file, not of the caller
    return tuple(line for entry in document.get("dependencies", []) for line in _lines(entry))


def _lines(entry: Any) -> list[str]:
    if isinstance(entry, dict):
        return [str(line) for line in entry.get("pip", [])]
    if not isinstance(entry, str):
        raise ValueError(f"the conda file names a dependency that is no text: {entry!r}")  # noqa: TRY004 - see above
    found = _CONDA.fullmatch(entry.strip())
    if found is None:
        raise ValueError(f"the conda file names a dependency that is none: {entry!r}")
    name, operator, version = found["name"], found["operator"], found["version"]
    if name.lower() in _NO_PYTHON_PACKAGE:
        return []
    if not version:
        return [name]
    if operator in ("=", ""):
        return [f"{name}=={version.removesuffix('*').removesuffix('.')}.*"]
    return [f"{name}{operator}{version}"]


def _no_files(path: str) -> bytes:
    raise LibraryInstallError(f"{path}: an environment of Azure ML cannot name files of the workspace here.")
