"""From an entrypoint to the part of a Databricks task that says what is started. Pure.

Called by tasks.py for each step that runs code of the spec. Field names are those of databricks-sdk service/jobs.py
(SparkPythonTask, NotebookTask, PythonWheelTask).
"""

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trainyard.api.training_run import Entrypoint, WheelCode
from trainyard.core.errors import TranslationError
from trainyard.platforms.base import Job
from trainyard.platforms.databricks import names
from trainyard.platforms.databricks.data import platform_path
from trainyard.platforms.databricks.steps import Step
from trainyard.platforms.entrypoints import check_file, check_module, no_files, no_wheel
from trainyard.platforms.references import References

_NOTEBOOK_HEADER = b"# Databricks notebook source"
_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel as the platform installs it: a requirement, or a path. `name` is that of the distribution."""

    requirement: str | None
    path: str | None
    name: str

    @property
    def library(self) -> dict[str, Any]:
        """As a cluster's library."""
        return {"whl": self.path} if self.path is not None else {"pypi": {"package": self.requirement}}

    @property
    def dependency(self) -> str:
        """As a line of a serverless environment."""
        return self.path or self.requirement or ""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the code lies. `folder` is None where there are no files; `files` are those that are uploaded."""

    upload: str
    folder: str | None = None
    files: Mapping[str, bytes] | None = None
    wheel: Wheel | None = None

    @property
    def launcher(self) -> str:
        """Path of the launcher."""
        return f"/Workspace{self.upload}/{names.LAUNCHER_FILE}"


def source_of(job: Job) -> Source:
    """Where the run's code lies on the platform.

    Raises:
        TranslationError: DataRootUnknown or InvalidSpec.
    """
    upload = names.code_folder(job.target.principal, job.upload_scope or job.cluster, job.code_digest)
    code = job.spec.code
    if code is None:
        return Source(upload)
    if code.path is not None:
        return Source(upload, folder=platform_path(code.path, "spec.code.path", job.workspace))
    if code.wheel is not None:
        return Source(upload, wheel=_wheel(code.wheel, job))
    return Source(upload, folder=f"/Workspace{upload}", files=job.files)


def entry_of(
    step: Step, entrypoint: Entrypoint, source: Source, references: References, settings: Mapping[str, str] | None
) -> dict[str, Any]:
    """What the task runs: exactly one key that ends with _task.

    Args:
        step: the step, for the names of fields.
        entrypoint: its entrypoint.
        source: where the code lies.
        references: what arguments may refer to.
        settings: environment variables that the compute can not set, so that they are handed over with the code; None
            where it can. `learned.with_variables` adds to them.

    Raises:
        TranslationError: EntrypointMissing, ParameterUnknown, ReferenceUnknown or InvalidSpec.
    """
    field = f"{step.field}.entrypoint"
    if entrypoint.notebook is not None:
        return _notebook(entrypoint.notebook, f"{field}.notebook", source, references, settings)
    arguments = [references.replaced(arg, f"{field}.args[{index}]") for index, arg in enumerate(entrypoint.args)]
    if entrypoint.console_script is not None:
        wheel = _needed_wheel(source, f"{field}.consoleScript")
        if settings is not None:
            return _launched(source, ["--script", entrypoint.console_script], settings, None, arguments)
        task = {"package_name": wheel.name, "entry_point": entrypoint.console_script, "parameters": arguments}
        return {"python_wheel_task": task}
    if entrypoint.module is not None:
        check_module(entrypoint.module, f"{field}.module", source.files)
        return _launched(source, ["--module", entrypoint.module], settings, source.folder, arguments)
    path = _file(entrypoint.file or "", f"{field}.pythonFile", source)
    if settings is not None or path.startswith("/Volumes/"):
        return _launched(source, ["--file", path], settings, posixpath.dirname(path), arguments)
    return {"spark_python_task": {"python_file": path, "parameters": arguments, "source": "WORKSPACE"}}


def is_launched(task: Mapping[str, Any]) -> bool:
    """Whether the launcher runs the task's code."""
    python_file: str = task.get("spark_python_task", {}).get("python_file", "")
    return posixpath.basename(python_file) == names.LAUNCHER_FILE


def notebooks_of(files: Mapping[str, bytes], entrypoints: Iterable[Entrypoint]) -> frozenset[str]:
    """Which of the files become notebooks: all that can, as in a Git folder, once one of them is started as such.

    A notebook may run or import others. Files that are started as Python files stay files, and so does what would get a
    path that is taken, as the platform strips the suffix.

    Raises:
        TranslationError: a notebook that is started would get the path of another file.
    """
    entrypoints = list(entrypoints)
    started = {each.notebook for each in entrypoints if each.notebook is not None} & set(files)
    if not started:
        return frozenset()
    kept = {each.file for each in entrypoints if each.notebook is None}
    others = sorted(name for name, body in files.items() if name not in kept | started and _can_be_notebook(name, body))
    found: dict[str, str] = {}
    for name in (*sorted(started), *others):
        stem = posixpath.splitext(name)[0]
        is_taken = stem in found or stem in files or any(other.startswith(f"{stem}/") for other in files)
        if not is_taken:
            found[stem] = name
        elif name in started:
            raise TranslationError(
                "spec.code",
                f"the notebook {name!r} becomes {stem!r} on the platform, which is taken by another file or folder; "
                "rename one of them",
            )
    return frozenset(found.values())


def _launched(
    source: Source, what: list[str], settings: Mapping[str, str] | None, folder: str | None, arguments: list[str]
) -> dict[str, Any]:
    places = ["--folder", folder] if folder is not None else []
    variables = [part for name, value in (settings or {}).items() for part in ("--set", f"{name}={value}")]
    parameters = [*variables, *places, *what, "--", *arguments]
    return {"spark_python_task": {"python_file": source.launcher, "parameters": parameters, "source": "WORKSPACE"}}


def _notebook(
    notebook: str, field: str, source: Source, references: References, settings: Mapping[str, str] | None
) -> dict[str, Any]:
    path = _file(notebook, field, source)
    if path.startswith("/Volumes/"):
        raise TranslationError(field, "a notebook can not be run from a volume; keep it below /Workspace")
    if source.files is not None and not _can_be_notebook(notebook, source.files[notebook]):
        raise TranslationError(
            field,
            f"{notebook!r} is no notebook: an .ipynb file, or a .py file whose first line is "
            f"{_NOTEBOOK_HEADER.decode()!r}",
        )
    stem, suffix = posixpath.splitext(path)
    task: dict[str, Any] = {"notebook_path": stem if suffix in (".py", ".ipynb") else path}
    parameters = {**references.params, **(settings or {})}
    if parameters:
        task["base_parameters"] = parameters
    return {"notebook_task": {**task, "source": "WORKSPACE"}}


def _file(name: str, field: str, source: Source) -> str:
    if source.folder is None:
        raise no_files(field)
    check_file(name, field, source.files)
    return f"{source.folder}/{name}"


def _needed_wheel(source: Source, field: str) -> Wheel:
    if source.wheel is None:
        raise no_wheel(field)
    return source.wheel


def _wheel(wheel: WheelCode, job: Job) -> Wheel:
    if wheel.package is not None:
        match = _DISTRIBUTION.match(wheel.package)
        return Wheel(wheel.package, None, wheel.name or _named(match[0] if match else "", "spec.code.wheel.package"))
    path = platform_path(wheel.path or "", "spec.code.wheel.path", job.workspace)
    if not path.endswith(".whl"):
        raise TranslationError("spec.code.wheel.path", f"{path} is no wheel: its name must end with .whl")
    # PEP 427: the first part of the file's name is the distribution's, with underscores for dashes.
    return Wheel(None, path, wheel.name or _named(posixpath.basename(path).partition("-")[0], "spec.code.wheel.path"))


def _named(name: str, field: str) -> str:
    if not name:
        raise TranslationError(field, "does not tell the distribution's name; give it in spec.code.wheel.name")
    return name


def _can_be_notebook(name: str, body: bytes) -> bool:
    return name.endswith(".ipynb") or (
        name.endswith(".py") and body.removeprefix(b"\xef\xbb\xbf").startswith(_NOTEBOOK_HEADER)
    )
